//! Events in the order of their numbers, and the query that reads them. Readers of the event stream receive them.
//!
//! An event is recorded in the transaction that makes it true. Channels and outbound messages record a short form
//! ([`Recorded`], [`StatusChange`]), from which the gateway writes the contract's JSON. All other kinds are recorded by
//! [`NewEvent`], whose data is that JSON.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

mod filter;
mod id;

use crate::address::AddressKind;
use crate::api_key::{Environment, Scope};
#[cfg(doc)]
use crate::channel::Recorded;
use crate::channel::{ChannelKey, ChannelType};
use crate::clock::Millis;
use crate::ids::{InstitutionId, MessageId};
use crate::message::StatusChange;

pub use filter::{Filter, Pattern, Patterns};
pub use id::{CursorText, EventId};

/// The number of an event, which orders all events of a store.
pub type EventSeq = i64;

/// The owner of an event.
pub type Owner = (InstitutionId, Environment);

/// Every event that readers and webhooks receive, with the scope that a key needs for it. Events with another name, such as
/// `message.sending`, are not given to them.
pub const EVENTS: [(&str, Scope); 34] = [
    ("message.received", Scope::MessagesRead),
    ("message.echo", Scope::MessagesRead),
    ("message.queued", Scope::MessagesRead),
    ("message.sent", Scope::MessagesRead),
    ("message.delivered", Scope::MessagesRead),
    ("message.read", Scope::MessagesRead),
    ("message.failed", Scope::MessagesRead),
    ("message.cancelled", Scope::MessagesRead),
    ("message.expired", Scope::MessagesRead),
    ("message.unknown", Scope::MessagesRead),
    ("message.played", Scope::MessagesRead),
    ("message.reaction", Scope::MessagesRead),
    ("message.edited", Scope::MessagesRead),
    ("message.revoked", Scope::MessagesRead),
    ("message.poll_vote", Scope::MessagesRead),
    ("message.recovered", Scope::MessagesRead),
    ("conversation.created", Scope::ConversationsRead),
    ("conversation.assigned", Scope::ConversationsRead),
    ("conversation.closed", Scope::ConversationsRead),
    ("contact.created", Scope::ContactsRead),
    ("contact.updated", Scope::ContactsRead),
    ("channel.connected", Scope::ChannelsRead),
    ("channel.disconnected", Scope::ChannelsRead),
    ("channel.restricted", Scope::ChannelsRead),
    ("channel.paused", Scope::ChannelsRead),
    ("channel.logged_out", Scope::ChannelsRead),
    ("channel.banned", Scope::ChannelsRead),
    ("template.updated", Scope::MessagesRead),
    ("bulk.completed", Scope::MessagesRead),
    ("bulk.failed", Scope::MessagesRead),
    ("bulk.cancelled", Scope::MessagesRead),
    ("group.updated", Scope::ChannelsRead),
    ("call.received", Scope::ChannelsRead),
    ("webhook.disabled", Scope::WebhooksRead),
];

/// The events that nothing records yet. Readers can name them, so that a later version reaches them.
pub const NOT_YET: [&str; 5] =
    ["message.played", "template.updated", "bulk.completed", "bulk.failed", "bulk.cancelled"];

/// The events that only open streams receive, as they happen, with the scope that a key needs for them. Nothing stores them, so
/// webhooks and event logs cannot name them.
pub const TRANSIENT: [(&str, Scope); 2] =
    [("typing.updated", Scope::MessagesRead), ("presence.updated", Scope::ContactsRead)];

/// The scope that a key needs for events of this name; `None` where readers do not receive them.
pub fn scope_of(name: &str) -> Option<Scope> {
    EVENTS.iter().find(|(known, _)| *known == name).map(|(_, scope)| *scope)
}

/// The kind of the chat that an event belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ChatKind {
    #[default]
    Direct,
    Group,
}

impl ChatKind {
    pub const ALL: [Self; 2] = [Self::Direct, Self::Group];

    /// The name in the API and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "DIRECT",
            Self::Group => "GROUP",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The kind of the chat with this address.
    pub fn of_address(address: &str) -> Self {
        if AddressKind::of(address) == AddressKind::Group { Self::Group } else { Self::Direct }
    }
}

/// An event to record whose data is complete. It is recorded in the transaction that makes it true, and only where the
/// institution has a reader of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    pub owner: Owner,
    /// `None`: the event belongs to no channel, such as a contact that a call changes.
    pub channel: Option<ChannelKey>,
    /// One of [`EVENTS`].
    pub name: &'static str,
    /// The subject: the id of a message, a conversation or a contact. Events of one subject are delivered one after
    /// another, and are erased together.
    pub subject: EventSubject,
    /// The conversation of the event, by which webhooks can order events.
    pub conversation: Option<EventSubject>,
    pub chat: ChatKind,
    pub at: Millis,
    /// The contract's `data`: a JSON object, in the contract's order of keys.
    pub data: String,
}

/// The id of the subject of an event, as bytes of a UUID.
pub type EventSubject = [u8; 16];

/// Most bytes of an event's data. The store refuses longer data. The caller truncates texts first.
pub const DATA_LIMIT: usize = 255 << 10;

/// A recorded event. Events that a newer version recorded are included: a reader with a cursor reads each event once, and
/// does not return to an event that it did not understand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub seq: EventSeq,
    pub owner: Owner,
    pub channel: Option<EventChannel>,
    /// The outbound message that the event is about.
    pub message: Option<EventMessage>,
    pub kind: String,
    pub at: Millis,
    /// JSON; the kind decides its form.
    pub data: String,
    /// Whether the data is the contract's.
    pub complete: bool,
    pub subject: Option<EventSubject>,
    pub conversation: Option<EventSubject>,
    pub chat: ChatKind,
    /// The node that owned the channel, if that is recorded.
    pub node: Option<String>,
}

