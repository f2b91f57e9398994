//! `GET` and `PUT /v1/events/settings`: which events are recorded for the stream.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::event::Patterns;
use recado_domain::field_errors::FieldErrors;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::{pattern_form, patterns};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data, JsonBody};
use crate::api::openapi::Operation;
use crate::gateway::Gateway;

const FIELDS: [&str; 1] = ["eventLog"];
const BAD_LOG: &str = "O campo eventLog deve ser uma lista de eventos.";

/// What is recorded for the stream.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "EventSettings")]
struct Settings {
    /// Patterns: names, `message.*`, `*`; with `!` before it a pattern excludes. An empty list records nothing.
    event_log: Vec<String>,
    /// Whether events are recorded for the stream now: since its first reader, or since this was set.
    recording: bool,
}

impl Settings {
    fn new(log: Option<&Patterns>) -> Self {
        let texts = log.map_or_else(|| Patterns::default_log().texts(), Patterns::texts);
        Self { event_log: texts, recording: log.is_some_and(|log| !log.is_empty()) }
    }
}

/// Shows what is recorded.
pub async fn get(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::WebhooksRead>,
) -> Result<Response, ApiError> {
    let log = gateway.store.event_log((caller.institution, caller.environment)).await?;
    Ok(json::answer(StatusCode::OK, &Data { data: Settings::new(log.as_ref()) }))
}

/// Sets what is recorded.
pub async fn put(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::WebhooksWrite>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let object = body.object()?;
    let mut errors = FieldErrors::default();
    let log = object
        .value::<Vec<String>>("eventLog", || BAD_LOG.into())
        .and_then(|texts| Ok(patterns(&texts.ok_or(BAD_LOG)?, true)?));
    let log = errors.collect("eventLog", log);
    errors.append(object.refuse_unknown(&FIELDS));
    let Some(log) = log.filter(|_| errors.is_empty()) else { return Err(errors.into()) };
    gateway.store.set_event_log((caller.institution, caller.environment), log.clone()).await?;
    Ok(json::answer(StatusCode::OK, &Data { data: Settings::new(Some(&log)) }))
}

/// What the OpenAPI document says of it.
pub fn describe_get(operation: Operation<'_>) -> Operation<'_> {
    let settings = json!({"eventLog": ["*", "!message.queued"], "recording": false});
    operation
        .named("Events", "getEventSettings", "Show what is recorded for the stream")
        .needs(Scope::WebhooksRead)
        .answers::<Data<Settings>>(200, "The settings.", json!({"data": settings}))
        .refuses([ApiError::Unavailable])
}

/// What the OpenAPI document says of it.
pub fn describe_put(operation: Operation<'_>) -> Operation<'_> {
    let settings = json!({"eventLog": ["message.*"], "recording": true});
    let item = json!({"type": "string", "pattern": format!("^!?{}$", pattern_form())});
    let schema = json!({
        "type": "object",
        "required": FIELDS,
        "additionalProperties": false,
        "properties": {"eventLog": {"type": "array", "maxItems": Patterns::LIMIT, "items": item}},
    });
    operation
        .named("Events", "setEventSettings", "Set what is recorded for the stream")
        .about(
            "Webhooks receive their events whatever is set here. `message.queued` costs each accepted message a row.",
        )
        .needs(Scope::WebhooksWrite)
        .body("NewEventSettings", schema, json!({"eventLog": ["message.*"]}))
        .answers::<Data<Settings>>(200, "The settings.", json!({"data": settings}))
        .refuses([ApiError::field("eventLog", BAD_LOG), ApiError::Unavailable])
}
