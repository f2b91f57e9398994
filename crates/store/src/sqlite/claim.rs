//! Claims: the next messages of a channel, in its order.

use std::sync::LazyLock;

use recado_domain::channel::Ordering;
use recado_domain::queue::{ChannelQueue, Claim, ClaimPlan, ClaimRequest, Claimed, NextWakeup, OpenRow, rescue};
use rusqlite::Row;

use super::apply::{apply_all, send};
use super::queue::{hold, status};
use super::{Writing, gate, recipients};
use crate::sql;

pub(super) fn claim(writing: &mut Writing, request: &ClaimRequest) -> rusqlite::Result<Claim> {
    let Some(queue) = writing.queue(request.channel).copied() else { return Ok(Claim::default()) };
    let (messages, wakeup) = match queue.ordering {
        Ordering::Channel if queue.opens_chats => {
            let (plan, cursor) = gate::plan(writing, queue, request)?;
            let done = carry_out(writing, plan, request)?;
            writing.queue(request.channel).into_iter().for_each(|queue| queue.cursor = cursor);
            done
        }
        Ordering::Channel => {
            let plan = plan(writing, queue, request)?;
            carry_out(writing, plan, request)?
        }
        Ordering::Recipient => recipients::claim(writing, queue, request)?,
    };
    if request.rest > 0 && !messages.is_empty() {
        hold(writing, request.channel, request.now + request.rest)?;
    }
    Ok(Claim { messages, next_at: wakeup.next_at, holds_all: wakeup.holds_all })
}

/// Does what a claim on a channel that is one queue has decided.
fn carry_out(
    writing: &mut Writing,
    plan: ClaimPlan,
    request: &ClaimRequest,
) -> rusqlite::Result<(Vec<Claimed>, NextWakeup)> {
    apply_all(writing, plan.orphans.into_iter().filter_map(|seq| rescue(seq, request)))?;
    apply_all(writing, plan.finished)?;
    let sent = plan.sent.map(|transition| send(writing, &transition)).transpose()?;
    Ok((sent.into_iter().collect(), plan.wakeup))
}

/// Scans the queue from its head and decides what to do with each row, until one holds all that stand behind it.
fn plan(writing: &Writing, queue: ChannelQueue, request: &ClaimRequest) -> rusqlite::Result<ClaimPlan> {
    let mut plan = ClaimPlan::default();
    let mut statement = writing.connection.prepare_cached(&OPEN)?;
    let mut rows = statement.query([request.channel, 0])?;
    while let Some(row) = rows.next()? {
        if !plan.decide(&open_row(row)?, &queue, request) {
            break;
        }
    }
    Ok(plan)
}

/// A channel's open messages from one on, in the order of the queue.
pub(super) static OPEN: LazyLock<String> = LazyLock::new(|| {
    format!(
        "select seq, status, run_at, expires_at, claimed_until, unanswered, recipient
         from messages indexed by messages_open
         where channel_key = ?1 and seq >= ?2 and {}
         order by seq",
        sql::OPEN
    )
});

/// A row of [`OPEN`].
pub(super) fn open_row(row: &Row<'_>) -> rusqlite::Result<OpenRow> {
    Ok(OpenRow {
        seq: row.get(0)?,
        status: status(row.get(1)?)?,
        run_at: row.get(2)?,
        expires_at: row.get(3)?,
        claimed_until: row.get(4)?,
        unanswered: row.get(5)?,
    })
}
