//! Sessions of linked devices, sealed row by row.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Writing;
use crate::store::rows::{ChannelKey, SessionChange, SessionKey, SessionRow};

pub(super) fn values(
    connection: &Connection,
    (channel, kind): (ChannelKey, u8),
    keys: &[Vec<u8>],
) -> rusqlite::Result<Vec<Option<Vec<u8>>>> {
    let sql = "select sealed from session_rows where channel_key = ?1 and kind = ?2 and key = ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let values = keys.iter().map(|key| statement.query_row(params![channel, kind, key], |row| row.get(0)).optional());
    values.collect()
}

pub(super) fn list(
    connection: &Connection,
    (channel, kind): (ChannelKey, u8),
    prefix: &[u8],
) -> rusqlite::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut statement = connection.prepare_cached(
        "select key, sealed from session_rows
         where channel_key = ?1 and kind = ?2 and key >= ?3 and (?4 is null or key < ?4) order by key",
    )?;
    let rows = statement
        .query_map(params![channel, kind, prefix, SessionKey::behind(prefix)], |row| Ok((row.get(0)?, row.get(1)?)));
    rows?.collect()
}

pub(super) fn write(writing: &mut Writing, channel: ChannelKey, changes: &[SessionChange]) -> rusqlite::Result<u64> {
    if writing.lines.get(&channel).is_none_or(|known| known.line.deleted) {
        return Err(rusqlite::Error::ToSqlConversionFailure("the channel was deleted".into()));
    }
    changes.iter().try_fold(0, |deleted, change| Ok(deleted + apply(&writing.connection, channel, change)?))
}

/// Makes a change; gives how many rows it deleted.
fn apply(connection: &Connection, channel: ChannelKey, change: &SessionChange) -> rusqlite::Result<u64> {
    let deleted = match change {
        SessionChange::Put { kind, key, sealed, stamp } => {
            let sql = "insert or replace into session_rows (channel_key, kind, key, sealed, stamp)
                       values (?1, ?2, ?3, ?4, ?5)";
            connection.prepare_cached(sql)?.execute(params![channel, kind, key, sealed, stamp])?;
            0
        }
        SessionChange::Delete { kind, key } => {
            let sql = "delete from session_rows where channel_key = ?1 and kind = ?2 and key = ?3";
            connection.prepare_cached(sql)?.execute(params![channel, kind, key])?
        }
        SessionChange::DeletePrefix { kind, prefix } => {
            let sql = "delete from session_rows
                       where channel_key = ?1 and kind = ?2 and key >= ?3 and (?4 is null or key < ?4)";
            connection.prepare_cached(sql)?.execute(params![channel, kind, prefix, SessionKey::behind(prefix)])?
        }
        SessionChange::DeleteBefore { kind, stamp } => {
            let sql = "delete from session_rows where channel_key = ?1 and kind = ?2 and stamp > 0 and stamp < ?3";
            connection.prepare_cached(sql)?.execute(params![channel, kind, stamp])?
        }
    };
    Ok(deleted.try_into().unwrap_or(u64::MAX))
}

pub(super) fn end(writing: &Writing, channel: ChannelKey) -> rusqlite::Result<()> {
    writing.connection.prepare_cached("delete from session_rows where channel_key = ?1")?.execute([channel])?;
    Ok(())
}

pub(super) fn page(
    connection: &Connection,
    after: Option<&SessionKey>,
    limit: usize,
) -> rusqlite::Result<Vec<SessionRow>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let columns = "select channel_key, kind, key, sealed from session_rows";
    let order = "order by channel_key, kind, key limit ?1";
    match after {
        None => connection.prepare_cached(&format!("{columns} {order}"))?.query_map([limit], row)?.collect(),
        Some(SessionKey { channel, kind, key }) => connection
            .prepare_cached(&format!("{columns} where (channel_key, kind, key) > (?2, ?3, ?4) {order}"))?
            .query_map(params![limit, channel, kind, key], row)?
            .collect(),
    }
}

fn row(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    let of = SessionKey { channel: row.get(0)?, kind: row.get(1)?, key: row.get(2)? };
    Ok(SessionRow { of, sealed: row.get(3)? })
}

pub(super) fn reseal(writing: &Writing, old: &SessionRow, new: &[u8]) -> rusqlite::Result<bool> {
    let SessionKey { channel, kind, key } = &old.of;
    let sql = "update session_rows set sealed = ?5 where channel_key = ?1 and kind = ?2 and key = ?3 and sealed = ?4";
    let resealed = writing.connection.prepare_cached(sql)?.execute(params![channel, kind, key, old.sealed, new])?;
    Ok(resealed == 1)
}
