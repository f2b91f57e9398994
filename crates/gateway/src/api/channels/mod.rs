//! Channels.

pub mod account;
pub mod act;
pub mod connect;
pub mod create;
pub mod delete;
pub mod events;
pub mod get;
pub mod list;
pub mod pairing;
mod settings;
pub mod update;
mod view;

pub use view::{ChannelView, example};
