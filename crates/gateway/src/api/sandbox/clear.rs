//! `DELETE /v1/sandbox/data`: empties the simulated phone.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Done};
use crate::gateway::Gateway;

/// Removes what arrived for the caller's institution.
pub async fn clear(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::SandboxWrite>,
) -> Result<Response, ApiError> {
    caller.sandbox_only()?;
    gateway.providers.sandbox().clear(caller.institution).await?;
    Ok(json::answer(StatusCode::OK, &Done { success: true, message: "Dados do sandbox removidos." }))
}
