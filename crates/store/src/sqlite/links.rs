//! How channels are linked to their networks.

use async_trait::async_trait;
use recado_domain::channel::{Actor, ChannelKey, ChannelMove, ChannelState, Held, Link, LinkRest};
use recado_domain::clock::Millis;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{SqliteStore, Writing, channels, chats, queue, recipients};
use crate::{Links, Result};

#[async_trait]
impl Links for SqliteStore {
    async fn links(&self) -> Result<Vec<Link>> {
        self.readers.read(all).await
    }

    async fn link(&self, channel: ChannelKey) -> Result<Option<Link>> {
        self.readers.read(move |connection| one(connection, channel)).await
    }

    async fn link_channel(&self, link: Link, expected: ChannelState, by: Actor, now: Millis) -> Result<bool> {
        self.write(move |writing| set(writing, &link, (expected, Some(by)), now)).await
    }

    async fn link_held_channel(&self, link: Link, held: Held, expected: ChannelState, now: Millis) -> Result<bool> {
        self.write(move |writing| Ok(writing.has(held) && set(writing, &link, (expected, None), now)?)).await
    }

    async fn reseal_link(&self, channel: ChannelKey, old: Vec<u8>, new: Vec<u8>) -> Result<bool> {
        self.write(move |writing| reseal(writing, channel, &old, &new)).await
    }

    async fn ban_link(&self, channel: ChannelKey, until: Millis) -> Result<()> {
        self.write(move |writing| ban(writing, channel, until)).await
    }

    async fn note_login(&self, channel: ChannelKey, at: Millis) -> Result<()> {
        self.write(move |writing| note_login(writing, channel, at)).await
    }

    async fn link_rest(&self, channel: ChannelKey) -> Result<LinkRest> {
        self.readers.read(move |connection| rest(connection, channel)).await
    }
}

pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<Link>> {
    let mut statement = connection.prepare_cached(
        "select channel_key, details, sealed from links join channels on key = channel_key
         where deleted_at is null
         order by channel_key",
    )?;
    statement.query_map([], row)?.collect()
}

pub(super) fn one(connection: &Connection, channel: ChannelKey) -> rusqlite::Result<Option<Link>> {
    let mut statement =
        connection.prepare_cached("select channel_key, details, sealed from links where channel_key = ?1")?;
    statement.query_row([channel], row).optional()
}

fn row(row: &Row<'_>) -> rusqlite::Result<Link> {
    Ok(Link { channel: row.get(0)?, details: row.get(1)?, sealed: row.get(2)? })
}

/// By the word of this caller, or by that of a line (`None`), which ends no pause.
fn set(
    writing: &mut Writing,
    link: &Link,
    (expected, by): (ChannelState, Option<Actor>),
    now: Millis,
) -> rusqlite::Result<bool> {
    let former = details(writing, link.channel)?;
    let linked = writing
        .connection
        .prepare_cached(
            "insert into links (channel_key, details, sealed)
             -- No row where the channel is in another state: nothing is written then.
             select key, ?2, ?3 from channels where key = ?1 and state = ?4 and deleted_at is null
             on conflict (channel_key) do update set details = excluded.details, sealed = excluded.sealed,
                 banned_until = null, logged_in_at = null",
        )?
        .execute(params![link.channel, link.details, link.sealed, expected.name()])?;
    if linked == 0 {
        return Ok(false);
    }
    if former.is_some_and(|former| link.is_of_another_number(&former)) {
        // Whom another number may write to says nothing of this one.
        chats::forget_all(writing, link.channel)?;
        queue::leave_unanswered(writing, link.channel, now)?;
        recipients::leave_unknown(writing, link.channel)?;
    }
    channels::let_go(writing, link.channel)?;
    if by.is_none() && expected == ChannelState::Paused {
        return Ok(true);
    }
    let by = by.unwrap_or(Actor::Network);
    let to = ChannelMove { from: expected, to: ChannelState::Connected, reason: None, by, at: now };
    channels::move_to(writing, link.channel, &to)
}

fn details(writing: &Writing, channel: ChannelKey) -> rusqlite::Result<Option<String>> {
    let sql = "select details from links where channel_key = ?1";
    writing.connection.prepare_cached(sql)?.query_row([channel], |row| row.get(0)).optional()
}

pub(super) fn reseal(writing: &mut Writing, channel: ChannelKey, old: &[u8], new: &[u8]) -> rusqlite::Result<bool> {
    let resealed = writing
        .connection
        .prepare_cached("update links set sealed = ?3 where channel_key = ?1 and sealed = ?2")?
        .execute(params![channel, old, new])?;
    Ok(resealed == 1)
}

pub(super) fn ban(writing: &Writing, channel: ChannelKey, until: Millis) -> rusqlite::Result<()> {
    let sql = "update links set banned_until = max(ifnull(banned_until, 0), ?2) where channel_key = ?1";
    writing.connection.prepare_cached(sql)?.execute(params![channel, until])?;
    Ok(())
}

pub(super) fn note_login(writing: &Writing, channel: ChannelKey, at: Millis) -> rusqlite::Result<()> {
    let sql = "update links set logged_in_at = ?2 where channel_key = ?1";
    writing.connection.prepare_cached(sql)?.execute(params![channel, at])?;
    Ok(())
}

pub(super) fn rest(connection: &Connection, channel: ChannelKey) -> rusqlite::Result<LinkRest> {
    let sql = "select banned_until, logged_in_at from links where channel_key = ?1";
    let rest = |row: &Row<'_>| Ok(LinkRest { banned_until: row.get(0)?, logged_in_at: row.get(1)? });
    Ok(connection.prepare_cached(sql)?.query_row([channel], rest).optional()?.unwrap_or_default())
}

pub(super) fn delete(writing: &Writing, channel: ChannelKey) -> rusqlite::Result<()> {
    writing.connection.execute("delete from links where channel_key = ?1", [channel])?;
    Ok(())
}
