//! Rate limits: what protects the API. (What protects a WhatsApp number is pacing, and lives with the dispatcher.)
//!
//! A token bucket in a few lines of our own rather than a crate: the answer's headers need its inside, and several nodes
//! draw from one bucket in batches.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use recado_domain::api_key::RateLimit;
use recado_domain::clock::{Millis, millis};
use recado_domain::ids::ApiKeyId;
use recado_store::StoreError;
use recado_store::postgres::PgStore;

const MINUTE: f64 = 60_000.0;

/// A token bucket: capacity N, refilled with N a minute.
pub struct Bucket {
    capacity: RateLimit,
    state: Mutex<State>,
}

#[derive(Clone, Copy)]
struct State {
    tokens: f64,
    at: Millis,
}

/// What a bucket says to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Whether the call may go on.
    pub allowed: bool,
    /// The capacity.
    pub limit: u32,
    /// Calls that may follow at once.
    pub remaining: u32,
    /// Seconds until the bucket is full again.
    pub reset: u64,
    /// Seconds until the next call may go on.
    pub retry_after: u64,
}

impl Bucket {
    /// A full bucket.
    pub fn new(capacity: RateLimit) -> Self {
        Self { capacity, state: Mutex::new(State { tokens: f64::from(capacity.unwrap_or(0)), at: 0 }) }
    }

    /// Takes a token; `None` when there is no limit.
    pub fn take(&self, now: Millis) -> Option<Quota> {
        let limit = self.capacity?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.refilled(limit, now);
        let allowed = state.tokens >= 1.0;
        if allowed {
            state.tokens -= 1.0;
        }
        Some(state.quota(limit, allowed))
    }

    /// The seconds until there is a token; `None` where there is one.
    fn empty_for(&self, now: Millis) -> Option<u64> {
        let limit = self.capacity?;
        let quota = self.state.lock().unwrap_or_else(PoisonError::into_inner).refilled(limit, now).quota(limit, false);
        (quota.remaining == 0).then_some(quota.retry_after)
    }

    fn is_full(&self, now: Millis) -> bool {
        let state = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.capacity.is_none_or(|limit| state.refilled(limit, now).tokens >= f64::from(limit))
    }
}

