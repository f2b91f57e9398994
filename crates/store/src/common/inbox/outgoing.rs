//! Messages of calls that are submitted to the network: each joins the conversation of its chat, or begins it. Sending creates
//! no contact, but a contact that has the address is the contact of the conversation.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures_util::future::{try_join, try_join_all};
use recado_domain::api_key::Environment;
use recado_domain::channel::{ChannelKey, ChannelType};
use recado_domain::clock::Millis;
use recado_domain::conversation::Status;
use recado_domain::event::{ChatKind, Owner};
use recado_domain::ids::{ContactId, ConversationId, InstitutionId, MessageId};
use recado_domain::incoming::{Direction, IdentityKey, IdentityKind};
use recado_domain::message::Seq;
use recado_domain::phone::forms;
use recado_domain::queue::Submitted;

use super::announce::{self, Place};
use super::book::{self, ScopeOf};
use super::conversations::{LATEST, OF_CHAT, WITH_ADDRESS};
use super::threads::chat_of;
use super::{conversations, has_readers, lock, new_conversation_id, optional_id};
use crate::sql::{OPEN, SENDING};
use crate::sqlkit::both::{Executor, List, Row, values};

/// How many chats are written together. On PostgreSQL their statements do not wait for each other.
const TOGETHER: usize = 25;

/// The chat of some messages.
struct Chat<'a> {
    kind: ChatKind,
    /// As the store keeps it.
    key: String,
    contact: Option<ContactId>,
    messages: Vec<&'a Submitted>,
}

/// Which chat an address is.
struct Known {
    kind: ChatKind,
    key: String,
    contact: Option<ContactId>,
}

/// Adds messages to the conversations of their chats. A message that was added before is added again, and changes nothing
/// unless its conversation was closed.
pub(crate) async fn join<E: Executor>(db: &E, sent: &[Submitted], now: Millis) -> Result<(), E::Error> {
    let of_channels = owners(db, sent).await?;
    // A channel that was deleted meanwhile has no owner.
    let pairs = sent.iter().filter_map(|message| Some((*of_channels.get(&message.channel)?, message)));
    let mut pairs: Vec<_> = pairs.collect();
    // In one order, so that two of these calls never wait for each other.
    pairs.sort_by_key(|(owner, _)| (*owner.0.as_bytes(), owner.1.name()));
    let by_owner: Vec<_> = pairs.chunk_by(|(one, _), (other, _)| one == other).collect();
    for some in &by_owner {
        lock(db, some[0].0).await?;
    }
    for some in by_owner {
        let owner = some[0].0;
        let place = Place { db, owner, now };
        let chats = chats(&place, some.iter().map(|(_, message)| *message).collect()).await?;
        let mut begun = Vec::new();
        for some in chats.chunks(TOGETHER) {
            begun.extend(try_join_all(some.iter().map(|chat| write(&place, chat))).await?.into_iter().flatten());
        }
        note_contacts(&place, &chats).await?;
        if !begun.is_empty() && has_readers(db, owner).await? {
            for id in begun {
                if let Some(conversation) = conversations::one(db, owner, id).await? {
                    announce::created(&place, &conversation).await?;
                }
            }
        }
    }
    Ok(())
}

/// The owners of the channels that exist.
async fn owners<E: Executor>(db: &E, sent: &[Submitted]) -> Result<HashMap<ChannelKey, Owner>, E::Error> {
    let sql = format!(
        "SELECT key, institution_id, environment FROM channels WHERE {} AND deleted_at IS NULL",
        E::any("key", 1)
    );
    let channels: BTreeSet<_> = sent.iter().map(|message| message.channel).collect();
    let owner = |row: &Row<'_>| {
        let institution = InstitutionId::from_bytes(row.bytes("institution_id")?);
        Ok((row.get("key")?, (institution, row.named("environment", Environment::from_name)?)))
    };
    let owners = db.rows(&sql, values![List(channels.into_iter().collect::<Vec<_>>())], owner).await?;
    Ok(owners.into_iter().collect())
}

