//! Institutions, keys and channels that other nodes changed, taken over into what this one keeps in memory.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use recado_store::StoreError;

use super::{CHANGES, Cluster};
use crate::gateway::Gateway;
use crate::operations::links;

/// Where the directory stands.
pub(super) struct Seen {
    /// The last change that it has.
    version: i64,
    /// The last look, by the number of those that were begun, and what came of it.
    look: u64,
    result: Result<(), StoreError>,
}

impl Seen {
    pub fn at(version: i64) -> Self {
        Self { version, look: 0, result: Ok(()) }
    }
}

/// Looks that fail in a row before that is told: together they take about as long as a revoked key may still be taken.
const FAILURES: u32 = 3;

/// Looks now and then, until the server stops. Notices make it faster; this makes it certain.
pub(super) async fn follow(gateway: Arc<Gateway>) {
    let mut failures = 0;
    loop {
        tokio::select! {
            () = gateway.stop.cancelled() => return,
            () = tokio::time::sleep(CHANGES) => {}
        }
        match try_take(&gateway).await {
            Ok(()) => failures = 0,
            Err(error) => {
                failures += 1;
                if failures == FAILURES {
                    tracing::warn!(%error, "changes of other nodes cannot be read: a key that was revoked there is still taken here");
                }
            }
        }
    }
}

/// Takes over what changed; what fails is done by the next look.
pub(super) async fn take(gateway: &Gateway) {
    if let Err(error) = try_take(gateway).await {
        tracing::debug!(%error, "changes of other nodes could not be read");
    }
}

/// Takes over what changed until now. Many that ask at a time share one question, and what came of it.
pub async fn try_take(gateway: &Gateway) -> Result<(), StoreError> {
    let Some(cluster) = &gateway.cluster else { return Ok(()) };
    let begun = cluster.looks.load(SeqCst);
    let mut seen = cluster.seen.lock().await;
    if seen.look > begun {
        // Somebody began to look after this one came.
        return seen.result.clone();
    }
    let look = cluster.looks.fetch_add(1, SeqCst) + 1;
    let result = take_since(gateway, cluster, &mut seen.version).await;
    // Only now: a look that is dropped before its end is none, and who waited for it looks again.
    (seen.look, seen.result) = (look, result.clone());
    result
}

async fn take_since(gateway: &Gateway, cluster: &Cluster, seen: &mut i64) -> Result<(), StoreError> {
    if cluster.store.directory_version().await? == *seen {
        return Ok(());
    }
    // What this node changes meanwhile reaches its directory in the order of the store, too.
    let _one_at_a_time = gateway.changes.lock().await;
    let changes = cluster.store.changes_since(*seen).await?;
    // Before the keys: a key is never known here without the default country of its institution.
    for (institution, country) in changes.default_countries {
        gateway.directory.set_default_country(institution, country);
    }
    changes.keys.into_iter().for_each(|key| gateway.directory.take_key(key));
    for channel in &changes.channels {
        gateway.directory.add_channel(channel);
    }
    let keys: Vec<_> = changes.channels.iter().map(|channel| channel.key).collect();
    links::take_over(gateway, &keys, &changes.links);
    // What was set may let more be sent, or again.
    keys.into_iter().filter(|channel| cluster.leases.epoch(*channel).is_some()).for_each(|channel| {
        gateway.dispatcher.wake(channel);
    });
    *seen = changes.version;
    Ok(())
}
