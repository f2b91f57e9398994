//! A message to store, and the result of storing it.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use crate::api_key::Environment;
use crate::channel::ChannelKey;
use crate::clock::Millis;
use crate::ids::{InstitutionId, MessageId};

/// A message's number in the order of the queue.
pub type Seq = i64;

/// Whether the message with this number is scheduled: then the number is negative, and no claim reads it.
pub fn is_scheduled(seq: Seq) -> bool {
    seq < 0
}

/// A message to be stored and queued.
#[derive(Debug, Clone)]
pub struct NewMessage {
    pub id: MessageId,
    pub channel: ChannelKey,
    pub network_id: String,
    /// Digits of the recipient's number.
    pub recipient: String,
    /// The content as JSON, in the form of [`Stored`](super::Stored).
    pub payload: String,
    /// The kind of message, by the name that callers know. The store does not interpret it.
    pub kind: &'static str,
    /// The rendition, which every attempt sends. The store does not interpret it. `None` if the payload is enough.
    pub rendition: Option<String>,
    /// The caller's own reference.
    pub reference: Option<String>,
    /// When the message is queued; `None` for at once.
    pub send_at: Option<Millis>,
    pub scenario: Option<String>,
    pub accepted_at: Millis,
    pub expires_at: Millis,
    /// With this many open messages the channel accepts no more.
    pub backlog_cap: usize,
    pub idempotency: Option<Idempotency>,
}

/// The data that identifies a repeated call.
#[derive(Debug, Clone)]
pub struct Idempotency {
    pub institution: InstitutionId,
    pub environment: Environment,
    pub route: &'static str,
    pub key: String,
    pub fingerprint: [u8; 32],
    /// The fingerprint that an earlier version stored for the same call.
    pub earlier_fingerprint: [u8; 32],
    /// Uses of the key before this time do not count.
    pub forget_before: Millis,
}

impl Idempotency {
    /// Whether the stored fingerprint is of this call.
    pub fn is_of(&self, fingerprint: &[u8]) -> bool {
        fingerprint == self.fingerprint || fingerprint == self.earlier_fingerprint
    }
}

/// The result of a promotion of scheduled messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promoted {
    /// The number of messages that were queued, or ended with their channel.
    pub messages: usize,
    /// When the next message is due; it may be due already.
    pub next_at: Option<Millis>,
}

/// The result of an enqueue. Only `Accepted` stored a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    Accepted,
    /// The same call was accepted before as this message.
    Replayed(MessageId),
    /// The idempotency key was used before with other content.
    KeyReused,
    /// The channel's state accepts no messages.
    NotConnected,
    /// The channel's backlog is at its cap.
    QueueFull,
    /// The channel was deleted.
    NoChannel,
    /// A node of the previous version is still running, and could not send the message.
    OldNodes,
}
