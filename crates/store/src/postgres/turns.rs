//! The order in which deliveries of networks are stored.
//!
//! A transaction that stores deliveries waits for the inbox of its owner, and holds a connection meanwhile. Without turns a burst
//! of deliveries to the channels of one owner takes all connections, and the other owners of the node wait for it. So an owner has
//! one connection for deliveries at a time, and all that waits for inboxes has half of the connections together. Both are given in
//! the order in which they were asked for.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use recado_domain::channel::ChannelKey;
use recado_domain::event::Owner;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::time::timeout;

use super::PgStore;
use crate::common::inbox;
use crate::sqlkit::postgres::db::with_connection;
use crate::{Result, StoreError, Turn, Turns};

/// How many owners, and how many channels, are remembered before some are forgotten.
const REMEMBERED: usize = 1_024;

/// How long a delivery waits for its turn. Then the network repeats it.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The owners to whose channels something is delivered.
pub(super) struct Deliveries {
    owners: Mutex<HashMap<Owner, Arc<AsyncMutex<()>>>>,
    /// A channel keeps its owner.
    of_channels: Mutex<HashMap<ChannelKey, Owner>>,
    /// The connections that may be taken to wait for inboxes.
    room: Arc<Semaphore>,
}

impl Deliveries {
    /// With this room for all that waits for inboxes.
    pub fn new(room: Arc<Semaphore>) -> Self {
        Self { owners: Mutex::default(), of_channels: Mutex::default(), room }
    }

    fn known(&self, channel: ChannelKey) -> Option<Owner> {
        self.of_channels.lock().unwrap_or_else(PoisonError::into_inner).get(&channel).copied()
    }

    /// Waits for the turn of a delivery to a channel of this owner.
    async fn turn(&self, owner: Owner) -> Result<Turn> {
        let of_owner = remember(&self.owners, owner, Arc::default(), |turn| Arc::strong_count(turn) > 1);
        let turn = async {
            let first = of_owner.lock_owned().await;
            let room = self.room.clone().acquire_owned().await.map_err(|_| StoreError::Overloaded)?;
            Ok((first, room))
        };
        timeout(LONGEST_WAIT, turn).await.map_err(|_| StoreError::Overloaded)?
    }
}

/// The value of a key; `new` if there was none. If too many are remembered, those that are not used are forgotten.
fn remember<K: Eq + Hash, V: Clone>(known: &Mutex<HashMap<K, V>>, key: K, new: V, is_used: impl Fn(&V) -> bool) -> V {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= REMEMBERED {
        known.retain(|_, value| is_used(value));
    }
    known.entry(key).or_insert(new).clone()
}

