//! `GET /v1/webhooks`: the caller's webhooks, oldest first.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::ids::WebhookId;
use serde_json::json;

use super::{WebhookView, example, owner};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, List, Pagination};
use crate::api::openapi::{Operation, schemas};
use crate::api::query::{self, Query};
use crate::gateway::Gateway;

/// Lists webhooks. There are few, so all are read.
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::WebhooksRead>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let mut query = Query::parse(query.as_deref(), &["limit", "cursor"]);
    let limit = query.limit();
    let after = query.get("cursor", query::CURSOR, |text| text.parse::<WebhookId>().ok());
    query.finish()?;
    let mut webhooks = gateway.store.webhooks(owner(&caller)).await?;
    if let Some(after) = after {
        let place = webhooks.iter().position(|webhook| webhook.id == after).ok_or_else(query::bad_cursor)?;
        webhooks.drain(..=place);
    }
    let more = webhooks.len() > limit;
    webhooks.truncate(limit);
    let next_cursor = webhooks.last().filter(|_| more).map(|webhook| webhook.id.to_string());
    let data = webhooks.into_iter().map(|webhook| WebhookView::new(webhook, &gateway.directory)).collect();
    Ok(json::answer(StatusCode::OK, &List { data, pagination: Pagination { limit, next_cursor } }))
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let page = json!({"data": [example()], "pagination": {"limit": 20, "nextCursor": null}});
    operation
        .named("Webhooks", "listWebhooks", "List webhooks")
        .about("Oldest first.")
        .needs(Scope::WebhooksRead)
        .pages(schemas::uuid())
        .answers::<List<WebhookView>>(200, "A page of webhooks.", page)
        .refuses([ApiError::Unavailable])
}
