//! The queue: claims, outcomes and cancellations. The rules decide, [`apply`] writes.

use std::sync::LazyLock;

use async_trait::async_trait;
use recado_domain::channel::{ChannelKey, Ordering};
use recado_domain::clock::Millis;
use recado_domain::event::Owner;
use recado_domain::ids::MessageId;
use recado_domain::message::{Cancelled, Enqueued, NewMessage};
use recado_domain::queue::{
    ChannelEffect, ChannelQueue, Claim, ClaimPlan, ClaimRequest, Claimed, Finish, NextWakeup, OpenRow, Outcomes,
    Position, Queued, Submitted, mark_unknown, rescue, settle,
};
use recado_domain::status::MessageStatus;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::apply::{apply, apply_all, note, send};
use super::{SqliteStore, Writing, channels, chats, enqueue, new_chats, not_understood, receipts, recipients};
use crate::commits::Change;
use crate::common::inbox::outgoing;
use crate::common::schedule;
use crate::sql::{OPEN, QUEUED, SENDING};
use crate::sqlkit::both::at_once;
use crate::{Queue, Result};

#[async_trait]
impl Queue for SqliteStore {
    async fn enqueue(&self, message: NewMessage) -> Result<Enqueued> {
        // Without a share: it is a short write, and the more of them share a commit, the faster they are.
        self.writer.run(move |writing| enqueue::enqueue(writing, &message)).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claim> {
        self.write(move |writing| claim(writing, &request)).await
    }

    async fn settle(&self, outcomes: Outcomes) -> Result<()> {
        self.write(move |writing| record(writing, &outcomes)).await
    }

    async fn settle_and_claim(&self, outcomes: Outcomes, request: ClaimRequest) -> (Result<()>, Result<Claim>) {
        // Both calls are queued before either is answered, in this order, so they share a commit.
        tokio::join!(self.settle(outcomes), self.claim(request))
    }

    async fn join_conversations(&self, owner: Owner, submitted: Vec<Submitted>, now: Millis) -> Result<()> {
        self.write(move |writing| {
            if at_once(outgoing::join(&writing.connection, owner, &submitted, now))? {
                writing.notify(Change::Read);
            }
            Ok(())
        })
        .await
    }

    async fn left_to_join(&self, channel: ChannelKey) -> Result<Vec<Submitted>> {
        self.readers.read(move |connection| at_once(outgoing::left(connection, channel))).await
    }

    async fn cancel(&self, channel: ChannelKey, id: MessageId, now: Millis) -> Result<Cancelled> {
        self.write(move |writing| cancel(writing, channel, id, now)).await
    }

    async fn cancel_former(&self, key: ChannelKey, limit: usize, now: Millis) -> Result<usize> {
        self.write(move |writing| cancel_former(writing, key, limit, now)).await
    }

    async fn open_channels(&self) -> Result<Vec<ChannelKey>> {
        self.readers.read(open_channels).await
    }
}

pub(super) fn status(number: u8) -> rusqlite::Result<MessageStatus> {
    MessageStatus::from_number(number).ok_or_else(|| not_understood("message status"))
}

/// Sends nothing on the channel before this time. The time is stored, so a restart keeps it.
pub(super) fn defer(writing: &mut Writing, channel: ChannelKey, until: Millis) -> rusqlite::Result<()> {
    writing
        .connection
        .prepare_cached("UPDATE channels SET next_send_at = max(next_send_at, ?2) WHERE key = ?1")?
        .execute(params![channel, until])?;
    if let Some(queue) = writing.queue(channel) {
        queue.next_send_at = queue.next_send_at.max(until);
    }
    Ok(())
}

fn claim(writing: &mut Writing, request: &ClaimRequest) -> rusqlite::Result<Claim> {
    let Some(queue) = writing.queue(request.channel).copied() else { return Ok(Claim::default()) };
    let (messages, wakeup) = match queue.ordering {
        Ordering::Channel if queue.opens_chats => {
            let (plan, cursor) = new_chats::plan(writing, queue, request)?;
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
    if request.send_interval > 0 && !messages.is_empty() {
        defer(writing, request.channel, request.now + request.send_interval)?;
    }
    Ok(Claim { messages, next_at: wakeup.next_at, holds_all: wakeup.holds_all })
}

/// Applies the plan of a claim on a channel that is one queue.
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

/// Scans the queue from its head and decides about each row, until a row blocks all rows after it.
fn plan(writing: &Writing, queue: ChannelQueue, request: &ClaimRequest) -> rusqlite::Result<ClaimPlan> {
    let mut plan = ClaimPlan::default();
    let mut statement = writing.connection.prepare_cached(&OPEN_ROWS)?;
    let mut rows = statement.query([request.channel, 0])?;
    while let Some(row) = rows.next()? {
        if !plan.decide(&open_row(row)?, &queue, request) {
            break;
        }
    }
    Ok(plan)
}

/// A channel's open messages from a number on, in queue order.
pub(super) static OPEN_ROWS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT seq, status, run_at, expires_at, claimed_until, unanswered, recipient
         FROM messages INDEXED BY messages_open
         WHERE channel_key = ?1 AND seq >= ?2 AND {OPEN}
         ORDER BY seq"
    )
});

