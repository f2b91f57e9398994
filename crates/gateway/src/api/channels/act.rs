//! `POST /v1/channels/{channelId}/disconnect`, `pause`, `resume`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::channel::{ChannelAction, ChannelState};
use serde_json::json;

use super::{ChannelView, example};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data, NoBody};
use crate::api::openapi::Operation;
use crate::api::path::Ids;
use crate::gateway::Gateway;
use crate::operations::channels;

type Answer = Result<Response, ApiError>;

async fn act(gateway: &Gateway, caller: &Caller<scope::ChannelsWrite>, id: &str, action: ChannelAction) -> Answer {
    let entry = caller.channel(gateway, id)?;
    let channel = channels::act(gateway, &entry, action, caller.actor()).await?;
    Ok(json::answer(StatusCode::OK, &Data { data: ChannelView::from(channel) }))
}

/// Closes the connection of a channel; waiting messages are held.
pub async fn disconnect(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ChannelsWrite>,
    Ids([channel]): Ids<1>,
    _: NoBody,
) -> Answer {
    act(&gateway, &caller, &channel, ChannelAction::Disconnect).await
}

/// Holds waiting messages.
pub async fn pause(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ChannelsWrite>,
    Ids([channel]): Ids<1>,
    _: NoBody,
) -> Answer {
    act(&gateway, &caller, &channel, ChannelAction::Pause).await
}

/// Ends a pause.
pub async fn resume(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ChannelsWrite>,
    Ids([channel]): Ids<1>,
    _: NoBody,
) -> Answer {
    act(&gateway, &caller, &channel, ChannelAction::Resume).await
}

/// The operation in the OpenAPI document.
pub fn describe_disconnect(operation: Operation<'_>) -> Operation<'_> {
    describe(operation.named("Channels", "disconnectChannel", "Disconnect a channel"), ChannelState::Disconnected)
}

/// The operation in the OpenAPI document.
pub fn describe_pause(operation: Operation<'_>) -> Operation<'_> {
    describe(operation.named("Channels", "pauseChannel", "Hold what waits"), ChannelState::Paused)
}

/// The operation in the OpenAPI document.
pub fn describe_resume(operation: Operation<'_>) -> Operation<'_> {
    describe(operation.named("Channels", "resumeChannel", "End a pause"), ChannelState::Connected)
}

fn describe(operation: Operation<'_>, state: ChannelState) -> Operation<'_> {
    operation
        .about("An action that changes nothing is answered 200.")
        .needs(Scope::ChannelsWrite)
        .answers::<Data<ChannelView>>(200, "The channel as it is now.", json!({"data": example(state)}))
        .no_body()
        .refuses([ApiError::ChannelNotFound, ApiError::ChannelNotConnected, ApiError::Unavailable])
}
