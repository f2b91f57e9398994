//! How channels are linked to their networks.

use recado_domain::channel::{Actor, ChannelKey, ChannelMove, ChannelState, Held, Link, LoginLimits};
use recado_domain::clock::Millis;

use super::Transaction;
use crate::commits::Change;
use crate::sqlkit::both::{Executor, Read, Row, values};

/// The columns of a link.
pub(crate) const LINK: &str = "SELECT channel_key, details, sealed FROM links JOIN channels ON key = channel_key";

pub(crate) fn link(row: &Row<'_>) -> Read<Link> {
    Ok(Link { channel: row.get("channel_key")?, details: row.get("details")?, sealed: row.get("sealed")? })
}

pub(crate) async fn all<E: Executor>(db: &E) -> Result<Vec<Link>, E::Error> {
    db.rows(&format!("{LINK} WHERE deleted_at IS NULL ORDER BY channel_key"), values![], link).await
}

pub(crate) async fn one<E: Executor>(db: &E, channel: ChannelKey) -> Result<Option<Link>, E::Error> {
    db.row(&format!("{LINK} WHERE channel_key = ?1"), values![channel], link).await
}

/// `by` is the caller who links the channel. `None`: its driver, which never ends a pause.
pub(crate) async fn set<T: Transaction>(
    tx: &mut T,
    link: &Link,
    (expected, by): (ChannelState, Option<Actor>),
    now: Millis,
) -> Result<bool, T::Error> {
    let channel = link.channel;
    let queue = tx.lock(channel).await?;
    if queue.is_none_or(|queue| queue.deleted || queue.state != expected) {
        return Ok(false);
    }
    let former = one(tx.db(), channel).await?;
    let sql = "INSERT INTO links (channel_key, details, sealed) VALUES (?1, ?2, ?3)
               ON CONFLICT (channel_key) DO UPDATE SET details = excluded.details, sealed = excluded.sealed,
                   banned_until = NULL, logged_in_at = NULL";
    tx.db().run(sql, values![channel, link.details, link.sealed]).await?;
    if former.is_some_and(|former| link.is_of_another_number(&former.details)) {
        tx.forget_former_number(channel, now).await?;
    }
    tx.clear_deferral(channel).await?;
    tx.notify(Change::Work(channel));
    if by.is_none() && expected == ChannelState::Paused {
        return Ok(true);
    }
    let by = by.unwrap_or(Actor::Network);
    let to = ChannelMove { from: expected, to: ChannelState::Connected, reason: None, by, at: now };
    tx.move_channel(channel, &to).await
}

pub(crate) async fn set_held<T: Transaction>(
    tx: &mut T,
    link: &Link,
    (held, expected): (Held, ChannelState),
    now: Millis,
) -> Result<bool, T::Error> {
    Ok(tx.holds(held).await? && set(tx, link, (expected, None), now).await?)
}

pub(crate) async fn reseal<E: Executor>(db: &E, channel: ChannelKey, old: &[u8], new: &[u8]) -> Result<bool, E::Error> {
    let sql = "UPDATE links SET sealed = ?3 WHERE channel_key = ?1 AND sealed = ?2";
    Ok(db.run(sql, values![channel, old, new]).await? == 1)
}

pub(crate) async fn ban<E: Executor>(db: &E, channel: ChannelKey, until: Millis) -> Result<(), E::Error> {
    let sql = "UPDATE links SET banned_until = ?2 WHERE channel_key = ?1 AND coalesce(banned_until, 0) < ?2";
    db.run(sql, values![channel, until]).await.map(drop)
}

pub(crate) async fn note_login<E: Executor>(db: &E, channel: ChannelKey, at: Millis) -> Result<(), E::Error> {
    db.run("UPDATE links SET logged_in_at = ?2 WHERE channel_key = ?1", values![channel, at]).await.map(drop)
}

pub(crate) async fn rest<E: Executor>(db: &E, channel: ChannelKey) -> Result<LoginLimits, E::Error> {
    let sql = "SELECT banned_until, logged_in_at FROM links WHERE channel_key = ?1";
    let rest = |row: &Row<'_>| {
        Ok(LoginLimits { banned_until: row.get("banned_until")?, logged_in_at: row.get("logged_in_at")? })
    };
    Ok(db.row(sql, values![channel], rest).await?.unwrap_or_default())
}
