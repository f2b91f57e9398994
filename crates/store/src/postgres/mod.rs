//! The shared engine: one PostgreSQL database for any number of nodes.
//!
//! The engine keeps nothing of a queue in memory between two operations, because another node may change it.
//! Conflicting operations are ordered by the row of the channel: a transaction that changes which message is next locks
//! the row first.

mod accepting;
mod apply;
mod channels;
mod chats;
mod claim;
mod dispatching;
mod enqueue;
mod event_reader;
mod events;
pub mod import;
mod joins;
mod levels;
mod listener;
mod lock;
mod messages;
mod migrations;
mod new_chats;
mod nodes;
pub mod preflight;
mod queue;
mod receipts;
mod receiving;
mod recipients;
mod sessions;
#[cfg(test)]
mod shared_batches;
#[cfg(test)]
mod tests;
mod transaction;
mod turns;
#[cfg(test)]
mod two_nodes;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{Semaphore, watch};

use crate::commits::{Follow, Follower};
use crate::shares::Shares;
use crate::sqlkit::postgres::pool::{Database, Pool};
use crate::{Health, Result, Store};
use accepting::Accepting;
use dispatching::Dispatching;
use levels::Levels;
#[cfg(feature = "fixtures")]
pub(crate) use migrations::MIGRATIONS_TEXT;
pub use migrations::{SCHEMA_VERSION, migrate, upgrade};
use receiving::Receiving;
pub(crate) use transaction::Tx;

/// The store that nodes share.
pub struct PgStore {
    database: Arc<Database>,
    pub(crate) pool: Pool,
    /// For operations that a caller waits for before the message is stored. The many claims must not delay them.
    pub(crate) calls: Pool,
    /// For coordination between nodes: leases and notifications.
    coordination: Pool,
    /// For the lease only, because a late renewal loses it.
    lease: Pool,
    levels: Levels,
    accepting: Accepting,
    dispatching: Dispatching,
    receiving: Receiving,
    /// Permits for deliveries, and for messages that join their conversations, so that busy inboxes leave connections for others.
    waiting: Arc<Semaphore>,
    deliveries: turns::Deliveries,
    /// Which connections of `pool` calls may use.
    pub(crate) shares: Shares,
    pub(crate) follower: Follower,
    direct_url: String,
}

/// Connections for callers: one stores accepted messages, the others look up accounts and draw from rate limits.
const CALLS: usize = 3;
/// Connections for coordination.
const COORDINATION: usize = 2;
/// And that for the lease.
const LEASE: usize = 1;

impl PgStore {
    /// Connects; the tables must exist. The direct URL leads to the database itself. If both URLs are equal there is no
    /// pooler.
    pub async fn open(url: &str, direct_url: &str, connections: usize) -> anyhow::Result<Self> {
        let database = Database::new(url, url == direct_url)?;
        let pool = database.pool(connections)?;
        migrations::check(&pool).await?;
        let (coordination, lease) = (database.pool(COORDINATION)?, database.pool(LEASE)?);
        let calls = database.pool(CALLS)?;
        let levels = Levels::default();
        levels.begin(&pool).await;
        let follower = database.follower().clone();
        let accepting = Accepting::start(calls.clone(), follower.clone(), levels.clone());
        let (dispatching, receiving) = (Dispatching::start(pool.clone(), connections), Receiving::start(pool.clone()));
        let direct_url = direct_url.to_owned();
        let waiting = Arc::new(Semaphore::new((connections / 2).max(1)));
        let shares = Shares::new((connections / 2).max(1), (connections / 4).max(1));
        Ok(Self {
            database,
            pool,
            calls,
            coordination,
            lease,
            levels,
            accepting,
            dispatching,
            receiving,
            deliveries: turns::Deliveries::new(waiting.clone()),
            waiting,
            shares,
            follower,
            direct_url,
        })
    }

    /// The database, for connections of the sandbox's network.
    pub fn database(&self) -> &Arc<Database> {
        &self.database
    }
}

#[async_trait]
impl Store for PgStore {
    fn health(&self) -> watch::Receiver<Health> {
        self.database.health()
    }

    fn follow(&self, follow: Arc<dyn Follow>) {
        self.follower.set(follow);
    }

    async fn forget_erased(&self) -> Result<bool> {
        // Vacuum runs in its own time.
        Ok(false)
    }

    async fn close(&self) {
        self.accepting.close().await;
        self.database.close();
    }
}
