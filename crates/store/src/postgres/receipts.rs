//! The network's word on messages.
//!
//! Most receipts move a message on that is sent already, which changes nothing of its queue: those are applied without
//! the channel's lock, all by one statement.

use std::collections::{HashMap, HashSet};

use futures_util::future::try_join3;
use recado_domain::channel::{ChannelKey, ChannelType, Ordering};
use recado_domain::clock::Millis;
use recado_domain::ids::NetworkId;
use recado_domain::message::Seq;
use recado_domain::party::Recipient;
use recado_domain::queue::{Named, Receipt};
use recado_domain::status::MessageStatus;
use tokio_postgres::Row;

use super::lock::{Locked, lock_all, number, status};
use super::{channels, chats, recipients};
use crate::line::reached_column;
use crate::sqlkit::postgres::db::{Db, Done, args, not_understood};

/// Receipts of a channel that wait for a message to be named. More than that come of another program's sending, on a
/// number that it shares with us.
const EARLY: i64 = 1_000;

/// What a receipt has found.
#[derive(Clone)]
struct Found {
    seq: Seq,
    status: MessageStatus,
    attempts: i32,
    remote_id: Option<String>,
    /// It was sent again by the channel's policy.
    resent: bool,
    /// Its channel counts chats, and this one is not noted.
    opens_chat: bool,
    sending_at: Option<Millis>,
}

impl Found {
    fn read(row: &Row) -> Done<Self> {
        let kind = ChannelType::from_name(row.get(6)).ok_or_else(|| not_understood("channel type"))?;
        Ok(Self {
            seq: row.get(1),
            status: status(row.get(2))?,
            attempts: row.get(3),
            remote_id: row.get(4),
            resent: row.get(5),
            opens_chat: kind.opens_chats() && !row.get::<_, bool>(7),
            sending_at: row.get(8),
        })
    }

    /// When what the receipt tells happened: not before the message was first handed over.
    fn dated(&self, receipt: &Receipt) -> Millis {
        receipt.at.max(self.sending_at.unwrap_or(receipt.at))
    }

    /// Whether the receipt may move it at all.
    fn heeds(&self, receipt: &Receipt) -> bool {
        // The network may have one that was sent again twice. That one sending failed says nothing of the other, and a
        // card that is there must not be told as failed: it stays where it is until more is known.
        !(self.resent && receipt.status == MessageStatus::Failed)
    }

    /// Whether the receipt speaks of another sending of it than the one that was acknowledged.
    fn is_another(&self, remote_id: &str) -> bool {
        self.remote_id.as_deref().is_some_and(|known| known != remote_id)
    }
}

/// A receipt's message, by one of the ways in which a network names it.
fn find_sql(names: &str, message: &str) -> String {
    format!(
        "select r.n, m.seq, m.status, m.attempts, m.remote_id, m.resent, c.type,
                exists (select 1 from chats where channel_key = r.channel_key and account = m.recipient)
                and (r.account is null
                     or exists (select 1 from chats where channel_key = r.channel_key and account = r.account)),
                m.sending_at, m.recipient, m.account, a.account, a.lid
         from unnest($1, $2, $3, $4, $5) as r(n, channel_key, {names}, account, arrived)
         join channels c on c.key = r.channel_key
         cross join lateral ({message} limit 1) m
         left join accounts a on a.channel_key = r.channel_key and a.phone = m.recipient"
    )
}

/// What each receipt names. Only the channel's own messages are looked for: another's id in a receipt means nothing.
async fn find(db: Db<'_>, receipts: &[Receipt]) -> Done<Vec<Option<Found>>> {
    const COLUMNS: &str = "select seq, status, attempts, remote_id, resent, recipient, account, sending_at
                           from messages where channel_key";
    let by_network_id = format!(
        "{COLUMNS} = r.channel_key and network_id = r.name and status between 1 and 4
         union all
         -- An attempt without an answer arrived all the same.
         {COLUMNS} = r.channel_key and network_id = r.name and status = 0 and unanswered and r.arrived"
    );
    let by_remote_id = format!(
        "{COLUMNS} = r.channel_key and remote_id = r.name and remote_id is not null and status between 1 and 4"
    );
    let by_our_id = format!("{COLUMNS} = r.channel_key and id = r.id");
    let network_ids = names(receipts, |of| if let Named::NetworkId(id) = of { Some(id.as_str()) } else { None });
    let remote_ids = names(receipts, |of| match of {
        Named::RemoteId { remote_id, ours: None } => Some(remote_id.as_str()),
        _ => None,
    });
    let ours = names(receipts, |of| match of {
        Named::RemoteId { ours: Some(id), .. } => Some(id.as_bytes().as_slice()),
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
            *place = Some(Found::read(row)?);
        }
    }
    Ok(found)
}

