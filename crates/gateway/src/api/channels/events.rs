//! `GET /v1/channels/{channelId}/events`: the events of a channel, newest first.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::channel::{Actor, ChannelEvent, ChannelEventQuery, ChannelState};
use recado_store::clock::rfc3339;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, List, Pagination};
use crate::api::openapi::{Operation, schemas};
use crate::api::path::Ids;
use crate::api::query::{self, Query};
use crate::gateway::Gateway;

/// An event of a channel.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ChannelEvent")]
pub struct EventView {
    /// `channel.created`, `channel.deleted`, or `channel.` and the state that the channel has since.
    event: &'static str,
    /// The state before; null if the channel was created.
    #[schemars(with = "Option<String>")]
    from: Option<&'static str>,
    /// The state after; null if the channel was deleted.
    #[schemars(with = "Option<String>")]
    to: Option<&'static str>,
    /// Portuguese, for people.
    reason: Option<String>,
    actor: ActorView,
    /// The node that owned the channel; null if one process has the store to itself.
    node: Option<String>,
    at: String,
}

/// The actor of an event.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Actor")]
struct ActorView {
    /// `KEY` (a caller of the API), `OPERATOR` (the command line), `NETWORK` (WhatsApp, or the phone), `RECADO`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The caller's key; null if the actor was no caller of the API.
    api_key_id: Option<String>,
}

impl From<ChannelEvent> for EventView {
    fn from(event: ChannelEvent) -> Self {
        let what = event.what;
        Self {
            event: what.kind(),
            from: what.from.map(ChannelState::name),
            to: what.to.map(ChannelState::name),
            actor: what.by.into(),
            reason: what.reason,
            node: event.node,
            at: rfc3339(event.at),
        }
    }
}

impl From<Actor> for ActorView {
    fn from(actor: Actor) -> Self {
        let (kind, api_key_id) = match actor {
            Actor::Key { id } => ("KEY", Some(id.to_string())),
            Actor::Operator => ("OPERATOR", None),
            Actor::Network => ("NETWORK", None),
            Actor::Recado => ("RECADO", None),
        };
        Self { kind, api_key_id }
    }
}

/// Lists the events of a channel.
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ChannelsRead>,
    Ids([channel]): Ids<1>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let mut query = Query::parse(query.as_deref(), &["limit", "cursor"]);
    let limit = query.limit();
    let before = query.get("cursor", query::CURSOR, event_number);
    query.finish()?;
    let entry = caller.channel_or_its_history(&gateway, &channel)?;
    let asked = ChannelEventQuery { channel: entry.via.key, before, limit };
    let page = gateway.store.channel_events(asked).await?;
    let next_cursor = page.next.map(|seq| seq.to_string());
    let data: Vec<EventView> = page.events.into_iter().map(Into::into).collect();
    Ok(json::answer(StatusCode::OK, &List { data, pagination: Pagination { limit, next_cursor } }))
}

/// Parses the number of an event, as `nextCursor` has it.
fn event_number(text: &str) -> Option<i64> {
    text.parse().ok().filter(|number: &i64| *number > 0 && number.to_string() == text)
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let event = json!({
        "event": "channel.paused",
        "from": "CONNECTED",
        "to": "PAUSED",
        "reason": "Pausado a pedido.",
        "actor": {"type": "KEY", "apiKeyId": "01a2085f-bdc7-7d74-9b4c-13124b5db9c5"},
        "node": null,
        "at": "2026-11-23T12:26:15.403Z",
    });
    let page = json!({"data": [event], "pagination": {"limit": 20, "nextCursor": null}});
    operation
        .named("Channels", "listChannelEvents", "List what happened to a channel")
        .about("Newest first; also of a channel that was deleted. Events are kept for 365 days.")
        .needs(Scope::ChannelsRead)
        .pages(schemas::event_number())
        .answers::<List<EventView>>(200, "A page of events.", page)
        .refuses([ApiError::ChannelNotFound, ApiError::Unavailable])
}
