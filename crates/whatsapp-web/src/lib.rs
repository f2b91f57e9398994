//! The driver of WhatsApp Web channels. No other crate knows the library that speaks the protocol.
//!
//! A [`Session`] is one linked device. It keeps its data in [`Rows`], and reports [`Event`]s. No type of the library is
//! public, so the library can be replaced.
//!
//! The library writes to the `log` facade, including phone numbers and stanzas. The gateway's subscriber reads only
//! `tracing`. It must not receive records of `log` (`tracing-log`), because nothing personal may reach a log.

// The tests of the storage and of the session share a file that names this crate.
#[cfg(test)]
extern crate self as recado_whatsapp_web;

pub mod backlog;
mod event;
mod incoming;
mod logins;
#[cfg(test)]
#[path = "../tests/memory_inbox.rs"]
mod memory_inbox;
#[cfg(test)]
#[path = "../tests/memory_rows.rs"]
mod memory_rows;
mod options;
mod rows;
mod session;
mod storage;

pub use event::{Event, Person};
pub use incoming::{Delivered, Inbound, Inbox, NotStored, RemoteFile, Vote};
pub use logins::Logins;
pub use options::{OpenError, Options};
pub use rows::{Change, Kind, Rows, RowsError};
pub use session::{
    Addressee, Author, Body, Card, DownloadError, LookUpError, OfMessage, Outgoing, PairError, Quote, Quoted, Session,
    SubmitError, Submitted, download_without_session,
};