/// Whom a message was sent to.
fn recipient(row: &Row) -> Recipient {
    let numbers = (9..12).filter_map(|column| row.get(column));
    Recipient { numbers: numbers.collect(), lid: row.get(12) }
}

/// Those of the receipts that name their messages in one way.
struct Names<'a, T> {
    n: Vec<i64>,
    channels: Vec<ChannelKey>,
    given: Vec<T>,
    accounts: Vec<Option<&'a str>>,
    arrived: Vec<bool>,
}

fn names<'a, T>(receipts: &'a [Receipt], name: impl Fn(&'a Named) -> Option<T>) -> Names<'a, T> {
    let mut all =
        Names { n: Vec::new(), channels: Vec::new(), given: Vec::new(), accounts: Vec::new(), arrived: Vec::new() };
    for (n, receipt) in (0..).zip(receipts) {
        if let Some(name) = name(&receipt.of) {
            all.n.push(n);
            all.channels.push(receipt.channel);
            all.given.push(name);
            all.accounts.push(receipt.account.as_deref());
            all.arrived.push(matches!(receipt.status, MessageStatus::Delivered | MessageStatus::Read));
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

/// What several receipts together make of a message that is sent.
struct Step<'a> {
    from: MessageStatus,
    to: MessageStatus,
    /// When `DELIVERED`, `READ` and `FAILED` were reached.
    reached: [Option<Millis>; 3],
    account: Option<&'a str>,
    error: Option<(&'a str, &'a str)>,
}

/// The states that a message comes to from being sent.
const PLAIN: [MessageStatus; 3] = [MessageStatus::Delivered, MessageStatus::Read, MessageStatus::Failed];

/// Applies those receipts that change nothing but messages that are sent, and gives the others, in their order.
pub(super) async fn apply_plain(db: Db<'_>, receipts: &[Receipt]) -> Done<Vec<Receipt>> {
    let found = find(db, receipts).await?;
    let mut steps: HashMap<Seq, Step<'_>> = HashMap::new();
    let (mut left, mut left_seqs) = (vec![false; receipts.len()], HashSet::new());
    for (n, (receipt, found)) in receipts.iter().zip(&found).enumerate() {
        match found {
            // What comes behind one that is left, of the same message, is left too.
            Some(found) if left_seqs.contains(&found.seq) || !is_plain(found, receipt) => {
                left[n] = true;
                left_seqs.insert(found.seq);
            }
            Some(found) => {
                let step =
                    Step { from: found.status, to: found.status, reached: [None; 3], account: None, error: None };
                steps.entry(found.seq).or_insert(step).take(found, receipt);
            }
            None => left[n] = matches!(receipt.of, Named::RemoteId { ours: None, .. }),
        }
    }
    steps.retain(|_, step| step.from != step.to);
    let moved = take_steps(db, &steps).await?;
    // Somebody else was faster.
    let missed: HashSet<_> = steps.keys().filter(|seq| !moved.contains(seq)).collect();
    for (left, found) in left.iter_mut().zip(&found) {
        *left |= found.as_ref().is_some_and(|found| missed.contains(&found.seq));
    }
    Ok(receipts.iter().zip(left).filter(|(_, left)| *left).map(|(receipt, _)| receipt.clone()).collect())
}

/// Whether a receipt touches neither the queue nor chats nor pauses, whatever it does to this message.
fn is_plain(found: &Found, receipt: &Receipt) -> bool {
    let names = matches!(&receipt.of, Named::RemoteId { ours: Some(_), .. } if found.remote_id.is_none());
    let sent = matches!(found.status, MessageStatus::Sent | MessageStatus::Delivered);
    let ended = !found.status.is_open() && !found.status.awaits_receipts();
    let opens_chat =
        found.opens_chat && matches!(receipt.of, Named::NetworkId(_)) && receipt.status != MessageStatus::Failed;
    !names && (ended || sent && receipt.pauses.is_none() && !opens_chat)
}

impl<'a> Step<'a> {
    fn take(&mut self, found: &Found, receipt: &'a Receipt) {
        let of_another = match &receipt.of {
            Named::RemoteId { remote_id, ours: Some(_) } => {
                found.is_another(remote_id) && receipt.status == MessageStatus::Failed
            }
            _ => false,
        };
        let place = PLAIN.iter().position(|status| *status == receipt.status);
        let Some(place) = place.filter(|_| found.heeds(receipt) && !of_another) else { return };
        if self.to.may_become(receipt.status) {
            self.to = receipt.status;
            self.reached[place].get_or_insert(found.dated(receipt));
            self.account = self.account.or(receipt.account.as_deref());
            self.error = receipt.error.as_ref().map(|(code, message)| (&**code, &**message));
        }
    }
}

/// Moves messages on; which ones were where they were found.
async fn take_steps(db: Db<'_>, steps: &HashMap<Seq, Step<'_>>) -> Done<HashSet<Seq>> {
    if steps.is_empty() {
        return Ok(HashSet::new());
    }
    let mut seqs: Vec<_> = steps.keys().copied().collect();
    seqs.sort_unstable();
    let steps: Vec<_> = seqs.iter().map(|seq| &steps[seq]).collect();
    let [delivered, read, failed] = PLAIN.map(reached_column);
    let sql = format!(
        "update messages m
         set status = s.next, {delivered} = coalesce(m.{delivered}, s.delivered), {read} = coalesce(m.{read}, s.read),
             {failed} = coalesce(m.{failed}, s.failed), account = coalesce(m.account, s.account),
             error_code = s.error_code, error_message = s.error_message
         from unnest($1, $2, $3, $4, $5, $6, $7, $8, $9)
              as s(seq, status, next, delivered, read, failed, account, error_code, error_message)
         where m.seq = s.seq and m.status = s.status
         returning m.seq"
    );
    let column = |place: usize| steps.iter().map(|step| step.reached[place]).collect::<Vec<_>>();
    let rows = db
        .rows(
            &sql,
            args![
                seqs,
                steps.iter().map(|step| number(step.from)).collect::<Vec<_>>(),
                steps.iter().map(|step| number(step.to)).collect::<Vec<_>>(),
                column(0),
                column(1),
                column(2),
                steps.iter().map(|step| step.account).collect::<Vec<_>>(),
                steps.iter().map(|step| step.error.map(|(code, _)| code)).collect::<Vec<_>>(),
                steps.iter().map(|step| step.error.map(|(_, message)| message)).collect::<Vec<_>>(),
            ],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Applies receipts in their order, with their channels' locks.
pub(super) async fn apply(db: Db<'_>, receipts: &[Receipt], now: Millis) -> Done<()> {
    let channels: HashSet<_> = receipts.iter().map(|receipt| receipt.channel).collect();
    let mut locked = lock_all(db, &Vec::from_iter(channels)).await?;
    for receipt in receipts {
        let Some(locked) = locked.get_mut(&receipt.channel) else { continue };
        let found = find(db, std::slice::from_ref(receipt)).await?.pop().flatten();
        match (&receipt.of, found) {
            (Named::NetworkId(_), Some(found)) => {
                let moved = advance(db, locked, &found, receipt).await?;
                if moved && locked.line.opens_chats && receipt.status != MessageStatus::Failed {
                    chats::open(db, locked, found.seq, receipt.account.as_deref(), now).await?;
                }
            }
            (Named::RemoteId { remote_id, ours: Some(_) }, Some(found)) => {
                // That another sending of it failed says nothing of the one that was acknowledged.
                if !(found.is_another(remote_id) && receipt.status == MessageStatus::Failed) {
                    advance(db, locked, &found, receipt).await?;
                }
                if found.remote_id.is_none() {
                    name(db, locked, found.seq, remote_id).await?;
                }
            }
            (Named::RemoteId { ours: None, .. }, Some(found)) => {
                advance(db, locked, &found, receipt).await?;
            }
            (Named::RemoteId { remote_id, ours: None }, None) => keep(db, remote_id, receipt, now).await?,
            (_, None) => {}
        }
    }
    Ok(())
}

/// Moves a message on; whether it did.
async fn advance(db: Db<'_>, locked: &Locked, found: &Found, receipt: &Receipt) -> Done<bool> {
    let (from, to) = (found.status, receipt.status);
    // One that waits for its next attempt, and that the network has already, goes by way of SENDING, where it was.
    let waits = from == MessageStatus::Queued && found.attempts > 0;
    let legal = if waits { MessageStatus::Sending.may_become(to) } else { from.may_become(to) };
    if !legal || !found.heeds(receipt) {
        return Ok(false);
    }
    let reached = reached_column(to);
    let sql = format!(
        "update messages
         set status = $3, {reached} = coalesce({reached}, $4), claimed_until = null, account = coalesce(account, $5),
             error_code = $6, error_message = $7, resend_at = null
         where seq = $1 and status = $2
         returning recipient"
    );
    let (code, message) = receipt.error.as_ref().map(|(code, message)| (code.as_str(), message.as_str())).unzip();
    let account = receipt.account.as_deref();
    let moved =
        db.row(&sql, args![found.seq, number(from), number(to), found.dated(receipt), account, code, message]).await?;
    let Some(row) = moved else { return Ok(false) };
    if from.is_open() && locked.line.ordering == Ordering::Recipient {
        recipients::seat(db, locked, [row.get(0)].into_iter()).await?;
    }
    if let Some(reason) = &receipt.pauses {
        channels::pause(db, receipt.channel, reason, found.seq).await?;
    }
    Ok(true)
}

/// Notes the network's own id of a message, and applies the receipts that came under it before.
async fn name(db: Db<'_>, locked: &Locked, seq: Seq, remote_id: &str) -> Done<()> {
    db.run("update messages set remote_id = $2 where seq = $1", args![seq, remote_id]).await?;
    apply_early(db, locked, &[(seq, remote_id)]).await
}

/// Applies the receipts that came before these messages had their names.
pub(super) async fn apply_early(db: Db<'_>, locked: &Locked, named: &[(Seq, &str)]) -> Done<()> {
    if named.is_empty() {
        return Ok(());
    }
    let called: HashMap<&str, Seq> = named.iter().map(|(seq, remote_id)| (*remote_id, *seq)).collect();
    let sql = "delete from early_receipts where channel_key = $1 and remote_id = any($2)
               returning n, remote_id, status, at, error_code, error_message, pauses";
    let mut rows = db.rows(sql, args![locked.key, called.keys().copied().collect::<Vec<_>>()]).await?;
    rows.sort_unstable_by_key(|row| row.get::<_, i64>(0));
    for row in rows {
        let Some(seq) = called.get(row.get::<_, &str>(1)) else { continue };
        let code: Option<String> = row.get(4);
        let receipt = Receipt {
            channel: locked.key,
            of: Named::RemoteId { remote_id: NetworkId::from_stored(row.get(1)), ours: None },
            status: status(row.get(2))?,
            at: row.get(3),
            from: None,
            account: None,
            error: code.zip(row.get(5)),
            pauses: row.get(6),
        };
        let sql = "select 0::bigint, seq, status, attempts, remote_id, resent, type, true, sending_at
                   from messages join channels on key = channel_key where seq = $1 and key = $2";
        if let Some(row) = db.row(sql, args![*seq, locked.key]).await? {
            advance(db, locked, &Found::read(&row)?, &receipt).await?;
        }
    }
    Ok(())
}

/// Keeps a receipt until the answer comes that says whose it is.
async fn keep(db: Db<'_>, remote_id: &str, receipt: &Receipt, now: Millis) -> Done<()> {
    let (code, message) = receipt.error.as_ref().map(|(code, message)| (code.as_str(), message.as_str())).unzip();
    let sql = "insert into early_receipts
                   (channel_key, remote_id, status, at, error_code, error_message, received_at, pauses)
               select $1, $2, $3, $4, $5, $6, $7, $8
               where (select count(*) from early_receipts where channel_key = $1) < $9
                 -- A repeated one is one.
                 and not exists (select 1 from early_receipts
                                 where channel_key = $1 and remote_id = $2 and status = $3)";
    let Receipt { channel, status, at, pauses, .. } = receipt;
    let (status, pauses) = (number(*status), pauses.as_deref());
    db.run(sql, args![*channel, remote_id, status, *at, code, message, now, pauses, EARLY]).await.map(drop)
}
