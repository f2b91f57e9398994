//! The rows of conversations, and the choice of the conversation for a message.

use recado_domain::address::LID;
use recado_domain::api_key::Environment;
use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::conversation::{Assignee, Conversation, LastMessage, Status, Who};
use recado_domain::event::ChatKind;
use recado_domain::ids::{ContactId, ConversationId, InstitutionId, MessageId};
use recado_domain::incoming::{Direction, SenderIds};
use recado_domain::message::Seq;
use recado_domain::phone::forms;

use super::{Receiving, new_conversation_id, optional_id, unfinished};
use crate::sqlkit::both::{Executor, Read, Row, Unreadable, values};

/// Selects conversations `v` from this.
pub(super) fn select(from: &str) -> String {
    format!(
        "SELECT v.id, v.institution_id, v.environment, v.channel_key, v.chat_kind, v.chat, v.address, v.chat_name,
                v.contact_id, v.status, v.assigned_to, v.assigned_name, v.department_id, v.note, v.last_id, v.last_type,
                v.last_direction, v.last_content, v.last_at, v.unread, v.windowed, v.wrote_at, v.created_at, v.updated_at,
                v.closed_at, v.close_reason, v.active_at, c.id AS channel_id, k.name AS contact_name, k.phone AS contact_phone
         FROM {from} JOIN channels c ON c.key = v.channel_key LEFT JOIN contacts k ON k.id = v.contact_id"
    )
}

/// The table of conversations, for [`select`].
pub(super) const ALL: &str = "conversations v";

pub(super) fn conversation(row: &Row<'_>) -> Read<Conversation> {
    let institution = InstitutionId::from_bytes(row.bytes("institution_id")?);
    let name: Option<String> = row.get("contact_name")?;
    let contact = optional_id(row, "contact_id")?.map(ContactId::from_bytes).zip(name);
    let phone = row.get("contact_phone")?;
    let attendant: Option<String> = row.get("assigned_to")?;
    let attendant_name: Option<String> = row.get("assigned_name")?;
    Ok(Conversation {
        id: ConversationId::from_bytes(row.bytes("id")?),
        owner: (institution, row.named("environment", Environment::from_name)?),
        channel: row.get("channel_key")?,
        channel_id: row.get("channel_id")?,
        chat: row.named("chat_kind", ChatKind::from_name)?,
        address: row.get("address")?,
        chat_name: row.get("chat_name")?,
        contact: contact.map(|(id, name)| Who { id, name, phone }),
        assigned_to: attendant.map(|id| Assignee { name: attendant_name.unwrap_or_else(|| id.clone()), id }),
        department: row.get("department_id")?,
        note: row.get("note")?,
        status: row.named("status", Status::from_name)?,
        last: last(row)?,
        unread: row.number("unread")?,
        windowed: row.get("windowed")?,
        person_wrote_at: row.get("wrote_at")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
        closed_at: row.get("closed_at")?,
        close_reason: row.get("close_reason")?,
        active_at: row.get("active_at")?,
    })
}

fn last(row: &Row<'_>) -> Read<Option<LastMessage>> {
    let Some(id) = optional_id(row, "last_id")? else { return Ok(None) };
    Ok(Some(LastMessage {
        id: MessageId::from_bytes(id),
        kind: row.get("last_type")?,
        direction: row.named("last_direction", Direction::from_name)?,
        content: row.get("last_content")?,
        at: row.get("last_at")?,
    }))
}

/// The stored key of the chat with a contact.
pub(super) fn chat_of(contact: ContactId) -> String {
    contact.to_string()
}

/// The stored key of the chat of a group. The prefix is needed because the address of a group can look like a number.
pub(super) fn group_chat(address: &str) -> String {
    format!("group:{address}")
}

/// The active conversation of a chat.
pub(super) async fn active<E: Executor>(
    db: &E,
    channel: ChannelKey,
    chat: &str,
) -> Result<Option<Conversation>, E::Error> {
    // The purge deletes conversations too. With the lock it waits for the end of this transaction, and checks the row
    // again.
    let lock = E::lock_for("update of v");
    let sql = format!("{} WHERE v.channel_key = ?1 AND v.chat = ?2 AND v.closed_at IS NULL{lock}", select(ALL));
    db.row(&sql, values![channel, chat], conversation).await
}

/// The active conversations with a contact on all channels.
pub(super) async fn active_of_contact<E: Executor>(db: &E, contact: ContactId) -> Result<Vec<Conversation>, E::Error> {
    let sql = format!("{} WHERE v.contact_id = ?1 AND v.closed_at IS NULL ORDER BY v.active_at, v.id", select(ALL));
    db.rows(&sql, values![&contact.as_bytes()[..]], conversation).await
}

/// The chat of a message.
pub(super) struct Chat<'a> {
    pub kind: ChatKind,
    pub address: String,
    pub name: Option<&'a str>,
    /// The contact of a direct chat.
    pub contact: Option<ContactId>,
    /// The other person of a direct chat.
    pub person: &'a SenderIds,
}

impl Chat<'_> {
    /// The stored key of the chat.
    pub fn key(&self) -> String {
        match self.kind {
            ChatKind::Group => group_chat(&self.address),
            ChatKind::Direct => self.contact.map_or_else(|| self.address.clone(), chat_of),
        }
    }

    /// The keys that this chat can have if it began before the person had a contact.
    fn former(&self) -> Vec<String> {
        let phones = self.person.phone.iter().flat_map(|phone| forms(phone));
        let lid = self.person.lid.iter().map(|lid| format!("{lid}{LID}"));
        phones.chain(lid).chain(self.person.user_id.clone()).collect()
    }
}