#[async_trait]
impl Turns for PgStore {
    async fn turn(&self, channel: ChannelKey) -> Result<Option<Turn>> {
        let owner = match self.deliveries.known(channel) {
            Some(owner) => Some(owner),
            None => with_connection!(self.pool, db => inbox::owner_of(&db, channel))?,
        };
        // Nothing is stored for a channel that is gone, and no inbox is locked.
        let Some(owner) = owner else { return Ok(None) };
        remember(&self.deliveries.of_channels, channel, owner, |_| false);
        self.deliveries.turn(owner).await.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::future::{join_all, poll_immediate};
    use recado_domain::api_key::Environment;
    use recado_domain::ids::InstitutionId;
    use recado_domain::incoming::SenderIds;

    use super::*;
    use crate::conformance::inbox::{batch, delivered, owner as of_ground, text};
    use crate::fixtures::{Ground, NOW, PgDatabase};
    use crate::shares::{Call, of_call};
    use crate::sqlkit::postgres::db::Db;
    use crate::sqlkit::postgres::hosts::Hosts;

    fn owner(n: u8) -> Owner {
        (InstitutionId::from_bytes([n; 16]), Environment::Live)
    }

    #[tokio::test]
    async fn an_owner_has_one_turn_and_all_have_half_of_the_connections() {
        let deliveries = Deliveries::new(Arc::new(Semaphore::new(2)));
        let first = deliveries.turn(owner(1)).await.expect("a turn");
        let mut second = Box::pin(deliveries.turn(owner(1)));
        assert!(poll_immediate(&mut second).await.is_none(), "the owner has its turn");
        let other = deliveries.turn(owner(2)).await.expect("a turn");
        let mut third = Box::pin(deliveries.turn(owner(3)));
        assert!(poll_immediate(&mut third).await.is_none(), "the other connections are for other work");
        drop(first);
        assert!(poll_immediate(&mut second).await.is_none(), "another owner asked for a connection before");
        let third = third.await.expect("a turn");
        drop((other, third));
        drop(second.await.expect("a turn"));
    }

    #[tokio::test]
    async fn owners_without_deliveries_are_forgotten() {
        let deliveries = Deliveries::new(Arc::new(Semaphore::new(4)));
        let kept = deliveries.turn(owner(0)).await.expect("a turn");
        for n in 0..2 * REMEMBERED {
            let id = InstitutionId::from_bytes(u128::try_from(n).expect("a number").to_be_bytes());
            drop(deliveries.turn((id, Environment::Test)).await.expect("a turn"));
        }
        assert!(deliveries.owners.lock().expect("not poisoned").len() <= REMEMBERED);
        assert!(poll_immediate(Box::pin(deliveries.turn(owner(0)))).await.is_none(), "it has its turn still");
        drop(kept);
    }

    /// More deliveries than connections wait for the inbox of one owner, on as many channels. Others work on.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_burst_of_one_owner_leaves_connections_to_others() {
        let database = Arc::new(PgDatabase::new());
        let ground = Ground::on(database.clone()).await;
        let mut channels = Vec::new();
        for n in 0..20 {
            channels.push(ground.channel(&format!("c{n}")).await);
        }
        // Another node's transaction has the inbox.
        let (client, connection) =
            Hosts::parse(database.direct_url(), "").expect("a URL").connect().await.expect("connected");
        tokio::spawn(connection);
        client.batch_execute("BEGIN").await.expect("begun");
        let held = Db { client: &client, prepared: None, reached: None };
        inbox::lock(&held, of_ground(&ground)).await.expect("locked");
        let burst = channels.iter().map(|channel| {
            let arrivals = batch(*channel, vec![text("A1", SenderIds::of_phone("5511977776666"), "Oi")]);
            let store = ground.store.clone();
            tokio::spawn(async move { store.receive(arrivals, NOW).await })
        });
        let burst: Vec<_> = burst.collect();
        let waits = "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
                     WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted";
        while client.query_one(waits, &[]).await.expect("asked").get::<_, i64>(0) == 0 {
            tokio::task::yield_now().await;
        }
        // A moment in which all others would wait for the inbox, too.
        for _ in 0..20 {
            ground.store.channel(channels[0]).await.expect("other work has connections");
            let waiting = client.query_one(waits, &[]).await.expect("asked").get::<_, i64>(0);
            assert!(waiting <= 1, "{waiting} connections wait for one inbox");
        }
        client.batch_execute("COMMIT").await.expect("committed");
        for done in join_all(burst).await {
            done.expect("no panic").expect("stored");
        }
        for channel in channels {
            assert_eq!(delivered(&ground, channel).await.len(), 1);
        }
    }

    /// Calls of an owner use up its share. A delivery of another call, which has its turn, does not wait for them.
    #[tokio::test]
    async fn a_delivery_that_has_its_turn_does_not_wait_for_the_calls_of_its_owner() {
        let database = Arc::new(PgDatabase::new());
        let ground = Ground::on(database.clone()).await;
        let (channel, call) = (ground.channel("loja").await, Call::Changes(of_ground(&ground)));
        let (client, connection) =
            Hosts::parse(database.direct_url(), "").expect("a URL").connect().await.expect("connected");
        tokio::spawn(connection);
        client.batch_execute("BEGIN; LOCK TABLE api_keys").await.expect("locked");
        let reads = (0..4).map(|_| {
            let store = ground.store.clone();
            tokio::spawn(of_call(call.clone(), async move { store.api_keys().await }))
        });
        let reads: Vec<_> = reads.collect();
        let waits = "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
                     WHERE datname = current_database() AND NOT granted";
        while client.query_one(waits, &[]).await.expect("asked").get::<_, i64>(0) < 2 {
            tokio::task::yield_now().await;
        }
        let arrivals = batch(channel, vec![text("A1", SenderIds::of_phone("5511977776666"), "Oi")]);
        let stored = timeout(Duration::from_secs(20), of_call(call, ground.store.receive(arrivals, NOW))).await;
        stored.expect("in time").expect("stored");
        let waiting = client.query_one(waits, &[]).await.expect("asked").get::<_, i64>(0);
        assert!(waiting > 0, "the calls still wait");
        client.batch_execute("COMMIT").await.expect("committed");
        for done in join_all(reads).await {
            done.expect("no panic").expect("read");
        }
    }
}
