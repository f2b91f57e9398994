//! The queue: outcomes and cancellations. Every change of state goes through [`move_message`], but for a claim's own.

use recado_domain::channel::{ChannelKey, Ordering};
use recado_domain::clock::Millis;
use recado_domain::ids::MessageId;
use recado_domain::message::{Cancelled, Seq};
use recado_domain::queue::{Outcomes, SentCard, Settlement};
use recado_domain::status::MessageStatus;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Known, Writing, channels, chats, not_understood, receipts, recipients};
use crate::commits::Change;
use crate::line::reached_column;

/// What a change of state brings along.
#[derive(Default)]
pub(super) struct Details<'a> {
    /// The first one stands.
    pub account: Option<&'a str>,
    pub error: Option<(&'a str, &'a str)>,
    /// When an `UNKNOWN` message is queued again.
    pub resend_at: Option<Millis>,
}

/// Moves a message from one state to another; `false` when the move is not legal or the message was elsewhere.
pub(super) fn move_message(
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
             account = coalesce(account, ?5), error_code = ?6, error_message = ?7,
             -- Each is sent again once: a second copy may be one too many, a third one is.
             resend_at = iif(resent, null, ?8),
             -- One that comes back stands behind the others until it is given its seat.
             head = iif(status > 1, min(head, 0), head)
         where seq = ?1 and status = ?2 and channel_key = ?9"
    );
    let (code, message) = details.error.unzip();
    let changed = writing.connection.prepare_cached(&sql)?.execute(params![
        seq,
        from.number(),
        to.number(),
        now,
        details.account,
        code,
        message,
        details.resend_at,
        channel
    ])?;
    if changed == 0 {
        return Ok(false);
    }
    if let Some(Known { line, open }) = writing.lines.get_mut(&channel) {
        match (from.is_open(), to.is_open()) {
            _ if line.is_former(seq) => {}
            (true, false) => *open -= 1,
            (false, true) => *open += 1,
            _ => {}
        }
        if line.ordering == Ordering::Recipient {
            recipients::seat(writing, channel, seq)?;
        }
    }
    Ok(true)
}

pub(super) fn status(number: u8) -> rusqlite::Result<MessageStatus> {
    MessageStatus::from_number(number).ok_or_else(|| not_understood("message status"))
}

/// Nothing is sent on the channel before this time. Kept in the file, so that a restart does not forget it.
pub(super) fn hold(writing: &mut Writing, channel: ChannelKey, until: Millis) -> rusqlite::Result<()> {
    writing
        .connection
        .prepare_cached("update channels set next_send_at = max(next_send_at, ?2) where key = ?1")?
        .execute(params![channel, until])?;
    if let Some(line) = writing.line(channel) {
        line.next_send_at = line.next_send_at.max(until);
    }
    Ok(())
}

pub(super) fn record(writing: &mut Writing, outcomes: &Outcomes) -> rusqlite::Result<()> {
    let Outcomes { channel, settled, rest_until, now, .. } = outcomes;
    settled.iter().try_for_each(|(seq, settlement)| settle(writing, *channel, *seq, settlement, *now))?;
    rest_until.map_or(Ok(()), |until| hold(writing, *channel, until))
}

fn settle(
    writing: &mut Writing,
    channel: ChannelKey,
    seq: Seq,
    settlement: &Settlement,
    now: Millis,
) -> rusqlite::Result<()> {
    let plain = Details::default();
    let (to, details) = match settlement {
        Settlement::Sent { account, .. } => (MessageStatus::Sent, Details { account: account.as_deref(), ..plain }),
        Settlement::Failed { code, message } => {
            (MessageStatus::Failed, Details { error: Some((code, message)), ..plain })
        }
        Settlement::Retry { .. }
        | Settlement::RetryUnanswered { .. }
        | Settlement::Interrupted { .. }
        | Settlement::ChatRefused { .. }
        | Settlement::HoldRecipient { .. }
        | Settlement::HoldChannel { .. }
        | Settlement::PauseChannel { .. } => (MessageStatus::Queued, plain),
        Settlement::Unknown { resend_at, .. } => (MessageStatus::Unknown, Details { resend_at: *resend_at, ..plain }),
    };
    let moved = move_message(writing, (channel, seq), (MessageStatus::Sending, to), &details, now)?;
    // The troubles of a channel that was deleted since are none of the one in its place.
    let former = writing.line(channel).is_some_and(|line| line.is_former(seq));
    match settlement {
        Settlement::Retry { run_at } if moved => retry(writing, seq, *run_at)?,
        Settlement::RetryUnanswered { run_at } if moved => {
            retry(writing, seq, *run_at)?;
            note_unanswered(writing, seq)?;
        }
        Settlement::Interrupted { run_at } if moved => {
            let sql = "update messages set run_at = ?2, unanswered = 1 where seq = ?1";
            writing.connection.prepare_cached(sql)?.execute(params![seq, run_at])?;
        }
        Settlement::HoldRecipient { until, .. } if moved => {
            let sql = "update messages set run_at = ?2, recipient_holds = recipient_holds + 1 where seq = ?1";
            writing.connection.prepare_cached(sql)?.execute(params![seq, until])?;
            if writing.opens_chats(channel) && !former {
                recipients::hold(writing, seq, *until)?;
            }
        }
        Settlement::ChatRefused { .. } if former => {}
        Settlement::PauseChannel { reason } => channels::pause(writing, channel, reason, seq)?,
        Settlement::ChatRefused { until, reason } => {
            chats::forget(writing, (channel, seq))?;
            channels::restrict(writing, channel, *until, reason, now)?;
        }
        Settlement::Sent { account, remote_id, card } => {
            if !moved {
                // A receipt was faster than the acknowledgement; only what that adds is news.
                note_account(writing, seq, account.as_deref())?;
            }
            if let Some(card) = card {
                note_card(writing, seq, card)?;
            }
            if writing.opens_chats(channel) {
                chats::open(writing, (channel, seq), account.as_deref(), now)?;
            }
            if let Some(remote_id) = remote_id {
                receipts::name(writing, (channel, seq), remote_id)?;
            }
        }
        _ => {}
    }
    // The trouble is the channel's, whatever became of this message meanwhile.
    settlement.holds_channel().filter(|_| !former).map_or(Ok(()), |until| hold(writing, channel, until))
}

