//! Events: what happened to channels and messages, in the order of their numbers, and the question of who reads them all.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use crate::api_key::Environment;
use crate::channel::ChannelKey;
use crate::clock::Millis;
use crate::ids::{InstitutionId, MessageId};

/// An event's place among all events of a store.
pub type EventSeq = i64;

/// An event as it was recorded. What a newer version recorded is given as well: whoever reads behind a cursor passes each
/// event once, and does not come back for what it did not understand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub seq: EventSeq,
    pub channel: ChannelKey,
    /// The message that the event is about; `None` where it is about the channel.
    pub message: Option<MessageId>,
    pub kind: String,
    pub at: Millis,
    /// JSON, by the kind.
    pub data: String,
    /// The node that held the channel, where that is recorded.
    pub node: Option<String>,
}

/// A question for the events behind a cursor.
#[derive(Debug, Clone, Copy)]
pub struct EventQuery {
    /// Whose events.
    pub institution: InstitutionId,
    pub environment: Environment,
    /// Only those of this channel and its messages.
    pub channel: Option<ChannelKey>,
    /// The cursor: 0 at first, and then what the last page says.
    pub after: EventSeq,
    pub limit: usize,
}

/// Some events, in the order of their numbers. There may be none though more follow: each page looks through a bounded
/// part of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    pub events: Vec<Event>,
    /// Behind which event the next page begins. The same as was asked: nothing follows yet.
    pub cursor: EventSeq,
}

impl EventQuery {
    /// Events that are read: at least one, so that a page passes none.
    pub fn rows(&self) -> i64 {
        i64::try_from(self.limit).unwrap_or(i64::MAX).max(1)
    }

    /// The page of these events. `end`: the last event that was looked at; `None` where none follows.
    pub fn page(&self, events: Vec<Event>, end: Option<EventSeq>) -> EventPage {
        let full = i64::try_from(events.len()).unwrap_or(i64::MAX) >= self.rows();
        let last = events.last().map(|event| event.seq).filter(|_| full);
        EventPage { events, cursor: last.or(end).unwrap_or(self.after) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_at_its_last_event_or_where_the_reader_stopped() {
        let event = |seq| Event {
            seq,
            channel: 1,
            message: None,
            kind: "channel.created".to_owned(),
            at: 1,
            data: String::new(),
            node: None,
        };
        let institution = InstitutionId::new(1, [0; 10]);
        let query = |limit| EventQuery { institution, environment: Environment::Live, channel: None, after: 4, limit };
        let table = [
            // The limit, the events, where the reader stopped: the cursor.
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
}
