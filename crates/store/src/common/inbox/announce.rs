//! Records the events of the inbox. Their data is recorded in the form that readers receive.

use recado_domain::contact_book::Contact;
use recado_domain::conversation::{Assignee, ClosedBy, Conversation};
use recado_domain::event::{ChatKind, DATA_LIMIT, EventSubject, NewEvent, Owner};
use recado_domain::ids::ContactId;
use recado_domain::incoming::{Body, Incoming, truncate};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Receiving, has_readers, to_json};
use crate::common::events;
use crate::sqlkit::both::Executor;
use crate::views::{self, ContactView, ConversationView, MessageView};

#[derive(Serialize)]
struct Delivered<'a> {
    message: MessageView<'a>,
    conversation: ShortConversation,
    contact: Option<ShortContact<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShortConversation {
    id: String,
    status: &'static str,
    is_new: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShortContact<'a> {
    id: String,
    name: &'a str,
    phone: Option<&'a str>,
    tags: &'a [String],
    is_new: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfContact<'a> {
    contact: ContactView<'a>,
    changes: &'a [&'static str],
    merged_from: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfConversation<'a> {
    conversation: ConversationView<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
}

/// Where the events of a change are recorded.
pub(super) struct Place<'a, E> {
    pub db: &'a E,
    pub owner: Owner,
    pub now: i64,
}

impl<E: Executor> Receiving<'_, E> {
    /// Records an event about a message.
    pub async fn announce(
        &self,
        name: &'static str,
        (subject, conversation): (EventSubject, Option<EventSubject>),
        chat: ChatKind,
        data: String,
    ) -> Result<(), E::Error> {
        let channel = Some(self.channel);
        let new = NewEvent { owner: self.owner, channel, name, subject, conversation, chat, at: self.now, data };
        events::record(self.db, &new).await.map(drop)
    }

    fn place(&self) -> Option<Place<'_, E>> {
        self.announces.then_some(Place { db: self.db, owner: self.owner, now: self.now })
    }
}

/// Records that a message was delivered, sent from another device, or recovered. `new`: whether the conversation and
/// the contact are new.
pub(super) async fn delivered<E: Executor>(
    of: &Receiving<'_, E>,
    name: &'static str,
    (message, conversation): (&Incoming, &Conversation),
    contact: Option<&Contact>,
    new: (bool, bool),
) -> Result<(), E::Error> {
    if !of.announces {
        return Ok(());
    }
    let data = |message: &Incoming| {
        to_json(&Delivered {
            message: views::message(message),
            conversation: ShortConversation {
                id: conversation.id.to_string(),
                status: conversation.status.name(),
                is_new: new.0,
            },
            contact: contact.map(|contact| ShortContact {
                id: contact.id.to_string(),
                name: &contact.name,
                phone: contact.phone.as_deref(),
                tags: &contact.tags,
                is_new: new.1,
            }),
        })
    };
    let mut text = data(message);
    // Each step keeps less of the message, until the event fits into its limit.
    let mut shorter = message.clone();
    for step in 0..SHORTER.len() {
        if text.len() <= DATA_LIMIT {
            break;
        }
        shorten(&mut shorter.body, step);
        text = data(&shorter);
    }
    let about = (*message.id.as_bytes(), Some(*conversation.id.as_bytes()));
    of.announce(name, about, message.chat, text).await
}

/// How many code points of a text each step keeps, if the event would be too long.
const SHORTER: [usize; 3] = [30_000, 30_000, 1_000];

fn shorten(body: &mut Body, step: usize) {
    let (text, _) = truncate(&body.text, SHORTER[step]);
    body.content.set_caption(&text);
    body.content.mark_truncated();
    body.text = text;
    if step > 0 {
        // Callers can still read cards, orders and the answers of forms from the stored message.
        body.content = body.content.emptied();
        body.content.mark_truncated();
        body.referral = None;
    }
}

/// Shortens a text so that an event with two such texts fits into its limit.
pub(super) fn shortened(text: &str) -> String {
    let mut kept = truncate(text, SHORTER[0]).0;
    // JSON writes a control character with six bytes.
    while to_json(&kept).len() > DATA_LIMIT / 3 {
        kept = truncate(&kept, kept.chars().count() / 2).0;
    }
    kept
}

pub(super) async fn contact_created<E: Executor>(of: &Receiving<'_, E>, contact: &Contact) -> Result<(), E::Error> {
    match of.place() {
        Some(place) => of_contact(&place, "contact.created", contact, (&[], None)).await,
        None => Ok(()),
    }
}

