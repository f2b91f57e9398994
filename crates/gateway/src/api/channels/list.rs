//! `GET /v1/channels`: the caller's channels, oldest first.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::channel::ChannelState;
use serde_json::json;

use super::{ChannelView, example};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, List, Pagination};
use crate::api::openapi::{Operation, schemas};
use crate::api::query::{self, Query};
use crate::gateway::Gateway;
use crate::operations::channels::as_seen;

/// Lists channels.
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ChannelsRead>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let mut query = Query::parse(query.as_deref(), &["limit", "cursor"]);
    let limit = query.limit();
    let cursor = query.get("cursor", query::CURSOR, |text| Some(text.to_owned()));
    query.finish()?;
    let after = match cursor {
        // A channel that was deleted between two pages still marks its position.
        Some(id) => caller.channel_or_its_history(&gateway, &id).map_err(|_| query::bad_cursor())?.via.key,
        None => 0,
    };
    let owner = (caller.institution, caller.environment);
    let mut channels = gateway.store.channels_of(owner, after, limit + 1).await?;
    let more = channels.len() > limit;
    channels.truncate(limit);
    let next_cursor = channels.last().filter(|_| more).map(|channel| channel.id.to_string());
    let data = channels.into_iter().map(|channel| ChannelView::from(as_seen(&gateway, channel))).collect();
    Ok(json::answer(StatusCode::OK, &List { data, pagination: Pagination { limit, next_cursor } }))
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let page = json!({"data": [example(ChannelState::Connected)], "pagination": {"limit": 20, "nextCursor": null}});
    operation
        .named("Channels", "listChannels", "List channels")
        .about("Oldest first.")
        .needs(Scope::ChannelsRead)
        .pages(schemas::channel_id())
        .answers::<List<ChannelView>>(200, "A page of channels.", page)
        .refuses([ApiError::Unavailable])
}
