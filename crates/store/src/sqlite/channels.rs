//! Channels.

use std::collections::HashMap;

use async_trait::async_trait;
use recado_domain::api_key::Environment;
use recado_domain::channel::{
    Actor, Channel, ChannelEventPage, ChannelEventQuery, ChannelKey, ChannelMove, ChannelSettings, ChannelState,
    ChannelType, Held, NewChannel, Recorded,
};
use recado_domain::clock::Millis;
use recado_domain::ids::InstitutionId;
use recado_domain::message::Seq;
use recado_domain::queue::{ChannelQueue, ScanCursor};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Known, SqliteStore, Writing, chats, events, links, not_understood, queue, recipients, sessions, tenants};
use crate::commits::Change;
use crate::sql::OPEN;
use crate::{Channels, Result};

#[async_trait]
impl Channels for SqliteStore {
    async fn channels(&self) -> Result<Vec<Channel>> {
        self.readers.read(all).await
    }

    async fn channels_of(
        &self,
        owner: (InstitutionId, Environment),
        after: ChannelKey,
        limit: usize,
    ) -> Result<Vec<Channel>> {
        self.readers.read(move |connection| page(connection, owner, after, limit)).await
    }

    async fn channel(&self, key: ChannelKey) -> Result<Option<Channel>> {
        self.readers.read(move |connection| one(connection, key)).await
    }

    async fn create_channel(&self, channel: NewChannel) -> Result<Option<Channel>> {
        self.write(move |writing| create(writing, &channel)).await
    }

    async fn move_channel(&self, key: ChannelKey, to: ChannelMove) -> Result<bool> {
        self.write(move |writing| move_to(writing, key, &to)).await
    }

    async fn move_held_channel(&self, held: Held, to: ChannelMove) -> Result<bool> {
        self.write(move |writing| Ok(writing.has(held) && move_to(writing, held.channel, &to)?)).await
    }

    async fn update_channel(&self, key: ChannelKey, name: String, settings: ChannelSettings) -> Result<bool> {
        self.write(move |writing| update(writing, key, &name, settings)).await
    }

    async fn restrict_channel(&self, key: ChannelKey, until: Millis, reason: String, now: Millis) -> Result<bool> {
        self.write(move |writing| restrict(writing, key, until, &reason, now)).await
    }

    async fn hold_channel(&self, channel: ChannelKey, until: Millis) -> Result<()> {
        self.write(move |writing| queue::hold(writing, channel, until)).await
    }

    async fn delete_channel(&self, key: ChannelKey, by: Actor, now: Millis) -> Result<()> {
        self.write(move |writing| delete(writing, key, by, now)).await
    }

    async fn channel_events(&self, query: ChannelEventQuery) -> Result<ChannelEventPage> {
        self.readers.read(move |connection| events::of_channel(connection, query)).await
    }
}

const COLUMNS: &str = "key, institution_id, environment, id, name, type, state, state_reason, connected_at, created_at, \
                       deleted_at, settings, (select details from links where channel_key = key), next_send_at, \
                       restricted_until, cancel_before, connections, session, records_messages";

fn channel(row: &Row<'_>) -> rusqlite::Result<Channel> {
    let id: String = row.get(3)?;
    Ok(Channel {
        key: row.get(0)?,
        institution: InstitutionId::from_bytes(row.get(1)?),
        environment: tenants::environment(&row.get::<_, String>(2)?)?,
        id: id.parse().map_err(|_| not_understood("channel id"))?,
        name: row.get(4)?,
        kind: ChannelType::from_name(&row.get::<_, String>(5)?).ok_or_else(|| not_understood("channel type"))?,
        state: ChannelState::from_name(&row.get::<_, String>(6)?).ok_or_else(|| not_understood("channel state"))?,
        state_reason: row.get(7)?,
        connected_at: row.get(8)?,
        created_at: row.get(9)?,
        deleted_at: row.get(10)?,
        settings: serde_json::from_str(&row.get::<_, String>(11)?).map_err(|_| not_understood("channel setting"))?,
        link: row.get(12)?,
        restricted_until: row.get(14)?,
        next_send_at: row.get(13)?,
        session: row.get(17)?,
    })
}

/// What the writing thread keeps of a row's channel, with no open messages.
fn known(row: &Row<'_>) -> rusqlite::Result<(ChannelKey, Known)> {
    let channel = channel(row)?;
    let queue = ChannelQueue {
        was_connected: channel.connected_at.is_some(),
        deleted: channel.deleted_at.is_some(),
        next_send_at: channel.next_send_at,
        restricted_until: channel.restricted_until,
        cancel_before: row.get(15)?,
        connections: row.get(16)?,
        session: channel.session,
        records_messages: row.get(18)?,
        ..ChannelQueue::of(channel.kind, channel.state)
    };
    Ok((channel.key, Known { queue, open: 0 }))
}

