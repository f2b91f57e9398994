//! Channels with a queue for each recipient. The first open message of each recipient queue is marked as its head, so a
//! claim reads heads only.

use recado_domain::channel::{ChannelKey, Ordering};
use recado_domain::clock::Millis;
use recado_domain::message::Seq;
use recado_domain::phone::forms;
use recado_domain::queue::{
    ChannelQueue, ClaimRequest, Claimed, FINISH_AT_ONCE, Finish, NextWakeup, Outdated, Pace, Queued, Resendable,
    UnheldSending, pace, rescue, resend, resends,
};
use recado_domain::status::MessageStatus;
use rusqlite::{Connection, OptionalExtension, params};

use super::Writing;
use super::apply::{apply, apply_all, send};
use super::chats;
use super::queue::{OPEN_ROWS, open_row, status};
use crate::sql::{OPEN, QUEUED, SENDING};

/// Whether a new message is the head of its recipient queue; `None` if the channel is one queue.
pub(super) fn is_head(
    connection: &Connection,
    ordering: Ordering,
    channel: ChannelKey,
    recipient: &str,
) -> rusqlite::Result<Option<bool>> {
    if ordering == Ordering::Channel {
        return Ok(None);
    }
    let sql = format!(
        "SELECT 1 FROM messages INDEXED BY messages_of_recipient
         WHERE channel_key = ?1 AND recipient = ?2 AND head IS NOT NULL AND {OPEN}"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(Some(!statement.exists(params![channel, recipient])?))
}

/// Elects the head of a recipient queue again after one of its messages has changed. A message in flight stays head
/// until its outcome.
pub(super) fn elect_head(writing: &Writing, channel: ChannelKey, seq: Seq) -> rusqlite::Result<()> {
    let sql = "SELECT recipient FROM messages WHERE seq = ?1";
    let recipient: String = writing.connection.prepare_cached(sql)?.query_row([seq], |row| row.get(0))?;
    let first = |head: u8| -> rusqlite::Result<Option<(Seq, u8)>> {
        let sql = format!(
            "SELECT seq, status FROM messages INDEXED BY messages_of_recipient
             WHERE channel_key = ?1 AND recipient = ?2 AND head = ?3 AND head IS NOT NULL AND {OPEN}
             ORDER BY seq LIMIT 1"
        );
        let mut statement = writing.connection.prepare_cached(&sql)?;
        let found = statement.query_row(params![channel, recipient, head], |row| Ok((row.get(0)?, row.get(1)?)));
        found.optional()
    };
    let mark = |seq: Seq, head: u8| {
        let sql = "UPDATE messages SET head = ?2 WHERE seq = ?1";
        writing.connection.prepare_cached(sql)?.execute(params![seq, head]).map(drop)
    };
    let (head, behind) = (first(1)?, first(0)?);
    match (head, behind) {
        (None, Some((next, _))) => mark(next, 1),
        // An older message was queued again.
        (Some((head, number)), Some((next, _))) if next < head && status(number)? == MessageStatus::Queued => {
            mark(head, 0)?;
            mark(next, 1)
        }
        _ => Ok(()),
    }
}

/// A claim on such a channel.
pub(super) fn claim(
    writing: &mut Writing,
    queue: ChannelQueue,
    request: &ClaimRequest,
) -> rusqlite::Result<(Vec<Claimed>, NextWakeup)> {
    let mut wakeup = NextWakeup::default();
    if request.orphans != UnheldSending::LeaseLive {
        rescue_all(writing, request)?;
    }
    if resends(request, &queue) {
        resend_unknown(writing, queue, request, &mut wakeup)?;
    }
    let outdated = outdated(writing, request, queue)?;
    let sends = outdated.may_send(&queue, request, &mut wakeup);
    apply_all(writing, outdated.ends)?;
    if !sends {
        return Ok((Vec::new(), wakeup));
    }
    let sent = send_ready(writing, queue, request, &mut wakeup)?;
    look_for_waiting(writing, request, &mut wakeup)?;
    Ok((sent, wakeup))
}

/// Rescues all messages that are `SENDING` and that the process does not have in flight.
fn rescue_all(writing: &mut Writing, request: &ClaimRequest) -> rusqlite::Result<()> {
    let sql = format!(
        "SELECT seq FROM messages INDEXED BY messages_on_their_way
         WHERE channel_key = ?1 AND head IS NOT NULL AND {SENDING}"
    );
    let mut statement = writing.connection.prepare_cached(&sql)?;
    let sending = statement.query_map([request.channel], |row| row.get(0))?.collect::<rusqlite::Result<Vec<Seq>>>()?;
    drop(statement);
    let orphans = sending.into_iter().filter(|seq| !request.held.contains(seq));
    apply_all(writing, orphans.filter_map(|seq| rescue(seq, request)))
}

/// Queues messages again that were `UNKNOWN` for long enough.
fn resend_unknown(
    writing: &mut Writing,
    queue: ChannelQueue,
    request: &ClaimRequest,
    wakeup: &mut NextWakeup,
) -> rusqlite::Result<()> {
    let mut statement = writing.connection.prepare_cached(
        "SELECT seq, resend_at, expires_at FROM messages INDEXED BY messages_to_resend
         WHERE channel_key = ?1 AND resend_at IS NOT NULL ORDER BY resend_at LIMIT ?2",
    )?;
    let most = i64::try_from(FINISH_AT_ONCE).unwrap_or(i64::MAX);
    let first = statement.query_map(params![request.channel, most], |row| {
        Ok(Resendable { seq: row.get(0)?, resend_at: row.get(1)?, expires_at: row.get(2)? })
    })?;
    let first = first.collect::<rusqlite::Result<Vec<_>>>()?;
    drop(statement);
    let resends = resend((&first, FINISH_AT_ONCE), request, &queue, wakeup);
    for seq in resends.left {
        let sql = "UPDATE messages SET resend_at = NULL WHERE seq = ?1";
        writing.connection.prepare_cached(sql)?.execute([seq])?;
    }
    apply_all(writing, resends.again)
}

/// Keeps `UNKNOWN` messages as they are: the policy was changed, or the channel is gone.
pub(super) fn leave_unknown(writing: &Writing, channel: ChannelKey) -> rusqlite::Result<()> {
    let sql = "UPDATE messages INDEXED BY messages_to_resend SET resend_at = NULL
               WHERE channel_key = ?1 AND resend_at IS NOT NULL";
    writing.connection.prepare_cached(sql)?.execute([channel])?;
    Ok(())
}

/// The messages to end from the head of the queue.
fn outdated(writing: &Writing, request: &ClaimRequest, queue: ChannelQueue) -> rusqlite::Result<Outdated> {
    let mut statement = writing.connection.prepare_cached(&OPEN_ROWS)?;
    let mut rows = statement.query([request.channel, 0])?;
    let mut outdated = Outdated::default();
    while let Some(row) = rows.next()? {
        if !outdated.decide(&open_row(row)?, &queue, request, FINISH_AT_ONCE) {
            break;
        }
    }
    Ok(outdated)
}

/// Sends heads: first those whose time has come, then those that never had to wait, in queue order.
fn send_ready(
    writing: &mut Writing,
    queue: ChannelQueue,
    request: &ClaimRequest,
    wakeup: &mut NextWakeup,
) -> rusqlite::Result<Vec<Claimed>> {
    let most = if request.send_interval > 0 { 1 } else { request.limit };
    let (mut sent, mut passed) = (Vec::new(), 0);
    while sent.len() < most {
        let ready = ready(writing, request, most - sent.len())?;
        if ready.is_empty() {
            break;
        }
        if passed >= FINISH_AT_ONCE {
            wakeup.schedule(request.now);
            break;
        }
        for Ready { message, recipient, resent } in ready {
            if message.is_dropped(resent, request) {
                message.finish(Finish::Dropped, request.now).map(|end| apply(writing, &end)).transpose()?;
                passed += 1;
            } else if let Some(free_at) = paced_until(writing, request, &recipient)? {
                let sql = "UPDATE messages SET run_at = ?2 WHERE seq = ?1";
                writing.connection.prepare_cached(sql)?.execute(params![message.seq, free_at])?;
                passed += 1;
            } else if let Some(transition) = message.send(request, &queue) {
                sent.push(send(writing, &transition)?);
            }
        }
    }
    sent.sort_unstable_by_key(|message| message.seq);
    // With an interval between sends, the claim after it is the next send.
    if request.send_interval > 0 && !sent.is_empty() {
        wakeup.schedule(request.now + request.send_interval);
    }
    Ok(sent)
}

struct Ready {
    message: Queued,
    recipient: String,
    resent: bool,
}

fn ready(writing: &Writing, request: &ClaimRequest, most: usize) -> rusqlite::Result<Vec<Ready>> {
    let (channel, mut ready) = (request.channel, Vec::new());
    for times in ["run_at BETWEEN 1 AND ?2 ORDER BY run_at, seq", "run_at = 0 AND ?2 > 0 ORDER BY seq"] {
        let mut statement = writing.connection.prepare_cached(&format!(
            "SELECT seq, expires_at, unanswered, recipient, resent FROM messages INDEXED BY messages_ready
             WHERE channel_key = ?1 AND head = 1 AND {QUEUED} AND {times} LIMIT ?3"
        ))?;
        let limit = i64::try_from(most - ready.len()).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![channel, request.now, limit], |row| {
            let message = Queued { channel, seq: row.get(0)?, expires_at: row.get(1)?, unanswered: row.get(2)? };
            Ok(Ready { message, recipient: row.get(3)?, resent: row.get(4)? })
        })?;
        for row in rows {
            ready.push(row?);
        }
    }
    Ok(ready)
}

