//! A claim: which messages of a channel are to be sent next.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use crate::channel::{ChannelKey, Epoch};
use crate::clock::Millis;
use crate::ids::MessageId;
use crate::message::Seq;
use crate::pacing::RecipientPacing;

/// What happens to a message when nobody knows whether the network received it.
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

/// A dispatcher's question for work on a channel.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    pub channel: ChannelKey,
    /// Under which the asker holds the channel.
    pub epoch: Epoch,
    /// At most so many messages.
    pub limit: usize,
    /// Messages of this channel that the caller has in flight. Any other `SENDING` row is an orphan.
    pub held: Vec<Seq>,
    pub orphans: UnheldSending,
    pub unanswered: UnknownOutcomePolicy,
    pub now: Millis,
    pub claimed_until: Millis,
    /// The channel's rest after this claim, in milliseconds.
    pub rest: Millis,
    /// How often one recipient is written to, where each is a line of its own.
    pub recipient_pacing: Option<RecipientPacing>,
    /// Chats that the channel may open within 24 hours, where it opens chats.
    pub new_recipients_per_day: Option<u32>,
}

impl ClaimRequest {
    /// Whether orphans are queued again; else their fate is `UNKNOWN`.
    pub fn gives_back_orphans(&self) -> bool {
        self.orphans == UnheldSending::ClaimLost || self.unanswered == UnknownOutcomePolicy::Resend
    }
}

/// The answer to a [`ClaimRequest`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim {
    /// Now `SENDING`, in the order of the queue.
    pub messages: Vec<Claimed>,
    /// Ask again at this time, if nothing else happens before; `None` when nothing waits for a time.
    pub next_at: Option<Millis>,
    /// The first message waits until then, and holds all that stand behind it: what is accepted meanwhile changes nothing.
    pub holds_all: bool,
}

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    pub seq: Seq,
    pub id: MessageId,
    pub network_id: String,
    pub recipient: String,
    /// The kind of message, by the name that callers know.
    pub kind: String,
    pub payload: String,
    /// What was rendered once, and what every attempt sends.
    pub rendition: Option<String>,
    pub scenario: Option<String>,
    /// This attempt's number, from 1.
    pub attempts: u32,
    /// How many earlier attempts failed by the message's own trouble.
    pub failures: u32,
    /// How many met a recipient for whom the network took nothing more.
    pub recipient_holds: u32,
    /// It is sent again though the network may have it, by the channel's policy.
    pub resent: bool,
    /// An earlier attempt had no answer: its card may have arrived.
    pub unanswered: bool,
}