/// Records one event for each contact that was merged into this contact. Without a merge it records one event if a
/// field changed.
pub(super) async fn contact_updated<E: Executor>(
    of: &Receiving<'_, E>,
    contact: &Contact,
    changes: &[&'static str],
    merged: &[ContactId],
) -> Result<(), E::Error> {
    let Some(place) = of.place() else { return Ok(()) };
    if merged.is_empty() && !changes.is_empty() {
        return of_contact(&place, "contact.updated", contact, (changes, None)).await;
    }
    for gone in merged {
        of_contact(&place, "contact.updated", contact, (changes, Some(*gone))).await?;
    }
    Ok(())
}

/// Records an event about a contact.
pub(super) async fn of_contact<E: Executor>(
    place: &Place<'_, E>,
    name: &'static str,
    contact: &Contact,
    (changes, merged): (&[&'static str], Option<ContactId>),
) -> Result<(), E::Error> {
    if !has_readers(place.db, place.owner).await? {
        return Ok(());
    }
    let merged_from = merged.map(|id| id.to_string());
    let data = to_json(&OfContact { contact: views::contact(contact), changes, merged_from });
    let subject = *contact.id.as_bytes();
    let (owner, at) = (place.owner, place.now);
    let new = NewEvent { owner, channel: None, name, subject, conversation: None, chat: ChatKind::Direct, at, data };
    events::record(place.db, &new).await.map(drop)
}

pub(super) async fn conversation_created<E: Executor>(
    of: &Receiving<'_, E>,
    conversation: &Conversation,
) -> Result<(), E::Error> {
    match of.place() {
        Some(place) => created(&place, conversation).await,
        None => Ok(()),
    }
}

pub(super) async fn created<E: Executor>(place: &Place<'_, E>, conversation: &Conversation) -> Result<(), E::Error> {
    let data = to_json(&OfConversation {
        conversation: views::conversation(conversation, place.now),
        by: None,
        reason: None,
        previous: None,
        note: None,
    });
    of_conversation(place, "conversation.created", conversation, data).await
}

pub(super) async fn conversation_closed<E: Executor>(
    of: &Receiving<'_, E>,
    conversation: &Conversation,
    by: ClosedBy,
) -> Result<(), E::Error> {
    match of.place() {
        Some(place) => closed(&place, conversation, by, None).await,
        None => Ok(()),
    }
}

/// Records that a conversation has an attendant or a department now that it did not have before.
pub(super) async fn conversation_assigned<E: Executor>(
    of: &Receiving<'_, E>,
    conversation: &Conversation,
    before: &Conversation,
) -> Result<(), E::Error> {
    let previous = (before.assigned_to.as_ref(), before.department.as_deref());
    match of.place() {
        Some(place) => assigned(&place, conversation, previous, None).await,
        None => Ok(()),
    }
}

pub(super) async fn closed<E: Executor>(
    place: &Place<'_, E>,
    conversation: &Conversation,
    by: ClosedBy,
    reason: Option<&str>,
) -> Result<(), E::Error> {
    let data = to_json(&OfConversation {
        conversation: views::conversation(conversation, place.now),
        by: Some(by.name()),
        reason,
        previous: None,
        note: None,
    });
    of_conversation(place, "conversation.closed", conversation, data).await
}

/// Records that the attendant or the department of a conversation changed, or that it was reopened.
pub(super) async fn assigned<E: Executor>(
    place: &Place<'_, E>,
    conversation: &Conversation,
    previous: (Option<&Assignee>, Option<&str>),
    note: Option<&str>,
) -> Result<(), E::Error> {
    let attendant = previous.0.map(|who| json!({"id": who.id, "name": who.name}));
    let previous = json!({"assignedTo": attendant, "departmentId": previous.1});
    let data = to_json(&OfConversation {
        conversation: views::conversation(conversation, place.now),
        by: None,
        reason: None,
        previous: Some(previous),
        note,
    });
    of_conversation(place, "conversation.assigned", conversation, data).await
}

async fn of_conversation<E: Executor>(
    place: &Place<'_, E>,
    name: &'static str,
    conversation: &Conversation,
    data: String,
) -> Result<(), E::Error> {
    let id = *conversation.id.as_bytes();
    let new = NewEvent {
        owner: place.owner,
        channel: Some(conversation.channel),
        name,
        subject: id,
        conversation: Some(id),
        chat: conversation.chat,
        at: place.now,
        data,
    };
    events::record(place.db, &new).await.map(drop)
}
