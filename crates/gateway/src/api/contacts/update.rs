//! `PUT /v1/contacts/{contactId}`: changes a contact. Omitted fields stay as they are.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::contact_book::ContactChanged;
use serde_json::json;

use super::{ContactView, body, example, parse};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data, JsonBody};
use crate::api::openapi::Operation;
use crate::api::path::Ids;
use crate::gateway::Gateway;

/// Changes a contact.
pub async fn update(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ContactsWrite>,
    Ids([id]): Ids<1>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let change = body::change(&body.object()?, gateway.country(caller.institution), &[])?;
    let (owner, id) = ((caller.institution, caller.environment), parse(&id)?);
    if let Some(metadata) = &change.metadata {
        let before = gateway.store.contact(owner, id).await?.ok_or(ApiError::ContactNotFound)?;
        body::check_merged(&before.metadata, metadata)?;
    }
    match gateway.store.change_contact(owner, id, change, gateway.clock.now()).await? {
        ContactChanged::Done(contact) => Ok(json::answer(StatusCode::OK, &Data { data: ContactView::new(&contact) })),
        ContactChanged::NotFound => Err(ApiError::ContactNotFound),
        ContactChanged::Exists(other) => Err(ApiError::ContactExists(other.to_string())),
    }
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("Contacts", "updateContact", "Change a contact")
        .about(
            "What is left out stays as it is. `optOut` leaves a person out of every bulk, or lets the person in again. \
             With another `phone` the contact keeps its conversations.",
        )
        .needs(Scope::ContactsWrite)
        .body("ContactUpdate", body::schema(&[]), json!({"name": "Ana Maria", "tags": ["vip"], "optOut": true}))
        .answers::<Data<ContactView>>(200, "The contact as it is now.", json!({"data": example()}))
        .refuses([
            ApiError::field("name", "O nome do contato e obrigatorio."),
            ApiError::ContactNotFound,
            ApiError::ContactExists(super::view::EXAMPLE_ID.to_owned()),
            ApiError::Unavailable,
        ])
}
