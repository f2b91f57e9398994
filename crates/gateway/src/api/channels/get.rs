//! `GET /v1/channels/{channelId}`: a channel with its state.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::channel::ChannelState;
use serde_json::json;

use super::{ChannelView, example};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data};
use crate::api::openapi::Operation;
use crate::api::path::Ids;
use crate::gateway::Gateway;
use crate::operations::channels;

/// Shows a channel.
pub async fn get(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ChannelsRead>,
    Ids([channel]): Ids<1>,
) -> Result<Response, ApiError> {
    let entry = caller.channel(&gateway, &channel)?;
    let channel = channels::as_seen(&gateway, channels::get(&gateway, &entry).await?);
    Ok(json::answer(StatusCode::OK, &Data { data: ChannelView::from(channel) }))
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("Channels", "getChannel", "Show a channel")
        .needs(Scope::ChannelsRead)
        .answers::<Data<ChannelView>>(200, "The channel.", json!({"data": example(ChannelState::Connected)}))
        .refuses([ApiError::ChannelNotFound, ApiError::Unavailable])
}
