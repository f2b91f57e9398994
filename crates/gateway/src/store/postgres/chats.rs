//! Who may be written to freely, and what the network said of their numbers.

use super::db::{Db, Done, args};
use super::lock::{Locked, lock};
use crate::clock::Millis;
use crate::store::rows::{ChannelKey, KnownAccount, Seq};

/// A recipient of a channel, by digits.
type Who<'a> = (ChannelKey, &'a str);

pub(super) async fn known_account(db: Db<'_>, channel: ChannelKey, phone: &str) -> Done<Option<KnownAccount>> {
    let sql = "select account, checked_at from accounts where channel_key = $1 and phone = $2";
    let found = db.row(sql, args![channel, phone]).await?;
    Ok(found.map(|row| KnownAccount { account: row.get(0), checked_at: row.get(1) }))
}

pub(super) async fn note_account(
    db: Db<'_>,
    (channel, phone): Who<'_>,
    account: Option<&str>,
    now: Millis,
) -> Done<()> {
    let Some(mut locked) = lock(db, channel).await?.filter(|locked| !locked.line.deleted) else { return Ok(()) };
    let sql = "insert into accounts (channel_key, phone, account, checked_at) values ($1, $2, $3, $4)
               on conflict (channel_key, phone) do update
                   set account = excluded.account, checked_at = excluded.checked_at";
    db.run(sql, args![channel, phone, account, now]).await?;
    // Only one who was written to under another number, or wrote to us, is known by that.
    if let Some(account) = account
        && is_known(db, (channel, account)).await?
    {
        locked.look_again(db).await?;
    }
    Ok(())
}

/// Whether somebody has a chat already: asked before [`note`], which locks the channel.
pub(super) async fn is_noted(db: Db<'_>, (channel, account): Who<'_>) -> Done<bool> {
    let sql = "select 1 from chats where channel_key = $1 and account = $2";
    Ok(db.row(sql, args![channel, account]).await?.is_some())
}

/// Notes a chat; whether it was not there yet.
pub(super) async fn note(db: Db<'_>, (channel, account): Who<'_>) -> Done<bool> {
    let Some(mut locked) = lock(db, channel).await?.filter(|locked| !locked.line.deleted) else { return Ok(false) };
    let sql = "insert into chats (channel_key, account) values ($1, $2) on conflict do nothing";
    let noted = db.run(sql, args![channel, account]).await? == 1;
    if noted {
        locked.look_again(db).await?;
    }
    Ok(noted)
}

/// Whether a recipient is no new one: by the typed digits, or by the account that the network named for them.
async fn is_known(db: Db<'_>, (channel, digits): Who<'_>) -> Done<bool> {
    let sql = "select 1 from chats where channel_key = $1 and account = $2
               union all
               select 1 from accounts a join chats c on c.channel_key = a.channel_key and c.account = a.account
               where a.channel_key = $1 and a.phone = $2
               limit 1";
    Ok(db.row(sql, args![channel, digits]).await?.is_some())
}

/// Notes that a message was taken for its recipient: under the typed digits and the account, as one chat.
pub(super) async fn open(db: Db<'_>, locked: &mut Locked, seq: Seq, account: Option<&str>, now: Millis) -> Done<()> {
    // The chats of a channel that was deleted since are none of the one in its place.
    if locked.line.cancels(seq) {
        return Ok(());
    }
    let sql = "with who as (
                   -- A message that was erased meanwhile is nobody's.
                   select digits, n
                   from messages m, unnest(array_remove(array[$3, m.recipient], null)) with ordinality as who(digits, n)
                   where m.seq = $2
               ), known as (
                   select 1 from chats where channel_key = $1 and account in (select digits from who)
                   union all
                   select 1 from accounts a join chats c on c.channel_key = a.channel_key and c.account = a.account
                   where a.channel_key = $1 and a.phone in (select digits from who)
               )
               insert into chats (channel_key, account, opened_at)
               -- Counted once, and not at all where either is known.
               select $1, digits, case when n = 1 and not exists (select 1 from known) then $4 end from who
               on conflict do nothing";
    if db.run(sql, args![locked.key, seq, account, now]).await? > 0 {
        locked.look_again(db).await?;
    }
    Ok(())
}

/// Makes a message's recipient a new one.
pub(super) async fn forget(db: Db<'_>, channel: ChannelKey, seq: Seq) -> Done<()> {
    let sql = "with who as (select recipient from messages where seq = $2)
               delete from chats using who
               where channel_key = $1
                 and (account = recipient
                      or account = (select account from accounts where channel_key = $1 and phone = recipient))";
    db.run(sql, args![channel, seq]).await.map(drop)
}

/// Deletes what is known of a channel's recipients.
pub(super) async fn forget_all(db: Db<'_>, channel: ChannelKey) -> Done<()> {
    for table in ["accounts", "chats"] {
        db.run(&format!("delete from {table} where channel_key = $1"), args![channel]).await?;
    }
    Ok(())
}
