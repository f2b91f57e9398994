//! `POST /v1/conversations/{conversationId}/read`: marks the received messages of a conversation as read.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::{ConversationView, describe_change, parse};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data, NoBody};
use crate::api::openapi::Operation;
use crate::api::path::Ids;
use crate::gateway::Gateway;

/// Marks all received messages as read.
pub async fn read(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ConversationsWrite>,
    Ids([id]): Ids<1>,
    _: NoBody,
) -> Result<Response, ApiError> {
    let (owner, now) = ((caller.institution, caller.environment), gateway.clock.now());
    let marked =
        gateway.store.read_conversation(owner, parse(&id)?, now).await?.ok_or(ApiError::ConversationNotFound)?;
    Ok(json::answer(StatusCode::OK, &Data { data: ConversationView::new(&marked.conversation, now) }))
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let operation = operation.named("Conversations", "readConversation", "Mark a conversation as read");
    describe_change(
        operation,
        "Its received messages become `READ`, and a read signal goes to the network soon after. A repeated call changes nothing.",
    )
    .no_body()
}
