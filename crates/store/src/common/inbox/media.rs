//! Where the bytes of files are: at the network, stored, or nowhere any more. The bytes themselves are no rows.

use recado_domain::clock::Millis;
use recado_domain::event::Owner;
use recado_domain::ids::MediaId;
use recado_domain::incoming::{Arrival, Arrivals, Media, MediaState, NewMedia, Outcome, Received, StoredFile, What};

use super::rows::file;
use super::{json, to_json};
use crate::commits::Change;
use crate::common::Transaction;
use crate::sqlkit::both::{Executor, Row, value, values};

/// Reports the stored messages that have files, so that these can be fetched at once.
pub(crate) fn report<T: Transaction>(tx: &mut T, batch: &Arrivals, received: &[Received]) {
    let is_new = |received: &Received| matches!(received.outcome, Outcome::Stored | Outcome::Recovered);
    let has_file = |arrival: &Arrival| matches!(&arrival.what, What::Message(new) if new.media.is_some());
    let pairs = batch.arrivals.iter().zip(received).filter(|(arrival, received)| has_file(arrival) && is_new(received));
    let messages: Vec<_> = pairs.filter_map(|(_, received)| received.message).collect();
    if !messages.is_empty() {
        tx.notify(Change::Files(batch.channel, messages));
    }
}

pub(crate) async fn one<E: Executor>(db: &E, owner: Owner, id: MediaId) -> Result<Option<Media>, E::Error> {
    let sql = "SELECT f.id AS media_id, f.message_id, f.channel_key AS media_channel, f.state, f.about, f.sealed,
                      f.read_at AS media_read_at
               FROM incoming_media f JOIN channels c ON c.key = f.channel_key
               WHERE f.id = ?1 AND c.institution_id = ?2 AND c.environment = ?3";
    let (institution, environment) = (&owner.0.as_bytes()[..], owner.1.name());
    let found = db.row(sql, values![&id.as_bytes()[..], institution, environment], file).await?;
    Ok(found.flatten())
}

pub(crate) async fn stored<E: Executor>(
    db: &E,
    id: MediaId,
    (size, sha256): (u64, &str),
    now: Millis,
) -> Result<bool, E::Error> {
    let id = &id.as_bytes()[..];
    let sql = format!("SELECT about FROM incoming_media WHERE id = ?1{}", E::lock_for("update"));
    let about: Option<NewMedia> = db.row(&sql, values![id], |row| json(row, "about")).await?;
    let Some(about) = about else { return Ok(false) };
    let about = NewMedia { size: Some(size), sha256: Some(sha256.to_owned()), ..about };
    let sql = "UPDATE incoming_media SET state = ?2, about = ?3, read_at = ?4 WHERE id = ?1";
    Ok(db.run(sql, values![id, MediaState::Stored.name(), to_json(&about), now]).await? == 1)
}

pub(crate) async fn gone<E: Executor>(db: &E, id: MediaId, was: MediaState) -> Result<bool, E::Error> {
    let sql = "UPDATE incoming_media SET state = ?2 WHERE id = ?1 AND state = ?3";
    Ok(db.run(sql, values![&id.as_bytes()[..], MediaState::Gone.name(), was.name()]).await? == 1)
}

pub(crate) async fn read<E: Executor>(db: &E, id: MediaId, now: Millis) -> Result<bool, E::Error> {
    let sql = "UPDATE incoming_media SET read_at = ?2 WHERE id = ?1 AND state = 'STORED'";
    Ok(db.run(sql, values![&id.as_bytes()[..], now]).await? == 1)
}

pub(crate) async fn release<E: Executor>(db: &E, before: Millis) -> Result<u64, E::Error> {
    let old = "state = 'STORED' AND read_at < ?1";
    let sql = format!(
        "UPDATE incoming_media SET state = 'REMOTE'
         WHERE id IN (SELECT id FROM incoming_media WHERE {old} ORDER BY read_at LIMIT ?2) AND {old}"
    );
    db.run(&sql, values![before, E::PURGED_AT_ONCE]).await
}

pub(crate) async fn release_these<E: Executor>(db: &E, ids: &[MediaId]) -> Result<u64, E::Error> {
    if ids.is_empty() {
        return Ok(0);
    }
    // In one order, so that two nodes do not wait for each other.
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    let sql =
        format!("UPDATE incoming_media SET state = 'REMOTE' WHERE state = 'STORED' AND id IN ({})", places(ids.len()));
    let ids = bytes(&ids);
    db.run(&sql, &ids.iter().map(value).collect::<Vec<_>>()).await
}

pub(crate) async fn which_stored<E: Executor>(db: &E, ids: &[MediaId]) -> Result<Vec<StoredFile>, E::Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT id, channel_key, read_at FROM incoming_media WHERE state = 'STORED' AND id IN ({})",
        places(ids.len())
    );
    let ids = bytes(ids);
    let read = |row: &Row<'_>| {
        let id = MediaId::from_bytes(row.bytes("id")?);
        Ok(StoredFile { id, channel: row.get("channel_key")?, read_at: row.get("read_at")? })
    };
    db.rows(&sql, &ids.iter().map(value).collect::<Vec<_>>(), read).await
}

fn bytes(ids: &[MediaId]) -> Vec<&[u8]> {
    ids.iter().map(|id| &id.as_bytes()[..]).collect()
}

/// The parameters of so many values.
fn places(count: usize) -> String {
    (1..=count).map(|place| format!("?{place}")).collect::<Vec<_>>().join(", ")
}
