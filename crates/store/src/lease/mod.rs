//! Which channels this node holds, and whether it can be sure of it.

mod notices;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use recado_domain::channel::{ChannelKey, Epoch};
use tokio::sync::watch;
use tokio::time::Instant;

pub use notices::{Notice, Notices, WakeReason, Waker};

/// The channels that this process claims, sends and settles for.
pub struct Leases {
    shared: Option<SharedLeases>,
}

struct SharedLeases {
    channels: RwLock<Channels>,
    /// Until when nobody else can hold what this node holds; before the first lease nothing is held.
    sure_until: watch::Sender<Instant>,
    notices: Arc<Notices>,
}

#[derive(Default)]
struct Channels {
    held: HashMap<ChannelKey, Epoch>,
    /// What is about to be given back: nothing more is claimed of it, and what is in hand is brought to its end.
    leaving: HashMap<ChannelKey, Epoch>,
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
    /// One process has the store to itself, and holds everything.
    pub fn alone() -> Arc<Self> {
        Arc::new(Self { shared: None })
    }

    /// One node among others, which holds nothing yet.
    pub fn shared(notices: Arc<Notices>) -> Arc<Self> {
        let (channels, sure_until) = (RwLock::default(), watch::Sender::new(Instant::now()));
        Arc::new(Self { shared: Some(SharedLeases { channels, sure_until, notices }) })
    }

    /// Whether no other node can be there.
    pub fn is_alone(&self) -> bool {
        self.shared.is_none()
    }

    /// Under which epoch the channel is held here; `None`: it is another's, or nobody's.
    pub fn epoch(&self, channel: ChannelKey) -> Option<Epoch> {
        match &self.shared {
            None => Some(0),
            Some(shared) => shared.read().held.get(&channel).copied(),
        }
    }

    /// The same, also while the channel is about to be given back: its line still writes.
    pub fn epoch_of_line(&self, channel: ChannelKey) -> Option<Epoch> {
        let leaving = || self.shared.as_ref()?.read().leaving.get(&channel).copied();
        self.epoch(channel).or_else(leaving)
    }

    /// Tells whoever holds the channel that it may have something to do.
    pub fn tell_holder(&self, channel: ChannelKey, news: WakeReason) {
        if let Some(shared) = &self.shared {
            shared.notices.work(channel, news);
        }
    }

    /// Whether what this node holds is still its own. Where that is not sure, nothing is handed to a network: another
    /// node may be sending.
    pub fn is_sure(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| Instant::now() < *shared.sure_until.borrow())
    }

    /// Waits until it is.
    pub async fn until_sure(&self) {
        let Some(shared) = &self.shared else { return };
        // Its sender is ours: it does not go.
        drop(shared.sure_until.subscribe().wait_for(|until| Instant::now() < *until).await);
    }

    /// Waits until it is not any more.
    pub async fn until_unsure(&self) {
        let Some(shared) = &self.shared else { return std::future::pending().await };
        while self.is_sure() {
            let until = *shared.sure_until.borrow();
            tokio::time::sleep_until(until).await;
        }
    }

    /// Nobody else can hold anything before this time.
    pub fn sure(&self, until: Instant) {
        if let Some(shared) = &self.shared {
            shared.sure_until.send_replace(until);
        }
    }

    pub fn add(&self, gained: &[(ChannelKey, Epoch)]) {
        if let Some(shared) = &self.shared {
            shared.write().held.extend(gained.iter().copied());
        }
    }

    /// These are about to be given back: those of them that were held, with their epochs.
    pub fn leave(&self, channels: &[ChannelKey]) -> Vec<(ChannelKey, Epoch)> {
        let Some(shared) = &self.shared else { return Vec::new() };
        let mut all = shared.write();
        let leaving: Vec<_> = channels.iter().filter_map(|channel| all.held.remove_entry(channel)).collect();
        all.leaving.extend(leaving.iter().copied());
        leaving
    }

    /// These were given back.
    pub fn left(&self, channels: &[(ChannelKey, Epoch)]) {
        if let Some(shared) = &self.shared {
            let mut all = shared.write();
            for (channel, epoch) in channels {
                // It may have been lost meanwhile, and taken anew.
                if all.leaving.get(channel) == Some(epoch) {
                    all.leaving.remove(channel);
                }
            }
        }
    }

    /// These were lost.
    pub fn remove(&self, channels: &[ChannelKey]) {
        if let Some(shared) = &self.shared {
            let mut all = shared.write();
            for channel in channels {
                all.held.remove(channel);
                all.leaving.remove(channel);
            }
        }
    }

    /// What is held, and what is about to be given back.
    pub fn all(&self) -> Vec<ChannelKey> {
        self.epochs().into_keys().collect()
    }

    /// The same, with the epochs.
    pub fn epochs(&self) -> HashMap<ChannelKey, Epoch> {
        let Some(shared) = &self.shared else { return HashMap::new() };
        let all = shared.read();
        all.leaving.iter().chain(&all.held).map(|(channel, epoch)| (*channel, *epoch)).collect()
    }

    /// What is held, in no order.
    pub fn held(&self) -> Vec<ChannelKey> {
        let Some(shared) = &self.shared else { return Vec::new() };
        shared.read().held.keys().copied().collect()
    }
}
