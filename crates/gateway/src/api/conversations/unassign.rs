//! `PATCH /v1/conversations/{conversationId}/unassign`: takes a conversation from its attendant.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use recado_domain::conversation::Change;

use super::{change, describe_change};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::NoBody;
use crate::api::openapi::Operation;
use crate::api::path::Ids;
use crate::gateway::Gateway;

/// Removes the attendant.
pub async fn unassign(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ConversationsWrite>,
    Ids([id]): Ids<1>,
    _: NoBody,
) -> Result<Response, ApiError> {
    change(&gateway, &caller, &id, Change::Unassign).await
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let operation = operation.named("Conversations", "unassignConversation", "Take a conversation from its attendant");
    describe_change(operation, "An `OPEN` conversation becomes `PENDING`.")
        .no_body()
        .refuses([ApiError::ConversationClosed])
}
