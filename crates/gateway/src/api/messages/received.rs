//! A message that a network delivered, as the API shows it; and a message in either direction.

use std::borrow::Cow;

use recado_domain::conversation::InboxItem;
use recado_domain::event::ChatKind;
use recado_domain::incoming::{Direction, Incoming, MediaState};
use recado_store::views;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::view::{EXAMPLE_ID, MessageView};
use crate::api::error::ApiError;
use crate::api::openapi::schemas::{self, channel_id, object, one_of, uuid};

/// A message that a network delivered. Events show it in the same form.
#[derive(Serialize)]
#[serde(transparent)]
pub struct ReceivedView(Value);

impl ReceivedView {
    /// The message, with this address before the path of its file.
    pub fn new(message: &Incoming, base: &str) -> Self {
        Self(serde_json::to_value(views::message(message).with_base(base)).unwrap_or_default())
    }
}

/// A message in either direction.
#[derive(Serialize)]
#[serde(untagged)]
pub enum AnyMessage {
    Sent(Box<MessageView>),
    Received(ReceivedView),
}

impl AnyMessage {
    /// A message of the channel with this id. `base` is put before the path of a file.
    pub fn new(item: InboxItem, channel_id: &str, base: &str) -> Result<Self, ApiError> {
        match item {
            InboxItem::Incoming(message) => Ok(Self::Received(ReceivedView::new(&message, base))),
            InboxItem::Sent(message) => Ok(Self::Sent(Box::new(MessageView::new(*message, channel_id)?))),
        }
    }
}

impl JsonSchema for AnyMessage {
    fn schema_name() -> Cow<'static, str> {
        "AnyMessage".into()
    }

    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        let either = [schemas.subschema_for::<MessageView>(), schemas.subschema_for::<ReceivedView>()];
        json_schema!({"anyOf": either, "description": "A message that a call sent, or one that the network delivered."})
    }
}

/// The types of received messages: each shows its content under its name.
const TYPES: [&str; 13] = [
    "text",
    "image",
    "video",
    "audio",
    "document",
    "sticker",
    "location",
    "contact",
    "button",
    "poll",
    "order",
    "other",
    "unsupported",
];

/// The statuses of received messages.
const STATUSES: [&str; 3] = ["RECEIVED", "READ", "SENT"];

fn nullable(mut schema: Value) -> Value {
    schema["type"] = json!([schema["type"], "null"]);
    schema
}

fn text() -> Value {
    json!({"type": "string"})
}

