//! Sessions of linked devices: the statements that both engines share.

use recado_domain::channel::{ChannelKey, SessionChange, SessionKey, SessionOf, SessionRow};

use crate::sqlkit::both::{Executor, Row, values};

pub(crate) async fn list<E: Executor>(
    db: &E,
    ((channel, session), kind): (SessionOf, u8),
    prefix: &[u8],
) -> Result<Vec<(Vec<u8>, Vec<u8>)>, E::Error> {
    let sql = "SELECT key, sealed FROM session_rows
               WHERE channel_key = ?1 AND kind = ?2 AND key >= ?3 AND (?4 IS NULL OR key < ?4) AND session = ?5 ORDER BY key";
    let read = |row: &Row<'_>| Ok((row.get("key")?, row.get("sealed")?));
    db.rows(sql, values![channel, i16::from(kind), prefix, SessionKey::behind(prefix), session], read).await
}

/// Deletes rows by prefix or age. Returns how many there were.
pub(crate) async fn delete_many<E: Executor>(
    db: &E,
    channel: ChannelKey,
    change: &SessionChange,
) -> Result<u64, E::Error> {
    match change {
        SessionChange::DeletePrefix { kind, prefix } => {
            let sql = "DELETE FROM session_rows
                       WHERE channel_key = ?1 AND kind = ?2 AND key >= ?3 AND (?4 IS NULL OR key < ?4)";
            db.run(sql, values![channel, i16::from(*kind), prefix.as_slice(), SessionKey::behind(prefix)]).await
        }
        SessionChange::DeleteBefore { kind, stamp } => {
            let sql = "DELETE FROM session_rows WHERE channel_key = ?1 AND kind = ?2 AND stamp > 0 AND stamp < ?3";
            db.run(sql, values![channel, i16::from(*kind), *stamp]).await
        }
        SessionChange::Put { .. } | SessionChange::Delete { .. } => Ok(0),
    }
}

/// Deletes the session rows of a channel, and increments its session number.
pub(crate) async fn end<E: Executor>(db: &E, channel: ChannelKey) -> Result<(), E::Error> {
    db.run("DELETE FROM session_rows WHERE channel_key = ?1", values![channel]).await?;
    db.run("UPDATE channels SET session = session + 1 WHERE key = ?1", values![channel]).await.map(drop)
}

/// `session` is the expression for the session number: tables of older versions have no such column.
pub(crate) async fn page<E: Executor>(
    db: &E,
    session: &str,
    after: Option<&SessionKey>,
    limit: usize,
) -> Result<Vec<SessionRow>, E::Error> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let columns = format!("SELECT channel_key, kind, key, sealed, {session} FROM session_rows");
    let order = "ORDER BY channel_key, kind, key LIMIT ?1";
    let Some(SessionKey { channel, kind, key, .. }) = after else {
        return db.rows(&format!("{columns} {order}"), values![limit], row).await;
    };
    let sql = format!("{columns} WHERE (channel_key, kind, key) > (?2, ?3, ?4) {order}");
    db.rows(&sql, values![limit, *channel, i16::from(*kind), key.as_slice()], row).await
}

fn row(row: &Row<'_>) -> crate::sqlkit::both::Read<SessionRow> {
    let (channel, kind, key) = (row.get("channel_key")?, row.number("kind")?, row.get("key")?);
    let of = SessionKey { channel, kind, key, session: row.get("session")? };
    Ok(SessionRow { of, sealed: row.get("sealed")? })
}

pub(crate) async fn reseal<E: Executor>(db: &E, old: &SessionRow, new: &[u8]) -> Result<bool, E::Error> {
    let SessionKey { channel, kind, key, .. } = &old.of;
    let sql = "UPDATE session_rows SET sealed = ?5 WHERE channel_key = ?1 AND kind = ?2 AND key = ?3 AND sealed = ?4";
    let (kind, key, old) = (i16::from(*kind), key.as_slice(), old.sealed.as_slice());
    Ok(db.run(sql, values![*channel, kind, key, old, new]).await? == 1)
}
