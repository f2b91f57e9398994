//! The queue: claims in order, outcomes, receipts. Every change of state goes through [`move_message`].

use std::collections::HashSet;

use recado_domain::ids::MessageId;
use recado_domain::status::MessageStatus;
use rusqlite::{OptionalExtension, Row, params};

use super::{Writing, not_understood};
use crate::clock::Millis;
use crate::store::rows::{
    Cancelled, ChannelKey, Claim, ClaimRequest, Claimed, Ordering, Orphans, Receipt, Seq, Settlement,
};

/// Most messages that one claim lets expire: others wait for the writer too.
const EXPIRE_AT_ONCE: usize = 500;

/// What a change of state brings along.
#[derive(Default)]
struct Details<'a> {
    account: Option<&'a str>,
    error: Option<(&'a str, &'a str)>,
}

/// Moves a message from one state to another; `false` when the move is not legal or the message was elsewhere.
fn move_message(
    writing: &mut Writing,
    (channel, seq): (ChannelKey, Seq),
    (from, to): (MessageStatus, MessageStatus),
    details: &Details<'_>,
    now: Millis,
) -> rusqlite::Result<bool> {
    if !from.may_become(to) {
        return Ok(false);
    }
    // The first time that a state was reached stands.
    let reached = reached_column(to);
    let sql = format!(
        "update messages
         set status = ?3, {reached} = coalesce({reached}, ?4), claimed_until = null,
             account = coalesce(?5, account), error_code = ?6, error_message = ?7
         where seq = ?1 and status = ?2"
    );
    let (code, message) = details.error.unzip();
    let changed = writing.connection.prepare_cached(&sql)?.execute(params![
        seq,
        from.number(),
        to.number(),
        now,
        details.account,
        code,
        message
    ])?;
    if changed == 1
        && let Some(line) = writing.line(channel)
    {
        match (from.is_open(), to.is_open()) {
            (true, false) => line.open -= 1,
            (false, true) => line.open += 1,
            _ => {}
        }
    }
    Ok(changed == 1)
}

/// The column that keeps when a state was reached.
pub(super) fn reached_column(status: MessageStatus) -> &'static str {
    match status {
        MessageStatus::Queued => "queued_at",
        MessageStatus::Sending => "sending_at",
        MessageStatus::Sent => "sent_at",
        MessageStatus::Delivered => "delivered_at",
        MessageStatus::Unknown => "unknown_at",
        MessageStatus::Read => "read_at",
        MessageStatus::Failed => "failed_at",
        MessageStatus::Expired => "expired_at",
        MessageStatus::Cancelled => "cancelled_at",
    }
}

pub(super) fn status(number: u8) -> rusqlite::Result<MessageStatus> {
    MessageStatus::from_number(number).ok_or_else(|| not_understood("message status"))
}

/// What a claim decides about the rows of a line, before it changes any.
#[derive(Default)]
struct Plan {
    give_back: Vec<Seq>,
    give_up: Vec<Seq>,
    expire: Vec<Seq>,
    take: Vec<Seq>,
    next_at: Option<Millis>,
}

impl Plan {
    fn look_again(&mut self, at: Millis) {
        self.next_at = Some(self.next_at.map_or(at, |earlier| earlier.min(at)));
    }
}

pub(super) fn claim(writing: &mut Writing, request: &ClaimRequest) -> rusqlite::Result<Claim> {
    let plan = plan(writing, request)?;
    let moves = [
        (&plan.give_back, MessageStatus::Sending, MessageStatus::Queued),
        (&plan.give_up, MessageStatus::Sending, MessageStatus::Unknown),
        (&plan.expire, MessageStatus::Queued, MessageStatus::Expired),
    ];
    for (seqs, from, to) in moves {
        for seq in seqs {
            move_message(writing, (request.channel, *seq), (from, to), &Details::default(), request.now)?;
        }
    }
    let messages = plan.take.iter().map(|seq| take(writing, *seq, request)).collect::<rusqlite::Result<Vec<_>>>()?;
    if request.rest > 0 && !messages.is_empty() {
        hold(writing, request.channel, request.now + request.rest)?;
    }
    let open = writing.line(request.channel).map_or(0, |line| line.open);
    Ok(Claim { messages, next_at: plan.next_at, open })
}

