//! `POST /v1/webhooks/{webhookId}/logs/{deliveryId}/replay`: sends a delivery again.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::webhook::Replay;
use serde_json::json;

use super::logs::delivery_id;
use super::{find, owner};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Done, NoBody};
use crate::api::openapi::Operation;
use crate::api::path::Ids;
use crate::gateway::Gateway;

pub const SCHEDULED: &str = "Reenvio agendado.";

/// Sends a delivery again.
pub async fn replay(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::WebhooksWrite>,
    Ids([webhook, id]): Ids<2>,
    _: NoBody,
) -> Result<Response, ApiError> {
    let owner = owner(&caller);
    let webhook = find(&gateway, owner, &webhook).await?;
    let now = gateway.webhooks.now().await?;
    match gateway.store.replay_delivery(owner, webhook.id, delivery_id(&id)?, now).await? {
        Replay::Scheduled => gateway.webhooks.scheduled(),
        Replay::NotFound => return Err(ApiError::DeliveryNotFound),
        Replay::EventGone => return Err(ApiError::EventNotFound),
        Replay::Inactive => return Err(ApiError::WebhookInactive),
    }
    Ok(json::answer(StatusCode::ACCEPTED, &Done { success: true, message: SCHEDULED }))
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("Webhooks", "replayDelivery", "Send a delivery again")
        .about("With the same body and `webhook-id`, and the header `webhook-replay`, as long as the event is kept.")
        .needs(Scope::WebhooksWrite)
        .no_body()
        .answers::<Done>(202, "It is sent soon.", json!({"success": true, "message": SCHEDULED}))
        .refuses([
            ApiError::WebhookNotFound,
            ApiError::DeliveryNotFound,
            ApiError::EventNotFound,
            ApiError::WebhookInactive,
            ApiError::Unavailable,
        ])
}
