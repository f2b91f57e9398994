//! The content of a message, and its form on the network.

use whatsapp_rust::buffa::MessageField;
use whatsapp_rust::wacore::proto_helpers::{MessageExt, build_quote_context_with_info};
use whatsapp_rust::wacore_binary::Jid;
use whatsapp_rust::waproto::whatsapp::message::{ContactMessage, ContactsArrayMessage, LocationMessage};
use whatsapp_rust::waproto::whatsapp::{self as wa, ContextInfo};

/// The content of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A text.
    Text(String),
    /// A place on the map: degrees north and east.
    Location { latitude: f64, longitude: f64, name: Option<String>, address: Option<String> },
    /// A contact card.
    Contact(Card),
    /// Several contact cards under one name.
    Contacts { display_name: String, contacts: Vec<Card> },
}

/// A contact card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    pub display_name: String,
    pub vcard: String,
}

/// An earlier message that this account sent to the same recipient. The recipient sees it above the new message.
#[derive(Clone, Debug, PartialEq)]
pub struct Quote {
    /// The earlier message's id on the network.
    pub id: String,
    /// `None`: the earlier content is no longer known, and the quote shows nothing.
    pub body: Option<Body>,
}

/// The network's form of a message with this body and quote from one account to another.
pub fn message(body: &Body, quote: Option<&Quote>, own: &Jid, to: &Jid) -> wa::Message {
    let mut message = body.to_message();
    if let Some(quote) = quote {
        // The library converts a plain text into the form that can carry a quote.
        let carries_it = message.set_context_info(quote.to_context(own, to));
        debug_assert!(carries_it, "every body can carry a quote");
    }
    message
}

impl Body {
    fn to_message(&self) -> wa::Message {
        let message = wa::Message::default();
        match self {
            Self::Text(text) => wa::Message { conversation: Some(text.clone()), ..message },
            Self::Location { latitude, longitude, name, address } => {
                let location = LocationMessage {
                    degrees_latitude: Some(*latitude),
                    degrees_longitude: Some(*longitude),
                    name: name.clone(),
                    address: address.clone(),
                    ..LocationMessage::default()
                };
                wa::Message { location_message: MessageField::some(location), ..message }
            }
            Self::Contact(card) => wa::Message { contact_message: MessageField::some(card.to_message()), ..message },
            Self::Contacts { display_name, contacts } => {
                let contacts = ContactsArrayMessage {
                    display_name: Some(display_name.clone()),
                    contacts: contacts.iter().map(Card::to_message).collect(),
                    ..ContactsArrayMessage::default()
                };
                wa::Message { contacts_array_message: MessageField::some(contacts), ..message }
            }
        }
    }
}

impl Card {
    fn to_message(&self) -> ContactMessage {
        ContactMessage {
            display_name: Some(self.display_name.clone()),
            vcard: Some(self.vcard.clone()),
            ..ContactMessage::default()
        }
    }
}

impl Quote {
    fn to_context(&self, own: &Jid, to: &Jid) -> ContextInfo {
        match &self.body {
            Some(body) => build_quote_context_with_info(&self.id, own, to, to, &body.to_message()),
            None => ContextInfo {
                stanza_id: Some(self.id.clone()),
                participant: Some(own.to_string()),
                ..ContextInfo::default()
            },
        }
    }
}
