//! Known recipients, and what the network reported about their numbers.

use recado_domain::account::KnownAccount;
use recado_domain::address::GROUP;
use recado_domain::channel::ChannelKey;
use recado_domain::clock::{Millis, millis};
use recado_domain::party::Party;
use recado_domain::status::MessageStatus;

use super::{PageScan, Transaction};
use crate::commits::Change;
use crate::sql::{OPEN, QUEUED};
use crate::sqlkit::both::{Executor, List, Row, values};

/// A recipient of a channel, by a name of theirs.
type ChatName<'a> = (ChannelKey, &'a str);

pub(crate) async fn known_account<E: PageScan>(
    db: &E,
    (channel, phone): ChatName<'_>,
) -> Result<Option<KnownAccount>, E::Error> {
    let sql = format!(
        "SELECT account, lid, checked_at,
                (SELECT min(sent_at) FROM (SELECT status, sent_at FROM {}) AS latest
                 WHERE status = ?3 AND sent_at > checked_at - ?4) AS unconfirmed_at
         FROM accounts WHERE channel_key = ?1 AND phone = ?2",
        E::latest_of_recipient()
    );
    let known = |row: &Row<'_>| {
        let (account, lid) = (row.get("account")?, row.get("lid")?);
        Ok(KnownAccount {
            account,
            lid,
            checked_at: row.get("checked_at")?,
            unconfirmed_at: row.get("unconfirmed_at")?,
        })
    };
    let (sent, within) = (i16::from(MessageStatus::Sent.number()), millis(KnownAccount::CONFIRMED_WITHIN));
    db.row(&sql, values![channel, phone, sent, within], known).await
}

/// The account of the last message to a recipient that has one. If many messages have none, because all failed, only
/// some are read.
pub(crate) async fn last_account<E: PageScan>(
    db: &E,
    (channel, recipient): ChatName<'_>,
) -> Result<Option<String>, E::Error> {
    let sql = format!(
        "SELECT account FROM (SELECT account, seq FROM {}) AS latest
         WHERE account IS NOT NULL ORDER BY seq DESC LIMIT 1",
        E::latest_of_recipient()
    );
    db.row(&sql, values![channel, recipient], |row| row.get("account")).await
}

pub(crate) async fn note_account<T: Transaction>(
    tx: &mut T,
    (channel, phone): ChatName<'_>,
    account: Option<&Party>,
    now: Millis,
) -> Result<(), T::Error> {
    if tx.lock(channel).await?.is_none_or(|queue| queue.deleted) {
        return Ok(());
    }
    let sql = "INSERT INTO accounts (channel_key, phone, account, lid, checked_at) VALUES (?1, ?2, ?3, ?4, ?5)
               ON CONFLICT (channel_key, phone) DO UPDATE
                   SET account = excluded.account, lid = excluded.lid, checked_at = excluded.checked_at";
    let (number, lid) = (account.and_then(Party::number), account.and_then(Party::lid));
    tx.db().run(sql, values![channel, phone, number, lid, now]).await?;
    // Otherwise the new name makes no recipient known.
    if account.is_some() && is_known(tx.db(), (channel, phone)).await? {
        tx.reset_cursor(channel).await?;
        tx.notify(Change::Work(channel));
    }
    Ok(())
}

/// Stores that a person wrote to the channel. Returns whether the person was new.
pub(crate) async fn note<T: Transaction>(tx: &mut T, channel: ChannelKey, who: &Party) -> Result<bool, T::Error> {
    let names = List(who.names());
    // Most people who write are known already, and then no lock of the channel is needed.
    let sql = format!("SELECT account FROM chats WHERE channel_key = ?1 AND {}", T::Db::any("account", 2));
    let noted: Vec<String> = tx.db().rows(&sql, values![channel, names], |row| row.get("account")).await?;
    if names.0.iter().all(|name| noted.contains(name)) || tx.lock(channel).await?.is_none_or(|queue| queue.deleted) {
        return Ok(false);
    }
    let sql = "INSERT INTO chats (channel_key, account) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    let mut added = 0;
    for name in &names.0 {
        added += tx.db().run(sql, values![channel, name.as_str()]).await?;
    }
    if added > 0 {
        tx.reset_cursor(channel).await?;
        tx.notify(Change::Work(channel));
    }
    Ok(added > 0)
}

/// Whether a recipient is known: by the typed digits, or by the account that the network reported for them. A chat is
/// stored under both forms of a number, so the forms are not derived here.
pub(crate) async fn is_known<E: Executor>(db: &E, (channel, digits): ChatName<'_>) -> Result<bool, E::Error> {
    // A message in a group opens no chat: the account is a member already.
    if digits.ends_with(GROUP) {
        return Ok(true);
    }
    let sql = include_str!("chats/is_known.sql");
    Ok(db.row(sql, values![channel, digits], |_| Ok(())).await?.is_some())
}

/// Recipients of queued messages about whom nothing is known; none if a known account has this hidden id.
pub(crate) async fn unasked<E: Executor>(
    db: &E,
    (channel, lid): ChatName<'_>,
    limit: u32,
) -> Result<Vec<String>, E::Error> {
    let sql = format!(
        include_str!("chats/unasked.sql"),
        OPEN = OPEN,
        QUEUED = QUEUED,
        open_index = E::index("messages_open"),
        lid_index = E::index("accounts_by_lid")
    );
    db.rows(&sql, values![channel, lid, i64::from(limit)], |row| row.get("recipient")).await
}

/// Deletes the known recipients of a channel.
pub(crate) async fn forget_all<E: Executor>(db: &E, channel: ChannelKey) -> Result<(), E::Error> {
    for table in ["accounts", "chats"] {
        db.run(&format!("DELETE FROM {table} WHERE channel_key = ?1"), values![channel]).await?;
    }
    Ok(())
}
