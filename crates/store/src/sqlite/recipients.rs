//! Channels on which each recipient is a line of its own: the first open message of each is marked, so that a claim
//! looks at first ones only.

use recado_domain::channel::{ChannelKey, Ordering};
use recado_domain::clock::{Millis, millis};
use recado_domain::message::Seq;
use recado_domain::pacing::RecipientPacing;
use recado_domain::queue::{ClaimRequest, Claimed, Orphans, Unanswered};
use recado_domain::status::MessageStatus;
use rusqlite::{Connection, OptionalExtension, params};

use super::Writing;
use super::claim::{OPEN, end, open_row, settle_orphan, take};
use super::queue::{Details, move_message, status};
use crate::line::{END_AT_ONCE, Line, Look};

/// Whether a new message is the first of its recipient's open ones; `None` where the channel is one line.
pub(super) fn seat_of_new(
    connection: &Connection,
    ordering: Ordering,
    channel: ChannelKey,
    recipient: &str,
) -> rusqlite::Result<Option<bool>> {
    if ordering == Ordering::Channel {
        return Ok(None);
    }
    let mut statement = connection.prepare_cached(
        "select 1 from messages indexed by messages_of_recipient
         where channel_key = ?1 and recipient = ?2 and head is not null and status <= 1",
    )?;
    Ok(Some(!statement.exists(params![channel, recipient])?))
}

