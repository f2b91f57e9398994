//! `GET /v1/channels/{channelId}/conversations/{conversationId}`: the messages of a conversation, in both directions.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::conversation::{ConversationMessages, Order};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::parse;
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json;
use crate::api::messages::{AnyMessage, example_received, of_conversation};
use crate::api::openapi::{Operation, schemas};
use crate::api::path::Ids;
use crate::api::query::{self, Query};
use crate::gateway::Gateway;

/// Messages on a page.
const LIMITS: (usize, usize) = (50, 500);
const BAD_LIMIT: &str = "O limite deve ser um numero de 1 a 500.";

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ConversationMessages")]
struct Page {
    data: Vec<AnyMessage>,
    pagination: Pagination,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ConversationPagination")]
struct Pagination {
    /// The most messages of a page.
    #[schemars(range(min = 1, max = 500))]
    limit: usize,
    /// `cursor` of the next page; `null` at the end.
    next_cursor: Option<String>,
}

/// Lists the messages of a conversation.
pub async fn messages(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::MessagesRead>,
    Ids([channel, id]): Ids<2>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let mut query = Query::parse(query.as_deref(), &["limit", "cursor", "order"]);
    let limit = query.whole("limit", BAD_LIMIT, 1..=LIMITS.1).unwrap_or(LIMITS.0);
    let after = query.get("cursor", query::CURSOR, |text| text.parse().ok());
    let order = query.get("order", "A ordem deve ser asc ou desc.", |text| match text {
        "desc" => Some(Order::NewestFirst),
        "asc" => Some(Order::OldestFirst),
        _ => None,
    });
    query.finish()?;
    let entry = caller.channel_or_its_history(&gateway, &channel)?;
    let asked = ConversationMessages {
        owner: (caller.institution, caller.environment),
        channel: entry.via.key,
        conversation: parse(&id)?,
        direction: None,
        after,
        order: order.unwrap_or_default(),
        limit,
    };
    let (data, next_cursor) = of_conversation::page(&gateway, &channel, asked).await?;
    Ok(json::answer(StatusCode::OK, &Page { data, pagination: Pagination { limit, next_cursor } }))
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let page = json!({"data": [example_received()], "pagination": {"limit": 50, "nextCursor": null}});
    let cursor = json!({"type": "string", "pattern": "^-?[0-9]{1,19}\\.-?[0-9]{1,19}$"});
    let limit = json!({"type": "integer", "minimum": 1, "maximum": LIMITS.1, "default": LIMITS.0});
    operation
        .named("Conversations", "listConversationMessages", "List the messages of a conversation")
        .about(
            "In both directions, by Recado's clock. Also on a channel that was deleted. A page of long messages is \
             shorter than `limit`, and has a `nextCursor`.",
        )
        .needs(Scope::MessagesRead)
        .query("limit", "Most messages on a page.", limit)
        .query("cursor", "`nextCursor` of the page before, in the same order.", cursor)
        .query("order", "Newest first (`desc`, default), or oldest first.", schemas::one_of(["desc", "asc"]))
        .answers::<Page>(200, "A page of messages.", page)
        .refuses([
            ApiError::field("limit", BAD_LIMIT),
            ApiError::ChannelNotFound,
            ApiError::ConversationNotFound,
            ApiError::Unavailable,
        ])
}
