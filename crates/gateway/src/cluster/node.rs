//! This node: it joins, renews its lease, acquires its quota of the channels and releases the excess.
//!
//! | | |
//! |---|---|
//! | joins | inserts a row with a lease of 10 s; retries until it works, and joins again after its lease expired |
//! | renews | every 2.5 s, by one row for all its channels |
//! | rebalances | every 2 s and when notified: deletes expired nodes, reads the quotas, acquires free channels, releases the excess |
//! | watches | after 8 s without a renewal, by its own clock: no send begins and sessions are closed; they are restored when the lease is valid again |
//! | leaves | deletes its row when the last send is settled, which frees all channels at once |
//!
//! A channel without a living node in `lease_node` is free. A channel that is released without a crash is drained first: its
//! task claims nothing more, and the channel is free when the task has ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use recado_domain::channel::{ChannelKey, ChannelType, Epoch};
use recado_store::StoreError;
use recado_store::nodes::{ChannelQuota, NewNode, NodeId};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Parts;
use super::directory_sync::DirectorySync;
use super::sessions::Sessions;

/// How long a node without renewals keeps its channels, by the database's clock.
const LEASE: Duration = Duration::from_secs(10);
/// How much earlier the node stops sending, by its own clock from before the renewal: for different clock speeds, and for a
/// send that has just begun.
const MARGIN: Duration = Duration::from_secs(2);
/// How long a node may send after a renewal.
const VALID: Duration = Duration::from_secs(LEASE.as_secs() - MARGIN.as_secs());
/// The interval of renewals.
const RENEW: Duration = Duration::from_millis(2_500);
/// The wait after a failed renewal.
const RETRY: Duration = Duration::from_millis(500);
/// The interval of rebalancing. With the lease: other nodes acquire the channels of a crashed node within 12 s.
const REBALANCE: Duration = Duration::from_secs(2);
/// After so many rounds a type without a node is reported: nodes start and stop one after another.
const UNSERVED: u32 = 3;

/// How long the last steps of a stop may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// The most channels that one statement releases.
const AT_ONCE: usize = 1_000;
/// Every so many rounds the node acquires deleted channels that still have open messages.
const DELETED: u32 = 5;

/// This node.
pub(super) struct Node {
    shared: Arc<Shared>,
    task: tokio::sync::Mutex<JoinHandle<()>>,
}

struct Shared {
    parts: Arc<Parts>,
    sync: Arc<DirectorySync>,
    sessions: Sessions,
    new: NewNode,
    id: Mutex<Option<NodeId>>,
    rebalance: Notify,
    /// Channels were acquired, and those with work are not woken yet.
    has_new_channels: AtomicBool,
    /// For how many rounds no node has sent for a type that has channels.
    unserved: Mutex<HashMap<ChannelType, u32>>,
    /// The node drains all its channels.
    draining: CancellationToken,
    ended: CancellationToken,
}

impl Node {
    pub fn start(parts: Arc<Parts>, sync: Arc<DirectorySync>, new: NewNode) -> Self {
        let sessions = Sessions::new(parts.clone());
        let (id, rebalance, has_new_channels) = (Mutex::default(), Notify::new(), AtomicBool::new(false));
        let (draining, ended) = (CancellationToken::new(), CancellationToken::new());
        let unserved = Mutex::default();
        let shared = Shared { parts, sync, sessions, new, id, rebalance, has_new_channels, unserved, draining, ended };
        let shared = Arc::new(shared);
        let task = tokio::sync::Mutex::new(tokio::spawn(shared.clone().join_loop()));
        Self { shared, task }
    }

    pub fn id(&self) -> Option<NodeId> {
        self.shared.id()
    }

    /// Whether no node sends for channels of this type, for some rounds.
    pub fn leaves_unserved(&self, kind: ChannelType) -> bool {
        let unserved = self.shared.unserved.lock().unwrap_or_else(PoisonError::into_inner);
        unserved.get(&kind).is_some_and(|rounds| *rounds >= UNSERVED)
    }

