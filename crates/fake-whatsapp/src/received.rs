//! What a recipient's phone shows of a message.

use serde::Serialize;
use waproto::whatsapp::message::ContactMessage;
use waproto::whatsapp::{self as wa, ContextInfo};

/// A message as the recipient's phone read it.
#[derive(Clone, Debug)]
pub struct Received {
    pub id: String,
    /// The account that sent it, as digits.
    pub from: String,
    /// The account whose phone read it, as digits.
    pub to: String,
    pub message: wa::Message,
    /// Whether the sender's phone could read its copy.
    pub own_phone_saw_it: bool,
}

/// A place on the map.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Location<'a> {
    pub latitude: f64,
    pub longitude: f64,
    pub name: Option<&'a str>,
    pub address: Option<&'a str>,
}

/// The quoted message of a message.
#[derive(Clone, Copy, Debug)]
pub struct Quote<'a> {
    pub id: &'a str,
    /// The address of the account that sent the quoted message.
    pub from: &'a str,
    /// `None`: the quote does not contain the quoted content.
    pub message: Option<&'a wa::Message>,
}

impl Received {
    /// The text of a text message.
    pub fn text(&self) -> Option<&str> {
        text(&self.message)
    }

    /// The location of a location message.
    pub fn location(&self) -> Option<Location<'_>> {
        let location = self.message.location_message.as_option()?;
        Some(Location {
            latitude: location.degrees_latitude?,
            longitude: location.degrees_longitude?,
            name: location.name.as_deref(),
            address: location.address.as_deref(),
        })
    }

    /// The cards of the message.
    pub fn cards(&self) -> Vec<&ContactMessage> {
        cards(&self.message)
    }

    /// The name on the first card.
    pub fn display_name(&self) -> Option<&str> {
        self.cards().first().and_then(|card| card.display_name.as_deref())
    }

    /// The first card.
    pub fn vcard(&self) -> Option<&str> {
        self.cards().first().and_then(|card| card.vcard.as_deref())
    }

    /// The quoted message.
    pub fn quote(&self) -> Option<Quote<'_>> {
        let context = context(&self.message)?;
        Some(Quote {
            id: context.stanza_id.as_deref()?,
            from: context.participant.as_deref()?,
            message: context.quoted_message.as_option(),
        })
    }
}

fn text(message: &wa::Message) -> Option<&str> {
    message.conversation.as_deref().or_else(|| message.extended_text_message.as_option()?.text.as_deref())
}

fn cards(message: &wa::Message) -> Vec<&ContactMessage> {
    let one = message.contact_message.as_option();
    one.into_iter().chain(&message.contacts_array_message.contacts).collect()
}

fn context(message: &wa::Message) -> Option<&ContextInfo> {
    let contexts = [
        &message.extended_text_message.context_info,
        &message.location_message.context_info,
        &message.contact_message.context_info,
        &message.contacts_array_message.context_info,
    ];
    contexts.into_iter().find_map(|context| context.as_option())
}

/// Why a phone cannot show a message; usually empty.
pub fn faults(message: &wa::Message) -> Vec<&'static str> {
    let mut faults = body_faults(message);
    if let Some(context) = context(message) {
        if context.stanza_id.as_deref().is_none_or(str::is_empty) {
            faults.push("a quote without an id");
        }
        if context.participant.as_deref().is_none_or(|from| !from.contains('@')) {
            faults.push("a quote without an author");
        }
        faults.extend(context.quoted_message.as_option().into_iter().flat_map(body_faults));
    }
    faults
}

