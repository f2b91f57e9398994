//! What a network said of a number.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use std::time::Duration;

use crate::clock::Millis;

/// What the network said of a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownAccount {
    /// `None`: it is not on WhatsApp.
    pub account: Option<String>,
    /// The account's hidden id, where the network told it.
    pub lid: Option<String>,
    pub checked_at: Millis,
    /// When the first of the last messages to the number was sent that nobody said to have, of those that the last check
    /// was too early to doubt.
    pub unconfirmed_at: Option<Millis>,
}

impl KnownAccount {
    /// How long nobody has to say that they have a message until the account that it went to is doubted.
    pub const CONFIRMED_WITHIN: Duration = Duration::from_hours(24);
}
