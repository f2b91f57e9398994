//! Who may be written to freely, and what the network said of their numbers.

use async_trait::async_trait;
use recado_domain::account::KnownAccount;
use recado_domain::channel::ChannelKey;
use recado_domain::clock::{Millis, millis};
use recado_domain::message::Seq;
use recado_domain::party::Party;
use recado_domain::phone::forms;
use recado_domain::queue::ScanCursor;
use recado_domain::status::MessageStatus;
use rusqlite::{Connection, OptionalExtension, params};

use super::{SqliteStore, Writing, messages};
use crate::commits::Change;
use crate::sql::{OPEN, PAST, QUEUED};
use crate::{Accounts, Result};

#[async_trait]
impl Accounts for SqliteStore {
    async fn known_account(&self, channel: ChannelKey, phone: String) -> Result<Option<KnownAccount>> {
        self.readers.read(move |connection| known_account(connection, channel, &phone)).await
    }

    async fn note_account(
        &self,
        channel: ChannelKey,
        phone: String,
        account: Option<Party>,
        now: Millis,
    ) -> Result<()> {
        self.write(move |writing| note_account(writing, (channel, &phone), account.as_ref(), now)).await
    }

    async fn note_chat(&self, channel: ChannelKey, who: Party) -> Result<bool> {
        self.write(move |writing| note(writing, channel, &who)).await
    }

    async fn unasked_recipients(&self, channel: ChannelKey, lid: String, limit: u32) -> Result<Vec<String>> {
        self.readers.read(move |connection| unasked(connection, (channel, &lid), limit)).await
    }

    async fn account(&self, channel: ChannelKey, recipient: String) -> Result<Option<String>> {
        self.readers.read(move |connection| messages::account(connection, channel, &recipient)).await
    }
}

/// A recipient of a channel, by a name of theirs.
type Who<'a> = (ChannelKey, &'a str);

pub(super) fn known_account(
    connection: &Connection,
    channel: ChannelKey,
    phone: &str,
) -> rusqlite::Result<Option<KnownAccount>> {
    let sql = format!(
        "select account, lid, checked_at,
                (select min(sent_at) from (
                     select status, sent_at from messages indexed by messages_past_by_recipient
                     where channel_key = ?1 and recipient = ?2 and {PAST} order by seq desc limit 20)
                 where status = ?3 and sent_at > checked_at - ?4)
         from accounts where channel_key = ?1 and phone = ?2"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let known = |row: &rusqlite::Row<'_>| {
        let (account, lid) = (row.get(0)?, row.get(1)?);
        Ok(KnownAccount { account, lid, checked_at: row.get(2)?, unconfirmed_at: row.get(3)? })
    };
    let (sent, within) = (MessageStatus::Sent.number(), millis(KnownAccount::CONFIRMED_WITHIN));
    statement.query_row(params![channel, phone, sent, within], known).optional()
}

pub(super) fn note_account(
    writing: &mut Writing,
    (channel, phone): Who<'_>,
    account: Option<&Party>,
    now: Millis,
) -> rusqlite::Result<()> {
    writing
        .connection
        .prepare_cached(
            "insert into accounts (channel_key, phone, account, lid, checked_at)
             select key, ?2, ?3, ?4, ?5 from channels where key = ?1 and deleted_at is null
             on conflict (channel_key, phone) do update
                 set account = excluded.account, lid = excluded.lid, checked_at = excluded.checked_at",
        )?
        .execute(params![channel, phone, account.and_then(Party::number), account.and_then(Party::lid), now])?;
    // Only one who was written to under another name, or wrote to us, is known by that.
    if account.is_some() && is_known(&writing.connection, (channel, phone))? {
        look_again(writing, channel);
        writing.tell(Change::Work(channel));
    }
    Ok(())
}

/// Notes that somebody wrote to us; whether that is news.
pub(super) fn note(writing: &mut Writing, channel: ChannelKey, who: &Party) -> rusqlite::Result<bool> {
    let mut news = false;
    for name in who.names() {
        news |= note_name(writing, (channel, &name), None)?;
    }
    if news {
        writing.tell(Change::Work(channel));
    }
    Ok(news)
}

