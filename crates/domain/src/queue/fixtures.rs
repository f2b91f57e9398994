//! Fixtures for the tests of several rules.

use super::{ClaimRequest, UnheldSending, UnknownOutcomePolicy};
use crate::clock::Millis;

/// A claim of one message at this time, by a caller with nothing in flight.
pub(super) fn request(now: Millis) -> ClaimRequest {
    ClaimRequest {
        channel: 1,
        epoch: 0,
        limit: 1,
        held: Vec::new(),
        orphans: UnheldSending::LeaseLive,
        unanswered: UnknownOutcomePolicy::Resend,
        now,
        claimed_until: now + 60_000,
        send_interval: 0,
        recipient_pacing: None,
        new_recipients_per_day: None,
    }
}
