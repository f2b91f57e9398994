//! The conversations of a chat, or with an address.
//!
//! The active conversation of a chat is in one index, the closed ones are in another. An index has the conversations whose
//! address differs from their chat; the address of the others is found as their chat.

use recado_domain::channel::ChannelKey;
use recado_domain::conversation::Conversation;
use recado_domain::event::Owner;
use recado_domain::phone::forms;

use super::book;
use super::readdress::is_number;
use super::threads::{ALL, chat_of, conversation, select};
use crate::sqlkit::both::{Executor, values};

/// Selects the ids of all conversations of a channel (`?1`) in a chat (`?2`).
pub(super) const OF_CHAT: &str =
    "SELECT id FROM conversations WHERE channel_key = ?1 AND chat = ?2 AND closed_at IS NULL
     UNION ALL SELECT id FROM conversations WHERE channel_key = ?1 AND chat = ?2 AND closed_at IS NOT NULL";

/// After `conversations v`: the latest conversation of a channel (`?1`) in a chat (`?2`).
const LATEST_OF_CHAT: &str = "WHERE v.id IN (
         SELECT id FROM conversations WHERE channel_key = ?1 AND chat = ?2 AND closed_at IS NULL
         UNION ALL SELECT id FROM (
             SELECT id FROM conversations WHERE channel_key = ?1 AND chat = ?2 AND closed_at IS NOT NULL
             ORDER BY active_at DESC, id DESC LIMIT 1) AS closed)
     ORDER BY v.active_at DESC, v.id DESC LIMIT 1";

/// After `conversations v`: the latest conversation of a channel (`?1`) with an address (`?2`).
pub(super) const LATEST_WITH_ADDRESS: &str = "WHERE v.id IN (
         SELECT id FROM conversations WHERE channel_key = ?1 AND address = ?2 AND address <> chat
         UNION ALL SELECT id FROM conversations
         WHERE channel_key = ?1 AND chat = ?2 AND address = ?2 AND closed_at IS NULL
         UNION ALL SELECT id FROM (
             SELECT id FROM conversations
             WHERE channel_key = ?1 AND chat = ?2 AND address = ?2 AND closed_at IS NOT NULL
             ORDER BY active_at DESC, id DESC LIMIT 1) AS closed)
     ORDER BY v.active_at DESC, v.id DESC LIMIT 1";

/// After `conversations v`: those with an address (`?1`) of all channels of an institution (`?2`) in an environment (`?3`), each if it
/// is given.
pub(super) fn with_address<E: Executor>() -> String {
    let of_owner =
        |table| format!("(?2 IS NULL OR {table}.institution_id = ?2) AND (?3 IS NULL OR {table}.environment = ?3)");
    let of_chat = |closed: &str| {
        format!(
            "SELECT o.id FROM channels h {} conversations o ON o.channel_key = h.key AND o.chat = ?1
             WHERE {} AND o.address = ?1 AND o.closed_at {closed}",
            E::JOIN_IN_ORDER,
            of_owner("h")
        )
    };
    format!(
        "WHERE v.id IN (SELECT o.id FROM conversations o WHERE o.address = ?1 AND o.address <> o.chat AND {}
                        UNION ALL {} UNION ALL {})",
        of_owner("o"),
        of_chat("IS NULL"),
        of_chat("IS NOT NULL")
    )
}

/// The latest conversation of a channel with this recipient.
pub(crate) async fn latest<E: Executor>(
    db: &E,
    owner: Owner,
    (channel, recipient): (ChannelKey, &str),
) -> Result<Option<Conversation>, E::Error> {
    let mut chats: Vec<String> = forms(recipient).collect();
    if !is_number(recipient) {
        // A chat whose address is no number began with a message of the person, or of the group.
        let sql = format!("SELECT v.chat FROM conversations v {LATEST_WITH_ADDRESS}");
        chats.extend(db.row(&sql, values![channel, recipient], |row| row.get("chat")).await?);
    }
    chats.extend(book::contact_of(db, owner, (channel, recipient)).await?.map(chat_of));
    let mut found: Vec<Conversation> = Vec::new();
    for chat in chats {
        let sql = format!("{} {LATEST_OF_CHAT}", select(ALL));
        found.extend(db.row(&sql, values![channel, chat], conversation).await?);
    }
    Ok(found.into_iter().max_by_key(|conversation| (conversation.active_at, conversation.id)))
}

/// The statements of this file.
#[cfg(test)]
pub(crate) fn statements<E: Executor>() -> Vec<String> {
    let of = |some: &str| format!("{} {some}", select(ALL));
    vec![
        of(&format!("WHERE v.id IN ({OF_CHAT})")),
        of(LATEST_OF_CHAT),
        of(LATEST_WITH_ADDRESS),
        of(&with_address::<E>()),
    ]
}
