//! Claims: the next messages of a channel, in its order.

use std::vec::IntoIter;

use recado_domain::channel::{ChannelKey, Ordering};
use recado_domain::clock::Millis;
use recado_domain::ids::MessageId;
use recado_domain::message::Seq;
use recado_domain::queue::{Claim, ClaimRequest, Claimed};
use tokio_postgres::Row;

use super::chats::is_known_sql;
use super::lock::{Locked, lock, status};
use super::queue::{end_queued, settle_orphans};
use super::{gate, recipients};
use crate::line::{Look, OpenRow, Plan};
use crate::sqlkit::postgres::db::{Db, Done, args, not_understood};

/// Messages that are looked at first, and then at a time. A claim seldom looks behind the first one.
const PAGES: (usize, usize) = (8, 500);

const IS_NEW: &str = concat!("not ", is_known_sql!("recipient"));
const HELD_UNTIL: &str =
    "(select p.used_until from recipient_pace p where p.channel_key = $1 and p.recipient = messages.recipient)";

/// What a line is walked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    /// Its messages alone.
    Nothing,
    /// Recipients that cannot be written to for now.
    Held,
    /// New recipients as well.
    New,
}

pub(super) async fn claim(db: Db<'_>, request: &ClaimRequest) -> Done<Claim> {
    let Some(mut locked) = lock(db, request.channel).await? else { return Ok(Claim::default()) };
    locked.fence(request.epoch)?;
    on(db, &mut locked, request).await
}

/// A claim on a channel whose row is locked.
pub(super) async fn on(db: Db<'_>, locked: &mut Locked, request: &ClaimRequest) -> Done<Claim> {
    let mut front = locked.line.front;
    let (messages, look) = match locked.line.ordering {
        Ordering::Channel => {
            let plan = if locked.line.opens_chats {
                let (plan, walked_to) = gate::plan(db, locked, request).await?;
                front = walked_to;
                plan
            } else {
                plan(db, locked, request).await?
            };
            carry_out(db, locked, plan, request).await?
        }
        Ordering::Recipient => recipients::claim(db, locked, request).await?,
    };
    let rests = request.rest > 0 && !messages.is_empty();
    locked.keep(db, front, rests.then_some(request.now + request.rest)).await?;
    Ok(Claim { messages, next_at: look.next_at, holds_all: look.holds_all })
}

/// Does what a claim on a channel that is one line has decided.
async fn carry_out(db: Db<'_>, locked: &Locked, plan: Plan, request: &ClaimRequest) -> Done<(Vec<Claimed>, Look)> {
    let orphans: Vec<_> = plan.orphans.into_iter().map(|(seq, _)| seq).collect();
    settle_orphans(db, locked, &orphans, request).await?;
    let ends: Vec<_> = plan.ends.into_iter().map(|(seq, _)| seq).collect();
    end_queued(db, locked, &ends, true, request.now).await?;
    let taken = take(db, locked, plan.take.as_slice(), request).await?;
    Ok((taken, plan.look))
}

/// Walks the line from its head and decides what to do with each row, until one holds all that stand behind it.
async fn plan(db: Db<'_>, locked: &Locked, request: &ClaimRequest) -> Done<Plan> {
    let mut plan = Plan::default();
    let mut line = Walk::from(db, locked.key, 0, Asks::Nothing);
    while let Some(seen) = line.next().await? {
        if !plan.decide(&seen.row, &locked.line, request) {
            break;
        }
    }
    Ok(plan)
}

/// A row, and what a line is walked past it for.
pub(super) struct Seen {
    pub row: OpenRow,
    pub queued_at: Millis,
    /// Its recipient is a new one. Looked for only where that is asked.
    pub is_new: bool,
    /// Until when its recipient cannot be written to, or could not. The same.
    pub held_until: Option<Millis>,
}

/// A channel's open messages, in the order of the queue, read some at a time.
pub(super) struct Walk<'a> {
    db: Db<'a>,
    channel: ChannelKey,
    from: Seq,
    asks: Asks,
    read: IntoIter<Row>,
    /// Rows of the next page; none when there is none.
    most: usize,
}

impl<'a> Walk<'a> {
    pub fn from(db: Db<'a>, channel: ChannelKey, from: Seq, asks: Asks) -> Self {
        Self { db, channel, from, asks, read: Vec::new().into_iter(), most: PAGES.0 }
    }

    pub async fn next(&mut self) -> Done<Option<Seen>> {
        if self.read.len() == 0 && self.most > 0 {
            let is_new = if self.asks == Asks::New { IS_NEW } else { "false" };
            let held_until = if self.asks == Asks::Nothing { "null::bigint" } else { HELD_UNTIL };
            let sql = format!(
                "select seq, status, run_at, expires_at, claimed_until, queued_at, {is_new}, {held_until}
                 from messages
                 where channel_key = $1 and seq >= $2 and status <= 1
                 order by seq limit $3"
            );
            let most = i64::try_from(self.most).unwrap_or(i64::MAX);
            let rows = self.db.rows(&sql, args![self.channel, self.from, most]).await?;
            self.most = if rows.len() < self.most { 0 } else { PAGES.1 };
            self.read = rows.into_iter();
        }
        let Some(row) = self.read.next() else { return Ok(None) };
        let seq: Seq = row.get(0);
        self.from = seq + 1;
        let status = status(row.get(1))?;
        let open = OpenRow { seq, status, run_at: row.get(2), expires_at: row.get(3), claimed_until: row.get(4) };
        Ok(Some(Seen { row: open, queued_at: row.get(5), is_new: row.get(6), held_until: row.get(7) }))
    }
}

/// Takes these messages, in the order of the queue.
pub(super) async fn take(db: Db<'_>, locked: &Locked, seqs: &[Seq], request: &ClaimRequest) -> Done<Vec<Claimed>> {
    if seqs.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "update messages
               set status = 1, attempts = attempts + 1, sending_at = coalesce(sending_at, $2), claimed_until = $3,
                   connection = $5
               where seq = any($1) and channel_key = $4 and status = 0
               returning seq, id, network_id, recipient, payload, card, scenario, attempts, failures,
                         case when card_account_known then card_account end, recipient_holds, resent, unanswered";
    let rows =
        db.rows(sql, args![seqs, request.now, request.claimed_until, request.channel, locked.line.connections]).await?;
    let mut taken = rows.iter().map(claimed).collect::<Done<Vec<_>>>()?;
    taken.sort_unstable_by_key(|message| message.seq);
    Ok(taken)
}

fn claimed(row: &Row) -> Done<Claimed> {
    let count = |column: usize| u32::try_from(row.get::<_, i32>(column)).map_err(|_| not_understood("count"));
    Ok(Claimed {
        seq: row.get(0),
        id: MessageId::from_bytes(row.get::<_, &[u8]>(1).try_into().map_err(|_| not_understood("message id"))?),
        network_id: row.get(2),
        recipient: row.get(3),
        payload: row.get(4),
        card: row.get(5),
        scenario: row.get(6),
        attempts: count(7)?,
        failures: count(8)?,
        card_account: row.get(9),
        recipient_holds: count(10)?,
        resent: row.get(11),
        unanswered: row.get(12),
    })
}
