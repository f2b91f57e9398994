//! Sessions of linked devices, sealed row by row.

use async_trait::async_trait;
use recado_domain::channel::{ChannelKey, Held, SessionChange, SessionKey, SessionOf, SessionRow};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{SqliteStore, Writing};
use crate::{Result, Sessions};

#[async_trait]
impl Sessions for SqliteStore {
    async fn session_values(&self, of: SessionOf, kind: u8, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Vec<u8>>>> {
        self.readers.read(move |connection| values(connection, (of, kind), &keys)).await
    }

    async fn session_list(&self, of: SessionOf, kind: u8, prefix: Vec<u8>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.readers.read(move |connection| list(connection, (of, kind), &prefix)).await
    }

    async fn write_session(&self, held: Held, changes: Vec<SessionChange>) -> Result<u64> {
        self.write(move |writing| write(writing, held, &changes)).await
    }

    async fn end_session(&self, held: Held) -> Result<()> {
        self.write(move |writing| end(writing, held)).await
    }

    async fn session_rows(&self, after: Option<SessionKey>, limit: usize) -> Result<Vec<SessionRow>> {
        self.readers.read(move |connection| page(connection, after.as_ref(), limit)).await
    }

    async fn reseal_session_row(&self, old: SessionRow, new: Vec<u8>) -> Result<bool> {
        self.write(move |writing| reseal(writing, &old, &new)).await
    }
}

pub(super) fn values(
    connection: &Connection,
    ((channel, session), kind): (SessionOf, u8),
    keys: &[Vec<u8>],
) -> rusqlite::Result<Vec<Option<Vec<u8>>>> {
    let sql = "SELECT sealed FROM session_rows WHERE channel_key = ?1 AND kind = ?2 AND key = ?3 AND session = ?4";
    let mut statement = connection.prepare_cached(sql)?;
    let mut value = |key| statement.query_row(params![channel, kind, key, session], |row| row.get("sealed")).optional();
    keys.iter().map(&mut value).collect()
}

pub(super) fn list(
    connection: &Connection,
    ((channel, session), kind): (SessionOf, u8),
    prefix: &[u8],
) -> rusqlite::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut statement = connection.prepare_cached(
        "SELECT key, sealed FROM session_rows
         WHERE channel_key = ?1 AND kind = ?2 AND key >= ?3 AND (?4 IS NULL OR key < ?4) AND session = ?5 ORDER BY key",
    )?;
    let asked = params![channel, kind, prefix, SessionKey::behind(prefix), session];
    statement.query_map(asked, |row| Ok((row.get("key")?, row.get("sealed")?)))?.collect()
}

pub(super) fn write(writing: &mut Writing, held: Held, changes: &[SessionChange]) -> rusqlite::Result<u64> {
    if writing.queues.get(&held.channel).is_none_or(|known| known.queue.deleted) {
        return Err(rusqlite::Error::ToSqlConversionFailure("the channel was deleted".into()));
    }
    if !writing.has(held) {
        return Err(rusqlite::Error::ToSqlConversionFailure("the session has ended".into()));
    }
    let of = (held.channel, held.session);
    changes.iter().try_fold(0, |deleted, change| Ok(deleted + apply(&writing.connection, of, change)?))
}

/// Applies a change. Returns how many rows it deleted.
fn apply(connection: &Connection, (channel, session): SessionOf, change: &SessionChange) -> rusqlite::Result<u64> {
    let deleted = match change {
        SessionChange::Put { kind, key, sealed, stamp } => {
            let sql = "INSERT OR REPLACE INTO session_rows (channel_key, kind, key, sealed, stamp, session)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            connection.prepare_cached(sql)?.execute(params![channel, kind, key, sealed, stamp, session])?;
            0
        }
        SessionChange::Delete { kind, key } => {
            let sql = "DELETE FROM session_rows WHERE channel_key = ?1 AND kind = ?2 AND key = ?3";
            connection.prepare_cached(sql)?.execute(params![channel, kind, key])?
        }
        SessionChange::DeletePrefix { kind, prefix } => {
            let sql = "DELETE FROM session_rows
                       WHERE channel_key = ?1 AND kind = ?2 AND key >= ?3 AND (?4 IS NULL OR key < ?4)";
            connection.prepare_cached(sql)?.execute(params![channel, kind, prefix, SessionKey::behind(prefix)])?
        }
        SessionChange::DeleteBefore { kind, stamp } => {
            let sql = "DELETE FROM session_rows WHERE channel_key = ?1 AND kind = ?2 AND stamp > 0 AND stamp < ?3";
            connection.prepare_cached(sql)?.execute(params![channel, kind, stamp])?
        }
    };
    Ok(deleted.try_into().unwrap_or(u64::MAX))
}

/// Ends a session, and increments the session number of the channel.
pub(super) fn end(writing: &mut Writing, held: Held) -> rusqlite::Result<()> {
    if !writing.has(held) {
        return Ok(());
    }
    delete(writing, held.channel)?;
    let sql = "UPDATE channels SET session = session + 1 WHERE key = ?1";
    writing.connection.prepare_cached(sql)?.execute([held.channel])?;
    writing.queue(held.channel).into_iter().for_each(|queue| queue.session += 1);
    Ok(())
}

/// Deletes the session rows of a channel.
pub(super) fn delete(writing: &Writing, channel: ChannelKey) -> rusqlite::Result<()> {
    writing.connection.prepare_cached("DELETE FROM session_rows WHERE channel_key = ?1")?.execute([channel])?;
    Ok(())
}

pub(super) fn page(
    connection: &Connection,
    after: Option<&SessionKey>,
    limit: usize,
) -> rusqlite::Result<Vec<SessionRow>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // Older tables have no session number; `recado doctor` can read them before a migration.
    let session = if connection.column_exists(None, "session_rows", "session")? { "session" } else { "0 AS session" };
    let columns = format!("SELECT channel_key, kind, key, sealed, {session} FROM session_rows");
    let order = "ORDER BY channel_key, kind, key LIMIT ?1";
    match after {
        None => connection.prepare_cached(&format!("{columns} {order}"))?.query_map([limit], row)?.collect(),
        Some(SessionKey { channel, kind, key, .. }) => connection
            .prepare_cached(&format!("{columns} WHERE (channel_key, kind, key) > (?2, ?3, ?4) {order}"))?
            .query_map(params![limit, channel, kind, key], row)?
            .collect(),
    }
}

fn row(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    let (channel, kind, key) = (row.get("channel_key")?, row.get("kind")?, row.get("key")?);
    let of = SessionKey { channel, kind, key, session: row.get("session")? };
    Ok(SessionRow { of, sealed: row.get("sealed")? })
}

pub(super) fn reseal(writing: &Writing, old: &SessionRow, new: &[u8]) -> rusqlite::Result<bool> {
    let SessionKey { channel, kind, key, .. } = &old.of;
    let sql = "UPDATE session_rows SET sealed = ?5 WHERE channel_key = ?1 AND kind = ?2 AND key = ?3 AND sealed = ?4";
    let resealed = writing.connection.prepare_cached(sql)?.execute(params![channel, kind, key, old.sealed, new])?;
    Ok(resealed == 1)
}