/// Walks the line from its head and decides what to do with each row, until one holds all that stand behind it.
fn plan(writing: &Writing, request: &ClaimRequest) -> rusqlite::Result<Plan> {
    let mut plan = Plan::default();
    let Some(line) = writing.lines.get(&request.channel) else { return Ok(plan) };
    let dispatches = line.state.dispatches() && !line.deleted;
    let mut busy = HashSet::new();
    let mut statement = writing.connection.prepare_cached(
        "select seq, status, recipient, run_at, expires_at, claimed_until
         from messages indexed by messages_open
         where channel_key = ?1 and status <= 1
         order by seq",
    )?;
    let mut rows = statement.query([request.channel])?;
    while let Some(row) = rows.next()? {
        let row = OpenRow::read(row)?;
        if row.status == MessageStatus::Sending {
            match row.as_orphan(request) {
                Orphan::Held(at) => {
                    at.into_iter().for_each(|at| plan.look_again(at));
                    busy.insert(row.recipient);
                    if request.ordering == Ordering::Channel {
                        break;
                    }
                    continue;
                }
                Orphan::GiveUp => {
                    plan.give_up.push(row.seq);
                    continue;
                }
                // And judged below as a queued one.
                Orphan::GiveBack => plan.give_back.push(row.seq),
            }
        }
        match row.decide(request, dispatches, line.next_send_at) {
            Decision::Expire if plan.expire.len() < EXPIRE_AT_ONCE => plan.expire.push(row.seq),
            Decision::Expire => {
                plan.look_again(request.now);
                break;
            }
            Decision::HoldAll(at) => {
                plan.look_again(at);
                break;
            }
            Decision::Hold(at) => {
                plan.look_again(at);
                busy.insert(row.recipient);
            }
            Decision::Take => {
                // An earlier message to this recipient is in hand or waits: this one stays behind it.
                if busy.insert(row.recipient) {
                    plan.take.push(row.seq);
                }
                // With a rest between sends, the next claim is the next send.
                if plan.take.len() >= request.limit || (request.rest > 0 && !plan.take.is_empty()) {
                    break;
                }
            }
        }
        if request.ordering == Ordering::Channel && !busy.is_empty() {
            break;
        }
    }
    Ok(plan)
}

struct OpenRow {
    seq: Seq,
    status: MessageStatus,
    recipient: String,
    run_at: Millis,
    expires_at: Millis,
    claimed_until: Option<Millis>,
}

/// What a `SENDING` row is to the asker.
enum Orphan {
    /// In somebody's hand, until that time if its claim can run out.
    Held(Option<Millis>),
    /// Nobody knows what became of it, and the network would not recognise a re-send.
    GiveUp,
    GiveBack,
}

enum Decision {
    Expire,
    /// Nothing more can be taken from this channel before then.
    HoldAll(Millis),
    /// Nothing more on this row's line before then.
    Hold(Millis),
    Take,
}

impl OpenRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            status: status(row.get(1)?)?,
            recipient: row.get(2)?,
            run_at: row.get(3)?,
            expires_at: row.get(4)?,
            claimed_until: row.get(5)?,
        })
    }

    fn as_orphan(&self, request: &ClaimRequest) -> Orphan {
        let ends = self.claimed_until.unwrap_or(0);
        if request.held.contains(&self.seq) {
            Orphan::Held(None)
        } else if request.orphans == Orphans::Claimed && ends > request.now {
            Orphan::Held(Some(ends))
        } else if request.resend || request.orphans == Orphans::NeverSent {
            Orphan::GiveBack
        } else {
            Orphan::GiveUp
        }
    }

    fn decide(&self, request: &ClaimRequest, dispatches: bool, next_send_at: Millis) -> Decision {
        let now = request.now;
        if self.expires_at <= now {
            Decision::Expire
        } else if !dispatches || request.limit == 0 {
            Decision::HoldAll(self.expires_at)
        } else if next_send_at > now {
            Decision::HoldAll(next_send_at.min(self.expires_at))
        } else if self.run_at > now {
            Decision::Hold(self.run_at.min(self.expires_at))
        } else {
            Decision::Take
        }
    }
}

fn take(writing: &mut Writing, seq: Seq, request: &ClaimRequest) -> rusqlite::Result<Claimed> {
    let mut statement = writing.connection.prepare_cached(
        "update messages
         set status = 1, attempts = attempts + 1, sending_at = coalesce(sending_at, ?2), claimed_until = ?3
         where seq = ?1 and status = 0
         returning id, network_id, recipient, payload, card, scenario, attempts, failures",
    )?;
    statement.query_row(params![seq, request.now, request.claimed_until], |row| {
        Ok(Claimed {
            seq,
            id: MessageId::from_bytes(row.get(0)?),
            network_id: row.get(1)?,
            recipient: row.get(2)?,
            payload: row.get(3)?,
            card: row.get(4)?,
            scenario: row.get(5)?,
            attempts: row.get(6)?,
            failures: row.get(7)?,
        })
    })
}

