//! `DELETE /v1/sandbox/data`: empties the sandbox inbox, and forgets what was received from it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::event::Owner;
use serde_json::json;

use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Done, NoBody};
use crate::api::openapi::Operation;
use crate::gateway::Gateway;

/// Removes the messages of the caller's institution from the inbox, and its conversations and contacts of the sandbox.
pub async fn clear(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::SandboxWrite>,
    _: NoBody,
) -> Result<Response, ApiError> {
    caller.sandbox_only()?;
    // A stopping server does not wait for a million messages. Another call clears the rest.
    let cleared = gateway.stop.run_until_cancelled(clear_all(&gateway, (caller.institution, caller.environment))).await;
    cleared.ok_or(ApiError::Unavailable)??;
    Ok(json::answer(StatusCode::OK, &Done { success: true, message: "Dados do sandbox removidos." }))
}

async fn clear_all(gateway: &Gateway, owner: Owner) -> Result<(), ApiError> {
    // The network first, so that it delivers nothing more of what it has.
    gateway.drivers.sandbox().clear(owner.0).await?;
    while let Some(files) = gateway.store.clear_inbox(owner).await? {
        gateway.media.delete(files).await?;
    }
    Ok(())
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("Sandbox", "clearSandbox", "Empty the sandbox phone")
        .about(
            "Also drops the receipts that were still due: what was `SENT` or `DELIVERED` stays so. Received messages, \
             conversations and contacts of the sandbox are removed.",
        )
        .needs(Scope::SandboxWrite)
        .no_body()
        .answers::<Done>(200, "It is empty.", json!({"success": true, "message": "Dados do sandbox removidos."}))
        .refuses([ApiError::Unavailable])
}
