//! Periodic tasks: they delete old rows, and store the last use of keys.

use std::sync::Arc;
use std::time::Duration;

use recado_domain::clock::millis;
use recado_domain::queue::{PurgeRequest, Purged};
use recado_store::StoreError;
use tokio::time::Instant;

use crate::gateway::Gateway;
use crate::metrics::METRICS;
use crate::periodic::rest_after;

/// The wait between two purges.
const PURGE_EVERY: Duration = Duration::from_hours(1);
/// The time within which a node joins.
const JOINED: Duration = Duration::from_mins(1);
/// How long the sandbox's phone keeps messages at least: a test that runs for hours finds all of its messages, however short
/// messages are kept elsewhere.
const SANDBOX_AT_LEAST: Duration = Duration::from_hours(24);
/// How long uses of keys are collected before they are stored together.
const GATHER_USES: Duration = Duration::from_secs(5);

/// How long Meta reports the statuses of a message.
const STATUS_PERIOD: Duration = Duration::from_hours(7 * 24);

/// Deletes old rows once an hour, until the server stops. Each batch is complete, and the next purge continues after an
/// interruption.
pub async fn purge(gateway: Arc<Gateway>) {
    let keep = gateway.behaviour.keep_messages;
    if keep < STATUS_PERIOD {
        let keep = humantime::format_duration(keep).to_string();
        tracing::warn!(keep, "messages kept for less than 7 days; later statuses will not match");
    }
    let stop = gateway.stop.clone();
    stop.run_until_cancelled(purge_hourly(&gateway)).await;
}

async fn purge_hourly(gateway: &Gateway) {
    if gateway.nodes.are_shared() {
        // By then it is known which node purges.
        tokio::time::sleep(JOINED).await;
    }
    loop {
        if let Err(error) = purge_once(gateway).await {
            tracing::warn!(%error, "purge failed; the next purge continues");
        }
        // Each node has files of its own.
        if let Err(fault) = gateway.media.purge(gateway.behaviour.keep_inbound_media).await {
            tracing::warn!(?fault, "purge of media failed; the next purge continues");
        }
        tokio::time::sleep(PURGE_EVERY).await;
    }
}

async fn purge_once(gateway: &Gateway) -> Result<(), StoreError> {
    // Only one of the nodes purges.
    if !gateway.nodes.is_first().await? {
        return Ok(());
    }
    let purged = purge_store(gateway).await;
    // Its phone may be down without the store.
    if let Err(error) = purge_sandbox(gateway).await {
        tracing::warn!(%error, "purge of the sandbox failed; the next purge continues");
    }
    purged
}

/// Deletes old messages on the sandbox's phone.
async fn purge_sandbox(gateway: &Gateway) -> Result<(), StoreError> {
    let keep = gateway.behaviour.keep_messages.max(SANDBOX_AT_LEAST);
    let (before, mut after) = (gateway.clock.now() - millis(keep), 0);
    loop {
        let began = Instant::now();
        let (rows, next) = gateway.drivers.sandbox().purge(after, before).await?;
        METRICS.purged_rows.inc_by(rows);
        let Some(next) = next else { return Ok(()) };
        after = next;
        rest_after(began).await;
    }
}

async fn purge_store(gateway: &Gateway) -> Result<(), StoreError> {
    let now = gateway.clock.now();
    let mut request = PurgeRequest {
        now,
        finished_before: now - millis(gateway.behaviour.keep_messages),
        used_before: now - millis(gateway.behaviour.keep_idempotency),
        events_before: now - millis(gateway.behaviour.keep_events),
        after: 0,
    };
    loop {
        let began = Instant::now();
        let Purged { rows, next } = gateway.store.purge(request).await?;
        METRICS.purged_rows.inc_by(rows);
        let Some(next) = next else {
            METRICS.purged(gateway.clock.now());
            return Ok(());
        };
        request.after = next;
        rest_after(began).await;
    }
}

/// Stores when keys were last used. It sleeps while no key is used.
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

/// Stores the collected uses. A failure loses only some times of last use.
pub async fn write_key_uses(gateway: &Gateway) {
    let used = gateway.directory.drain_used_keys();
    if used.is_empty() {
        return;
    }
    if let Err(error) = gateway.store.touch_api_keys(used).await {
        tracing::debug!(%error, "last use of keys not recorded");
    }
}
