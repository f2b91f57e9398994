//! Events of the caller's institution: the stream, one event, and what is recorded for the stream.

pub mod get;
pub mod list;
mod position;
pub mod settings;
mod stream;
mod transient;

use std::borrow::Cow;
use std::collections::BTreeSet;

use recado_domain::api_key::Scopes;
use recado_domain::event::{ChatKind, EVENTS, Event, Filter, Patterns, TRANSIENT};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Value, json};

use super::error::ApiError;
use crate::events::render::Body;

/// An event as the API shows it.
#[derive(Serialize)]
#[serde(transparent)]
pub struct EventView<'a>(Body<'a>);

impl<'a> EventView<'a> {
    /// An event, with this address before the path of a file.
    pub fn new(event: &'a Event, base: &str) -> Self {
        Self(Body::new(event, true, base))
    }
}

impl JsonSchema for EventView<'_> {
    fn schema_name() -> Cow<'static, str> {
        "Event".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "required": ["id", "event", "version", "createdAt", "environment", "channelId", "test", "data"],
            "properties": {
                "id": {"type": "string", "pattern": EVENT_ID, "description": "The same on every read and delivery."},
                "event": {"type": "string", "description": "Further events may be added at any time."},
                "version": {"type": "string", "const": "1"},
                "createdAt": {"type": "string", "format": "date-time"},
                "environment": {"type": "string", "enum": ["live", "test"]},
                "channelId": {"type": ["string", "null"]},
                "test": {"type": "boolean", "description": "An example that a test of a webhook sent."},
                "data": {"type": ["object", "null"], "description": "By the event: see docs/webhooks.md."},
            },
        })
    }
}

/// The form of the id of an event.
pub const EVENT_ID: &str = "^evt_[0-9a-f]{32}$";

/// An event for the document.
pub fn example() -> Value {
    json!({
        "id": "evt_01a2085f07eb0000000000070a5c1f22",
        "event": "message.delivered",
        "version": "1",
        "createdAt": "2026-11-23T12:26:15.403Z",
        "environment": "live",
        "channelId": "vendas",
        "test": false,
        "data": {
            "messageId": "01a2085f-07eb-7913-a5da-c9ff5fe6d655",
            "networkId": "3EB0459984FC15DDAB10A5",
            "conversationId": null,
            "reference": null,
            "type": "text",
            "to": "5511999998888",
            "account": "5511999998888",
            "status": "DELIVERED",
            "at": "2026-11-23T12:26:15.403Z",
            "pricing": null,
        },
    })
}

/// The regular expression of a pattern of stored events, for the document.
pub fn pattern_form() -> String {
    form(EVENTS.iter().map(|(name, _)| *name))
}

/// The same for the stream, which has further events.
fn stream_pattern_form() -> String {
    form(EVENTS.iter().chain(&TRANSIENT).map(|(name, _)| *name))
}

fn form(names: impl Iterator<Item = &'static str> + Clone) -> String {
    let groups: BTreeSet<_> = names.clone().filter_map(|name| name.split_once('.')).map(|(group, _)| group).collect();
    let groups = groups.into_iter().map(|group| format!("{group}\\.\\*"));
    let names = names.map(|name| name.replace('.', "\\."));
    format!("({})", ["\\*".to_owned()].into_iter().chain(groups).chain(names).collect::<Vec<_>>().join("|"))
}

pub const BAD_CHATS: &str = "Os tipos de conversa devem ser DIRECT ou GROUP.";

/// Reads patterns of stored events that a caller gave; the error is the text for the field.
pub fn patterns<T: AsRef<str>>(texts: &[T], may_exclude: bool) -> Result<Patterns, String> {
    let patterns = stream_patterns(texts, may_exclude)?;
    match patterns.transient() {
        None => Ok(patterns),
        Some(pattern) => Err(format!("Este evento existe apenas no fluxo (text/event-stream): {pattern}.")),
    }
}

/// The same for a reader that also receives what is not stored.
fn stream_patterns<T: AsRef<str>>(texts: &[T], may_exclude: bool) -> Result<Patterns, String> {
    if texts.len() > Patterns::LIMIT {
        return Err("A lista deve ter no maximo 64 eventos.".to_owned());
    }
    Patterns::parse(texts, may_exclude).map_err(|text| {
        // The error does not repeat the name, because the name can have any length.
        let shown: String = text.chars().filter(|sign| !sign.is_control()).take(64).collect();
        format!("Evento desconhecido: {shown}.")
    })
}

/// Chat kinds by their names.
pub fn chats<T: AsRef<str>>(names: &[T]) -> Option<Vec<ChatKind>> {
    let kinds: Option<Vec<_>> = names.iter().map(|name| ChatKind::from_name(name.as_ref())).collect();
    kinds.filter(|kinds| !kinds.is_empty())
}

/// Refuses a filter that asks for events which the key may not read. `*` asks for what the key may read.
pub fn check_scopes(filter: &Filter) -> Result<(), ApiError> {
    may_read(&filter.events, filter.scopes)
}

pub fn may_read(events: &Patterns, scopes: Scopes) -> Result<(), ApiError> {
    let missing = events.needed_scopes().without(scopes);
    if missing.is_empty() { Ok(()) } else { Err(ApiError::MissingScopes(missing)) }
}
