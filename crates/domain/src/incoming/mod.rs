//! What a network delivers to a channel: messages of other people, messages that another device of the channel sent, and
//! changes of messages.
//!
//! A driver translates the bytes of its network into [`Arrivals`] and passes them to the store, which keeps them in one
//! transaction. The driver acknowledges them to the network only after the commit. A network may repeat arrivals in any
//! order, and the store recognises repetitions.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

mod body;
mod call;
mod content;
mod group;
mod message;
mod person;
mod refused;
mod text;

use serde::{Deserialize, Serialize};

use crate::channel::ChannelKey;
use crate::clock::Millis;
use crate::ids::{ConversationId, MessageId, NetworkId};

pub use body::{Body, Choice, ChoiceKind, MatchedBy, Quoted};
pub use call::Call;
pub use content::{ANSWER_KINDS, Captioned, Content, Order, OrderItem, Place, PollResult, UnsupportedReason};
pub use group::GroupChange;
pub use message::{
    ContentsDeleted, Direction, Incoming, IncomingPage, IncomingQuery, Media, MediaState, NewMedia, Reaction,
    SealedIncoming, StoredFile,
};
pub use person::{IdentityKey, IdentityKind, SenderIds};
pub use refused::{NewRefused, RefusedArrival, RefusedKey};
pub use text::{CONTENT_LIMIT, QUOTE_LIMIT, RAW_LIMIT, SEALED_LIMIT, clean, truncate};

/// The most arrivals of one call. A driver splits more of them.
pub const ARRIVALS_AT_ONCE: usize = 100;

/// A message that was on its way for longer than this was delivered late: the channel or the phone was disconnected.
pub const LATE_AFTER: Millis = 5 * 60 * 1_000;

/// How long content that a channel does not keep stays at least, so that files can be fetched and streams read.
pub const CONTENT_FETCHED: Millis = 60 * 60 * 1_000;

/// What a network delivered to one channel at once, in the network's order.
#[derive(Debug, Clone)]
pub struct Arrivals {
    pub channel: ChannelKey,
    /// Digits of the channel's own number, if they are known.
    pub number: Option<String>,
    /// The business in which user ids are valid; `None`: they are valid on this channel alone.
    pub business: Option<String>,
    /// Whether the network limits replies to a window after the person's last message.
    pub windowed: bool,
    pub arrivals: Vec<Arrival>,
}

/// One thing that the network delivered. One that the store refuses is kept as JSON, so a new field needs a default.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Arrival {
    /// The network's id of this arrival. An arrival with the same id, chat and sender is a repetition.
    pub network_id: NetworkId,
    /// The group; `None`: a chat with one person.
    pub group: Option<Group>,
    /// The other person of a direct chat, also if the channel itself sent the message. In a group, the author. An
    /// arrival of a person without identity is stored too.
    pub person: SenderIds,
    /// Whether the channel's own account sent it, from another device.
    pub from_me: bool,
    /// The time by the network's clock.
    pub sent_at: Millis,
    pub what: What,
}

/// A group chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The address of the group, as callers pass it back: `{digits}@g.us`.
    pub address: String,
    pub name: Option<String>,
}

/// What arrived. A target is the network id of the message that is changed. A change is stored until its target
/// arrives.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum What {
    Message(Box<NewIncoming>),
    /// `None` removes the reaction.
    Reaction {
        target: NetworkId,
        emoji: Option<String>,
    },
    /// The new text or caption.
    Edit {
        target: NetworkId,
        content: String,
    },
    Revoke {
        target: NetworkId,
        by_admin: bool,
    },
    /// The names of all options that the person has chosen now. Empty: the person removed the vote.
    PollVote {
        target: NetworkId,
        options: Vec<String>,
    },
    /// The channel's phone has read these messages.
    ReadSelf {
        targets: Vec<NetworkId>,
    },
    /// The person has the identities of [`Arrival::person`] in place of these.
    IdentityChanged {
        old: SenderIds,
    },
    /// The group, or who is in it, changed. The person made the change, and the name of the group is the new one.
    GroupChanged {
        change: GroupChange,
        members: Vec<SenderIds>,
    },
    /// The person called, and the call is over.
    Called(Call),
    /// The person asked the network for no marketing (`true`), or for marketing again.
    OptOut(bool),
}

/// A message that arrived.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewIncoming {
    pub content: Content,
    /// The text that a person reads: text, caption, title of a button, question of a poll.
    pub text: String,
    pub media: Option<NewMedia>,
    /// The message that it answers, with the fields that the network gives.
    pub reply_to: Option<Quoted>,
    /// Digits of the people whom it mentions.
    pub mentions: Vec<String>,
    pub forwarded: bool,
    /// The button or the entry of a list that was chosen. [`Choice::message_id`] is set by the store.
    pub choice: Option<Choice>,
    /// The ad that led to the message, as the network gives it.
    pub referral: Option<serde_json::Value>,
    pub expires_in_seconds: Option<u32>,
    /// The network's own bytes, sealed by the driver where they hold keys, at most [`RAW_LIMIT`], sealed [`SEALED_LIMIT`]. They are kept as long
    /// as the message.
    #[serde(skip)]
    pub raw: Option<Vec<u8>>,
}

impl NewIncoming {
    /// A message with this text and nothing else.
    pub fn new(content: Content, text: impl Into<String>) -> Self {
        Self {
            content,
            text: text.into(),
            media: None,
            reply_to: None,
            mentions: Vec::new(),
            forwarded: false,
            choice: None,
            referral: None,
            expires_in_seconds: None,
            raw: None,
        }
    }
}

/// The result of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    pub outcome: Outcome,
    /// The message that was stored or changed. `None`: no message was, or the message has not arrived.
    pub message: Option<MessageId>,
    pub conversation: Option<ConversationId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A new message was stored.
    Stored,
    /// The body of a message that could not be read before was stored.
    Recovered,
    /// The arrival is a repetition, and changed nothing.
    Repeated,
    /// A message was changed.
    Applied,
    /// The target has not arrived. The change is applied when it arrives.
    Held,
    /// Nothing was stored.
    Ignored(Ignored),
}

/// Why an arrival was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// The channel is deleted.
    ChannelGone,
    /// This server sent the message: it is no echo.
    SentByUs,
    /// A later change is stored already, or the stored state is the state after this change.
    Stale,
}

/// The part of a batch that the store leaves to the next call.
impl Received {
    pub fn of(outcome: Outcome, message: Option<MessageId>, conversation: Option<ConversationId>) -> Self {
        Self { outcome, message, conversation }
    }

    pub fn ignored(why: Ignored) -> Self {
        Self::of(Outcome::Ignored(why), None, None)
    }

    /// Whether this call changed nothing because an earlier one did.
    pub fn is_repeated(&self) -> bool {
        self.outcome == Outcome::Repeated
    }
}
