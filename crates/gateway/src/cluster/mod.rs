//! One node among others on the same store: which channels it holds, what it hears of the others and tells them.
//!
//! | File | |
//! |---|---|
//! | `standalone` | a process that has the store to itself |
//! | `lines` | the lines of the channels that this node holds |
//! | `node` | joins, renews, takes and gives back channels |
//! | `changes` | keys and channels that other nodes changed |

mod changes;
mod lines;
mod node;
mod standalone;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use recado_domain::channel::ChannelKey;
use recado_domain::clock::Clock;
use recado_providers::Providers;
use recado_providers::cloud_api::StoredLinks;
use recado_store::StoreError;
use recado_store::lease::{Leases, Notice, Notices, WakeReason};
use recado_store::nodes::{ClusterStore, Heard, NewNode, Node as OtherNode, NodeId, SharedQuota};
use secrecy::SecretString;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::directory::Directory;
use crate::dispatch::Dispatcher;
use changes::Changes;
use node::Node;
pub use standalone::Standalone;

/// What was heard and not yet acted on.
const HEARD: usize = 1_024;
/// How often a node looks by itself for what nobody told it.
const LOOK: Duration = Duration::from_secs(5);
/// The same while it hears nothing.
const LOOK_DEAF: Duration = Duration::from_secs(1);
/// At each of so many looks all held channels are looked at, and not only what came lately.
const THOROUGH: u32 = 6;
/// How long the last notices may take; what they would say is found without them.
const CLOSE: Duration = Duration::from_secs(2);

/// The other nodes, as the rest of the gateway sees them.
#[async_trait]
pub trait Nodes: Send + Sync + 'static {
    /// Whether there may be others.
    fn are_shared(&self) -> bool;

    /// Which channels this process holds.
    fn leases(&self) -> &Arc<Leases>;

    /// The limits from which all nodes draw; `None` where each process has its own.
    fn quota(&self) -> Option<&dyn SharedQuota>;

    /// What nodes show each other on the calls that they hand on.
    fn secret(&self) -> Option<&SecretString>;

    /// Takes over the keys and channels that other nodes changed until now.
    async fn refresh(&self) -> Result<(), StoreError>;

    /// Who holds a channel now.
    async fn holder(&self, channel: ChannelKey) -> Result<Holder, StoreError>;

    /// Whether this node does what one of all nodes has to do.
    async fn is_first(&self) -> Result<bool, StoreError>;

    /// The channels of this process that have open messages.
    async fn open_channels(&self) -> Result<Vec<ChannelKey>, StoreError>;

    /// A channel was created: some node takes it.
    fn channel_created(&self);

    /// Makes this process a node.
    fn start(&self, node: NewNode, tasks: &TaskTracker);

    /// Gives everything back: what has nothing in hand at once, and the rest as soon as that is sent and recorded.
    async fn leave(&self);

    /// Gives everything back that is left, and breaks off what is in hand, as a crash would.
    async fn abandon(&self);

    /// Tells what was not told yet, and then nothing more.
    async fn close(&self);
}

/// Who holds a channel.
pub enum Holder {
    /// This process.
    Here,
    /// Another node.
    There(OtherNode),
    /// Nobody, or this node in a moment.
    Nobody,
}

/// What a node works with.
pub struct Parts {
    pub store: Arc<dyn ClusterStore>,
    pub leases: Arc<Leases>,
    /// What is to be told to other nodes.
    pub notices: Arc<Notices>,
    pub directory: Arc<Directory>,
    pub dispatcher: Dispatcher,
    pub providers: Arc<Providers>,
    pub links: StoredLinks,
    pub clock: Arc<dyn Clock>,
    /// Institutions, keys and channels are changed by one at a time.
    pub changes: Arc<Mutex<()>>,
    /// The server is about to end.
    pub stop: CancellationToken,
}

/// This node and the others.
pub struct Cluster {
    parts: Arc<Parts>,
    changes: Arc<Changes>,
    secret: SecretString,
    /// This node, from its start on.
    node: Arc<OnceLock<Node>>,
    closed: CancellationToken,
}

impl Cluster {
    /// A node that holds nothing yet. `version` is the number of the last change that the directory has.
    pub fn new(parts: Parts, version: i64, secret: SecretString) -> Self {
        let parts = Arc::new(parts);
        let changes = Arc::new(Changes::new(parts.clone(), version));
        Self { parts, changes, secret, node: Arc::default(), closed: CancellationToken::new() }
    }

