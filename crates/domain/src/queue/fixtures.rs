//! Fixtures for the tests of several rules.

use super::{ClaimRequest, OpenRow, UnheldSending, UnknownOutcomePolicy};
use crate::clock::Millis;
use crate::message::Seq;
use crate::status::MessageStatus;

/// The time of the tests.
pub(super) const NOW: Millis = 1_000;

/// A queued message that expires later.
pub(super) fn waiting(seq: Seq) -> OpenRow {
    let (status, expires_at) = (MessageStatus::Queued, NOW + 500);
    OpenRow { seq, status, run_at: 0, expires_at, claimed_until: None, unanswered: false }
}

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
