//! What happened.

use recado_domain::channel::{
    ChannelEventPage, ChannelEventQuery, ChannelKey, MAX_CHANNEL_EVENTS, Recorded, StoredEvent,
};
use recado_domain::clock::Millis;
use rusqlite::{Connection, OptionalExtension, Row, params};

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
