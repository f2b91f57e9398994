//! The data of a channel that its queue needs.

use crate::channel::{ChannelState, ChannelType, Ordering, SessionNumber};
use crate::clock::Millis;
use crate::message::Seq;

use super::ScanCursor;

/// The data of a channel that are needed to accept and to claim messages.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a column of its own, or follows from one")]
pub struct ChannelQueue {
    /// Which messages are sent in order.
    pub ordering: Ordering,
    /// The channel's state.
    pub state: ChannelState,
    /// Whether the channel was connected before.
    pub was_connected: bool,
    /// Whether the channel is deleted.
    pub deleted: bool,
    /// Nothing is sent before this time.
    pub next_send_at: Millis,
    /// Whether a message to a new recipient opens a chat.
    pub opens_chats: bool,
    /// Until this time the network lets the channel open no chats.
    pub restricted_until: Option<Millis>,
    /// Messages up to this number were queued before the channel was deleted. They are not sent, even after the channel
    /// was created again.
    pub cancel_before: Seq,
    /// How often the channel was connected.
    pub connections: i64,
    /// The channel's current session.
    pub session: SessionNumber,
    /// Whether events of the channel's messages are recorded.
    pub records_messages: bool,
    /// The acceptance of a message as well.
    pub records_queued: bool,
    /// Where a scan begins.
    pub cursor: ScanCursor,
}

impl ChannelQueue {
    /// The queue of a channel of this type, with default values for the other fields.
    pub fn of(kind: ChannelType, state: ChannelState) -> Self {
        Self {
            ordering: kind.descriptor().ordering,
            state,
            was_connected: false,
            deleted: false,
            next_send_at: 0,
            opens_chats: kind.descriptor().opens_chats,
            restricted_until: None,
            cancel_before: 0,
            connections: 0,
            session: 0,
            records_messages: false,
            records_queued: false,
            cursor: ScanCursor::default(),
        }
    }

    /// Whether the channel's state permits sends.
    pub fn dispatches(&self) -> bool {
        self.state.dispatches() && !self.deleted
    }

    /// Whether this message was queued before the channel was deleted.
    pub fn is_former(&self, seq: Seq) -> bool {
        // The number of a scheduled message is negative. Without the sign, it is the message's position in the order of
        // acceptance.
        seq.abs() <= self.cancel_before
    }

    /// Whether a queued message is no longer sent, because its channel was deleted.
    pub fn cancels(&self, seq: Seq) -> bool {
        self.deleted || self.is_former(seq)
    }

    /// Whether the network can restrict the channel. In any other state the channel has no session that could be
    /// restricted.
    pub fn can_be_restricted(&self) -> bool {
        !self.deleted && (self.state == ChannelState::Connected || self.state.keeps_restriction())
    }

    /// Whether a report of the network about a message pauses the channel. The report does not if the message was
    /// queued before the channel was deleted, or if a person has connected the channel since the message was sent.
    /// `sent_under` is the number of connections when the message was sent. It is `None` if a version sent the message
    /// that did not count connections.
    pub fn is_paused_by(&self, seq: Seq, sent_under: Option<i64>) -> bool {
        self.dispatches() && !self.is_former(seq) && sent_under.is_none_or(|connection| connection == self.connections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> ChannelQueue {
        ChannelQueue::of(ChannelType::Sandbox, ChannelState::Connected)
    }

    #[test]
    fn only_connected_channels_can_be_restricted() {
        use ChannelState::{Connected, Connecting, Disconnected, Paused, Restricted};
        let restrictable = [Connected, Connecting, Disconnected, Paused, Restricted];
        for state in ChannelState::ALL {
            let up = ChannelQueue { state, ..queue() };
            assert_eq!(up.can_be_restricted(), restrictable.contains(&state), "{state:?}");
            assert!(!ChannelQueue { deleted: true, ..up }.can_be_restricted(), "{state:?}");
        }
    }

    #[test]
    fn a_report_of_the_network_pauses_the_channel_it_concerns() {
        let up = ChannelQueue { connections: 2, cancel_before: 3, ..queue() };
        let down = ChannelQueue { state: ChannelState::Disconnected, ..up };
        let table = [
            (up, 4, Some(2), true),
            (up, 4, None, true),
            (up, 4, Some(1), false),
            (up, 3, Some(2), false),
            (down, 4, Some(2), false),
            (ChannelQueue { deleted: true, ..up }, 4, Some(2), false),
            (ChannelQueue { state: ChannelState::Restricted, ..up }, 4, Some(2), true),
        ];
        for (queue, seq, sent_under, pauses) in table {
            assert_eq!(queue.is_paused_by(seq, sent_under), pauses, "{queue:?}, {seq}, {sent_under:?}");
        }
    }
}
