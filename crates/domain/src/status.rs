//! The statuses of a message. The transitions between them are in `queue::transition`.

use serde::{Deserialize, Serialize};

/// The state of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MessageStatus {
    /// Stored, and waiting to be sent or for its next attempt.
    Queued,
    /// Claimed by the dispatcher and in flight; the network has not answered yet.
    Sending,
    /// The network acknowledged it.
    Sent,
    /// Delivered to the recipient's phone.
    Delivered,
    /// Sent to the network, with an unknown outcome.
    Unknown,
    /// The recipient read it.
    Read,
    /// It will not be delivered; the message has the reason.
    Failed,
    /// Its time to live ended before it was sent.
    Expired,
    /// Cancelled before it was sent.
    Cancelled,
}

use MessageStatus::{Cancelled, Delivered, Expired, Failed, Queued, Read, Sending, Sent, Unknown};

impl MessageStatus {
    /// Every state. The position in this list is the number in the store, so new states are appended. The states of
    /// [`Self::is_open`] and [`Self::awaits_receipts`] must stay adjacent, because the store's partial indexes use ranges.
    pub const ALL: [Self; 9] = [Queued, Sending, Sent, Delivered, Unknown, Read, Failed, Expired, Cancelled];

    /// The state's number in the store.
    pub fn number(self) -> u8 {
        // The order of the variants is the order of `ALL`; a test compares the two.
        self as u8
    }

    /// The state with this number in the store.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The state's name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Queued => "QUEUED",
            Sending => "SENDING",
            Sent => "SENT",
            Delivered => "DELIVERED",
            Unknown => "UNKNOWN",
            Read => "READ",
            Failed => "FAILED",
            Expired => "EXPIRED",
            Cancelled => "CANCELLED",
        }
    }

    /// The state with this name on the wire.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Whether the message is in the queue or in flight. Such messages are a channel's backlog.
    pub fn is_open(self) -> bool {
        matches!(self, Queued | Sending)
    }

    /// Whether a receipt may still move the message.
    pub fn awaits_receipts(self) -> bool {
        matches!(self, Sending | Sent | Delivered | Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_parsed_back() {
        for status in MessageStatus::ALL {
            assert_eq!(MessageStatus::from_number(status.number()), Some(status));
            assert_eq!(MessageStatus::from_name(status.name()), Some(status));
        }
        assert_eq!(MessageStatus::from_number(9), None);
        assert_eq!(MessageStatus::from_name("queued"), None);
    }

    /// The store's partial indexes use `status <= 1` and `status between 1 and 4`.
    #[test]
    fn open_and_awaiting_states_are_neighbours() {
        for status in MessageStatus::ALL {
            assert_eq!(status.is_open(), status.number() <= 1);
            assert_eq!(status.awaits_receipts(), (1..=4).contains(&status.number()));
        }
    }
}
