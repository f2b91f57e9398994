//! Time and randomness as the rules see them: values and traits. Nothing here asks the system for either.

use std::time::Duration;

use crate::ids::{ApiKeyId, ChannelId, InstitutionId, MessageId, network_id};

/// Unix time in milliseconds.
pub type Millis = i64;

/// A span in milliseconds. The longest is cut to a quarter of what fits, so that a time plus a span still is a time.
pub fn millis(span: Duration) -> Millis {
    Millis::try_from(span.as_millis()).unwrap_or(Millis::MAX).min(Millis::MAX / 4)
}

/// Tells the time of day.
pub trait Clock: Send + Sync {
    /// Now, in Unix milliseconds.
    fn now(&self) -> Millis;
}

/// Gives random bytes.
pub trait Entropy: Send + Sync {
    /// Fills the bytes: for ids, of which many are made. Not for secrets.
    fn fill(&self, bytes: &mut [u8]);
    /// Fills the bytes of a secret, which nobody else may ever be given.
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

/// Makes new ids from a clock and a random source.
pub struct NewIds<'a>(
    /// Dates the ids.
    pub &'a dyn Clock,
    /// Makes the ids unique.
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

    /// A new channel's id, where its maker named none.
    pub fn channel(&self) -> ChannelId {
        ChannelId::new(self.0.now(), random(self.1))
    }

    /// A new message's id.
    pub fn message(&self) -> MessageId {
        MessageId::new(self.0.now(), random(self.1))
    }

    /// A new message's name on the network.
    pub fn network(&self) -> String {
        network_id(random(self.1))
    }
}
