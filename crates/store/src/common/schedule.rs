//! Scheduled messages. They enter the queue at their own time, not when they are accepted.
//!
//! A scheduled message has the status `QUEUED` and a negative `seq`, so no claim reads it. It also has a row in the
//! table `schedule`. A transaction locks the channel before it changes the `seq` or the row.

use std::collections::BTreeSet;
use std::time::Duration;

use recado_domain::channel::ChannelKey;
use recado_domain::clock::{Millis, millis};
use recado_domain::message::{Promoted, Seq, is_scheduled};
use recado_domain::queue::{Finish, Queued};

use super::Transaction;
use crate::commits::Change;
use crate::sqlkit::both::{Executor, List, Read, Row, values};

/// The most messages that one transaction queues. Claims wait for this transaction.
const AT_ONCE: i64 = 500;

/// A scheduled message whose time has come.
pub(crate) struct Due {
    pub seq: Seq,
    pub channel: ChannelKey,
    pub recipient: String,
    expires_at: Millis,
}

/// For how long after the deletion of a channel a node may still store a message on it.
const LATE: Duration = Duration::from_hours(1);

/// Queues the messages that are due, about [`AT_ONCE`] in one call. Each message goes to the end of its queue, those of a
/// channel in the order of their times.
pub(crate) async fn promote<T: Transaction>(tx: &mut T, now: Millis) -> Result<Promoted, T::Error> {
    let mut due = due(tx.db(), now).await?;
    if i64::try_from(due.len()) == Ok(AT_ONCE) {
        due = share(tx.db(), now, due[0].1).await?;
    }
    due.extend(left_behind(tx.db(), now).await?);
    let mut channels: Vec<_> = due.iter().map(|(_, channel)| *channel).collect();
    channels.sort_unstable();
    channels.dedup();
    let locked = tx.lock_some(&channels).await?;
    let ours = due.into_iter().filter(|(_, channel)| locked.contains_key(channel)).map(|(seq, _)| seq);
    // Reads the rows again, now under the locks. Before them another node may have queued a message, or a caller may
    // have cancelled it.
    let due = still_due(tx.db(), ours.collect()).await?;
    let (gone, next): (Vec<_>, Vec<_>) =
        due.into_iter().partition(|due| locked.get(&due.channel).is_none_or(|queue| queue.cancels(due.seq)));
    cancel(tx, &gone, now).await?;
    queue(tx, &next, now).await?;
    for channel in next.iter().map(|due| due.channel).collect::<BTreeSet<_>>() {
        tx.notify(Change::Accepted(channel));
    }
    Ok(Promoted { messages: gone.len() + next.len(), next_at: next_at(tx.db()).await? })
}

fn seq_and_channel(row: &Row<'_>) -> Read<(Seq, ChannelKey)> {
    Ok((row.get("seq")?, row.get("channel_key")?))
}

/// The messages that are due, at most [`AT_ONCE`], in the order of their times.
async fn due<E: Executor>(db: &E, now: Millis) -> Result<Vec<(Seq, ChannelKey)>, E::Error> {
    // Of messages with the same time, the message that was accepted first comes first. The numbers are negative, so its
    // `seq` is the highest.
    let sql = "SELECT seq, channel_key FROM schedule WHERE due_at <= ?1 ORDER BY due_at, seq DESC LIMIT ?2";
    db.rows(sql, values![now, AT_ONCE], seq_and_channel).await
}

/// An equal share of messages of each channel that has some due. Without this, a channel with many due messages would
/// delay all others. If more than [`AT_ONCE`] channels have due messages, those with the lowest keys have a share, and
/// `oldest`, the channel of the message that has waited longest.
async fn share<E: Executor>(db: &E, now: Millis, oldest: ChannelKey) -> Result<Vec<(Seq, ChannelKey)>, E::Error> {
    let sql = include_str!("schedule/channels.sql");
    let read = |row: &Row<'_>| row.get::<ChannelKey>("channel_key");
    let mut channels = db.rows(sql, values![now, AT_ONCE], read).await?;
    if !channels.contains(&oldest) {
        channels.push(oldest);
    }
    let each = (AT_ONCE / i64::try_from(channels.len()).unwrap_or(AT_ONCE)).max(1);
    db.rows(E::FIRST_DUE_OF_EACH, values![List(channels), now, each], seq_and_channel).await
}

