//! Events of channels and messages, in the order of their numbers, and the query that reads them.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use crate::api_key::Environment;
use crate::channel::ChannelKey;
use crate::clock::Millis;
use crate::ids::{InstitutionId, MessageId};

/// The number of an event, which orders all events of a store.
pub type EventSeq = i64;

/// A recorded event. Events that a newer version recorded are included: a reader with a cursor reads each event once, and
/// does not return to an event that it did not understand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub seq: EventSeq,
    pub channel: ChannelKey,
    /// The message of the event; `None` if the event is about the channel.
    pub message: Option<MessageId>,
    pub kind: String,
    pub at: Millis,
    /// JSON; the kind decides its form.
    pub data: String,
    /// The node that owned the channel, if that is recorded.
    pub node: Option<String>,
}

/// A query for the events after a cursor.
#[derive(Debug, Clone, Copy)]
pub struct EventQuery {
    /// The institution of the events.
    pub institution: InstitutionId,
    pub environment: Environment,
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
}