/// Marks the first open message of a line anew, after a message of it has changed. One that is on its way stays first
/// until it is back.
pub(super) fn seat(writing: &Writing, channel: ChannelKey, seq: Seq) -> rusqlite::Result<()> {
    let sql = "select recipient from messages where seq = ?1";
    let recipient: String = writing.connection.prepare_cached(sql)?.query_row([seq], |row| row.get(0))?;
    let first = |head: u8| -> rusqlite::Result<Option<(Seq, u8)>> {
        let mut statement = writing.connection.prepare_cached(
            "select seq, status from messages indexed by messages_of_recipient
             where channel_key = ?1 and recipient = ?2 and head = ?3 and head is not null and status <= 1
             order by seq limit 1",
        )?;
        let found = statement.query_row(params![channel, recipient, head], |row| Ok((row.get(0)?, row.get(1)?)));
        found.optional()
    };
    let mark = |seq: Seq, head: u8| {
        let sql = "update messages set head = ?2 where seq = ?1";
        writing.connection.prepare_cached(sql)?.execute(params![seq, head]).map(drop)
    };
    let (head, behind) = (first(1)?, first(0)?);
    match (head, behind) {
        (None, Some((next, _))) => mark(next, 1),
        // An older one was queued again.
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
    line: Line,
    request: &ClaimRequest,
) -> rusqlite::Result<(Vec<Claimed>, Look)> {
    let mut look = Look::default();
    if request.orphans != Orphans::Claimed {
        end_orphans(writing, request)?;
    }
    let dispatches = line.dispatches();
    if dispatches && matches!(request.unanswered, Unanswered::Unknown(Some(_))) {
        queue_unknown(writing, line, request, &mut look)?;
    }
    let Some(front) = end_old(writing, request, line, &mut look)? else { return Ok((Vec::new(), look)) };
    // What waits for whatever may grow too old before.
    look.again(front);
    if !dispatches || request.limit == 0 {
        return Ok((Vec::new(), look));
    }
    if line.next_send_at > request.now {
        look.again(line.next_send_at);
        return Ok((Vec::new(), look));
    }
    let taken = take_ready(writing, request, &mut look)?;
    look_for_waiting(writing, request, &mut look)?;
    Ok((taken, look))
}

/// Deals with all that is `SENDING` and in nobody's hand.
fn end_orphans(writing: &mut Writing, request: &ClaimRequest) -> rusqlite::Result<()> {
    let mut statement = writing.connection.prepare_cached(
        "select seq from messages indexed by messages_on_their_way
         where channel_key = ?1 and head is not null and status = 1",
    )?;
    let sending = statement.query_map([request.channel], |row| row.get(0))?.collect::<rusqlite::Result<Vec<Seq>>>()?;
    drop(statement);
    for seq in sending.into_iter().filter(|seq| !request.held.contains(seq)) {
        settle_orphan(writing, seq, request.gives_back_orphans(), request)?;
    }
    Ok(())
}

/// Queues again what was `UNKNOWN` for long enough. What has expired meanwhile, or is of a deleted channel, stays `UNKNOWN`.
fn queue_unknown(writing: &mut Writing, line: Line, request: &ClaimRequest, look: &mut Look) -> rusqlite::Result<()> {
    let mut statement = writing.connection.prepare_cached(
        "select seq, resend_at, expires_at from messages indexed by messages_to_resend
         where channel_key = ?1 and resend_at is not null order by resend_at limit ?2",
    )?;
    let most = i64::try_from(END_AT_ONCE).unwrap_or(i64::MAX);
    let rows =
        statement.query_map(params![request.channel, most], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let rows = rows.collect::<rusqlite::Result<Vec<(Seq, Millis, Millis)>>>()?;
    drop(statement);
    let full = rows.len() == END_AT_ONCE;
    for (seq, resend_at, expires_at) in rows {
        if resend_at > request.now {
            look.again(resend_at);
            return Ok(());
        }
        if expires_at <= request.now || line.is_former(seq) {
            let sql = "update messages set resend_at = null where seq = ?1";
            writing.connection.prepare_cached(sql)?.execute([seq])?;
            continue;
        }
        let step = (MessageStatus::Unknown, MessageStatus::Queued);
        move_message(writing, (request.channel, seq), step, &Details::default(), request.now)?;
        let sql = "update messages set unanswered = 1, resent = 1 where seq = ?1";
        writing.connection.prepare_cached(sql)?.execute([seq])?;
    }
    if full {
        // All of them were due: so may be the next.
        look.again(request.now);
    }
    Ok(())
}

/// Leaves what is `UNKNOWN` as it is from now on: the policy was changed, or the channel is gone.
pub(super) fn leave_unknown(writing: &Writing, channel: ChannelKey) -> rusqlite::Result<()> {
    let sql = "update messages indexed by messages_to_resend set resend_at = null
               where channel_key = ?1 and resend_at is not null";
    writing.connection.prepare_cached(sql)?.execute([channel])?;
    Ok(())
}

/// Ends what is too old, or was queued before the channel was deleted, from the front of the backlog; gives when the first of what is
/// left will be too old. Messages expire in the order of their acceptance, unless the setting was changed meanwhile;
/// those out of order are found when their turn comes.
fn end_old(
    writing: &mut Writing,
    request: &ClaimRequest,
    line: Line,
    look: &mut Look,
) -> rusqlite::Result<Option<Millis>> {
    let mut statement = writing.connection.prepare_cached(OPEN)?;
    let mut rows = statement.query([request.channel])?;
    let (mut old, mut front) = (Vec::new(), None);
    while let Some(row) = rows.next()? {
        let row = open_row(row)?;
        if row.status == MessageStatus::Sending {
            continue;
        }
        if row.expires_at > request.now && !line.cancels(row.seq) {
            front = Some(row.expires_at);
            break;
        }
        if old.len() == END_AT_ONCE {
            look.again(request.now);
            break;
        }
        old.push((row.seq, row.expires_at));
    }
    drop(rows);
    drop(statement);
    for (seq, expires_at) in old {
        end(writing, seq, expires_at, request)?;
    }
    Ok(front)
}

/// Takes first messages: those whose time has come, then those that never had to wait, in the order of the queue.
fn take_ready(writing: &mut Writing, request: &ClaimRequest, look: &mut Look) -> rusqlite::Result<Vec<Claimed>> {
    let most = if request.rest > 0 { 1 } else { request.limit };
    let (mut taken, mut passed) = (Vec::new(), 0);
    while taken.len() < most {
        let ready = ready(writing, request, most - taken.len())?;
        if ready.is_empty() {
            break;
        }
        if passed >= END_AT_ONCE {
            look.again(request.now);
            break;
        }
        for Ready { seq, recipient, expires_at, resent } in ready {
            // The policy that queued it again was taken back: it ends as UNKNOWN, like all whose card may have arrived.
            if expires_at <= request.now || (resent && request.unanswered == Unanswered::Unknown(None)) {
                end(writing, seq, expires_at, request)?;
                passed += 1;
            } else if let Some(free_at) = paced_until(writing, request, &recipient)? {
                let sql = "update messages set run_at = ?2 where seq = ?1";
                writing.connection.prepare_cached(sql)?.execute(params![seq, free_at])?;
                passed += 1;
            } else {
                taken.push(take(writing, seq, request)?);
            }
        }
    }
    taken.sort_unstable_by_key(|message| message.seq);
    // With a rest between sends, the claim after it is the next send.
    if request.rest > 0 && !taken.is_empty() {
        look.again(request.now + request.rest);
    }
    Ok(taken)
}

struct Ready {
    seq: Seq,
    recipient: String,
    expires_at: Millis,
    resent: bool,
}

fn ready(writing: &Writing, request: &ClaimRequest, most: usize) -> rusqlite::Result<Vec<Ready>> {
    let mut ready = Vec::new();
    for times in ["run_at between 1 and ?2 order by run_at, seq", "run_at = 0 and ?2 > 0 order by seq"] {
        let mut statement = writing.connection.prepare_cached(&format!(
            "select seq, recipient, expires_at, resent from messages indexed by messages_ready
             where channel_key = ?1 and head = 1 and status = 0 and {times} limit ?3"
        ))?;
        let limit = i64::try_from(most - ready.len()).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![request.channel, request.now, limit], |row| {
            Ok(Ready { seq: row.get(0)?, recipient: row.get(1)?, expires_at: row.get(2)?, resent: row.get(3)? })
        })?;
        for row in rows {
            ready.push(row?);
        }
    }
    Ok(ready)
}

/// Takes a message's share of what the network allows for one recipient; or says when there will be one.
///
/// The share is kept as the time until which it is used up: each message adds `every`, and a burst of n may run ahead
/// by n of them (the "generic cell rate algorithm", with one number for each recipient that was written to lately).
fn paced_until(writing: &Writing, request: &ClaimRequest, recipient: &str) -> rusqlite::Result<Option<Millis>> {
    let Some(RecipientPacing { burst, every }) = request.recipient_pacing else { return Ok(None) };
    let (every, channel, now) = (millis(every), request.channel, request.now);
    let sql = "select used_until from recipient_pace where channel_key = ?1 and recipient = ?2";
    let mut statement = writing.connection.prepare_cached(sql)?;
    let used: Option<Millis> = statement.query_row(params![channel, recipient], |row| row.get(0)).optional()?;
    let used = used.unwrap_or(now).max(now);
    let free_at = used - every * Millis::from(burst.saturating_sub(1));
    if free_at > now {
        return Ok(Some(free_at));
    }
    writing
        .connection
        .prepare_cached(
            "insert or replace into recipient_pace (channel_key, recipient, used_until) values (?1, ?2, ?3)",
        )?
        .execute(params![channel, recipient, used + every])?;
    Ok(None)
}

/// Sends nothing to a message's recipient before this time, on a channel whose messages are one line: none that stands
/// behind this one may pass it.
pub(super) fn hold(writing: &Writing, seq: Seq, until: Millis) -> rusqlite::Result<()> {
    let sql = "insert or replace into recipient_pace (channel_key, recipient, used_until)
               select channel_key, recipient, ?2 from messages where seq = ?1";
    writing.connection.prepare_cached(sql)?.execute(params![seq, until]).map(drop)
}

/// Until when nothing is sent to this recipient.
pub(super) fn held_until(
    connection: &Connection,
    (channel, recipient): (ChannelKey, &str),
    now: Millis,
) -> rusqlite::Result<Option<Millis>> {
    let sql = "select used_until from recipient_pace where channel_key = ?1 and recipient = ?2 and used_until > ?3";
    connection.prepare_cached(sql)?.query_row(params![channel, recipient, now], |row| row.get(0)).optional()
}

/// When the next first message is due that waits for a time.
fn look_for_waiting(writing: &Writing, request: &ClaimRequest, look: &mut Look) -> rusqlite::Result<()> {
    let mut statement = writing.connection.prepare_cached(
        "select run_at, expires_at from messages indexed by messages_ready
         where channel_key = ?1 and head = 1 and status = 0 and run_at > ?2 order by run_at limit 1",
    )?;
    let found: Option<(Millis, Millis)> =
        statement.query_row(params![request.channel, request.now], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    if let Some((run_at, expires_at)) = found {
        look.again(run_at.min(expires_at.max(request.now + 1)));
    }
    Ok(())
}
