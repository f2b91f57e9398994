//! What a claimed message becomes.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use crate::channel::{ChannelKey, Epoch};
use crate::clock::Millis;
use crate::ids::NetworkId;
use crate::message::Seq;

/// What became of claimed messages of a channel.
#[derive(Debug, Clone)]
pub struct Outcomes {
    pub channel: ChannelKey,
    /// Under which whoever claimed them holds the channel.
    pub epoch: Epoch,
    pub settled: Vec<(Seq, Settlement)>,
    /// The channel sends nothing before this time; a later one that was set before stands.
    pub rest_until: Option<Millis>,
    pub now: Millis,
}

/// What a claimed message becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// The network acknowledged it; the account is the recipient as the network knows it, and the remote id the
    /// message as the network calls it.
    Sent {
        account: Option<String>,
        remote_id: Option<NetworkId>,
        /// What was sent, where it is not what the message has as its rendition.
        rendition: Option<String>,
    },
    Failed {
        code: String,
        message: String,
    },
    /// The network refused it for now: try this message again, in its place.
    Retry {
        run_at: Millis,
    },
    /// The same, but no answer came: its card may have arrived.
    RetryUnanswered {
        run_at: Millis,
    },
    /// The connection broke before the answer. The message is tried again in its place, and may already have arrived.
    ConnectionLost {
        run_at: Millis,
    },
    /// The network lets the channel open no chat until this time. New recipients wait until then, and this recipient counts
    /// as new from now on.
    NewChatBlocked {
        until: Millis,
        reason: String,
    },
    /// Nothing can be sent to this recipient for now; that is no fault of the message, and holds no other recipient. Where
    /// it looks as if nothing could be sent to anybody, the channel is held for a while, too.
    HoldRecipient {
        until: Millis,
        hold: Option<Millis>,
    },
    /// The channel is in trouble: hold its line, and try this message again then.
    HoldChannel {
        until: Millis,
    },
    /// The network takes nothing from the channel until a person has done something: pause it, for this reason. The
    /// message keeps its place.
    PauseChannel {
        reason: String,
    },
    /// Handed over, and nobody can tell; at that time it is queued again. The channel may be held for a while, because
    /// nothing is answered any more.
    Unknown {
        resend_at: Option<Millis>,
        hold: Option<Millis>,
    },
}

impl Settlement {
    /// Until when the channel is held.
    pub fn holds_channel(&self) -> Option<Millis> {
        match self {
            Self::HoldChannel { until } => Some(*until),
            Self::HoldRecipient { hold, .. } | Self::Unknown { hold, .. } => *hold,
            _ => None,
        }
    }
}
