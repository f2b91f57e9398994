//! `GET /v1/sandbox/messages`: what the simulated phone shows, newest first.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::message::{Content, GivenContact, Stored};
use recado_domain::phone::PhoneNumber;
use serde::Serialize;

use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, List, Pagination};
use crate::api::query::{self, Query};
use crate::clock::rfc3339;
use crate::gateway::Gateway;
use crate::provider::sandbox::network::{PhoneQuery, Shown};

/// Lists what arrived; `direction` and `to` filter.
pub async fn messages(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::SandboxRead>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    caller.sandbox_only()?;
    let mut query = Query::parse(query.as_deref(), &["limit", "cursor", "direction", "to"]);
    let limit = query.limit();
    let before = query.take("cursor", query::CURSOR, |text| Some(text.to_owned()));
    let direction = query.take("direction", "A direcao deve ser INBOUND ou OUTBOUND.", |text| match text {
        "OUTBOUND" => Some(true),
        "INBOUND" => Some(false),
        _ => None,
    });
    let recipient = query.take("to", "O numero do destinatario deve estar no formato DDI+DDD+NUM.", |text| {
        PhoneNumber::parse(text.trim()).ok().map(|phone| phone.digits().to_owned())
    });
    query.finish()?;
    let mut shown = if direction == Some(false) {
        // Nothing comes in by the sandbox yet.
        Vec::new()
    } else {
        let asked = PhoneQuery { institution: caller.institution, recipient, before, limit: limit + 1 };
        gateway.providers.sandbox().shown(asked).await?.ok_or_else(query::bad_cursor)?
    };
    let more = shown.len() > limit;
    shown.truncate(limit);
    let next_cursor = shown.last().filter(|_| more).map(|shown| shown.network_id.clone());
    let data = shown.into_iter().map(view).collect::<Result<Vec<_>, _>>()?;
    Ok(json::answer(StatusCode::OK, &List { data, pagination: Pagination { limit, next_cursor } }))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownView {
    id: String,
    channel_id: String,
    network_id: String,
    direction: &'static str,
    to: String,
    #[serde(rename = "type")]
    kind: &'static str,
    contact: GivenContact,
    vcard: String,
    received_at: String,
    arrivals: u32,
}

fn view(shown: Shown) -> Result<ShownView, ApiError> {
    let stored: Stored = serde_json::from_str(&shown.contact).map_err(|_| ApiError::Internal)?;
    let Content::Contact { contact } = stored.content;
    Ok(ShownView {
        id: shown.id,
        channel_id: shown.channel_id,
        network_id: shown.network_id,
        direction: "OUTBOUND",
        to: shown.recipient,
        kind: "contact",
        contact,
        vcard: shown.vcard,
        received_at: rfc3339(shown.received_at),
        arrivals: shown.arrivals,
    })
}
