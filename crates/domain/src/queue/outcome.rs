//! The outcomes of claimed messages.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use crate::channel::{ChannelKey, Epoch};
use crate::clock::Millis;
use crate::ids::NetworkId;
use crate::message::Seq;

/// The outcomes of claimed messages of a channel.
#[derive(Debug, Clone)]
pub struct Outcomes {
    pub channel: ChannelKey,
    /// The epoch under which the claiming node owns the channel.
    pub epoch: Epoch,
    pub settled: Vec<(Seq, Settlement)>,
    /// The channel sends nothing before this time. A later time that is already set is kept.
    pub next_send_at: Option<Millis>,
    pub now: Millis,
}

/// What happens to a claimed message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// The network acknowledged the message. `account` is the recipient as the network knows it, and the remote id is the
    /// network's id of the message.
    Sent {
        account: Option<String>,
        remote_id: Option<NetworkId>,
        /// The rendition that was sent, if it differs from the stored one.
        rendition: Option<String>,
    },
    Failed {
        code: String,
        message: String,
    },
    /// The network refused the message for now: try it again, in the same position.
    Retry {
        run_at: Millis,
    },
    /// As `Retry`, but without an answer: the message may have arrived.
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
    /// Nothing can be sent to this recipient for now. The message is not the cause, and other recipients do not wait. If
    /// nothing seems to reach any recipient, the channel is held for a while too.
    HoldRecipient {
        until: Millis,
        hold: Option<Millis>,
    },
    /// The channel has a failure: hold its queue until this time, and then try this message again.
    HoldChannel {
        until: Millis,
    },
    /// The network accepts nothing from the channel until a person acts: pause it, for this reason. The message keeps its
    /// position.
    PauseChannel {
        reason: String,
    },
    /// The message was sent, and its outcome is unknown. At this time it is queued again. The channel may be held for a
    /// while, because the network no longer answers.
    Unknown {
        resend_at: Option<Millis>,
        hold: Option<Millis>,
    },
}

impl Settlement {
    /// The time until which the channel is held.
    pub fn holds_channel(&self) -> Option<Millis> {
        match self {
            Self::HoldChannel { until } => Some(*until),
            Self::HoldRecipient { hold, .. } | Self::Unknown { hold, .. } => *hold,
            _ => None,
        }
    }
}
