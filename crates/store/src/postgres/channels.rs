//! Channels: their states, and the version of the directory.

use recado_domain::channel::{Actor, Channel, ChannelKey, ChannelMove, ChannelState, Recorded};
use recado_domain::clock::Millis;
use recado_domain::event::{Owner, Recording};
use recado_domain::message::Seq;

use super::events;
use super::lock::Locked;
use crate::commits::Reached;
use crate::common::channels::{COLUMNS, if_known};
use crate::sqlkit::both::{Executor, values};
use crate::sqlkit::postgres::db::{Db, Done, args};

/// The highest number that any message was given, including numbers that are not visible yet.
pub(super) const LAST_SEQ: &str = "coalesce(pg_sequence_last_value('messages_seq_seq'), 0)";

/// Resets the scan cursor, so that the next claim scans the messages before it again.
pub(super) const RESET_CURSOR: &str = "front_before = 0, front_until = NULL, front_latest = 0, front_per_day = NULL";

/// Marks the channel as changed for the other nodes. The lock of the channel is held, so all transactions take the two
/// locks in one order.
pub(super) async fn stamp(db: Db<'_>, key: ChannelKey) -> Done<()> {
    let sql = "WITH changed AS (UPDATE directory SET version = version + 1 RETURNING version)
               UPDATE channels SET version = changed.version FROM changed WHERE key = $1";
    db.run(sql, args![key]).await?;
    Ok(())
}

/// Locks the channels of an owner, and then the institution; `false` when there is no such institution.
pub(super) async fn lock_owner(db: Db<'_>, (institution, environment): Owner) -> Done<bool> {
    let (institution, environment) = (&institution.as_bytes()[..], environment.name());
    let owner = args![institution, environment];
    let lock = "SELECT key FROM channels WHERE institution_id = $1 AND environment = $2 ORDER BY key FOR NO KEY UPDATE";
    db.rows(lock, owner).await?;
    Ok(db.row("SELECT FROM institutions WHERE id = $1 FOR UPDATE", &owner[..1]).await?.is_some())
}

/// Which events of the messages of these channels are recorded, of those that are made later as well.
pub(super) async fn record_messages(db: Db<'_>, (institution, environment): Owner, recording: Recording) -> Done<()> {
    let (institution, environment) = (&institution.as_bytes()[..], environment.name());
    let (on, queued) = (recording != Recording::Off, recording == Recording::All);
    if on {
        let sql = "INSERT INTO event_consumers (institution_id, environment, queued) VALUES ($1, $2, $3)
                   ON CONFLICT (institution_id, environment) DO UPDATE SET queued = excluded.queued";
        db.run(sql, args![institution, environment, queued]).await?;
    } else {
        let sql = "DELETE FROM event_consumers WHERE institution_id = $1 AND environment = $2";
        db.run(sql, args![institution, environment]).await?;
    }
    let sql = "UPDATE channels SET records_messages = $3, records_queued = $4
               WHERE institution_id = $1 AND environment = $2 AND (records_messages, records_queued) <> ($3, $4)";
    db.run(sql, args![institution, environment, on, queued]).await?;
    Ok(())
}

/// Moves a channel from the expected state; `false` when it was in another, or is deleted.
pub(super) async fn move_to(db: Db<'_>, key: ChannelKey, to: &ChannelMove) -> Done<bool> {
    move_and_record(db, key, to, to.into()).await
}

async fn move_and_record(db: Db<'_>, key: ChannelKey, to: &ChannelMove, what: Recorded) -> Done<bool> {
    let connected_at = (to.to == ChannelState::Connected).then_some(to.at);
    let sql = format!(include_str!("channels/move.sql"), RESET_CURSOR = RESET_CURSOR);
    let (from, next, keeps) = (to.from.name(), to.to.name(), to.to.keeps_restriction());
    if db.run(&sql, args![key, from, next, to.reason.as_deref(), connected_at, keeps]).await? == 0 {
        return Ok(false);
    }
    events::record(db, key, &what, to.at).await?;
    if let Some(reached) = db.reached {
        reached.extend(std::iter::once(Reached::Channel { channel: key, state: to.to }));
    }
    Ok(true)
}

/// Restricts a channel until this time: it opens no chats. A later end that is already stored stays.
pub(super) async fn restrict(db: Db<'_>, locked: &mut Locked, until: Millis, reason: &str, now: Millis) -> Done<bool> {
    if !locked.queue.can_be_restricted() {
        return Ok(false);
    }
    if locked.queue.dispatches() {
        let (from, to, reason) = (locked.queue.state, ChannelState::Restricted, Some(reason.to_owned()));
        let to = ChannelMove { from, to, reason, by: Actor::Network, at: now };
        let until = locked.queue.restricted_until.map_or(until, |earlier| earlier.max(until));
        move_and_record(db, locked.key, &to, Recorded { until: Some(until), ..(&to).into() }).await?;
    }
    let sql =
        format!("UPDATE channels SET restricted_until = greatest(restricted_until, $2), {RESET_CURSOR} WHERE key = $1");
    db.run(&sql, args![locked.key, until]).await?;
    locked.read_again(db).await?;
    Ok(true)
}

/// Pauses a sending channel because its network refused this message, unless a person has connected it since the
/// message was sent.
pub(super) async fn pause(db: Db<'_>, locked: &mut Locked, reason: &str, seq: Seq, now: Millis) -> Done<()> {
    let sent = db.row("SELECT connection FROM messages WHERE seq = $1", args![seq]).await?;
    if !locked.queue.is_paused_by(seq, sent.and_then(|row| row.get("connection"))) {
        return Ok(());
    }
    let (from, to, reason) = (locked.queue.state, ChannelState::Paused, Some(reason.to_owned()));
    move_to(db, locked.key, &ChannelMove { from, to, reason, by: Actor::Network, at: now }).await?;
    locked.read_again(db).await
}

/// Clears the time before which the channel sends nothing: after a new link, limits of the former link are void.
pub(super) async fn clear_deferral(db: Db<'_>, key: ChannelKey) -> Done<()> {
    db.run("UPDATE channels SET next_send_at = 0 WHERE key = $1", args![key]).await?;
    Ok(())
}

/// The channels that were changed after this version of the directory.
pub(super) async fn since(db: Db<'_>, version: i64) -> Done<Vec<Channel>> {
    let sql = format!("SELECT {COLUMNS} FROM channels WHERE version > ?1 ORDER BY key");
    Ok(Executor::rows(&db, &sql, values![version], if_known).await?.into_iter().flatten().collect())
}
