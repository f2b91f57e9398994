//! Queues scheduled messages when they are due.
//!
//! Every node does this. Each waits for the next time in the store, and a message that this node schedules wakes it. A node
//! of several also checks at an interval, because another node may have scheduled a message and ended.

use std::sync::Arc;
use std::time::Duration;

use recado_domain::clock::Clock;
use recado_store::{Schedule, StoreError};

use crate::gateway::Gateway;

/// The longest wait while a message is scheduled: the clock may be set, and another node may have ended.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// The wait after a failure, and while other nodes own all channels with due messages.
const RETRY: Duration = Duration::from_millis(200);

/// Queues due messages until the server stops.
pub async fn run(gateway: Arc<Gateway>) {
    let stop = gateway.stop.clone();
    stop.run_until_cancelled(queue_due(&gateway)).await;
}

async fn queue_due(gateway: &Gateway) {
    let mut failed = false;
    loop {
        let wait = match next(&*gateway.store, &*gateway.clock, gateway.nodes.are_shared()).await {
            Ok(wait) => {
                failed = false;
                wait
            }
            Err(error) => {
                // Log once for each outage.
                if !failed {
                    tracing::warn!(%error, "scheduled messages not queued; the next try continues");
                }
                failed = true;
                Some(CHECK_INTERVAL.min(RETRY * 5))
            }
        };
        // A message that was scheduled since the last check has left a permit.
        let scheduled = gateway.dispatcher.scheduled();
        match wait {
            Some(wait) => drop(tokio::time::timeout(wait, scheduled).await),
            None => scheduled.await,
        }
    }
}

/// Queues some of the due messages. Returns how long to wait until the next check; `None` means until a message is
/// scheduled.
async fn next(store: &dyn Schedule, clock: &dyn Clock, is_shared: bool) -> Result<Option<Duration>, StoreError> {
    // The clock of this node may be wrong. Nodes that share a database share its clock.
    let now = store.clock().await?.unwrap_or_else(|| clock.now());
    let promoted = store.promote(now).await?;
    Ok(match promoted.next_at {
        Some(at) if at <= now && promoted.messages > 0 => Some(Duration::ZERO),
        Some(at) if at <= now => Some(RETRY),
        Some(at) => Some(Duration::from_millis(at.abs_diff(now)).min(CHECK_INTERVAL)),
        None if is_shared => Some(CHECK_INTERVAL),
        None => None,
    })
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use recado_domain::clock::Millis;
    use recado_domain::message::{NewMessage, Promoted};
    use recado_store::fixtures::{Ground, NOW, SqliteFile};
    use recado_store::{Result, Store};

    use super::*;

    struct At(Millis);

    impl Clock for At {
        fn now(&self) -> Millis {
            self.0
        }
    }

    /// A store with a clock of its own.
    struct WithClock(Arc<dyn Store>, Millis);

    #[async_trait]
    impl Schedule for WithClock {
        async fn promote(&self, now: Millis) -> Result<Promoted> {
            self.0.promote(now).await
        }

        async fn clock(&self) -> Result<Option<Millis>> {
            Ok(Some(self.1))
        }
    }

    #[tokio::test]
    async fn the_clock_of_a_node_decides_only_where_the_store_has_none() {
        const HOUR: Millis = 60 * 60 * 1_000;
        let ground = Ground::on(SqliteFile::new()).await;
        let channel = ground.channel("loja").await;
        let at = Some(NOW + HOUR);
        ground.enqueue_id(NewMessage { send_at: at, ..ground.new_message(channel, "551") }).await;
        let shared = WithClock(ground.store.clone(), NOW + HOUR - 1_000);
        for wrong in [NOW - HOUR, NOW + 2 * HOUR] {
            let wait = next(&shared, &At(wrong), true).await.expect("the store works");
            assert_eq!(wait, Some(Duration::from_secs(1)), "until its time, by the clock that the nodes share");
        }
        let wait = next(&*ground.store, &At(NOW + HOUR), false).await.expect("the store works");
        assert_eq!((wait, ground.store.open_channels().await.expect("read")), (None, vec![channel]));
    }
}
