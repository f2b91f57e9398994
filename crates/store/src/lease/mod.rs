//! The channels that this node owns, and whether its lease is valid.

mod notifier;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use recado_domain::channel::{ChannelKey, Epoch};
use tokio::sync::watch;
use tokio::time::Instant;

pub use notifier::{Notification, Notifier, WakeReason, Waker};

/// The channels that this process claims, sends and settles for.
pub struct Leases {
    shared: Option<SharedLeases>,
}

struct SharedLeases {
    channels: RwLock<Channels>,
    /// Until this time no other node can own what this node owns. Before the first lease nothing is owned.
    valid_until: watch::Sender<Instant>,
    notifier: Arc<Notifier>,
}

#[derive(Default)]
struct Channels {
    held: HashMap<ChannelKey, Epoch>,
    /// Channels that drain: no more claims, but the messages in flight settle.
    draining: HashMap<ChannelKey, Epoch>,
}

impl SharedLeases {
    fn read(&self) -> RwLockReadGuard<'_, Channels> {
        self.channels.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Channels> {
        self.channels.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leases {
    /// The leases of the only process of a store, which owns every channel.
    pub fn standalone() -> Arc<Self> {
        Arc::new(Self { shared: None })
    }

    /// The leases of one node among others. The node owns nothing yet.
    pub fn shared(notifier: Arc<Notifier>) -> Arc<Self> {
        let (channels, valid_until) = (RwLock::default(), watch::Sender::new(Instant::now()));
        Arc::new(Self { shared: Some(SharedLeases { channels, valid_until, notifier }) })
    }

    /// Whether no other node can exist.
    pub fn is_standalone(&self) -> bool {
        self.shared.is_none()
    }

    /// The epoch under which this node owns the channel and may claim for it; `None` if it does not.
    pub fn epoch(&self, channel: ChannelKey) -> Option<Epoch> {
        match &self.shared {
            None => Some(0),
            Some(shared) => shared.read().held.get(&channel).copied(),
        }
    }

    /// The epoch of an owned or draining channel: its session and the outcomes of its messages in flight are still
    /// written.
    pub fn session_epoch(&self, channel: ChannelKey) -> Option<Epoch> {
        let draining = || self.shared.as_ref()?.read().draining.get(&channel).copied();
        self.epoch(channel).or_else(draining)
    }

    /// Notifies the owner of the channel that the channel may have work.
    pub fn notify_owner(&self, channel: ChannelKey, reason: WakeReason) {
        if let Some(shared) = &self.shared {
            shared.notifier.work(channel, reason);
        }
    }

    /// Whether the lease is valid. While it is not, nothing is sent: another node may be sending.
    pub fn is_valid(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| Instant::now() < *shared.valid_until.borrow())
    }

    /// How long the lease is still valid; `None` if no other node can exist.
    pub fn remaining(&self) -> Option<Duration> {
        let until = *self.shared.as_ref()?.valid_until.borrow();
        Some(until.saturating_duration_since(Instant::now()))
    }

    /// Waits until the lease is valid.
    pub async fn wait_valid(&self) {
        let Some(shared) = &self.shared else { return };
        // The sender is a field of this type, so the channel cannot be closed.
        drop(shared.valid_until.subscribe().wait_for(|until| Instant::now() < *until).await);
    }

    /// Waits until the lease has expired.
    pub async fn wait_expired(&self) {
        let Some(shared) = &self.shared else { return std::future::pending().await };
        while self.is_valid() {
            let until = *shared.valid_until.borrow();
            tokio::time::sleep_until(until).await;
        }
    }

    /// Extends the lease to this time.
    pub fn set_valid_until(&self, until: Instant) {
        if let Some(shared) = &self.shared {
            shared.valid_until.send_replace(until);
        }
    }

    /// Adds channels that this node has acquired.
    pub fn add(&self, acquired: &[(ChannelKey, Epoch)]) {
        if let Some(shared) = &self.shared {
            shared.write().held.extend(acquired.iter().copied());
        }
    }

    /// Starts to drain channels. Returns the owned ones with their epochs.
    pub fn drain(&self, channels: &[ChannelKey]) -> Vec<(ChannelKey, Epoch)> {
        let Some(shared) = &self.shared else { return Vec::new() };
        let mut all = shared.write();
        let draining: Vec<_> = channels.iter().filter_map(|channel| all.held.remove_entry(channel)).collect();
        all.draining.extend(draining.iter().copied());
        draining
    }

    /// Removes drained channels after their release.
    pub fn released(&self, channels: &[(ChannelKey, Epoch)]) {
        if let Some(shared) = &self.shared {
            let mut all = shared.write();
            for (channel, epoch) in channels {
                // The channel may have been lost and acquired again under another epoch.
                if all.draining.get(channel) == Some(epoch) {
                    all.draining.remove(channel);
                }
            }
        }
    }

    /// Removes channels that another node may own.
    pub fn remove(&self, channels: &[ChannelKey]) {
        if let Some(shared) = &self.shared {
            let mut all = shared.write();
            for channel in channels {
                all.held.remove(channel);
                all.draining.remove(channel);
            }
        }
    }

    /// The owned and draining channels.
    pub fn all(&self) -> Vec<ChannelKey> {
        self.epochs().into_keys().collect()
    }

    /// The owned and draining channels with their epochs.
    pub fn epochs(&self) -> HashMap<ChannelKey, Epoch> {
        let Some(shared) = &self.shared else { return HashMap::new() };
        let all = shared.read();
        all.draining.iter().chain(&all.held).map(|(channel, epoch)| (*channel, *epoch)).collect()
    }

    /// The owned channels, in no order.
    pub fn held(&self) -> Vec<ChannelKey> {
        let Some(shared) = &self.shared else { return Vec::new() };
        shared.read().held.keys().copied().collect()
    }
}
