//! Events of channels and messages.

use std::sync::Arc;

use async_trait::async_trait;
use recado_domain::channel::{ChannelKey, MAX_CHANNEL_EVENTS, Recorded};
use recado_domain::clock::Millis;
use recado_domain::event::{EventPage, EventQuery, EventSeq, OwnedRange};
use recado_domain::message::{MessageEvent, StatusChange};
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteStore;
use crate::common::events as common;
use crate::sqlkit::both::at_once;
use crate::sqlkit::sqlite::readers::Readers;
use crate::{EventReader, Result};

impl SqliteStore {
    pub(crate) fn new_event_reader(&self) -> Box<dyn EventReader> {
        Box::new(Reader(self.readers.clone()))
    }
}

/// Records an event of a channel in the transaction of the change. If the channel then has too many events, its oldest ones
/// are deleted.
pub(super) fn record(connection: &Connection, key: ChannelKey, what: &Recorded, at: Millis) -> rusqlite::Result<()> {
    if what.from == what.to && newest(connection, key)?.is_some_and(|newest| what.repeats(&newest)) {
        return Ok(());
    }
    let sql = "INSERT INTO events (channel_key, kind, at, data) VALUES (?1, ?2, ?3, ?4)";
    connection.prepare_cached(sql)?.execute(params![key, what.kind(), at, what.to_json()])?;
    let sql = "DELETE FROM events WHERE channel_key = ?1 AND message_seq IS NULL AND NOT complete
               AND seq <= (SELECT seq FROM events WHERE channel_key = ?1 AND message_seq IS NULL AND NOT complete
                           ORDER BY seq DESC LIMIT 1 OFFSET ?2)";
    connection.prepare_cached(sql)?.execute(params![key, MAX_CHANNEL_EVENTS])?;
    Ok(())
}

fn newest(connection: &Connection, key: ChannelKey) -> rusqlite::Result<Option<Recorded>> {
    let sql = "SELECT data FROM events WHERE channel_key = ?1 AND message_seq IS NULL AND NOT complete ORDER BY seq DESC LIMIT 1";
    let data: Option<String> = connection.prepare_cached(sql)?.query_row([key], |row| row.get(0)).optional()?;
    Ok(data.and_then(|data| Recorded::from_json(&data)))
}

/// Records an event of a message in the transaction of the change.
pub(super) fn record_message(connection: &Connection, event: &MessageEvent) -> rusqlite::Result<()> {
    let what = &event.what;
    // A message that was never sent has no data of its network.
    let sql = if *what == StatusChange::ACCEPTED {
        "INSERT INTO events (channel_key, message_seq, kind, at, data) VALUES (?1, ?2, ?3, ?4, ?5)"
    } else {
        "INSERT INTO events (channel_key, message_seq, kind, at, data, account, remote_id, conversation_id)
         SELECT ?1, ?2, ?3, ?4, ?5, account, remote_id, conversation_id FROM messages WHERE seq = ?2"
    };
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

    async fn settled(&mut self) -> Result<EventSeq> {
        self.0.read(last).await
    }

    async fn last(&mut self) -> Result<EventSeq> {
        self.0.read(last).await
    }

    async fn owners(&mut self, after: EventSeq, until: EventSeq) -> Result<Vec<OwnedRange>> {
        self.0.read(move |connection| at_once(common::owners(connection, after, until))).await
    }
}

fn behind(connection: &Connection, query: &EventQuery) -> rusqlite::Result<Option<EventPage>> {
    let last = last(connection)?;
    if query.after > last {
        return Ok(None);
    }
    at_once(common::page(connection, query, last)).map(Some)
}

/// The highest number that an event was given.
fn last(connection: &Connection) -> rusqlite::Result<EventSeq> {
    let sql = "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'";
    connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
}
