//! What the tests of several rules need.

use super::{ClaimRequest, UnheldSending, UnknownOutcomePolicy};
use crate::clock::Millis;

/// A claim of one message at this time by somebody who holds none.
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
        rest: 0,
        recipient_pacing: None,
        new_recipients_per_day: None,
    }
}
