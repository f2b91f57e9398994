//! Databases for single tests.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

use crate::server::{Options, Server};
use crate::sql;

/// Names the maintenance database of the server that tests share, as `postgres://…/postgres`. Without it each process
/// starts a server of its own.
pub const URL_VARIABLE: &str = "RECADO_TEST_POSTGRES";

/// One at a time makes a template. The number says nothing.
const TEMPLATE_LOCK: i64 = 5_019_274_403;

/// A database that goes with its test.
pub struct Database {
    name: String,
    url: String,
}

impl Database {
    /// An empty one.
    pub fn new() -> Self {
        Self::copied_from("template0")
    }

    /// One with what `make` puts into a database whose URL it gets, done once for each server and copied from then on.
    /// `what` tells it from what others make: the text of the migrations.
    pub fn made_by(what: &str, make: impl AsyncFnOnce(String) + Send) -> Self {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        let template = format!("template_{:016x}", hasher.finish());
        make_template(&template, make);
        Self::copied_from(&template)
    }

    fn copied_from(template: &str) -> Self {
        // Unlike those of other processes, also of some that ended without deleting theirs.
        let name = format!("test_{:016x}", RandomState::new().hash_one(0));
        // By way of the log, which is the default, it takes twice as long.
        sql::run(maintenance(), &format!("create database {name} template {template} strategy file_copy"));
        let url = beside(maintenance(), &name);
        Self { name, url }
    }

    /// How clients reach it.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Default for Database {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Whoever is still connected is thrown out. A server that is gone took the database along.
        drop(sql::try_run(maintenance(), &format!("drop database {} with (force)", self.name)));
    }
}

fn make_template(template: &str, make: impl AsyncFnOnce(String) + Send) {
    let exists = format!("select 1 from pg_database where datname = '{template}'");
    if sql::exists(maintenance(), &exists) {
        return;
    }
    let making = format!("{template}_in_the_making");
    let lock = format!("select pg_advisory_lock({TEMPLATE_LOCK})");
    let done = sql::on(maintenance(), async |client| {
        client.batch_execute(&lock).await?;
        if !client.query_typed(&exists, &[]).await?.is_empty() {
            return Ok(());
        }
        // One who was killed while making it leaves a part of it.
        client.batch_execute(&format!("drop database if exists {making} with (force)")).await?;
        client.batch_execute(&format!("create database {making} template template0")).await?;
        make(beside(maintenance(), &making)).await;
        // Found under its name only when it is whole. Waits for the maker's connections to end.
        client.batch_execute(&format!("alter database {making} rename to {template}")).await
    });
    done.unwrap_or_else(|error| panic!("{template}: {}", sql::in_words(&error)));
}

/// The maintenance database of the shared server.
fn maintenance() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    // Never dropped: its watchdog ends it with the process.
    static SERVER: OnceLock<Server> = OnceLock::new();
    URL.get_or_init(|| {
        std::env::var(URL_VARIABLE)
            .unwrap_or_else(|_| SERVER.get_or_init(|| Server::start(&Options::default())).url("postgres"))
    })
}

/// The URL of another database on the same server.
fn beside(maintenance: &str, name: &str) -> String {
    let (server, _) = maintenance.rsplit_once('/').expect("a URL that ends with its database");
    format!("{server}/{name}")
}
