//! Conversations: the messages of one chat of a channel, until the conversation is closed.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

mod change;
mod query;
mod signal;
mod window;

use crate::channel::ChannelKey;
use crate::clock::Millis;
use crate::event::{ChatKind, Owner};
use crate::ids::{ContactId, ConversationId, MessageId};
use crate::incoming::Direction;

pub use change::{Change, Changed, ClosedBy, Refused, Transition};
pub use query::{
    ConversationMessages, ConversationPage, ConversationPlace, ConversationQuery, InboxItem, InboxPage, InboxPlace,
    MARKED_AT_ONCE, MarkedRead, Order, ReadMark,
};
pub use signal::{READ_ATTEMPTS, READ_KEPT, ReadClaim, ReadClaims, ReadSignal, read_retry};
pub use window::{WINDOW, Window, WindowState};

/// The status of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// No attendant is responsible.
    Pending,
    Open,
    /// The conversation has ended. The next message of the chat begins another one.
    Closed,
}

impl Status {
    pub const ALL: [Self; 3] = [Self::Pending, Self::Open, Self::Closed];

    /// The name in the API and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Open => "OPEN",
            Self::Closed => "CLOSED",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// The attendant who is responsible. The ids are the caller's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignee {
    pub id: String,
    /// The name that was last given for this id, or else the id.
    pub name: String,
}

/// The contact of a conversation, as it is shown there.
#[derive(Clone, PartialEq, Eq)]
pub struct Who {
    pub id: ContactId,
    pub name: String,
    pub phone: Option<String>,
}

/// The log must not name a person.
impl std::fmt::Debug for Who {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Who({})", self.id)
    }
}

/// The most code points of the text of a conversation's last message.
pub const PREVIEW_LIMIT: usize = 1_024;

/// The newest message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastMessage {
    pub id: MessageId,
    pub kind: String,
    pub direction: Direction,
    /// At most [`PREVIEW_LIMIT`] code points.
    pub content: String,
    pub at: Millis,
}

/// A conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    pub id: ConversationId,
    pub owner: Owner,
    pub channel: ChannelKey,
    /// The public id of the channel.
    pub channel_id: String,
    pub chat: ChatKind,
    /// The address of the chat: what a send call takes as `to`.
    pub address: String,
    /// The name of the group.
    pub chat_name: Option<String>,
    /// `None` in a group, and for a person who has never written.
    pub contact: Option<Who>,
    pub assigned_to: Option<Assignee>,
    pub department: Option<String>,
    /// The note of the last transfer.
    pub note: Option<String>,
    pub status: Status,
    pub last: Option<LastMessage>,
    /// The number of received messages that are unread.
    pub unread: u32,
    /// Whether the network has a service window on this channel.
    pub windowed: bool,
    /// The network's time of the person's last message or click.
    pub person_wrote_at: Option<Millis>,
    pub created_at: Millis,
    pub updated_at: Millis,
    pub closed_at: Option<Millis>,
    /// Why a call closed it.
    pub close_reason: Option<String>,
    /// The time of the newest message by our clock, which orders lists.
    pub active_at: Millis,
}

impl Conversation {
    /// The service window at this time.
    pub fn window(&self, now: Millis) -> Window {
        Window::of(self.windowed, self.person_wrote_at, now)
    }
}