impl State {
    fn refilled(self, limit: u32, now: Millis) -> Self {
        // A clock that was set back must not take tokens away.
        let passed = now.saturating_sub(self.at).max(0);
        #[expect(clippy::cast_precision_loss, reason = "the time between two calls, capped by the bucket's capacity")]
        let gained = passed as f64 * f64::from(limit) / MINUTE;
        Self { tokens: (self.tokens + gained).min(f64::from(limit)), at: now }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small, rounded and never negative")]
    fn quota(self, limit: u32, allowed: bool) -> Quota {
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

/// What a key may call: a bucket of its own, or its share of the one that all nodes draw from.
pub struct KeyLimit {
    key: ApiKeyId,
    /// Calls of which kind; a key has a bucket for each.
    kind: Calls,
    own: Bucket,
    stock: Mutex<Stock>,
    /// Held by who draws: the others wait for what comes of it.
    drawing: tokio::sync::Mutex<()>,
}

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// It changes something.
    Sends,
    /// It only looks.
    Reads,
}

/// What this node has drawn from the shared bucket and not used.
#[derive(Default)]
struct Stock {
    tokens: f64,
    /// What was left in the shared bucket when this node last drew.
    left: f64,
    /// The bucket is empty until then, and not asked.
    dry_until: Millis,
}

/// The least time for which an empty bucket is not asked again: refused calls cost nothing.
const DRY: Millis = 20;

impl KeyLimit {
    /// Full.
    pub fn new(key: ApiKeyId, kind: Calls, limit: RateLimit) -> Self {
        let (own, stock, drawing) = (Bucket::new(limit), Mutex::default(), tokio::sync::Mutex::default());
        Self { key, kind, own, stock, drawing }
    }

    /// Takes a call; `None` when there is no limit. Where nodes share it, an error says that the shared bucket cannot be
    /// asked.
    pub async fn take(&self, now: Millis, nodes: Option<&PgStore>) -> Result<Option<Quota>, StoreError> {
        let (Some(store), Some(limit)) = (nodes, self.own.capacity) else { return Ok(self.own.take(now)) };
        if let Some(quota) = self.of_stock(limit, now) {
            return Ok(Some(quota));
        }
        let _one_at_a_time = self.drawing.lock().await;
        if let Some(quota) = self.of_stock(limit, now) {
            return Ok(Some(quota));
        }
        let kind = i16::from(self.kind == Calls::Reads);
        // What flows in within a second: a key that calls evenly waits for the bucket once a second. So many more than its
        // limit may a key get for each node, at worst.
        let want = (limit / 60).max(1);
        let (drawn, left) = store.draw(self.key.as_bytes(), kind, limit, want).await?;
        let mut stock = self.stock.lock().unwrap_or_else(PoisonError::into_inner);
        stock.left = left;
        let allowed = drawn >= 1.0;
        if allowed {
            stock.tokens += drawn - 1.0;
        } else {
            let flows_in = MINUTE / f64::from(limit) * (1.0 - left).max(0.0);
            #[expect(clippy::cast_possible_truncation, reason = "at most a minute")]
            let dry = (flows_in as Millis).max(DRY);
            stock.dry_until = now + dry;
        }
        Ok(Some(stock.quota(limit, now, allowed)))
    }

    /// What can be said without asking: a call was drawn before, or the bucket is known to be empty.
    fn of_stock(&self, limit: u32, now: Millis) -> Option<Quota> {
        let mut stock = self.stock.lock().unwrap_or_else(PoisonError::into_inner);
        if stock.tokens >= 1.0 {
            stock.tokens -= 1.0;
            return Some(stock.quota(limit, now, true));
        }
        // A clock that was set back must not refuse for long.
        let dry = now < stock.dry_until && stock.dry_until - now <= millis(Duration::from_mins(1));
        dry.then(|| stock.quota(limit, now, false))
    }
}

impl Stock {
    fn quota(&self, limit: u32, now: Millis, allowed: bool) -> Quota {
        State { tokens: self.tokens + self.left, at: now }.quota(limit, allowed)
    }
}

/// Addresses that are kept in mind at a time; beyond it those that have been quiet for longest make room.
const ADDRESSES: usize = 10_000;

/// Limits failed authentications by the client's address.
pub struct FailedLogins {
    a_minute: u32,
    addresses: Mutex<HashMap<IpAddr, Bucket>>,
}

impl FailedLogins {
    /// So many a minute for each address.
    pub fn new(a_minute: u32) -> Self {
        Self { a_minute, addresses: Mutex::default() }
    }

    /// Whether the address has had so many that the next one is too many.
    pub fn is_spent(&self, address: IpAddr, now: Millis) -> bool {
        self.spent(address, now).is_some()
    }

    /// The same; gives the seconds until the next one is not.
    pub fn spent(&self, address: IpAddr, now: Millis) -> Option<u64> {
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.get(&network_of(address))?.empty_for(now)
    }

    /// Notes a failure; the quota says whether the address has had too many.
    pub fn note(&self, address: IpAddr, now: Millis) -> Option<Quota> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let network = network_of(address);
        if addresses.len() >= ADDRESSES && !addresses.contains_key(&network) {
            addresses.retain(|_, bucket| !bucket.is_full(now));
            if addresses.len() >= ADDRESSES {
                // An attack from everywhere: forgetting all is better than growing without bound.
                addresses.clear();
            }
        }
        addresses.entry(network).or_insert_with(|| Bucket::new(Some(self.a_minute))).take(now)
    }
}

/// One subscriber commands a whole /64 of IPv6, so that counts as one address.
pub(super) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::from((v6.to_bits() >> 64 << 64).to_be_bytes()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_refills_evenly() {
        let bucket = Bucket::new(Some(60));
        let start = 1_000_000;
        for left in (0..60).rev() {
            let quota = bucket.take(start).unwrap();
            assert!(quota.allowed);
            assert_eq!((quota.limit, quota.remaining), (60, left));
        }
        let refused = bucket.take(start).unwrap();
        assert_eq!((refused.allowed, refused.remaining, refused.reset, refused.retry_after), (false, 0, 60, 1));
        assert!(!bucket.take(start + 999).unwrap().allowed);
        assert!(bucket.take(start + 1_000).unwrap().allowed);
        assert!(!bucket.take(start + 1_000).unwrap().allowed);
        assert!(!bucket.take(start - 5_000_000).unwrap().allowed, "a clock set back gives nothing");
    }

    #[test]
    fn no_limit_is_no_quota() {
        assert_eq!(Bucket::new(None).take(0), None);
    }

    #[test]
    fn failures_are_counted_by_address_and_by_ipv6_network() {
        let failed = FailedLogins::new(2);
        let note = |address: &str| failed.note(address.parse().unwrap(), 1_000_000).unwrap().allowed;
        assert!(note("192.0.2.1") && note("::ffff:192.0.2.1"));
        assert!(failed.is_spent("192.0.2.1".parse().unwrap(), 1_000_000));
        assert!(!failed.is_spent("192.0.2.1".parse().unwrap(), 1_060_000));
        assert!(!note("192.0.2.1"));
        assert!(note("192.0.2.2"));
        assert!(note("2001:db8::1") && note("2001:db8::2:1"));
        assert!(!note("2001:db8::ffff"));
    }

    #[test]
    fn addresses_in_mind_are_bounded() {
        let failed = FailedLogins::new(2);
        for number in 0..25_000_u32 {
            failed.note(IpAddr::from(number.to_be_bytes()), 1_000_000);
        }
        assert!(failed.addresses.lock().unwrap().len() <= ADDRESSES);
    }
}
