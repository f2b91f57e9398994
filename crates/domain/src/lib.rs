//! The rules of Recado, free of I/O.
//!
//! The crate has no clock, no random source and no files, and no dependency that uses them, so the rules are tested in
//! milliseconds. Input is parsed into types that cannot be invalid ([`PhoneNumber`](phone::PhoneNumber),
//! [`Card`](kinds::contact::Card), [`ChannelId`](ids::ChannelId)), so it is checked only once.

#![warn(missing_docs)]

pub mod account;
pub mod address;
pub mod api_key;
pub mod channel;
pub mod clock;
pub mod contact_book;
pub mod conversation;
pub mod email;
pub mod error;
pub mod error_chain;
pub mod event;
pub mod field_errors;
pub mod hex;
pub mod ids;
pub mod incoming;
pub mod institution;
pub mod json;
pub mod kinds;
pub mod message;
mod numbered_id;
pub mod pacing;
pub mod party;
pub mod phone;
pub mod queue;
pub mod rate_limit;
pub mod retry;
pub mod schema;
pub mod simulation;
pub mod status;
pub mod text;
pub mod time;
pub mod transient;
pub mod webhook;
