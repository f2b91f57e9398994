//! How a channel is linked to its network.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use std::fmt;

use crate::channel::ChannelKey;
use crate::clock::Millis;

/// When the session of a linked phone may log in again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoginLimits {
    /// Not before the end of a ban.
    pub banned_until: Option<Millis>,
    pub logged_in_at: Option<Millis>,
}

/// How a channel is linked to its network.
#[derive(Clone, PartialEq, Eq)]
pub struct Link {
    pub channel: ChannelKey,
    /// What may be shown, as JSON.
    pub details: String,
    /// The secrets, as the key ring gives them.
    pub sealed: Vec<u8>,
}

impl Link {
    /// Whether it leads to another number than a former link with these details. What else they say may change: Meta
    /// names a number's quality anew each time.
    pub fn is_of_another_number(&self, former: &str) -> bool {
        let number = |details: &str| {
            let details: serde_json::Value = serde_json::from_str(details).unwrap_or_default();
            NUMBERS.map(|name| details[name].clone())
        };
        number(&self.details) != number(former)
    }
}

/// What a link's details call the number, of a phone and at Meta.
const NUMBERS: [&str; 2] = ["phone", "phoneNumberId"];

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("channel", &self.channel).field("details", &self.details).finish_non_exhaustive()
    }
}
