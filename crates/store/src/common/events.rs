//! What happened to channels and messages.

use recado_domain::channel::{ChannelEventPage, ChannelEventQuery, StoredEvent};
use recado_domain::message::Seq;

use crate::sqlkit::both::{Executor, List, Row, values};

/// Forgets what happened to these messages.
pub(super) async fn forget<E: Executor>(db: &E, messages: &List<Seq>) -> Result<(), E::Error> {
    let sql = format!("delete from events where {}", E::any("message_seq", 1));
    db.run(&sql, values![*messages]).await.map(drop)
}

/// The same of the messages in this range that are gone.
pub(super) async fn forget_gone<E: Executor>(db: &E, (after, last): (Seq, Seq)) -> Result<(), E::Error> {
    let sql = "delete from events where message_seq > ?1 and message_seq <= ?2
               and not exists (select 1 from messages where seq = message_seq)";
    db.run(sql, values![after, last]).await.map(drop)
}

/// Deletes some of what happened before `?2` to these subjects, at most `?1`.
pub(super) fn old(subjects: &str) -> String {
    format!(
        "delete from events where seq in (select seq from events where at < ?2 and {subjects} order by at limit ?1)"
    )
}

/// A page of what happened to a channel, newest first.
pub(crate) async fn of_channel<E: Executor>(db: &E, query: ChannelEventQuery) -> Result<ChannelEventPage, E::Error> {
    let sql = "select seq, at, data, node from events
               where channel_key = ?1 and message_seq is null and seq < ?2 order by seq desc limit ?3";
    let event = |row: &Row<'_>| {
        let (seq, at) = (row.get("seq")?, row.get("at")?);
        Ok(StoredEvent { seq, at, data: row.get("data")?, node: row.get("node")? })
    };
    let (before, limit) = (query.before.unwrap_or(i64::MAX), i64::try_from(query.limit + 1).unwrap_or(i64::MAX));
    let events = db.rows(sql, values![query.channel, before, limit], event).await?;
    Ok(ChannelEventPage::of(events, query.limit))
}
