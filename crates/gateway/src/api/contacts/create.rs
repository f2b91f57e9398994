//! `POST /v1/contacts`: adds a contact.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, LOCATION};
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::contact_book::{Contact, ContactChanged};
use serde_json::json;

use super::{ContactView, body, example};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data, JsonBody};
use crate::api::openapi::Operation;
use crate::gateway::Gateway;

/// Adds a contact.
pub async fn create(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ContactsWrite>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let given = body::change(&body.object()?, gateway.country(caller.institution), &REQUIRED)?;
    let phone = given.phone.clone().unwrap_or_default();
    // The body has both fields: otherwise it was refused.
    let new = given.into_new((caller.institution, caller.environment), phone).ok_or(ApiError::Internal)?;
    match gateway.store.create_contact(new, gateway.clock.now()).await? {
        ContactChanged::Done(contact) => created(&contact),
        ContactChanged::NotFound => Err(ApiError::Internal),
        ContactChanged::Exists(other) => Err(ApiError::ContactExists(other.to_string())),
    }
}

/// The answer with a new contact.
pub fn created(contact: &Contact) -> Result<Response, ApiError> {
    let place = HeaderValue::try_from(format!("/v1/contacts/{}", contact.id)).map_err(|_| ApiError::Internal)?;
    let mut answer = json::answer(StatusCode::CREATED, &Data { data: ContactView::new(contact) });
    answer.headers_mut().insert(LOCATION, place);
    Ok(answer)
}

const REQUIRED: [&str; 2] = ["name", "phone"];

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("Contacts", "createContact", "Add a contact")
        .about("Both forms of a Brazilian mobile number, with and without its ninth digit, are one contact.")
        .needs(Scope::ContactsWrite)
        .body("NewContact", body::schema(&REQUIRED), json!({"name": "Ana", "phone": "5511977776666", "tags": ["vip"]}))
        .answers::<Data<ContactView>>(201, "The new contact.", json!({"data": example()}))
        .required_header(201, "Location", "The contact.", json!({"type": "string"}))
        .refuses([
            ApiError::field("phone", "O telefone do contato e obrigatorio."),
            ApiError::ContactExists(super::view::EXAMPLE_ID.to_owned()),
            ApiError::Unavailable,
        ])
}
