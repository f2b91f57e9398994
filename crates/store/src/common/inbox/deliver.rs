//! Stores messages that arrive.

use recado_domain::channel::AutoRead;
use recado_domain::clock::{Millis, random};
use recado_domain::contact_book::{Contact, is_opt_out};
use recado_domain::conversation::{Conversation, LastMessage, PREVIEW_LIMIT};
use recado_domain::event::ChatKind;
use recado_domain::ids::MessageId;
use recado_domain::incoming::{
    ANSWER_KINDS, Arrival, Body, Direction, Ignored, Incoming, NewIncoming, Outcome, Received, SenderIds, truncate,
};

use super::identify::{Identified, identify};
use super::rows::{self, Found, NewRow};
use super::threads::{self, Chat};
use super::{Receiving, announce, book, contents, conversations, targets};
use crate::clock::SystemEntropy;
use crate::common::PageScan;
use crate::sqlkit::both::Unreadable;

/// Stores a message, unless it is a repetition of a stored message.
pub(super) async fn receive<E: PageScan>(
    of: &Receiving<'_, E>,
    arrival: &Arrival,
    new: &NewIncoming,
) -> Result<Received, E::Error> {
    let rows = rows::found(of.db, of.channel, &arrival.network_id).await?;
    if !rows.is_empty() {
        let known = identify(of, &arrival.person, None).await?.map(|known| known.contact.id);
        if let Some(found) = rows.into_iter().find(|found| targets::is_repetition(found, arrival, known)) {
            return repeated(of, arrival, new, found).await;
        }
    }
    if arrival.from_me && targets::sent(of, &arrival.network_id, (arrival, None)).await?.is_some() {
        return Ok(Received::ignored(Ignored::SentByUs));
    }
    let wrote = (!arrival.from_me).then_some(of.now);
    let person = identify(of, &arrival.person, wrote).await?;
    store(of, arrival, new, person).await
}

/// Handles the repetition of a stored message. The repetition can name the person in a new way, and it can bring a body
/// that could not be read at the first delivery.
async fn repeated<E: PageScan>(
    of: &Receiving<'_, E>,
    arrival: &Arrival,
    new: &NewIncoming,
    found: Found,
) -> Result<Received, E::Error> {
    let before = &found.message;
    let known = if arrival.group.is_some() { before.body.sender.clone() } else { targets::chat_person(before) };
    let person = identify(of, &arrival.person.clone().or(&known), None).await?;
    let ids = (Some(before.id), Some(before.conversation));
    if !before.body.content.is_undecryptable() || new.content.is_undecryptable() || before.revoked_at.is_some() {
        return Ok(Received::of(Outcome::Repeated, ids.0, ids.1));
    }
    let contact = person.map(|person| person.contact);
    let mut body = body(of, arrival, new, contact.as_ref()).await?;
    if before.edited_at.is_some() {
        body.edit(&before.body.text);
    }
    let row = NewRow { id: before.id, conversation: before.conversation, ..row(of, arrival, new, &body) };
    rows::recover(of.db, &row).await?;
    contents::note(of, before.id).await?;
    let message = rows::message(of.db, of.channel, before.id).await?;
    let conversation = conversations::one(of.db, of.owner, before.conversation).await?;
    if let (Some(message), Some(mut conversation)) = (message, conversation) {
        if let Some(last) = conversation.last.as_mut().filter(|last| last.id == message.id) {
            *last = last_message(&message);
            threads::save(of.db, &conversation).await?;
        }
        let both = (&message, &conversation);
        announce::delivered(of, "message.recovered", both, contact.as_ref(), (false, false)).await?;
        read_without_call(of, &mut conversation, &message).await?;
    }
    Ok(Received::of(Outcome::Recovered, ids.0, ids.1))
}

async fn store<E: PageScan>(
    of: &Receiving<'_, E>,
    arrival: &Arrival,
    new: &NewIncoming,
    person: Option<Identified>,
) -> Result<Received, E::Error> {
    let contact_is_new = person.as_ref().is_some_and(|person| person.is_new);
    let mut contact = person.map(|person| person.contact);
    let direction = if arrival.from_me { Direction::Outbound } else { Direction::Inbound };
    let chat = chat(arrival, contact.as_ref());
    let (mut conversation, is_new) = threads::join(of, &chat, direction).await?;
    let body = body(of, arrival, new, contact.as_ref()).await?;
    let id = MessageId::new(of.now, random(&SystemEntropy));
    let author = contact.as_ref().map(|contact| contact.id).filter(|_| !arrival.from_me);
    let row = NewRow { id, conversation: conversation.id, contact: author, direction, ..row(of, arrival, new, &body) };
    rows::insert(of.db, &row).await?;
    contents::note(of, id).await?;
    let Some(mut message) = rows::message(of.db, of.channel, id).await? else {
        return Err(Unreadable::Unknown("message that was stored").into());
    };
    note(of, &mut conversation, &chat, &message);
    threads::save(of.db, &conversation).await?;
    message.address.clone_from(&conversation.address);
    message.chat_name.clone_from(&conversation.chat_name);
    if is_new {
        announce::conversation_created(of, &conversation).await?;
    }
    let name = if arrival.from_me { "message.echo" } else { "message.received" };
    let both = (&message, &conversation);
    announce::delivered(of, name, both, contact.as_ref(), (is_new, contact_is_new)).await?;
    // After the event, which reports the message as it arrived.
    read_without_call(of, &mut conversation, &message).await?;
    if let Some(contact) = contact.as_mut().filter(|_| !arrival.from_me && arrival.group.is_none()) {
        opt_out_by_word(of, contact, &body).await?;
    }
    Ok(Received::of(Outcome::Stored, Some(id), Some(conversation.id)))
}