/// What the writing thread keeps of all channels, read from the file.
pub(super) fn queues(connection: &Connection) -> rusqlite::Result<HashMap<ChannelKey, Known>> {
    let mut statement = connection.prepare(&format!("select {COLUMNS} from channels"))?;
    let mut queues: HashMap<ChannelKey, Known> = statement.query_map([], known)?.collect::<rusqlite::Result<_>>()?;
    let mut statement = connection.prepare(&format!(
        "select channel_key, count(*) from messages join channels on key = channel_key
         where {OPEN} and seq > cancel_before group by channel_key"
    ))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let Some(known) = queues.get_mut(&row.get(0)?) {
            known.open = usize::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
        }
    }
    Ok(queues)
}

pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<Channel>> {
    let mut statement = connection.prepare_cached(&format!("select {COLUMNS} from channels order by key"))?;
    statement.query_map([], channel)?.collect()
}

pub(super) fn page(
    connection: &Connection,
    (institution, environment): (InstitutionId, Environment),
    after: ChannelKey,
    limit: usize,
) -> rusqlite::Result<Vec<Channel>> {
    let mut statement = connection.prepare_cached(&format!(
        "select {COLUMNS} from channels
         where institution_id = ?1 and environment = ?2 and key > ?3 and deleted_at is null
         order by key limit ?4"
    ))?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![institution.as_bytes(), environment.name(), after, limit], channel)?;
    rows.collect()
}

pub(super) fn one(connection: &Connection, key: ChannelKey) -> rusqlite::Result<Option<Channel>> {
    let mut statement = connection.prepare_cached(&format!("select {COLUMNS} from channels where key = ?1"))?;
    statement.query_row([key], channel).optional()
}

/// Adds a channel, or takes up a deleted one. That starts empty: what is still open was queued before.
pub(super) fn create(writing: &mut Writing, new: &NewChannel) -> rusqlite::Result<Option<Channel>> {
    let connected_at = (new.state == ChannelState::Connected).then_some(new.now);
    let mut statement = writing.connection.prepare_cached(&format!(
        "insert into channels (institution_id, environment, id, name, type, state, connected_at, created_at,
                               records_messages)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8,
                 exists (select 1 from event_consumers where institution_id = ?1 and environment = ?2))
         on conflict (institution_id, environment, id) do update
             set name = excluded.name, state = excluded.state, state_reason = null,
                 connected_at = excluded.connected_at, next_send_at = 0, created_at = excluded.created_at,
                 settings = excluded.settings, restricted_until = null, deleted_at = null, cancel_before = ?9,
                 connections = connections + 1, session = session + 1
             -- Another type would find the former one's messages in its history.
             where deleted_at is not null and type = excluded.type
         returning {COLUMNS}"
    ))?;
    let made = statement
        .query_row(
            params![
                new.institution.as_bytes(),
                new.environment.name(),
                new.id.as_str(),
                new.name,
                new.kind.name(),
                new.state.name(),
                connected_at,
                new.now,
                writing.last_seq,
            ],
            |row| Ok((channel(row)?, known(row)?)),
        )
        .optional()?;
    drop(statement);
    if let Some((made, _)) = &made {
        events::record(&writing.connection, made.key, &Recorded::creation(made.state, new.by), new.now)?;
    }
    Ok(made.map(|(made, (key, known))| {
        writing.queues.insert(key, known);
        writing.tell(Change::Channel(Box::new(made.clone())));
        made
    }))
}

/// Whether events of the messages of these channels are recorded, of those that are made later as well; `false` when there is
/// no such institution.
pub(super) fn record_messages(
    writing: &mut Writing,
    (institution, environment): (InstitutionId, Environment),
    on: bool,
) -> rusqlite::Result<bool> {
    let owner = params![institution.as_bytes(), environment.name()];
    let sql = "select exists (select 1 from institutions where id = ?1)";
    if !writing.connection.prepare_cached(sql)?.query_row([institution.as_bytes()], |row| row.get(0))? {
        return Ok(false);
    }
    let sql = if on {
        "insert or ignore into event_consumers (institution_id, environment) values (?1, ?2)"
    } else {
        "delete from event_consumers where institution_id = ?1 and environment = ?2"
    };
    writing.connection.prepare_cached(sql)?.execute(owner)?;
    let sql = "update channels set records_messages = ?3 where institution_id = ?1 and environment = ?2 returning key";
    let mut statement = writing.connection.prepare_cached(sql)?;
    let keys = statement.query_map(params![institution.as_bytes(), environment.name(), on], |row| row.get(0))?;
    let keys: Vec<ChannelKey> = keys.collect::<rusqlite::Result<_>>()?;
    drop(statement);
    for key in keys {
        writing.queue(key).into_iter().for_each(|queue| queue.records_messages = on);
    }
    Ok(true)
}

