//! `GET /v1/channels/{channelId}/messages/{messageId}`: a message with its state.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::conversation::InboxItem;
use recado_domain::status::MessageStatus;
use serde_json::json;

use super::reactions::Reactions;
use super::received::AnyMessage;
use super::view::example;
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data};
use crate::api::openapi::Operation;
use crate::api::path::Ids;
use crate::directory::ChannelEntry;
use crate::gateway::Gateway;

/// Shows a message.
pub async fn get(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::MessagesRead>,
    Ids([channel, id]): Ids<2>,
) -> Result<Response, ApiError> {
    let (entry, message) = find(&gateway, &caller, &channel, &id).await?;
    let reactions = Reactions::to_items(&gateway, entry.via.key, std::slice::from_ref(&message)).await?;
    let message = AnyMessage::new(message, &channel, gateway.behaviour.media_base())?;
    Ok(json::answer(StatusCode::OK, &Data { data: reactions.add_to_any(message) }))
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("Messages", "getMessage", "Show a message")
        .about("One that a call sent, or one that the network delivered. Also on a channel that was deleted.")
        .needs(Scope::MessagesRead)
        .answers::<Data<AnyMessage>>(200, "The message.", json!({"data": example(MessageStatus::Sent)}))
        .refuses([ApiError::ChannelNotFound, ApiError::MessageNotFound, ApiError::Unavailable])
}

/// A message of the caller in either direction, and its channel, which may be deleted.
pub(super) async fn find<S>(
    gateway: &Gateway,
    caller: &Caller<S>,
    channel: &str,
    id: &str,
) -> Result<(Arc<ChannelEntry>, InboxItem), ApiError> {
    let entry = caller.channel_or_its_history(gateway, channel)?;
    let id = id.parse().map_err(|_| ApiError::MessageNotFound)?;
    if let Some(message) = gateway.store.message(entry.via.key, id).await? {
        return Ok((entry, InboxItem::Sent(Box::new(message))));
    }
    let message = gateway.store.incoming(entry.via.key, id).await?.ok_or(ApiError::MessageNotFound)?;
    Ok((entry, InboxItem::Incoming(Box::new(message))))
}
