//! API keys.

pub mod create;
pub mod list;
pub mod revoke;
mod view;

pub use create::parse_time;
pub use view::{ApiKeyView, example};
