//! The link between a channel and its network.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use std::fmt;

use crate::channel::ChannelKey;
use crate::clock::Millis;

/// When the session of a linked phone may log in again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoginLimits {
    /// The end of a ban, before which no login is tried.
    pub banned_until: Option<Millis>,
    pub logged_in_at: Option<Millis>,
}

/// The link between a channel and its network.
#[derive(Clone, PartialEq, Eq)]
pub struct Link {
    pub channel: ChannelKey,
    /// The part that may be shown, as JSON.
    pub details: String,
    /// The encrypted secrets.
    pub sealed: Vec<u8>,
}

impl Link {
    /// Whether the link leads to another number than a former link with these details. Other details may differ for the same
    /// number: Meta reports a number's quality each time.
    pub fn is_of_another_number(&self, former: &str) -> bool {
        let number = |details: &str| {
            let details: serde_json::Value = serde_json::from_str(details).unwrap_or_default();
            NUMBERS.map(|name| details[name].clone())
        };
        number(&self.details) != number(former)
    }
}

/// The names of the number in a link's details: of a phone, and at Meta.
const NUMBERS: [&str; 2] = ["phone", "phoneNumberId"];

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("channel", &self.channel).field("details", &self.details).finish_non_exhaustive()
    }
}
