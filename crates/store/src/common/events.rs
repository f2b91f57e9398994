//! Events of channels and messages.

use recado_domain::channel::{ChannelEventPage, ChannelEventQuery, StoredEvent};
use recado_domain::message::Seq;

use crate::sqlkit::both::{Executor, List, Row, values};

/// Deletes the events of these messages.
pub(super) async fn forget<E: Executor>(db: &E, messages: &List<Seq>) -> Result<(), E::Error> {
    let sql = format!("DELETE FROM events WHERE {}", E::any("message_seq", 1));
    db.run(&sql, values![*messages]).await.map(drop)
}

/// The same of the messages in this range that are gone.
pub(super) async fn forget_gone<E: Executor>(db: &E, (after, last): (Seq, Seq)) -> Result<(), E::Error> {
    let sql = "DELETE FROM events WHERE message_seq > ?1 AND message_seq <= ?2
               AND NOT EXISTS (SELECT 1 FROM messages WHERE seq = message_seq)";
    db.run(sql, values![after, last]).await.map(drop)
}

/// A statement that deletes at most `?1` events of these subjects from before `?2`.
pub(super) fn old(subjects: &str) -> String {
    format!(
        "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE at < ?2 AND {subjects} ORDER BY at LIMIT ?1)"
    )
}

/// A page of the events of a channel, newest first.
pub(crate) async fn of_channel<E: Executor>(db: &E, query: ChannelEventQuery) -> Result<ChannelEventPage, E::Error> {
    let sql = "SELECT seq, at, data, node FROM events
               WHERE channel_key = ?1 AND message_seq IS NULL AND seq < ?2 ORDER BY seq DESC LIMIT ?3";
    let event = |row: &Row<'_>| {
        let (seq, at) = (row.get("seq")?, row.get("at")?);
        Ok(StoredEvent { seq, at, data: row.get("data")?, node: row.get("node")? })
    };
    let (before, limit) = (query.before.unwrap_or(i64::MAX), i64::try_from(query.limit + 1).unwrap_or(i64::MAX));
    let events = db.rows(sql, values![query.channel, before, limit], event).await?;
    Ok(ChannelEventPage::of(events, query.limit))
}