pub(super) fn move_to(writing: &mut Writing, key: ChannelKey, to: &ChannelMove) -> rusqlite::Result<bool> {
    let next = to.to;
    let connected_at = (next == ChannelState::Connected).then_some(to.at);
    let keeps_restriction = next.keeps_restriction();
    let moved = writing
        .connection
        .prepare_cached(
            "update channels
             set state = ?3, state_reason = ?4, connected_at = coalesce(connected_at, ?5),
                 connections = connections + (?5 is not null), restricted_until = iif(?6, restricted_until, null)
             where key = ?1 and state = ?2 and deleted_at is null",
        )?
        .execute(params![key, to.from.name(), next.name(), to.reason, connected_at, keeps_restriction])?;
    if moved == 1 {
        events::record(&writing.connection, key, &to.into(), to.at)?;
    }
    if let Some(queue) = writing.queue(key).filter(|_| moved == 1) {
        queue.state = next;
        queue.was_connected |= connected_at.is_some();
        queue.connections += i64::from(connected_at.is_some());
        queue.restricted_until = queue.restricted_until.filter(|_| keeps_restriction);
        queue.cursor = ScanCursor::default();
        writing.tell(Change::Work(key));
    }
    Ok(moved == 1)
}

/// Lets a channel open no chats until then, unless a later time stands.
pub(super) fn restrict(
    writing: &mut Writing,
    key: ChannelKey,
    until: Millis,
    reason: &str,
    now: Millis,
) -> rusqlite::Result<bool> {
    let queue = writing.queue(key).copied().filter(ChannelQueue::can_be_restricted);
    let Some(queue) = queue else { return Ok(false) };
    if queue.dispatches() {
        let (from, to, reason) = (queue.state, ChannelState::Restricted, Some(reason.to_owned()));
        move_to(writing, key, &ChannelMove { from, to, reason, by: Actor::Network, at: now })?;
    }
    let until = queue.restricted_until.map_or(until, |earlier| earlier.max(until));
    writing
        .connection
        .prepare_cached("update channels set restricted_until = ?2 where key = ?1")?
        .execute(params![key, until])?;
    if let Some(queue) = writing.queue(key) {
        queue.restricted_until = Some(until);
        queue.cursor = ScanCursor::default();
    }
    Ok(true)
}

/// Pauses a channel that sends, because its network refused this message; not one that a person has brought up since
/// the message was sent.
pub(super) fn pause(
    writing: &mut Writing,
    key: ChannelKey,
    reason: &str,
    seq: Seq,
    now: Millis,
) -> rusqlite::Result<()> {
    let Some(queue) = writing.queue(key).copied() else { return Ok(()) };
    let sql = "select connection from messages where seq = ?1";
    let sent_under = writing.connection.prepare_cached(sql)?.query_row([seq], |row| row.get(0)).optional()?.flatten();
    if queue.is_paused_by(seq, sent_under) {
        let (from, to, reason) = (queue.state, ChannelState::Paused, Some(reason.to_owned()));
        move_to(writing, key, &ChannelMove { from, to, reason, by: Actor::Network, at: now })?;
    }
    Ok(())
}

/// Ends a hold of the channel: what its network said before it was linked anew holds no more.
pub(super) fn let_go(writing: &mut Writing, key: ChannelKey) -> rusqlite::Result<()> {
    writing.connection.prepare_cached("update channels set next_send_at = 0 where key = ?1")?.execute([key])?;
    if let Some(queue) = writing.queue(key) {
        queue.next_send_at = 0;
    }
    Ok(())
}

pub(super) fn update(
    writing: &mut Writing,
    key: ChannelKey,
    name: &str,
    settings: ChannelSettings,
) -> rusqlite::Result<bool> {
    if settings.resend_after().is_none() {
        recipients::leave_unknown(writing, key)?;
    }
    let settings = serde_json::to_string(&settings).map_err(|_| not_understood("channel setting"))?;
    let sql = "update channels set name = ?2, settings = ?3 where key = ?1 and deleted_at is null";
    let updated = writing.connection.prepare_cached(sql)?.execute(params![key, name, settings])? == 1;
    writing.tell_channel(key)?;
    Ok(updated)
}

pub(super) fn delete(writing: &mut Writing, key: ChannelKey, by: Actor, now: Millis) -> rusqlite::Result<()> {
    let last_seq = writing.last_seq;
    if let Some(queue) = writing.queue(key).copied().filter(|queue| !queue.deleted) {
        events::record(&writing.connection, key, &Recorded::deletion(queue.state, by), now)?;
    }
    writing.connection.execute(
        "update channels set deleted_at = coalesce(deleted_at, ?2), cancel_before = ?3 where key = ?1",
        params![key, now, last_seq],
    )?;
    links::delete(writing, key)?;
    sessions::delete(writing, key)?;
    chats::forget_all(writing, key)?;
    recipients::leave_unknown(writing, key)?;
    for table in ["recipient_pace", "early_receipts"] {
        writing.connection.execute(&format!("delete from {table} where channel_key = ?1"), [key])?;
    }
    if let Some(Known { queue, open }) = writing.queues.get_mut(&key) {
        (queue.deleted, queue.cancel_before, queue.cursor) = (true, last_seq, ScanCursor::default());
        // What is left is cancelled, and no backlog of the channel that may be made anew.
        *open = 0;
    }
    writing.tell_channel(key)
}
