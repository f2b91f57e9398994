//! Messages of calls that are submitted to the network: each joins the conversation of its chat, or begins it. Sending creates
//! no contact, but a contact that has the address is the contact of the conversation.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures_util::future::{try_join, try_join_all, try_join3};
use recado_domain::api_key::Environment;
use recado_domain::channel::{AutoRead, ChannelKey, ChannelType};
use recado_domain::clock::Millis;
use recado_domain::conversation::Status;
use recado_domain::event::{ChatKind, Owner};
use recado_domain::ids::{ContactId, ConversationId, InstitutionId, MessageId};
use recado_domain::incoming::{Direction, IdentityKey, IdentityKind};
use recado_domain::message::Seq;
use recado_domain::phone::forms;
use recado_domain::queue::Submitted;

use super::announce::{self, Place};
use super::book;
use super::conversations::{LATEST, WITH_ADDRESS};
use super::readdress::{is_number, keeps_window};
use super::threads::{chat_of, group_chat};
use super::{common_settings, conversations, has_readers, lock, new_conversation_id, optional_id};
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

impl Chat<'_> {
    /// Under which channel and key the store has it.
    fn place(&self) -> (ChannelKey, String) {
        (self.messages.first().map_or(0, |message| message.channel), self.key.clone())
    }
}

/// Which chat an address is.
struct Known {
    kind: ChatKind,
    key: String,
    contact: Option<ContactId>,
}

/// Adds messages of one owner to the conversations of their chats. A message that was added before is added again, and changes
/// nothing unless its conversation was closed. Returns whether an answer marked messages as read.
pub(crate) async fn join<E: Executor>(db: &E, owner: Owner, sent: &[Submitted], now: Millis) -> Result<bool, E::Error> {
    let place = Place { db, owner, now };
    let ((), channels, announces) = try_join3(lock(db, owner), channels(&place, sent), has_readers(db, owner)).await?;
    // A channel may have been deleted meanwhile.
    let messages = sent.iter().filter(|message| channels.contains_key(&message.channel)).collect();
    let chats = chats(&place, messages).await?;
    if chats.is_empty() {
        return Ok(false);
    }
    let formers = formers(&place, &chats).await?;
    let (mut begun, mut answered) = (Vec::new(), Vec::new());
    for some in chats.chunks(TOGETHER) {
        let write = |chat| write(&place, chat, formers.get(&chat.place()));
        for written in try_join_all(some.iter().map(write)).await?.into_iter().flatten() {
            if written.is_new {
                begun.push(written.id);
            } else if channels.get(&written.channel).is_some_and(|auto_read| *auto_read == AutoRead::Answered) {
                answered.push(written.id);
            }
        }
    }
    note_contacts(&place, &chats).await?;
    let marked = mark_answered(&place, &answered).await?;
    for some in begun.chunks(TOGETHER).filter(|_| announces) {
        try_join_all(some.iter().map(|id| announce(&place, *id))).await?;
    }
    Ok(marked)
}

async fn announce<E: Executor>(place: &Place<'_, E>, id: ConversationId) -> Result<(), E::Error> {
    match conversations::one(place.db, place.owner, id).await? {
        Some(conversation) => announce::created(place, &conversation).await,
        None => Ok(()),
    }
}

/// Marks the messages of conversations as read, because they were answered. Returns whether there were some.
async fn mark_answered<E: Executor>(place: &Place<'_, E>, answered: &[ConversationId]) -> Result<bool, E::Error> {
    let mut marked = false;
    for id in answered {
        let conversation = conversations::one(place.db, place.owner, *id).await?;
        if let Some(mut conversation) = conversation.filter(|conversation| conversation.unread > 0) {
            marked |= !conversations::mark_all(place.db, &mut conversation, place.now).await?.is_empty();
        }
    }
    Ok(marked)
}

/// The channels of the messages, with what they decide about reading, without those that are deleted and those of others.
async fn channels<E: Executor>(
    place: &Place<'_, E>,
    sent: &[Submitted],
) -> Result<HashMap<ChannelKey, AutoRead>, E::Error> {
    let sql = format!(
        "SELECT key, institution_id, environment, type, settings FROM channels WHERE {} AND deleted_at IS NULL",
        E::any("key", 1)
    );
    let channels: BTreeSet<_> = sent.iter().map(|message| message.channel).collect();
    let channel = |row: &Row<'_>| {
        let institution = InstitutionId::from_bytes(row.bytes("institution_id")?);
        let owner = (institution, row.named("environment", Environment::from_name)?);
        Ok((row.get("key")?, owner, common_settings(row)?.auto_read))
    };
    let found = place.db.rows(&sql, values![List(channels.into_iter().collect::<Vec<_>>())], channel).await?;
    let own = found.into_iter().filter(|(_, owner, _)| *owner == place.owner);
    Ok(own.map(|(key, _, auto_read)| (key, auto_read)).collect())
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
            // Another message of these may have the other form of the number.
            let together =
                || forms(&message.recipient).find(|form| chats.contains_key(&(message.channel, form.clone())));
            let key = contact.map(chat_of).or(former).or_else(together);
            let key = key.unwrap_or_else(|| message.recipient.clone());
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
        return Ok(Known { kind: ChatKind::Group, key: group_chat(address), contact: None });
    }
    let contact = book::contact_of(place.db, place.owner, (channel, address)).await?;
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

