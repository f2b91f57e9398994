//! The rate limit of a key.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use recado_domain::api_key::RateLimit;
use recado_domain::clock::{Millis, millis};
use recado_domain::ids::ApiKeyId;
use recado_domain::rate_limit::{Bucket, Level, MINUTE, Quota};
use recado_store::StoreError;
use recado_store::nodes::SharedQuota;

/// A key's bucket: its own, or tokens drawn in advance from the bucket that all nodes share.
pub struct KeyLimit {
    key: ApiKeyId,
    /// The kind of calls; a key has a bucket for each kind.
    kind: Calls,
    own: Bucket,
    stock: Mutex<Stock>,
    /// Held during a draw: concurrent callers wait for its result.
    drawing: tokio::sync::Mutex<()>,
}

/// The kind of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// The call changes something.
    Sends,
    /// The call only reads.
    Reads,
}

/// Tokens that this node has drawn from the shared bucket and not used.
#[derive(Default)]
struct Stock {
    tokens: f64,
    /// What was left in the shared bucket when this node last drew.
    left: f64,
    /// Until this time the bucket is empty, and is not asked.
    empty_until: Millis,
}

/// The shortest time before an empty bucket is asked again: refused calls cost nothing.
const EMPTY: Millis = 20;

impl KeyLimit {
    /// A full bucket.
    pub fn new(key: ApiKeyId, kind: Calls, limit: RateLimit) -> Self {
        let (own, stock, drawing) = (Bucket::new(limit), Mutex::default(), tokio::sync::Mutex::default());
        Self { key, kind, own, stock, drawing }
    }

    /// Acquires the token of a call; `None` if there is no limit. An error says that the shared bucket cannot be read.
    pub async fn acquire(&self, now: Millis, nodes: Option<&dyn SharedQuota>) -> Result<Option<Quota>, StoreError> {
        let (Some(store), Some(limit)) = (nodes, self.own.capacity()) else { return Ok(self.own.acquire(now)) };
        if let Some(quota) = self.of_stock(limit, now) {
            return Ok(Some(quota));
        }
        let _one_at_a_time = self.drawing.lock().await;
        if let Some(quota) = self.of_stock(limit, now) {
            return Ok(Some(quota));
        }
        let kind = i16::from(self.kind == Calls::Reads);
        // The tokens of one second: a key that calls evenly waits for the shared bucket once a second. At worst a key exceeds its
        // limit by this number for each node.
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
            let dry = (flows_in as Millis).max(EMPTY);
            stock.empty_until = now + dry;
        }
        Ok(Some(stock.quota(limit, now, allowed)))
    }

    /// The answer without a draw: a token is in stock, or the bucket is known to be empty.
    fn of_stock(&self, limit: u32, now: Millis) -> Option<Quota> {
        let mut stock = self.stock.lock().unwrap_or_else(PoisonError::into_inner);
        if stock.tokens >= 1.0 {
            stock.tokens -= 1.0;
            return Some(stock.quota(limit, now, true));
        }
        // After a clock was set back, `empty_until` must not refuse for long.
        let is_empty = now < stock.empty_until && stock.empty_until - now <= millis(Duration::from_mins(1));
        is_empty.then(|| stock.quota(limit, now, false))
    }
}

impl Stock {
    fn quota(&self, limit: u32, now: Millis, allowed: bool) -> Quota {
        Level { tokens: self.tokens + self.left, at: now }.quota(limit, allowed)
    }
}