/// The channel of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventChannel {
    pub key: ChannelKey,
    /// Its public id.
    pub id: String,
    pub kind: Option<ChannelType>,
}

/// The outbound message of an event: fields that never change, and fields as they were at the time of the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventMessage {
    pub id: MessageId,
    /// The id that the network gave the message, or else ours.
    pub network_id: String,
    pub reference: Option<String>,
    /// The name of its kind; `None` for the first versions' contacts.
    pub kind: Option<String>,
    pub recipient: String,
    pub account: Option<String>,
    /// The text of its final error.
    pub error: Option<String>,
}

/// A query for the events after a cursor.
#[derive(Debug, Clone, Copy)]
pub struct EventQuery {
    /// The owner of the events; `None`: events of all owners.
    pub owner: Option<Owner>,
    /// Only events of this channel and its messages.
    pub channel: Option<ChannelKey>,
    /// The cursor: 0 at first, and then the cursor of the last page.
    pub after: EventSeq,
    pub limit: usize,
}

/// A page of events, in the order of their numbers. A page may be empty although more events follow, because each page reads
/// a bounded part of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    pub events: Vec<Event>,
    /// The cursor of the next page. If it equals the cursor of the query, no event follows yet.
    pub cursor: EventSeq,
}

/// The numbers of an owner's events in a part of the stream: the first one and the last one. Events of other owners may be between
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnedRange {
    pub owner: Owner,
    pub first: EventSeq,
    pub last: EventSeq,
}

/// The state of the event stream of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventState {
    /// Random bytes that distinguish this store from its copy on the other engine.
    pub identity: [u8; 16],
    /// Events up to this number may be deleted because they were old.
    pub deleted_until: EventSeq,
}

/// Which events of an institution's messages are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Recording {
    Off,
    /// All but `message.queued`, so that accepting a message costs nothing more.
    Changes,
    All,
}

impl Event {
    /// The public id.
    pub fn id(&self) -> EventId {
        EventId::new(self.seq, self.at, self.owner)
    }

    /// Whether readers and webhooks receive it. A message that is queued again produces no event for them, because
    /// `message.queued` says that it was accepted.
    pub fn is_public(&self) -> bool {
        let queued_again = || StatusChange::from_json(&self.data).is_none_or(|change| change.from.is_some());
        scope_of(&self.kind).is_some() && (self.complete || self.kind != "message.queued" || !queued_again())
    }
}

impl Recording {
    /// The least setting that records the events of these patterns.
    pub fn of<'a>(patterns: impl IntoIterator<Item = &'a Patterns>) -> Self {
        let of_one = |patterns: &Patterns| match patterns {
            none if none.matches_none() => Self::Off,
            some if some.matches("message.queued") => Self::All,
            _ => Self::Changes,
        };
        patterns.into_iter().map(of_one).max().unwrap_or(Self::Off)
    }
}

impl EventQuery {
    /// The number of events to read: at least one, so that every page makes progress.
    pub fn rows(&self) -> i64 {
        i64::try_from(self.limit).unwrap_or(i64::MAX).max(1)
    }

    /// The page of these events. `end` is the last event that was read; `None` if no event follows.
    pub fn page(&self, events: Vec<Event>, end: Option<EventSeq>) -> EventPage {
        let full = i64::try_from(events.len()).unwrap_or(i64::MAX) >= self.rows();
        let last = events.last().map(|event| event.seq).filter(|_| full);
        EventPage { events, cursor: last.or(end).unwrap_or(self.after) }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn event(seq: EventSeq) -> Event {
        Event {
            seq,
            owner: (InstitutionId::new(1, [0; 10]), Environment::Live),
            channel: None,
            message: None,
            kind: "channel.created".to_owned(),
            at: 1,
            data: String::new(),
            complete: false,
            subject: None,
            conversation: None,
            chat: ChatKind::Direct,
            node: None,
        }
    }

    #[test]
    fn a_page_ends_at_its_last_event_or_where_the_reader_stopped() {
        let query = |limit| EventQuery { owner: None, channel: None, after: 4, limit };
        let table = [
            // The limit, the events, the last event read: the cursor.
            (2, vec![6, 8], Some(30), 8),
            (0, vec![6], Some(30), 6),
            (3, vec![6, 8], Some(30), 30),
            (3, vec![], Some(30), 30),
            (3, vec![], None, 4),
        ];
        for (limit, seqs, end, cursor) in table {
            let page = query(limit).page(seqs.iter().copied().map(event).collect(), end);
            assert_eq!(page.cursor, cursor, "{limit}, {seqs:?}, {end:?}");
        }
    }

    #[test]
    fn what_is_recorded_follows_the_readers() {
        let patterns = |texts: &[&str]| Patterns::parse(texts, true).expect("patterns");
        let log = Patterns::default_log();
        assert_eq!(Recording::of([]), Recording::Off);
        assert_eq!(Recording::of([&patterns(&[])]), Recording::Off);
        assert_eq!(
            Recording::of([&patterns(&["!message.queued"])]),
            Recording::Off,
            "it excludes, and includes nothing"
        );
        assert_eq!(Recording::of([&log]), Recording::Changes);
        assert_eq!(Recording::of([&log, &patterns(&["message.queued"])]), Recording::All);
        assert_eq!(Recording::of([&patterns(&["*"])]), Recording::All);
    }
}
