//! This node's place among the others: it joins, renews, takes its share of the channels and gives back what is over it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use recado_domain::channel::ChannelType;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Cluster, changes};
use crate::gateway::Gateway;
use crate::provider::Via;
use crate::store::postgres::{NewNode, NodeId, Share};
use crate::store::rows::{ChannelKey, Epoch, StoreError};

/// How long a node that says nothing keeps its channels, by the database's clock.
const LEASE: Duration = Duration::from_secs(10);
/// What a node stops before that, by its own clock from before it asked for the renewal: for clocks that run apart, and
/// for a send that has just begun.
const MARGIN: Duration = Duration::from_secs(2);
/// How often it renews.
const RENEW: Duration = Duration::from_millis(2_500);
/// The wait before a renewal is tried again that failed.
const RETRY: Duration = Duration::from_millis(500);
/// How often it looks whether the channels are spread fairly. With the lease: what a lost node held is taken within 12 s.
const BALANCE: Duration = Duration::from_secs(2);

/// This node.
pub(super) struct Node {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    gateway: Arc<Gateway>,
    cluster: Arc<Cluster>,
    new: NewNode,
    id: Mutex<Option<NodeId>>,
    balance: Notify,
    stop: CancellationToken,
}

impl Node {
    pub fn start(gateway: Arc<Gateway>, cluster: Arc<Cluster>, new: NewNode) -> Self {
        let (id, balance, stop) = (Mutex::default(), Notify::new(), CancellationToken::new());
        let shared = Arc::new(Shared { gateway, cluster, new, id, balance, stop });
        let task = tokio::spawn(shared.clone().live());
        Self { shared, task }
    }

    pub fn id(&self) -> Option<NodeId> {
        self.shared.id()
    }

    /// Looks soon whether the channels are spread fairly.
    pub fn balance_now(&self) {
        self.shared.balance.notify_one();
    }

    /// Gives all back.
    pub async fn leave(self) {
        self.shared.stop.cancel();
        drop(self.task.await);
        let Some(id) = self.shared.id() else { return };
        if let Err(error) = self.shared.cluster.store.leave(id).await {
            tracing::warn!(%error, "channels could not be given back; other nodes take them when the lease ends");
        }
        self.shared.cluster.notices.free();
        self.shared.cluster.close().await;
    }
}

