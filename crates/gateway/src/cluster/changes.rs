//! Keys and channels that other nodes changed, taken over into what this one keeps in memory.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use super::CHANGES;
use crate::gateway::Gateway;
use crate::operations::links;
use crate::store::rows::StoreError;

/// Looks now and then, until the server stops. Notices make it faster; this makes it certain.
pub(super) async fn follow(gateway: Arc<Gateway>) {
    loop {
        tokio::select! {
            () = gateway.stop.cancelled() => return,
            () = tokio::time::sleep(CHANGES) => take(&gateway).await,
        }
    }
}

/// Takes over what changed.
pub(super) async fn take(gateway: &Gateway) {
    if let Err(error) = try_take(gateway).await {
        // The next look does it.
        tracing::debug!(%error, "changes of other nodes could not be read");
    }
}

/// Takes over what changed until now. Many that ask at a time share one question.
pub async fn try_take(gateway: &Gateway) -> Result<(), StoreError> {
    let Some(cluster) = &gateway.cluster else { return Ok(()) };
    let asked = cluster.looks.load(SeqCst);
    let mut seen = cluster.seen.lock().await;
    if cluster.looks.load(SeqCst) > asked {
        // Somebody began to look after this one came, and has done it.
        return Ok(());
    }
    cluster.looks.fetch_add(1, SeqCst);
    if cluster.store.directory_version().await? == *seen {
        return Ok(());
    }
    // What this node changes meanwhile reaches its directory in the order of the store, too.
    let _one_at_a_time = gateway.changes.lock().await;
    let changes = cluster.store.changes_since(*seen).await?;
    changes.keys.into_iter().for_each(|key| gateway.directory.take_key(key));
    for channel in &changes.channels {
        gateway.directory.add_channel(channel);
    }
    let changed: Vec<_> = changes.channels.iter().map(|channel| channel.key).collect();
    links::take_over(gateway, &changed).await?;
    // What was set may let more be sent, or again.
    changed.into_iter().filter(|channel| cluster.leases.epoch(*channel).is_some()).for_each(|channel| {
        gateway.dispatcher.wake(channel);
    });
    *seen = changes.version;
    Ok(())
}
