//! `PUT /v1/contacts/by-phone/{phone}`: changes the contact with a number, or adds it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::contact_book::{ContactChanged, ContactPut};
use recado_domain::incoming::IdentityKey;
use recado_domain::phone::{BAD_PHONE, PhoneNumber};
use serde_json::json;

use super::{ContactView, body, create, example};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data, JsonBody};
use crate::api::openapi::Operation;
use crate::api::path::Ids;
use crate::gateway::Gateway;

const ANOTHER: &str = "O telefone deve ser o da URL.";

/// Changes the contact with this number, or adds it.
pub async fn put(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ContactsWrite>,
    Ids([phone]): Ids<1>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let country = gateway.country(caller.institution);
    let phone = PhoneNumber::parse(phone.trim(), country);
    let phone = phone.map_err(|fault| ApiError::field("phone", fault.text(BAD_PHONE)))?.digits().to_owned();
    let change = body::change(&body.object()?, country, &[])?;
    let key = IdentityKey::phone(&phone);
    if change.phone.as_ref().is_some_and(|other| IdentityKey::phone(other) != key) {
        return Err(ApiError::field("phone", ANOTHER));
    }
    let owner = (caller.institution, caller.environment);
    if let Some(metadata) = &change.metadata {
        let before = gateway.store.contact_of_phone(owner, phone.clone()).await?;
        body::check_merged(&before.map(|contact| contact.metadata).unwrap_or_default(), metadata)?;
    }
    match gateway.store.put_contact(owner, phone, change, gateway.clock.now()).await? {
        ContactPut::Created(contact) => create::created(&contact),
        ContactPut::Changed(ContactChanged::Done(contact)) => {
            Ok(json::answer(StatusCode::OK, &Data { data: ContactView::new(&contact) }))
        }
        ContactPut::Unnamed => Err(ApiError::field("name", body::NAME_MISSING)),
        // The number is the contact's own.
        ContactPut::Changed(ContactChanged::NotFound | ContactChanged::Exists(_)) => Err(ApiError::Internal),
    }
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let contact = json!({"data": example()});
    operation
        .named("Contacts", "putContactByPhone", "Add or change the contact with a number")
        .about(
            "A contact that has the number, in either form, is changed as by `PUT /v1/contacts/{contactId}`. Otherwise it is \
             added, and the body needs a `name`. `phone` can be left out; another number than that of the path is refused.",
        )
        .needs(Scope::ContactsWrite)
        .body("ContactPut", body::schema(&[]), json!({"name": "Ana", "tags": ["vip"]}))
        .answers::<Data<ContactView>>(200, "The contact as it is now.", contact.clone())
        .answers::<Data<ContactView>>(201, "The new contact.", contact)
        .required_header(201, "Location", "The contact.", json!({"type": "string"}))
        .refuses([ApiError::field("name", body::NAME_MISSING), ApiError::Unavailable])
}
