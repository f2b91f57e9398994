//! One node among others on the same PostgreSQL: which channels it holds, what it hears of the others and tells them.
//!
//! | File | |
//! |---|---|
//! | `leases` | which channels this node holds, and whether it can be sure of it |
//! | `lines` | the lines of those channels |
//! | `node` | joins, renews, takes and gives back channels |
//! | `changes` | keys and channels that other nodes changed |
//! | `notices` | what nodes tell each other |

pub mod changes;
pub mod leases;
mod lines;
mod node;
pub mod notices;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use recado_store::StoreError;
use recado_store::postgres::{Heard, NewNode, NodeId, PgStore, listen};
use secrecy::SecretString;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dispatch::News;
use crate::gateway::Gateway;
use leases::Leases;
use node::Node;
use notices::{Notice, Notices};

/// What was heard and not yet acted on.
const HEARD: usize = 1_024;
/// How often a node looks by itself for what nobody told it.
const LOOK: Duration = Duration::from_secs(5);
/// The same while it hears nothing.
const LOOK_DEAF: Duration = Duration::from_secs(1);
/// At each of so many looks all held channels are looked at, and not only what came lately.
const THOROUGH: u32 = 6;
/// How often keys and channels are asked for by themselves: a key that is revoked elsewhere is refused here within a second.
const CHANGES: Duration = Duration::from_millis(400);

/// How long the last notices may take; what they would say is found without them.
const CLOSE: Duration = Duration::from_secs(2);

/// The nodes, as this one sees them.
pub struct Cluster {
    pub store: Arc<PgStore>,
    pub leases: Arc<Leases>,
    pub notices: Arc<Notices>,
    /// Where the directory stands; locked while it is brought up to date.
    seen: Mutex<changes::Seen>,
    /// How often that was begun.
    looks: AtomicU64,
    /// What nodes show each other on the calls that they hand on.
    pub secret: SecretString,
    /// This node, from its start on.
    node: OnceLock<Node>,
    closed: CancellationToken,
}

impl Cluster {
    /// A node that holds nothing yet. `seen` is the number of the last change that the directory has.
    pub fn new(store: Arc<PgStore>, version: i64, secret: SecretString) -> Self {
        let notices = Arc::new(Notices::default());
        let leases = Leases::shared(notices.clone());
        let seen = Mutex::new(changes::Seen::at(version));
        let (looks, node) = (AtomicU64::new(0), OnceLock::new());
        let closed = CancellationToken::new();
        Self { store, leases, notices, seen, looks, secret, node, closed }
    }

    /// Tells what was not told yet, and then nothing more.
    pub async fn close(&self) {
        self.closed.cancel();
        drop(tokio::time::timeout(CLOSE, self.notices.flush(&self.store)).await);
    }
}

/// Starts what makes this process a node; `dispatches` where it sends.
pub fn start(gateway: &Arc<Gateway>, node: NewNode, tasks: &TaskTracker) {
    let Some(cluster) = &gateway.cluster else { return };
    tasks.spawn(cluster.notices.clone().send(cluster.store.clone(), cluster.closed.clone()));
    let (sender, receiver) = mpsc::channel(HEARD);
    let url = cluster.store.direct_url().to_owned();
    tasks.spawn(async move { listen(url, sender).await });
    tasks.spawn(hear(gateway.clone(), receiver));
    tasks.spawn(changes::follow(gateway.clone()));
    cluster.node.get_or_init(|| Node::start(gateway.clone(), cluster.clone(), node));
}

/// Gives everything back: what has nothing in hand at once, and the rest as soon as that is sent and recorded.
pub async fn leave(gateway: &Gateway) {
    if let Some(node) = gateway.cluster.as_ref().and_then(|cluster| cluster.node.get()) {
        node.leave().await;
    }
}

/// Gives everything back that is left, and breaks off what is in hand, as a crash would.
pub async fn abandon(gateway: &Gateway) {
    if let Some(node) = gateway.cluster.as_ref().and_then(|cluster| cluster.node.get()) {
        node.abandon().await;
    }
}

/// Acts on what other nodes tell, and looks by itself now and then.
async fn hear(gateway: Arc<Gateway>, mut notices: mpsc::Receiver<Heard>) {
    let Some(cluster) = &gateway.cluster else { return };
    let mut look = Look::default();
    let mut hears = false;
    loop {
        let wait = if hears { LOOK } else { LOOK_DEAF };
        tokio::select! {
            () = gateway.stop.cancelled() => return,
            () = tokio::time::sleep_until(look.at + wait) => look.go(&gateway, hears).await,
            said = notices.recv() => match said {
                None => return,
                Some(Heard::End) => hears = false,
                Some(Heard::Begin) => {
                    hears = true;
                    // What was said before is lost.
                    look.thorough = 0;
                    look.go(&gateway, hears).await;
                    cluster.balance();
                }
                Some(Heard::Text(text)) => {
                    for notice in Notice::parse(&text) {
                        act_on(&gateway, notice).await;
                    }
                }
            },
        }
    }
}

async fn act_on(gateway: &Arc<Gateway>, notice: Notice) {
    let Some(cluster) = &gateway.cluster else { return };
    match notice {
        // Whoever holds a channel heard of it as well.
        Notice::Work(news, channels) => {
            let held = channels.into_iter().filter(|channel| cluster.leases.epoch(*channel).is_some());
            held.for_each(|channel| gateway.dispatcher.tell(channel, news));
        }
        Notice::Changed => changes::take(gateway).await,
        Notice::Free => cluster.balance(),
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

impl Look {
    async fn go(&mut self, gateway: &Gateway, hears: bool) {
        self.at = tokio::time::Instant::now();
        let Some(cluster) = &gateway.cluster else { return };
        if let Some(id) = cluster.node_id()
            && (self.thorough == 0 || !hears)
            && let Ok(channels) = cluster.store.held_with_work(id, gateway.clock.now()).await
        {
            for (channel, sends) in channels {
                if sends && self.thorough == 0 {
                    // Its task may sleep, because nobody told it that a pause has ended.
                    gateway.dispatcher.wake(channel);
                } else {
                    gateway.dispatcher.wake_if_idle(channel);
                }
            }
        }
        self.thorough = (self.thorough + 1) % THOROUGH;
        if let Ok((channels, newest)) = cluster.store.fresh_since(self.seen[0]).await {
            let held = channels.into_iter().filter(|channel| cluster.leases.epoch(*channel).is_some());
            held.for_each(|channel| gateway.dispatcher.tell(channel, News::Accepted));
            self.seen = [self.seen[1].min(newest), newest];
        }
    }
}

impl Cluster {
    fn balance(&self) {
        if let Some(node) = self.node.get() {
            node.balance_now();
        }
    }

    /// Whether this node is the one that has been there for longest.
    pub async fn is_first(&self) -> Result<bool, StoreError> {
        let own = self.node_id();
        let nodes = self.store.nodes(own).await?;
        Ok(nodes.first().is_some_and(|node| Some(node.id) == own))
    }

    /// This node's number, while it is one of the nodes.
    pub fn node_id(&self) -> Option<NodeId> {
        self.node.get().and_then(Node::id)
    }
}
