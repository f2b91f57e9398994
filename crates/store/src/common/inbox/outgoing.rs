//! Messages of calls that are submitted to the network: each joins the conversation of its chat, or begins it. Sending creates
//! no contact, but a contact that has the address is the contact of the conversation.

use std::collections::{BTreeSet, HashMap};

use futures_util::future::{try_join, try_join_all, try_join3};
use recado_domain::address::GROUP;
use recado_domain::api_key::Environment;
use recado_domain::channel::{AutoRead, ChannelKey, ChannelType};
use recado_domain::clock::Millis;
use recado_domain::event::{ChatKind, Owner};
use recado_domain::ids::{ContactId, ConversationId, InstitutionId, MessageId};
use recado_domain::incoming::{IdentityKey, IdentityKind};
use recado_domain::phone::forms;
use recado_domain::queue::Submitted;

use super::announce::{self, Place};
use super::book;
use super::latest::LATEST_WITH_ADDRESS;
use super::readdress::{is_number, keeps_window};
use super::threads::{self, chat_of, group_chat};
use super::{common_settings, conversations, has_readers, lock, new_conversation_id, optional_id, to_json};
use crate::sql::{OPEN, SENDING};
use crate::sqlkit::both::{Executor, List, Row, values};

/// How many statements are sent together. On PostgreSQL they do not wait for each other.
const TOGETHER: usize = 25;

/// A chat in whose active conversation messages are noted. If none is active, a new one begins.
pub(crate) struct Opening<'a> {
    /// The id of a new conversation.
    pub id: ConversationId,
    pub kind: ChatKind,
    pub chat: &'a str,
    pub contact: Option<ContactId>,
    pub messages: &'a [&'a Submitted],
    /// The last one of the messages.
    pub last: &'a Submitted,
    /// What a new conversation has of the latest one of its chat.
    pub address: String,
    pub chat_name: Option<&'a str>,
    pub windowed: bool,
    pub wrote_at: Option<Millis>,
}

