//! The driver of WhatsApp Web channels: the only crate that knows the library which speaks the protocol.
//!
//! [`Session`] is one linked device. What it must remember it keeps in [`Rows`]; what happens it tells as [`Event`]s.
//! Nothing of the library is seen from outside, so that another can take its place.
//!
//! The library writes to the `log` facade, phone numbers and stanzas included. The gateway's subscriber takes `tracing`
//! alone, and must not be given `log`'s records (`tracing-log`): nothing personal may reach a log.

// The tests of the storage and those of the session share a file, which names this crate.
#[cfg(test)]
extern crate self as recado_whatsapp_web;

pub mod backlog;
mod event;
mod logins;
#[cfg(test)]
#[path = "../tests/memory_rows.rs"]
mod memory_rows;
mod options;
mod rows;
mod session;
mod storage;

pub use event::{Event, Person};
pub use logins::Logins;
pub use options::{OpenError, Options};
pub use rows::{Change, Kind, Rows, RowsError};
pub use session::{Body, Card, LookUpError, Outgoing, PairError, Quote, Session, SubmitError, Submitted};
