//! The body of `POST /{version}/{phone number id}/messages` for a stored message.
//!
//! The forms are `TextMessage`, `LocationMessage` and `ContactObject` in Meta's OpenAPI file (MIT),
//! `business-messaging-api_v23.0.yaml`. The schemas around them there reject every real message (`additionalProperties:
//! false` beside `allOf`), so they are not used as a check.

mod contacts;
#[cfg(test)]
mod tests;

use recado_domain::address::AddressKind;
use recado_domain::kinds::{Content, location, text};
use recado_domain::message::{ContactRendition, Stored};
use recado_domain::queue::Claimed;
use serde::Serialize;

use contacts::Contact;

/// A stored message that this version does not understand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Serde's text is omitted, because it may quote the content.
    #[error("the content has an unknown form")]
    Content,
    #[error("a phone on its card is none")]
    Phone,
}

#[derive(Serialize)]
struct Body<'a> {
    messaging_product: &'static str,
    recipient_type: &'static str,
    /// The digits of a number. Meta ignores a message whose `to` is a user id, and a `recipient` beside a `to`.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    /// A user id of the business.
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Context<'a>>,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    object: Object<'a>,
    /// Meta returns it in the callbacks of this message, so a message is found whose answer was lost.
    biz_opaque_callback_data: String,
}

/// The quoted message, by Meta's id.
#[derive(Serialize)]
struct Context<'a> {
    message_id: &'a str,
}

/// The object of the kind, under the name of the kind.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Object<'a> {
    Contacts(Vec<Contact>),
    Text(Text<'a>),
    Location(Location<'a>),
}

#[derive(Serialize)]
struct Text<'a> {
    body: &'a str,
    preview_url: bool,
}

#[derive(Serialize)]
struct Location<'a> {
    latitude: String,
    longitude: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<&'a str>,
}

/// Parses the stored form of a message.
///
/// # Errors
///
/// A newer version stored the message in another form.
pub fn read(message: &Claimed) -> Result<Stored, Unreadable> {
    serde_json::from_str(&message.payload).map_err(|_| Unreadable::Content)
}

/// The body as JSON. `quoted` is Meta's id of the message that this one quotes.
///
/// # Errors
///
/// A newer version stored the message in another form.
pub fn of(message: &Claimed, content: &Content, quoted: Option<&str>) -> Result<Vec<u8>, Unreadable> {
    let (kind, object) = match content {
        Content::Contact(contact) => {
            let rendition = message.rendition.as_deref().and_then(ContactRendition::from_json);
            let rendition = rendition.ok_or(Unreadable::Content)?;
            let cards = contact.cards().map_err(|_| Unreadable::Phone)?.into_iter().enumerate();
            let contacts = cards.map(|(place, card)| Contact::of(card, |phone| rendition.named(place, phone)));
            ("contacts", Object::Contacts(contacts.collect()))
        }
        Content::Text(content) => ("text", Object::Text(content.into())),
        Content::Location(content) => ("location", Object::Location(content.into())),
    };
    let recipient = Some(&*message.recipient);
    let by_id = AddressKind::of(&message.recipient) == AddressKind::UserId;
    let body = Body {
        messaging_product: "whatsapp",
        recipient_type: "individual",
        to: recipient.filter(|_| !by_id),
        recipient: recipient.filter(|_| by_id),
        context: quoted.map(|message_id| Context { message_id }),
        kind,
        object,
        biz_opaque_callback_data: message.id.to_string(),
    };
    Ok(serde_json::to_vec(&body).expect("texts can be written as JSON"))
}

impl<'a> From<&'a text::Text> for Text<'a> {
    fn from(content: &'a text::Text) -> Self {
        Self { body: &content.text.content, preview_url: content.text.link_preview }
    }
}

impl<'a> From<&'a location::Location> for Location<'a> {
    fn from(content: &'a location::Location) -> Self {
        let location::Place { latitude, longitude, name, address } = &content.location;
        // Rust writes a number without an exponent.
        let (latitude, longitude) = (latitude.to_string(), longitude.to_string());
        Self { latitude, longitude, name: name.as_deref(), address: address.as_deref() }
    }
}
