//! Whether a message is accepted.

use crate::message::Enqueued;

use super::ChannelQueue;

/// Whether a message is to be stored, on a channel that has so many open messages; or the answer to who sends it.
///
/// An earlier use of the idempotency key comes before state and backlog: a repeated call gets its first answer whatever the
/// channel has come to.
///
/// # Errors
///
/// The answer, where the message is not stored.
pub fn admit(
    queue: Option<&ChannelQueue>,
    earlier: Option<Enqueued>,
    (open, backlog_cap): (usize, usize),
) -> Result<&ChannelQueue, Enqueued> {
    match queue.filter(|queue| !queue.deleted) {
        None => Err(Enqueued::NoChannel),
        Some(_) if let Some(earlier) = earlier => Err(earlier),
        Some(queue) if !queue.state.accepts(queue.was_connected) => Err(Enqueued::NotConnected),
        Some(_) if open >= backlog_cap => Err(Enqueued::QueueFull),
        Some(queue) => Ok(queue),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{ChannelState, ChannelType};
    use crate::ids::MessageId;

    #[test]
    fn the_order_of_the_reasons() {
        let connected = ChannelQueue::of(ChannelType::Sandbox, ChannelState::Connected);
        let deleted = ChannelQueue { deleted: true, ..connected };
        let banned = ChannelQueue { state: ChannelState::Banned, ..connected };
        let replayed = Enqueued::Replayed(MessageId::new(1, [0; 10]));
        let table = [
            // The channel, an earlier use of the key, whether the backlog is full: the answer.
            (None, Some(replayed), true, Some(Enqueued::NoChannel)),
            (Some(deleted), Some(replayed), true, Some(Enqueued::NoChannel)),
            (Some(banned), Some(replayed), true, Some(replayed)),
            (Some(connected), Some(Enqueued::KeyReused), true, Some(Enqueued::KeyReused)),
            (Some(banned), None, true, Some(Enqueued::NotConnected)),
            (Some(connected), None, true, Some(Enqueued::QueueFull)),
            (Some(connected), None, false, None),
        ];
        for (queue, earlier, full, answer) in table {
            let backlog = if full { (5, 5) } else { (4, 5) };
            assert_eq!(admit(queue.as_ref(), earlier, backlog).err(), answer, "{queue:?}, {earlier:?}, {full}");
        }
    }

    #[test]
    fn a_channel_that_connects_anew_goes_on_accepting() {
        let connecting = ChannelQueue::of(ChannelType::WhatsAppWeb, ChannelState::Connecting);
        let anew = ChannelQueue { was_connected: true, ..connecting };
        assert_eq!(admit(Some(&connecting), None, (0, 5)).err(), Some(Enqueued::NotConnected));
        assert!(admit(Some(&anew), None, (0, 5)).is_ok());
    }
}
