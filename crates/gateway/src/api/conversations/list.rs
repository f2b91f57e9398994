//! `GET /v1/conversations`: the conversations of the caller's institution, the most recently active first.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::conversation::{ConversationQuery, Status};
use recado_domain::ids::{ChannelId, ContactId};
use serde_json::json;

use super::{ConversationView, example};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::fields::{bad_id, id_schema, is_id};
use crate::api::json::{self, List, Pagination};
use crate::api::openapi::{Operation, schemas};
use crate::api::query::{self, Query};
use crate::gateway::Gateway;

const PARAMETERS: [&str; 9] =
    ["limit", "cursor", "status", "assignedTo", "departmentId", "channelId", "contactId", "unread", "window"];

/// Lists conversations; filters narrow the list.
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ConversationsRead>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let (owner, now) = ((caller.institution, caller.environment), gateway.clock.now());
    let mut query = Query::parse(query.as_deref(), &PARAMETERS);
    let limit = query.limit();
    let id = |name: &'static str| {
        move |text: &str| Some(text.to_owned()).filter(|id| is_id(id)).ok_or_else(|| bad_id(name).into_owned())
    };
    let channel = query.get("channelId", "O campo channelId deve ser o id de um canal.", |text| text.parse().ok());
    let asked = ConversationQuery {
        after: query.get("cursor", query::CURSOR, |text| text.parse().ok()),
        status: query.one_of("status", "O status", Status::ALL, Status::name),
        assigned_to: query.get_with("assignedTo", id("assignedTo")),
        department: query.get_with("departmentId", id("departmentId")),
        contact: query
            .get("contactId", "O campo contactId deve ser o id de um contato.", |text| text.parse::<ContactId>().ok()),
        unread: query.switch("unread", "O filtro unread deve ser true."),
        window_open: query
            .get("window", "O filtro window deve ser OPEN.", |text| (text == "OPEN").then_some(true))
            .unwrap_or(false),
        ..ConversationQuery::of(owner, now, limit)
    };
    query.finish()?;
    let channel =
        channel.map(|channel: ChannelId| caller.channel_or_its_history(&gateway, channel.as_str())).transpose()?;
    let asked = ConversationQuery { channel: channel.map(|entry| entry.via.key), ..asked };
    let page = gateway.store.conversations(asked).await?;
    let data: Vec<_> = page.conversations.iter().map(|one| ConversationView::new(one, now)).collect();
    let next_cursor = page.next.map(|place| place.to_string());
    Ok(json::answer(StatusCode::OK, &List { data, pagination: Pagination { limit, next_cursor } }))
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let page = json!({"data": [example()], "pagination": {"limit": 20, "nextCursor": null}});
    let uuid = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
    operation
        .named("Conversations", "listConversations", "List conversations")
        .about(
            "The most recently active first. A page may be shorter than `limit`, or empty, and still have a \
             `nextCursor`. A conversation that becomes active moves to the front, so a list that was begun before may \
             lack it.",
        )
        .needs(Scope::ConversationsRead)
        .pages(json!({"type": "string", "pattern": format!("^[0-9]{{1,18}}\\.{uuid}$")}))
        .query("status", "Only those in this state.", schemas::one_of(Status::ALL.map(Status::name)))
        .query("assignedTo", "Only those of this attendant.", id_schema())
        .query("departmentId", "Only those of this department.", id_schema())
        .query("channelId", "Only those of this channel.", schemas::channel_id())
        .query("contactId", "Only those with this contact.", json!({"type": "string", "pattern": format!("^{uuid}$")}))
        .query("unread", "Only those with unread messages.", json!({"const": true}))
        .query("window", "Only those whose service window is open now.", json!({"const": "OPEN"}))
        .answers::<List<ConversationView>>(200, "A page of conversations.", page)
        .refuses([ApiError::ChannelNotFound, ApiError::Unavailable])
}
