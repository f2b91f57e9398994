//! `POST /v1/channels/{channelId}/connect`, `disconnect`, `pause`, `resume`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::channel::ChannelAction;

use super::ChannelView;
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data};
use crate::api::path::Ids;
use crate::gateway::Gateway;
use crate::operations::channels;

type Answer = Result<Response, ApiError>;

async fn act(gateway: &Gateway, caller: &Caller<scope::ChannelsWrite>, id: &str, action: ChannelAction) -> Answer {
    let entry = caller.channel(gateway, id)?;
    let channel = channels::act(gateway, &entry, action).await?;
    Ok(json::answer(StatusCode::OK, &Data { data: ChannelView::from(channel) }))
}

/// Brings the line up.
pub async fn connect(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ChannelsWrite>,
    Ids([channel]): Ids<1>,
) -> Answer {
    act(&gateway, &caller, &channel, ChannelAction::Connect).await
}

/// Puts the line down; what waits is held.
pub async fn disconnect(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ChannelsWrite>,
    Ids([channel]): Ids<1>,
) -> Answer {
    act(&gateway, &caller, &channel, ChannelAction::Disconnect).await
}

/// Holds what waits.
pub async fn pause(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ChannelsWrite>,
    Ids([channel]): Ids<1>,
) -> Answer {
    act(&gateway, &caller, &channel, ChannelAction::Pause).await
}

/// Ends a pause.
pub async fn resume(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ChannelsWrite>,
    Ids([channel]): Ids<1>,
) -> Answer {
    act(&gateway, &caller, &channel, ChannelAction::Resume).await
}
