//! A conversation as the API shows it.

use std::borrow::Cow;

use recado_domain::clock::Millis;
use recado_domain::conversation::{Conversation, Status, WindowState};
use recado_domain::event::ChatKind;
use recado_domain::incoming::Direction;
use recado_store::views;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::openapi::schemas::{self, channel_id, object, one_of, uuid};

/// A conversation. Events show it in the same form.
#[derive(Serialize)]
#[serde(transparent)]
pub struct ConversationView(Value);

impl ConversationView {
    /// The conversation at this time, which decides whether its service window is open.
    pub fn new(conversation: &Conversation, now: Millis) -> Self {
        Self(serde_json::to_value(views::conversation(conversation, now)).unwrap_or_default())
    }
}

impl JsonSchema for ConversationView {
    fn schema_name() -> Cow<'static, str> {
        "Conversation".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let text = || json!({"type": ["string", "null"]});
        let time = || json!({"type": "string", "format": "date-time"});
        let maybe = || json!({"type": ["string", "null"], "format": "date-time"});
        let maybe_object = |properties: Value| {
            let mut schema = object(properties);
            schema["type"] = json!(["object", "null"]);
            schema
        };
        let mut window = object(json!({
            "state": one_of([WindowState::None, WindowState::Unknown, WindowState::Open, WindowState::Closed].map(WindowState::name)),
            "openUntil": maybe(),
        }));
        window["description"] = "Meta's service window, estimated from the messages that arrived: Meta decides. `NONE`: the network has none.".into();
        let mut contact = maybe_object(json!({"id": uuid(), "name": {"type": "string"}, "phone": text()}));
        contact["description"] = "`null` in a group.".into();
        let mut assigned = maybe_object(json!({"id": {"type": "string"}, "name": {"type": "string"}}));
        assigned["description"] = "Who attends to it: the caller's own id, and the name last given for it.".into();
        let last = maybe_object(json!({
            "id": uuid(),
            "type": {"type": "string"},
            "direction": one_of(Direction::ALL.map(Direction::name)),
            "content": {"type": "string"},
            "createdAt": time(),
        }));
        let mut chat = object(json!({
            "kind": one_of(ChatKind::ALL.map(ChatKind::name)),
            "address": {"type": "string"},
            "name": text(),
        }));
        chat["description"] = "`address`: digits are the `to` of a message to the chat.".into();
        let mut reason = text();
        reason["description"] = "The `reason` of the call that closed it.".into();
        let conversation = object(json!({
            "id": uuid(),
            "channelId": channel_id(),
            "kind": one_of(ChatKind::ALL.map(ChatKind::name)),
            "contact": contact,
            "assignedTo": assigned,
            "departmentId": text(),
            "status": one_of(Status::ALL.map(Status::name)),
            "lastMessage": last,
            "unreadCount": {"type": "integer", "minimum": 0},
            "window": window,
            "createdAt": time(),
            "updatedAt": time(),
            "closedAt": maybe(),
            "chat": chat,
            "closeReason": reason,
        }));
        schemas::described(conversation, "The messages of one chat of a channel, until the conversation is closed.")
    }
}

/// The id of the example conversation.
pub const EXAMPLE_ID: &str = "01a2085f-0b11-7c35-9a02-5d0e9c1f7a44";

/// An example of a conversation for the OpenAPI document.
pub fn example() -> Value {
    json!({
        "id": EXAMPLE_ID,
        "channelId": "vendas",
        "kind": "DIRECT",
        "contact": {"id": "01a2085f-0d33-7f1a-8c55-3b7a6f0e2d91", "name": "Ana", "phone": "5511977776666"},
        "assignedTo": {"id": "bia", "name": "Bia"},
        "departmentId": null,
        "status": "OPEN",
        "lastMessage": {
            "id": "01a2085f-07eb-7913-a5da-c9ff5fe6d655",
            "type": "image",
            "direction": "INBOUND",
            "content": "Olha a foto",
            "createdAt": "2026-11-23T12:26:15.403Z",
        },
        "unreadCount": 1,
        "window": {"state": "OPEN", "openUntil": "2026-11-24T12:26:14.000Z"},
        "createdAt": "2026-11-23T12:26:15.403Z",
        "updatedAt": "2026-11-23T12:27:01.739Z",
        "closedAt": null,
        "chat": {"kind": "DIRECT", "address": "5511977776666", "name": null},
        "closeReason": null,
    })
}
