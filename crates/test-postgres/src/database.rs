//! Databases for single tests.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

use crate::server::{Options, Server};
use crate::sql;

/// The maintenance database of the shared server, as `postgres://…/postgres`. Without the variable each process starts its own
/// server.
pub const URL_VARIABLE: &str = "RECADO_TEST_POSTGRES";

/// Advisory lock key for the creation of templates. Arbitrary.
const TEMPLATE_LOCK: i64 = 5_019_274_403;

/// A database that is dropped with its test.
pub struct Database {
    name: String,
    url: String,
}

impl Database {
    /// An empty database.
    pub fn new() -> Self {
        Self::copied_from("template0")
    }

    /// A copy of a template, which `make` fills once for each server. `what` identifies the template: the text of the migrations.
    pub fn made_by(what: &str, make: impl AsyncFnOnce(String) + Send) -> Self {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        let template = format!("template_{:016x}", hasher.finish());
        make_template(&template, make);
        Self::copied_from(&template)
    }

    fn copied_from(template: &str) -> Self {
        // Unlike the names of other processes, also of those that ended without a drop.
        let name = format!("test_{:016x}", RandomState::new().hash_one(0));
        // The default strategy, `wal_log`, takes twice as long.
        sql::run(maintenance(), &format!("create database {name} template {template} strategy file_copy"));
        let url = beside(maintenance(), &name);
        Self { name, url }
    }

    /// The URL for clients.
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
        // `FORCE` ends open connections. If the server is gone, so is the database.
        drop(sql::try_run(maintenance(), &format!("DROP DATABASE {} WITH (force)", self.name)));
    }
}

fn make_template(template: &str, make: impl AsyncFnOnce(String) + Send) {
    let exists = format!("SELECT 1 FROM pg_database WHERE datname = '{template}'");
    if sql::exists(maintenance(), &exists) {
        return;
    }
    let making = format!("{template}_in_the_making");
    let lock = format!("SELECT pg_advisory_lock({TEMPLATE_LOCK})");
    let done = sql::on(maintenance(), async |client| {
        client.batch_execute(&lock).await?;
        if !client.query_typed(&exists, &[]).await?.is_empty() {
            return Ok(());
        }
        // A process that was killed during the creation leaves a partial template.
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {making} WITH (force)")).await?;
        client.batch_execute(&format!("create database {making} template template0")).await?;
        make(beside(maintenance(), &making)).await;
        // The template gets its name when it is complete. Waits for the end of the maker's connections.
        client.batch_execute(&format!("ALTER DATABASE {making} RENAME TO {template}")).await
    });
    done.unwrap_or_else(|error| panic!("{template}: {}", sql::with_causes(&error)));
}

/// The maintenance database of the shared server.
fn maintenance() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    // Never dropped: the watchdog ends the server with the process.
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
