//! A message that is to be stored, and what becomes of the request.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use crate::api_key::Environment;
use crate::channel::ChannelKey;
use crate::clock::Millis;
use crate::ids::{InstitutionId, MessageId};

/// A message's place in the order of the queue.
pub type Seq = i64;

/// Whether a message with this number waits for its time: then the number is negative, and no claim reads it.
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
    /// The content as JSON, as [`Stored`](super::Stored) writes it.
    pub payload: String,
    /// The kind of message, by the name that callers know. The store does not interpret it.
    pub kind: &'static str,
    /// What was rendered once, and what every attempt sends. The store does not interpret it; `None` where the payload is
    /// enough.
    pub rendition: Option<String>,
    /// What the caller calls it.
    pub reference: Option<String>,
    /// When it is queued; `None`: at once.
    pub send_at: Option<Millis>,
    pub scenario: Option<String>,
    pub accepted_at: Millis,
    pub expires_at: Millis,
    /// At so many open messages on the channel it takes no more.
    pub backlog_cap: usize,
    pub idempotency: Option<Idempotency>,
}

/// What makes a repeated call recognisable.
#[derive(Debug, Clone)]
pub struct Idempotency {
    pub institution: InstitutionId,
    pub environment: Environment,
    pub route: &'static str,
    pub key: String,
    pub fingerprint: [u8; 32],
    /// The fingerprint that a version before this one stored of the same call.
    pub earlier_fingerprint: [u8; 32],
    /// Uses of the key before this time are forgotten.
    pub forget_before: Millis,
}

impl Idempotency {
    /// Whether the stored fingerprint is that of this call.
    pub fn is_of(&self, fingerprint: &[u8]) -> bool {
        fingerprint == self.fingerprint || fingerprint == self.earlier_fingerprint
    }
}

/// What became of scheduled messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promoted {
    /// So many were queued, or have ended with their channel.
    pub messages: usize,
    /// When the next one is due; it may be due already.
    pub next_at: Option<Millis>,
}

/// What became of an enqueue. Only `Accepted` stored a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    Accepted,
    /// The same call was accepted before, as this message.
    Replayed(MessageId),
    /// The idempotency key was used before, with other content.
    KeyReused,
    /// The channel's state does not accept.
    NotConnected,
    /// The channel's backlog is at its cap.
    QueueFull,
    /// The channel was deleted.
    NoChannel,
    /// A node of the previous version is there still, which could not send the message.
    OldNodes,
}
