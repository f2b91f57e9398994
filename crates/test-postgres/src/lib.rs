//! PostgreSQL for tests, of the package that is installed: servers to be killed and failed over, and databases that cost
//! a fraction of a second.
//!
//! ```
//! use test_postgres::{Database, Options, Server};
//!
//! let database = Database::new();
//! test_postgres::run(database.url(), "create table cards (id bigint)");
//!
//! let mut server = Server::start(&Options::durable());
//! test_postgres::run(&server.url("postgres"), "create table cards (id bigint)");
//! server.kill();
//! server.restart();
//! assert_eq!(test_postgres::number(&server.url("postgres"), "select count(*) from cards"), 0);
//! ```
//!
//! Whatever goes wrong is a panic with a reason: this is for tests only.

mod binaries;
mod database;
mod pooler;
mod server;
mod sql;
mod watchdog;

pub use database::{Database, URL_VARIABLE};
pub use pooler::Pooler;
pub use server::{Options, Server};
pub use sql::{number, run};
