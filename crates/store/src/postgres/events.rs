//! What happened.

use recado_domain::channel::{ChannelEvent, ChannelEventQuery, ChannelKey, MAX_CHANNEL_EVENTS, Recorded};
use recado_domain::clock::Millis;
use tokio_postgres::Row;

use crate::sqlkit::postgres::db::{Db, Done, args};

/// Records what happened to a channel, in the transaction that makes it true. The oldest of too many events goes.
pub(super) async fn record(db: Db<'_>, key: ChannelKey, what: &Recorded, at: Millis) -> Done<()> {
    let sql = "insert into events (channel_key, kind, at, data, node)
               select $1, $2, $3, $4, (select name from nodes where id = lease_node) from channels where key = $1";
    db.run(sql, args![key, what.kind(), at, what.to_json()]).await?;
    let sql = "delete from events where channel_key = $1 and message_seq is null
               and seq <= (select seq from events where channel_key = $1 and message_seq is null
                           order by seq desc limit 1 offset $2)";
    db.run(sql, args![key, MAX_CHANNEL_EVENTS]).await?;
    Ok(())
}

/// A page of what happened to a channel, newest first. What a newer version recorded is passed over.
pub(super) async fn of_channel(db: Db<'_>, query: ChannelEventQuery) -> Done<Vec<ChannelEvent>> {
    let sql = "select seq, at, data, node from events
               where channel_key = $1 and message_seq is null and seq < $2 order by seq desc limit $3";
    let event = |row: &Row| {
        let what = Recorded::from_json(row.get(2))?;
        Some(ChannelEvent { seq: row.get(0), at: row.get(1), what, node: row.get(3) })
    };
    let (before, limit) = (query.before.unwrap_or(i64::MAX), i64::try_from(query.limit).unwrap_or(i64::MAX));
    Ok(db.rows(sql, args![query.channel, before, limit]).await?.iter().filter_map(event).collect())
}
