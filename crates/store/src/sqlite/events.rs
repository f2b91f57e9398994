//! What happened to channels and messages.

use std::sync::Arc;

use async_trait::async_trait;
use recado_domain::api_key::Environment;
use recado_domain::channel::{
    ChannelEventPage, ChannelEventQuery, ChannelKey, MAX_CHANNEL_EVENTS, Recorded, StoredEvent,
};
use recado_domain::clock::Millis;
use recado_domain::event::{Event, EventPage, EventQuery, EventSeq};
use recado_domain::ids::{InstitutionId, MessageId};
use recado_domain::message::{MessageEvent, SCANNED_AT_MOST, Seq};
use recado_domain::queue::PurgeRequest;
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

/// Records what happened to a channel, in the transaction that makes it true. The oldest of too many events goes.
pub(super) fn record(connection: &Connection, key: ChannelKey, what: &Recorded, at: Millis) -> rusqlite::Result<()> {
    if what.from == what.to && newest(connection, key)?.is_some_and(|newest| what.repeats(&newest)) {
        return Ok(());
    }
    let sql = "insert into events (channel_key, kind, at, data) values (?1, ?2, ?3, ?4)";
    connection.prepare_cached(sql)?.execute(params![key, what.kind(), at, what.to_json()])?;
    let sql = "delete from events where channel_key = ?1 and message_seq is null
               and seq <= (select seq from events where channel_key = ?1 and message_seq is null
                           order by seq desc limit 1 offset ?2)";
    connection.prepare_cached(sql)?.execute(params![key, MAX_CHANNEL_EVENTS])?;
    Ok(())
}

fn newest(connection: &Connection, key: ChannelKey) -> rusqlite::Result<Option<Recorded>> {
    let sql = "select data from events where channel_key = ?1 and message_seq is null order by seq desc limit 1";
    let data: Option<String> = connection.prepare_cached(sql)?.query_row([key], |row| row.get(0)).optional()?;
    Ok(data.and_then(|data| Recorded::from_json(&data)))
}

/// Records what happened to a message, in the transaction that makes it true.
pub(super) fn record_message(connection: &Connection, event: &MessageEvent) -> rusqlite::Result<()> {
    let sql = "insert into events (channel_key, message_seq, kind, at, data) values (?1, ?2, ?3, ?4, ?5)";
    let what = &event.what;
    let values = params![event.channel, event.message, what.kind(), event.at, what.to_json()];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

/// Forgets what happened to a message.
pub(super) fn forget(connection: &Connection, message: Seq) -> rusqlite::Result<()> {
    connection.prepare_cached("delete from events where message_seq = ?1")?.execute([message])?;
    Ok(())
}

/// The same of the messages in this range that are gone.
pub(super) fn forget_gone(connection: &Connection, (after, last): (Seq, Seq)) -> rusqlite::Result<()> {
    let sql = "delete from events where message_seq > ?1 and message_seq <= ?2
               and not exists (select 1 from messages where seq = message_seq)";
    connection.prepare_cached(sql)?.execute([after, last])?;
    Ok(())
}

/// Deletes what is old, of channels and of messages: how much at most of either.
pub(super) fn purge(connection: &Connection, request: &PurgeRequest, batch: i64) -> rusqlite::Result<usize> {
    let purge = |subject: &str, before: Millis| {
        let sql = format!(
            "delete from events where seq in (select seq from events where at < ?2 and {subject} order by at limit ?1)"
        );
        connection.prepare_cached(&sql)?.execute([batch, before])
    };
    let of_channels = purge("message_seq is null", request.channel_events_before())?;
    Ok(of_channels.max(purge("message_seq is not null", request.message_events_before())?))
}

/// A page of what happened to a channel, newest first.
pub(super) fn of_channel(connection: &Connection, query: ChannelEventQuery) -> rusqlite::Result<ChannelEventPage> {
    let sql = "select seq, at, data, node from events
               where channel_key = ?1 and message_seq is null and seq < ?2 order by seq desc limit ?3";
    let event =
        |row: &Row<'_>| Ok(StoredEvent { seq: row.get(0)?, at: row.get(1)?, data: row.get(2)?, node: row.get(3)? });
    let (before, limit) = (query.before.unwrap_or(i64::MAX), i64::try_from(query.limit + 1).unwrap_or(i64::MAX));
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![query.channel, before, limit], event)?;
    Ok(ChannelEventPage::of(rows.collect::<rusqlite::Result<_>>()?, query.limit))
}

/// Reads events in the order of their numbers, which here is the order of their commits: one thread writes.
struct Reader(Arc<Readers>);

#[async_trait]
impl EventReader for Reader {
    async fn read(&mut self, query: EventQuery) -> Result<Option<EventPage>> {
        self.0.read(move |connection| behind(connection, &query)).await
    }
}

fn behind(connection: &Connection, query: &EventQuery) -> rusqlite::Result<Option<EventPage>> {
    let sql = "select ifnull(max(seq), 0) from sqlite_sequence where name = 'events'";
    let last: EventSeq = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    if query.after > last {
        return Ok(None);
    }
    let sql = "select max(seq) from (select seq from events where seq > ?1 order by seq limit ?2)";
    let end: Option<EventSeq> =
        connection.prepare_cached(sql)?.query_row([query.after, SCANNED_AT_MOST], |row| row.get(0))?;
    let Some(end) = end else { return Ok(Some(query.page(Vec::new(), None))) };
    let sql = "select e.seq, e.channel_key, m.id, e.kind, e.at, e.data, e.node
               from events e
               cross join channels c on c.key = e.channel_key
               left join messages m on m.seq = e.message_seq
               where e.seq > ?1 and e.seq <= ?2 and c.institution_id = ?3 and c.environment = ?4
                 and (?5 is null or e.channel_key = ?5)
                 -- One whose message has gone just now goes with it.
                 and (e.message_seq is null or m.seq is not null)
               order by e.seq limit ?6";
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