fn note_account(writing: &Writing, seq: Seq, account: Option<&str>) -> rusqlite::Result<()> {
    let sql = "update messages set account = coalesce(account, ?2) where seq = ?1";
    writing.connection.prepare_cached(sql)?.execute(params![seq, account])?;
    Ok(())
}

/// Keeps the card that was sent.
fn note_card(writing: &Writing, seq: Seq, sent: &SentCard) -> rusqlite::Result<()> {
    let sql = "update messages set card = ?2, card_account = ?3, card_account_known = ?4 where seq = ?1";
    let SentCard { card, account } = sent;
    writing.connection.prepare_cached(sql)?.execute(params![seq, card, account.digits, account.known])?;
    Ok(())
}

fn retry(writing: &Writing, seq: Seq, run_at: Millis) -> rusqlite::Result<()> {
    let sql = "update messages set run_at = ?2, failures = failures + 1 where seq = ?1";
    writing.connection.prepare_cached(sql)?.execute(params![seq, run_at])?;
    Ok(())
}

/// Remembers that the message's card may have arrived, whatever becomes of it now.
pub(super) fn note_unanswered(writing: &Writing, seq: Seq) -> rusqlite::Result<()> {
    writing.connection.prepare_cached("update messages set unanswered = 1 where seq = ?1")?.execute([seq])?;
    Ok(())
}

/// Ends a message that is queued and will not be sent any more. One whose card may have arrived is `UNKNOWN`: to say
/// that it expired or was cancelled would be a guess.
pub(super) fn end_queued(
    writing: &mut Writing,
    place: (ChannelKey, Seq),
    end: MessageStatus,
    now: Millis,
) -> rusqlite::Result<()> {
    let (queued, sending) = (MessageStatus::Queued, MessageStatus::Sending);
    let sql = "select unanswered from messages where seq = ?1";
    let unanswered: bool = writing.connection.prepare_cached(sql)?.query_row([place.1], |row| row.get(0))?;
    if unanswered {
        // There is no step from QUEUED to UNKNOWN, so it is taken by way of SENDING.
        move_message(writing, place, (queued, sending), &Details::default(), now)?;
        move_message(writing, place, (sending, MessageStatus::Unknown), &Details::default(), now)?;
    } else {
        move_message(writing, place, (queued, end), &Details::default(), now)?;
    }
    Ok(())
}

/// Ends as `UNKNOWN` what may have arrived from the number that the channel had before: from another one the card would
/// come a second time. On a network of sessions that goes for what is `SENDING`, too: the session that sent it is over.
pub(super) fn leave_unanswered(writing: &mut Writing, channel: ChannelKey, now: Millis) -> rusqlite::Result<()> {
    let in_hand = writing.opens_chats(channel);
    let left: Vec<(Seq, MessageStatus)> = writing
        .connection
        .prepare_cached(
            "select seq, status from messages indexed by messages_open
             where channel_key = ?1 and status <= 1 and (status = 0 and unanswered or status = 1 and ?2) order by seq",
        )?
        .query_map(params![channel, in_hand], |row| Ok((row.get(0)?, status(row.get(1)?)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (seq, from) in left {
        let unknown = MessageStatus::Unknown;
        if from == MessageStatus::Queued {
            end_queued(writing, (channel, seq), unknown, now)?;
        } else {
            move_message(writing, (channel, seq), (from, unknown), &Details::default(), now)?;
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
        .prepare_cached("select seq, unanswered from messages where id = ?1 and channel_key = ?2")?
        .query_row(params![id.as_bytes(), channel], |row| Ok((row.get::<_, Seq>(0)?, row.get::<_, bool>(1)?)))
        .optional()?;
    let Some((seq, unanswered)) = found else { return Ok(Cancelled::NoMessage) };
    let step = (MessageStatus::Queued, MessageStatus::Cancelled);
    // A card that may have arrived cannot be called back.
    let moved = !unanswered && move_message(writing, (channel, seq), step, &Details::default(), now)?;
    if moved {
        writing.tell(Change::Work(channel));
    }
    Ok(if moved { Cancelled::Done } else { Cancelled::TooLate })
}

/// Cancels what was queued before the channel was deleted.
pub(super) fn cancel_former(
    writing: &mut Writing,
    channel: ChannelKey,
    limit: usize,
    now: Millis,
) -> rusqlite::Result<usize> {
    let queued: Vec<Seq> = writing
        .connection
        .prepare_cached(
            "select seq from messages indexed by messages_open
             where channel_key = ?1 and status <= 1 and status = 0
               and seq <= (select cancel_before from channels where key = ?1) order by seq limit ?2",
        )?
        .query_map(params![channel, i64::try_from(limit).unwrap_or(i64::MAX)], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for seq in &queued {
        end_queued(writing, (channel, *seq), MessageStatus::Cancelled, now)?;
    }
    Ok(queued.len())
}

pub(super) fn open_channels(connection: &Connection) -> rusqlite::Result<Vec<ChannelKey>> {
    let sql = "select key from channels
               where exists (select 1 from messages indexed by messages_open where channel_key = key and status <= 1)";
    connection.prepare_cached(sql)?.query_map([], |row| row.get(0))?.collect()
}
