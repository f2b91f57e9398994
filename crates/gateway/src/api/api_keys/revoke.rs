//! `DELETE /v1/api-keys/{keyId}`: the key's next call is refused.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::ids::ApiKeyId;
use serde_json::json;

use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Done, NoBody};
use crate::api::openapi::Operation;
use crate::api::path::Ids;
use crate::gateway::Gateway;
use crate::operations::api_keys;

/// Revokes a key of the caller's institution and environment. It may be the caller's own key.
pub async fn revoke(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::KeysWrite>,
    Ids([key]): Ids<1>,
    _: NoBody,
) -> Result<Response, ApiError> {
    let id: ApiKeyId = key.parse().map_err(|_| ApiError::ApiKeyNotFound)?;
    let keys = gateway.directory.keys(caller.institution, caller.environment);
    let entry = keys.iter().find(|entry| entry.key.id == id && !entry.is_revoked()).ok_or(ApiError::ApiKeyNotFound)?;
    api_keys::revoke(&gateway, entry).await?;
    Ok(json::answer(StatusCode::OK, &Done { success: true, message: "Chave de API revogada." }))
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("API keys", "revokeApiKey", "Revoke an API key")
        .about("Its next call is refused, and that of keys made with it. A key may revoke itself.")
        .needs(Scope::KeysWrite)
        .no_body()
        .answers::<Done>(200, "It is revoked.", json!({"success": true, "message": "Chave de API revogada."}))
        .refuses([ApiError::ApiKeyNotFound, ApiError::Unavailable])
}
