//! `PATCH /v1/conversations/{conversationId}/reopen`: continues a closed conversation.

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

/// Opens a conversation again.
pub async fn reopen(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ConversationsWrite>,
    Ids([id]): Ids<1>,
    _: NoBody,
) -> Result<Response, ApiError> {
    change(&gateway, &caller, &id, Change::Reopen).await
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let operation = operation.named("Conversations", "reopenConversation", "Open a conversation again");
    describe_change(operation, "Refused where a newer conversation of the chat is active.")
        .no_body()
        .refuses([ApiError::ConversationChanged])
}
