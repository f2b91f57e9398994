//! Lists of conversations, and of the messages of one conversation.

use std::fmt;
use std::str::FromStr;

use super::{Conversation, Status};
use crate::channel::ChannelKey;
use crate::clock::Millis;
use crate::event::Owner;
use crate::ids::{ContactId, ConversationId, InvalidId, MessageId};
use crate::incoming::{Direction, Incoming};
use crate::message::{Message, Seq};
use crate::status::MessageStatus;

/// A query for conversations, the most recently active first.
#[derive(Debug, Clone)]
pub struct ConversationQuery {
    pub owner: Owner,
    pub status: Option<Status>,
    /// The id of an attendant.
    pub assigned_to: Option<String>,
    pub department: Option<String>,
    pub channel: Option<ChannelKey>,
    pub contact: Option<ContactId>,
    /// Only conversations with unread messages.
    pub unread: bool,
    /// Only those whose service window is open now.
    pub window_open: bool,
    pub now: Millis,
    /// Behind this one.
    pub after: Option<ConversationPlace>,
    pub limit: usize,
}

impl ConversationQuery {
    /// All conversations of an owner.
    pub fn of(owner: Owner, now: Millis, limit: usize) -> Self {
        Self {
            owner,
            status: None,
            assigned_to: None,
            department: None,
            channel: None,
            contact: None,
            unread: false,
            window_open: false,
            now,
            after: None,
            limit,
        }
    }
}

/// The place of a conversation in the list. The place stays valid if the conversation moves or is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConversationPlace {
    pub active_at: Millis,
    pub id: ConversationId,
}

impl fmt::Display for ConversationPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.active_at, self.id)
    }
}

impl FromStr for ConversationPlace {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (active_at, id) = text.split_once('.').ok_or(InvalidId)?;
        Ok(Self { active_at: active_at.parse().map_err(|_| InvalidId)?, id: id.parse()? })
    }
}

/// A page. It may be short, or empty, although more follow, because each page reads a bounded part of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationPage {
    pub conversations: Vec<Conversation>,
    /// Where the next page begins; `None` if this is the last one.
    pub next: Option<ConversationPlace>,
}

/// The order of messages by our clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    #[default]
    NewestFirst,
    OldestFirst,
}

/// A query for the messages of a conversation.
#[derive(Debug, Clone, Copy)]
pub struct ConversationMessages {
    pub owner: Owner,
    /// The conversation must be one of this channel.
    pub channel: ChannelKey,
    pub conversation: ConversationId,
    /// `Inbound`: only what the network delivered, echoes among it. `Outbound`: only what calls sent. `None`: both.
    pub direction: Option<Direction>,
    /// Behind this place, in the order of the query.
    pub after: Option<InboxPlace>,
    pub order: Order,
    pub limit: usize,
}

/// A message of a conversation, in either direction.
#[derive(Debug, Clone, PartialEq)]
pub enum InboxItem {
    /// The network delivered it.
    Incoming(Box<Incoming>),
    /// A call of the API sent it.
    Sent(Box<Message>),
}

/// A page of the messages of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct InboxPage {
    pub items: Vec<InboxItem>,
    /// The place behind which the next page begins; `None` if this is the last one.
    pub next: Option<InboxPlace>,
}

impl InboxPage {
    /// The page of delivered and of sent messages, each in the order of the query and one more than the page has, if there are
    /// more. They are merged by the times at which they were received and first sent.
    pub fn merged(delivered: Vec<Incoming>, sent: Vec<Message>, query: &ConversationMessages) -> Self {
        let (mut delivered, mut sent) = (delivered.into_iter().peekable(), sent.into_iter().peekable());
        let start = match query.order {
            Order::NewestFirst => Seq::MAX,
            Order::OldestFirst => Seq::MIN,
        };
        let mut place = query.after.unwrap_or(InboxPlace { incoming: start, sent: start });
        let mut items = Vec::new();
        while items.len() < query.limit {
            let first = match (delivered.peek().map(|message| message.received_at), sent.peek().map(sent_at)) {
                (None, None) => break,
                (received, sent) => is_first(received, sent, query.order),
            };
            if first {
                items.extend(delivered.next().map(|message| {
                    place.incoming = message.seq;
                    InboxItem::Incoming(Box::new(message))
                }));
            } else {
                items.extend(sent.next().map(|message| {
                    place.sent = message.seq;
                    InboxItem::Sent(Box::new(message))
                }));
            }
        }
        let more = delivered.peek().is_some() || sent.peek().is_some();
        Self { items, next: Some(place).filter(|_| more) }
    }
}

/// When a message was first sent.
fn sent_at(message: &Message) -> Millis {
    let sending = message.reached[usize::from(MessageStatus::Sending.number())];
    sending.unwrap_or_default()
}

/// Whether the received message is before the sent one. If both have the same time, the sent one is the later one.
fn is_first(received: Option<Millis>, sent: Option<Millis>, order: Order) -> bool {
    match (received, sent, order) {
        (Some(received), Some(sent), Order::NewestFirst) => received > sent,
        (Some(received), Some(sent), Order::OldestFirst) => received <= sent,
        (received, ..) => received.is_some(),
    }
}

/// A place among the messages of a conversation: delivered and sent messages are numbered separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxPlace {
    pub incoming: Seq,
    pub sent: Seq,
}

impl fmt::Display for InboxPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.incoming, self.sent)
    }
}

impl FromStr for InboxPlace {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (incoming, sent) = text.split_once('.').ok_or(InvalidId)?;
        let number = |text: &str| text.parse().map_err(|_| InvalidId);
        Ok(Self { incoming: number(incoming)?, sent: number(sent)? })
    }
}

/// A conversation whose messages were marked as read, with the messages to mark at the network.
#[derive(Debug, Clone, PartialEq)]
pub struct MarkedRead {
    pub conversation: Conversation,
    /// The messages that were unread, newest first, at most [`MARKED_AT_ONCE`]. A network that marks all earlier messages
    /// needs only the first.
    pub messages: Vec<ReadMark>,
}

/// The most messages of [`MarkedRead`].
pub const MARKED_AT_ONCE: usize = 100;

/// A message that was read.
#[derive(Clone, PartialEq, Eq)]
pub struct ReadMark {
    pub id: MessageId,
    pub network_id: String,
    /// The address of its author, which a network needs in a group.
    pub author: String,
}

/// The log must not name a person.
impl fmt::Debug for ReadMark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ReadMark({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_message_is_the_one_of_its_time() {
        let table = [
            // The times of the received and of the sent message, and whether the received one comes first in each
            // order.
            (Some(5), Some(3), true, false),
            (Some(3), Some(5), false, true),
            (Some(4), Some(4), false, true),
            (Some(4), None, true, true),
            (None, Some(4), false, false),
        ];
        for (received, sent, newest, oldest) in table {
            assert_eq!(is_first(received, sent, Order::NewestFirst), newest, "{received:?} {sent:?}");
            assert_eq!(is_first(received, sent, Order::OldestFirst), oldest, "{received:?} {sent:?}");
        }
    }

    #[test]
    fn a_place_is_read_as_it_is_written() {
        let place = InboxPlace { incoming: 7, sent: Seq::MAX };
        assert_eq!(place.to_string().parse(), Ok(place));
        for bad in ["", "7", "7.", ".7", "x.7"] {
            assert_eq!(bad.parse::<InboxPlace>(), Err(InvalidId), "{bad}");
        }
    }
}
