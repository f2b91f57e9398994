//! `DELETE /v1/contacts/{contactId}`: removes a contact from the list, or all data of the person.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::address::LID;
use recado_domain::api_key::Scope;
use recado_domain::contact_book::Contact;
use recado_domain::incoming::IdentityKind;
use recado_domain::phone::forms;
use recado_store::person::Person;
use serde_json::json;

use super::parse;
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Done, NoBody};
use crate::api::openapi::Operation;
use crate::api::path::Ids;
use crate::api::query::Query;
use crate::gateway::Gateway;
use crate::operations::erasure::{self, Left};

const DELETED: &str = "Contato removido.";

/// The seconds after which a caller may ask for an erasure again.
const TRY_AGAIN: u64 = 5;

/// Removes a contact. With `erase`, all data of the person in the environment of the key goes first.
pub async fn delete(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ContactsWrite>,
    Ids([id]): Ids<1>,
    RawQuery(query): RawQuery,
    _: NoBody,
) -> Result<Response, ApiError> {
    let mut query = Query::parse(query.as_deref(), &["erase"]);
    let erase = query.flag("erase", "O parametro erase deve ser true ou false.").unwrap_or(false);
    query.finish()?;
    let (owner, id) = ((caller.institution, caller.environment), parse(&id)?);
    if erase {
        let contact = gateway.store.contact(owner, id).await?.ok_or(ApiError::ContactNotFound)?;
        let turn = gateway.erasing.turn(caller.institution).await;
        let _turn = turn.ok_or(ApiError::RateLimited(TRY_AGAIN))?;
        let environment = Some(caller.environment);
        let person = Person { environment, ..Person::new(names(&contact), Some(caller.institution)) };
        if erasure::everything(&gateway, person).await? == Left::Sandbox {
            return Err(ApiError::SandboxNotErased);
        }
        // Usually it is gone by now: its names led to it.
        gateway.store.delete_contact(owner, id).await?;
    } else if !gateway.store.delete_contact(owner, id).await? {
        return Err(ApiError::ContactNotFound);
    }
    Ok(json::answer(StatusCode::OK, &Done { success: true, message: DELETED }))
}

/// The names by which messages and networks know the contact.
fn names(contact: &Contact) -> Vec<String> {
    let numbers = contact.phone.iter().chain(&contact.account).flat_map(|number| forms(number));
    let identities = contact.identities.iter().map(|identity| match identity.kind {
        IdentityKind::Lid => format!("{}{LID}", identity.value),
        IdentityKind::Phone | IdentityKind::UserId => identity.value.clone(),
    });
    let mut names: Vec<_> = numbers.chain(identities).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("Contacts", "deleteContact", "Remove a contact")
        .about(
            "The contact with its tags, metadata and opt-out goes from the list. Conversations and messages stay; the next message \
             of the person creates a new contact. With `erase=true` all data of the person in this environment is erased \
             first, as by `recado data erase`: messages in both directions, conversations, events and what channels know. \
             Waiting messages are cancelled. The answer follows the erasure, which can take minutes; a call that was \
             interrupted can be repeated. An institution has one erasure at a time. While the server cannot use the sandbox's \
             phone, an erasure in the environment test does the rest and answers `SANDBOX_NOT_ERASED`: the phone's messages \
             and the contact are left, and the call is to be repeated.",
        )
        .query("erase", "Whether all data of the person is erased.", json!({"type": "boolean"}))
        .needs(Scope::ContactsWrite)
        .no_body()
        .answers::<Done>(200, "It is removed.", json!({"success": true, "message": DELETED}))
        .refuses([
            ApiError::ContactNotFound,
            ApiError::field("erase", "O parametro erase deve ser true ou false."),
            ApiError::Unavailable,
            ApiError::SandboxNotErased,
        ])
}
