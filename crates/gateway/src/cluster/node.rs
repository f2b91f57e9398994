//! This node's place among the others: it joins, renews, takes its share of the channels and gives back what is over it.
//!
//! | | |
//! |---|---|
//! | joins | inserts a row with a lease of 10 s; again until it works, and anew after its lease expired |
//! | renews | every 2.5 s, by one row for all its channels |
//! | rebalances | every 2 s and when notified: deletes expired nodes, reads the quotas, acquires free channels, releases the excess |
//! | watches | after 8 s without a renewal, by its own clock: no send begins and lines are closed; they are opened when the lease is valid again |
//! | leaves | deletes its row when the last send is settled, which frees all channels at once |
//!
//! A channel without a living node in `lease_node` is free. A channel that moves in peace is drained first: its task claims
//! nothing more, and the channel is free when the task has ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use recado_domain::channel::{ChannelKey, Epoch};
use recado_store::StoreError;
use recado_store::nodes::{NewNode, NodeId, Share};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Parts;
use super::changes::Changes;
use super::lines::Lines;

/// How long a node that says nothing keeps its channels, by the database's clock.
const LEASE: Duration = Duration::from_secs(10);
/// What a node stops before that, by its own clock from before it asked for the renewal: for clocks that run apart, and
/// for a send that has just begun.
const MARGIN: Duration = Duration::from_secs(2);
/// So long a node is sure of what it holds.
const SURE: Duration = Duration::from_secs(LEASE.as_secs() - MARGIN.as_secs());
/// How often it renews.
const RENEW: Duration = Duration::from_millis(2_500);
/// The wait before a renewal is tried again that failed.
const RETRY: Duration = Duration::from_millis(500);
/// How often it looks whether the channels are spread fairly. With the lease: what a lost node held is taken within 12 s.
const BALANCE: Duration = Duration::from_secs(2);

/// How long leaving may take that comes in a hurry.
const HURRY: Duration = Duration::from_secs(3);
/// Channels that are given back by one statement at most.
const AT_ONCE: usize = 1_000;
/// At each of so many looks, channels are looked for that were deleted with messages which nobody has ended.
const DELETED: u32 = 5;

/// This node.
pub(super) struct Node {
    shared: Arc<Shared>,
    task: tokio::sync::Mutex<JoinHandle<()>>,
}

struct Shared {
    parts: Arc<Parts>,
    changes: Arc<Changes>,
    lines: Lines,
    new: NewNode,
    id: Mutex<Option<NodeId>>,
    balance: Notify,
    /// Channels were taken, and it was not asked yet which of them have work.
    has_news: AtomicBool,
    /// All is given back.
    leaving: CancellationToken,
    ended: CancellationToken,
}

impl Node {
    pub fn start(parts: Arc<Parts>, changes: Arc<Changes>, new: NewNode) -> Self {
        let lines = Lines::new(parts.clone());
        let (id, balance, has_news) = (Mutex::default(), Notify::new(), AtomicBool::new(false));
        let (leaving, ended) = (CancellationToken::new(), CancellationToken::new());
        let shared = Arc::new(Shared { parts, changes, lines, new, id, balance, has_news, leaving, ended });
        let task = tokio::sync::Mutex::new(tokio::spawn(shared.clone().live()));
        Self { shared, task }
    }

    pub fn id(&self) -> Option<NodeId> {
        self.shared.id()
    }

    /// Looks soon whether the channels are spread fairly.
    pub fn balance_now(&self) {
        self.shared.balance.notify_one();
    }

    /// Gives all back: what has nothing in hand at once, and the rest as soon as that is sent and recorded.
    pub async fn leave(&self) {
        self.shared.leaving.cancel();
        self.shared.ended.cancelled().await;
        self.shared.leave().await;
    }

    /// The same in a hurry: what is in hand is broken off, and left to whoever takes the channel.
    pub async fn abandon(&self) {
        let mut task = self.task.lock().await;
        task.abort();
        // Nothing of it goes on; that it was broken off is all that it says.
        let _ = (&mut *task).await;
        // A line that does not close in time ends with this process.
        drop(tokio::time::timeout(HURRY, self.shared.break_off()).await);
        self.shared.leave().await;
    }
}

impl Shared {
    fn id(&self) -> Option<NodeId> {
        *self.id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_id(&self, id: Option<NodeId>) {
        *self.id.lock().unwrap_or_else(PoisonError::into_inner) = id;
    }

    /// Joins again and again, until it leaves.
    async fn live(self: Arc<Self>) {
        let _ended = self.ended.clone().drop_guard();
        while !self.leaving.is_cancelled() {
            let asked = Instant::now();
            match self.parts.store.join(&self.new, LEASE).await {
                Ok(id) => {
                    self.set_id(Some(id));
                    self.parts.leases.sure(asked + SURE);
                    self.parts.notices.free();
                    tracing::info!(node = id, "node joined");
                    self.member(id).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "node join failed; retrying");
                    tokio::select! {
                        () = self.leaving.cancelled() => {}
                        () = tokio::time::sleep(RETRY) => {}
                    }
                }
            }
        }
    }

