//! `GET /v1/channels/{channelId}`: a channel with its state.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::ChannelView;
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data};
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
    let channel = channels::get(&gateway, &entry).await?;
    Ok(json::answer(StatusCode::OK, &Data { data: ChannelView::from(channel) }))
}
