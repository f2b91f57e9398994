//! A claim: it selects the messages of a channel that are sent next.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use crate::channel::{ChannelKey, ChannelType, Epoch};
use crate::clock::Millis;
use crate::conversation::PREVIEW_LIMIT;
use crate::ids::MessageId;
use crate::incoming::truncate;
use crate::message::{Seq, Stored};
use crate::pacing::RecipientPacing;

/// What happens to a message when it is unknown whether the network received it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownOutcomePolicy {
    /// The message is sent again. The network recognises a re-send, so the message cannot arrive twice.
    Resend,
    /// The message becomes `UNKNOWN`. After this many milliseconds without a receipt it is queued again, and it may then
    /// arrive twice. `None`: it is never queued again.
    MarkUnknown(Option<Millis>),
}

impl UnknownOutcomePolicy {
    /// When a message that becomes `UNKNOWN` now is queued again.
    pub fn resend_at(self, now: Millis) -> Option<Millis> {
        match self {
            Self::Resend => None,
            Self::MarkUnknown(wait) => wait.map(|wait| now + wait),
        }
    }
}

/// What a claim knows about `SENDING` rows that are not in flight at the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnheldSending {
    /// Another task may have them in flight until their claim ends.
    LeaseLive,
    /// A crashed process left them. The send may or may not have reached the network.
    OwnerCrashed,
    /// The answer to their claim was lost, so nothing was sent.
    ClaimLost,
}

/// A dispatcher's request for messages of a channel.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    pub channel: ChannelKey,
    /// The epoch under which the caller owns the channel.
    pub epoch: Epoch,
    /// The most messages to claim.
    pub limit: usize,
    /// Messages of this channel that the caller has in flight. Any other `SENDING` row is an orphan.
    pub held: Vec<Seq>,
    pub orphans: UnheldSending,
    pub unanswered: UnknownOutcomePolicy,
    pub now: Millis,
    pub claimed_until: Millis,
    /// The channel's send interval after this claim, in milliseconds.
    pub send_interval: Millis,
    /// The rate limit for one recipient, if each recipient has a queue.
    pub recipient_pacing: Option<RecipientPacing>,
    /// The most chats that the channel may open within 24 hours, if it opens chats.
    pub new_recipients_per_day: Option<u32>,
}

impl ClaimRequest {
    /// Whether orphans are queued again. Otherwise they become `UNKNOWN`.
    pub fn requeues_orphans(&self) -> bool {
        self.orphans == UnheldSending::ClaimLost || self.unanswered == UnknownOutcomePolicy::Resend
    }
}

/// The answer to a [`ClaimRequest`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim {
    /// The claimed messages, which are now `SENDING`, in queue order.
    pub messages: Vec<Claimed>,
    /// When to claim again, if nothing happens before; `None` if no message waits for a time.
    pub next_at: Option<Millis>,
    /// The first message waits until then and blocks all messages behind it, so messages accepted meanwhile change nothing.
    pub holds_all: bool,
}

/// A claimed message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    pub seq: Seq,
    pub id: MessageId,
    pub network_id: String,
    pub recipient: String,
    /// The kind of message, by the name that callers know.
    pub kind: String,
    pub payload: String,
    /// The rendition, which every attempt sends.
    pub rendition: Option<String>,
    pub scenario: Option<String>,
    /// The number of this attempt, from 1.
    pub attempts: u32,
    /// How many earlier attempts failed because of the message itself.
    pub failures: u32,
    /// How many attempts were refused because the recipient was throttled.
    pub recipient_holds: u32,
    /// The channel's policy sends the message again although it may have arrived.
    pub resent: bool,
    /// An earlier attempt had no answer, so the message may have arrived.
    pub unanswered: bool,
    /// The message belongs to a conversation already, because of an earlier attempt.
    pub joined: bool,
    /// When the message was accepted; if it was scheduled, when it became due.
    pub queued_at: Millis,
}

/// A message that is submitted to the network, for the conversation of its chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    pub channel: ChannelKey,
    pub seq: Seq,
    pub id: MessageId,
    /// The address of the chat.
    pub recipient: String,
    /// The kind of message, by the name that callers know.
    pub kind: String,
    /// The text that a person reads, as the list of conversations shows it.
    pub text: String,
    /// Whether the network of the channel has a service window.
    pub windowed: bool,
}

impl Submitted {
    /// A claimed message of a channel of this type.
    pub fn new((channel, of): (ChannelKey, ChannelType), message: &Claimed) -> Self {
        Self {
            channel,
            seq: message.seq,
            id: message.id,
            recipient: message.recipient.clone(),
            kind: message.kind.clone(),
            text: Self::text_of(&message.payload),
            windowed: of.descriptor().has_window,
        }
    }

    /// The text of a stored message. A payload that cannot be read has none.
    pub fn text_of(payload: &str) -> String {
        let stored: Option<Stored> = serde_json::from_str(payload).ok();
        let text = stored.as_ref().and_then(|stored| stored.content.plain_text()).unwrap_or_default();
        truncate(text, PREVIEW_LIMIT).0
    }
}