/// Nothing is sent on the channel before this time. Kept in the file, so that a restart does not forget it.
fn hold(writing: &mut Writing, channel: ChannelKey, until: Millis) -> rusqlite::Result<()> {
    writing
        .connection
        .prepare_cached("update channels set next_send_at = max(next_send_at, ?2) where key = ?1")?
        .execute(params![channel, until])?;
    if let Some(line) = writing.line(channel) {
        line.next_send_at = line.next_send_at.max(until);
    }
    Ok(())
}

pub(super) fn settle(
    writing: &mut Writing,
    channel: ChannelKey,
    seq: Seq,
    settlement: &Settlement,
    now: Millis,
) -> rusqlite::Result<()> {
    let (to, details) = match settlement {
        Settlement::Sent { account } => {
            (MessageStatus::Sent, Details { account: account.as_deref(), ..Details::default() })
        }
        Settlement::Failed { code, message } => {
            (MessageStatus::Failed, Details { error: Some((code, message)), ..Details::default() })
        }
        Settlement::Retry { .. } | Settlement::HoldChannel { .. } => (MessageStatus::Queued, Details::default()),
        Settlement::Unknown => (MessageStatus::Unknown, Details::default()),
    };
    let moved = move_message(writing, (channel, seq), (MessageStatus::Sending, to), &details, now)?;
    match settlement {
        Settlement::Retry { run_at } if moved => {
            writing
                .connection
                .prepare_cached("update messages set run_at = ?2, failures = failures + 1 where seq = ?1")?
                .execute(params![seq, run_at])?;
        }
        // The trouble is the channel's, whatever became of this message meanwhile.
        Settlement::HoldChannel { until } => hold(writing, channel, *until)?,
        // A receipt was faster than the acknowledgement; only the account is news.
        Settlement::Sent { account: Some(account) } if !moved => {
            writing
                .connection
                .prepare_cached("update messages set account = ?2 where seq = ?1 and account is null")?
                .execute(params![seq, account])?;
        }
        _ => {}
    }
    Ok(())
}

pub(super) fn apply_receipts(writing: &mut Writing, receipts: &[Receipt]) -> rusqlite::Result<()> {
    for receipt in receipts {
        let found = writing
            .connection
            .prepare_cached(
                // Only the channel's own messages: another's id in a receipt means nothing.
                "select seq, status from messages indexed by messages_in_network
                 where network_id = ?1 and status between 1 and 4 and channel_key = ?2",
            )?
            .query_row(params![receipt.network_id, receipt.channel], |row| {
                Ok((row.get::<_, Seq>(0)?, row.get::<_, u8>(1)?))
            })
            .optional()?;
        if let Some((seq, number)) = found {
            let step = (status(number)?, receipt.status);
            move_message(writing, (receipt.channel, seq), step, &Details::default(), receipt.at)?;
        }
    }
    Ok(())
}

pub(super) fn cancel(
    writing: &mut Writing,
    channel: ChannelKey,
    id: MessageId,
    now: Millis,
) -> rusqlite::Result<Cancelled> {
    let found = writing
        .connection
        .prepare_cached("select seq from messages where id = ?1 and channel_key = ?2")?
        .query_row(params![id.as_bytes(), channel], |row| row.get::<_, Seq>(0))
        .optional()?;
    let Some(seq) = found else { return Ok(Cancelled::NoMessage) };
    let step = (MessageStatus::Queued, MessageStatus::Cancelled);
    let moved = move_message(writing, (channel, seq), step, &Details::default(), now)?;
    Ok(if moved { Cancelled::Done } else { Cancelled::TooLate })
}

pub(super) fn cancel_queued(
    writing: &mut Writing,
    channel: ChannelKey,
    limit: usize,
    now: Millis,
) -> rusqlite::Result<usize> {
    let queued: Vec<Seq> = writing
        .connection
        .prepare_cached(
            "select seq from messages indexed by messages_open
             where channel_key = ?1 and status <= 1 and status = 0 order by seq limit ?2",
        )?
        .query_map(params![channel, i64::try_from(limit).unwrap_or(i64::MAX)], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for seq in &queued {
        let step = (MessageStatus::Queued, MessageStatus::Cancelled);
        move_message(writing, (channel, *seq), step, &Details::default(), now)?;
    }
    Ok(queued.len())
}

pub(super) fn open_channels(writing: &Writing) -> Vec<ChannelKey> {
    let open = writing.lines.iter().filter(|(_, line)| line.open > 0);
    open.map(|(key, _)| *key).collect()
}
