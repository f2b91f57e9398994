//! The body of `POST /{version}/{phone number id}/messages` for a stored message.
//!
//! Form: `ContactObject` in Meta's OpenAPI file (MIT), `business-messaging-api_v23.0.yaml`. Its `ContactsMessage`, which
//! stands around it, refuses every real message (`additionalProperties: false` beside `allOf`), so it is not a measure.

#[cfg(test)]
mod tests;

use recado_domain::kinds::Content;
use recado_domain::kinds::contact::{Card, Contact as Contacts};
use recado_domain::message::{ContactRendition, Stored};
use recado_domain::queue::Claimed;
use serde::Serialize;

/// A stored message that this version does not understand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Without serde's words, which may quote what stands there.
    #[error("its content is not in its form")]
    Content,
    #[error("its card's phone is none")]
    Phone,
}

#[derive(Serialize)]
struct Body<'a> {
    messaging_product: &'static str,
    recipient_type: &'static str,
    to: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    contacts: Vec<Contact<'a>>,
    /// Comes back in the callbacks of this message: by it a message is found whose answer was lost.
    biz_opaque_callback_data: String,
}

#[derive(Serialize)]
struct Contact<'a> {
    name: Name<'a>,
    phones: Vec<Phone<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    emails: Option<[Email<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    org: Option<Organization<'a>>,
}

/// Meta wants one part of the name beside the whole (docs of d7networks, contacts-message). Where a name divides nobody
/// can tell, so the first name is all of it, as on the card, unless the caller told its parts.
#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "they are Meta's")]
struct Name<'a> {
    formatted_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_name: Option<&'a str>,
}

impl<'a> Name<'a> {
    fn of(contact: &'a Card) -> Self {
        let (first, last) = (contact.first_name.as_deref(), contact.last_name.as_deref());
        let whole = first.is_none() && last.is_none();
        let first_name = if whole { Some(&*contact.name) } else { first };
        Self { formatted_name: &contact.name, first_name, last_name: last }
    }
}

/// Without a `type`: Meta's list has only HOME and WORK.
#[derive(Serialize)]
struct Phone<'a> {
    phone: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    wa_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Email<'a> {
    email: &'a str,
}

#[derive(Serialize)]
struct Organization<'a> {
    company: &'a str,
}

/// The body as JSON. The card's account goes along only where the network named it: a guess would show "invite to
/// WhatsApp" to the recipient, no account shows the number alone.
pub fn of(message: &Claimed) -> Result<Vec<u8>, Unreadable> {
    let stored: Stored = serde_json::from_str(&message.payload).map_err(|_| Unreadable::Content)?;
    match &stored.content {
        Content::Contact(contacts) => contact(message, contacts),
        // Accepted by no route yet.
        Content::Text(_) | Content::Location(_) => Err(Unreadable::Content),
    }
}

fn contact(message: &Claimed, contacts: &Contacts) -> Result<Vec<u8>, Unreadable> {
    let rendition = message.rendition.as_deref().and_then(ContactRendition::from_json).ok_or(Unreadable::Content)?;
    let cards = contacts.cards().map_err(|_| Unreadable::Phone)?;
    let body = Body {
        messaging_product: "whatsapp",
        recipient_type: "individual",
        to: &message.recipient,
        kind: "contacts",
        contacts: cards.iter().enumerate().map(|(index, one)| card(one, index, &rendition)).collect(),
        biz_opaque_callback_data: message.id.to_string(),
    };
    Ok(serde_json::to_vec(&body).expect("texts can be written as JSON"))
}

fn card<'a>(card: &'a Card, index: usize, rendition: &'a ContactRendition) -> Contact<'a> {
    let phones = card.phones.iter().enumerate().map(|(place, phone)| Phone {
        phone: format!("+{}", phone.number.digits()),
        wa_id: rendition.named(index, place),
    });
    Contact {
        name: Name::of(card),
        phones: phones.collect(),
        emails: card.emails.first().map(|email| [Email { email: &email.email }]),
        org: card.organization.as_deref().map(|company| Organization { company }),
    }
}
