//! The caller's webhooks, and the logs of their deliveries.

pub mod create;
pub mod delete;
pub mod delivery;
pub mod get;
pub mod list;
pub mod logs;
pub mod replay;
pub mod replay_range;
pub mod request;
pub mod test;
pub mod update;
mod view;

use recado_domain::event::Owner;
use recado_domain::ids::WebhookId;
use recado_domain::webhook::Webhook;
use view::{WebhookView, example};

use super::auth::{Caller, scope};
use super::error::ApiError;
use crate::gateway::Gateway;

/// The owner of the webhooks that a caller can use.
fn owner<S: scope::Needed>(caller: &Caller<S>) -> Owner {
    (caller.institution, caller.environment)
}

/// Parses an id in a path. A text that is no id gets the same error as an unknown id.
fn id(text: &str) -> Result<WebhookId, ApiError> {
    text.parse().map_err(|_| ApiError::WebhookNotFound)
}

/// The caller's webhook with this id. Another owner's webhook looks like one that does not exist.
async fn find(gateway: &Gateway, owner: Owner, text: &str) -> Result<Webhook, ApiError> {
    gateway.store.webhook(owner, id(text)?).await?.ok_or(ApiError::WebhookNotFound)
}
