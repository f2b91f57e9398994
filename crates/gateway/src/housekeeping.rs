//! What is done now and then: old rows go, and the last use of keys is written down.

use std::sync::Arc;
use std::time::Duration;

use recado_domain::clock::millis;
use recado_domain::queue::PurgeRequest;
use recado_store::StoreError;
use tokio::time::Instant;

use crate::gateway::Gateway;

/// The wait between two purges.
const PURGE_EVERY: Duration = Duration::from_hours(1);
/// By when a node has joined the others.
const JOINED: Duration = Duration::from_mins(1);
/// The pause between two batches of a purge: so many times what a batch took, so that a purge has a tenth of the store's
/// time at most, and messages go first; but so long in any case, and no longer, or it would never end.
const PURGE_PAUSE: u32 = 9;
const PURGE_PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How long uses of keys are gathered before they are written down together.
const GATHER_USES: Duration = Duration::from_secs(5);

/// For how long Meta tells what became of a message.
const STATUSES_COME: Duration = Duration::from_hours(7 * 24);

/// Deletes what is old, once an hour, until the server stops. It is left where it stands then: each batch is whole, and the
/// next purge goes on.
pub async fn purge(gateway: Arc<Gateway>) {
    let keep = gateway.behaviour.keep_messages;
    if keep < STATUSES_COME {
        let keep = humantime::format_duration(keep).to_string();
        tracing::warn!(keep, "messages kept for less than 7 days; later statuses will not match");
    }
    let stop = gateway.stop.clone();
    stop.run_until_cancelled(purge_hourly(&gateway)).await;
}

async fn purge_hourly(gateway: &Gateway) {
    if gateway.nodes.are_shared() {
        // Until it is known which of the nodes does it.
        tokio::time::sleep(JOINED).await;
    }
    loop {
        if let Err(error) = purge_once(gateway).await {
            tracing::warn!(%error, "purge failed; the next purge continues");
        }
        tokio::time::sleep(PURGE_EVERY).await;
    }
}

async fn purge_once(gateway: &Gateway) -> Result<(), StoreError> {
    // One of the nodes is enough.
    if !gateway.nodes.is_first().await? {
        return Ok(());
    }
    let now = gateway.clock.now();
    let mut request = PurgeRequest {
        now,
        finished_before: now - millis(gateway.behaviour.keep_messages),
        used_before: now - millis(gateway.behaviour.keep_idempotency),
        after: 0,
    };
    loop {
        let began = Instant::now();
        let Some(next) = gateway.store.purge(request).await? else { return Ok(()) };
        request.after = next;
        tokio::time::sleep((began.elapsed() * PURGE_PAUSE).clamp(PURGE_PAUSES.0, PURGE_PAUSES.1)).await;
    }
}

/// Writes down when keys were last used; waits while none is.
pub async fn note_key_uses(gateway: Arc<Gateway>) {
    loop {
        tokio::select! {
            () = gateway.stop.cancelled() => return,
            () = gateway.key_used.notified() => {}
        }
        tokio::select! {
            () = gateway.stop.cancelled() => return,
            () = tokio::time::sleep(GATHER_USES) => write_key_uses(&gateway).await,
        }
    }
}

/// Writes down what was gathered. A failure loses a few times of last use, no more.
pub async fn write_key_uses(gateway: &Gateway) {
    let used = gateway.directory.take_used_keys();
    if used.is_empty() {
        return;
    }
    if let Err(error) = gateway.store.touch_api_keys(used).await {
        tracing::debug!(%error, "last use of keys not recorded");
    }
}
