//! Institutions, keys and channels that other nodes changed, taken over into what this one keeps in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use recado_store::StoreError;
use tokio::sync::Mutex;

use super::Parts;

/// How often keys and channels are asked for by themselves: a key that is revoked elsewhere is refused here within a second.
const CHANGES: Duration = Duration::from_millis(400);
/// Looks that fail in a row before that is told: together they take about as long as a revoked key may still be taken.
const FAILURES: u32 = 3;

/// Brings the directory up to date.
pub(super) struct Changes {
    parts: Arc<Parts>,
    /// Locked while the directory is brought up to date.
    seen: Mutex<Seen>,
    /// How often that was begun.
    looks: AtomicU64,
}

/// Where the directory stands.
struct Seen {
    /// The last change that it has.
    version: i64,
    /// The last look, by the number of those that were begun, and what came of it.
    look: u64,
    result: Result<(), StoreError>,
}

impl Changes {
    /// For a directory that has all changes up to this one.
    pub fn new(parts: Arc<Parts>, version: i64) -> Self {
        Self { parts, seen: Mutex::new(Seen { version, look: 0, result: Ok(()) }), looks: AtomicU64::new(0) }
    }

    /// Looks now and then, until the server stops. Notices make it faster; this makes it certain.
    pub async fn follow(self: Arc<Self>) {
        let mut failures = 0;
        loop {
            tokio::select! {
                () = self.parts.stop.cancelled() => return,
                () = tokio::time::sleep(CHANGES) => {}
            }
            match self.try_take().await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    if failures == FAILURES {
                        tracing::warn!(%error, "directory refresh keeps failing; revoked keys may still be accepted");
                    }
                }
            }
        }
    }

    /// Takes over what changed; what fails is done by the next look.
    pub async fn take(&self) {
        if let Err(error) = self.try_take().await {
            tracing::debug!(%error, "directory refresh failed; retrying");
        }
    }

    /// Takes over what changed until now. Many that ask at a time share one question, and what came of it.
    pub async fn try_take(&self) -> Result<(), StoreError> {
        let begun = self.looks.load(SeqCst);
        let mut seen = self.seen.lock().await;
        if seen.look > begun {
            // Somebody began to look after this one came.
            return seen.result.clone();
        }
        let look = self.looks.fetch_add(1, SeqCst) + 1;
        let result = self.take_since(&mut seen.version).await;
        // Only now: a look that is dropped before its end is none, and who waited for it looks again.
        (seen.look, seen.result) = (look, result.clone());
        result
    }

    async fn take_since(&self, seen: &mut i64) -> Result<(), StoreError> {
        let Parts { store, leases, directory, dispatcher, links, .. } = &*self.parts;
        if store.directory_version().await? == *seen {
            return Ok(());
        }
        // What this node changes meanwhile reaches its directory in the order of the store, too.
        let _one_at_a_time = self.parts.changes.lock().await;
        let changes = store.changes_since(*seen).await?;
        // Before the keys: a key is never known here without the default country of its institution.
        for (institution, country) in changes.default_countries {
            directory.set_default_country(institution, country);
        }
        changes.keys.into_iter().for_each(|key| directory.take_key(key));
        for channel in &changes.channels {
            directory.add_channel(channel);
        }
        let keys: Vec<_> = changes.channels.iter().map(|channel| (channel.key, channel.kind)).collect();
        links.take_over(&keys, &changes.links);
        // What was set may let more be sent, or again.
        let held = keys.into_iter().filter(|(channel, _)| leases.epoch(*channel).is_some());
        held.for_each(|(channel, _)| dispatcher.wake(channel));
        *seen = changes.version;
        Ok(())
    }
}
