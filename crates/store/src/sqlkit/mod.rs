//! How SQL is run, whatever the tables are: the store and the sandbox's network stand on it.
//!
//! | Module | |
//! |---|---|
//! | `batches` | work that waits for the batch before it, and goes together |
//! | `sqlite` | one writing thread with group commits, a few readers |
//! | `both` | statements that are written once and run on either |
//! | `postgres` | pools of connections, transactions that are tried again, which failures are worth it |

pub mod batches;
pub mod both;
pub mod postgres;
pub mod sqlite;