/// How an engine writes these chats.
pub(crate) trait Joins: Executor {
    /// Notes messages in the active conversations of their chats, or in new ones. No chat is there twice. Returns the
    /// conversations, in this order.
    async fn write(&self, owner: Owner, chats: &[Opening<'_>], now: Millis)
    -> Result<Vec<ConversationId>, Self::Error>;
}

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

    /// The form of the address and the window belong to the person's number, so a new conversation does not have those of a
    /// number that the person had before.
    fn opening<'a>(&'a self, former: Option<&'a Former>, now: Millis) -> Option<Opening<'a>> {
        let last = *self.messages.last()?;
        let is_in_window = last.windowed && self.kind == ChatKind::Direct;
        let address = match former {
            Some(Former { number: Some(number), .. }) if !is_number(&last.recipient) => number,
            Some(former) if forms(&last.recipient).any(|form| form == former.address) => &former.address,
            _ => &last.recipient,
        };
        Some(Opening {
            id: new_conversation_id(now),
            kind: self.kind,
            chat: &self.key,
            contact: self.contact,
            messages: &self.messages,
            last,
            address: address.clone(),
            chat_name: former.and_then(|former| former.chat_name.as_deref()),
            windowed: is_in_window || former.is_some_and(|former| former.windowed),
            wrote_at: former.filter(|former| keeps_window(&former.address, address)).and_then(|former| former.wrote_at),
        })
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
pub(crate) async fn join<E: Joins>(db: &E, owner: Owner, sent: &[Submitted], now: Millis) -> Result<bool, E::Error> {
    let place = Place { db, owner, now };
    let ((), channels, announces) = try_join3(lock(db, owner), channels(&place, sent), has_readers(db, owner)).await?;
    // A channel may have been deleted meanwhile.
    let messages = sent.iter().filter(|message| channels.contains_key(&message.channel)).collect();
    let chats = chats(&place, messages).await?;
    if chats.is_empty() {
        return Ok(false);
    }
    let formers = formers(&place, &chats).await?;
    let openings: Vec<_> = chats.iter().filter_map(|chat| chat.opening(formers.get(&chat.place()), now)).collect();
    let written = db.write(owner, &openings, now).await?;
    let (mut begun, mut answered) = (Vec::new(), Vec::new());
    for (chat, id) in openings.iter().zip(written) {
        if id == chat.id {
            begun.push(id);
        } else if channels.get(&chat.last.channel).is_some_and(|auto_read| *auto_read == AutoRead::Answered) {
            answered.push(id);
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
            let former = forms(&message.recipient).find_map(|form| {
                let wrote = without_contact.get(&(message.channel, form.clone()))?;
                Some((form, *wrote))
            });
            // A conversation in which somebody wrote is that of this person, who need not be the contact. If the contact has
            // one that goes on too, that one has what the number writes now.
            let (contact, former) = match (former, contact) {
                (Some((former, true)), Some(of)) if !goes_on(place, message.channel, of).await? => (None, Some(former)),
                (former, contact) => (contact, former.map(|(former, _)| former)),
            };
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
    let sql = format!("SELECT v.chat_kind, v.chat, v.contact_id FROM conversations v {LATEST_WITH_ADDRESS}");
    let known = |row: &Row<'_>| {
        let contact = optional_id(row, "contact_id")?.map(ContactId::from_bytes);
        Ok(Known { kind: row.named("chat_kind", ChatKind::from_name)?, key: row.get("chat")?, contact })
    };
    if let Some(known) = place.db.row(&sql, values![channel, address], known).await? {
        return Ok(known);
    }
    if address.ends_with(GROUP) {
        return Ok(Known { kind: ChatKind::Group, key: group_chat(address), contact: None });
    }
    let contact = book::contact_of(place.db, place.owner, (channel, address)).await?;
    let key = contact.map_or_else(|| address.to_owned(), chat_of);
    Ok(Known { kind: ChatKind::Direct, key, contact })
}

/// Whether a contact has an active conversation on a channel.
async fn goes_on<E: Executor>(place: &Place<'_, E>, channel: ChannelKey, contact: ContactId) -> Result<bool, E::Error> {
    Ok(threads::active(place.db, channel, &chat_of(contact)).await?.is_some())
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

/// The active conversations with numbers that have no contact: channels, and the form of the number that is the chat; and
/// whether somebody has written in the conversation.
async fn without_contact<E: Executor>(
    place: &Place<'_, E>,
    messages: &[&Submitted],
) -> Result<HashMap<(ChannelKey, String), bool>, E::Error> {
    let numbers = messages.iter().filter(|message| is_number(&message.recipient));
    let chats: BTreeSet<_> =
        numbers.flat_map(|message| forms(&message.recipient).map(move |form| (message.channel, form))).collect();
    if chats.is_empty() {
        return Ok(HashMap::new());
    }
    let chat = |row: &Row<'_>| Ok(((row.get("channel_key")?, row.get("chat")?), row.get("wrote")?));
    let found = place.db.rows_planned_anew(&without_contact_sql::<E>(), values![to_json(&chats)], chat).await?;
    Ok(found.into_iter().collect())
}

fn without_contact_sql<E: Executor>() -> String {
    // A subquery that gives a value is never a join, for which PostgreSQL could read the whole table.
    format!(
        "SELECT channel_key, chat, wrote FROM (
             SELECT p.channel_key, p.chat, (
                 SELECT v.wrote_at IS NOT NULL
                     OR (SELECT 1 FROM incoming m WHERE m.conversation_id = v.id AND m.direction = 'INBOUND' LIMIT 1)
                         IS NOT NULL
                 FROM conversations v
                 WHERE v.channel_key = p.channel_key AND v.chat = p.chat AND v.closed_at IS NULL
                   AND v.contact_id IS NULL) AS wrote
             FROM {} p) AS found
         WHERE wrote IS NOT NULL",
        E::CHATS
    )
}

/// The latest conversation of a chat that is closed.
struct Former {
    wrote_at: Option<Millis>,
    windowed: bool,
    address: String,
    chat_name: Option<String>,
    /// The present number of the contact.
    number: Option<String>,
}

/// The latest closed conversations of the chats. Only a new conversation has something of them, and then none is active.
async fn formers<E: Executor>(
    place: &Place<'_, E>,
    chats: &[Chat<'_>],
) -> Result<HashMap<(ChannelKey, String), Former>, E::Error> {
    let places: Vec<_> = chats.iter().map(Chat::place).collect();
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
    Ok(place.db.rows_planned_anew(E::FORMERS, values![to_json(&places)], former).await?.into_iter().collect())
}

/// The statements that a join runs for many chats.
#[cfg(test)]
pub(crate) fn statements<E: Executor>() -> [String; 2] {
    [without_contact_sql::<E>(), E::FORMERS.to_owned()]
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
