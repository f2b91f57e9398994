//! PostgreSQL for tests, from the installed package: servers for crashes and failovers, and databases that are ready in a fraction
//! of a second.
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
//! Every failure is a panic with a reason: this crate is for tests only.

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
