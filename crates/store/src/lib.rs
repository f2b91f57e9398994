//! Recado's durable state: the ports through which the gateway reads and writes it, and the two engines behind them.

pub mod clock;
pub mod commits;
mod common;
#[cfg(test)]
mod conformance;
mod engines;
mod error;
#[cfg(feature = "fixtures")]
pub mod fixtures;
pub mod lease;
pub mod nodes;
pub mod person;
mod ports;
pub mod postgres;
#[cfg(test)]
mod queue_model;
pub mod sealed;
pub mod shares;
mod sql;
pub mod sqlite;
pub mod sqlkit;
#[cfg(test)]
mod transitions;
pub mod views;

pub use error::{Health, StoreError};
pub use ports::{
    Accounts, Channels, Contacts, Conversations, EventReader, Events, Inbox, Links, Messages, Privacy, Queue, Receipts,
    Refusals, Schedule, Sessions, Store, Tenants, Turn, Turns, Webhooks,
};

/// The result of a store operation.
pub type Result<T> = std::result::Result<T, StoreError>;
