//! Contacts: the list, one contact, and its changes.

mod body;
pub mod create;
mod cursor;
pub mod delete;
pub mod get;
pub mod list;
pub mod put;
pub mod update;
mod view;

use recado_domain::ids::ContactId;

use super::error::ApiError;

pub use view::{ContactView, example};

/// Parses the id of a contact. A text of another form gets the same error as an unknown id.
fn parse(id: &str) -> Result<ContactId, ApiError> {
    id.parse().map_err(|_| ApiError::ContactNotFound)
}