    /// Rebalances soon.
    pub fn rebalance_now(&self) {
        self.shared.rebalance.notify_one();
    }

    /// Releases all channels: idle ones at once, the others when what is in flight is settled.
    pub async fn drain(&self) {
        self.shared.draining.cancel();
        self.shared.ended.cancelled().await;
        self.shared.deregister().await;
    }

    /// Releases all channels now: what is in flight is aborted, and the new owners rescue it.
    pub async fn force_release(&self) {
        let mut task = self.task.lock().await;
        task.abort();
        // Wait for the end of the task; the result only says that it was aborted.
        let _ = (&mut *task).await;
        // A session that does not close in time ends with this process.
        drop(tokio::time::timeout(STOP_TIMEOUT, self.shared.drop_all()).await);
        self.shared.deregister().await;
    }
}

impl Shared {
    fn id(&self) -> Option<NodeId> {
        *self.id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_id(&self, id: Option<NodeId>) {
        *self.id.lock().unwrap_or_else(PoisonError::into_inner) = id;
    }

    /// Joins, and joins again after each eviction, until the node drains.
    async fn join_loop(self: Arc<Self>) {
        let _ended = self.ended.clone().drop_guard();
        while !self.draining.is_cancelled() {
            let asked = Instant::now();
            match self.parts.store.join(&self.new, LEASE).await {
                Ok(id) => {
                    self.set_id(Some(id));
                    self.parts.leases.set_valid_until(asked + VALID);
                    self.parts.notifier.free();
                    tracing::info!(node = id, "node joined");
                    self.run(id).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "node join failed; retrying");
                    tokio::select! {
                        () = self.draining.cancelled() => {}
                        () = tokio::time::sleep(RETRY) => {}
                    }
                }
            }
        }
    }

    /// Runs as a joined node, until the node has released everything or is evicted.
    async fn run(self: &Arc<Self>, id: NodeId) {
        tokio::select! {
            () = self.rebalance_loop(id) => return,
            () = self.renew_loop(id) => {}
            () = self.lease_watchdog() => {}
        }
        tracing::error!(node = id, "node lease expired; channels reassigned");
        self.set_id(None);
        self.drop_all().await;
    }

    /// Drops all channels: aborts their tasks and closes their sessions.
    async fn drop_all(&self) {
        let held = self.parts.leases.all();
        self.parts.leases.remove(&held);
        self.parts.dispatcher.drop_all(&held);
        self.sessions.disconnect(&held).await;
    }

    /// Removes this node from the nodes.
    async fn deregister(&self) {
        let Some(id) = self.id() else { return };
        let left = async {
            if let Err(error) = self.parts.store.deregister(id).await {
                tracing::warn!(%error, "channel release failed; other nodes acquire them when the lease expires");
            }
            self.parts.notifier.free();
            self.parts.notifier.flush(&*self.parts.store).await;
        };
        // A database that does not answer must not block the end of the process.
        drop(tokio::time::timeout(STOP_TIMEOUT, left).await);
        self.set_id(None);
    }

