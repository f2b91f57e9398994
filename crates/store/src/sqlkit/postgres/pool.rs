//! Pools of connections to PostgreSQL: one transaction each, closed when they hang, reconnected after a failover.
//!
//! Behind a transaction pooler no statement leaves state in its connection. Without one, statements are prepared once for each
//! connection; each run is planned for its own values, because a generic plan would scan a channel of a million messages as if it
//! had five.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool as Connections, PoolError, RecyclingMethod, Runtime, StatementCache,
    TimeoutType,
};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_postgres::Config;
use tokio_util::sync::CancellationToken;

use crate::commits::Follower;
use crate::sqlkit::postgres::db::{AllReached, OPTIONS, PATIENCE};
use crate::sqlkit::postgres::failure::{Failure, FailureClass};
use crate::sqlkit::postgres::hosts::{Hosts, ProbeResult};
use crate::{Health, Result, StoreError};

/// The wait after a refused connection.
const RETRY: Duration = Duration::from_millis(100);
/// The interval of probes while the database is down.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// The error of a database that does not answer.
pub const NO_ANSWER: &str = "the database does not answer";

/// The database and its health: one for all pools of a process.
pub struct Database {
    hosts: Hosts,
    /// Whether statements may be prepared: a client keeps its server connection.
    prepares: bool,
    pools: Mutex<Vec<Connections>>,
    health: watch::Sender<Health>,
    /// The server that answered last.
    server: Mutex<Option<String>>,
    /// Whether a probe is running.
    probing: AtomicBool,
    closed: CancellationToken,
    follower: Follower,
}

impl Database {
    /// Opens no connection yet.
    pub fn new(url: &str, prepares: bool) -> anyhow::Result<Arc<Self>> {
        let hosts = Hosts::parse(url, if prepares { OPTIONS } else { "" })?;
        let (pools, health) = (Mutex::default(), watch::Sender::new(Health::Up));
        let (server, probing, closed) = (Mutex::default(), AtomicBool::new(false), CancellationToken::new());
        let follower = Follower::default();
        Ok(Arc::new(Self { hosts, prepares, pools, health, server, probing, closed, follower }))
    }

    /// A new pool of this size.
    pub fn pool(self: &Arc<Self>, size: usize) -> anyhow::Result<Pool> {
        let recycling_method = RecyclingMethod::Fast;
        let manager = Manager::from_connect(Config::new(), self.hosts.clone(), ManagerConfig { recycling_method });
        let pool = Connections::builder(manager).max_size(size).runtime(Runtime::Tokio1);
        let connections = pool.create_timeout(Some(PATIENCE)).wait_timeout(Some(PATIENCE)).build()?;
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).push(connections.clone());
        Ok(Pool { connections, database: self.clone() })
    }

    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// The follower of commits.
    pub fn follower(&self) -> &Follower {
        &self.follower
    }

    /// Probes whether the database still answers, after a connection was lost for this reason.
    fn probe(self: &Arc<Self>, why: String) {
        if self.probing.swap(true, Ordering::AcqRel) {
            return;
        }
        let database = self.clone();
        tokio::spawn(async move {
            match database.hosts.probe().await {
                ProbeResult::Server(server) => database.set_server(server),
                // Open connections may well work.
                ProbeResult::Full => {}
                ProbeResult::None => database.lost(&why),
            }
            database.probing.store(false, Ordering::Release);
        });
    }

    /// Records the server that answers. If it is another one than before, open connections lead to a former primary.
    fn set_server(&self, server: String) {
        let server = Some(server);
        let before =
            std::mem::replace(&mut *self.server.lock().unwrap_or_else(PoisonError::into_inner), server.clone());
        if before != server {
            self.close_idle();
        }
    }

    /// Closes idle connections, which may lead to a former primary.
    fn close_idle(&self) {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        for pool in &*pools {
            pool.retain(|_, _| false);
        }
    }

    /// Marks the database as down until a probe succeeds.
    fn lost(self: &Arc<Self>, why: &str) {
        let first = self.health.send_if_modified(|health| {
            let first = *health == Health::Up;
            if first {
                *health = Health::Down(why.to_owned());
            }
            first
        });
        if first {
            tracing::error!(error = why, "database unreachable");
            self.close_idle();
            tokio::spawn(self.clone().come_back());
        }
    }

    /// Looks until the database is back.
    async fn come_back(self: Arc<Self>) {
        loop {
            if let ProbeResult::Server(server) = self.hosts.probe().await {
                self.set_server(server);
                break;
            }
            tokio::select! {
                () = self.closed.cancelled() => return,
                () = tokio::time::sleep(PROBE_INTERVAL) => {}
            }
        }
        tracing::info!("database reachable again");
        self.health.send_replace(Health::Up);
    }

    pub fn close(&self) {
        self.closed.cancel();
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.iter().for_each(Connections::close);
    }
}

