//! Channels: their states, and the version of the directory.

use recado_domain::api_key::Environment;
use recado_domain::channel::{Actor, Channel, ChannelKey, ChannelMove, ChannelState};
use recado_domain::clock::Millis;
use recado_domain::ids::InstitutionId;
use recado_domain::message::Seq;

use super::events;
use super::lock::Locked;
use crate::common::channels::{COLUMNS, if_known};
use crate::sqlkit::both::{Executor, values};
use crate::sqlkit::postgres::db::{Db, Done, args};

/// The highest number that any message was given, also one that is not visible yet.
pub(super) const LAST_SEQ: &str = "coalesce(pg_sequence_last_value('messages_seq_seq'), 0)";

/// Messages that wait for the gate take their places in the line again.
pub(super) const LOOK_AGAIN: &str = "front_before = 0, front_until = null, front_latest = 0, front_per_day = null";

/// Tells the other nodes that they know the channel as it was. The lock of the channel is held, so that everybody takes
/// the two in one order.
pub(super) async fn stamp(db: Db<'_>, key: ChannelKey) -> Done<()> {
    let sql = "with changed as (update directory set version = version + 1 returning version)
               update channels set version = changed.version from changed where key = $1";
    db.run(sql, args![key]).await?;
    Ok(())
}

/// Whether events of the messages of these channels are recorded, of those that are made later as well; `false` when there is
/// no such institution.
pub(super) async fn record_messages(
    db: Db<'_>,
    (institution, environment): (InstitutionId, Environment),
    on: bool,
) -> Done<bool> {
    let (institution, environment) = (&institution.as_bytes()[..], environment.name());
    let owner = args![institution, environment];
    let lock = "select key from channels where institution_id = $1 and environment = $2 order by key for no key update";
    db.rows(lock, owner).await?;
    if db.row("select from institutions where id = $1 for update", &owner[..1]).await?.is_none() {
        return Ok(false);
    }
    let sql = if on {
        "insert into event_consumers (institution_id, environment) values ($1, $2) on conflict do nothing"
    } else {
        "delete from event_consumers where institution_id = $1 and environment = $2"
    };
    db.run(sql, owner).await?;
    let sql = "update channels set records_messages = $3 where institution_id = $1 and environment = $2";
    db.run(sql, args![institution, environment, on]).await?;
    Ok(true)
}

/// Moves a channel from the expected state; `false` when it was in another, or is deleted.
pub(super) async fn move_to(db: Db<'_>, key: ChannelKey, to: &ChannelMove) -> Done<bool> {
    let connected_at = (to.to == ChannelState::Connected).then_some(to.at);
    let sql = format!(
        "update channels
         set state = $3, state_reason = $4, connected_at = coalesce(connected_at, $5),
             -- For nodes of the version before.
             up_since = coalesce($5, up_since),
             connections = connections + ($5::bigint is not null)::integer,
             restricted_until = case when $6 then restricted_until end, {LOOK_AGAIN}
         where key = $1 and state = $2 and deleted_at is null"
    );
    let (from, next, keeps) = (to.from.name(), to.to.name(), to.to.keeps_restriction());
    if db.run(&sql, args![key, from, next, to.reason.as_deref(), connected_at, keeps]).await? == 0 {
        return Ok(false);
    }
    events::record(db, key, &to.into(), to.at).await?;
    Ok(true)
}

/// Lets a channel open no chats until then, unless a later time stands.
pub(super) async fn restrict(db: Db<'_>, locked: &mut Locked, until: Millis, reason: &str, now: Millis) -> Done<bool> {
    if !locked.queue.can_be_restricted() {
        return Ok(false);
    }
    if locked.queue.dispatches() {
        let (from, to, reason) = (locked.queue.state, ChannelState::Restricted, Some(reason.to_owned()));
        move_to(db, locked.key, &ChannelMove { from, to, reason, by: Actor::Network, at: now }).await?;
    }
    let sql =
        format!("update channels set restricted_until = greatest(restricted_until, $2), {LOOK_AGAIN} where key = $1");
    db.run(&sql, args![locked.key, until]).await?;
    locked.read_again(db).await?;
    Ok(true)
}

/// Pauses a channel that sends, because its network refused this message; not one that a person has brought up since
/// the message was sent.
pub(super) async fn pause(db: Db<'_>, locked: &mut Locked, reason: &str, seq: Seq, now: Millis) -> Done<()> {
    let sent = db.row("select connection from messages where seq = $1", args![seq]).await?;
    if !locked.queue.is_paused_by(seq, sent.and_then(|row| row.get("connection"))) {
        return Ok(());
    }
    let (from, to, reason) = (locked.queue.state, ChannelState::Paused, Some(reason.to_owned()));
    move_to(db, locked.key, &ChannelMove { from, to, reason, by: Actor::Network, at: now }).await?;
    locked.read_again(db).await
}

/// Ends a hold of the channel: what its network said before it was linked anew holds no more.
pub(super) async fn let_go(db: Db<'_>, key: ChannelKey) -> Done<()> {
    db.run("update channels set next_send_at = 0 where key = $1", args![key]).await?;
    Ok(())
}

/// Those that were changed behind this version of the directory.
pub(super) async fn since(db: Db<'_>, version: i64) -> Done<Vec<Channel>> {
    let sql = format!("select {COLUMNS} from channels where version > ?1 order by key");
    Ok(Executor::rows(&db, &sql, values![version], if_known).await?.into_iter().flatten().collect())
}
