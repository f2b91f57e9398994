//! Who may be written to freely, and what the network said of their numbers.

use async_trait::async_trait;
use recado_domain::account::KnownAccount;
use recado_domain::channel::ChannelKey;
use recado_domain::clock::{Millis, millis};
use recado_domain::message::Seq;
use recado_domain::party::Party;
use recado_domain::phone::forms;
use recado_domain::status::MessageStatus;

use super::lock::{Locked, lock, number};
use super::{PgStore, messages};
use crate::commits::Change;
use crate::sql::{OPEN, PAST, QUEUED};
use crate::sqlkit::postgres::db::{Db, Done, args, plainly, transaction};
use crate::{Accounts, Result};

#[async_trait]
impl Accounts for PgStore {
    async fn known_account(&self, channel: ChannelKey, phone: String) -> Result<Option<KnownAccount>> {
        plainly!(self.calls, db => known_account(db, channel, &phone))
    }

    async fn note_account(
        &self,
        channel: ChannelKey,
        phone: String,
        account: Option<Party>,
        now: Millis,
    ) -> Result<()> {
        let known: bool =
            transaction!(self.pool, db => note_account(db, (channel, &phone), account.as_ref(), now).await)?;
        if known {
            self.follower.tell(vec![Change::Work(channel)]);
        }
        Ok(())
    }

    async fn note_chat(&self, channel: ChannelKey, who: Party) -> Result<bool> {
        // Most who write have written before.
        let names = who.names();
        let noted: bool = plainly!(self.pool, db => are_noted(db, channel, &names))?;
        if noted {
            return Ok(false);
        }
        let news: Result<bool> = transaction!(self.pool, db => note(db, channel, &names).await);
        news.inspect(|news| {
            if *news {
                self.follower.tell(vec![Change::Work(channel)]);
            }
        })
    }

    async fn unasked_recipients(&self, channel: ChannelKey, lid: String, limit: u32) -> Result<Vec<String>> {
        plainly!(self.pool, db => unasked(db, (channel, &lid), limit))
    }

    async fn account(&self, channel: ChannelKey, recipient: String) -> Result<Option<String>> {
        plainly!(self.calls, db => messages::account(db, channel, &recipient))
    }
}

/// A recipient of a channel, by a name of theirs.
type Who<'a> = (ChannelKey, &'a str);

pub(super) async fn known_account(db: Db<'_>, channel: ChannelKey, phone: &str) -> Done<Option<KnownAccount>> {
    // In the order of the index of a recipient's messages, as for a page.
    let sql = format!(
        "select account, lid, checked_at,
                (select min(sent_at) from (
                     select status, sent_at from messages
                     where (channel_key, recipient, seq) >= ($1, $2, 0)
                       and (channel_key, recipient, seq) < ($1, $2, $3) and {PAST}
                     order by channel_key desc, recipient desc, seq desc limit 20) as latest
                 where status = $4 and sent_at > checked_at - $5)
         from accounts where channel_key = $1 and phone = $2"
    );
    let (sent, within) = (number(MessageStatus::Sent), millis(KnownAccount::CONFIRMED_WITHIN));
    let found = db.row(&sql, args![channel, phone, Seq::MAX, sent, within]).await?;
    Ok(found.map(|row| KnownAccount {
        account: row.get(0),
        lid: row.get(1),
        checked_at: row.get(2),
        unconfirmed_at: row.get(3),
    }))
}

/// Notes what the network said of a number; whether it names somebody who is no new recipient.
pub(super) async fn note_account(
    db: Db<'_>,
    (channel, phone): Who<'_>,
    account: Option<&Party>,
    now: Millis,
) -> Done<bool> {
    let Some(mut locked) = lock(db, channel).await?.filter(|locked| !locked.queue.deleted) else { return Ok(false) };
    let sql = "insert into accounts (channel_key, phone, account, lid, checked_at) values ($1, $2, $3, $4, $5)
               on conflict (channel_key, phone) do update
                   set account = excluded.account, lid = excluded.lid, checked_at = excluded.checked_at";
    db.run(sql, args![channel, phone, account.and_then(Party::number), account.and_then(Party::lid), now]).await?;
    // Only one who was written to under another name, or wrote to us, is known by that.
    let known = account.is_some() && is_known(db, (channel, phone)).await?;
    if known {
        locked.look_again(db).await?;
    }
    Ok(known)
}

/// Whether there is a chat under all of these names already: asked before [`note`], which locks the channel.
pub(super) async fn are_noted(db: Db<'_>, channel: ChannelKey, names: &[String]) -> Done<bool> {
    let sql = "select count(*) from chats where channel_key = $1 and account = any($2)";
    let noted: i64 = db.row(sql, args![channel, names.to_vec()]).await?.map_or(0, |row| row.get(0));
    Ok(usize::try_from(noted) == Ok(names.len()))
}

