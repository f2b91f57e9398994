//! Messages of a channel.

pub mod cancel;
pub mod get;
pub mod list;
pub mod send_contact;
pub mod vcard;
mod view;

pub use view::{EXAMPLE_ID, example_contact};
