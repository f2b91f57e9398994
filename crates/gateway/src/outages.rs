//! Reloads the state in memory after an outage of the store.

use std::sync::Arc;
use std::time::Duration;

use recado_store::{Health, StoreError};

use crate::gateway::Gateway;

/// The wait before rows that could not be read after an outage are read again.
const RETRY: Duration = Duration::from_millis(200);

/// Reloads everything each time the store comes back: a commit whose answer was lost may have been stored without a
/// notification. If nodes share a store, `cluster` does the same.
pub async fn follow(gateway: Arc<Gateway>) {
    let mut health = gateway.store.health();
    loop {
        tokio::select! {
            () = gateway.stop.cancelled() => return,
            // Each change counts: a store may be back before this task runs.
            changed = health.changed() => if changed.is_err() { return },
        }
        loop {
            tokio::select! {
                () = gateway.stop.cancelled() => return,
                changed = health.wait_for(|health| *health == Health::Up) => if changed.is_err() { return },
            }
            match reload(&gateway).await {
                Ok(()) => break,
                Err(error) => tracing::debug!(%error, "directory reload failed; retrying"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn reload(gateway: &Gateway) -> Result<(), StoreError> {
    let _one_at_a_time = gateway.changes.lock().await;
    let keys = gateway.store.api_keys().await?;
    // Read after the keys and applied before them, so that a key is never known here without its default country.
    for institution in gateway.store.institutions().await? {
        gateway.directory.set_default_country(institution.id, institution.default_country);
    }
    keys.into_iter().for_each(|key| gateway.directory.update_key(key));
    let channels = gateway.store.channels().await?;
    channels.iter().for_each(|channel| gateway.directory.add_channel(channel));
    if !gateway.nodes.are_shared() {
        gateway.drivers.reload(&channels, &gateway.store.links().await?);
        for channel in channels.iter().filter(|channel| channel.deleted_at.is_some()) {
            let driver = gateway.drivers.of(channel.kind).filter(|_| channel.kind.descriptor().holds_session);
            // A session whose phone is no longer linked ends by itself. This does not wait for it.
            drop(driver.and_then(|driver| driver.forget(channel.key)));
        }
        gateway.dispatcher.wake_all().await?;
    }
    Ok(())
}
