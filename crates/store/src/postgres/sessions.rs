//! Sessions of linked devices, sealed row by row.

use std::collections::BTreeMap;
use std::mem::discriminant;

use async_trait::async_trait;
use recado_domain::channel::{
    ChannelKey, DeletedRows, Epoch, Held, SessionChange, SessionKey, SessionNumber, SessionOf, SessionRow,
};

use super::PgStore;
use super::lock::lock;
use crate::common::sessions;
use crate::sqlkit::postgres::db::{Db, Done, Failure, args, with_connection, with_transaction};
use crate::{Result, Sessions};

#[async_trait]
impl Sessions for PgStore {
    async fn session_values(&self, of: SessionOf, kind: u8, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Vec<u8>>>> {
        with_connection!(self.pool, db => values(db, (of, kind), &keys))
    }

    async fn session_list(&self, of: SessionOf, kind: u8, prefix: Vec<u8>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        with_connection!(self.pool, db => sessions::list(&db, (of, kind), &prefix))
    }

    async fn write_session(&self, held: Held, changes: Vec<SessionChange>) -> Result<DeletedRows> {
        with_transaction!(self.pool, db => write(db, held, &changes).await)
    }

    async fn end_session(&self, held: Held) -> Result<()> {
        with_transaction!(self.pool, db => end_held(db, held).await)
    }

    async fn session_rows(&self, after: Option<SessionKey>, limit: usize) -> Result<Vec<SessionRow>> {
        with_connection!(self.pool, db => sessions::page(&db, "session", after.as_ref(), limit))
    }

    async fn reseal_session_row(&self, old: SessionRow, new: Vec<u8>) -> Result<bool> {
        with_connection!(self.pool, db => sessions::reseal(&db, &old, &new))
    }
}

pub(super) async fn values(
    db: Db<'_>,
    ((channel, session), kind): (SessionOf, u8),
    keys: &[Vec<u8>],
) -> Done<Vec<Option<Vec<u8>>>> {
    let sql = "SELECT sealed FROM unnest($3) WITH ORDINALITY AS asked (key, n)
               LEFT JOIN session_rows r ON r.channel_key = $1 AND r.kind = $2 AND r.key = asked.key AND r.session = $4
               ORDER BY n";
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let rows = db.rows(sql, args![channel, i16::from(kind), keys, session]).await?;
    Ok(rows.iter().map(|row| row.get("sealed")).collect())
}

/// Why nothing may be written for this session any more. Refused if another node holds the lease.
pub(super) async fn fence(db: Db<'_>, held: Held) -> Done<Option<&'static str>> {
    // A shared lock: it waits for a deletion and for a node that acquires the channel, and they wait for this
    // transaction.
    let sql = "SELECT lease_epoch, session FROM channels WHERE key = $1 AND deleted_at IS NULL FOR SHARE";
    match db.row(sql, args![held.channel]).await? {
        None => Ok(Some("the channel was deleted")),
        Some(row) if row.get::<_, Epoch>("lease_epoch") != held.epoch => Err(Failure::Fenced),
        Some(row) => {
            let is_over = row.get::<_, SessionNumber>("session") != held.session;
            Ok(is_over.then_some("the session has ended"))
        }
    }
}

pub(super) async fn write(db: Db<'_>, held: Held, changes: &[SessionChange]) -> Done<DeletedRows> {
    if let Some(reason) = fence(db, held).await? {
        return Err(Failure::Refused(reason));
    }
    let (channel, session) = (held.channel, held.session);
    let mut deleted = DeletedRows::default();
    // A session writes many rows at a time. Consecutive changes of one kind are one statement.
    for alike in changes.chunk_by(|one, next| discriminant(one) == discriminant(next)) {
        match alike {
            [SessionChange::Put { .. }, ..] => put(db, (channel, session), alike).await?,
            [SessionChange::Delete { .. }, ..] => delete_named(db, channel, alike, &mut deleted).await?,
            others => {
                for change in others {
                    deleted.add(change.kind(), sessions::delete_many(&db, channel, change).await?);
                }
            }
        }
    }
    Ok(deleted)
}

/// Writes rows; none is deleted.
async fn put(db: Db<'_>, (channel, session): SessionOf, changes: &[SessionChange]) -> Done<()> {
    // The last change of each row only: a statement cannot write a row twice.
    let mut rows = BTreeMap::new();
    for change in changes {
        if let SessionChange::Put { kind, key, sealed, stamp } = change {
            rows.insert((*kind, key), (sealed, *stamp));
        }
    }
    let kinds: Vec<i16> = rows.keys().map(|(kind, _)| i16::from(*kind)).collect();
    let keys: Vec<&[u8]> = rows.keys().map(|(_, key)| key.as_slice()).collect();
    let sealed: Vec<&[u8]> = rows.values().map(|(sealed, _)| sealed.as_slice()).collect();
    let stamps: Vec<i64> = rows.values().map(|(_, stamp)| *stamp).collect();
    let sql = "INSERT INTO session_rows (channel_key, kind, key, sealed, stamp, session)
               SELECT $1, kind, key, sealed, stamp, $6 FROM unnest($2, $3, $4, $5) AS new (kind, key, sealed, stamp)
               ON CONFLICT (channel_key, kind, key)
                   DO UPDATE SET sealed = excluded.sealed, stamp = excluded.stamp, session = excluded.session";
    db.run(sql, args![channel, kinds, keys, sealed, stamps, session]).await.map(drop)
}

/// Deletes rows that are named, and counts them.
async fn delete_named(
    db: Db<'_>,
    channel: ChannelKey,
    changes: &[SessionChange],
    deleted: &mut DeletedRows,
) -> Done<()> {
    let (mut kinds, mut keys): (Vec<i16>, Vec<&[u8]>) = (Vec::new(), Vec::new());
    for change in changes {
        if let SessionChange::Delete { kind, key } = change {
            kinds.push(i16::from(*kind));
            keys.push(key);
        }
    }
    let sql = "DELETE FROM session_rows r USING unnest($2, $3) AS gone (kind, key)
               WHERE r.channel_key = $1 AND r.kind = gone.kind AND r.key = gone.key RETURNING r.kind";
    for row in db.rows(sql, args![channel, kinds, keys]).await? {
        // Only kinds of the changes come back.
        deleted.add(u8::try_from(row.get::<_, i16>("kind")).unwrap_or(u8::MAX), 1);
    }
    Ok(())
}

/// Ends a node's session, and increments the session number of the channel. A newer session stays.
pub(super) async fn end_held(db: Db<'_>, held: Held) -> Done<()> {
    let Some(locked) = lock(db, held.channel).await? else { return Ok(()) };
    if locked.has(held)? {
        sessions::end(&db, held.channel).await?;
    }
    Ok(())
}
