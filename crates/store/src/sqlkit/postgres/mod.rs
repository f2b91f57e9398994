//! Connections to PostgreSQL: pools, transactions, and what a failure means.

pub mod db;
pub mod failure;
pub mod hosts;
pub mod pool;