/// The chats of the messages of one owner, each once.
async fn chats<'a, E: Executor>(place: &Place<'_, E>, messages: Vec<&'a Submitted>) -> Result<Vec<Chat<'a>>, E::Error> {
    let (contacts, without_contact) = try_join(by_number(place, &messages), without_contact(place, &messages)).await?;
    let mut chats: HashMap<(ChannelKey, String), Chat<'a>> = HashMap::new();
    for message in messages {
        let known = if is_number(&message.recipient) {
            let contact = contacts.get(&IdentityKey::phone(&message.recipient).value).copied();
            let former =
                forms(&message.recipient).find(|form| without_contact.contains(&(message.channel, form.clone())));
            if let (Some(contact), Some(former)) = (contact, &former) {
                adopt(place, (message.channel, former), contact).await?;
            }
            let key = contact.map(chat_of).or(former).unwrap_or_else(|| message.recipient.clone());
            Known { kind: ChatKind::Direct, key, contact }
        } else {
            by_address(place, message).await?
        };
        let Known { kind, key, contact } = known;
        let chat = chats.entry((message.channel, key.clone()));
        chat.or_insert_with(|| Chat { kind, key, contact, messages: Vec::new() }).messages.push(message);
    }
    let mut chats: Vec<_> = chats.into_values().collect();
    for chat in &mut chats {
        chat.messages.sort_by_key(|message| message.seq);
    }
    Ok(chats)
}

fn is_number(recipient: &str) -> bool {
    recipient.bytes().all(|byte| byte.is_ascii_digit())
}

/// The contacts of the numbers among the recipients, by the form in which identities have them.
async fn by_number<E: Executor>(
    place: &Place<'_, E>,
    messages: &[&Submitted],
) -> Result<HashMap<String, ContactId>, E::Error> {
    let recipients = messages.iter().map(|message| &message.recipient).filter(|recipient| is_number(recipient));
    let numbers: BTreeSet<_> = recipients.map(|recipient| IdentityKey::phone(recipient).value).collect();
    if numbers.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = format!(
        "SELECT value, contact_id FROM identities
         WHERE institution_id = ?1 AND environment = ?2 AND kind = ?3 AND scope = ?4 AND {}",
        E::any("value", 5)
    );
    let (institution, environment) = (&place.owner.0.as_bytes()[..], place.owner.1.name());
    let (kind, scope, numbers) = (IdentityKind::Phone.name(), "", List(numbers.into_iter().collect::<Vec<_>>()));
    let contact = |row: &Row<'_>| Ok((row.get("value")?, ContactId::from_bytes(row.bytes("contact_id")?)));
    let found = place.db.rows(&sql, values![institution, environment, kind, scope, numbers], contact).await?;
    Ok(found.into_iter().collect())
}

/// The chat of an address that is no number: that of the latest conversation with this address, or else of the hidden id.
async fn by_address<E: Executor>(place: &Place<'_, E>, message: &Submitted) -> Result<Known, E::Error> {
    let (channel, address) = (message.channel, message.recipient.as_str());
    let sql = format!("SELECT v.chat_kind, v.chat, v.contact_id FROM conversations v {WITH_ADDRESS} {LATEST}");
    let known = |row: &Row<'_>| {
        let contact = optional_id(row, "contact_id")?.map(ContactId::from_bytes);
        Ok(Known { kind: row.named("chat_kind", ChatKind::from_name)?, key: row.get("chat")?, contact })
    };
    if let Some(known) = place.db.row(&sql, values![channel, address], known).await? {
        return Ok(known);
    }
    if address.ends_with("@g.us") {
        return Ok(Known { kind: ChatKind::Group, key: format!("group:{address}"), contact: None });
    }
    let identity = match address.strip_suffix("@lid") {
        Some(lid) => IdentityKey::lid(lid),
        None => IdentityKey::user_id(address),
    };
    let scope = ScopeOf { channel, business: None };
    let contact = book::owner_of(place.db, place.owner, &scope, &identity).await?;
    let key = contact.map_or_else(|| address.to_owned(), chat_of);
    Ok(Known { kind: ChatKind::Direct, key, contact })
}

