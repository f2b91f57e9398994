//! How often a key may call.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use recado_domain::api_key::RateLimit;
use recado_domain::clock::{Millis, millis};
use recado_domain::ids::ApiKeyId;
use recado_domain::rate_limit::{Bucket, Level, MINUTE, Quota};
use recado_store::StoreError;
use recado_store::nodes::SharedQuota;

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
    pub async fn take(&self, now: Millis, nodes: Option<&dyn SharedQuota>) -> Result<Option<Quota>, StoreError> {
        let (Some(store), Some(limit)) = (nodes, self.own.capacity()) else { return Ok(self.own.take(now)) };
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
        Level { tokens: self.tokens + self.left, at: now }.quota(limit, allowed)
    }
}
