//! The order of deliveries of one webhook.
//!
//! Deliveries of one queue are sent one after another: each delivery waits until the previous delivery has been
//! accepted or is a dead letter.

use sha2::{Digest, Sha256};

use crate::event::Event;

/// What a webhook keeps in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DeliveryOrder {
    /// The events of each message.
    #[default]
    Message,
    /// The events of each conversation.
    Conversation,
}

impl DeliveryOrder {
    pub const ALL: [Self; 2] = [Self::Message, Self::Conversation];

    /// The name in the API and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Conversation => "conversation",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|order| order.name() == name)
    }
}

/// Identifies a queue of a webhook by a hash. If two queues have the same hash, their deliveries wait for one another
/// without need.
pub type QueueKey = i64;

/// The queues that an event can belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// The queue of the event's message, contact, conversation or channel.
    pub subject: Option<QueueKey>,
    pub conversation: Option<QueueKey>,
}

fn key(of: &[u8]) -> QueueKey {
    let hash = Sha256::new().chain_update(b"recado queue\0").chain_update(of).finalize();
    let mut start = [0; 8];
    start.copy_from_slice(&hash[..8]);
    QueueKey::from_be_bytes(start) & !REPLAYED
}

impl Queue {
    pub fn of(event: &Event) -> Self {
        let id = event.subject.or(event.message.as_ref().map(|message| *message.id.as_bytes()));
        let channel = || event.channel.as_ref().map(|channel| key(&channel.key.to_be_bytes()));
        let subject = id.map(|id| key(&id)).or_else(channel);
        Self { subject, conversation: event.conversation.map(|id| key(&id)) }
    }

    /// Both keys.
    pub fn keys(&self) -> impl Iterator<Item = QueueKey> {
        self.subject.into_iter().chain(self.conversation)
    }

    /// The queue that a new delivery joins. `None`: the delivery waits for no other delivery. After a change of the
    /// order, older deliveries still wait in the queues of the former order. The new delivery joins such a queue as
    /// long as that queue is not empty. So the events of a message stay in order while the setting changes.
    pub fn choose(&self, order: DeliveryOrder, is_waiting: impl Fn(QueueKey) -> bool) -> Option<QueueKey> {
        let waiting = self.keys().find(|key| is_waiting(*key));
        waiting.or(match order {
            DeliveryOrder::Message => self.subject,
            DeliveryOrder::Conversation => self.conversation.or(self.subject),
        })
    }
}

/// The bit of a key that distinguishes queues of deliveries that are sent again.
const REPLAYED: QueueKey = 1;

/// The queue of a delivery that is sent again. Such deliveries keep their order among themselves, and new events do not wait
/// for them.
pub fn replay_queue(queue: Option<QueueKey>) -> Option<QueueKey> {
    queue.map(|key| key | REPLAYED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventChannel, tests::event};

    #[test]
    fn an_event_waits_for_those_of_its_message_or_conversation() {
        let of = Queue::of(&Event { subject: Some([1; 16]), conversation: Some([2; 16]), ..event(1) });
        let (subject, conversation) = (key(&[1; 16]), key(&[2; 16]));
        let choose = |order, waiting: &[QueueKey]| of.choose(order, |key| waiting.contains(&key));
        assert_eq!(choose(DeliveryOrder::Message, &[]), Some(subject));
        assert_eq!(choose(DeliveryOrder::Conversation, &[]), Some(conversation));
        // The order has changed, and older deliveries wait.
        assert_eq!(choose(DeliveryOrder::Message, &[conversation]), Some(conversation));
        assert_eq!(choose(DeliveryOrder::Conversation, &[conversation, subject]), Some(subject));
        let channel = |key| Some(EventChannel { key, id: "vendas".to_owned(), kind: None });
        let of_channel = |key| Queue::of(&Event { channel: channel(key), ..event(1) });
        assert!(of_channel(7).subject.is_some() && of_channel(7) != of_channel(8));
        assert_eq!(Queue::of(&event(1)).choose(DeliveryOrder::Message, |_| false), None);
    }

    #[test]
    fn a_replayed_delivery_has_a_queue_of_its_own() {
        let live = Queue::of(&Event { subject: Some([1; 16]), ..event(1) }).subject;
        let own = replay_queue(live);
        assert_ne!(own, live);
        assert_eq!(replay_queue(own), own);
        assert_eq!(replay_queue(None), None);
    }
}