impl Shared {
    fn id(&self) -> Option<NodeId> {
        *self.id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_id(&self, id: Option<NodeId>) {
        *self.id.lock().unwrap_or_else(PoisonError::into_inner) = id;
    }

    /// Joins again and again, until it is stopped.
    async fn live(self: Arc<Self>) {
        while !self.stop.is_cancelled() {
            let asked = Instant::now();
            match self.cluster.store.join(&self.new, LEASE).await {
                Ok(id) => {
                    self.set_id(Some(id));
                    self.cluster.leases.sure(asked + LEASE - MARGIN);
                    self.cluster.notices.free();
                    tracing::info!(node = id, "joined the nodes");
                    self.member(id).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "the nodes cannot be joined");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Is one of the nodes, until it is stopped or taken for dead.
    async fn member(self: &Arc<Self>, id: NodeId) {
        let renews = self.renews(id);
        let balances = self.balances(id);
        let watches = self.watches();
        tokio::select! {
            () = self.stop.cancelled() => return,
            () = renews => {}
            () = balances => {}
            () = watches => {}
        }
        // Nothing that it held is its own any more.
        tracing::error!(node = id, "taken for dead by the others: what this node held is theirs now");
        self.set_id(None);
        let held = self.cluster.leases.all();
        self.cluster.leases.remove(&held);
        self.gateway.dispatcher.drop_all(&held);
        self.put_down(&held).await;
    }

    /// Renews, until it is taken for dead.
    async fn renews(&self, id: NodeId) {
        let mut wait = RENEW;
        loop {
            tokio::time::sleep(wait).await;
            let asked = Instant::now();
            // A renewal whose answer takes longer than that is worth nothing.
            match tokio::time::timeout(LEASE - MARGIN, self.cluster.store.renew(id, LEASE)).await {
                Ok(Ok(true)) => {
                    self.cluster.leases.sure(asked + LEASE - MARGIN);
                    wait = RENEW;
                }
                Ok(Ok(false)) => return,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the lease could not be renewed");
                    wait = RETRY;
                }
                Err(_) => wait = RETRY,
            }
        }
    }

    /// Puts the lines down before another node may open them, and takes them up again when it is sure that none has.
    async fn watches(&self) {
        loop {
            self.cluster.leases.until_unsure().await;
            tracing::error!("the lease may have ended: nothing is sent until the database answers");
            let held = self.cluster.leases.held();
            self.put_down(&held).await;
            self.cluster.leases.until_sure().await;
            tracing::info!("the lease is renewed: sending goes on");
            self.take_up(&self.cluster.leases.held()).await;
        }
    }

    async fn balances(&self, id: NodeId) {
        loop {
            match self.balance(id).await {
                Ok(()) => {}
                Err(error) => tracing::warn!(%error, "channels could not be taken or given back"),
            }
            // Nodes that were started together look at different moments.
            let jitter = Duration::from_millis(u64::try_from(id % 7).unwrap_or(0) * 50);
            tokio::select! {
                () = self.balance.notified() => {}
                () = tokio::time::sleep(BALANCE + jitter) => {}
            }
        }
    }

    /// Takes and gives back, until this node has its share.
    async fn balance(&self, id: NodeId) -> Result<(), StoreError> {
        self.cluster.store.nodes(Some(id)).await?;
        let shares = self.cluster.store.shares(id).await?;
        if shares.iter().map(|share| share.held).sum::<usize>() != self.cluster.leases.all().len() {
            // An answer was lost.
            self.reconcile(id).await?;
        }
        for share in shares.into_iter().filter(|share| self.new.types.contains(&share.kind)) {
            if share.mine > share.fair() {
                self.give_back(id, share).await?;
            } else if share.mine < share.fair() {
                let gained = self.cluster.store.take(id, share.kind, share.fair() - share.mine).await?;
                self.gained(id, &gained).await?;
            }
        }
        Ok(())
    }

    /// What the database says that this node holds is what it holds.
    async fn reconcile(&self, id: NodeId) -> Result<(), StoreError> {
        let leases = &self.cluster.leases;
        let told = self.cluster.store.held(id).await?;
        let known: HashSet<_> = told.iter().map(|(key, _)| *key).collect();
        let lost: Vec<_> = leases.all().into_iter().filter(|key| !known.contains(key)).collect();
        leases.remove(&lost);
        self.gateway.dispatcher.drop_all(&lost);
        self.put_down(&lost).await;
        let gained: Vec<_> = told.into_iter().filter(|(key, epoch)| leases.epoch(*key) != Some(*epoch)).collect();
        self.gained(id, &gained).await
    }

    async fn gained(&self, id: NodeId, gained: &[(ChannelKey, Epoch)]) -> Result<(), StoreError> {
        if gained.is_empty() {
            return Ok(());
        }
        tracing::info!(node = id, channels = gained.len(), "channels taken");
        // They may be newer than what this node knows.
        changes::take(&self.gateway).await;
        self.cluster.leases.add(gained);
        let keys: Vec<_> = gained.iter().map(|(key, _)| *key).collect();
        self.take_up(&keys).await;
        let resends = |key: &&ChannelKey| {
            let entry = self.gateway.directory.channel(**key);
            entry.is_some_and(|entry| entry.settings().resend_after().is_some())
        };
        keys.iter().filter(resends).for_each(|key| self.gateway.dispatcher.wake(*key));
        let work = self.cluster.store.held_with_work(id).await?;
        work.into_iter().for_each(|key| self.gateway.dispatcher.wake_if_idle(key));
        Ok(())
    }

    async fn give_back(&self, id: NodeId, share: Share) -> Result<(), StoreError> {
        let directory = &self.gateway.directory;
        let kind = |key: &ChannelKey| directory.channel(*key).map(|entry| entry.kind);
        let mut surplus: Vec<_> =
            self.cluster.leases.held().into_iter().filter(|key| kind(key) == Some(share.kind)).collect();
        // Those without work first: nobody waits for them. A person waits for one that is just being linked.
        surplus.sort_by_key(|key| (self.is_being_linked(*key), self.gateway.dispatcher.works_on(*key)));
        surplus.truncate(share.mine - share.fair());
        tracing::info!(node = id, channels = surplus.len(), "channels given back");
        self.cluster.leases.leave(&surplus);
        // What is in hand is sent and settled first, and lines are closed here before they are opened there.
        join_all(surplus.iter().map(|key| self.gateway.dispatcher.let_go(*key))).await;
        self.put_down(&surplus).await;
        self.cluster.leases.remove(&surplus);
        self.cluster.store.give_back(id, surplus).await?;
        self.cluster.notices.free();
        Ok(())
    }

    fn is_being_linked(&self, channel: ChannelKey) -> bool {
        let web = self.gateway.providers.whatsapp_web();
        web.is_some_and(|web| !web.pairing(channel).borrow().is_over())
    }

    fn lines(&self, channels: &[ChannelKey]) -> Vec<Via> {
        let entries = channels.iter().filter_map(|key| self.gateway.directory.channel(*key));
        entries.filter(|entry| entry.kind == ChannelType::WhatsAppWeb).map(|entry| entry.via.clone()).collect()
    }

    async fn put_down(&self, channels: &[ChannelKey]) {
        if let Some(web) = self.gateway.providers.whatsapp_web() {
            join_all(self.lines(channels).iter().map(|via| web.disconnect(via.key))).await;
        }
    }

    async fn take_up(&self, channels: &[ChannelKey]) {
        let Some(web) = self.gateway.providers.whatsapp_web() else { return };
        for via in self.lines(channels) {
            if let Err(error) = web.take_up(&via).await {
                tracing::warn!(channel.id = %via.id, %error, "a line could not be taken up");
            }
        }
    }
}