    /// Renews the lease, until the node is evicted.
    async fn renew_loop(&self, id: NodeId) {
        let mut wait = RENEW;
        loop {
            tokio::time::sleep(wait).await;
            let asked = Instant::now();
            // An answer after that time comes too late.
            match tokio::time::timeout(VALID, self.parts.store.renew(id, LEASE)).await {
                Ok(Ok(true)) => {
                    self.parts.leases.set_valid_until(asked + VALID);
                    wait = RENEW;
                }
                Ok(Ok(false)) => return,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "lease renewal failed; retrying");
                    wait = RETRY;
                }
                Err(_) => wait = RETRY,
            }
        }
    }

    /// Closes the sessions when the lease expires, before another node may open them, and restores them when the lease is valid
    /// again.
    async fn lease_watchdog(&self) {
        loop {
            self.parts.leases.wait_expired().await;
            tracing::error!("lease may have expired; sending stopped");
            self.sessions.disconnect(&self.parts.leases.all()).await;
            self.parts.leases.wait_valid().await;
            tracing::info!("lease renewed; sending resumed");
            self.sessions.restore(&self.parts.leases.held()).await;
        }
    }

    /// Acquires and releases channels, until the node drains and has released everything.
    async fn rebalance_loop(self: &Arc<Self>, id: NodeId) {
        // Releases run beside the rounds: a send in flight delays only its own channel. They end with this function.
        let mut releases = JoinSet::new();
        // Nodes that were started together rebalance at different moments.
        let jitter = Duration::from_millis(u64::try_from(id % 7).unwrap_or(0) * 50);
        for round in 0_u32.. {
            tokio::select! {
                () = self.draining.cancelled() => break,
                excess = self.rebalance(id, round % DELETED == 0) => match excess {
                    Ok(excess) => self.clone().start_release(&mut releases, id, &excess),
                    Err(error) => tracing::warn!(%error, "channel rebalancing failed; retrying"),
                },
            }
            tokio::select! {
                () = self.draining.cancelled() => break,
                () = self.rebalance.notified() => {}
                () = tokio::time::sleep(REBALANCE + jitter) => {}
            }
            while releases.try_join_next().is_some() {}
        }
        if let Err(error) = self.parts.store.stop_acquiring(id).await {
            tracing::warn!(%error, "channel rebalancing failed; retrying");
        }
        self.clone().start_release(&mut releases, id, &self.parts.leases.held());
        while releases.join_next().await.is_some() {}
    }

    /// Acquires channels up to this node's quotas. Gives the excess.
    async fn rebalance(&self, id: NodeId, deleted: bool) -> Result<Vec<ChannelKey>, StoreError> {
        self.parts.store.nodes(Some(id)).await?;
        let quotas = self.parts.store.quotas(id).await?;
        self.note_unserved(&quotas);
        if quotas.iter().map(|quota| quota.held_with_deleted).sum::<usize>() != self.parts.leases.all().len() {
            // The answer of an earlier statement was lost.
            self.reconcile(id).await?;
        }
        let mut excess = Vec::new();
        for quota in quotas.into_iter().filter(|quota| self.new.types.contains(&quota.kind)) {
            if deleted {
                let acquired = self.parts.store.acquire_deleted(id, quota.kind).await?;
                self.on_acquired(id, &acquired).await?;
            }
            if quota.held < quota.target() {
                let acquired = self.parts.store.acquire(id, quota.kind, quota.target() - quota.held).await?;
                self.on_acquired(id, &acquired).await?;
            } else {
                excess.extend(self.excess(quota));
            }
        }
        self.wake(id).await?;
        self.sessions.restore_pending().await;
        Ok(excess)
    }

    /// Notes the types that have channels and no node, and warns of those that stay so.
    fn note_unserved(&self, quotas: &[ChannelQuota]) {
        let mut unserved = self.unserved.lock().unwrap_or_else(PoisonError::into_inner);
        for quota in quotas {
            if quota.all == 0 || quota.nodes > 0 {
                unserved.remove(&quota.kind);
                continue;
            }
            let rounds = unserved.entry(quota.kind).or_default();
            *rounds = rounds.saturating_add(1);
            if *rounds >= UNSERVED {
                tracing::warn!(kind = quota.kind.name(), "no node sends for a channel type");
            }
        }
    }

    /// Makes the leases in memory equal to those in the database.
    async fn reconcile(&self, id: NodeId) -> Result<(), StoreError> {
        let leases = &self.parts.leases;
        // Read before the query: the result may still contain a channel that is released meanwhile, which is not acquired.
        let known = leases.epochs();
        let stored: HashMap<_, _> = self.parts.store.held(id).await?.into_iter().collect();
        let lost: Vec<_> = leases.all().into_iter().filter(|key| !stored.contains_key(key)).collect();
        leases.remove(&lost);
        self.parts.dispatcher.drop_all(&lost);
        self.sessions.disconnect(&lost).await;
        let acquired = stored.into_iter().filter(|(key, epoch)| known.get(key) != Some(epoch));
        self.on_acquired(id, &acquired.collect::<Vec<_>>()).await
    }

    async fn on_acquired(&self, id: NodeId, acquired: &[(ChannelKey, Epoch)]) -> Result<(), StoreError> {
        if acquired.is_empty() {
            return Ok(());
        }
        tracing::info!(node = id, channels = acquired.len(), "channels acquired");
        // The directory of this node may not have them yet.
        self.sync.refresh().await;
        self.parts.leases.add(acquired);
        self.has_new_channels.store(true, Ordering::Relaxed);
        let keys: Vec<_> = acquired.iter().map(|(key, _)| *key).collect();
        let resends = |key: &&ChannelKey| {
            let entry = self.parts.directory.channel(**key);
            entry.is_some_and(|entry| entry.settings().resend_after().is_some())
        };
        keys.iter().filter(resends).for_each(|key| self.parts.dispatcher.wake(*key));
        // Before the sessions: channels without a session do not wait for them.
        let woken = self.wake(id).await;
        self.sessions.restore(&keys).await;
        woken
    }

    /// Wakes the acquired channels that have work. The next round repeats it after a failure.
    async fn wake(&self, id: NodeId) -> Result<(), StoreError> {
        if self.has_new_channels.load(Ordering::Relaxed) {
            let work = self.parts.store.held_with_work(id, self.parts.clock.now()).await?;
            self.has_new_channels.store(false, Ordering::Relaxed);
            work.into_iter().for_each(|(key, _)| self.parts.dispatcher.wake_if_idle(key));
        }
        Ok(())
    }

    /// The channels that this node holds above its quota, without those that drain.
    fn excess(&self, quota: ChannelQuota) -> Vec<ChannelKey> {
        let counts = |key: &ChannelKey| {
            let entry = self.parts.directory.channel(*key);
            entry.is_some_and(|entry| entry.kind == quota.kind && !entry.is_deleted())
        };
        let mut excess: Vec<_> = self.parts.leases.held().into_iter().filter(counts).collect();
        // Idle channels first. A person waits for a pairing.
        excess.sort_by_cached_key(|key| (self.sessions.is_pairing(*key), self.parts.dispatcher.works_on(*key)));
        excess.truncate(excess.len().saturating_sub(quota.target()));
        excess
    }

    /// Stops claims for these channels, and releases them in the background.
    fn start_release(self: Arc<Self>, releases: &mut JoinSet<()>, id: NodeId, channels: &[ChannelKey]) {
        let draining = self.parts.leases.drain(channels);
        if !draining.is_empty() {
            releases.spawn(async move { self.release_drained(id, draining).await });
        }
    }

    /// Releases channels, each when what is in flight is settled and its session is closed.
    async fn release_drained(&self, id: NodeId, channels: Vec<(ChannelKey, Epoch)>) {
        let idle = |(key, epoch)| async move {
            self.parts.dispatcher.drain_channel(key).await;
            self.sessions.disconnect(&[key]).await;
            (key, epoch)
        };
        let mut idle = channels.into_iter().map(idle).collect::<FuturesUnordered<_>>().ready_chunks(AT_ONCE);
        while let Some(channels) = idle.next().await {
            while let Err(error) = self.parts.store.release(id, &channels).await {
                tracing::warn!(%error, "channel rebalancing failed; retrying");
                if self.draining.is_cancelled() {
                    // The rest is released with the node's row, or when the lease expires.
                    return;
                }
                tokio::time::sleep(RETRY).await;
            }
            tracing::info!(node = id, channels = channels.len(), "channels released");
            // Only now: until then this node is the owner in the database.
            self.parts.leases.released(&channels);
            self.parts.notifier.free();
        }
    }
}
