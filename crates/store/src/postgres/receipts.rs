//! Receipts.
//!
//! Most receipts move a message that was sent, and change nothing of its queue. They are applied without the channel's
//! lock, all in one statement.

use std::collections::{BTreeMap, HashMap, HashSet};

use async_trait::async_trait;
use futures_util::future::try_join3;
use recado_domain::channel::{ChannelKey, ChannelType};
use recado_domain::clock::Millis;
use recado_domain::ids::NetworkId;
use recado_domain::message::Seq;
use recado_domain::party::Recipient;
use recado_domain::queue::{Found, MAX_UNMATCHED_RECEIPTS, MessageRef, Position, Receipt, Transition};
use recado_domain::status::MessageStatus;
use tokio_postgres::Row;

use super::apply::{apply, update};
use super::lock::{Locked, lock_all, number, status};
use super::{PgStore, channels, chats};
use crate::common::messages::{pricing_json, pricing_of};
use crate::sql::{IN_NETWORK, QUEUED};
use crate::sqlkit::postgres::db::{Db, Done, args, column, not_understood};
use crate::{Receipts, Result};

#[async_trait]
impl Receipts for PgStore {
    async fn apply_receipts(&self, receipts: Vec<Receipt>, now: Millis) -> Result<()> {
        self.receiving.apply(receipts, now).await
    }
}

/// The message that a receipt names, and its channel.
#[derive(Clone)]
struct Seen {
    message: Found,
    /// The channel counts chats, and this chat is not stored yet.
    opens_chat: bool,
    /// Whether the events of the channel's messages are recorded.
    records: bool,
}

/// The columns of a message `m` that a receipt needs.
const COLUMNS: &str = "m.seq, m.channel_key, m.status, m.attempts, m.remote_id, m.resent, m.sending_at";

/// Reads a message from a row of [`COLUMNS`] after one other column.
fn found(row: &Row) -> Done<Found> {
    let attempted = row.get::<_, i32>(4) > 0;
    let position = Position { seq: row.get(1), channel: row.get(2), status: status(row.get(3))?, attempted };
    Ok(Found { position, remote_id: row.get(5), resent: row.get(6), sending_at: row.get(7) })
}

fn seen(row: &Row) -> Done<Seen> {
    let kind = ChannelType::from_name(row.get(8)).ok_or_else(|| not_understood("channel type"))?;
    let opens_chat = kind.descriptor().opens_chats && !row.get::<_, bool>(9);
    Ok(Seen { message: found(row)?, opens_chat, records: row.get(14) })
}

/// A query for the message of a receipt, by one of its names.
fn find_sql(names: &str, message: &str) -> String {
    format!(include_str!("receipts/find.sql"), COLUMNS = COLUMNS, names = names, message = message)
}

/// Finds the message of each receipt. Only messages of the receipt's channel count.
async fn find(db: Db<'_>, receipts: &[&Receipt]) -> Done<Vec<Option<Seen>>> {
    let select = format!("SELECT {COLUMNS}, m.recipient, m.account FROM messages m WHERE channel_key");
    let by_network_id = format!(
        "{select} = r.channel_key AND network_id = r.name AND {IN_NETWORK}
         UNION ALL
         -- An attempt without an answer arrived all the same.
         {select} = r.channel_key AND network_id = r.name AND {QUEUED} AND unanswered AND r.arrived"
    );
    let by_remote_id =
        format!("{select} = r.channel_key AND remote_id = r.name AND remote_id IS NOT NULL AND {IN_NETWORK}");
    let by_our_id = format!("{select} = r.channel_key AND id = r.id");
    let network_ids = names(receipts, |of| if let MessageRef::NetworkId(id) = of { Some(id.as_str()) } else { None });
    let remote_ids = names(receipts, |of| match of {
        MessageRef::RemoteId { remote_id, ours: None } => Some(remote_id.as_str()),
        _ => None,
    });
    let ours = names(receipts, |of| match of {
        MessageRef::RemoteId { ours: Some(id), .. } => Some(id.as_bytes().as_slice()),
        _ => None,
    });
    let rows = try_join3(
        network_ids.rows(db, find_sql("name", &by_network_id)),
        remote_ids.rows(db, find_sql("name", &by_remote_id)),
        ours.rows(db, find_sql("id", &by_our_id)),
    );
    let (by_network_id, by_remote_id, by_our_id) = rows.await?;
    let mut found = vec![None; receipts.len()];
    for row in by_network_id.iter().chain(&by_remote_id).chain(&by_our_id) {
        let Ok(n) = usize::try_from(row.get::<_, i64>(0)) else { continue };
        let Some((place, receipt)) = found.get_mut(n).zip(receipts.get(n)) else { continue };
        if receipt.from.as_ref().is_none_or(|from| from.is_recipient(&recipient(row))) {
            *place = Some(seen(row)?);
        }
    }
    Ok(found)
}

