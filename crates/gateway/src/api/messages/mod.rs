//! Messages of a channel.

pub mod cancel;
pub mod get;
pub mod list;
pub mod of_conversation;
pub mod planned;
mod reactions;
mod received;
pub mod send;
pub mod vcard;
mod view;

pub use reactions::Reactions;
pub use received::{AnyMessage, example as example_received};
pub use view::{EXAMPLE_ID, Shown, example_contact};
