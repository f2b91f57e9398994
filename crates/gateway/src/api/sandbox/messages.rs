//! `GET /v1/sandbox/messages`: the messages in the sandbox inbox, and what people did there, newest first.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::ids::NetworkId;
use recado_domain::incoming::Direction;
use recado_domain::message::{ContactRendition, Stored};
use recado_domain::simulation::{Act, Simulated};
use recado_providers::sandbox::network::{PhoneQuery, Shown};
use recado_store::clock::rfc3339;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, List, Pagination};
use crate::api::messages::{self, EXAMPLE_ID, example_contact};
use crate::api::openapi::{Operation, schemas};
use crate::api::query::{self, Query};
use crate::gateway::Gateway;

/// Lists the messages. `direction` and `to` filter them.
pub async fn messages(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::SandboxRead>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    caller.sandbox_only()?;
    let mut query = Query::parse(query.as_deref(), &["limit", "cursor", "direction", "to"]);
    let limit = query.limit();
    let before = query.get("cursor", query::CURSOR, |text| text.parse::<NetworkId>().ok());
    let direction = query.get("direction", "A direcao deve ser INBOUND ou OUTBOUND.", Direction::from_name);
    let recipient = query.recipient(gateway.country(caller.institution));
    query.finish()?;
    let asked = PhoneQuery { institution: caller.institution, direction, recipient, before, limit: limit + 1 };
    let mut shown = gateway.drivers.sandbox().shown(asked).await?.ok_or_else(query::bad_cursor)?;
    let more = shown.len() > limit;
    shown.truncate(limit);
    let next_cursor = shown.last().filter(|_| more).map(|shown| shown.network_id.clone());
    let data = shown.into_iter().map(view).collect::<Result<Vec<_>, _>>()?;
    Ok(json::answer(StatusCode::OK, &List { data, pagination: Pagination { limit, next_cursor } }))
}

/// A message in the sandbox inbox, or what a person did.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "SandboxMessage")]
enum ShownView {
    Outbound(Box<OutboundView>),
    Inbound(Box<InboundView>),
}

/// A message that the gateway sent.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SandboxOutbound")]
struct OutboundView {
    id: String,
    #[schemars(with = "schemas::ChannelId")]
    channel_id: String,
    #[schemars(with = "schemas::NetworkId")]
    network_id: String,
    #[schemars(with = "schemas::Outbound")]
    direction: &'static str,
    /// The digits of a number, or the address of a chat.
    to: String,
    #[serde(rename = "type")]
    #[schemars(with = "schemas::Kinds")]
    kind: &'static str,
    #[serde(flatten)]
    shown: messages::Shown,
    /// Present if the kind is `contact`: all cards, each on its own lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    vcard: Option<String>,
    /// The network id of the quoted message.
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<String>,
    #[schemars(with = "schemas::Time")]
    received_at: String,
    /// The number of arrivals. Above 1, the message was sent again and recognised.
    #[schemars(range(min = 1))]
    arrivals: u32,
}

/// What a person did.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SandboxInbound")]
struct InboundView {
    id: String,
    #[schemars(with = "schemas::ChannelId")]
    channel_id: String,
    #[schemars(with = "schemas::NetworkId")]
    network_id: String,
    #[schemars(with = "schemas::Inbound")]
    direction: &'static str,
    /// The address of the person.
    from: String,
    #[serde(rename = "type")]
    #[schemars(with = "schemas::SimulatedTypes")]
    kind: String,
    /// The text that a person reads.
    content: String,
    /// The network id of the message that it answers or changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[schemars(with = "schemas::Time")]
    sent_at: String,
    #[schemars(with = "schemas::Time")]
    received_at: String,
    /// How often the network has delivered it; 0 while it is held.
    #[schemars(range(min = 0))]
    arrivals: u32,
    /// When the person saw that it was read.
    #[schemars(with = "Option<schemas::Time>")]
    read_at: Option<String>,
}

fn view(shown: Shown) -> Result<ShownView, ApiError> {
    match shown.direction {
        Direction::Outbound => outbound(shown).map(|view| ShownView::Outbound(Box::new(view))),
        Direction::Inbound => inbound(shown).map(|view| ShownView::Inbound(Box::new(view))),
    }
}

fn outbound(shown: Shown) -> Result<OutboundView, ApiError> {
    let stored: Stored = serde_json::from_str(&shown.payload).map_err(|_| ApiError::Internal)?;
    let rendition = shown.rendition.as_deref().and_then(ContactRendition::from_json);
    Ok(OutboundView {
        id: shown.id,
        channel_id: shown.channel_id,
        network_id: shown.network_id,
        direction: shown.direction.name(),
        to: shown.recipient,
        kind: stored.content.kind().name,
        shown: messages::Shown::of(&stored, None),
        vcard: rendition.map(|rendition| rendition.text()),
        reply_to: stored.reply_to.map(|target| target.network_id),
        received_at: rfc3339(shown.received_at),
        arrivals: shown.arrivals,
    })
}

fn inbound(shown: Shown) -> Result<InboundView, ApiError> {
    let simulated: Simulated = serde_json::from_str(&shown.payload).map_err(|_| ApiError::Internal)?;
    let content = match &simulated.act {
        Act::Say { text, .. } | Act::Edit { text } => text.clone(),
        Act::React { emoji } => emoji.clone().unwrap_or_default(),
        Act::Vote { options } => options.join(", "),
        Act::Change { new } => new.address(),
        Act::Revoke | Act::Typing { .. } => String::new(),
    };
    Ok(InboundView {
        id: shown.id,
        channel_id: shown.channel_id,
        network_id: shown.network_id,
        direction: shown.direction.name(),
        from: shown.recipient,
        kind: shown.kind,
        content,
        target: simulated.target,
        sent_at: rfc3339(simulated.sent_at),
        received_at: rfc3339(shown.received_at),
        arrivals: shown.arrivals,
        read_at: shown.read_at.map(rfc3339),
    })
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("Sandbox", "listSandboxMessages", "List what the sandbox phone shows")
        .about("Newest first.")
        .needs(Scope::SandboxRead)
        .pages(schemas::network_id())
        .query("direction", "Only one direction.", schemas::one_of(["OUTBOUND", "INBOUND"]))
        .query("to", "Only those to this address.", schemas::address("DDI+DDD+NUM, or the address of a chat."))
        .answers::<List<ShownView>>(
            200,
            "A page of what arrived.",
            json!({
                "data": [example()],
                "pagination": {"limit": 20, "nextCursor": null},
            }),
        )
        .refuses([ApiError::Unavailable])
}

fn example() -> Value {
    json!({
        "id": format!("msg_sandbox_{EXAMPLE_ID}"),
        "channelId": "sandbox",
        "networkId": "3EB0459984FC15DDAB10A5",
        "direction": "OUTBOUND",
        "to": "5511999998888",
        "type": "contact",
        "contact": example_contact(),
        "vcard": "BEGIN:VCARD\nVERSION:3.0\nN:;Maria Silva - Suporte;;;\nFN:Maria Silva - Suporte\n\
                  TEL;type=CELL;type=VOICE;waid=5511988887777:+5511988887777\nEND:VCARD",
        "receivedAt": "2026-11-24T12:26:15.406Z",
        "arrivals": 1,
    })
}