    /// This node's number, while it is one of the nodes.
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
        self.changes.try_take().await
    }

    async fn holder(&self, channel: ChannelKey) -> Result<Holder, StoreError> {
        if self.parts.leases.epoch(channel).is_some() {
            return Ok(Holder::Here);
        }
        // This node itself, where it has just taken the channel, or gives it back.
        let own = self.node_id();
        let other = self.parts.store.holder(channel).await?.filter(|node| Some(node.id) != own);
        Ok(other.map_or(Holder::Nobody, Holder::There))
    }

    async fn is_first(&self) -> Result<bool, StoreError> {
        let own = self.node_id();
        let nodes = self.parts.store.nodes(own).await?;
        Ok(nodes.first().is_some_and(|node| Some(node.id) == own))
    }

    async fn open_channels(&self) -> Result<Vec<ChannelKey>, StoreError> {
        let Some(node) = self.node_id() else { return Ok(Vec::new()) };
        let held = self.parts.store.held_with_work(node, self.parts.clock.now()).await?;
        Ok(held.into_iter().map(|(channel, _)| channel).collect())
    }

    fn channel_created(&self) {
        self.parts.notices.free();
    }

    fn start(&self, node: NewNode, tasks: &TaskTracker) {
        let parts = &self.parts;
        tasks.spawn(parts.notices.clone().send(parts.store.clone(), self.closed.clone()));
        let (sender, receiver) = mpsc::channel(HEARD);
        let store = parts.store.clone();
        tasks.spawn(async move { store.listen(sender).await });
        let listener = Listener { parts: parts.clone(), changes: self.changes.clone(), node: self.node.clone() };
        tasks.spawn(listener.hear(receiver));
        tasks.spawn(self.changes.clone().follow());
        self.node.get_or_init(|| Node::start(parts.clone(), self.changes.clone(), node));
    }

    async fn leave(&self) {
        if let Some(node) = self.node.get() {
            node.leave().await;
        }
    }

    async fn abandon(&self) {
        if let Some(node) = self.node.get() {
            node.abandon().await;
        }
    }

    async fn close(&self) {
        self.closed.cancel();
        drop(tokio::time::timeout(CLOSE, self.parts.notices.flush(&*self.parts.store)).await);
    }
}

/// Acts on what other nodes tell, and looks by itself now and then.
struct Listener {
    parts: Arc<Parts>,
    changes: Arc<Changes>,
    node: Arc<OnceLock<Node>>,
}

impl Listener {
    async fn hear(self, mut notices: mpsc::Receiver<Heard>) {
        let mut look = Look::default();
        let mut hears = false;
        loop {
            let wait = if hears { LOOK } else { LOOK_DEAF };
            tokio::select! {
                () = self.parts.stop.cancelled() => return,
                () = tokio::time::sleep_until(look.at + wait) => self.look(&mut look, hears).await,
                said = notices.recv() => match said {
                    None => return,
                    Some(Heard::End) => hears = false,
                    Some(Heard::Begin) => {
                        hears = true;
                        // What was said before is lost.
                        look.thorough = 0;
                        self.look(&mut look, hears).await;
                        self.balance();
                    }
                    Some(Heard::Text(text)) => {
                        for notice in Notice::parse(&text) {
                            self.act_on(notice).await;
                        }
                    }
                },
            }
        }
    }

    async fn act_on(&self, notice: Notice) {
        match notice {
            // Whoever holds a channel heard of it as well.
            Notice::Work(reason, channels) => self.wake_held(channels, reason),
            Notice::Changed => self.changes.take().await,
            Notice::Free => self.balance(),
        }
    }

    fn wake_held(&self, channels: Vec<ChannelKey>, reason: WakeReason) {
        let held = channels.into_iter().filter(|channel| self.parts.leases.epoch(*channel).is_some());
        held.for_each(|channel| self.parts.dispatcher.tell(channel, reason));
    }

    async fn look(&self, look: &mut Look, hears: bool) {
        look.at = tokio::time::Instant::now();
        let parts = &self.parts;
        if let Some(id) = self.node.get().and_then(Node::id)
            && (look.thorough == 0 || !hears)
            && let Ok(channels) = parts.store.held_with_work(id, parts.clock.now()).await
        {
            for (channel, sends) in channels {
                if sends && look.thorough == 0 {
                    // Its task may sleep, because nobody told it that a pause has ended.
                    parts.dispatcher.wake(channel);
                } else {
                    parts.dispatcher.wake_if_idle(channel);
                }
            }
        }
        look.thorough = (look.thorough + 1) % THOROUGH;
        if let Ok((channels, newest)) = parts.store.fresh_since(look.seen[0]).await {
            self.wake_held(channels, WakeReason::Accepted);
            look.seen = [look.seen[1].min(newest), newest];
        }
    }

    fn balance(&self) {
        if let Some(node) = self.node.get() {
            node.balance_now();
        }
    }
}

/// The safety net under the notices: a node that died between its commit and its notice told nobody.
struct Look {
    at: tokio::time::Instant,
    /// Everything that came behind this was looked at; an older look, because numbers are committed out of their order.
    seen: [i64; 2],
    thorough: u32,
}

impl Default for Look {
    fn default() -> Self {
        Self { at: tokio::time::Instant::now(), seen: [i64::MAX; 2], thorough: 0 }
    }
}
