//! Arrivals that the store refused, until it takes them.

use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::incoming::{Arrivals, NewRefused, Received, RefusedArrival, RefusedKey};

use super::receive_and_report;
use crate::common::{PageScan, Transaction};
use crate::person::Person;
use crate::sqlkit::both::{Executor, Read, Row, values};

/// The most refused arrivals of a channel that are kept, and their bytes.
const MOST: i64 = 1_000;
const MOST_BYTES: i64 = 16 << 20;
/// The wait before the second try.
const RETRY: Millis = 10 * 60 * 1_000;

const COLUMNS: &str = "SELECT channel_key, id, sealed, since, tries FROM refused_arrivals";

fn row(row: &Row<'_>) -> Read<RefusedArrival> {
    let key = RefusedKey { channel: row.get("channel_key")?, id: row.get("id")? };
    Ok(RefusedArrival { key, sealed: row.get("sealed")?, since: row.get("since")?, tries: row.number("tries")? })
}

/// Keeps arrivals that were refused. `false`, and nothing is kept, if the channel has too many.
pub(crate) async fn keep<E: Executor>(
    db: &E,
    channel: ChannelKey,
    refused: &[NewRefused],
    now: Millis,
) -> Result<bool, E::Error> {
    let sql = "SELECT count(*) AS number, CAST(coalesce(sum(length(sealed)), 0) AS bigint) AS bytes
               FROM refused_arrivals WHERE channel_key = ?1";
    let kept = db.row(sql, values![channel], |row| Ok((row.get::<i64>("number")?, row.get::<i64>("bytes")?))).await?;
    let (mut number, mut bytes) = kept.unwrap_or_default();
    let mut new = Vec::new();
    for one in refused {
        let sql = "SELECT 1 AS found FROM refused_arrivals WHERE channel_key = ?1 AND id = ?2";
        // The network repeated it.
        if db.row(sql, values![channel, one.id.as_slice()], |_| Ok(())).await?.is_none() {
            (number, bytes) = (number + 1, bytes + i64::try_from(one.sealed.len()).unwrap_or(i64::MAX));
            new.push(one);
        }
    }
    if number > MOST || bytes > MOST_BYTES {
        return Ok(new.is_empty());
    }
    for one in new {
        let sql = "INSERT INTO refused_arrivals (channel_key, id, names, sealed, since, tries, next_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6) ON CONFLICT (channel_key, id) DO NOTHING";
        let names = format!(" {} ", one.names.join(" "));
        let (id, sealed) = (one.id.as_slice(), one.sealed.as_slice());
        db.run(sql, values![channel, id, names, sealed, now, now + RETRY]).await?;
    }
    Ok(true)
}

/// Those whose next try is due, the longest due first.
pub(crate) async fn due<E: Executor>(db: &E, now: Millis, limit: usize) -> Result<Vec<RefusedArrival>, E::Error> {
    let sql = format!("{COLUMNS} WHERE next_at <= ?1 ORDER BY next_at, channel_key, id LIMIT ?2");
    db.rows(&sql, values![now, i64::try_from(limit).unwrap_or(i64::MAX)], row).await
}

/// Stores one as [`super::receive_and_report`] does, in place of what is kept of it; `None` if that is gone.
pub(crate) async fn store<T: Transaction>(
    tx: &mut T,
    key: &RefusedKey,
    arrivals: &Arrivals,
    now: Millis,
) -> Result<Option<Vec<Received>>, T::Error>
where
    T::Db: PageScan,
{
    // First, so that an erasure of the person either waits for this, and finds the message, or leaves nothing to store.
    if !forget(tx.db(), key).await? {
        return Ok(None);
    }
    receive_and_report(tx, arrivals, now).await.map(Some)
}

/// Notes that it was refused again.
pub(crate) async fn defer<E: Executor>(db: &E, key: &RefusedKey, now: Millis) -> Result<(), E::Error> {
    let sql = "UPDATE refused_arrivals SET tries = tries + 1, next_at = ?3 WHERE channel_key = ?1 AND id = ?2";
    db.run(sql, values![key.channel, key.id.as_slice(), now + RETRY]).await.map(drop)
}

/// Deletes one; `false` if it is gone.
pub(crate) async fn forget<E: Executor>(db: &E, key: &RefusedKey) -> Result<bool, E::Error> {
    let sql = "DELETE FROM refused_arrivals WHERE channel_key = ?1 AND id = ?2";
    Ok(db.run(sql, values![key.channel, key.id.as_slice()]).await? == 1)
}

/// A page of all of them behind this one, in the order of their keys.
pub(crate) async fn page<E: Executor>(
    db: &E,
    after: Option<&RefusedKey>,
    limit: usize,
) -> Result<Vec<RefusedArrival>, E::Error> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let order = "ORDER BY channel_key, id LIMIT ?1";
    let Some(RefusedKey { channel, id }) = after else {
        return db.rows(&format!("{COLUMNS} {order}"), values![limit], row).await;
    };
    let sql = format!("{COLUMNS} WHERE (channel_key, id) > (?2, ?3) {order}");
    db.rows(&sql, values![limit, *channel, id.as_slice()], row).await
}

/// Replaces the sealed bytes of one; `false` if they are others by now.
pub(crate) async fn reseal<E: Executor>(db: &E, old: &RefusedArrival, new: &[u8]) -> Result<bool, E::Error> {
    let sql = "UPDATE refused_arrivals SET sealed = ?4 WHERE channel_key = ?1 AND id = ?2 AND sealed = ?3";
    let RefusedArrival { key, sealed, .. } = old;
    Ok(db.run(sql, values![key.channel, key.id.as_slice(), sealed.as_slice(), new]).await? == 1)
}

/// Deletes what is kept of a person.
pub(super) async fn erase<E: Executor>(db: &E, person: &Person) -> Result<u64, E::Error> {
    let (institution, environment) = person.owner();
    let sql = "DELETE FROM refused_arrivals
               WHERE names <> replace(names, ?1, '') AND channel_key IN
                   (SELECT key FROM channels WHERE (?2 IS NULL OR institution_id = ?2) AND (?3 IS NULL OR environment = ?3))";
    let mut erased = 0;
    for name in &person.numbers {
        // There are spaces between the names.
        erased += db.run(sql, values![format!(" {name} "), institution, environment]).await?;
    }
    Ok(erased)
}