/// Marks the messages of a conversation as read, if the channel wants that when such a message is stored. A message that
/// the channel's phone sent is an answer. A message that could not be read is not marked.
async fn read_without_call<E: PageScan>(
    of: &Receiving<'_, E>,
    conversation: &mut Conversation,
    message: &Incoming,
) -> Result<(), E::Error> {
    let content = &message.body.content;
    let wanted = match message.direction {
        Direction::Inbound if content.is_notice() || content.is_undecryptable() => AutoRead::Off,
        Direction::Inbound => AutoRead::Received,
        Direction::Outbound => AutoRead::Answered,
    };
    if wanted == AutoRead::Off || of.settings.auto_read != wanted {
        return Ok(());
    }
    conversations::mark_all(of.db, conversation, of.now).await.map(drop)
}

/// The chat of an arrival.
pub(super) fn chat<'a>(arrival: &'a Arrival, contact: Option<&Contact>) -> Chat<'a> {
    if let Some(group) = &arrival.group {
        let (kind, address, name) = (ChatKind::Group, group.address.clone(), group.name.as_deref());
        return Chat { kind, address, name, contact: None, person: &arrival.person };
    }
    Chat {
        kind: ChatKind::Direct,
        address: address(&arrival.person, contact),
        name: None,
        contact: contact.map(|contact| contact.id),
        person: &arrival.person,
    }
}

/// The address of a person: the number, if this message or the contact has it.
fn address(person: &SenderIds, contact: Option<&Contact>) -> String {
    let known = contact.and_then(|contact| contact.account.clone().or_else(|| contact.phone.clone()));
    person.phone.clone().or(known).unwrap_or_else(|| person.address())
}

async fn body<E: PageScan>(
    of: &Receiving<'_, E>,
    arrival: &Arrival,
    new: &NewIncoming,
    contact: Option<&Contact>,
) -> Result<Body, E::Error> {
    let sender = if arrival.from_me { SenderIds::default() } else { known_names(&arrival.person, contact) };
    let mut body = Body::new(new, sender, of.batch.number.clone());
    if let Some(given) = &body.reply_to {
        body.reply_to = Some(targets::quote(of, given, arrival, contact).await?);
    }
    if let Some(given) = &body.choice {
        body.choice = Some(targets::choice(of, given, arrival, contact).await?);
    }
    Ok(body)
}

/// The names of a sender. If this message hides the number, the number of the contact is used.
fn known_names(person: &SenderIds, contact: Option<&Contact>) -> SenderIds {
    let account = contact.and_then(|contact| contact.account.clone());
    SenderIds { phone: person.phone.clone().or(account), ..person.clone() }
}

fn row<'a, E>(of: &Receiving<'_, E>, arrival: &'a Arrival, new: &'a NewIncoming, body: &'a Body) -> NewRow<'a> {
    NewRow {
        id: MessageId::from_bytes([0; 16]),
        channel: of.channel,
        conversation: recado_domain::ids::ConversationId::from_bytes([0; 16]),
        contact: None,
        direction: Direction::Inbound,
        network_id: &arrival.network_id,
        body,
        media: new.media.as_ref(),
        raw: new.raw.as_deref(),
        sent_at: arrival.sent_at,
        now: of.now,
    }
}

/// Updates the conversation of a new message.
fn note<E>(of: &Receiving<'_, E>, conversation: &mut Conversation, chat: &Chat<'_>, message: &Incoming) {
    if !chat.address.is_empty() {
        conversation.address.clone_from(&chat.address);
    }
    if let Some(name) = chat.name {
        conversation.chat_name = Some(name.to_owned());
    }
    conversation.windowed = of.batch.windowed && chat.kind == ChatKind::Direct;
    if message.direction == Direction::Inbound && !message.body.content.is_notice() {
        conversation.unread += 1;
        conversation.person_wrote_at = latest(conversation.person_wrote_at, message.sent_at);
    }
    conversation.last = Some(last_message(message));
    conversation.active_at = conversation.active_at.max(of.now);
    conversation.updated_at = of.now;
}

fn latest(before: Option<Millis>, at: Millis) -> Option<Millis> {
    before.max(Some(at))
}

/// A message as the list of conversations shows it.
pub(super) fn last_message(message: &Incoming) -> LastMessage {
    LastMessage {
        id: message.id,
        kind: message.body.content.name().to_owned(),
        direction: message.direction,
        content: truncate(&message.body.text, PREVIEW_LIMIT).0,
        at: message.received_at,
    }
}

/// Sets the opt-out of a contact whose message is one of the words for it.
async fn opt_out_by_word<E: PageScan>(
    of: &Receiving<'_, E>,
    contact: &mut Contact,
    body: &Body,
) -> Result<(), E::Error> {
    // A message that the store refused in its whole form has its text.
    let is_answer = ANSWER_KINDS.contains(&body.content.name()) || body.content.is_undecryptable();
    let says = is_answer && is_opt_out(&body.text, of.settings.opt_out_words.as_slice());
    if !says || contact.opt_out_at.is_some() {
        return Ok(());
    }
    set_opt_out(of, contact, Some("KEYWORD")).await
}

/// Sets the opt-out of a contact with this source, or removes it without a source.
pub(super) async fn set_opt_out<E: PageScan>(
    of: &Receiving<'_, E>,
    contact: &mut Contact,
    source: Option<&str>,
) -> Result<(), E::Error> {
    (contact.opt_out_at, contact.opt_out_source) = (source.map(|_| of.now), source.map(str::to_owned));
    contact.updated_at = of.now;
    book::save(of.db, contact, false).await?;
    announce::contact_updated(of, contact, &["optOut"], &[]).await
}