/// Notes that somebody wrote to us, under these names; whether that is news.
pub(super) async fn note(db: Db<'_>, channel: ChannelKey, names: &[String]) -> Done<bool> {
    let Some(mut locked) = lock(db, channel).await?.filter(|locked| !locked.queue.deleted) else { return Ok(false) };
    let news = note_names(db, channel, names.to_vec()).await?;
    if news {
        locked.look_again(db).await?;
    }
    Ok(news)
}

async fn note_names(db: Db<'_>, channel: ChannelKey, names: Vec<String>) -> Done<bool> {
    let sql = "insert into chats (channel_key, account) select $1, unnest($2) on conflict do nothing";
    Ok(db.run(sql, args![channel, names]).await? > 0)
}

/// Whether a recipient of channel `$1`, whose digits stand in `{who}`, is no new one: by the typed digits, or by what the
/// network named for them. A chat is on record under both forms of a number, so that none of them is looked for here.
macro_rules! is_known_sql {
    ($who:literal) => {
        concat!(
            "(exists (select 1 from chats c where c.channel_key = $1 and c.account = ",
            $who,
            ") or exists (select 1 from accounts a
                          join chats c on c.channel_key = a.channel_key and c.account in (a.account, a.lid || '@lid')
                          where a.channel_key = $1 and a.phone = ",
            $who,
            "))"
        )
    };
}
pub(super) use is_known_sql;

async fn is_known(db: Db<'_>, (channel, digits): Who<'_>) -> Done<bool> {
    let row = db.row(concat!("select ", is_known_sql!("$2::text")), args![channel, digits]).await?;
    Ok(row.is_some_and(|row| row.get(0)))
}

/// Recipients of queued messages of whom nothing is known; none where somebody has this hidden id.
pub(super) async fn unasked(db: Db<'_>, (channel, lid): Who<'_>, limit: u32) -> Done<Vec<String>> {
    let sql = format!(
        "select recipient from
                   (select seq, recipient from messages
                    where channel_key = $1 and {OPEN} and {QUEUED} order by seq limit 1000) m
               where not exists (select 1 from accounts where channel_key = $1 and phone = m.recipient)
                 and not exists (select 1 from chats where channel_key = $1 and account = m.recipient)
                 and not exists (select 1 from accounts where channel_key = $1 and lid = $2)
                 and exists (select 1 from channels where key = $1 and deleted_at is null)
               group by recipient order by min(seq) limit $3"
    );
    let rows = db.rows(&sql, args![channel, lid, i64::from(limit)]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Notes that a message was taken for its recipient: under both forms of the typed digits and of the account, as one chat.
pub(super) async fn open(db: Db<'_>, locked: &mut Locked, seq: Seq, account: Option<&str>, now: Millis) -> Done<()> {
    // The chats of a channel that was deleted since are none of the one in its place.
    if locked.queue.cancels(seq) {
        return Ok(());
    }
    let sql = concat!(
        "with who as (
             -- A message that was erased meanwhile is nobody's.
             select digits, n
             from messages m, unnest(array_remove(array[$3, m.recipient], null)) with ordinality as who(digits, n)
             where m.seq = $2
         ), known as (
             select 1 from who where ",
        is_known_sql!("digits"),
        "
         )
         insert into chats (channel_key, account, opened_at)
         -- Counted once, and not at all where either is known.
         select $1, digits, case when n = 1 and not exists (select 1 from known) then $4 end from who
         on conflict do nothing
         returning account"
    );
    let noted = db.rows(sql, args![locked.key, seq, account, now]).await?;
    if noted.is_empty() {
        return Ok(());
    }
    let names = noted.iter().flat_map(|row| forms(row.get(0))).collect();
    note_names(db, locked.key, names).await?;
    locked.look_again(db).await
}

/// Makes a message's recipient a new one, whatever the name under which they were known.
pub(super) async fn forget(db: Db<'_>, channel: ChannelKey, seq: Seq) -> Done<()> {
    let Some(row) = db.row("select recipient from messages where seq = $1", args![seq]).await? else { return Ok(()) };
    let recipient: &str = row.get(0);
    let account = known_account(db, channel, recipient).await?.and_then(|known| Party::new(known.account, known.lid));
    let names: Vec<_> = account.iter().flat_map(Party::names).chain(forms(recipient)).collect();
    db.run("delete from chats where channel_key = $1 and account = any($2)", args![channel, names]).await.map(drop)
}

/// Deletes what is known of a channel's recipients.
pub(super) async fn forget_all(db: Db<'_>, channel: ChannelKey) -> Done<()> {
    for table in ["accounts", "chats"] {
        db.run(&format!("delete from {table} where channel_key = $1"), args![channel]).await?;
    }
    Ok(())
}
