//! Claims: the next messages of a channel, in its order.

use recado_domain::channel::Ordering;
use recado_domain::clock::Millis;
use recado_domain::ids::MessageId;
use recado_domain::message::Seq;
use recado_domain::queue::{Claim, ClaimRequest, Claimed, Orphans};
use recado_domain::status::MessageStatus;
use rusqlite::{Row, params};

use super::queue::{Details, end_queued, hold, move_message, note_unanswered, status};
use super::{Writing, gate, recipients};
use crate::line::{Line, Look, OpenRow, Plan};

pub(super) fn claim(writing: &mut Writing, request: &ClaimRequest) -> rusqlite::Result<Claim> {
    let Some(line) = writing.line(request.channel).copied() else { return Ok(Claim::default()) };
    let (messages, look) = match line.ordering {
        Ordering::Channel if line.opens_chats => {
            let (plan, front) = gate::plan(writing, line, request)?;
            let done = carry_out(writing, plan, request)?;
            writing.line(request.channel).into_iter().for_each(|line| line.front = front);
            done
        }
        Ordering::Channel => {
            let plan = plan(writing, line, request)?;
            carry_out(writing, plan, request)?
        }
        Ordering::Recipient => recipients::claim(writing, line, request)?,
    };
    if request.rest > 0 && !messages.is_empty() {
        hold(writing, request.channel, request.now + request.rest)?;
    }
    Ok(Claim { messages, next_at: look.next_at, holds_all: look.holds_all })
}

/// Does what a claim on a channel that is one line has decided.
fn carry_out(writing: &mut Writing, plan: Plan, request: &ClaimRequest) -> rusqlite::Result<(Vec<Claimed>, Look)> {
    for (seq, again) in plan.orphans {
        settle_orphan(writing, seq, again, request)?;
    }
    for (seq, expires_at) in plan.ends {
        end(writing, seq, expires_at, request)?;
    }
    let taken = plan.take.map(|seq| take(writing, seq, request)).transpose()?;
    Ok((taken.into_iter().collect(), plan.look))
}

/// Ends a message that is queued: it is too old, or its channel is gone.
pub(super) fn end(writing: &mut Writing, seq: Seq, expires_at: Millis, request: &ClaimRequest) -> rusqlite::Result<()> {
    let end = if expires_at <= request.now { MessageStatus::Expired } else { MessageStatus::Cancelled };
    end_queued(writing, (request.channel, seq), end, request.now)
}

/// Ends the sending of a message that nobody has in hand: it is queued again, or its fate is `UNKNOWN`.
pub(super) fn settle_orphan(
    writing: &mut Writing,
    seq: Seq,
    again: bool,
    request: &ClaimRequest,
) -> rusqlite::Result<()> {
    let resend_at = if again { None } else { request.unanswered.resend_at(request.now) };
    let next = if again { MessageStatus::Queued } else { MessageStatus::Unknown };
    let details = Details { resend_at, ..Details::default() };
    move_message(writing, (request.channel, seq), (MessageStatus::Sending, next), &details, request.now)?;
    if request.orphans == Orphans::NeverSent { uncount(writing, seq) } else { note_unanswered(writing, seq) }
}

/// Walks the line from its head and decides what to do with each row, until one holds all that stand behind it.
fn plan(writing: &Writing, line: Line, request: &ClaimRequest) -> rusqlite::Result<Plan> {
    let mut plan = Plan::default();
    let mut statement = writing.connection.prepare_cached(OPEN)?;
    let mut rows = statement.query([request.channel])?;
    while let Some(row) = rows.next()? {
        if !plan.decide(&open_row(row)?, &line, request) {
            break;
        }
    }
    Ok(plan)
}

/// A channel's open messages, in the order of the queue.
pub(super) const OPEN: &str = "select seq, status, run_at, expires_at, claimed_until
     from messages indexed by messages_open
     where channel_key = ?1 and status <= 1
     order by seq";

/// A row of [`OPEN`].
pub(super) fn open_row(row: &Row<'_>) -> rusqlite::Result<OpenRow> {
    Ok(OpenRow {
        seq: row.get(0)?,
        status: status(row.get(1)?)?,
        run_at: row.get(2)?,
        expires_at: row.get(3)?,
        claimed_until: row.get(4)?,
    })
}

pub(super) fn take(writing: &mut Writing, seq: Seq, request: &ClaimRequest) -> rusqlite::Result<Claimed> {
    let connection = writing.line(request.channel).map(|line| line.connections);
    let mut statement = writing.connection.prepare_cached(
        "update messages
         set status = 1, attempts = attempts + 1, sending_at = coalesce(sending_at, ?2), claimed_until = ?3,
             connection = ?4
         where seq = ?1 and status = 0
         returning id, network_id, recipient, payload, card, scenario, attempts, failures,
                   iif(card_account_known, card_account, null), recipient_holds, resent, unanswered",
    )?;
    statement.query_row(params![seq, request.now, request.claimed_until, connection], |row| {
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
            card_account: row.get(8)?,
            recipient_holds: row.get(9)?,
            resent: row.get(10)?,
            unanswered: row.get(11)?,
        })
    })
}

/// What was never sent was no attempt.
fn uncount(writing: &Writing, seq: Seq) -> rusqlite::Result<()> {
    writing.connection.prepare_cached("update messages set attempts = attempts - 1 where seq = ?1")?.execute([seq])?;
    Ok(())
}
