//! `DELETE /v1/webhooks/{webhookId}`: deletes a webhook with its deliveries.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use serde_json::json;

use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Done, NoBody};
use crate::api::openapi::Operation;
use crate::api::path::Ids;
use crate::gateway::Gateway;

const DELETED: &str = "Webhook removido.";

/// Deletes a webhook. A request that is in flight ends.
pub async fn delete(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::WebhooksWrite>,
    Ids([id]): Ids<1>,
    _: NoBody,
) -> Result<Response, ApiError> {
    if !gateway.store.delete_webhook(super::owner(&caller), super::id(&id)?).await? {
        return Err(ApiError::WebhookNotFound);
    }
    gateway.webhooks.changed();
    Ok(json::answer(StatusCode::OK, &Done { success: true, message: DELETED }))
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("Webhooks", "deleteWebhook", "Delete a webhook")
        .about("Deliveries that wait are dropped, and its log is deleted.")
        .needs(Scope::WebhooksWrite)
        .no_body()
        .answers::<Done>(200, "It is deleted.", json!({"success": true, "message": DELETED}))
        .refuses([ApiError::WebhookNotFound, ApiError::Unavailable])
}
