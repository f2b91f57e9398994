//! `GET /v1/conversations/{conversationId}`: one conversation.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use serde_json::json;

use super::{ConversationView, example, parse};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data};
use crate::api::openapi::Operation;
use crate::api::path::Ids;
use crate::gateway::Gateway;

/// Shows a conversation.
pub async fn get(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ConversationsRead>,
    Ids([id]): Ids<1>,
) -> Result<Response, ApiError> {
    let conversation = gateway.store.conversation((caller.institution, caller.environment), parse(&id)?).await?;
    let conversation = conversation.ok_or(ApiError::ConversationNotFound)?;
    let data = ConversationView::new(&conversation, gateway.clock.now());
    Ok(json::answer(StatusCode::OK, &Data { data }))
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("Conversations", "getConversation", "Show a conversation")
        .needs(Scope::ConversationsRead)
        .answers::<Data<ConversationView>>(200, "The conversation.", json!({"data": example()}))
        .refuses([ApiError::ConversationNotFound, ApiError::Unavailable])
}
