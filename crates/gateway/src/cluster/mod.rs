//! This process as a node among others on the same store.
//!
//! | File | |
//! |---|---|
//! | `standalone` | the only process of a store |
//! | `sessions` | the WhatsApp Web sessions of the channels that this node owns |
//! | `node` | joins, renews the lease, acquires and releases channels |
//! | `directory_sync` | keys and channels that other nodes changed |

mod directory_sync;
mod node;
mod sessions;
mod standalone;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use recado_domain::channel::{ChannelKey, ChannelType};
use recado_domain::clock::Clock;
use recado_providers::Drivers;
use recado_store::StoreError;
use recado_store::lease::{Leases, Notification, Notifier, WakeReason};
use recado_store::nodes::{ClusterStore, ListenEvent, Member, NewNode, Node as OtherNode, NodeId, SharedQuota};
use secrecy::SecretString;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::directory::Directory;
use crate::dispatch::Dispatcher;
use directory_sync::DirectorySync;
use node::Node;
pub use standalone::Standalone;

/// Notifications that wait to be handled.
const EVENTS: usize = 1_024;
/// The interval of polls for work without a notification.
const POLL: Duration = Duration::from_secs(5);
/// The same while the listening connection is down.
const POLL_DISCONNECTED: Duration = Duration::from_secs(1);
/// Every so many polls check all channels of the node, not only those with new messages.
const FULL_POLL: u32 = 6;
/// How long the last notifications may take; polls find the same work.
const CLOSE: Duration = Duration::from_secs(2);

/// The nodes, as the rest of the gateway sees them.
#[async_trait]
pub trait Nodes: Send + Sync + 'static {
    /// Whether other nodes may exist.
    fn are_shared(&self) -> bool;

    /// The channels that this process owns.
    fn leases(&self) -> &Arc<Leases>;

    /// The rate limits that all nodes share; `None` if this process has its own.
    fn quota(&self) -> Option<&dyn SharedQuota>;

    /// The secret by which nodes recognise forwarded calls.
    fn secret(&self) -> Option<&SecretString>;

    /// Reads the keys and channels that other nodes changed until now.
    async fn refresh(&self) -> Result<(), StoreError>;

    /// The current owner of a channel.
    async fn owner(&self, channel: ChannelKey) -> Result<Owner, StoreError>;

    /// Whether this node does the tasks that one of all nodes has to do.
    async fn is_first(&self) -> Result<bool, StoreError>;

    /// The channels of this process that have open messages.
    async fn open_channels(&self) -> Result<Vec<ChannelKey>, StoreError>;

    /// All nodes; none if this process has the store alone.
    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        Ok(Vec::new())
    }

    /// Whether no node sends for channels of this type, for some seconds already.
    fn leaves_unserved(&self, _: ChannelType) -> bool {
        false
    }

    /// Notifies the nodes that a channel was created.
    fn channel_created(&self);

    /// Joins the nodes.
    fn start(&self, node: NewNode, tasks: &TaskTracker);

    /// Releases all channels: idle ones at once, the others when what is in flight is settled.
    async fn drain(&self);

    /// Aborts what is in flight, as a crash would, and releases all channels.
    async fn force_release(&self);

    /// Sends the last notifications.
    async fn close(&self);
}

/// The owner of a channel.
pub enum Owner {
    /// This process.
    Here,
    /// Another node.
    Other(OtherNode),
    /// No node, or this node in a moment.
    None,
}

/// What a node works with.
pub struct Parts {
    pub store: Arc<dyn ClusterStore>,
    pub leases: Arc<Leases>,
    /// Sends to the other nodes.
    pub notifier: Arc<Notifier>,
    pub directory: Arc<Directory>,
    pub dispatcher: Dispatcher,
    pub drivers: Arc<Drivers>,
    pub clock: Arc<dyn Clock>,
    /// Serialises changes of institutions, keys and channels.
    pub changes: Arc<Mutex<()>>,
    /// Cancelled when the server stops.
    pub stop: CancellationToken,
}

/// This node and the others.
pub struct Cluster {
    parts: Arc<Parts>,
    sync: Arc<DirectorySync>,
    secret: SecretString,
    /// Set by `start`.
    node: Arc<OnceLock<Node>>,
    closed: CancellationToken,
}

impl Cluster {
    /// A node that owns nothing yet. `version` is the last change that the directory has.
    pub fn new(parts: Parts, version: i64, secret: SecretString) -> Self {
        let parts = Arc::new(parts);
        let sync = Arc::new(DirectorySync::new(parts.clone(), version));
        Self { parts, sync, secret, node: Arc::default(), closed: CancellationToken::new() }
    }

    /// This node's number, while it is joined.
    fn node_id(&self) -> Option<NodeId> {
        self.node.get().and_then(Node::id)
    }
}

#[async_trait]
impl Nodes for Cluster {
    fn are_shared(&self) -> bool {
        true
    }

    fn leases(&self) -> &Arc<Leases> {
        &self.parts.leases
    }

    fn quota(&self) -> Option<&dyn SharedQuota> {
        Some(&*self.parts.store)
    }

    fn secret(&self) -> Option<&SecretString> {
        Some(&self.secret)
    }

    async fn refresh(&self) -> Result<(), StoreError> {
        self.sync.try_refresh().await
    }

