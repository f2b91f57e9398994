//! A PostgreSQL for a run of the bench: on this machine, and set up as in production.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use test_postgres::{Options, Server};

/// The settings that differ from the defaults. Every commit is on disk.
pub const SETTINGS: [&str; 5] = [
    "shared_buffers = 512MB",
    "max_wal_size = 4GB",
    "checkpoint_timeout = 15min",
    "checkpoint_completion_target = 0.9",
    "random_page_cost = 1.1",
];

/// Started when the first database is requested.
#[derive(Default)]
pub struct Postgres {
    server: OnceLock<Arc<Server>>,
    databases: AtomicU32,
}

impl Postgres {
    /// An empty database.
    pub fn database(&self) -> Database {
        let settings = SETTINGS.map(str::to_owned).to_vec();
        let server = self.server.get_or_init(|| Arc::new(Server::start(&Options { settings, ..Options::durable() })));
        let name = format!("bench{}", self.databases.fetch_add(1, Ordering::Relaxed));
        test_postgres::run(&server.url("postgres"), &format!("create database {name}"));
        Database { server: server.clone(), name }
    }
}

/// Deleted when dropped, because the disk has no room for those of all rounds.
pub struct Database {
    server: Arc<Server>,
    name: String,
}

impl Database {
    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        test_postgres::run(&self.server.url("postgres"), &format!("DROP DATABASE {} WITH (force)", self.name));
    }
}
