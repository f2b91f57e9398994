//! Queries for the data of one person, and their results.

use std::fmt;

use recado_domain::api_key::Environment;
use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::contact_book::Contact;
use recado_domain::conversation::Conversation;
use recado_domain::ids::{InstitutionId, MediaId, MessageId};
use recado_domain::incoming::Incoming;
use recado_domain::message::{Message, Seq};
use serde::{Deserialize, Serialize};

/// Messages on a page; each with its payload and card.
pub const MESSAGES: usize = 100;
/// Places on a page, and most of them that are erased at once.
pub const PLACES: usize = 200;
/// The most channels whose contacts are on a page.
pub const CHANNELS: i64 = 200;

/// A person as a recipient: every number under which the store may know them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Digits; a hidden id has `@lid` behind it; an id within a business is as it is.
    pub numbers: Vec<String>,
    /// The institution whose channels are searched; `None`: all institutions.
    pub institution: Option<InstitutionId>,
    /// The environment of the institution whose channels are searched; `None`: both.
    #[serde(default)]
    pub environment: Option<Environment>,
}

impl Person {
    /// The person in all environments of an institution, or of all institutions.
    pub fn new(numbers: Vec<String>, institution: Option<InstitutionId>) -> Self {
        Self { numbers, institution, environment: None }
    }

    /// The institution and the environment as the store has them.
    pub(crate) fn owner(&self) -> (Option<Vec<u8>>, Option<&'static str>) {
        let institution = self.institution.map(|institution| institution.as_bytes().to_vec());
        (institution, self.environment.map(Environment::name))
    }
}

/// A log must not contain a person's number.
impl fmt::Debug for Person {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Person")
    }
}

/// A part of a person's data. Each part has its own order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersonPart {
    /// Further numbers of the person: other numbers of an account, as the network named them.
    Names,
    /// Messages to them, oldest first.
    Messages,
    /// Where these messages are.
    Places,
    /// Idempotency keys of the messages.
    Keys,
    /// What channels know about the person as a recipient.
    Contacts,
    /// Messages of and with the person that networks delivered, oldest first.
    Received,
    /// The person's contacts, and the conversations with them.
    Book,
    /// The channels of the person's institution.
    Channels,
}

/// A question for a page.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PersonQuery {
    pub person: Person,
    pub part: PersonPart,
    /// Continue after this row: 0 at first, then `next` of the last page.
    pub after: i64,
}

/// A page. It may be empty without being the last: each page scans a bounded part of the store.
#[derive(Debug, Clone, PartialEq)]
pub struct PersonPage {
    pub rows: Vec<PersonRow>,
    /// Where the next page begins; `None` when there is no more.
    pub next: Option<i64>,
}

/// A row of a page.
#[derive(Clone, PartialEq)]
pub enum PersonRow {
    Name(String),
    Message { message: Box<Message>, scenario: Option<String>, early: Vec<UnmatchedReceipt> },
    Place(Place),
    Key { n: i64, message: MessageId, route: String, key: String, used_at: Millis },
    Account { channel: ChannelKey, phone: String, account: Option<String>, lid: Option<String>, checked_at: Millis },
    Chat { channel: ChannelKey, account: String, opened_at: Option<Millis> },
    Pace { channel: ChannelKey, recipient: String, used_until: Millis },
    Received(Box<Incoming>),
    Contact(Box<Contact>),
    Conversation(Box<Conversation>),
    Channel(ChannelKey),
}

impl fmt::Debug for PersonRow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PersonRow")
    }
}

#[cfg(test)]
impl PersonRow {
    /// All data, for comparisons; `Debug` hides it.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Message { message, scenario, early } => format!("{message:?} {scenario:?} {early:?}"),
            Self::Name(name) => name.clone(),
            Self::Channel(key) => format!("channel {key}"),
            Self::Place(place) => format!("{place:?}"),
            Self::Key { n, message, route, key, used_at } => format!("{n} {message} {route} {key} {used_at}"),
            Self::Account { channel, phone, account, lid, checked_at } => {
                format!("account {channel} {phone} {account:?} {lid:?} {checked_at}")
            }
            Self::Chat { channel, account, opened_at } => format!("chat {channel} {account} {opened_at:?}"),
            Self::Pace { channel, recipient, used_until } => format!("pace {channel} {recipient} {used_until}"),
            Self::Received(message) => format!("{message:?} {}", serde_json::to_string(&message.body).expect("JSON")),
            Self::Contact(contact) => serde_json::to_string(&crate::views::contact(contact)).expect("JSON"),
            Self::Conversation(conversation) => {
                format!("{conversation:?} {:?}", conversation.contact.as_ref().map(|who| &who.name))
            }
        }
    }
}

/// An unmatched receipt, stored under a network's own id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmatchedReceipt {
    /// The position in `MessageStatus::ALL`.
    pub status: u8,
    pub at: Millis,
    pub error: Option<(String, String)>,
}

/// A message to be erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub channel: ChannelKey,
    pub seq: Seq,
    pub id: MessageId,
    /// The row of its idempotency key, where it has one.
    pub key: Option<i64>,
}

/// The data to erase.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Erasure {
    /// These messages, at most [`PLACES`]. Queued messages are cancelled first; `SENDING` messages stay.
    Messages(Vec<Place>),
    /// What the channels of a page after this channel know about the person.
    Contacts { person: Person, after: ChannelKey },
    /// A batch of what networks delivered of the person: messages, then conversations and contacts.
    Inbox {
        person: Person,
        /// The contacts stay, so that a later call finds the person.
        #[serde(default)]
        keeps_contacts: bool,
    },
    /// What a range of other people's messages says of the person, on one channel or on all.
    Traces {
        person: Person,
        #[serde(default)]
        channel: Option<ChannelKey>,
        after: i64,
    },
    /// A range of the events that name the person.
    EventTraces { person: Person, after: i64 },
}

/// The data that was erased.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Erased {
    pub messages: u64,
    /// Erased messages that were queued, and are never sent.
    pub cancelled: u64,
    pub idempotency_keys: u64,
    pub early_receipts: u64,
    pub accounts: u64,
    pub chats: u64,
    pub recipient_paces: u64,
    /// Messages that networks delivered.
    pub received: u64,
    pub conversations: u64,
    /// Entries of the list of contacts.
    pub people: u64,
    /// Other people's messages that quoted or mentioned the person.
    pub traces: u64,
    /// Events that named the person.
    pub events: u64,
    /// Messages in flight, which stay.
    pub sending: u64,
    /// Files of erased messages, whose bytes can be deleted.
    #[serde(skip)]
    pub files: Vec<MediaId>,
    /// Where the next batch begins.
    #[serde(skip)]
    pub next: Option<ChannelKey>,
}