/// Whom a message was sent to.
fn recipient(row: &Row) -> Recipient {
    let numbers = (10..13).filter_map(|column| row.get(column));
    Recipient::new(numbers.collect(), row.get(13))
}

/// The receipts that name their messages in one way.
struct Names<'a, T> {
    n: Vec<i64>,
    channels: Vec<ChannelKey>,
    given: Vec<T>,
    accounts: Vec<Option<&'a str>>,
    arrived: Vec<bool>,
}

fn names<'a, T>(receipts: &[&'a Receipt], name: impl Fn(&'a MessageRef) -> Option<T>) -> Names<'a, T> {
    let mut all =
        Names { n: Vec::new(), channels: Vec::new(), given: Vec::new(), accounts: Vec::new(), arrived: Vec::new() };
    for (n, receipt) in (0..).zip(receipts.iter().copied()) {
        if let Some(name) = name(&receipt.of) {
            all.n.push(n);
            all.channels.push(receipt.channel);
            all.given.push(name);
            all.accounts.push(receipt.account.as_deref());
            all.arrived.push(receipt.proves_arrival());
        }
    }
    all
}

impl<T> Names<'_, T>
where
    Vec<T>: crate::sqlkit::postgres::db::Typed,
{
    async fn rows(&self, db: Db<'_>, sql: String) -> Done<Vec<Row>> {
        if self.n.is_empty() {
            return Ok(Vec::new());
        }
        db.rows(&sql, args![self.n, self.channels, self.given, self.accounts, self.arrived]).await
    }
}

/// Applies the receipts that change only messages. Returns which receipts are left.
pub(super) async fn apply_plain(db: Db<'_>, receipts: &[&Receipt]) -> Done<Vec<bool>> {
    let found = find(db, receipts).await?;
    // By their numbers, so that two calls never wait for each other.
    let mut transitions: BTreeMap<Seq, Transition<'_>> = BTreeMap::new();
    let (mut left, mut left_seqs) = (vec![false; receipts.len()], HashSet::new());
    for (n, (receipt, found)) in receipts.iter().zip(&found).enumerate() {
        let Some(seen) = found else {
            left[n] = matches!(receipt.of, MessageRef::RemoteId { ours: None, .. });
            continue;
        };
        let seq = seen.message.position.seq;
        // A later receipt of the same message is left too.
        if left_seqs.contains(&seq) || !is_plain(seen, receipt) {
            left[n] = true;
            left_seqs.insert(seq);
            continue;
        }
        let mut message = seen.message.clone();
        let before = transitions.remove(&seq);
        message.position.status = before.as_ref().map_or(message.position.status, Transition::to);
        let next = message.on_receipt(receipt);
        let both = match (before, next) {
            (Some(before), Some(next)) => Some(before.then(next)),
            (before, next) => before.or(next),
        };
        transitions.extend(both.map(|transition| (seq, transition)));
    }
    let transitions: Vec<_> = transitions.into_values().collect();
    let recorded = found.iter().flatten().filter(|seen| seen.records).map(|seen| seen.message.position.channel);
    let recorded: HashSet<ChannelKey> = recorded.collect();
    let moved = update(db, &transitions, |channel| recorded.contains(&channel), "m.seq").await?;
    let moved: HashSet<Seq> = moved.iter().map(|row| row.get(0)).collect();
    // Another transaction was faster.
    let missed: HashSet<_> = transitions.iter().map(Transition::seq).filter(|seq| !moved.contains(seq)).collect();
    for (left, found) in left.iter_mut().zip(&found) {
        *left |= found.as_ref().is_some_and(|seen| missed.contains(&seen.message.position.seq));
    }
    Ok(left)
}

/// Whether a receipt changes only its message: no queue, no chat, no pause.
fn is_plain(seen: &Seen, receipt: &Receipt) -> bool {
    let Seen { message, opens_chat, .. } = seen;
    let status = message.position.status;
    let sent = matches!(status, MessageStatus::Sent | MessageStatus::Delivered);
    let ended = !status.is_open() && !status.awaits_receipts();
    let opens_chat = *opens_chat && receipt.opens_chat();
    message.named_by(receipt).is_none() && (ended || sent && receipt.pauses.is_none() && !opens_chat)
}

/// Applies receipts in their order, with their channels' locks.
pub(super) async fn apply_locked(db: Db<'_>, receipts: &[Receipt], now: Millis) -> Done<()> {
    let channels: HashSet<_> = receipts.iter().map(|receipt| receipt.channel).collect();
    let mut locked = lock_all(db, &Vec::from_iter(channels)).await?;
    for receipt in receipts {
        let Some(locked) = locked.get_mut(&receipt.channel) else { continue };
        let found = find(db, &[receipt]).await?.pop().flatten();
        match (found, &receipt.of) {
            (Some(Seen { message, .. }), _) => {
                let moved = advance(db, locked, &message, receipt).await?;
                let seq = message.position.seq;
                if moved && locked.queue.opens_chats && receipt.opens_chat() {
                    chats::open(db, locked, seq, receipt.account.as_deref(), now).await?;
                }
                if let Some(remote_id) = message.named_by(receipt) {
                    name(db, locked, seq, remote_id).await?;
                }
            }
            (None, MessageRef::RemoteId { remote_id, ours: None }) => keep(db, remote_id, receipt, now).await?,
            (None, _) => {}
        }
    }
    Ok(())
}

/// Moves a message. Returns whether it moved.
async fn advance(db: Db<'_>, locked: &mut Locked, message: &Found, receipt: &Receipt) -> Done<bool> {
    let Some(transition) = message.on_receipt(receipt) else { return Ok(false) };
    let moved = !apply(db, locked, &[transition]).await?.is_empty();
    if let Some(reason) = receipt.pauses.as_ref().filter(|_| moved) {
        channels::pause(db, locked, reason, message.position.seq, receipt.at).await?;
    }
    Ok(moved)
}

/// Stores the network's own id of a message, and applies the unmatched receipts with this id.
async fn name(db: Db<'_>, locked: &mut Locked, seq: Seq, remote_id: &str) -> Done<()> {
    db.run("UPDATE messages SET remote_id = $2 WHERE seq = $1", args![seq, remote_id]).await?;
    let unmatched = unmatched(db, &[(locked.key, seq, remote_id)]).await?;
    apply_unmatched(db, locked, &unmatched).await
}

/// Unmatched receipts of each channel, in their order, with the messages that they name now.
pub(super) type Unmatched = HashMap<ChannelKey, Vec<(Seq, Receipt)>>;

/// Takes the receipts that came before these messages of some channels had their names.
pub(super) async fn unmatched(db: Db<'_>, named: &[(ChannelKey, Seq, &str)]) -> Done<Unmatched> {
    let mut unmatched = Unmatched::new();
    if named.is_empty() {
        return Ok(unmatched);
    }
    let sql = "DELETE FROM early_receipts e USING unnest($1, $2, $3) AS named(channel_key, seq, remote_id)
               WHERE e.channel_key = named.channel_key AND e.remote_id = named.remote_id
               RETURNING e.n, e.channel_key, named.seq, e.remote_id, e.status, e.at, e.error_code, e.error_message,
                         e.pauses, e.pricing";
    let (channels, seqs) = (column(named, |(channel, ..)| *channel), column(named, |(_, seq, _)| *seq));
    let mut rows = db.rows(sql, args![channels, seqs, column(named, |(.., name)| *name)]).await?;
    rows.sort_unstable_by_key(|row| row.get::<_, i64>("n"));
    for row in rows {
        let channel = row.get("channel_key");
        let code: Option<String> = row.get("error_code");
        let receipt = Receipt {
            channel,
            of: MessageRef::RemoteId { remote_id: NetworkId::from_stored(row.get("remote_id")), ours: None },
            status: status(row.get("status"))?,
            at: row.get("at"),
            from: None,
            account: None,
            error: code.zip(row.get("error_message")),
            pauses: row.get("pauses"),
            pricing: pricing_of(row.get("pricing")),
        };
        unmatched.entry(channel).or_default().push((row.get("seq"), receipt));
    }
    Ok(unmatched)
}

/// Applies the receipts of this channel.
pub(super) async fn apply_unmatched(db: Db<'_>, locked: &mut Locked, unmatched: &Unmatched) -> Done<()> {
    let sql = format!("SELECT 0::bigint, {COLUMNS} FROM messages m WHERE seq = $1 AND channel_key = $2");
    for (seq, receipt) in unmatched.get(&locked.key).into_iter().flatten() {
        if let Some(row) = db.row(&sql, args![*seq, locked.key]).await? {
            advance(db, locked, &found(&row)?, receipt).await?;
        }
    }
    Ok(())
}

/// Stores an unmatched receipt until the answer with the network id arrives.
async fn keep(db: Db<'_>, remote_id: &str, receipt: &Receipt, now: Millis) -> Done<()> {
    let (code, message) = receipt.error.as_ref().map(|(code, message)| (code.as_str(), message.as_str())).unzip();
    let sql = include_str!("receipts/keep.sql");
    let Receipt { channel, status, at, pauses, .. } = receipt;
    let (status, pauses, pricing) = (number(*status), pauses.as_deref(), pricing_json(receipt));
    db.run(sql, args![*channel, remote_id, status, *at, code, message, now, pauses, MAX_UNMATCHED_RECEIPTS, pricing])
        .await
        .map(drop)
}
