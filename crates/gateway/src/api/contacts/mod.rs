//! Contacts: the list, one contact, and its changes.

mod body;
pub mod create;
pub mod get;
pub mod list;
pub mod update;
mod view;

use recado_domain::ids::ContactId;

use super::error::ApiError;

pub use view::{ContactView, example};

/// The id of a contact. Another text is the id of nothing.
fn parse(id: &str) -> Result<ContactId, ApiError> {
    id.parse().map_err(|_| ApiError::ContactNotFound)
}