fn about(mut schema: Value, description: &str) -> Value {
    schema["description"] = description.into();
    schema
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

/// The number of a person, where it is known.
fn digits() -> Value {
    json!({"type": ["string", "null"], "pattern": "^[0-9]{1,32}$"})
}

/// A whole number that the network may leave out.
fn whole() -> Value {
    json!({"type": ["integer", "null"], "minimum": 0})
}

fn sender() -> Value {
    object(json!({
        "contactId": nullable(uuid()),
        "phone": digits(),
        "userId": nullable(text()),
        "lid": digits(),
        "username": nullable(text()),
        "name": about(nullable(text()), "As the person or the network gives it; not verified."),
        "isMe": {"type": "boolean"},
    }))
}

fn media() -> Value {
    object(json!({
        "id": uuid(),
        "mimeType": text(),
        "size": whole(),
        "sha256": nullable(text()),
        "fileName": nullable(text()),
        "width": whole(),
        "height": whole(),
        "durationSeconds": whole(),
        "ptt": {"type": "boolean"},
        "animated": {"type": "boolean"},
        "state": one_of(MediaState::ALL.map(MediaState::name)),
    }))
}

fn quoted() -> Value {
    object(json!({
        "messageId": about(nullable(uuid()), "`null` if Recado does not have the message."),
        "networkId": text(),
        "from": digits(),
        "type": nullable(text()),
        "content": about(nullable(text()), "At most 256 characters."),
    }))
}

fn choice() -> Value {
    object(json!({
        "messageId": nullable(uuid()),
        "id": nullable(text()),
        "title": nullable(text()),
        "kind": one_of(["BUTTON", "LIST", "TEMPLATE"]),
        "matchedBy": one_of(["NETWORK", "NUMBER", "TITLE"]),
    }))
}

/// The reactions to a message.
pub fn reactions(_: &mut SchemaGenerator) -> Schema {
    schemas::described(list_of_reactions(), "The last reaction of each person.")
}

fn list_of_reactions() -> Value {
    let reaction = json!({
        "contactId": nullable(uuid()), "from": digits(), "isMe": {"type": "boolean"}, "emoji": text(), "at": time(),
    });
    json!({"type": "array", "items": object(reaction)})
}

/// The fields of every received message.
fn fields() -> Value {
    let chat = json!({"kind": one_of(ChatKind::ALL.map(ChatKind::name)), "address": text(), "name": nullable(text())});
    json!({
        "id": uuid(),
        "conversationId": uuid(),
        "channelId": channel_id(),
        "type": one_of(TYPES),
        "direction": about(
            one_of(Direction::ALL.map(Direction::name)),
            "`OUTBOUND`: another device of the channel sent it.",
        ),
        "status": about(one_of(STATUSES), "`SENT`: of an echo, which another device of the channel sent."),
        "content": about(text(), "The text that a person reads: text, caption, title of a button, question of a poll."),
        "mediaUrl": about(nullable(text()), "Where the bytes of a file are; `null` without a file. A path, or a whole URL if the server has a public address."),
        "from": digits(),
        "to": digits(),
        "sender": sender(),
        "chat": about(object(chat), "`address`: digits are the `to` of an answer."),
        "networkId": text(),
        "replyTo": about(nullable(quoted()), "The message that it answers."),
        "mentions": {"type": "array", "items": {"type": "string"}},
        "forwarded": {"type": "boolean"},
        "choice": about(nullable(choice()), "The chosen button, or the chosen entry of a list."),
        "referral": {"type": ["object", "null"], "description": "The ad that led to the message, as Meta gives it."},
        "media": nullable(media()),
        "reactions": list_of_reactions(),
        "editedAt": nullable(time()),
        "revokedAt": nullable(time()),
        "expiresInSeconds": whole(),
        "late": about(json!({"type": "boolean"}), "Sent more than five minutes before it arrived."),
        "sentAt": about(time(), "By the network's clock."),
        "receivedAt": about(time(), "By Recado's clock."),
        "readAt": nullable(time()),
        "createdAt": time(),
        "updatedAt": time(),
    })
}

impl JsonSchema for ReceivedView {
    fn schema_name() -> Cow<'static, str> {
        "ReceivedMessage".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut schema = object(fields());
        let content: Map<_, _> = TYPES.iter().map(|name| ((*name).to_owned(), json!({"type": "object"}))).collect();
        if let Some(properties) = schema["properties"].as_object_mut() {
            properties.extend(content);
        }
        schemas::described(schema, "A message that the network delivered. Its content is under the name of its `type`.")
    }
}

/// An example for the OpenAPI document.
pub fn example() -> Value {
    json!({
        "id": EXAMPLE_ID,
        "conversationId": "01a2085f-0b11-7c35-9a02-5d0e9c1f7a44",
        "channelId": "vendas",
        "type": "image",
        "direction": "INBOUND",
        "status": "RECEIVED",
        "content": "Olha a foto",
        "mediaUrl": "/v1/media/01a2085f-0c22-7d04-8a8e-2b1f3c4d5e6f/content",
        "from": "5511977776666",
        "to": "551140000000",
        "sender": {
            "contactId": "01a2085f-0d33-7f1a-8c55-3b7a6f0e2d91",
            "phone": "5511977776666",
            "userId": null,
            "lid": "103899771998284",
            "username": null,
            "name": "Ana",
            "isMe": false,
        },
        "chat": {"kind": "DIRECT", "address": "5511977776666", "name": null},
        "networkId": "3EB0459984FC15DDAB10A5",
        "replyTo": null,
        "mentions": [],
        "forwarded": false,
        "choice": null,
        "referral": null,
        "image": {"caption": "Olha a foto"},
        "media": {
            "id": "01a2085f-0c22-7d04-8a8e-2b1f3c4d5e6f",
            "mimeType": "image/jpeg",
            "size": 482_113,
            "sha256": null,
            "fileName": null,
            "width": 1080,
            "height": 1350,
            "durationSeconds": null,
            "ptt": false,
            "animated": false,
            "state": "REMOTE",
        },
        "reactions": [],
        "editedAt": null,
        "revokedAt": null,
        "expiresInSeconds": null,
        "late": false,
        "sentAt": "2026-11-23T12:26:14.000Z",
        "receivedAt": "2026-11-23T12:26:15.403Z",
        "readAt": null,
        "createdAt": "2026-11-23T12:26:15.403Z",
        "updatedAt": "2026-11-23T12:26:15.403Z",
    })
}
