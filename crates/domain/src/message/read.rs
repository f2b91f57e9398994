//! Messages that are read from the store.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use std::fmt;
use std::str::FromStr;

use crate::channel::ChannelKey;
use crate::clock::Millis;
use crate::ids::{ConversationId, MessageId};
use crate::message::{Seq, is_scheduled};
use crate::status::MessageStatus;

/// A stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub seq: Seq,
    pub id: MessageId,
    pub channel: ChannelKey,
    pub network_id: String,
    /// The network's own id, if the network does not accept ours.
    pub remote_id: Option<String>,
    pub status: MessageStatus,
    pub recipient: String,
    pub account: Option<String>,
    /// The kind of message, by the name that callers know.
    pub kind: String,
    pub payload: String,
    /// The rendition, which every attempt sends.
    pub rendition: Option<String>,
    /// The caller's own reference.
    pub reference: Option<String>,
    /// The time of a scheduled message.
    pub send_at: Option<Millis>,
    pub attempts: u32,
    pub error: Option<(String, String)>,
    pub expires_at: Millis,
    /// The conversation that it joined when it was first submitted to the network.
    pub conversation: Option<ConversationId>,
    /// When each state was reached, by the state's number.
    pub reached: [Option<Millis>; MessageStatus::ALL.len()],
}

/// A page of a channel's messages, newest first.
#[derive(Debug, Clone)]
pub struct MessageQuery {
    pub channel: ChannelKey,
    pub status: Option<MessageStatus>,
    pub recipient: Option<String>,
    /// The kind of message, by the name that callers know.
    pub kind: Option<String>,
    /// The caller's own reference of the messages.
    pub reference: Option<String>,
    /// Only scheduled messages.
    pub scheduled: bool,
    /// Only messages behind this place.
    pub before: Option<Place>,
    pub limit: usize,
}

/// Stands before the id in the cursor of a scheduled message.
const SCHEDULED: &str = "scheduled-";

/// A place in a list of messages, from which the next page goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Behind this message.
    Message(MessageId),
    /// Behind this message, which was scheduled when it was listed. It may have entered the queue since.
    Scheduled(MessageId),
}

impl Place {
    /// The place of a message.
    pub fn of(seq: Seq, id: MessageId) -> Self {
        if is_scheduled(seq) { Self::Scheduled(id) } else { Self::Message(id) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(id) => id.fmt(f),
            Self::Scheduled(id) => write!(f, "{SCHEDULED}{id}"),
        }
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let place = match text.strip_prefix(SCHEDULED) {
            Some(id) => id.parse().map(Self::Scheduled),
            None => text.parse().map(Self::Message),
        };
        place.map_err(|_| ())
    }
}

/// The most rows that one query may read. A filter with few matches gets short pages and a cursor, instead of a query that
/// reads a million rows.
pub const SCANNED_AT_MOST: i64 = 20_000;

impl MessageQuery {
    /// All messages of a channel.
    pub fn of(channel: ChannelKey, limit: usize) -> Self {
        let (status, recipient, kind, reference, before) = (None, None, None, None, None);
        Self { channel, status, recipient, kind, reference, scheduled: false, before, limit }
    }

    /// Whether the query selects only some of the channel's messages.
    pub fn has_filter(&self) -> bool {
        let texts = [&self.recipient, &self.kind, &self.reference];
        self.status.is_some() || self.scheduled || texts.iter().any(|text| text.is_some())
    }

    /// The number of rows to read: one more than requested, which shows whether there is a next page.
    pub fn rows(&self) -> i64 {
        i64::try_from(self.limit).unwrap_or(i64::MAX - 1) + 1
    }

    /// The page of these rows. `floor` is the place below which the query did not read.
    pub fn page(&self, mut messages: Vec<Message>, floor: Option<Place>) -> Page {
        let more = messages.len() > self.limit;
        messages.truncate(self.limit);
        let last = messages.last().map(|message| Place::of(message.seq, message.id));
        Page { messages, next: if more { last } else { floor } }
    }
}

/// A page of messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub messages: Vec<Message>,
    /// The cursor of the next page, if there is one.
    pub next: Option<Place>,
}

/// The result of a cancellation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancelled {
    Done,
    TooLate,
    NoMessage,
}

/// The open messages of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    pub channel: ChannelKey,
    /// How many they are.
    pub waiting: u64,
    /// When the first of them was queued.
    pub oldest: Millis,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(n: u8) -> Message {
        Message {
            seq: n.into(),
            id: MessageId::new(1, [n; 10]),
            channel: 1,
            network_id: String::new(),
            remote_id: None,
            status: MessageStatus::Queued,
            recipient: String::new(),
            account: None,
            kind: String::new(),
            payload: String::new(),
            rendition: None,
            reference: None,
            send_at: None,
            attempts: 0,
            error: None,
            expires_at: 0,
            conversation: None,
            reached: [None; MessageStatus::ALL.len()],
        }
    }

    #[test]
    fn a_page_continues_after_its_last_message_or_where_the_reader_stopped() {
        let query = |limit| MessageQuery::of(1, limit);
        let (floor, rows) = (Some(Place::Message(MessageId::new(1, [9; 10]))), || vec![message(3), message(2)]);
        let last = Some(Place::Message(message(3).id));
        let table = [
            // Asked, where the reader stopped: messages, the next page.
            (1, floor, 1, last),
            (1, None, 1, last),
            (2, floor, 2, floor),
            (2, None, 2, None),
        ];
        for (limit, floor, messages, next) in table {
            assert_eq!(query(limit).rows(), i64::try_from(limit + 1).expect("small"));
            let page = query(limit).page(rows(), floor);
            assert_eq!((page.messages.len(), page.next), (messages, next), "{limit}, {floor:?}");
        }
    }

    #[test]
    fn a_place_is_read_as_it_is_written() {
        let id = MessageId::new(1, [9; 10]);
        for place in [Place::of(7, id), Place::of(-7, id)] {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        assert_eq!((Place::of(7, id), Place::of(-7, id)), (Place::Message(id), Place::Scheduled(id)));
        for text in ["", "7", "-7", "sandbox", "scheduled-", "scheduled-7", "scheduled-scheduled-"] {
            assert_eq!(text.parse::<Place>(), Err(()), "{text}");
        }
    }
}