/// Messages that a node has stored beside the deletion of their channel, so that the deletion did not see them. They are
/// read before their time, because they are to be cancelled.
async fn left_behind<E: Executor>(db: &E, now: Millis) -> Result<Vec<(Seq, ChannelKey)>, E::Error> {
    let deleted = "SELECT key FROM channels WHERE deleted_at > ?1";
    let deleted = db.rows(deleted, values![now - millis(LATE)], |row| row.get::<ChannelKey>("key")).await?;
    if deleted.is_empty() {
        return Ok(Vec::new());
    }
    let sql =
        format!("SELECT seq, channel_key FROM schedule WHERE {} AND due_at > ?2 LIMIT ?3", E::any("channel_key", 1));
    db.rows(&sql, values![List(deleted), now, AT_ONCE], seq_and_channel).await
}

/// The clock by which messages are due, if the store has one of its own. Nodes share the clock of their database, so a
/// node whose clock is wrong neither queues messages early nor leaves them late.
pub(crate) async fn clock<E: Executor>(db: &E) -> Result<Option<Millis>, E::Error> {
    Ok(db.row(E::CLOCK, values![], |row| row.get("now")).await?.flatten())
}

/// When the next message is due.
async fn next_at<E: Executor>(db: &E) -> Result<Option<Millis>, E::Error> {
    Ok(db.row("SELECT min(due_at) AS due_at FROM schedule", values![], |row| row.get("due_at")).await?.flatten())
}

async fn still_due<E: Executor>(db: &E, seqs: Vec<Seq>) -> Result<Vec<Due>, E::Error> {
    if seqs.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT m.seq, m.channel_key, m.recipient, m.expires_at
         FROM schedule s JOIN messages m ON m.seq = s.seq
         WHERE {} ORDER BY s.due_at, abs(s.seq)",
        E::any("s.seq", 1)
    );
    let read = |row: &Row<'_>| {
        let (seq, channel, recipient) = (row.get("seq")?, row.get("channel_key")?, row.get("recipient")?);
        Ok(Due { seq, channel, recipient, expires_at: row.get("expires_at")? })
    };
    db.rows(&sql, values![List(seqs)], read).await
}

/// Ends messages that were scheduled before their channel was deleted.
async fn cancel<T: Transaction>(tx: &mut T, gone: &[Due], now: Millis) -> Result<(), T::Error> {
    end(tx.db(), gone.iter().map(|due| due.seq)).await?;
    let ends: Vec<_> = gone
        .iter()
        .filter_map(|due| {
            let Due { channel, expires_at, .. } = *due;
            let message = Queued { channel, seq: due.seq.abs(), expires_at, unanswered: false };
            message.finish(Finish::Cancelled, now)
        })
        .collect();
    tx.apply(&ends).await
}

async fn queue<T: Transaction>(tx: &mut T, due: &[Due], now: Millis) -> Result<(), T::Error> {
    if due.is_empty() {
        return Ok(());
    }
    tx.queue_scheduled(due, now).await?;
    forget(tx.db(), List(due.iter().map(|due| due.seq).collect())).await
}

/// Removes these messages from the schedule, if they are in it. Each gets the positive form of its `seq`, its place in
/// the order of acceptance. After this call the messages can be ended like any others.
pub(crate) async fn end<E: Executor>(db: &E, seqs: impl Iterator<Item = Seq>) -> Result<(), E::Error> {
    let scheduled: Vec<Seq> = seqs.filter(|seq| is_scheduled(*seq)).collect();
    if scheduled.is_empty() {
        return Ok(());
    }
    let seqs = List(scheduled);
    db.run(&format!("UPDATE messages SET seq = -seq WHERE {}", E::any("seq", 1)), values![seqs]).await?;
    let events = format!("UPDATE events SET message_seq = -message_seq WHERE {}", E::any("message_seq", 1));
    db.run(&events, values![seqs]).await?;
    forget(db, seqs).await
}

async fn forget<E: Executor>(db: &E, seqs: List<Seq>) -> Result<(), E::Error> {
    db.run(&format!("DELETE FROM schedule WHERE {}", E::any("seq", 1)), values![seqs]).await.map(drop)
}

/// Makes all scheduled messages of a channel due now. [`promote`] then reads them, and cancels them if their channel
/// was deleted. A message that was already due keeps its time. The due messages of other channels are not delayed.
pub(crate) async fn bring_forward<E: Executor>(db: &E, channel: ChannelKey, now: Millis) -> Result<(), E::Error> {
    let sql = "UPDATE schedule SET due_at = ?2 WHERE channel_key = ?1 AND due_at > ?2";
    db.run(sql, values![channel, now]).await.map(drop)
}
