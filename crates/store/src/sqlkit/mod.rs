//! Runs SQL, independently of the tables: for the store and for the sandbox's network.
//!
//! | Module | |
//! |---|---|
//! | `batches` | group commits of waiting operations |
//! | `sqlite` | one writing thread with group commits, a few readers |
//! | `both` | statements that are written once and run on either |
//! | `postgres` | pools of connections, retries of transactions, classes of failures |

pub mod batches;
pub mod both;
pub mod postgres;
pub mod sqlite;