/// Notes a chat under one name; whether it was not there yet. `opened_at`: we opened it, then.
fn note_name(writing: &mut Writing, (channel, name): Who<'_>, opened_at: Option<Millis>) -> rusqlite::Result<bool> {
    let noted = writing
        .connection
        .prepare_cached(
            "insert into chats (channel_key, account, opened_at)
             select key, ?2, ?3 from channels where key = ?1 and deleted_at is null
             on conflict do nothing",
        )?
        .execute(params![channel, name, opened_at])?;
    if noted == 1 {
        look_again(writing, channel);
    }
    Ok(noted == 1)
}

/// Somebody may be known who was not: messages for them take their places in the line again.
fn look_again(writing: &mut Writing, channel: ChannelKey) {
    if let Some(queue) = writing.queue(channel) {
        queue.cursor = ScanCursor::default();
    }
}

/// Whether a recipient is no new one: by the typed digits, or by what the network named for them. A chat is on record
/// under both forms of a number, so that none of them is looked for here.
pub(super) fn is_known(connection: &Connection, who: Who<'_>) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(
        "select 1 from chats where channel_key = ?1 and account = ?2
         union all
         select 1 from accounts a
         join chats c on c.channel_key = a.channel_key and c.account in (a.account, a.lid || '@lid')
         where a.channel_key = ?1 and a.phone = ?2",
    )?;
    statement.exists(params![who.0, who.1])
}

/// Recipients of queued messages of whom nothing is known; none where somebody has this hidden id.
pub(super) fn unasked(connection: &Connection, (channel, lid): Who<'_>, limit: u32) -> rusqlite::Result<Vec<String>> {
    let sql = format!(
        "select recipient from
             (select seq, recipient from messages indexed by messages_open
              where channel_key = ?1 and {OPEN} and {QUEUED} order by seq limit 1000) m
         where not exists (select 1 from accounts where channel_key = ?1 and phone = m.recipient)
           and not exists (select 1 from chats where channel_key = ?1 and account = m.recipient)
           and not exists (select 1 from accounts indexed by accounts_by_lid where channel_key = ?1 and lid = ?2)
           and exists (select 1 from channels where key = ?1 and deleted_at is null)
         group by recipient order by min(seq) limit ?3"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_map(params![channel, lid, limit], |row| row.get(0))?.collect()
}

/// Notes that a message was taken for its recipient: under both forms of the typed digits and of the account, as one chat.
pub(super) fn open(
    writing: &mut Writing,
    (channel, seq): (ChannelKey, Seq),
    account: Option<&str>,
    now: Millis,
) -> rusqlite::Result<()> {
    // The chats of a channel that was deleted since are none of the one in its place.
    if writing.queue(channel).is_none_or(|queue| queue.cancels(seq)) {
        return Ok(());
    }
    // One that was erased meanwhile is nobody's.
    let Some(recipient) = recipient(writing, seq)? else { return Ok(()) };
    let known = account.map_or(Ok(false), |account| is_known(&writing.connection, (channel, account)))?
        || is_known(&writing.connection, (channel, &recipient))?;
    let mut opened_at = (!known).then_some(now);
    for name in account.into_iter().chain([&*recipient]).flat_map(forms) {
        note_name(writing, (channel, &name), opened_at)?;
        // Counted once.
        opened_at = None;
    }
    Ok(())
}

/// Makes a message's recipient a new one, whatever the name under which they were known.
pub(super) fn forget(writing: &mut Writing, (channel, seq): (ChannelKey, Seq)) -> rusqlite::Result<()> {
    let Some(recipient) = recipient(writing, seq)? else { return Ok(()) };
    let account =
        known_account(&writing.connection, channel, &recipient)?.and_then(|known| Party::new(known.account, known.lid));
    let names = account.iter().flat_map(Party::names).chain(forms(&recipient));
    let mut statement =
        writing.connection.prepare_cached("delete from chats where channel_key = ?1 and account = ?2")?;
    for name in names {
        statement.execute(params![channel, name])?;
    }
    Ok(())
}

pub(super) fn recipient(writing: &Writing, seq: Seq) -> rusqlite::Result<Option<String>> {
    let sql = "select recipient from messages where seq = ?1";
    writing.connection.prepare_cached(sql)?.query_row([seq], |row| row.get(0)).optional()
}

/// Deletes what is known of a channel's recipients.
pub(super) fn forget_all(writing: &Writing, channel: ChannelKey) -> rusqlite::Result<()> {
    for table in ["accounts", "chats"] {
        writing.connection.execute(&format!("delete from {table} where channel_key = ?1"), [channel])?;
    }
    Ok(())
}
