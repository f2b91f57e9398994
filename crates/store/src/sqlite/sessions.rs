//! Sessions of linked devices, sealed row by row. A session must not wait for the calls of its owner, so what it reads
//! and writes counts as the server's own.

use async_trait::async_trait;
use recado_domain::channel::{DeletedRows, Held, SessionChange, SessionKey, SessionOf, SessionRow};
use rusqlite::{Connection, OptionalExtension, params};

use super::{SqliteStore, Writing};
use crate::common::sessions;
use crate::shares::of_server;
use crate::sqlkit::both::at_once;
use crate::{Result, Sessions};

#[async_trait]
impl Sessions for SqliteStore {
    async fn session_values(&self, of: SessionOf, kind: u8, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Vec<u8>>>> {
        of_server(self.readers.read(move |connection| values(connection, (of, kind), &keys))).await
    }

    async fn session_list(&self, of: SessionOf, kind: u8, prefix: Vec<u8>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        of_server(self.readers.read(move |connection| at_once(sessions::list(connection, (of, kind), &prefix)))).await
    }

    async fn write_session(&self, held: Held, changes: Vec<SessionChange>) -> Result<DeletedRows> {
        self.writer.run(move |writing| write(writing, held, &changes)).await
    }

    async fn end_session(&self, held: Held) -> Result<()> {
        self.writer.run(move |writing| end(writing, held)).await
    }

    async fn session_rows(&self, after: Option<SessionKey>, limit: usize) -> Result<Vec<SessionRow>> {
        self.readers.read(move |connection| page(connection, after.as_ref(), limit)).await
    }

    async fn reseal_session_row(&self, old: SessionRow, new: Vec<u8>) -> Result<bool> {
        self.write(move |writing| at_once(sessions::reseal(&writing.connection, &old, &new))).await
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

/// Why nothing may be written for this session any more.
pub(super) fn fence(writing: &Writing, held: Held) -> Option<&'static str> {
    if writing.queues.get(&held.channel).is_none_or(|known| known.queue.deleted) {
        return Some("the channel was deleted");
    }
    (!writing.has(held)).then_some("the session has ended")
}

pub(super) fn write(writing: &mut Writing, held: Held, changes: &[SessionChange]) -> rusqlite::Result<DeletedRows> {
    if let Some(reason) = fence(writing, held) {
        return Err(rusqlite::Error::ToSqlConversionFailure(reason.into()));
    }
    let of = (held.channel, held.session);
    let mut deleted = DeletedRows::default();
    for change in changes {
        deleted.add(change.kind(), apply(&writing.connection, of, change)?);
    }
    Ok(deleted)
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
        SessionChange::DeletePrefix { .. } | SessionChange::DeleteBefore { .. } => {
            return at_once(sessions::delete_many(connection, channel, change));
        }
    };
    Ok(deleted.try_into().unwrap_or(u64::MAX))
}

/// Ends a session, and increments the session number of the channel.
pub(super) fn end(writing: &mut Writing, held: Held) -> rusqlite::Result<()> {
    if !writing.has(held) {
        return Ok(());
    }
    at_once(sessions::end(&writing.connection, held.channel))?;
    writing.queue(held.channel).into_iter().for_each(|queue| queue.session += 1);
    Ok(())
}

pub(super) fn page(
    connection: &Connection,
    after: Option<&SessionKey>,
    limit: usize,
) -> rusqlite::Result<Vec<SessionRow>> {
    // Older tables have no session number; `recado doctor` can read them before a migration.
    let session = if connection.column_exists(None, "session_rows", "session")? { "session" } else { "0 AS session" };
    at_once(sessions::page(connection, session, after, limit))
}
