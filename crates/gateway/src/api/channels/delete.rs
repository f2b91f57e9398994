//! `DELETE /v1/channels/{channelId}`: cancels the queued messages and keeps the history.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use serde_json::json;

use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Done, NoBody};
use crate::api::openapi::Operation;
use crate::api::path::Ids;
use crate::gateway::Gateway;
use crate::operations::channels;

/// Deletes a channel.
pub async fn delete(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ChannelsWrite>,
    Ids([channel]): Ids<1>,
    _: NoBody,
) -> Result<Response, ApiError> {
    let entry = caller.channel(&gateway, &channel)?;
    channels::delete(&gateway, &entry, caller.actor()).await?;
    Ok(json::answer(StatusCode::OK, &Done { success: true, message: "Canal removido." }))
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("Channels", "deleteChannel", "Delete a channel")
        .about(
            "Cancels what is queued, lets what is in flight settle, closes conversations, keeps the messages readable.",
        )
        .needs(Scope::ChannelsWrite)
        .no_body()
        .answers::<Done>(200, "It is deleted.", json!({"success": true, "message": "Canal removido."}))
        .refuses([ApiError::ChannelNotFound, ApiError::ChannelReserved, ApiError::Unavailable])
}
