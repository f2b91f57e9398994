//! Time and randomness for the rules: types and traits that do not use the system's clock or random source.

use std::time::Duration;

use crate::ids::{ApiKeyId, ChannelId, InstitutionId, MessageId, WebhookId, network_id};

/// Unix time in milliseconds.
pub type Millis = i64;

/// A duration in milliseconds. It is capped at a quarter of the range, so that a time plus a duration never overflows.
pub fn millis(span: Duration) -> Millis {
    Millis::try_from(span.as_millis()).unwrap_or(Millis::MAX).min(Millis::MAX / 4)
}

/// A clock.
pub trait Clock: Send + Sync {
    /// Now, in Unix milliseconds.
    fn now(&self) -> Millis;
}

/// A source of random bytes.
pub trait Entropy: Send + Sync {
    /// Fills the bytes for ids, which are frequent. Do not use it for secrets.
    fn fill(&self, bytes: &mut [u8]);
    /// Fills the bytes of a secret.
    fn fill_secret(&self, bytes: &mut [u8]);
}

/// An array of random bytes, for ids.
pub fn random<const N: usize>(entropy: &dyn Entropy) -> [u8; N] {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes);
    bytes
}

/// An array of random bytes, for a secret.
pub fn secret<const N: usize>(entropy: &dyn Entropy) -> [u8; N] {
    let mut bytes = [0; N];
    entropy.fill_secret(&mut bytes);
    bytes
}

/// Creates ids from a clock and a random source.
pub struct NewIds<'a>(
    /// The clock that dates the ids.
    pub &'a dyn Clock,
    /// The random source that makes the ids unique.
    pub &'a dyn Entropy,
);

impl NewIds<'_> {
    /// A new institution's id.
    pub fn institution(&self) -> InstitutionId {
        InstitutionId::new(self.0.now(), random(self.1))
    }

    /// A new key's public id.
    pub fn api_key(&self) -> ApiKeyId {
        ApiKeyId::new(self.0.now(), random(self.1))
    }

    /// A new channel id, for a call that names none.
    pub fn channel(&self) -> ChannelId {
        ChannelId::new(self.0.now(), random(self.1))
    }

    /// A new message's id.
    pub fn message(&self) -> MessageId {
        MessageId::new(self.0.now(), random(self.1))
    }

    /// A new webhook's id.
    pub fn webhook(&self) -> WebhookId {
        WebhookId::new(self.0.now(), random(self.1))
    }

    /// A new network id of a message.
    pub fn network(&self) -> String {
        network_id(random(self.1))
    }
}
