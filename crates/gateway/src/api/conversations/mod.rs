//! Conversations: lists, one conversation with its messages, and changes by callers.

pub mod assign;
pub mod close;
pub mod get;
pub mod list;
pub mod messages;
pub mod read;
pub mod reopen;
pub mod transfer;
pub mod unassign;
mod view;

use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::conversation::{Change, Changed, Refused};
use recado_domain::ids::ConversationId;
use serde_json::json;

use super::auth::{Caller, scope};
use super::error::ApiError;
use super::json::{self, Data};
use super::openapi::Operation;
use crate::gateway::Gateway;

pub use view::{ConversationView, example};

/// Parses the id of a conversation. A text of another form gets the same error as an unknown id.
fn parse(id: &str) -> Result<ConversationId, ApiError> {
    id.parse().map_err(|_| ApiError::ConversationNotFound)
}

/// Applies a change, and answers with the changed conversation.
async fn change(
    gateway: &Gateway,
    caller: &Caller<scope::ConversationsWrite>,
    id: &str,
    change: Change,
) -> Result<Response, ApiError> {
    let (owner, now) = ((caller.institution, caller.environment), gateway.clock.now());
    match gateway.store.change_conversation(owner, parse(id)?, change, now).await? {
        Changed::Done(conversation) => {
            let data = ConversationView::new(&conversation, now);
            Ok(json::answer(StatusCode::OK, &Data { data }))
        }
        Changed::NotFound => Err(ApiError::ConversationNotFound),
        Changed::Refused(Refused::Closed) => Err(ApiError::ConversationClosed),
        Changed::Refused(Refused::Changed) => Err(ApiError::ConversationChanged),
    }
}

/// The common part of the description of a change.
fn describe_change<'a>(operation: Operation<'a>, about: &str) -> Operation<'a> {
    operation
        .about(about)
        .needs(Scope::ConversationsWrite)
        .answers::<Data<ConversationView>>(200, "The conversation as it is now.", json!({"data": example()}))
        .refuses([ApiError::ConversationNotFound, ApiError::Unavailable])
}
