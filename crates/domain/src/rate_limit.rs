//! A token bucket: limits the number of calls within a minute.
//!
//! It is written here instead of using a crate, because the headers of an answer need its state, and several nodes draw from
//! one bucket in batches.

use std::sync::{Mutex, PoisonError};

use crate::api_key::RateLimit;
use crate::clock::Millis;

/// The milliseconds in which a bucket is refilled.
pub const MINUTE: f64 = 60_000.0;

/// A token bucket with capacity N, refilled with N tokens a minute.
pub struct Bucket {
    capacity: RateLimit,
    state: Mutex<Level>,
}

/// The state of a bucket.
#[derive(Clone, Copy)]
pub struct Level {
    /// The number of calls that may be made now.
    pub tokens: f64,
    /// The time of this state.
    pub at: Millis,
}

/// The bucket's answer to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Whether the call may be made.
    pub allowed: bool,
    /// The capacity.
    pub limit: u32,
    /// The number of calls that may follow at once.
    pub remaining: u32,
    /// Seconds until the bucket is full again.
    pub reset: u64,
    /// Seconds until the next call may be made.
    pub retry_after: u64,
}

impl Bucket {
    /// The calls a minute.
    pub fn capacity(&self) -> RateLimit {
        self.capacity
    }

    /// A full bucket.
    pub fn new(capacity: RateLimit) -> Self {
        Self { capacity, state: Mutex::new(Level { tokens: f64::from(capacity.unwrap_or(0)), at: 0 }) }
    }

    /// Acquires a token; `None` if there is no limit.
    pub fn acquire(&self, now: Millis) -> Option<Quota> {
        self.acquire_leaving(0, now)
    }

    /// The same, but leaves this many tokens for other callers, and does not report them as remaining.
    pub fn acquire_leaving(&self, left: u32, now: Millis) -> Option<Quota> {
        let limit = self.capacity?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.refilled(limit, now);
        let allowed = state.tokens >= 1.0 + f64::from(left);
        if allowed {
            state.tokens -= 1.0;
        }
        Some(Level { tokens: state.tokens - f64::from(left), ..*state }.quota(limit, allowed))
    }

    /// The seconds until there is a token; `None` if there is one.
    pub fn empty_for(&self, now: Millis) -> Option<u64> {
        let limit = self.capacity?;
        let quota = self.state.lock().unwrap_or_else(PoisonError::into_inner).refilled(limit, now).quota(limit, false);
        (quota.remaining == 0).then_some(quota.retry_after)
    }

    /// Whether no token was acquired recently.
    pub fn is_full(&self, now: Millis) -> bool {
        let state = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.capacity.is_none_or(|limit| state.refilled(limit, now).tokens >= f64::from(limit))
    }
}

impl Level {
    fn refilled(self, limit: u32, now: Millis) -> Self {
        // A clock that was set back must not remove tokens.
        let passed = now.saturating_sub(self.at).max(0);
        #[expect(clippy::cast_precision_loss, reason = "the time between two calls, capped by the bucket's capacity")]
        let gained = passed as f64 * f64::from(limit) / MINUTE;
        Self { tokens: (self.tokens + gained).min(f64::from(limit)), at: now }
    }

    /// The bucket's answer to a call.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small, rounded and never negative")]
    pub fn quota(self, limit: u32, allowed: bool) -> Quota {
        let seconds_for = |tokens: f64| (tokens.max(0.0) * MINUTE / f64::from(limit) / 1_000.0).ceil() as u64;
        Quota {
            allowed,
            limit,
            remaining: self.tokens as u32,
            reset: seconds_for(f64::from(limit) - self.tokens),
            retry_after: seconds_for(1.0 - self.tokens).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_reserved_for_others_are_not_acquired() {
        let bucket = Bucket::new(Some(60));
        let start = 1_000_000;
        assert!((0..30).all(|_| bucket.acquire_leaving(30, start).unwrap().allowed));
        let refused = bucket.acquire_leaving(30, start).unwrap();
        assert_eq!((refused.allowed, refused.remaining, refused.retry_after), (false, 0, 1));
        assert_eq!(bucket.acquire(start).unwrap().remaining, 29);
        assert_eq!(bucket.acquire_leaving(30, start).unwrap().retry_after, 2);
        assert!(bucket.acquire_leaving(30, start + 2_000).unwrap().allowed);
    }

    #[test]
    fn a_bucket_empties_and_refills_evenly() {
        let bucket = Bucket::new(Some(60));
        let start = 1_000_000;
        for left in (0..60).rev() {
            let quota = bucket.acquire(start).unwrap();
            assert!(quota.allowed);
            assert_eq!((quota.limit, quota.remaining), (60, left));
        }
        let refused = bucket.acquire(start).unwrap();
        assert_eq!((refused.allowed, refused.remaining, refused.reset, refused.retry_after), (false, 0, 60, 1));
        assert!(!bucket.acquire(start + 999).unwrap().allowed);
        assert!(bucket.acquire(start + 1_000).unwrap().allowed);
        assert!(!bucket.acquire(start + 1_000).unwrap().allowed);
        assert!(!bucket.acquire(start - 5_000_000).unwrap().allowed, "a clock set back gives nothing");
    }

    #[test]
    fn no_limit_is_no_quota() {
        assert_eq!(Bucket::new(None).acquire(0), None);
    }
}
