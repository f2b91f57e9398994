//! Claims: the next messages of a channel, in its order.

use std::collections::HashMap;
use std::vec::IntoIter;

use recado_domain::channel::{ChannelKey, ChannelType, Ordering};
use recado_domain::clock::Millis;
use recado_domain::ids::MessageId;
use recado_domain::message::{CardAccount, Seq};
use recado_domain::queue::{
    ChannelQueue, Claim, ClaimPlan, ClaimRequest, Claimed, NextWakeup, OpenRow, Transition, rescue as rescue_one,
};
use tokio_postgres::Row;

use super::apply::{apply, update};
use super::chats::is_known_sql;
use super::lock::{Locked, Queues, status};
use super::recipients::Claiming;
use super::{new_chats, recipients};
use crate::common::cards;
use crate::sql::{LOWEST, OPEN};
use crate::sqlkit::postgres::db::{Db, Done, args, not_understood};

/// Messages of the first page, and of each further page. A claim seldom needs more than the first message.
const PAGES: (usize, usize) = (8, 500);
/// The first messages of a channel that are read with its lock: the one in flight, the next one, and one more.
pub(super) const HEADS: usize = 3;

const IS_NEW: &str = concat!("NOT ", is_known_sql!("messages.channel_key", "messages.recipient"));
const HELD_UNTIL: &str = "(SELECT p.used_until FROM recipient_pace p
                           WHERE p.channel_key = messages.channel_key AND p.recipient = messages.recipient)";

/// What a scan reads beside the messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    /// Its messages alone.
    Nothing,
    /// Recipients that cannot be written to for now.
    Held,
    /// Deferred and new recipients.
    New,
}

/// Claims messages of a channel whose row is locked.
pub(super) async fn claim(db: Db<'_>, locked: &mut Locked, request: &ClaimRequest) -> Done<Claim> {
    let claim = match locked.queue.ordering {
        Ordering::Channel => {
            let plan = if locked.queue.opens_chats {
                let (plan, scanned_to) = new_chats::plan(db, locked, request).await?;
                locked.place(scanned_to);
                plan
            } else {
                plan(db, locked, request).await?
            };
            let (messages, wakeup) = carry_out(db, locked, plan, request).await?;
            Claim { messages, next_at: wakeup.next_at, holds_all: wakeup.holds_all }
        }
        Ordering::Recipient => {
            let mut claims = [Claiming::on(locked, request)];
            recipients::claim(db, &locked.alone(), &mut claims).await?;
            let [claim] = claims;
            claim.answer()
        }
    };
    locked.apply_send_interval(request, !claim.messages.is_empty());
    Ok(claim)
}

/// Applies the plan of a claim on a channel that is one queue.
async fn carry_out(
    db: Db<'_>,
    locked: &Locked,
    plan: ClaimPlan,
    request: &ClaimRequest,
) -> Done<(Vec<Claimed>, NextWakeup)> {
    rescue(db, locked, &plan.orphans, request).await?;
    apply(db, locked, &plan.finished).await?;
    let sent = send(db, &locked.alone(), &Vec::from_iter(plan.sent)).await?;
    Ok((sent, plan.wakeup))
}

/// Rescues messages that are `SENDING` and that no node has in flight.
async fn rescue(db: Db<'_>, locked: &Locked, seqs: &[Seq], request: &ClaimRequest) -> Done<()> {
    let rescued: Vec<_> = seqs.iter().filter_map(|seq| rescue_one(*seq, request)).collect();
    apply(db, locked, &rescued).await.map(drop)
}

/// Scans the queue from its head and decides about each row, until a row blocks all rows after it.
async fn plan(db: Db<'_>, locked: &Locked, request: &ClaimRequest) -> Done<ClaimPlan> {
    let mut plan = ClaimPlan::default();
    let mut rows = RowScan::from(db, locked.key, 0, Asks::Nothing);
    while let Some(seen) = rows.next().await? {
        if !plan.decide(&seen.row, &locked.queue, request) {
            break;
        }
    }
    Ok(plan)
}

/// A row, and whether its recipient can be written to.
pub(super) struct Seen {
    pub row: OpenRow,
    pub queued_at: Millis,
    /// Whether the recipient is new. Read on request only.
    pub is_new: bool,
    /// Until when the recipient is deferred. Read on request only.
    pub held_until: Option<Millis>,
}

/// A channel's open messages, in the order of the queue, read some at a time.
pub(super) struct RowScan<'a> {
    db: Db<'a>,
    channel: ChannelKey,
    from: Seq,
    asks: Asks,
    read: IntoIter<Seen>,
    /// The size of the next page; 0 after the last page.
    most: usize,
}

impl<'a> RowScan<'a> {
    pub fn from(db: Db<'a>, channel: ChannelKey, from: Seq, asks: Asks) -> Self {
        Self { db, channel, from, asks, read: Vec::new().into_iter(), most: PAGES.0 }
    }

    pub async fn next(&mut self) -> Done<Option<Seen>> {
        if self.read.len() == 0 && self.most > 0 {
            let read = rows_from(self.db, &[(self.channel, self.from)], self.asks, self.most).await?;
            let rows = read.into_values().next().unwrap_or_default();
            self.most = if rows.len() < self.most { 0 } else { PAGES.1 };
            self.read = rows.into_iter();
        }
        let seen = self.read.next();
        seen.iter().for_each(|seen| self.from = seen.row.seq + 1);
        Ok(seen)
    }
}