/// A pool of connections for one kind of work.
#[derive(Clone)]
pub struct Pool {
    connections: Connections,
    database: Arc<Database>,
}

impl Pool {
    /// The prepared statements of a connection.
    pub fn prepared(&self, client: &Borrowed) -> Option<Arc<StatementCache>> {
        self.database.prepares.then(|| client.statement_cache.clone())
    }

    pub fn health(&self) -> watch::Receiver<Health> {
        self.database.health()
    }

    pub fn close(&self) {
        self.connections.close();
    }

    /// Reports what a committed transaction moved.
    fn report(&self, reached: AllReached) {
        self.database.follower.reached(reached.into_inner());
    }

    /// A connection; waits up to [`PATIENCE`] for one.
    pub async fn get(&self) -> Result<Borrowed> {
        let patient_until = Instant::now() + PATIENCE;
        loop {
            if let Health::Down(why) = &*self.database.health.borrow() {
                return Err(StoreError::Unavailable(why.clone()));
            }
            let error = match self.connections.get().await {
                Ok(client) => return Ok(Borrowed(Some(client))),
                Err(PoolError::Timeout(TimeoutType::Wait)) => return Err(StoreError::Overloaded),
                // Without the pool's words about its objects.
                Err(PoolError::Backend(error)) => recado_domain::error_chain::causes(&error),
                Err(error) => recado_domain::error_chain::causes(&error),
            };
            if Instant::now() >= patient_until || self.database.closed.is_cancelled() {
                if self.connections.status().size > 0 {
                    // Other connections exist, and the server has no free one.
                    return Err(StoreError::Overloaded);
                }
                self.database.probe(error.clone());
                return Err(StoreError::Unavailable(error));
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Ends an attempt at a piece of work, and returns its connection. `None`: the work is run again, as another of
    /// `tries`.
    pub fn end<T>(
        &self,
        client: Borrowed,
        done: std::result::Result<T, Option<Failure>>,
        reached: AllReached,
        tries: &mut impl Iterator,
    ) -> Option<Result<T>> {
        let failure = match done {
            Ok(done) => {
                client.recycle();
                self.report(reached);
                return Some(Ok(done));
            }
            Err(failure) => failure,
        };
        match self.handle_failure(client, failure) {
            Some(error) => Some(Err(error)),
            None if tries.next().is_some() => None,
            None => Some(Err(StoreError::Overloaded)),
        }
    }

    /// Classifies a failure and updates the health of the pool. `None` means that the work is safe to retry.
    fn handle_failure(&self, client: Borrowed, failure: Option<Failure>) -> Option<StoreError> {
        match failure.map(Failure::classify) {
            Some(FailureClass::Retry) => {
                client.recycle();
                None
            }
            Some(FailureClass::Operation(error)) => {
                client.recycle();
                Some(error)
            }
            // Closed, because its state is unknown.
            Some(FailureClass::ConnectionLost(why)) => {
                drop(client);
                self.database.probe(why.clone());
                Some(StoreError::Unavailable(why))
            }
            // A timeout, which this statement alone may have caused. An open transaction ends with its connection.
            None => {
                drop(client);
                self.database.probe(NO_ANSWER.to_owned());
                Some(StoreError::Unavailable(NO_ANSWER.to_owned()))
            }
        }
    }
}

/// A borrowed connection. Only [`recycle`](Self::recycle) returns it to its pool. If the work is dropped before its end, the
/// connection is closed: the statement may still be running, and the next one would wait behind it.
pub struct Borrowed(Option<Object>);

impl Borrowed {
    /// Returns the connection to its pool; no statement is running.
    pub fn recycle(mut self) {
        self.0 = None;
    }
}

impl Deref for Borrowed {
    type Target = Object;

    fn deref(&self) -> &Object {
        self.0.as_ref().expect("present until it is recycled")
    }
}

impl DerefMut for Borrowed {
    fn deref_mut(&mut self) -> &mut Object {
        self.0.as_mut().expect("present until it is recycled")
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            drop(Object::take(object));
        }
    }
}
