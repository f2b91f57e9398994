//! `PATCH /v1/conversations/{conversationId}/close`: ends a conversation.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use recado_domain::conversation::Change;
use serde_json::json;

use super::{change, describe_change};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::fields::Fields;
use crate::api::json::JsonBody;
use crate::api::openapi::{Operation, schemas};
use crate::api::path::Ids;
use crate::gateway::Gateway;

const FIELDS: [&str; 1] = ["reason"];
/// Most characters of a reason.
const REASON_LIMIT: usize = 200;

/// Closes a conversation.
pub async fn close(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ConversationsWrite>,
    Ids([id]): Ids<1>,
    body: Option<JsonBody>,
) -> Result<Response, ApiError> {
    let object = body.as_ref().map(JsonBody::object).transpose()?;
    let reason = match &object {
        Some(object) => {
            let mut fields = Fields::new(object);
            let reason = fields.line("reason", REASON_LIMIT)?;
            fields.finish(&FIELDS)?;
            reason
        }
        None => None,
    };
    change(&gateway, &caller, &id, Change::Close { reason }).await
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let schema = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {"reason": schemas::name(REASON_LIMIT, false)},
    });
    let operation = operation.named("Conversations", "closeConversation", "Close a conversation");
    describe_change(operation, "The next message that the network delivers begins another conversation.")
        .optional_body("Closing", schema, json!({"reason": "Resolvido"}))
        .refuses([ApiError::field("reason", "O campo reason deve ter no maximo 200 caracteres.")])
}