/// The latest conversation of a chat.
struct Former {
    wrote_at: Option<Millis>,
    windowed: bool,
    address: String,
    chat_name: Option<String>,
    /// The present number of the contact.
    number: Option<String>,
}

/// The latest conversations of the chats.
async fn formers<E: Executor>(
    place: &Place<'_, E>,
    chats: &[Chat<'_>],
) -> Result<HashMap<(ChannelKey, String), Former>, E::Error> {
    let sql = format!(
        "SELECT v.channel_key, v.chat, v.wrote_at, v.windowed, v.address, v.chat_name, k.account, k.phone
         FROM conversations v{index} LEFT JOIN contacts k ON k.id = v.contact_id
         WHERE {} AND {} AND NOT EXISTS (
             SELECT 1 FROM conversations o{index}
             WHERE o.channel_key = v.channel_key AND o.chat = v.chat AND (o.active_at, o.id) > (v.active_at, v.id))",
        E::any("v.channel_key", 1),
        E::any("v.chat", 2),
        index = E::index("conversations_of_chat")
    );
    let (channels, keys): (BTreeSet<_>, BTreeSet<_>) = chats.iter().map(Chat::place).unzip();
    let channels = List(channels.into_iter().collect::<Vec<_>>());
    let keys = List(keys.into_iter().collect::<Vec<_>>());
    let former = |row: &Row<'_>| {
        let (place, account) = ((row.get("channel_key")?, row.get("chat")?), row.get::<Option<String>>("account")?);
        let former = Former {
            wrote_at: row.get("wrote_at")?,
            windowed: row.get("windowed")?,
            address: row.get("address")?,
            chat_name: row.get("chat_name")?,
            number: account.or(row.get("phone")?),
        };
        Ok((place, former))
    };
    Ok(place.db.rows(&sql, values![channels, keys], former).await?.into_iter().collect())
}

/// What a new conversation has of the latest one of its chat.
struct Begun {
    address: String,
    chat_name: Option<String>,
    windowed: bool,
    wrote_at: Option<Millis>,
}

impl Begun {
    /// The form of the address and the window belong to the person's number, so they are not those of a number that the
    /// person had before.
    fn new(chat: &Chat<'_>, last: &Submitted, former: Option<&Former>) -> Self {
        let (recipient, windowed) = (last.recipient.clone(), last.windowed && chat.kind == ChatKind::Direct);
        let Some(former) = former else {
            return Self { address: recipient, chat_name: None, windowed, wrote_at: None };
        };
        let address = match &former.number {
            Some(number) if !is_number(&recipient) => number.clone(),
            _ if forms(&recipient).any(|form| form == former.address) => former.address.clone(),
            _ => recipient,
        };
        let wrote_at = former.wrote_at.filter(|_| keeps_window(&former.address, &address));
        Self { address, chat_name: former.chat_name.clone(), windowed: windowed || former.windowed, wrote_at }
    }
}

/// The conversation that messages joined.
struct Written {
    channel: ChannelKey,
    id: ConversationId,
    is_new: bool,
}

/// Notes the messages of a chat in its active conversation, or in a new one.
async fn write<E: Executor>(
    place: &Place<'_, E>,
    chat: &Chat<'_>,
    former: Option<&Former>,
) -> Result<Option<Written>, E::Error> {
    let Some(last) = chat.messages.last() else { return Ok(None) };
    let sql = format!(
        "INSERT INTO conversations (id, institution_id, environment, channel_key, chat_kind, chat, address, contact_id,
             status, last_id, last_type, last_direction, last_content, last_at, unread, windowed, created_at, updated_at,
             active_at, chat_name, wrote_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?14, ?14, ?14, ?17, ?18)
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
    let (kind, status, direction) = (chat.kind.name(), Status::Open.name(), Direction::Outbound.name());
    let (new_id, last_id, none) = (&new.as_bytes()[..], &last.id.as_bytes()[..], 0_i64);
    let begun = Begun::new(chat, last, former);
    let read = |row: &Row<'_>| Ok(ConversationId::from_bytes(row.bytes("id")?));
    let inserted = values![
        new_id,
        institution,
        environment,
        last.channel,
        kind,
        chat.key,
        begun.address,
        contact,
        status,
        last_id,
        last.kind,
        direction,
        last.text,
        place.now,
        none,
        begun.windowed,
        begun.chat_name,
        begun.wrote_at
    ];
    let id = place.db.row(&sql, inserted, read).await?.unwrap_or(new);
    let sql = format!(
        "UPDATE messages SET conversation_id = ?1 WHERE {} AND channel_key = ?3 AND conversation_id IS NULL",
        E::any("seq", 2)
    );
    let seqs: Vec<Seq> = chat.messages.iter().map(|message| message.seq).collect();
    place.db.run(&sql, values![&id.as_bytes()[..], List(seqs), last.channel]).await?;
    Ok(Some(Written { channel: last.channel, id, is_new: id == new }))
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
