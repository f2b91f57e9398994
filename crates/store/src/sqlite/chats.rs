//! Known recipients: chats that messages open, and that a refusal closes.

use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::message::Seq;
use recado_domain::party::Party;
use recado_domain::phone::forms;
use recado_domain::queue::ScanCursor;
use rusqlite::{OptionalExtension, params};

use super::Writing;
use crate::common::chats::{is_known, known_account};
use crate::sqlkit::both::at_once;

/// A recipient of a channel, by a name of theirs.
type ChatName<'a> = (ChannelKey, &'a str);

/// Stores a chat under one name. Returns whether it is new. `opened_at` is set if the channel opened it.
fn note_name(
    writing: &mut Writing,
    (channel, name): ChatName<'_>,
    opened_at: Option<Millis>,
) -> rusqlite::Result<bool> {
    let noted = writing
        .connection
        .prepare_cached(
            "INSERT INTO chats (channel_key, account, opened_at)
             SELECT key, ?2, ?3 FROM channels WHERE key = ?1 AND deleted_at IS NULL
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![channel, name, opened_at])?;
    if noted == 1 {
        reset_cursor(writing, channel);
    }
    Ok(noted == 1)
}

/// Resets the scan cursor, because a recipient may have become known.
pub(super) fn reset_cursor(writing: &mut Writing, channel: ChannelKey) {
    if let Some(queue) = writing.queue(channel) {
        queue.cursor = ScanCursor::default();
    }
}

/// Records the chat that a message opened: under both forms of the typed digits and of the account, counted as one
/// chat.
pub(super) fn open(
    writing: &mut Writing,
    (channel, seq): (ChannelKey, Seq),
    account: Option<&str>,
    now: Millis,
) -> rusqlite::Result<()> {
    // Chats of a deleted channel do not belong to the channel that replaced it.
    if writing.queue(channel).is_none_or(|queue| queue.cancels(seq)) {
        return Ok(());
    }
    // The message was erased meanwhile.
    let Some(recipient) = recipient(writing, seq)? else { return Ok(()) };
    let known = account.map_or(Ok(false), |account| at_once(is_known(&writing.connection, (channel, account))))?
        || at_once(is_known(&writing.connection, (channel, &recipient)))?;
    let mut opened_at = (!known).then_some(now);
    for name in account.into_iter().chain([&*recipient]).flat_map(forms) {
        note_name(writing, (channel, &name), opened_at)?;
        // Counted once.
        opened_at = None;
    }
    Ok(())
}

/// Makes a message's recipient new again, under every name.
pub(super) fn forget(writing: &mut Writing, (channel, seq): (ChannelKey, Seq)) -> rusqlite::Result<()> {
    let Some(recipient) = recipient(writing, seq)? else { return Ok(()) };
    let known = at_once(known_account(&writing.connection, (channel, &recipient)))?;
    let account = known.and_then(|known| Party::new(known.account, known.lid));
    let names = account.iter().flat_map(Party::names).chain(forms(&recipient));
    let mut statement =
        writing.connection.prepare_cached("DELETE FROM chats WHERE channel_key = ?1 AND account = ?2")?;
    for name in names {
        statement.execute(params![channel, name])?;
    }
    Ok(())
}

pub(super) fn recipient(writing: &Writing, seq: Seq) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT recipient FROM messages WHERE seq = ?1";
    writing.connection.prepare_cached(sql)?.query_row([seq], |row| row.get("recipient")).optional()
}
