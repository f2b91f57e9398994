//! What a network reported about a number.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use std::time::Duration;

use crate::clock::Millis;

/// What the network reported about a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownAccount {
    /// `None`: the number is not on WhatsApp.
    pub account: Option<String>,
    /// The account's hidden id, if the network reported it.
    pub lid: Option<String>,
    pub checked_at: Millis,
    /// When the first unconfirmed message of the latest ones was sent. A message is unconfirmed until its recipient confirms
    /// that it was delivered. Messages that were sent before the last check counts as recent enough are left out.
    pub unconfirmed_at: Option<Millis>,
}

impl KnownAccount {
    /// How long the recipient may leave a message unconfirmed before its account is doubted.
    pub const CONFIRMED_WITHIN: Duration = Duration::from_hours(24);
}