/// A conversation that began before the person had a contact becomes that of the contact.
async fn adopt<E: Executor>(
    place: &Place<'_, E>,
    (channel, former): (ChannelKey, &str),
    contact: ContactId,
) -> Result<(), E::Error> {
    // Never beside another one that goes on.
    let sql = "UPDATE conversations SET chat = ?3, contact_id = ?4
               WHERE channel_key = ?1 AND chat = ?2 AND closed_at IS NULL AND contact_id IS NULL
                 AND NOT EXISTS (SELECT 1 FROM conversations o
                                 WHERE o.channel_key = ?1 AND o.chat = ?3 AND o.closed_at IS NULL)";
    let (key, contact) = (chat_of(contact), &contact.as_bytes()[..]);
    place.db.run(sql, values![channel, former, key, contact]).await.map(drop)
}

/// The active conversations with numbers that have no contact: channels, and addresses in the form of the chat.
async fn without_contact<E: Executor>(
    place: &Place<'_, E>,
    messages: &[&Submitted],
) -> Result<HashSet<(ChannelKey, String)>, E::Error> {
    let numbers = messages.iter().map(|message| &*message.recipient).filter(|recipient| is_number(recipient));
    let forms: BTreeSet<String> = numbers.flat_map(forms).collect();
    if forms.is_empty() {
        return Ok(HashSet::new());
    }
    let sql = format!(
        "SELECT channel_key, chat FROM conversations WHERE {} AND closed_at IS NULL AND contact_id IS NULL",
        E::any("address", 1)
    );
    let chat = |row: &Row<'_>| Ok((row.get("channel_key")?, row.get("chat")?));
    let found = place.db.rows(&sql, values![List(forms.into_iter().collect::<Vec<_>>())], chat).await?;
    Ok(found.into_iter().collect())
}

/// Notes the messages of a chat in its active conversation, or in a new one, whose id is returned.
async fn write<E: Executor>(place: &Place<'_, E>, chat: &Chat<'_>) -> Result<Option<ConversationId>, E::Error> {
    let Some(last) = chat.messages.last() else { return Ok(None) };
    let sql = format!(
        "INSERT INTO conversations (id, institution_id, environment, channel_key, chat_kind, chat, address, contact_id,
             status, last_id, last_type, last_direction, last_content, last_at, unread, windowed, created_at, updated_at,
             active_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?14, ?14, ?14)
         ON CONFLICT (channel_key, chat) WHERE closed_at IS NULL DO UPDATE SET
             last_id = excluded.last_id, last_type = excluded.last_type, last_direction = excluded.last_direction,
             last_content = excluded.last_content, last_at = excluded.last_at, updated_at = excluded.updated_at,
             active_at = {}(conversations.active_at, excluded.active_at)
         RETURNING id",
        E::GREATEST
    );
    let new = new_conversation_id(place.now);
    let (institution, environment) = (&place.owner.0.as_bytes()[..], place.owner.1.name());
    let contact = chat.contact.map(|id| id.as_bytes().to_vec());
    let windowed = last.windowed && chat.kind == ChatKind::Direct;
    let (kind, status, direction) = (chat.kind.name(), Status::Open.name(), Direction::Outbound.name());
    let (new_id, last_id, none) = (&new.as_bytes()[..], &last.id.as_bytes()[..], 0_i64);
    let read = |row: &Row<'_>| Ok(ConversationId::from_bytes(row.bytes("id")?));
    let inserted = values![
        new_id,
        institution,
        environment,
        last.channel,
        kind,
        chat.key,
        last.recipient,
        contact,
        status,
        last_id,
        last.kind,
        direction,
        last.text,
        place.now,
        none,
        windowed
    ];
    let id = place.db.row(&sql, inserted, read).await?.unwrap_or(new);
    if id == new {
        begin(place, chat, last, id).await?;
    }
    let sql = format!(
        "UPDATE messages SET conversation_id = ?1 WHERE {} AND channel_key = ?3 AND conversation_id IS NULL",
        E::any("seq", 2)
    );
    let seqs: Vec<Seq> = chat.messages.iter().map(|message| message.seq).collect();
    place.db.run(&sql, values![&id.as_bytes()[..], List(seqs), last.channel]).await?;
    Ok((id == new).then_some(id))
}