/// Finds the active conversation of a chat, or begins one with a message in this direction. Returns whether it is new.
pub(super) async fn join<E: Executor>(
    of: &Receiving<'_, E>,
    chat: &Chat<'_>,
    direction: Direction,
) -> Result<(Conversation, bool), E::Error> {
    let key = chat.key();
    if let Some(found) = active(of.db, of.channel, &key).await? {
        return Ok((found, false));
    }
    if let Some(found) = adopt(of, chat, &key).await? {
        return Ok((found, false));
    }
    // The service window belongs to the chat, so a new conversation continues it. None of the chat goes on.
    let sql = "SELECT max(wrote_at) AS wrote_at FROM conversations
               WHERE channel_key = ?1 AND chat = ?2 AND closed_at IS NOT NULL";
    let wrote_at: Option<Option<Millis>> = of.db.row(sql, values![of.channel, key], |row| row.get("wrote_at")).await?;
    let id = new_conversation_id(of.now);
    let status = if direction == Direction::Inbound { Status::Pending } else { Status::Open };
    let sql =
        "INSERT INTO conversations (id, institution_id, environment, channel_key, chat_kind, chat, address, chat_name,
                   contact_id, status, unread, windowed, wrote_at, created_at, updated_at, active_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?14, ?14)";
    let (institution, environment) = (&of.owner.0.as_bytes()[..], of.owner.1.name());
    let contact = chat.contact.map(|id| id.as_bytes().to_vec());
    let windowed = of.batch.windowed && chat.kind == ChatKind::Direct;
    of.db
        .run(
            sql,
            values![
                &id.as_bytes()[..],
                institution,
                environment,
                of.channel,
                chat.kind.name(),
                key,
                chat.address,
                chat.name,
                contact,
                status.name(),
                0_i64,
                windowed,
                wrote_at.flatten(),
                of.now,
            ],
        )
        .await?;
    let made = active(of.db, of.channel, &key).await?;
    made.map(|made| (made, true)).ok_or_else(|| Unreadable::Unknown("conversation").into())
}

/// Finds a conversation that began before its person had a contact, under any form of the number, and gives it the contact, if
/// there is one now.
async fn adopt<E: Executor>(
    of: &Receiving<'_, E>,
    chat: &Chat<'_>,
    key: &str,
) -> Result<Option<Conversation>, E::Error> {
    let Some(contact) = chat.contact else {
        for form in chat.former() {
            if let Some(found) = active(of.db, of.channel, &form).await? {
                return Ok(Some(found));
            }
        }
        return Ok(None);
    };
    let contact = &contact.as_bytes()[..];
    for former in chat.former() {
        let sql = "UPDATE conversations SET chat = ?3, contact_id = ?4
                   WHERE channel_key = ?1 AND chat = ?2 AND closed_at IS NULL AND contact_id IS NULL";
        if of.db.run(sql, values![of.channel, former, key, contact]).await? > 0 {
            return active(of.db, of.channel, key).await;
        }
    }
    Ok(None)
}

/// Writes the columns that messages, readers and attendants change.
pub(super) async fn save<E: Executor>(db: &E, conversation: &Conversation) -> Result<(), E::Error> {
    let sql = "UPDATE conversations SET address = ?2, chat_name = ?3, status = ?4, assigned_to = ?5, assigned_name = ?6,
                   department_id = ?7, note = ?8, last_id = ?9, last_type = ?10, last_direction = ?11, last_content = ?12,
                   last_at = ?13, unread = ?14, windowed = ?15, wrote_at = ?16, updated_at = ?17, closed_at = ?18,
                   active_at = ?19, close_reason = ?20
               WHERE id = ?1";
    let (attendant, last) = (conversation.assigned_to.as_ref(), conversation.last.as_ref());
    db.run(
        sql,
        values![
            &conversation.id.as_bytes()[..],
            conversation.address,
            conversation.chat_name,
            conversation.status.name(),
            attendant.map(|who| who.id.clone()),
            attendant.map(|who| who.name.clone()),
            conversation.department,
            conversation.note,
            last.map(|last| last.id.as_bytes().to_vec()),
            last.map(|last| last.kind.clone()),
            last.map(|last| last.direction.name()),
            last.map(|last| last.content.clone()),
            last.map(|last| last.at),
            i64::from(conversation.unread),
            conversation.windowed,
            conversation.person_wrote_at,
            conversation.updated_at,
            conversation.closed_at,
            conversation.active_at,
            conversation.close_reason,
        ],
    )
    .await
    .map(drop)
}

/// Marks messages of a conversation as read behind the first number, up to the second one; without it, all. Returns whether
/// there were some.
pub(super) async fn mark_read<E: Executor>(
    db: &E,
    conversation: &mut Conversation,
    (after, until): (Seq, Option<Seq>),
    now: Millis,
) -> Result<bool, E::Error> {
    let unread = conversation.unread;
    let marked = unfinished::mark(db, conversation, (after, until), now).await?;
    if marked > 0 {
        conversation.updated_at = now;
    }
    // A count without a message was wrong, and is repaired.
    if marked > 0 || conversation.unread != unread {
        save(db, conversation).await?;
    }
    Ok(marked > 0)
}
