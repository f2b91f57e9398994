//! Channels: their states, and the cache of the writing thread.

use std::collections::HashMap;

use recado_domain::channel::{Actor, ChannelKey, ChannelMove, ChannelState, Recorded};
use recado_domain::clock::Millis;
use recado_domain::event::{Owner, Recording};
use recado_domain::message::Seq;
use recado_domain::queue::{ChannelQueue, ScanCursor};
use rusqlite::{Connection, OptionalExtension, params};

use super::{CachedChannel, Writing, events};
use crate::commits::{Change, Reached};
use crate::common::channels::{COLUMNS, channel};
use crate::sql::OPEN;
use crate::sqlkit::both::{Executor, Read, Row, at_once, values};

/// The cached state of a row's channel, without open messages.
fn known(row: &Row<'_>) -> Read<(ChannelKey, CachedChannel)> {
    let channel = channel(row)?;
    let queue = ChannelQueue {
        was_connected: channel.connected_at.is_some(),
        deleted: channel.deleted_at.is_some(),
        next_send_at: channel.next_send_at,
        restricted_until: channel.restricted_until,
        cancel_before: row.get("cancel_before")?,
        connections: row.get("connections")?,
        session: channel.session,
        records_messages: row.get("records_messages")?,
        records_queued: row.get("records_queued")?,
        ..ChannelQueue::of(channel.kind, channel.state)
    };
    Ok((channel.key, CachedChannel { queue, open: 0 }))
}

/// The cached state of all channels, read from the file.
pub(super) fn queues(connection: &Connection) -> rusqlite::Result<HashMap<ChannelKey, CachedChannel>> {
    let all = at_once(connection.rows(&format!("SELECT {COLUMNS} FROM channels"), values![], known))?;
    let mut queues: HashMap<ChannelKey, CachedChannel> = all.into_iter().collect();
    let sql = format!(
        "SELECT channel_key, count(*) AS open FROM messages JOIN channels ON key = channel_key
         WHERE {OPEN} AND abs(seq) > cancel_before GROUP BY channel_key"
    );
    for (key, open) in
        at_once(connection.rows(&sql, values![], |row| Ok((row.get("channel_key")?, row.number("open")?))))?
    {
        if let Some(known) = queues.get_mut(&key) {
            known.open = open;
        }
    }
    Ok(queues)
}

/// Adds a new channel to the cache.
pub(super) fn cache_channel(writing: &mut Writing, key: ChannelKey) -> rusqlite::Result<()> {
    let sql = format!("SELECT {COLUMNS} FROM channels WHERE key = ?1");
    let made = at_once(writing.connection.row(&sql, values![key], known))?;
    writing.queues.extend(made);
    Ok(())
}

/// Which events of the messages of these channels are recorded, of those that are made later as well.
pub(super) fn record_messages(
    writing: &mut Writing,
    (institution, environment): Owner,
    recording: Recording,
) -> rusqlite::Result<()> {
    let (institution, environment) = (institution.as_bytes(), environment.name());
    let (on, queued) = (recording != Recording::Off, recording == Recording::All);
    if on {
        let sql = "INSERT INTO event_consumers (institution_id, environment, queued) VALUES (?1, ?2, ?3)
                   ON CONFLICT (institution_id, environment) DO UPDATE SET queued = excluded.queued";
        writing.connection.prepare_cached(sql)?.execute(params![institution, environment, queued])?;
    } else {
        let sql = "DELETE FROM event_consumers WHERE institution_id = ?1 AND environment = ?2";
        writing.connection.prepare_cached(sql)?.execute(params![institution, environment])?;
    }
    let sql = "UPDATE channels SET records_messages = ?3, records_queued = ?4
               WHERE institution_id = ?1 AND environment = ?2 RETURNING key";
    let mut statement = writing.connection.prepare_cached(sql)?;
    let keys = statement.query_map(params![institution, environment, on, queued], |row| row.get("key"))?;
    let keys: Vec<ChannelKey> = keys.collect::<rusqlite::Result<_>>()?;
    drop(statement);
    for key in keys {
        if let Some(queue) = writing.queue(key) {
            (queue.records_messages, queue.records_queued) = (on, queued);
        }
    }
    Ok(())
}