/// A row of [`OPEN_ROWS`].
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

pub(super) fn record(writing: &mut Writing, outcomes: &Outcomes) -> rusqlite::Result<()> {
    let (channel, now) = (outcomes.channel, outcomes.now);
    let Some(queue) = writing.queue(channel).copied() else { return Ok(()) };
    let settled = settle(outcomes, &queue);
    let mut moved = Vec::with_capacity(settled.transitions.len());
    for transition in &settled.transitions {
        if apply(writing, transition)? {
            moved.push(transition.seq());
        } else {
            note(writing, transition)?;
        }
    }
    for (seq, effect) in settled.effects {
        match effect {
            ChannelEffect::Pause { reason } => channels::pause(writing, channel, reason, seq, now)?,
            ChannelEffect::BlockNewChats { until, reason } => {
                chats::forget(writing, (channel, seq))?;
                channels::restrict(writing, channel, until, reason, now)?;
            }
            ChannelEffect::DeferRecipient { until } if moved.contains(&seq) => recipients::defer(writing, seq, until)?,
            ChannelEffect::DeferRecipient { .. } => {}
            ChannelEffect::OpenChat { account } => chats::open(writing, (channel, seq), account, now)?,
        }
    }
    for (seq, remote_id) in settled.named {
        receipts::apply_unmatched(writing, (channel, seq), remote_id)?;
    }
    settled.defer_until.map_or(Ok(()), |until| defer(writing, channel, until))
}

/// Ends messages as `UNKNOWN` that may have arrived from the former number of the channel. On a network of sessions
/// this includes `SENDING` messages, because their session has ended.
pub(super) fn end_maybe_delivered(writing: &mut Writing, channel: ChannelKey, now: Millis) -> rusqlite::Result<()> {
    let in_flight = writing.opens_chats(channel);
    let sql = format!(
        "SELECT seq, status FROM messages INDEXED BY messages_open
         WHERE channel_key = ?1 AND {OPEN} AND ({QUEUED} AND unanswered OR {SENDING} AND ?2) ORDER BY seq"
    );
    let mut statement = writing.connection.prepare_cached(&sql)?;
    let left = statement.query_map(params![channel, in_flight], |row| {
        Ok(Position { channel, seq: row.get(0)?, status: status(row.get(1)?)?, attempted: true })
    })?;
    let left = left.collect::<rusqlite::Result<Vec<_>>>()?;
    drop(statement);
    apply_all(writing, left.into_iter().filter_map(|position| mark_unknown(position, now)))
}

pub(super) fn cancel(
    writing: &mut Writing,
    channel: ChannelKey,
    id: MessageId,
    now: Millis,
) -> rusqlite::Result<Cancelled> {
    let found = writing
        .connection
        .prepare_cached("SELECT seq, expires_at, unanswered, status FROM messages WHERE id = ?1 AND channel_key = ?2")?
        .query_row(params![id.as_bytes(), channel], |row| {
            let message = Queued { channel, seq: row.get(0)?, expires_at: row.get(1)?, unanswered: row.get(2)? };
            Ok((message, status(row.get(3)?)?))
        })
        .optional()?;
    let Some((message, status)) = found else { return Ok(Cancelled::NoMessage) };
    if status == MessageStatus::Queued {
        at_once(schedule::end(&writing.connection, [message.seq].into_iter()))?;
    }
    let message = Queued { seq: message.seq.abs(), ..message };
    let cancelled = message.cancel(now).filter(|_| status == MessageStatus::Queued);
    let Some(transition) = cancelled else { return Ok(Cancelled::TooLate) };
    apply(writing, &transition)?;
    writing.notify(Change::Work(channel));
    Ok(Cancelled::Done)
}

/// Cancels messages that were queued before the channel was deleted.
pub(super) fn cancel_former(
    writing: &mut Writing,
    channel: ChannelKey,
    limit: usize,
    now: Millis,
) -> rusqlite::Result<usize> {
    let sql = format!(
        "SELECT seq, expires_at, unanswered FROM messages INDEXED BY messages_open
         WHERE channel_key = ?1 AND {OPEN} AND {QUEUED}
           AND seq > 0 AND seq <= (SELECT cancel_before FROM channels WHERE key = ?1) ORDER BY seq LIMIT ?2"
    );
    let mut statement = writing.connection.prepare_cached(&sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let queued = statement.query_map(params![channel, limit], |row| {
        Ok(Queued { channel, seq: row.get(0)?, expires_at: row.get(1)?, unanswered: row.get(2)? })
    })?;
    let queued = queued.collect::<rusqlite::Result<Vec<_>>>()?;
    drop(statement);
    apply_all(writing, queued.iter().filter_map(|message| message.finish(Finish::Cancelled, now)))?;
    Ok(queued.len())
}

pub(super) fn open_channels(connection: &Connection) -> rusqlite::Result<Vec<ChannelKey>> {
    let sql = format!(
        "SELECT key FROM channels
         WHERE EXISTS (SELECT 1 FROM messages INDEXED BY messages_open
                       WHERE channel_key = key AND seq > 0 AND {OPEN})"
    );
    connection.prepare_cached(&sql)?.query_map([], |row| row.get(0))?.collect()
}
