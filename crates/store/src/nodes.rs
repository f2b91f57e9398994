//! What the nodes agree on that share a store: who is there, and which of them holds which channel.

use std::time::Duration;

use async_trait::async_trait;
use recado_domain::channel::{Channel, ChannelKey, ChannelType, Epoch, Link};
use recado_domain::clock::Millis;
use recado_domain::ids::InstitutionId;
use recado_domain::institution::ApiKey;
use recado_domain::phone::DefaultCountry;
use tokio::sync::mpsc;

use crate::Result;

/// A node's number: a new one each time it joins.
pub type NodeId = i64;

/// A node that joins.
#[derive(Debug, Clone)]
pub struct NewNode {
    pub name: String,
    /// Where other nodes reach its API.
    pub address: Option<String>,
    /// What it sends for; nothing, where it does not dispatch.
    pub types: Vec<ChannelType>,
}

/// A node that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub id: NodeId,
    pub name: String,
    pub address: Option<String>,
}

/// How the channels of one type are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub kind: ChannelType,
    /// Those that the asking node holds, without deleted ones.
    pub mine: usize,
    /// With them.
    pub held: usize,
    /// Those that are there.
    pub all: usize,
    /// Nodes that send for the type.
    pub nodes: usize,
}

impl Share {
    /// The most that one node holds. Who has more gives up what is over it, and who has less takes no more than it: so a
    /// channel that moved once stays.
    pub fn fair(self) -> usize {
        self.all.div_ceil(self.nodes.max(1))
    }
}

/// What changed in what nodes keep in memory.
#[derive(Debug)]
pub struct Changes {
    pub version: i64,
    pub default_countries: Vec<(InstitutionId, DefaultCountry)>,
    pub keys: Vec<ApiKey>,
    pub channels: Vec<Channel>,
    /// How those channels are linked, if they are.
    pub links: Vec<Link>,
}

/// What came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// From now on everything is heard; before, something may have been missed.
    Begin,
    Text(String),
    /// Nothing is heard any more, until the next `Begin`.
    End,
}

/// A limit from which all nodes draw.
#[async_trait]
pub trait SharedQuota: Send + Sync + 'static {
    /// Draws calls from what is left of a key's limit; gives how many were drawn, and how many are left then.
    async fn draw(&self, key: &[u8], kind: i16, limit: u32, want: u32) -> Result<(f64, f64)>;
}

/// A store that several nodes share.
#[async_trait]
pub trait ClusterStore: SharedQuota {
    /// Joins the nodes, until the time runs out without a renewal.
    async fn join(&self, node: &NewNode, lease: Duration) -> Result<NodeId>;
    /// Renews what a node holds, all of it at once; `false` when it is taken for dead, and holds nothing any more.
    async fn renew(&self, node: NodeId, lease: Duration) -> Result<bool>;
    /// Leaves: all that the node held is free.
    async fn leave(&self, node: NodeId) -> Result<()>;
    /// The nodes that are there, oldest first. Those whose time ran out are told so by this: a renewal that comes later
    /// finds no row.
    /// The asking node is not among these: what nobody took is still its own.
    async fn nodes(&self, own: Option<NodeId>) -> Result<Vec<Node>>;
    /// How channels are spread, by type.
    async fn shares(&self, node: NodeId) -> Result<Vec<Share>>;
    /// Takes free channels of a type, at most so many.
    async fn take(&self, node: NodeId, kind: ChannelType, limit: usize) -> Result<Vec<(ChannelKey, Epoch)>>;
    /// Takes deleted channels of a type which have messages that are to be ended. They count in nobody's share.
    async fn take_deleted(&self, node: NodeId, kind: ChannelType) -> Result<Vec<(ChannelKey, Epoch)>>;
    /// What a node holds.
    async fn held(&self, node: NodeId) -> Result<Vec<(ChannelKey, Epoch)>>;
    /// Gives channels back that the node holds. What it might still do under its epoch is refused from now on.
    async fn give_back(&self, node: NodeId, channels: &[(ChannelKey, Epoch)]) -> Result<()>;
    /// Takes nothing more: from now on the others share everything among them.
    async fn retire(&self, node: NodeId) -> Result<()>;
    /// The node that holds a channel, if one does.
    async fn holder(&self, channel: ChannelKey) -> Result<Option<Node>>;
    /// Those of a node's channels that have open messages, and whether their state and their rest let them send now.
    async fn held_with_work(&self, node: NodeId, now: Millis) -> Result<Vec<(ChannelKey, bool)>>;
    /// The channels that got messages behind this number, and the highest number there is.
    async fn fresh_since(&self, seq: i64) -> Result<(Vec<ChannelKey>, i64)>;
    /// Tells all nodes.
    async fn notify(&self, text: &str) -> Result<()>;
    /// What nodes show each other on the calls that they hand on.
    async fn secret(&self) -> Result<String>;
    /// The number of the last change of what nodes keep in memory.
    async fn directory_version(&self) -> Result<i64>;
    /// What changed behind this number.
    async fn changes_since(&self, version: i64) -> Result<Changes>;
    /// Hears what other nodes tell, until nobody takes it any more.
    async fn listen(&self, heard: mpsc::Sender<Heard>);
}
