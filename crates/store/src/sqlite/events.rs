//! What happened.

use recado_domain::channel::{ChannelEvent, ChannelEventQuery, ChannelKey, MAX_CHANNEL_EVENTS, Recorded};
use recado_domain::clock::Millis;
use rusqlite::{Connection, Row, params};

/// Records what happened to a channel, in the transaction that makes it true. The oldest of too many events goes.
pub(super) fn record(connection: &Connection, key: ChannelKey, what: &Recorded, at: Millis) -> rusqlite::Result<()> {
    let sql = "insert into events (channel_key, kind, at, data) values (?1, ?2, ?3, ?4)";
    connection.prepare_cached(sql)?.execute(params![key, what.kind(), at, what.to_json()])?;
    let sql = "delete from events where channel_key = ?1 and message_seq is null
               and seq <= (select seq from events where channel_key = ?1 and message_seq is null
                           order by seq desc limit 1 offset ?2)";
    connection.prepare_cached(sql)?.execute(params![key, MAX_CHANNEL_EVENTS])?;
    Ok(())
}

/// A page of what happened to a channel, newest first. What a newer version recorded is passed over.
pub(super) fn of_channel(connection: &Connection, query: ChannelEventQuery) -> rusqlite::Result<Vec<ChannelEvent>> {
    let sql = "select seq, at, data, node from events
               where channel_key = ?1 and message_seq is null and seq < ?2 order by seq desc limit ?3";
    let event = |row: &Row<'_>| {
        let what = Recorded::from_json(&row.get::<_, String>(2)?);
        let (seq, at, node) = (row.get(0)?, row.get(1)?, row.get(3)?);
        Ok(what.map(|what| ChannelEvent { seq, at, what, node }))
    };
    let (before, limit) = (query.before.unwrap_or(i64::MAX), i64::try_from(query.limit).unwrap_or(i64::MAX));
    let mut statement = connection.prepare_cached(sql)?;
    let read: rusqlite::Result<Vec<_>> = statement.query_map(params![query.channel, before, limit], event)?.collect();
    Ok(read?.into_iter().flatten().collect())
}
