//! Limits the chats that a channel opens, because its network watches them. `docs/adr/0009-new-recipients.md` has the
//! reason.

use std::time::Duration;

use crate::channel::ChannelState;
use crate::clock::{Millis, millis};

use super::{ChannelQueue, ClaimRequest};

/// The period over which opened chats are counted.
const NEW_CHAT_WINDOW: Duration = Duration::from_hours(24);

/// The opened chat that an engine must look up: the channel may open no other chat until this one has left the period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountedChat {
    /// It was opened after this time.
    pub after: Millis,
    /// This many chats were opened after it.
    pub later: i64,
}

impl ClaimRequest {
    /// The chat that uses up the limit of a day, if there is a limit.
    pub fn counted_chat(&self) -> Option<CountedChat> {
        let per_day = self.new_recipients_per_day?;
        Some(CountedChat { after: self.now - millis(NEW_CHAT_WINDOW), later: i64::from(per_day.saturating_sub(1)) })
    }
}

impl ChannelQueue {
    /// The time until which the channel may open no chat, because of its network or of the counted chat. `None`: it may open
    /// one.
    pub fn new_chats_blocked_until(&self, now: Millis, counted: Option<Millis>) -> Option<Millis> {
        let by_network = self.restricted_until.filter(|until| self.state == ChannelState::Restricted && *until > now);
        by_network.max(counted.map(|opened_at| opened_at + millis(NEW_CHAT_WINDOW)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::ChannelType;
    use crate::queue::fixtures::request;

    const NOW: Millis = 100_000_000;
    const DAY: Millis = 86_400_000;

    #[test]
    fn the_last_chat_of_the_limit_is_counted_for_a_day() {
        let limited = |per_day| ClaimRequest { new_recipients_per_day: per_day, ..request(NOW) };
        assert_eq!(limited(None).counted_chat(), None);
        assert_eq!(limited(Some(3)).counted_chat(), Some(CountedChat { after: NOW - DAY, later: 2 }));
        assert_eq!(limited(Some(1)).counted_chat().map(|chat| chat.later), Some(0));
    }

    #[test]
    fn new_chats_wait_for_the_later_of_both_limits() {
        let queue = |state, restricted_until| ChannelQueue {
            restricted_until,
            ..ChannelQueue::of(ChannelType::WhatsAppWeb, state)
        };
        let (restricted, connected) = (ChannelState::Restricted, ChannelState::Connected);
        let table = [
            (queue(connected, None), None, None),
            (queue(connected, Some(NOW + 5)), None, None),
            (queue(restricted, Some(NOW)), None, None),
            (queue(restricted, Some(NOW + 5)), None, Some(NOW + 5)),
            (queue(connected, None), Some(NOW - 1), Some(NOW - 1 + DAY)),
            (queue(restricted, Some(NOW + 5)), Some(NOW - 1), Some(NOW - 1 + DAY)),
            (queue(restricted, Some(NOW + 2 * DAY)), Some(NOW - 1), Some(NOW + 2 * DAY)),
        ];
        for (queue, counted, until) in table {
            assert_eq!(queue.new_chats_blocked_until(NOW, counted), until, "{queue:?}, {counted:?}");
        }
    }
}