/// Uses a slot of the recipient's rate limit for a message, or returns when there will be one.
fn paced_until(writing: &Writing, request: &ClaimRequest, recipient: &str) -> rusqlite::Result<Option<Millis>> {
    let Some(pacing) = request.recipient_pacing else { return Ok(None) };
    let sql = "SELECT used_until FROM recipient_pace WHERE channel_key = ?1 AND recipient = ?2";
    let mut statement = writing.connection.prepare_cached(sql)?;
    let used = statement.query_row(params![request.channel, recipient], |row| row.get(0)).optional()?;
    match pace(pacing, used, request.now) {
        Pace::At(free_at) => Ok(Some(free_at)),
        Pace::Now { used_until } => {
            let sql = "INSERT OR REPLACE INTO recipient_pace (channel_key, recipient, used_until) VALUES (?1, ?2, ?3)";
            writing.connection.prepare_cached(sql)?.execute(params![request.channel, recipient, used_until])?;
            Ok(None)
        }
    }
}

/// Sends nothing to the recipient of a message before this time, on a channel that is one queue. No later message
/// passes this one, even with the other form of the recipient's number.
pub(super) fn defer(writing: &Writing, seq: Seq, until: Millis) -> rusqlite::Result<()> {
    // The message was erased meanwhile.
    let Some(recipient) = chats::recipient(writing, seq)? else { return Ok(()) };
    let sql = "INSERT OR REPLACE INTO recipient_pace (channel_key, recipient, used_until)
               SELECT channel_key, ?2, ?3 FROM messages WHERE seq = ?1";
    let mut statement = writing.connection.prepare_cached(sql)?;
    for form in forms(&recipient) {
        statement.execute(params![seq, form, until])?;
    }
    Ok(())
}

/// Until when nothing is sent to this recipient.
pub(super) fn held_until(
    connection: &Connection,
    (channel, recipient): (ChannelKey, &str),
    now: Millis,
) -> rusqlite::Result<Option<Millis>> {
    let sql = "SELECT used_until FROM recipient_pace WHERE channel_key = ?1 AND recipient = ?2 AND used_until > ?3";
    connection.prepare_cached(sql)?.query_row(params![channel, recipient, now], |row| row.get(0)).optional()
}

/// When the next first message is due that waits for a time.
fn look_for_waiting(writing: &Writing, request: &ClaimRequest, wakeup: &mut NextWakeup) -> rusqlite::Result<()> {
    let sql = format!(
        "SELECT run_at, expires_at FROM messages INDEXED BY messages_ready
         WHERE channel_key = ?1 AND head = 1 AND {QUEUED} AND run_at > ?2 ORDER BY run_at LIMIT 1"
    );
    let mut statement = writing.connection.prepare_cached(&sql)?;
    let found: Option<(Millis, Millis)> =
        statement.query_row(params![request.channel, request.now], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    if let Some((run_at, expires_at)) = found {
        wakeup.schedule(run_at.min(expires_at.max(request.now + 1)));
    }
    Ok(())
}