    /// Is one of the nodes, until it has given all back or is taken for dead.
    async fn member(self: &Arc<Self>, id: NodeId) {
        tokio::select! {
            () = self.balances(id) => return,
            () = self.renews(id) => {}
            () = self.watches() => {}
        }
        // Nothing that it held is its own any more.
        tracing::error!(node = id, "node lease expired; channels reassigned");
        self.set_id(None);
        self.break_off().await;
    }

    /// Has nothing in hand any more.
    async fn break_off(&self) {
        let held = self.parts.leases.all();
        self.parts.leases.remove(&held);
        self.parts.dispatcher.drop_all(&held);
        self.lines.put_down(&held).await;
    }

    /// Is no node any more.
    async fn leave(&self) {
        let Some(id) = self.id() else { return };
        let left = async {
            if let Err(error) = self.parts.store.leave(id).await {
                tracing::warn!(%error, "channel release failed; other nodes acquire them when the lease expires");
            }
            self.parts.notices.free();
            self.parts.notices.flush(&*self.parts.store).await;
        };
        // A database that is silent just now must not keep the process from its end.
        drop(tokio::time::timeout(HURRY, left).await);
        self.set_id(None);
    }

    /// Renews, until it is taken for dead.
    async fn renews(&self, id: NodeId) {
        let mut wait = RENEW;
        loop {
            tokio::time::sleep(wait).await;
            let asked = Instant::now();
            // A renewal whose answer takes longer than that is worth nothing.
            match tokio::time::timeout(SURE, self.parts.store.renew(id, LEASE)).await {
                Ok(Ok(true)) => {
                    self.parts.leases.sure(asked + SURE);
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

    /// Puts the lines down before another node may open them, and takes them up again when it is sure that none has.
    async fn watches(&self) {
        loop {
            self.parts.leases.until_unsure().await;
            tracing::error!("lease may have expired; sending stopped");
            self.lines.put_down(&self.parts.leases.all()).await;
            self.parts.leases.until_sure().await;
            tracing::info!("lease renewed; sending resumed");
            self.lines.take_up(&self.parts.leases.held()).await;
        }
    }

    /// Takes and gives back, until this node leaves and has given everything back.
    async fn balances(self: &Arc<Self>, id: NodeId) {
        // Beside the looks: a send in hand may take its time, and no other channel waits for it. They end with this.
        let mut hand_overs = JoinSet::new();
        // Nodes that were started together look at different moments.
        let jitter = Duration::from_millis(u64::try_from(id % 7).unwrap_or(0) * 50);
        for look in 0_u32.. {
            tokio::select! {
                () = self.leaving.cancelled() => break,
                looked = self.balance(id, look % DELETED == 0) => match looked {
                    Ok(surplus) => self.clone().start_hand_over(&mut hand_overs, id, &surplus),
                    Err(error) => tracing::warn!(%error, "channel rebalancing failed; retrying"),
                },
            }
            tokio::select! {
                () = self.leaving.cancelled() => break,
                () = self.balance.notified() => {}
                () = tokio::time::sleep(BALANCE + jitter) => {}
            }
            while hand_overs.try_join_next().is_some() {}
        }
        if let Err(error) = self.parts.store.retire(id).await {
            tracing::warn!(%error, "channel rebalancing failed; retrying");
        }
        self.clone().start_hand_over(&mut hand_overs, id, &self.parts.leases.held());
        while hand_overs.join_next().await.is_some() {}
    }

    /// Takes what is missing of this node's share, and gives what is over it.
    async fn balance(&self, id: NodeId, deleted: bool) -> Result<Vec<ChannelKey>, StoreError> {
        self.parts.store.nodes(Some(id)).await?;
        let shares = self.parts.store.shares(id).await?;
        if shares.iter().map(|share| share.held).sum::<usize>() != self.parts.leases.all().len() {
            // An answer was lost.
            self.reconcile(id).await?;
        }
        let mut surplus = Vec::new();
        for share in shares.into_iter().filter(|share| self.new.types.contains(&share.kind)) {
            if deleted {
                let gained = self.parts.store.take_deleted(id, share.kind).await?;
                self.gained(id, &gained).await?;
            }
            if share.mine < share.fair() {
                let gained = self.parts.store.take(id, share.kind, share.fair() - share.mine).await?;
                self.gained(id, &gained).await?;
            } else {
                surplus.extend(self.surplus(share));
            }
        }
        self.wake(id).await?;
        self.lines.raise().await;
        Ok(surplus)
    }

    /// What the database says that this node holds is what it holds.
    async fn reconcile(&self, id: NodeId) -> Result<(), StoreError> {
        let leases = &self.parts.leases;
        // Before the question: what is given back while it is asked may still be in the answer, and is not gained by that.
        let known = leases.epochs();
        let told: HashMap<_, _> = self.parts.store.held(id).await?.into_iter().collect();
        let lost: Vec<_> = leases.all().into_iter().filter(|key| !told.contains_key(key)).collect();
        leases.remove(&lost);
        self.parts.dispatcher.drop_all(&lost);
        self.lines.put_down(&lost).await;
        let gained = told.into_iter().filter(|(key, epoch)| known.get(key) != Some(epoch));
        self.gained(id, &gained.collect::<Vec<_>>()).await
    }

    async fn gained(&self, id: NodeId, gained: &[(ChannelKey, Epoch)]) -> Result<(), StoreError> {
        if gained.is_empty() {
            return Ok(());
        }
        tracing::info!(node = id, channels = gained.len(), "channels acquired");
        // They may be newer than what this node knows.
        self.changes.take().await;
        self.parts.leases.add(gained);
        self.has_news.store(true, Ordering::Relaxed);
        let keys: Vec<_> = gained.iter().map(|(key, _)| *key).collect();
        let resends = |key: &&ChannelKey| {
            let entry = self.parts.directory.channel(**key);
            entry.is_some_and(|entry| entry.settings().resend_after().is_some())
        };
        keys.iter().filter(resends).for_each(|key| self.parts.dispatcher.wake(*key));
        // Before lines: channels that have none are not to wait for them.
        let woken = self.wake(id).await;
        self.lines.take_up(&keys).await;
        woken
    }

    /// Wakes the channels that came with work. What fails is done by the next look.
    async fn wake(&self, id: NodeId) -> Result<(), StoreError> {
        if self.has_news.load(Ordering::Relaxed) {
            let work = self.parts.store.held_with_work(id, self.parts.clock.now()).await?;
            self.has_news.store(false, Ordering::Relaxed);
            work.into_iter().for_each(|(key, _)| self.parts.dispatcher.wake_if_idle(key));
        }
        Ok(())
    }

    /// What this node holds over its share, beside what it is already giving back.
    fn surplus(&self, share: Share) -> Vec<ChannelKey> {
        let counts = |key: &ChannelKey| {
            let entry = self.parts.directory.channel(*key);
            entry.is_some_and(|entry| entry.kind == share.kind && !entry.is_deleted())
        };
        let mut surplus: Vec<_> = self.parts.leases.held().into_iter().filter(counts).collect();
        // Those without work first: nobody waits for them. A person waits for one that is just being linked.
        surplus.sort_by_cached_key(|key| (self.lines.is_being_linked(*key), self.parts.dispatcher.works_on(*key)));
        surplus.truncate(surplus.len().saturating_sub(share.fair()));
        surplus
    }

    /// From now on these are not claimed; they are given back beside the looks.
    fn start_hand_over(self: Arc<Self>, hand_overs: &mut JoinSet<()>, id: NodeId, channels: &[ChannelKey]) {
        let leaving = self.parts.leases.leave(channels);
        if !leaving.is_empty() {
            hand_overs.spawn(async move { self.hand_over(id, leaving).await });
        }
    }

    /// Gives channels back, each as soon as what is in hand is sent and recorded. Lines are closed here before they are
    /// opened there.
    async fn hand_over(&self, id: NodeId, channels: Vec<(ChannelKey, Epoch)>) {
        let idle = |(key, epoch)| async move {
            self.parts.dispatcher.let_go(key).await;
            self.lines.put_down(&[key]).await;
            (key, epoch)
        };
        let mut idle = channels.into_iter().map(idle).collect::<FuturesUnordered<_>>().ready_chunks(AT_ONCE);
        while let Some(channels) = idle.next().await {
            while let Err(error) = self.parts.store.give_back(id, &channels).await {
                tracing::warn!(%error, "channel rebalancing failed; retrying");
                if self.leaving.is_cancelled() {
                    // All that is left is given back with the node's row, or when its lease ends.
                    return;
                }
                tokio::time::sleep(RETRY).await;
            }
            tracing::info!(node = id, channels = channels.len(), "channels released");
            // Only now: until then the database has them as this node's.
            self.parts.leases.left(&channels);
            self.parts.notices.free();
        }
    }
}