pub(super) fn move_to(writing: &mut Writing, key: ChannelKey, to: &ChannelMove) -> rusqlite::Result<bool> {
    move_and_record(writing, key, to, &to.into())
}

fn move_and_record(
    writing: &mut Writing,
    key: ChannelKey,
    to: &ChannelMove,
    what: &Recorded,
) -> rusqlite::Result<bool> {
    let next = to.to;
    let connected_at = (next == ChannelState::Connected).then_some(to.at);
    let keeps_restriction = next.keeps_restriction();
    let moved = writing
        .connection
        .prepare_cached(
            "UPDATE channels
             SET state = ?3, state_reason = ?4, connected_at = coalesce(connected_at, ?5),
                 connections = connections + (?5 IS NOT NULL), restricted_until = iif(?6, restricted_until, NULL)
             WHERE key = ?1 AND state = ?2 AND deleted_at IS NULL",
        )?
        .execute(params![key, to.from.name(), next.name(), to.reason, connected_at, keeps_restriction])?;
    if moved == 1 {
        events::record(&writing.connection, key, what, to.at)?;
        writing.reached.push(Reached::Channel { channel: key, state: next });
    }
    if let Some(queue) = writing.queue(key).filter(|_| moved == 1) {
        queue.state = next;
        queue.was_connected |= connected_at.is_some();
        queue.connections += i64::from(connected_at.is_some());
        queue.restricted_until = queue.restricted_until.filter(|_| keeps_restriction);
        queue.cursor = ScanCursor::default();
        writing.notify(Change::Work(key));
    }
    Ok(moved == 1)
}

/// Restricts a channel until this time: it opens no chats. A later end that is already stored stays.
pub(super) fn restrict(
    writing: &mut Writing,
    key: ChannelKey,
    until: Millis,
    reason: &str,
    now: Millis,
) -> rusqlite::Result<bool> {
    let queue = writing.queue(key).copied().filter(ChannelQueue::can_be_restricted);
    let Some(queue) = queue else { return Ok(false) };
    let until = queue.restricted_until.map_or(until, |earlier| earlier.max(until));
    if queue.dispatches() {
        let (from, to, reason) = (queue.state, ChannelState::Restricted, Some(reason.to_owned()));
        let to = ChannelMove { from, to, reason, by: Actor::Network, at: now };
        move_and_record(writing, key, &to, &Recorded { until: Some(until), ..(&to).into() })?;
    }
    writing
        .connection
        .prepare_cached("UPDATE channels SET restricted_until = ?2 WHERE key = ?1")?
        .execute(params![key, until])?;
    if let Some(queue) = writing.queue(key) {
        queue.restricted_until = Some(until);
        queue.cursor = ScanCursor::default();
    }
    Ok(true)
}

/// Pauses a sending channel because its network refused this message, unless a person has connected it since the
/// message was sent.
pub(super) fn pause(
    writing: &mut Writing,
    key: ChannelKey,
    reason: &str,
    seq: Seq,
    now: Millis,
) -> rusqlite::Result<()> {
    let Some(queue) = writing.queue(key).copied() else { return Ok(()) };
    let sql = "SELECT connection FROM messages WHERE seq = ?1";
    let sent_under =
        writing.connection.prepare_cached(sql)?.query_row([seq], |row| row.get("connection")).optional()?.flatten();
    if queue.is_paused_by(seq, sent_under) {
        let (from, to, reason) = (queue.state, ChannelState::Paused, Some(reason.to_owned()));
        move_to(writing, key, &ChannelMove { from, to, reason, by: Actor::Network, at: now })?;
    }
    Ok(())
}

/// Clears the time before which the channel sends nothing: after a new link, limits of the former link are void.
pub(super) fn clear_deferral(writing: &mut Writing, key: ChannelKey) -> rusqlite::Result<()> {
    writing.connection.prepare_cached("UPDATE channels SET next_send_at = 0 WHERE key = ?1")?.execute([key])?;
    if let Some(queue) = writing.queue(key) {
        queue.next_send_at = 0;
    }
    Ok(())
}