/// Gives a new conversation what outlasts a conversation of its chat: the window.
async fn begin<E: Executor>(
    place: &Place<'_, E>,
    chat: &Chat<'_>,
    last: &Submitted,
    id: ConversationId,
) -> Result<(), E::Error> {
    let sql = format!(
        "SELECT v.wrote_at, v.windowed, v.address, v.chat_name FROM conversations v {OF_CHAT} AND v.id <> ?3 {LATEST}"
    );
    let former = |row: &Row<'_>| {
        let wrote_at: Option<Millis> = row.get("wrote_at")?;
        let (windowed, address): (bool, String) = (row.get("windowed")?, row.get("address")?);
        Ok((wrote_at, windowed, address, row.get::<Option<String>>("chat_name")?))
    };
    let id = &id.as_bytes()[..];
    let found = place.db.row(&sql, values![last.channel, chat.key, id], former).await?;
    let Some((wrote_at, windowed, address, chat_name)) = found else { return Ok(()) };
    let sql = "UPDATE conversations SET wrote_at = ?2, windowed = ?3, address = ?4, chat_name = ?5 WHERE id = ?1";
    place.db.run(sql, values![id, wrote_at, windowed || last.windowed, address, chat_name]).await.map(drop)
}

/// Notes when something was last sent to contacts.
async fn note_contacts<E: Executor>(place: &Place<'_, E>, chats: &[Chat<'_>]) -> Result<(), E::Error> {
    let contacts: BTreeSet<_> =
        chats.iter().filter_map(|chat| chat.contact).map(|contact| *contact.as_bytes()).collect();
    let sql = format!(
        "UPDATE contacts SET last_outbound_at = {}(coalesce(last_outbound_at, ?2), ?2) WHERE id = ?1",
        E::GREATEST
    );
    let contacts: Vec<_> = contacts.into_iter().collect();
    for some in contacts.chunks(TOGETHER) {
        let sql = &sql;
        try_join_all(
            some.iter().map(|contact| async move { place.db.run(sql, values![&contact[..], place.now]).await }),
        )
        .await?;
    }
    Ok(())
}

/// The most messages of [`left`]. A channel has fewer in flight.
const LEFT: i64 = 1_024;

/// Messages of a channel that are in flight and belong to no conversation, because their process ended in between.
pub(crate) async fn left<E: Executor>(db: &E, channel: ChannelKey) -> Result<Vec<Submitted>, E::Error> {
    let sql = format!(
        "SELECT m.seq, m.id, m.recipient, coalesce(m.kind, 'contact') AS kind, m.payload, c.type
         FROM messages m JOIN channels c ON c.key = m.channel_key
         WHERE m.channel_key = ?1 AND m.seq > 0 AND {} AND {} AND m.conversation_id IS NULL ORDER BY m.seq LIMIT ?2",
        of_messages(OPEN),
        of_messages(SENDING),
    );
    let submitted = |row: &Row<'_>| {
        Ok(Submitted {
            channel,
            seq: row.get("seq")?,
            id: MessageId::from_bytes(row.bytes("id")?),
            recipient: row.get("recipient")?,
            kind: row.get("kind")?,
            text: Submitted::text_of(&row.get::<String>("payload")?),
            windowed: row.named("type", ChannelType::from_name)?.descriptor().has_window,
        })
    };
    db.rows(&sql, values![channel, LEFT], submitted).await
}

/// A condition on messages `m`.
fn of_messages(condition: &str) -> String {
    condition.replace("status", "m.status")
}
