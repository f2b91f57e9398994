//! The WhatsApp Web sessions of the channels that this node owns: open while the lease is valid.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use recado_domain::channel::ChannelKey;
use recado_providers::ChannelDriver;

use super::Parts;

/// The number of sessions that are restored at a time; each needs a few queries.
const AT_ONCE: usize = 8;

pub(super) struct Sessions {
    parts: Arc<Parts>,
    /// Channels whose sessions are to be restored. Failed ones stay in the set.
    pending: Mutex<HashSet<ChannelKey>>,
    restoring: tokio::sync::Mutex<()>,
}

impl Sessions {
    pub fn new(parts: Arc<Parts>) -> Self {
        Self { parts, pending: Mutex::default(), restoring: tokio::sync::Mutex::default() }
    }

    /// Restores the sessions of these channels.
    pub async fn restore(&self, channels: &[ChannelKey]) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).extend(channels);
        self.restore_pending().await;
    }

    /// Restores the pending sessions, while the lease is valid.
    pub async fn restore_pending(&self) {
        let _one_at_a_time = self.restoring.lock().await;
        let pending: Vec<_> = self.pending.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        let all = stream::iter(pending).for_each_concurrent(AT_ONCE, |key| self.restore_one(key));
        tokio::select! {
            biased;
            () = self.parts.leases.wait_expired() => {}
            () = all => {}
        }
    }

    async fn restore_one(&self, key: ChannelKey) {
        // Another node has just created the channel.
        let Some(entry) = self.parts.directory.channel(key) else { return };
        if let Some(driver) = self.driver(key).filter(|_| self.parts.leases.epoch(key).is_some()) {
            if let Err(error) = driver.restore(&entry.via).await {
                tracing::warn!(channel.id = %entry.via.id, %error, "session restore failed; retrying");
                return;
            }
            if self.parts.leases.epoch(key).is_none() {
                // The channel was lost during the restore.
                driver.disconnect(key).await;
            }
        }
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    /// Closes the sessions of these channels.
    pub async fn disconnect(&self, channels: &[ChannelKey]) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).retain(|key| !channels.contains(key));
        let held = channels.iter().filter_map(|key| Some((*key, self.driver(*key)?)));
        join_all(held.map(|(key, driver)| async move { driver.disconnect(key).await })).await;
    }

    /// Whether a pairing is in progress.
    pub fn is_pairing(&self, channel: ChannelKey) -> bool {
        self.driver(channel).is_some_and(|driver| !driver.follow(channel).borrow().is_over())
    }

    /// The driver of a channel that holds a session.
    fn driver(&self, key: ChannelKey) -> Option<Arc<dyn ChannelDriver>> {
        let entry = self.parts.directory.channel(key).filter(|entry| entry.kind.descriptor().holds_session)?;
        self.parts.drivers.of(entry.kind)
    }
}