fn body_faults(message: &wa::Message) -> Vec<&'static str> {
    let bodies = [
        message.conversation.is_some(),
        message.extended_text_message.is_set(),
        message.location_message.is_set(),
        message.contact_message.is_set(),
        message.contacts_array_message.is_set(),
    ];
    let mut faults = Vec::new();
    if bodies.iter().filter(|is_set| **is_set).count() != 1 {
        faults.push("not one body");
    }
    if (message.conversation.is_some() || message.extended_text_message.is_set())
        && text(message).is_none_or(|text| text.trim().is_empty())
    {
        faults.push("an empty text");
    }
    if let Some(location) = message.location_message.as_option() {
        let is_within = |degrees: Option<f64>, most: f64| degrees.is_some_and(|degrees| degrees.abs() <= most);
        if !is_within(location.degrees_latitude, 90.0) || !is_within(location.degrees_longitude, 180.0) {
            faults.push("a place that is not on the map");
        }
    }
    let is_shown = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let is_card = |card: &&ContactMessage| {
        let vcard = card.vcard.as_deref().unwrap_or_default();
        is_shown(&card.display_name) && vcard.starts_with("BEGIN:VCARD\n") && vcard.ends_with("\nEND:VCARD")
    };
    if !cards(message).iter().all(is_card) {
        faults.push("a card without a name or a vCard");
    }
    if let Some(contacts) = message.contacts_array_message.as_option()
        && (contacts.contacts.len() < 2 || !is_shown(&contacts.display_name))
    {
        faults.push("a list of cards without a name or with less than two");
    }
    faults
}

#[cfg(test)]
mod tests {
    use waproto::buffa::MessageField;
    use waproto::whatsapp::message::{ContactsArrayMessage, ExtendedTextMessage, LocationMessage};

    use super::*;

    fn text_message(text: &str) -> wa::Message {
        wa::Message { conversation: Some(text.to_owned()), ..wa::Message::default() }
    }

    fn place(latitude: f64) -> wa::Message {
        let location = LocationMessage {
            degrees_latitude: Some(latitude),
            degrees_longitude: Some(-46.6),
            ..LocationMessage::default()
        };
        wa::Message { location_message: MessageField::some(location), ..wa::Message::default() }
    }

    fn contacts(vcards: &[&str]) -> wa::Message {
        let card = |vcard: &&str| ContactMessage {
            display_name: Some("Maria".to_owned()),
            vcard: Some((*vcard).to_owned()),
            ..ContactMessage::default()
        };
        let contacts = ContactsArrayMessage {
            display_name: Some("2 contatos".to_owned()),
            contacts: vcards.iter().map(card).collect(),
            ..ContactsArrayMessage::default()
        };
        wa::Message { contacts_array_message: MessageField::some(contacts), ..wa::Message::default() }
    }

    fn answer(context: ContextInfo) -> wa::Message {
        let text = ExtendedTextMessage {
            text: Some("sim".to_owned()),
            context_info: MessageField::some(context),
            ..ExtendedTextMessage::default()
        };
        wa::Message { extended_text_message: MessageField::some(text), ..wa::Message::default() }
    }

    fn quote(id: &str, from: &str, message: wa::Message) -> ContextInfo {
        ContextInfo {
            stanza_id: Some(id.to_owned()),
            participant: Some(from.to_owned()),
            quoted_message: MessageField::some(message),
            ..ContextInfo::default()
        }
    }

    const CARD: &str = "BEGIN:VCARD\nVERSION:3.0\nFN:Maria\nEND:VCARD";

    #[test]
    fn a_message_that_a_phone_can_show_has_no_faults() {
        for message in [
            text_message("oi"),
            place(90.0),
            contacts(&[CARD, CARD]),
            answer(quote("3EB0", "551140001000@s.whatsapp.net", text_message("oi?"))),
        ] {
            assert_eq!(faults(&message), [""; 0], "{message:?}");
        }
    }

    #[test]
    fn the_faults_of_a_message_are_named() {
        let from = "551140001000@s.whatsapp.net";
        for (message, fault) in [
            (wa::Message::default(), "not one body"),
            (wa::Message { conversation: Some("oi".to_owned()), ..place(0.0) }, "not one body"),
            (text_message(" "), "an empty text"),
            (place(90.1), "a place that is not on the map"),
            (place(f64::NAN), "a place that is not on the map"),
            (contacts(&[CARD, "FN:Maria"]), "a card without a name or a vCard"),
            (contacts(&[CARD]), "a list of cards without a name or with less than two"),
            (answer(quote("", from, text_message("oi"))), "a quote without an id"),
            (answer(quote("3EB0", "551140001000", text_message("oi"))), "a quote without an author"),
            (answer(quote("3EB0", from, text_message(""))), "an empty text"),
        ] {
            assert_eq!(faults(&message), [fault], "{message:?}");
        }
    }
}
