//! Where the bytes of files are: at the network, stored, or nowhere any more. The bytes themselves are no rows.

use recado_domain::clock::Millis;
use recado_domain::event::Owner;
use recado_domain::ids::MediaId;
use recado_domain::incoming::{Arrival, Arrivals, Media, MediaState, NewMedia, Outcome, Received, What};

use super::rows::file;
use super::{json, to_json};
use crate::commits::Change;
use crate::common::Transaction;
use crate::sqlkit::both::{Executor, values};

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

pub(crate) async fn which_stored<E: Executor>(db: &E, ids: &[MediaId]) -> Result<Vec<MediaId>, E::Error> {
    let sql = "SELECT id FROM incoming_media WHERE id = ?1 AND state = 'STORED'";
    let mut found = Vec::new();
    for id in ids {
        let is_stored = db.row(sql, values![&id.as_bytes()[..]], |row| row.bytes::<16>("id")).await?;
        found.extend(is_stored.map(MediaId::from_bytes));
    }
    Ok(found)
}
