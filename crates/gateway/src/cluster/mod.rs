//! One node among others on the same PostgreSQL: which channels it holds, what it hears of the others and tells them.
//!
//! | File | |
//! |---|---|
//! | `leases` | which channels this node holds, and whether it can be sure of it |
//! | `node` | joins, renews, takes and gives back channels |
//! | `changes` | keys and channels that other nodes changed |
//! | `notices` | what nodes tell each other |

pub mod changes;
pub mod leases;
mod node;
pub mod notices;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio_util::task::TaskTracker;

use crate::gateway::Gateway;
use crate::store::postgres::{Heard, NewNode, PgStore, listen};
use crate::store::rows::StoreError;
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

/// The nodes, as this one sees them.
pub struct Cluster {
    pub store: Arc<PgStore>,
    pub leases: Arc<Leases>,
    pub notices: Arc<Notices>,
    /// The last change of keys and channels that the directory has; locked while it is brought up to date.
    seen: Mutex<i64>,
    /// How often that was begun.
    looks: AtomicU64,
    /// This node, while it dispatches.
    node: Mutex<Option<Node>>,
}

impl Cluster {
    /// A node that holds nothing yet. `seen` is the number of the last change that the directory has.
    pub fn new(store: Arc<PgStore>, seen: i64) -> Self {
        let notices = Arc::new(Notices::default());
        let leases = Leases::shared(notices.clone());
        let (seen, looks, node) = (Mutex::new(seen), AtomicU64::new(0), Mutex::default());
        Self { store, leases, notices, seen, looks, node }
    }

    /// Tells what was not told yet.
    pub async fn close(&self) {
        self.notices.flush(&self.store).await;
    }
}

/// Starts what makes this process a node; `dispatches` where it sends.
pub async fn start(gateway: &Arc<Gateway>, node: NewNode, tasks: &TaskTracker) {
    let Some(cluster) = &gateway.cluster else { return };
    let stop = &gateway.stop;
    tasks.spawn(cluster.notices.clone().send(cluster.store.clone(), stop.clone()));
    let (sender, heard) = mpsc::channel(HEARD);
    let url = cluster.store.direct_url().to_owned();
    tasks.spawn(async move { listen(url, sender).await });
    tasks.spawn(hear(gateway.clone(), heard));
    tasks.spawn(changes::follow(gateway.clone()));
    *cluster.node.lock().await = Some(Node::start(gateway.clone(), cluster.clone(), node));
}

/// Gives everything back at once. The dispatcher and the lines have stopped.
pub async fn leave(gateway: &Gateway) {
    let Some(cluster) = &gateway.cluster else { return };
    if let Some(node) = cluster.node.lock().await.take() {
        node.leave().await;
    }
}

/// Acts on what other nodes tell, and looks by itself now and then.
async fn hear(gateway: Arc<Gateway>, mut heard: mpsc::Receiver<Heard>) {
    let Some(cluster) = &gateway.cluster else { return };
    let mut look = Look::default();
    let mut hears = false;
    loop {
        let wait = if hears { LOOK } else { LOOK_DEAF };
        tokio::select! {
            () = gateway.stop.cancelled() => return,
            () = tokio::time::sleep_until(look.at + wait) => look.go(&gateway, hears).await,
            said = heard.recv() => match said {
                None => return,
                Some(Heard::End) => hears = false,
                Some(Heard::Begin) => {
                    hears = true;
                    // What was said before is lost.
                    look.thorough = 0;
                    look.go(&gateway, hears).await;
                    cluster.balance().await;
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
        Notice::Work(channels) => {
            let held = channels.into_iter().filter(|channel| cluster.leases.epoch(*channel).is_some());
            held.for_each(|channel| gateway.dispatcher.wake(channel));
        }
        Notice::Changed => changes::take(gateway).await,
        Notice::Free => cluster.balance().await,
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
        if let Some(id) = cluster.node_id().await
            && (self.thorough == 0 || !hears)
            && let Ok(channels) = cluster.store.held_with_work(id).await
        {
            channels.into_iter().for_each(|channel| gateway.dispatcher.wake_if_idle(channel));
        }
        self.thorough = (self.thorough + 1) % THOROUGH;
        if let Ok((channels, newest)) = cluster.store.fresh_since(self.seen[0]).await {
            let held = channels.into_iter().filter(|channel| cluster.leases.epoch(*channel).is_some());
            held.for_each(|channel| gateway.dispatcher.wake(channel));
            self.seen = [self.seen[1].min(newest), newest];
        }
    }
}

impl Cluster {
    async fn balance(&self) {
        if let Some(node) = &*self.node.lock().await {
            node.balance_now();
        }
    }

    /// Whether this node is the one that has been there for longest.
    pub async fn is_first(&self) -> Result<bool, StoreError> {
        let own = self.node_id().await;
        let nodes = self.store.nodes(own).await?;
        Ok(nodes.first().is_some_and(|node| Some(node.id) == own))
    }

    async fn node_id(&self) -> Option<crate::store::postgres::NodeId> {
        self.node.lock().await.as_ref().and_then(Node::id)
    }
}
