//! `GET /v1/api-keys`: the keys of the caller's institution and environment, oldest first.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::ids::ApiKeyId;
use serde_json::json;

use super::{ApiKeyView, example};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, List, Pagination};
use crate::api::openapi::{Operation, schemas};
use crate::api::query::{self, Query};
use crate::gateway::Gateway;

/// Lists the keys that are not revoked.
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::KeysRead>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let mut query = Query::parse(query.as_deref(), &["limit", "cursor"]);
    let limit = query.limit();
    let after: Option<ApiKeyId> = query.get("cursor", query::CURSOR, |text| text.parse().ok());
    query.finish()?;
    let keys = gateway.directory.keys(caller.institution, caller.environment);
    let start = match after {
        None => 0,
        Some(id) => 1 + keys.iter().position(|entry| entry.key.id == id).ok_or_else(query::bad_cursor)?,
    };
    let mut rest = keys[start..].iter().filter(|entry| !entry.is_revoked());
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let next_cursor = rest.next().and(page.last()).map(|entry| entry.key.id.to_string());
    let data = page.iter().map(|entry| ApiKeyView::new(&entry.key, entry.last_used_at())).collect();
    Ok(json::answer(StatusCode::OK, &List { data, pagination: Pagination { limit, next_cursor } }))
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let page = json!({"data": [example()], "pagination": {"limit": 20, "nextCursor": null}});
    operation
        .named("API keys", "listApiKeys", "List API keys")
        .about("Oldest first; expired ones too, revoked ones not.")
        .needs(Scope::KeysRead)
        .pages(schemas::uuid())
        .answers::<List<ApiKeyView>>(200, "A page of keys.", page)
}
