//! What happened.

use recado_domain::channel::{
    ChannelEventPage, ChannelEventQuery, ChannelKey, MAX_CHANNEL_EVENTS, Recorded, StoredEvent,
};
use recado_domain::clock::Millis;
use tokio_postgres::Row;

use crate::sqlkit::postgres::db::{Db, Done, args};

/// Records what happened to a channel, in the transaction that makes it true, which holds the channel's row. The oldest of
/// too many events goes.
pub(super) async fn record(db: Db<'_>, key: ChannelKey, what: &Recorded, at: Millis) -> Done<()> {
    if what.from == what.to && newest(db, key).await?.is_some_and(|newest| what.repeats(&newest)) {
        return Ok(());
    }
    let sql = "insert into events (channel_key, kind, at, data, node)
               select $1, $2, $3, $4, (select name from nodes where id = lease_node) from channels where key = $1";
    db.run(sql, args![key, what.kind(), at, what.to_json()]).await?;
    let sql = "delete from events where channel_key = $1 and message_seq is null
               and seq <= (select seq from events where channel_key = $1 and message_seq is null
                           order by seq desc limit 1 offset $2)";
    db.run(sql, args![key, MAX_CHANNEL_EVENTS]).await?;
    Ok(())
}

async fn newest(db: Db<'_>, key: ChannelKey) -> Done<Option<Recorded>> {
    let sql = "select data from events where channel_key = $1 and message_seq is null order by seq desc limit 1";
    Ok(db.row(sql, args![key]).await?.and_then(|row| Recorded::from_json(row.get(0))))
}

/// A page of what happened to a channel, newest first.
pub(super) async fn of_channel(db: Db<'_>, query: ChannelEventQuery) -> Done<ChannelEventPage> {
    let sql = "select seq, at, data, node from events
               where channel_key = $1 and message_seq is null and seq < $2 order by seq desc limit $3";
    let event = |row: &Row| StoredEvent { seq: row.get(0), at: row.get(1), data: row.get(2), node: row.get(3) };
    let (before, limit) = (query.before.unwrap_or(i64::MAX), i64::try_from(query.limit + 1).unwrap_or(i64::MAX));
    let rows = db.rows(sql, args![query.channel, before, limit]).await?;
    Ok(ChannelEventPage::of(rows.iter().map(event).collect(), query.limit))
}
