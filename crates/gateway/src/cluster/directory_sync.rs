//! Keeps the directory up to date with the institutions, keys and channels that other nodes change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use recado_store::StoreError;
use tokio::sync::Mutex;

use super::Parts;

/// The interval of refreshes without a notification: a key that is revoked elsewhere is refused here within a second.
const REFRESH: Duration = Duration::from_millis(400);
/// After this many failed refreshes in a row a warning is logged. They take about as long as a revoked key may still be
/// accepted.
const FAILURES: u32 = 3;

/// Refreshes the directory.
pub(super) struct DirectorySync {
    parts: Arc<Parts>,
    /// Locked during a refresh.
    state: Mutex<State>,
    /// The number of refreshes that have begun.
    begun: AtomicU64,
}

/// The state of the directory.
struct State {
    /// The last change that the directory has.
    version: i64,
    /// The number of the last refresh, and its result.
    refresh: u64,
    result: Result<(), StoreError>,
}

impl DirectorySync {
    /// For a directory that has all changes up to `version`.
    pub fn new(parts: Arc<Parts>, version: i64) -> Self {
        Self { parts, state: Mutex::new(State { version, refresh: 0, result: Ok(()) }), begun: AtomicU64::new(0) }
    }

    /// Refreshes at an interval until the server stops. Notifications only make changes visible earlier.
    pub async fn refresh_loop(self: Arc<Self>) {
        let mut failures = 0;
        loop {
            tokio::select! {
                () = self.parts.stop.cancelled() => return,
                () = tokio::time::sleep(REFRESH) => {}
            }
            match self.try_refresh().await {
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

    /// Refreshes the directory; the next refresh repeats one that fails.
    pub async fn refresh(&self) {
        if let Err(error) = self.try_refresh().await {
            tracing::debug!(%error, "directory refresh failed; retrying");
        }
    }

    /// Refreshes the directory. Concurrent callers share one query and its result.
    pub async fn try_refresh(&self) -> Result<(), StoreError> {
        let begun = self.begun.load(SeqCst);
        let mut state = self.state.lock().await;
        if state.refresh > begun {
            // This refresh began after the call of the caller.
            return state.result.clone();
        }
        let refresh = self.begun.fetch_add(1, SeqCst) + 1;
        let result = self.apply_since(&mut state.version).await;
        // Set at the end. If a refresh is dropped before it ends, the callers that waited for it refresh again.
        (state.refresh, state.result) = (refresh, result.clone());
        result
    }

    async fn apply_since(&self, version: &mut i64) -> Result<(), StoreError> {
        let Parts { store, leases, directory, dispatcher, drivers, .. } = &*self.parts;
        if store.directory_version().await? == *version {
            return Ok(());
        }
        // Changes by this node reach the directory in the order of the store, too.
        let _one_at_a_time = self.parts.changes.lock().await;
        let changes = store.changes_since(*version).await?;
        // Before the keys: a key is never known here without the default country of its institution.
        for (institution, country) in changes.default_countries {
            directory.set_default_country(institution, country);
        }
        changes.keys.into_iter().for_each(|key| directory.update_key(key));
        for channel in &changes.channels {
            directory.add_channel(channel);
        }
        drivers.reload(&changes.channels, &changes.links);
        // Changed settings may permit more sends.
        let held = changes.channels.iter().filter(|channel| leases.epoch(channel.key).is_some());
        held.for_each(|channel| dispatcher.wake(channel.key));
        *version = changes.version;
        Ok(())
    }
}
