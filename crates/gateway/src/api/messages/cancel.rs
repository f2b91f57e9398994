//! `DELETE /v1/channels/{channelId}/messages/{messageId}`: cancels a queued message.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::conversation::InboxItem;
use recado_domain::message::Cancelled;
use recado_domain::status::MessageStatus;
use serde_json::json;

use super::get::find;
use super::view::{MessageView, example};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data, NoBody};
use crate::api::openapi::Operation;
use crate::api::path::Ids;
use crate::gateway::Gateway;

/// Cancels a message.
pub async fn cancel(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::MessagesSend>,
    Ids([channel, id]): Ids<2>,
    _: NoBody,
) -> Result<Response, ApiError> {
    let (entry, message) = find(&gateway, &caller, &channel, &id).await?;
    // What the network delivered is not queued.
    let InboxItem::Sent(message) = message else { return Err(ApiError::MessageNotCancellable) };
    match gateway.store.cancel(entry.via.key, message.id, gateway.clock.now()).await? {
        Cancelled::NoMessage => return Err(ApiError::MessageNotFound),
        Cancelled::TooLate => return Err(ApiError::MessageNotCancellable),
        Cancelled::Done => {}
    }
    let message = gateway.store.message(entry.via.key, message.id).await?.ok_or(ApiError::MessageNotFound)?;
    Ok(json::answer(StatusCode::OK, &Data { data: MessageView::new(message, &channel)? }))
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("Messages", "cancelMessage", "Cancel what is still queued")
        .needs(Scope::MessagesSend)
        .no_body()
        .answers::<Data<MessageView>>(
            200,
            "The message, now cancelled.",
            json!({"data": example(MessageStatus::Cancelled)}),
        )
        .refuses([
            ApiError::ChannelNotFound,
            ApiError::MessageNotFound,
            ApiError::MessageNotCancellable,
            ApiError::Unavailable,
        ])
}
