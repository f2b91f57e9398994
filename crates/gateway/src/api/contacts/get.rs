//! `GET /v1/contacts/{contactId}`: one contact.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use serde_json::json;

use super::{ContactView, example, parse};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data};
use crate::api::openapi::Operation;
use crate::api::path::Ids;
use crate::gateway::Gateway;

/// Shows a contact.
pub async fn get(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ContactsRead>,
    Ids([id]): Ids<1>,
) -> Result<Response, ApiError> {
    let contact = gateway.store.contact((caller.institution, caller.environment), parse(&id)?).await?;
    let contact = contact.ok_or(ApiError::ContactNotFound)?;
    Ok(json::answer(StatusCode::OK, &Data { data: ContactView::new(&contact) }))
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("Contacts", "getContact", "Show a contact")
        .needs(Scope::ContactsRead)
        .answers::<Data<ContactView>>(200, "The contact.", json!({"data": example()}))
        .refuses([ApiError::ContactNotFound, ApiError::Unavailable])
}
