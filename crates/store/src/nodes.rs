//! The coordination of the nodes of a shared store: which nodes exist, and which node owns which channel.

use std::time::Duration;

use async_trait::async_trait;
use recado_domain::channel::{Channel, ChannelKey, ChannelType, Epoch, Link};
use recado_domain::clock::Millis;
use recado_domain::ids::InstitutionId;
use recado_domain::institution::ApiKey;
use recado_domain::phone::DefaultCountry;
use tokio::sync::mpsc;

use crate::Result;

/// A node's number, new at each join.
pub type NodeId = i64;

/// A node that joins.
#[derive(Debug, Clone)]
pub struct NewNode {
    pub name: String,
    /// Where other nodes reach its API.
    pub address: Option<String>,
    /// The channel types that the node sends for; empty if the node does not dispatch.
    pub types: Vec<ChannelType>,
}

/// A node that has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub id: NodeId,
    pub name: String,
    pub address: Option<String>,
}

/// A node as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: NodeId,
    pub name: String,
    pub address: Option<String>,
    /// The channel types that it sends for.
    pub types: Vec<String>,
    pub channels: u64,
    /// How long its lease is still valid; negative if it is over.
    pub lease_left: Millis,
}

/// How the channels of one type are distributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelQuota {
    pub kind: ChannelType,
    /// How many the asking node owns, without deleted channels.
    pub held: usize,
    /// How many the asking node owns, with deleted channels.
    pub held_with_deleted: usize,
    /// How many exist.
    pub all: usize,
    /// Nodes that send for the type.
    pub nodes: usize,
}

impl ChannelQuota {
    /// The most channels that one node owns. A node with more releases the excess, and a node with less acquires up to the
    /// target: so a channel that moved once stays.
    pub fn target(self) -> usize {
        self.all.div_ceil(self.nodes.max(1))
    }
}

/// Changes of the directory, which nodes keep in memory.
#[derive(Debug)]
pub struct Changes {
    pub version: i64,
    pub default_countries: Vec<(InstitutionId, DefaultCountry)>,
    pub keys: Vec<ApiKey>,
    pub channels: Vec<Channel>,
    /// The credentials of those channels.
    pub links: Vec<Link>,
}

/// An event of the listening connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenEvent {
    /// From now on every notification arrives; earlier ones may be lost.
    Connected,
    Payload(String),
    /// No notification arrives until the next `Connected`.
    Disconnected,
}

/// A limit from which all nodes draw.
#[async_trait]
pub trait SharedQuota: Send + Sync + 'static {
    /// Draws up to `want` calls from a key's limit. Returns how many were drawn, and how many are left.
    async fn draw(&self, key: &[u8], kind: i16, limit: u32, want: u32) -> Result<(f64, f64)>;
}

/// A store that several nodes share.
#[async_trait]
pub trait ClusterStore: SharedQuota {
    /// Adds the node, with a lease of this length.
    async fn join(&self, node: &NewNode, lease: Duration) -> Result<NodeId>;
    /// Renews the lease of a node on all its channels; `false` if the node was evicted and owns nothing any more.
    async fn renew(&self, node: NodeId, lease: Duration) -> Result<bool>;
    /// Removes the node, which frees all its channels.
    async fn deregister(&self, node: NodeId) -> Result<()>;
    /// The nodes, oldest first. Evicts the nodes whose lease has expired: a later renewal finds no row. The calling
    /// node is not evicted: channels that no other node acquired are still its own.
    async fn nodes(&self, own: Option<NodeId>) -> Result<Vec<Node>>;
    /// The nodes with their channels and leases, oldest first. Evicts none.
    async fn members(&self) -> Result<Vec<Member>>;
    /// The distribution of channels, by type.
    async fn quotas(&self, node: NodeId) -> Result<Vec<ChannelQuota>>;
    /// Acquires free channels of a type, at most `limit`.
    async fn acquire(&self, node: NodeId, kind: ChannelType, limit: usize) -> Result<Vec<(ChannelKey, Epoch)>>;
    /// Acquires deleted channels of a type that still have open messages. They count in no quota.
    async fn acquire_deleted(&self, node: NodeId, kind: ChannelType) -> Result<Vec<(ChannelKey, Epoch)>>;
    /// The channels that a node owns.
    async fn held(&self, node: NodeId) -> Result<Vec<(ChannelKey, Epoch)>>;
    /// Releases channels of the node. Writes under their epochs are fenced from now on.
    async fn release(&self, node: NodeId, channels: &[(ChannelKey, Epoch)]) -> Result<()>;
    /// Excludes the node from all quotas: the other nodes divide all channels among them.
    async fn stop_acquiring(&self, node: NodeId) -> Result<()>;
    /// The owner of a channel, if there is one.
    async fn owner(&self, channel: ChannelKey) -> Result<Option<Node>>;
    /// A node's channels that have open messages, and whether their state and their send interval permit a send now.
    async fn held_with_work(&self, node: NodeId, now: Millis) -> Result<Vec<(ChannelKey, bool)>>;
    /// The channels with messages above this `seq`, and the highest `seq`.
    async fn new_work_since(&self, seq: i64) -> Result<(Vec<ChannelKey>, i64)>;
    /// Sends a payload to all nodes.
    async fn notify(&self, text: &str) -> Result<()>;
    /// The secret by which nodes recognise forwarded calls.
    async fn secret(&self) -> Result<String>;
    /// The number of the last change of the directory.
    async fn directory_version(&self) -> Result<i64>;
    /// The changes after this version.
    async fn changes_since(&self, version: i64) -> Result<Changes>;
    /// Receives notifications, until the receiver is closed.
    async fn listen(&self, events: mpsc::Sender<ListenEvent>);
}
