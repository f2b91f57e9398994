//! Events of channels and messages.

use std::sync::Arc;

use async_trait::async_trait;
use recado_domain::api_key::Environment;
use recado_domain::channel::{ChannelKey, MAX_CHANNEL_EVENTS, Recorded};
use recado_domain::clock::Millis;
use recado_domain::event::{Event, EventPage, EventQuery, EventSeq};
use recado_domain::ids::{InstitutionId, MessageId};
use recado_domain::message::{MessageEvent, SCANNED_AT_MOST};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{SqliteStore, channels};
use crate::sqlkit::sqlite::readers::Readers;
use crate::{EventReader, Events, Result};

#[async_trait]
impl Events for SqliteStore {
    async fn record_messages(&self, owner: (InstitutionId, Environment), on: bool) -> Result<bool> {
        self.write(move |writing| channels::record_messages(writing, owner, on)).await
    }

    fn event_reader(&self) -> Box<dyn EventReader> {
        Box::new(Reader(self.readers.clone()))
    }
}

/// Records an event of a channel in the transaction of the change. Deletes the oldest of too many events.
pub(super) fn record(connection: &Connection, key: ChannelKey, what: &Recorded, at: Millis) -> rusqlite::Result<()> {
    if what.from == what.to && newest(connection, key)?.is_some_and(|newest| what.repeats(&newest)) {
        return Ok(());
    }
    let sql = "INSERT INTO events (channel_key, kind, at, data) VALUES (?1, ?2, ?3, ?4)";
    connection.prepare_cached(sql)?.execute(params![key, what.kind(), at, what.to_json()])?;
    let sql = "DELETE FROM events WHERE channel_key = ?1 AND message_seq IS NULL
               AND seq <= (SELECT seq FROM events WHERE channel_key = ?1 AND message_seq IS NULL
                           ORDER BY seq DESC LIMIT 1 OFFSET ?2)";
    connection.prepare_cached(sql)?.execute(params![key, MAX_CHANNEL_EVENTS])?;
    Ok(())
}

fn newest(connection: &Connection, key: ChannelKey) -> rusqlite::Result<Option<Recorded>> {
    let sql = "SELECT data FROM events WHERE channel_key = ?1 AND message_seq IS NULL ORDER BY seq DESC LIMIT 1";
    let data: Option<String> = connection.prepare_cached(sql)?.query_row([key], |row| row.get(0)).optional()?;
    Ok(data.and_then(|data| Recorded::from_json(&data)))
}

/// Records an event of a message in the transaction of the change.
pub(super) fn record_message(connection: &Connection, event: &MessageEvent) -> rusqlite::Result<()> {
    let sql = "INSERT INTO events (channel_key, message_seq, kind, at, data) VALUES (?1, ?2, ?3, ?4, ?5)";
    let what = &event.what;
    let values = params![event.channel, event.message, what.kind(), event.at, what.to_json()];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

/// Reads events in the order of their numbers, which is the order of commits because one thread writes.
struct Reader(Arc<Readers>);

#[async_trait]
impl EventReader for Reader {
    async fn read(&mut self, query: EventQuery) -> Result<Option<EventPage>> {
        self.0.read(move |connection| behind(connection, &query)).await
    }
}

fn behind(connection: &Connection, query: &EventQuery) -> rusqlite::Result<Option<EventPage>> {
    let sql = "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'";
    let last: EventSeq = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    if query.after > last {
        return Ok(None);
    }
    let sql = "SELECT max(seq) FROM (SELECT seq FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2)";
    let end: Option<EventSeq> =
        connection.prepare_cached(sql)?.query_row([query.after, SCANNED_AT_MOST], |row| row.get(0))?;
    let Some(end) = end else { return Ok(Some(query.page(Vec::new(), None))) };
    let sql = include_str!("events/page.sql");
    let (institution, environment) = (query.institution.as_bytes(), query.environment.name());
    let values = params![query.after, end, institution, environment, query.channel, query.rows()];
    let mut statement = connection.prepare_cached(sql)?;
    let events = statement.query_map(values, event)?.collect::<rusqlite::Result<_>>()?;
    Ok(Some(query.page(events, Some(end))))
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        seq: row.get("seq")?,
        channel: row.get("channel_key")?,
        message: row.get::<_, Option<_>>("id")?.map(MessageId::from_bytes),
        kind: row.get("kind")?,
        at: row.get("at")?,
        data: row.get("data")?,
        node: row.get("node")?,
    })
}
