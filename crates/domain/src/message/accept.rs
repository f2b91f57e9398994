//! A message that is to be stored, and what becomes of the request.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use crate::api_key::Environment;
use crate::channel::ChannelKey;
use crate::clock::Millis;
use crate::ids::{InstitutionId, MessageId};

/// A message's place in the order of the queue.
pub type Seq = i64;

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
    pub card: String,
    pub card_account: CardAccount,
    pub scenario: Option<String>,
    pub accepted_at: Millis,
    pub expires_at: Millis,
    /// At so many open messages on the channel it takes no more.
    pub backlog_cap: usize,
    pub idempotency: Option<Idempotency>,
}

/// The account that stands in a card's `waid`, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardAccount {
    pub digits: String,
    /// The network named it; else the typed digits stand in.
    pub known: bool,
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
}
