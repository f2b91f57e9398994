//! The safety net of the dispatcher: a scan that finds open messages whose channel has no task.
//!
//! Every commit wakes the tasks that it concerns, so the scan finds nothing. A finding is a fault of Recado: it is logged,
//! and the channel is woken.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use recado_domain::channel::ChannelKey;
use recado_store::StoreError;

use crate::gateway::Gateway;

/// The wait between two scans. A scan is one statement that reads an index of the open messages.
const EVERY: Duration = Duration::from_secs(15);
/// The scans that must agree. A task may end between the answer of the store and the check of the tasks.
const SCANS: usize = 3;
/// The interval of these scans with a file. If nodes share the store, the poll of `cluster` comes first, every five seconds,
/// because a node that is killed after its commit sends no notification.
const BETWEEN: Duration = Duration::from_secs(1);
const BETWEEN_SHARED: Duration = Duration::from_secs(5);

/// Scans at an interval, until the server stops.
pub async fn watch(gateway: Arc<Gateway>) {
    loop {
        tokio::select! {
            () = gateway.stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        tokio::select! {
            () = gateway.stop.cancelled() => return,
            scanned = scan_once(&gateway) => if let Err(error) = scanned {
                tracing::debug!(%error, "safety scan failed; retrying");
            },
        }
    }
}

async fn scan_once(gateway: &Gateway) -> Result<(), StoreError> {
    let mut stranded = scan(gateway).await?;
    for _ in 1..SCANS {
        if stranded.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(if gateway.nodes.are_shared() { BETWEEN_SHARED } else { BETWEEN }).await;
        let now = scan(gateway).await?;
        stranded.retain(|channel| now.contains(channel));
    }
    for channel in stranded {
        let id = gateway.directory.channel(channel).map(|entry| entry.via.id.to_string());
        tracing::warn!(channel.id = id, "channel woken: open messages had no task");
        gateway.dispatcher.wake(channel);
    }
    Ok(())
}

/// The channels of this process that have open messages and no task.
async fn scan(gateway: &Gateway) -> Result<HashSet<ChannelKey>, StoreError> {
    let open = gateway.nodes.open_channels().await?;
    Ok(open.into_iter().filter(|channel| gateway.dispatcher.lacks_task(*channel)).collect())
}
