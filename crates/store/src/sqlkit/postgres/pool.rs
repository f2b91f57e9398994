//! Connections to PostgreSQL: borrowed for one transaction, given up when they hang, found again after a failover.
//!
//! Where a transaction pooler stands between, no statement leaves anything behind in its connection. Where none does,
//! statements are prepared once for each connection, which saves parsing them; each run is planned for its own values,
//! because a plan for any would walk a channel of a million messages as if it had five.

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

use crate::sqlkit::postgres::db::{OPTIONS, PATIENCE};
use crate::sqlkit::postgres::failure::{Failure, Verdict};
use crate::sqlkit::postgres::hosts::{Answer, Hosts};
use crate::{Health, Result, StoreError};

/// The wait before a connection that was refused is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// The wait between two looks whether a database that was lost is back.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// What is said of a database that says nothing.
pub const SILENT: &str = "the database does not answer";

/// The database, and whether it works: one for all the pools of a process.
pub struct Database {
    hosts: Hosts,
    /// Whether a connection is the same for as long as we have it.
    prepares: bool,
    pools: Mutex<Vec<Connections>>,
    health: watch::Sender<Health>,
    /// The server that has answered last.
    server: Mutex<Option<String>>,
    /// Whether somebody is just finding out if it answers.
    asking: AtomicBool,
    closed: CancellationToken,
}

impl Database {
    /// Connects nothing yet.
    pub fn new(url: &str, prepares: bool) -> anyhow::Result<Arc<Self>> {
        let hosts = Hosts::parse(url, if prepares { OPTIONS } else { "" })?;
        let (pools, health) = (Mutex::default(), watch::Sender::new(Health::Up));
        let (server, asking, closed) = (Mutex::default(), AtomicBool::new(false), CancellationToken::new());
        Ok(Arc::new(Self { hosts, prepares, pools, health, server, asking, closed }))
    }

    /// Another pool, of so many connections.
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

    /// Looks whether the database still answers, after a connection was lost for this reason.
    fn suspect(self: &Arc<Self>, why: String) {
        if self.asking.swap(true, Ordering::AcqRel) {
            return;
        }
        let database = self.clone();
        tokio::spawn(async move {
            match database.hosts.answer().await {
                Answer::Of(server) => database.is(server),
                // What is open may well work.
                Answer::Full => {}
                Answer::None => database.lost(&why),
            }
            database.asking.store(false, Ordering::Release);
        });
    }

    /// This server answers. Where it is another one than before, what is open leads to one that is no primary any more.
    fn is(&self, server: String) {
        let server = Some(server);
        let before =
            std::mem::replace(&mut *self.server.lock().unwrap_or_else(PoisonError::into_inner), server.clone());
        if before != server {
            self.forget_connections();
        }
    }

    /// What is open and not in use may lead to a server that is no primary any more.
    fn forget_connections(&self) {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        for pool in &*pools {
            pool.retain(|_, _| false);
        }
    }

    /// The database is out of reach: nothing more is asked of it until it is back.
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
            self.forget_connections();
            tokio::spawn(self.clone().come_back());
        }
    }

    /// Looks until the database is back.
    async fn come_back(self: Arc<Self>) {
        loop {
            if let Answer::Of(server) = self.hosts.answer().await {
                self.is(server);
                break;
            }
            tokio::select! {
                () = self.closed.cancelled() => return,
                () = tokio::time::sleep(LOOK_AGAIN) => {}
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

/// A number of connections that wait for each other alone.
#[derive(Clone)]
pub struct Pool {
    connections: Connections,
    database: Arc<Database>,
}

impl Pool {
    /// What is prepared in a connection.
    pub fn prepared(&self, client: &Borrowed) -> Option<Arc<StatementCache>> {
        self.database.prepares.then(|| client.statement_cache.clone())
    }

    pub fn health(&self) -> watch::Receiver<Health> {
        self.database.health()
    }

    pub fn close(&self) {
        self.connections.close();
    }

    /// A connection; waits a while for one.
    pub async fn get(&self) -> Result<Borrowed> {
        let patient_until = Instant::now() + PATIENCE;
        loop {
            if let Health::Down(why) = &*self.database.health.borrow() {
                return Err(StoreError::Unavailable(why.clone()));
            }
            let error = match self.connections.get().await {
                Ok(client) => return Ok(Borrowed(Some(client))),
                Err(PoolError::Timeout(TimeoutType::Wait)) => return Err(StoreError::Overloaded),
                Err(error) => recado_domain::error_chain::causes(&error),
            };
            if Instant::now() >= patient_until || self.database.closed.is_cancelled() {
                if self.connections.status().size > 0 {
                    // Others have theirs, and there is no room for one more.
                    return Err(StoreError::Overloaded);
                }
                self.database.suspect(error.clone());
                return Err(StoreError::Unavailable(error));
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Takes a failure to heart; `None` when the work may be run again.
    pub fn judge(&self, client: Borrowed, failure: Option<Failure>) -> Option<StoreError> {
        match failure.map(Failure::verdict) {
            Some(Verdict::Again) => {
                client.give_back();
                None
            }
            Some(Verdict::Own(error)) => {
                client.give_back();
                Some(error)
            }
            // It is not given back: who knows in what state it is.
            Some(Verdict::Lost(why)) => {
                drop(client);
                self.database.suspect(why.clone());
                Some(StoreError::Unavailable(why))
            }
            // It took too long, which may be this statement's own fault; a transaction that was not to be committed yet ends
            // with its connection.
            None => {
                drop(client);
                self.database.suspect(SILENT.to_owned());
                Some(StoreError::Unavailable(SILENT.to_owned()))
            }
        }
    }
}

/// A connection on loan. It goes back to its pool by [`give_back`](Self::give_back) alone. Where the work on it is dropped
/// before its end, the connection is closed: the statement may still be running, and the next one would wait behind it.
pub struct Borrowed(Option<Object>);

impl Borrowed {
    /// Nothing runs on it any more.
    pub fn give_back(mut self) {
        self.0 = None;
    }
}

impl Deref for Borrowed {
    type Target = Object;

    fn deref(&self) -> &Object {
        self.0.as_ref().expect("it is there until it is given back")
    }
}

impl DerefMut for Borrowed {
    fn deref_mut(&mut self) -> &mut Object {
        self.0.as_mut().expect("it is there until it is given back")
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            drop(Object::take(object));
        }
    }
}
