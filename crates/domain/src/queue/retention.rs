//! Which old rows are deleted.

use crate::clock::Millis;
use crate::message::Seq;

/// Which old rows go.
#[derive(Debug, Clone, Copy)]
pub struct PurgeRequest {
    /// The time of the purge.
    pub now: Millis,
    /// Messages that reached their last state before this time.
    pub finished_before: Millis,
    /// Idempotency keys used before this time.
    pub used_before: Millis,
    /// Only messages behind this one; 0 at first.
    pub after: Seq,
}