    async fn owner(&self, channel: ChannelKey) -> Result<Owner, StoreError> {
        if self.parts.leases.epoch(channel).is_some() {
            return Ok(Owner::Here);
        }
        // The row names this node while it acquires or releases the channel.
        let own = self.node_id();
        let other = self.parts.store.owner(channel).await?.filter(|node| Some(node.id) != own);
        Ok(other.map_or(Owner::None, Owner::Other))
    }

    async fn is_first(&self) -> Result<bool, StoreError> {
        let own = self.node_id();
        let nodes = self.parts.store.nodes(own).await?;
        Ok(nodes.first().is_some_and(|node| Some(node.id) == own))
    }

    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        self.parts.store.members().await
    }

    fn leaves_unserved(&self, kind: ChannelType) -> bool {
        self.node.get().is_some_and(|node| node.leaves_unserved(kind))
    }

    async fn open_channels(&self) -> Result<Vec<ChannelKey>, StoreError> {
        let Some(node) = self.node_id() else { return Ok(Vec::new()) };
        let held = self.parts.store.held_with_work(node, self.parts.clock.now()).await?;
        Ok(held.into_iter().map(|(channel, _)| channel).collect())
    }

    fn channel_created(&self) {
        self.parts.notifier.free();
    }

    fn start(&self, node: NewNode, tasks: &TaskTracker) {
        let parts = &self.parts;
        tasks.spawn(parts.notifier.clone().send(parts.store.clone(), self.closed.clone()));
        let (sender, receiver) = mpsc::channel(EVENTS);
        let store = parts.store.clone();
        tasks.spawn(async move { store.listen(sender).await });
        let listener = Listener { parts: parts.clone(), sync: self.sync.clone(), node: self.node.clone() };
        tasks.spawn(listener.run(receiver));
        tasks.spawn(self.sync.clone().refresh_loop());
        self.node.get_or_init(|| Node::start(parts.clone(), self.sync.clone(), node));
    }

    async fn drain(&self) {
        if let Some(node) = self.node.get() {
            node.drain().await;
        }
    }

    async fn force_release(&self) {
        if let Some(node) = self.node.get() {
            node.force_release().await;
        }
    }

    async fn close(&self) {
        self.closed.cancel();
        drop(tokio::time::timeout(CLOSE, self.parts.notifier.flush(&*self.parts.store)).await);
    }
}

/// Handles notifications of other nodes, and polls for work that was not notified.
struct Listener {
    parts: Arc<Parts>,
    sync: Arc<DirectorySync>,
    node: Arc<OnceLock<Node>>,
}

impl Listener {
    async fn run(self, mut events: mpsc::Receiver<ListenEvent>) {
        let mut poll = Poll::default();
        let mut connected = false;
        loop {
            let wait = if connected { POLL } else { POLL_DISCONNECTED };
            tokio::select! {
                () = self.parts.stop.cancelled() => return,
                () = tokio::time::sleep_until(poll.at + wait) => self.poll(&mut poll, connected).await,
                event = events.recv() => match event {
                    None => return,
                    Some(ListenEvent::Disconnected) => connected = false,
                    Some(ListenEvent::Connected) => {
                        connected = true;
                        // Earlier notifications are lost.
                        poll.round = 0;
                        self.poll(&mut poll, connected).await;
                        self.rebalance();
                    }
                    Some(ListenEvent::Payload(text)) => {
                        for notification in Notification::parse(&text) {
                            self.handle(notification).await;
                        }
                    }
                },
            }
        }
    }

    async fn handle(&self, notification: Notification) {
        match notification {
            // All nodes get the notification; the owner acts on it.
            Notification::Work(reason, channels) => self.wake_held(channels, reason),
            Notification::Changed => self.sync.refresh().await,
            Notification::Free => self.rebalance(),
        }
    }

    fn wake_held(&self, channels: Vec<ChannelKey>, reason: WakeReason) {
        let held = channels.into_iter().filter(|channel| self.parts.leases.epoch(*channel).is_some());
        held.for_each(|channel| self.parts.dispatcher.notify(channel, reason));
    }

    async fn poll(&self, poll: &mut Poll, connected: bool) {
        poll.at = tokio::time::Instant::now();
        let parts = &self.parts;
        if let Some(id) = self.node.get().and_then(Node::id)
            && (poll.round == 0 || !connected)
            && let Ok(channels) = parts.store.held_with_work(id, parts.clock.now()).await
        {
            for (channel, sends) in channels {
                if sends && poll.round == 0 {
                    // The task may sleep because the notification of a resume was lost.
                    parts.dispatcher.wake(channel);
                } else {
                    parts.dispatcher.wake_if_idle(channel);
                }
            }
        }
        poll.round = (poll.round + 1) % FULL_POLL;
        if let Ok((channels, newest)) = parts.store.new_work_since(poll.seen[0]).await {
            self.wake_held(channels, WakeReason::Accepted);
            poll.seen = [poll.seen[1].min(newest), newest];
        }
    }

    fn rebalance(&self) {
        if let Some(node) = self.node.get() {
            node.rebalance_now();
        }
    }
}

/// The state of the polls, which find the work of a node that crashed between its commit and its notification.
struct Poll {
    at: tokio::time::Instant,
    /// The highest `seq` of the last two polls. A poll reads from the older one, because rows are not committed in the order of
    /// `seq`.
    seen: [i64; 2],
    round: u32,
}

impl Default for Poll {
    fn default() -> Self {
        Self { at: tokio::time::Instant::now(), seen: [i64::MAX; 2], round: 0 }
    }
}
