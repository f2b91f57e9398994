//! A claim: which messages of a channel are to be sent next.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use crate::channel::{ChannelKey, Epoch};
use crate::clock::Millis;
use crate::ids::MessageId;
use crate::message::Seq;
use crate::pacing::RecipientPacing;

/// What becomes of a message whose answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// It is sent again: the network recognises a re-send, so that what became of the lost one does not matter.
    SendAgain,
    /// It is `UNKNOWN`; after that many milliseconds without word of the network it is queued again, though it may
    /// double. `None`: never.
    Unknown(Option<Millis>),
}

impl Unanswered {
    /// When a message that becomes `UNKNOWN` now is queued again.
    pub fn resend_at(self, now: Millis) -> Option<Millis> {
        match self {
            Self::SendAgain => None,
            Self::Unknown(wait) => wait.map(|wait| now + wait),
        }
    }
}

/// What a claim knows of `SENDING` rows that its asker does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphans {
    /// Somebody may have them in hand until their claim runs out.
    Claimed,
    /// They are of a process that ended: nobody has them, and nobody knows how far they came.
    OfTheDead,
    /// They are of a claim whose answer was lost: they were never sent.
    NeverSent,
}

/// A dispatcher's question for work on a channel.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    pub channel: ChannelKey,
    /// Under which the asker holds the channel.
    pub epoch: Epoch,
    /// At most so many messages.
    pub limit: usize,
    /// Messages of this channel that the asker has in hand; any other `SENDING` row is an orphan.
    pub held: Vec<Seq>,
    pub orphans: Orphans,
    pub unanswered: Unanswered,
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
        self.orphans == Orphans::NeverSent || self.unanswered == Unanswered::SendAgain
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
