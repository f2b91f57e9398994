//! `GET /v1/events/{eventId}`: one event.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::{Scope, Scopes};
use recado_domain::event::{EventId, scope_of};
use serde_json::json;

use super::{EventView, example};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data};
use crate::api::openapi::Operation;
use crate::api::path::Ids;
use crate::gateway::Gateway;

/// Shows an event.
pub async fn get(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::EventsRead>,
    Ids([id]): Ids<1>,
) -> Result<Response, ApiError> {
    let id: EventId = id.parse().map_err(|_| ApiError::EventNotFound)?;
    let event = gateway.store.event((caller.institution, caller.environment), id.seq()).await?;
    let event = event.filter(|event| event.id() == id && event.is_public()).ok_or(ApiError::EventNotFound)?;
    let needed: Scopes = scope_of(&event.kind).ok_or(ApiError::Forbidden).map(|scope| [scope].into_iter().collect())?;
    if !needed.is_subset_of(caller.grant.scopes) {
        return Err(ApiError::MissingScopes(needed));
    }
    Ok(json::answer(StatusCode::OK, &Data { data: EventView::new(&event, gateway.behaviour.media_base()) }))
}

/// What the OpenAPI document says of it.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("Events", "getEvent", "Show an event")
        .needs(Scope::EventsRead)
        .answers::<Data<EventView<'_>>>(200, "The event.", json!({"data": example()}))
        .refuses([ApiError::EventNotFound, ApiError::Unavailable])
}
