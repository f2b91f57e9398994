//! The content of a message, and its form on the network.

use whatsapp_rust::buffa::MessageField;
use whatsapp_rust::wacore::proto_helpers::{MessageExt, build_quote_context_with_info};
use whatsapp_rust::wacore_binary::Jid;
use whatsapp_rust::waproto::codec::message_decode;
use whatsapp_rust::waproto::whatsapp::message::{ContactMessage, ContactsArrayMessage, LocationMessage};
use whatsapp_rust::waproto::whatsapp::{self as wa, ContextInfo};

use crate::incoming::wrappers;

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

/// An earlier message of the same chat. The recipient sees it above the new message.
#[derive(Clone, Debug, PartialEq)]
pub struct Quote {
    /// The earlier message's id on the network.
    pub id: String,
    pub author: Author,
    /// `None`: the earlier content is no longer known, and the quote shows nothing.
    pub content: Option<Quoted>,
}

/// Who wrote a quoted message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Author {
    /// This account.
    Own,
    /// The person to whom the new message goes.
    Recipient,
    /// A member of the group, by the digits of the number and of the hidden id, as far as they are known.
    Member { phone: Option<String>, lid: Option<String> },
}

/// The content of a quoted message.
#[derive(Clone, Debug, PartialEq)]
pub enum Quoted {
    Body(Body),
    /// The network's own form of a received message ([`NewIncoming::raw`](recado_domain::incoming::NewIncoming::raw)).
    Raw(Vec<u8>),
}

/// The network's form of a message with this body to this chat. With the quote comes the address of its author; `None`: it is
/// not known.
pub fn message(body: &Body, quote: Option<(&Quote, Option<&Jid>)>, to: &Jid) -> wa::Message {
    let mut message = body.to_message();
    if let Some((quote, author)) = quote {
        // The library converts a plain text into the form that can carry a quote.
        let carries_it = message.set_context_info(quote.to_context(author, to));
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

impl Quoted {
    fn to_message(&self) -> Option<wa::Message> {
        match self {
            Self::Body(body) => Some(body.to_message()),
            Self::Raw(raw) => {
                let whole = message_decode(raw).ok()?;
                let mut inner = wrappers::unwrap(&whole).message.clone();
                // They may hold the secret of the message, and the keys of its author for a group.
                inner.message_context_info = MessageField::none();
                inner.sender_key_distribution_message = MessageField::none();
                inner.fast_ratchet_key_sender_key_distribution_message = MessageField::none();
                Some(inner)
            }
        }
    }
}

impl Quote {
    fn to_context(&self, author: Option<&Jid>, to: &Jid) -> ContextInfo {
        let content = self.content.as_ref().and_then(Quoted::to_message);
        match (author, content) {
            (Some(author), Some(content)) => build_quote_context_with_info(&self.id, author, to, to, &content),
            (author, content) => ContextInfo {
                stanza_id: Some(self.id.clone()),
                participant: author.map(ToString::to_string),
                quoted_message: match content {
                    Some(content) => MessageField::from_box(content.prepare_for_quote()),
                    None => MessageField::none(),
                },
                ..ContextInfo::default()
            },
        }
    }
}
