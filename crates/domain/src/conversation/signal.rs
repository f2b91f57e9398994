//! Read signals: reports to a network that messages were read here.

use std::fmt;

use super::ReadMark;
use crate::channel::ChannelKey;
use crate::clock::Millis;
use crate::event::ChatKind;
use crate::ids::ConversationId;
use crate::message::Seq;

/// The most attempts to send a read signal.
pub const READ_ATTEMPTS: u32 = 5;
/// A signal that could not be sent for so long is dropped: it says nothing of today.
pub const READ_KEPT: Millis = 60 * 60 * 1_000;

/// The wait before another attempt, after so many: 5 s, 30 s, 3 min, 18 min. `None`: the signal is dropped.
pub fn read_retry(attempts: u32) -> Option<Millis> {
    (attempts < READ_ATTEMPTS).then(|| 5_000 * Millis::from(6_u32.pow(attempts.saturating_sub(1))))
}

/// Messages of one chat that were read, and whose read signal has to be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct ReadSignal {
    pub conversation: ConversationId,
    pub channel: ChannelKey,
    pub chat: ChatKind,
    /// The address of the chat.
    pub address: String,
    /// The messages, newest first, at most [`MARKED_AT_ONCE`](super::MARKED_AT_ONCE). A network that marks all earlier
    /// messages needs only the first.
    pub messages: Vec<ReadMark>,
    /// The number of the newest message that was read.
    pub until: Seq,
    /// The number of attempts, with this one.
    pub attempts: u32,
}

/// The log must not name a person.
impl fmt::Debug for ReadSignal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ReadSignal({}, {} messages)", self.conversation, self.messages.len())
    }
}

/// A request for due signals.
#[derive(Debug, Clone)]
pub struct ReadClaim {
    /// The channels that this process owns; `None`: all.
    pub owned: Option<Vec<ChannelKey>>,
    /// Channels that send a read signal now.
    pub busy: Vec<ChannelKey>,
    pub limit: usize,
    pub now: Millis,
    /// When an attempt counts as lost.
    pub lost_at: Millis,
}

/// Due signals, at most one of each channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadClaims {
    pub signals: Vec<ReadSignal>,
    /// When the next one is due, on a channel that is not busy.
    pub next_at: Option<Millis>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_tried_for_about_twenty_minutes() {
        let waits: Vec<_> = (1..=READ_ATTEMPTS).map(read_retry).collect();
        assert_eq!(waits, [Some(5_000), Some(30_000), Some(180_000), Some(1_080_000), None]);
        assert!(waits.into_iter().flatten().sum::<Millis>() < READ_KEPT);
    }
}
