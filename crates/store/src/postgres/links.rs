//! How channels are linked to their networks.

use async_trait::async_trait;
use recado_domain::channel::{Actor, ChannelKey, ChannelMove, ChannelState, Held, Link, LinkRest};
use recado_domain::clock::Millis;
use tokio_postgres::Row;

use super::{PgStore, channels, chats, queue, recipients};
use crate::commits::Change;
use crate::sqlkit::postgres::db::{Db, Done, args, plainly, transaction};
use crate::{Links, Result};

#[async_trait]
impl Links for PgStore {
    async fn links(&self) -> Result<Vec<Link>> {
        plainly!(self.pool, db => all(db))
    }

    async fn link(&self, channel: ChannelKey) -> Result<Option<Link>> {
        plainly!(self.pool, db => one(db, channel))
    }

    async fn link_channel(&self, link: Link, expected: ChannelState, by: Actor, now: Millis) -> Result<bool> {
        let channel = link.channel;
        let linked: Result<bool> = transaction!(self.pool, db => set(db, &link, expected, by, now).await);
        linked.inspect(|_| self.follower.tell(vec![Change::Work(channel)]))
    }

    async fn link_held_channel(&self, link: Link, held: Held, expected: ChannelState, now: Millis) -> Result<bool> {
        let channel = link.channel;
        let linked: Result<bool> = transaction!(self.pool, db => set_held(db, &link, held, expected, now).await);
        linked.inspect(|_| self.follower.tell(vec![Change::Work(channel)]))
    }

    async fn reseal_link(&self, channel: ChannelKey, old: Vec<u8>, new: Vec<u8>) -> Result<bool> {
        transaction!(self.pool, db => reseal(db, channel, &old, &new).await)
    }

    async fn ban_link(&self, channel: ChannelKey, until: Millis) -> Result<()> {
        plainly!(self.pool, db => ban(db, channel, until))
    }

    async fn note_login(&self, channel: ChannelKey, at: Millis) -> Result<()> {
        plainly!(self.pool, db => note_login(db, channel, at))
    }

    async fn link_rest(&self, channel: ChannelKey) -> Result<LinkRest> {
        plainly!(self.pool, db => rest(db, channel))
    }
}

pub(super) async fn all(db: Db<'_>) -> Done<Vec<Link>> {
    let sql = "select channel_key, details, sealed from links join channels on key = channel_key
               where deleted_at is null
               order by channel_key";
    Ok(db.rows(sql, &[]).await?.iter().map(row).collect())
}

/// Those of channels that were changed behind this version of the directory.
pub(super) async fn since(db: Db<'_>, version: i64) -> Done<Vec<Link>> {
    let sql = "select channel_key, details, sealed from links join channels on key = channel_key where version > $1";
    Ok(db.rows(sql, args![version]).await?.iter().map(row).collect())
}

pub(super) async fn one(db: Db<'_>, channel: ChannelKey) -> Done<Option<Link>> {
    let sql = "select channel_key, details, sealed from links where channel_key = $1";
    Ok(db.row(sql, args![channel]).await?.as_ref().map(row))
}

fn row(row: &Row) -> Link {
    Link { channel: row.get(0), details: row.get(1), sealed: row.get(2) }
}

/// By the word of this caller.
async fn set(db: Db<'_>, link: &Link, expected: ChannelState, by: Actor, now: Millis) -> Done<bool> {
    let to = ChannelMove { from: expected, to: ChannelState::Connected, reason: None, by, at: now };
    Ok(write(db, link, expected, now).await? && channels::move_to(db, link.channel, &to).await?)
}

/// Writes a link where the channel is in the expected state.
async fn write(db: Db<'_>, link: &Link, expected: ChannelState, now: Millis) -> Done<bool> {
    let channel = link.channel;
    if channels::lock(db, channel).await? != Some((None, expected)) {
        return Ok(false);
    }
    let former = db.row("select details from links where channel_key = $1", args![channel]).await?;
    let sql = "insert into links (channel_key, details, sealed) values ($1, $2, $3)
               on conflict (channel_key) do update set details = excluded.details, sealed = excluded.sealed,
                   banned_until = null, logged_in_at = null";
    db.run(sql, args![channel, link.details.as_str(), &link.sealed[..]]).await?;
    if former.is_some_and(|former| link.is_of_another_number(former.get(0))) {
        // Whom another number may write to says nothing of this one.
        chats::forget_all(db, channel).await?;
        queue::leave_unanswered(db, channel, now).await?;
        recipients::leave_unknown(db, channel).await?;
    }
    channels::let_go(db, channel).await?;
    channels::stamp(db, channel).await?;
    Ok(true)
}

/// By the word of a line, where the channel is held under this epoch; it ends no pause.
async fn set_held(db: Db<'_>, new: &Link, held: Held, expected: ChannelState, now: Millis) -> Done<bool> {
    let Some(locked) = super::lock::lock(db, new.channel).await? else { return Ok(false) };
    if !locked.has(held)? {
        return Ok(false);
    }
    if expected == ChannelState::Paused {
        write(db, new, expected, now).await
    } else {
        set(db, new, expected, Actor::Network, now).await
    }
}

pub(super) async fn reseal(db: Db<'_>, channel: ChannelKey, old: &[u8], new: &[u8]) -> Done<bool> {
    channels::lock(db, channel).await?;
    let sql = "update links set sealed = $3 where channel_key = $1 and sealed = $2";
    let resealed = db.run(sql, args![channel, old, new]).await? == 1;
    if resealed {
        channels::stamp(db, channel).await?;
    }
    Ok(resealed)
}

pub(super) async fn ban(db: Db<'_>, channel: ChannelKey, until: Millis) -> Done<()> {
    let sql = "update links set banned_until = greatest(banned_until, $2) where channel_key = $1";
    db.run(sql, args![channel, until]).await?;
    Ok(())
}

pub(super) async fn note_login(db: Db<'_>, channel: ChannelKey, at: Millis) -> Done<()> {
    db.run("update links set logged_in_at = $2 where channel_key = $1", args![channel, at]).await?;
    Ok(())
}

pub(super) async fn rest(db: Db<'_>, channel: ChannelKey) -> Done<LinkRest> {
    let row = db.row("select banned_until, logged_in_at from links where channel_key = $1", args![channel]).await?;
    Ok(row.map(|row| LinkRest { banned_until: row.get(0), logged_in_at: row.get(1) }).unwrap_or_default())
}

pub(super) async fn delete(db: Db<'_>, channel: ChannelKey) -> Done<()> {
    db.run("delete from links where channel_key = $1", args![channel]).await?;
    Ok(())
}
