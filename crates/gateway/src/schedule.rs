//! Queues scheduled messages when they are due.
//!
//! Every node does this. Each waits for the next time in the store, and a message that this node schedules wakes it. A node
//! of several also checks at an interval, because another node may have scheduled a message and ended.

use std::sync::Arc;
use std::time::Duration;

use recado_store::StoreError;

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
        let wait = match next(gateway).await {
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
async fn next(gateway: &Gateway) -> Result<Option<Duration>, StoreError> {
    let now = gateway.clock.now();
    let promoted = gateway.store.promote(now).await?;
    Ok(match promoted.next_at {
        Some(at) if at <= now && promoted.messages > 0 => Some(Duration::ZERO),
        Some(at) if at <= now => Some(RETRY),
        Some(at) => Some(Duration::from_millis(at.abs_diff(now)).min(CHECK_INTERVAL)),
        None if gateway.nodes.are_shared() => Some(CHECK_INTERVAL),
        None => None,
    })
}
