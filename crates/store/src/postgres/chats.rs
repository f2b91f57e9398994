//! Known recipients: chats that messages open, and that a refusal closes.

use std::collections::HashSet;

use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::message::Seq;
use recado_domain::party::Party;
use recado_domain::phone::forms;

use super::lock::Locked;
use crate::common::chats::known_account;
use crate::sqlkit::postgres::db::{Db, Done, args, column};

/// Whether a recipient of the channel `$channel`, with the digits `$who`, is known: by the typed digits, or by the
/// account that the network reported for them. A chat is stored under both forms of a Brazilian number, so the forms
/// are not derived here. `EXISTS` and `IN` would have the same result, but the planner would read all chats for them.
macro_rules! is_known_sql {
    ($channel:literal, $who:literal) => {
        concat!(
            // A message in a group opens no chat.
            "coalesce((SELECT true WHERE ",
            $who,
            " LIKE '%@g.us'), (SELECT true FROM chats c WHERE c.channel_key = ",
            $channel,
            " AND c.account = ",
            $who,
            " LIMIT 1), (SELECT true FROM accounts a, chats c
                         WHERE a.channel_key = ",
            $channel,
            " AND a.phone = ",
            $who,
            " AND c.channel_key = ",
            $channel,
            " AND c.account = any(array[a.account, a.lid || '@lid']) LIMIT 1), false)"
        )
    };
}
pub(super) use is_known_sql;

/// A message that the network accepted for its recipient.
pub(super) struct OpenedChat<'a> {
    pub channel: ChannelKey,
    pub seq: Seq,
    /// The recipient as the network named them.
    pub account: Option<&'a str>,
    pub at: Millis,
}

/// Records the chats that messages opened: each under both forms of the typed digits and of the account, counted as one
/// chat. Returns the channels that have a new chat. The messages belong to the channels in their present session.
pub(super) async fn open_all(db: Db<'_>, opened: &[OpenedChat<'_>]) -> Done<HashSet<ChannelKey>> {
    if opened.is_empty() {
        return Ok(HashSet::new());
    }
    let is_known = is_known_sql!("names.channel_key", "names.digits");
    let sql = format!(include_str!("chats/open_all.sql"), is_known = is_known);
    let (channels, seqs) = (column(opened, |one| one.channel), column(opened, |one| one.seq));
    let noted =
        db.rows(&sql, args![channels, seqs, column(opened, |one| one.account), column(opened, |one| one.at)]).await?;
    let names = noted.iter().flat_map(|row| {
        let channel: ChannelKey = row.get("channel_key");
        forms(row.get("account")).map(move |name| (channel, name))
    });
    let (channels, names): (Vec<_>, Vec<_>) = names.unzip();
    if !names.is_empty() {
        let sql = "INSERT INTO chats (channel_key, account) SELECT * FROM unnest($1, $2) ON CONFLICT DO NOTHING";
        db.run(sql, args![channels, names]).await?;
    }
    Ok(channels.into_iter().collect())
}

/// The same for one message, outside of the dispatch.
pub(super) async fn open(db: Db<'_>, locked: &mut Locked, seq: Seq, account: Option<&str>, now: Millis) -> Done<()> {
    // Chats of a deleted channel do not belong to the channel that replaced it.
    if locked.queue.cancels(seq) {
        return Ok(());
    }
    let new = open_all(db, &[OpenedChat { channel: locked.key, seq, account, at: now }]).await?;
    if new.is_empty() { Ok(()) } else { locked.reset_cursor(db).await }
}

/// Makes a message's recipient new again, under every name.
pub(super) async fn forget(db: Db<'_>, channel: ChannelKey, seq: Seq) -> Done<()> {
    let Some(row) = db.row("SELECT recipient FROM messages WHERE seq = $1", args![seq]).await? else { return Ok(()) };
    let recipient: &str = row.get("recipient");
    let known = known_account(&db, (channel, recipient)).await?;
    let account = known.and_then(|known| Party::new(known.account, known.lid));
    let names: Vec<_> = account.iter().flat_map(Party::names).chain(forms(recipient)).collect();
    db.run("DELETE FROM chats WHERE channel_key = $1 AND account = any($2)", args![channel, names]).await.map(drop)
}