/// Open messages of some channels, each from a given number on, in queue order, at most `most` per channel.
pub(super) async fn rows_from(
    db: Db<'_>,
    from: &[(ChannelKey, Seq)],
    asks: Asks,
    most: usize,
) -> Done<HashMap<ChannelKey, Vec<Seen>>> {
    let mut read: HashMap<ChannelKey, Vec<Seen>> = HashMap::new();
    if from.is_empty() {
        return Ok(read);
    }
    let is_new = if asks == Asks::New { IS_NEW } else { "false" };
    let held_until = if asks == Asks::Nothing { "NULL::bigint" } else { HELD_UNTIL };
    let sql = format!(
        include_str!("claim/rows.sql"),
        OPEN_ROW = OPEN_ROW,
        is_new = is_new,
        held_until = held_until,
        LOWEST = LOWEST,
        OPEN = OPEN,
        most = most
    );
    let (channels, first): (Vec<_>, Vec<_>) = from.iter().copied().unzip();
    for row in db.rows(&sql, args![channels, first]).await? {
        let (queued_at, is_new, held_until) = (row.get("queued_at"), row.get("is_new"), row.get("held_until"));
        let seen = Seen { row: open_row(&row)?, queued_at, is_new, held_until };
        read.entry(row.get("channel_key")).or_default().push(seen);
    }
    Ok(read)
}

/// The columns of an [`OpenRow`].
pub(super) const OPEN_ROW: &str = "seq, status, run_at, expires_at, claimed_until, unanswered";

pub(super) fn open_row(row: &Row) -> Done<OpenRow> {
    Ok(OpenRow {
        seq: row.get("seq"),
        status: status(row.get("status"))?,
        run_at: row.get("run_at"),
        expires_at: row.get("expires_at"),
        claimed_until: row.get("claimed_until"),
        unanswered: row.get("unanswered"),
    })
}

/// The first open messages of these channels, of those that are one queue, in queue order. Most claims need no others.
/// The comparison of rows leaves only the index of open messages for the order: by the primary key the scan would step
/// over all messages that were sent since the last `ANALYZE`.
pub(super) async fn heads(db: Db<'_>, channels: &[ChannelKey]) -> Done<HashMap<ChannelKey, Vec<OpenRow>>> {
    let sql =
        format!(include_str!("claim/heads.sql"), OPEN_ROW = OPEN_ROW, LOWEST = LOWEST, OPEN = OPEN, HEADS = HEADS);
    let is_one_queue =
        |kind: &ChannelType| kind.descriptor().ordering == Ordering::Channel && !kind.descriptor().opens_chats;
    let types: Vec<_> = ChannelType::ALL.into_iter().filter(is_one_queue).map(ChannelType::name).collect();
    let mut heads: HashMap<ChannelKey, Vec<OpenRow>> = HashMap::new();
    for row in db.rows(&sql, args![channels, types]).await? {
        heads.entry(row.get("key")).or_default().push(open_row(&row)?);
    }
    Ok(heads)
}

/// The plan of a claim that needs only the first messages; `None` if it needs more messages, or has to rescue some. The
/// outcomes that are stored before the claim are applied to the first messages.
pub(super) fn plan_of_heads(
    heads: &[OpenRow],
    settled: &[Transition<'_>],
    queue: &ChannelQueue,
    request: &ClaimRequest,
) -> Option<ClaimPlan> {
    let mut plan = ClaimPlan::default();
    let mut after =
        heads.iter().filter_map(|row| settled.iter().try_fold(*row, |row, transition| row.after(transition)));
    let ends = heads.len() < HEADS;
    let decided = after.any(|row| !plan.decide(&row, queue, request));
    ((decided || ends) && plan.orphans.is_empty()).then_some(plan)
}

/// Applies the transitions of messages to send, and returns the messages in queue order.
pub(super) async fn send(db: Db<'_>, queues: &Queues, transitions: &[Transition<'_>]) -> Done<Vec<Claimed>> {
    let columns = "m.seq, m.id, m.network_id, m.recipient, m.kind, m.payload, m.rendition, m.card, m.card_account,
                   m.card_account_known, m.scenario, m.attempts, m.failures, m.recipient_holds, m.resent, m.unanswered,
                   m.conversation_id IS NOT NULL AS joined, m.queued_at";
    let rows = update(db, transitions, |channel| queues.records(channel), columns).await?;
    let mut sent = rows.iter().map(claimed).collect::<Done<Vec<_>>>()?;
    sent.sort_unstable_by_key(|message| message.seq);
    Ok(sent)
}

fn claimed(row: &Row) -> Done<Claimed> {
    let count = |column: &str| u32::try_from(row.get::<_, i32>(column)).map_err(|_| not_understood("count"));
    let id = row.get::<_, &[u8]>("id").try_into().map_err(|_| not_understood("message id"))?;
    let (kind, rendition) = cards::read(row.get("kind"), row.get("rendition"), || {
        Done::Ok((
            row.get("card"),
            CardAccount { digits: row.get("card_account"), known: row.get("card_account_known") },
        ))
    })?;
    Ok(Claimed {
        seq: row.get("seq"),
        id: MessageId::from_bytes(id),
        network_id: row.get("network_id"),
        recipient: row.get("recipient"),
        payload: row.get("payload"),
        kind,
        rendition,
        scenario: row.get("scenario"),
        attempts: count("attempts")?,
        failures: count("failures")?,
        recipient_holds: count("recipient_holds")?,
        resent: row.get("resent"),
        unanswered: row.get("unanswered"),
        joined: row.get("joined"),
        queued_at: row.get("queued_at"),
    })
}
