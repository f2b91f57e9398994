//! Messages of a channel.

pub mod cancel;
pub mod get;
pub mod list;
pub mod send;
pub mod vcard;
mod view;

pub use view::{EXAMPLE_ID, Shown, example_contact};
