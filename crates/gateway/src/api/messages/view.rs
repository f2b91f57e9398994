//! A message as the API shows it.

use std::borrow::Cow;

use recado_domain::kinds::KINDS;
use recado_domain::message::{Message, Stored};
use recado_domain::status::MessageStatus;
use recado_store::clock::rfc3339;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::api::error::ApiError;
use crate::api::openapi::schemas;

/// A message with its state.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Message")]
pub struct MessageView {
    #[schemars(with = "schemas::Uuid")]
    id: String,
    /// The conversation that it joined when it was first sent to the network.
    #[schemars(with = "Option<schemas::Uuid>")]
    conversation_id: Option<String>,
    #[schemars(with = "schemas::ChannelId")]
    channel_id: String,
    #[serde(rename = "type")]
    #[schemars(with = "schemas::Kinds")]
    kind: &'static str,
    #[schemars(with = "schemas::Outbound")]
    direction: &'static str,
    #[schemars(with = "schemas::Statuses")]
    status: MessageStatus,
    /// The recipient as the caller wrote it.
    to: String,
    /// The recipient's account, once the network has named it.
    #[schemars(with = "Option<schemas::Digits>")]
    account: Option<String>,
    #[serde(flatten)]
    shown: Shown,
    /// The text that a person reads; empty if the kind has none.
    content: String,
    /// The id of the message that this message quotes.
    #[schemars(with = "Option<schemas::Uuid>")]
    reply_to: Option<String>,
    /// The caller's own reference.
    reference: Option<String>,
    /// The time of a scheduled message.
    #[schemars(with = "Option<schemas::Time>")]
    send_at: Option<String>,
    /// The form in which it is sent.
    #[schemars(with = "schemas::Rendering")]
    rendering: &'static str,
    /// Codes of what was left out, or could not be done as requested.
    warnings: Vec<&'static str>,
    #[schemars(schema_with = "super::received::reactions")]
    reactions: Vec<Value>,
    /// The id under which the network knows the message; the same in every attempt.
    #[schemars(with = "schemas::NetworkId")]
    network_id: String,
    /// The number of attempts.
    attempts: u32,
    /// Why the message failed, if it did.
    error: Option<ErrorView>,
    /// The message is not sent after this time.
    #[schemars(with = "schemas::Time")]
    expires_at: String,
    #[serde(flatten)]
    reached: Reached,
}

/// Why a message failed.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MessageError")]
struct ErrorView {
    code: String,
    message: String,
}

impl MessageView {
    /// The view of a message of the channel with this id.
    pub fn new(message: Message, channel_id: &str) -> Result<Self, ApiError> {
        let stored: Stored = serde_json::from_str(&message.payload).map_err(|error| {
            tracing::error!(message.id = %message.id, %error, "stored message not readable");
            ApiError::Internal
        })?;
        let shown = Shown::of(&stored, message.rendition.as_deref());
        Ok(Self {
            id: message.id.to_string(),
            conversation_id: message.conversation.map(|id| id.to_string()),
            channel_id: channel_id.to_owned(),
            kind: stored.content.kind().name,
            direction: "OUTBOUND",
            status: message.status,
            to: stored.to,
            account: message.account,
            shown,
            content: stored.content.plain_text().unwrap_or_default().to_owned(),
            reply_to: stored.reply_to.map(|target| target.id.to_string()),
            reference: message.reference,
            send_at: message.send_at.map(rfc3339),
            rendering: "NATIVE",
            warnings: Vec::new(),
            reactions: Vec::new(),
            network_id: message.remote_id.unwrap_or(message.network_id),
            attempts: message.attempts,
            error: message.error.map(|(code, message)| ErrorView { code, message }),
            expires_at: rfc3339(message.expires_at),
            reached: Reached(message.reached),
        })
    }

    /// The id under which the network knows the message.
    pub fn network_id(&self) -> &str {
        &self.network_id
    }

    /// The same with these reactions.
    #[must_use]
    pub fn with_reactions(self, reactions: Vec<Value>) -> Self {
        Self { reactions, ..self }
    }
}

/// The content of the message under the name of its kind, and details of how it is sent.
#[derive(Serialize)]
#[serde(transparent)]
pub struct Shown(Map<String, Value>);

impl Shown {
    /// The content of a stored message, as the caller gave it.
    pub fn of(stored: &Stored, rendition: Option<&str>) -> Self {
        let rendition = rendition.and_then(|rendition| stored.content.shown_rendition(rendition));
        let fields = [stored.content.shown()].into_iter().chain(rendition);
        Self(fields.map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

impl JsonSchema for Shown {
    fn schema_name() -> Cow<'static, str> {
        "Shown".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let fields = KINDS.iter().flat_map(|kind| (kind.shown_schemas)());
        let fields: Map<_, _> = fields.map(|(name, schema)| (name.to_owned(), schema)).collect();
        json_schema!({"type": "object", "properties": fields})
    }
}

/// When each state was reached: one field for each state, `queuedAt` to `cancelledAt`; `null` if it was not.
struct Reached([Option<i64>; MessageStatus::ALL.len()]);

fn time_field(status: MessageStatus) -> String {
    format!("{}At", status.name().to_lowercase())
}

impl Serialize for Reached {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (status, at) in MessageStatus::ALL.into_iter().zip(self.0) {
            map.serialize_entry(&time_field(status), &at.map(rfc3339))?;
        }
        map.end()
    }
}

impl JsonSchema for Reached {
    fn schema_name() -> Cow<'static, str> {
        "Reached".into()
    }

    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        let time = schemas.subschema_for::<Option<schemas::Time>>();
        let fields: Map<_, _> =
            MessageStatus::ALL.into_iter().map(|status| (time_field(status), time.clone().into())).collect();
        json_schema!({"type": "object", "required": MessageStatus::ALL.map(time_field), "properties": fields})
    }
}

/// An example of a message for the OpenAPI document.
pub fn example(status: MessageStatus) -> Value {
    let reached = |at: MessageStatus| match at {
        MessageStatus::Queued => Some("2026-11-24T12:26:15.403Z"),
        MessageStatus::Sending => (status == MessageStatus::Sent).then_some("2026-11-24T12:26:15.405Z"),
        at => (status == at).then_some("2026-11-24T12:26:15.407Z"),
    };
    let mut message = json!({
        "id": EXAMPLE_ID,
        "conversationId": (status == MessageStatus::Sent).then_some("01a2085f-0b11-7c35-9a02-5d0e9c1f7a44"),
        "channelId": "sandbox",
        "type": "contact",
        "direction": "OUTBOUND",
        "status": status.name(),
        "to": "5511999998888",
        "account": (status == MessageStatus::Sent).then_some("5511999998888"),
        "contact": example_contact(),
        "card": {"waid": "5511988887777", "source": "NETWORK"},
        "content": "",
        "replyTo": null,
        "reference": null,
        "sendAt": null,
        "rendering": "NATIVE",
        "warnings": [],
        "reactions": [],
        "networkId": "3EB0459984FC15DDAB10A5",
        "attempts": u8::from(status == MessageStatus::Sent),
        "error": null,
        "expiresAt": "2026-11-25T12:26:15.403Z",
    });
    for status in MessageStatus::ALL {
        message[time_field(status)] = reached(status).into();
    }
    message
}

/// The id of the example message.
pub const EXAMPLE_ID: &str = "01a2085f-07eb-7913-a5da-c9ff5fe6d655";

/// The contact of the example message.
pub fn example_contact() -> Value {
    json!({"name": "Maria Silva - Suporte", "phone": "5511988887777", "email": null, "organization": null})
}
