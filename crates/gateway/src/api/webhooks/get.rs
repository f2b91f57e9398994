//! `GET /v1/webhooks/{webhookId}`: one webhook.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use serde_json::json;

use super::{WebhookView, example, find, owner};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data};
use crate::api::openapi::Operation;
use crate::api::path::Ids;
use crate::gateway::Gateway;

/// Shows a webhook.
pub async fn get(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::WebhooksRead>,
    Ids([id]): Ids<1>,
) -> Result<Response, ApiError> {
    let webhook = find(&gateway, owner(&caller), &id).await?;
    Ok(json::answer(StatusCode::OK, &Data { data: WebhookView::new(webhook, &gateway.directory) }))
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("Webhooks", "getWebhook", "Show a webhook")
        .needs(Scope::WebhooksRead)
        .answers::<Data<WebhookView>>(200, "The webhook.", json!({"data": example()}))
        .refuses([ApiError::WebhookNotFound, ApiError::Unavailable])
}
