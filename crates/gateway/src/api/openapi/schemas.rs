//! Schemas that no type describes by itself: texts with rules of the domain, and lists of names.

use std::borrow::Cow;

use recado_domain::api_key::{Environment, Scope};
use recado_domain::channel::{ChannelState, ChannelType};
pub use recado_domain::schema::{address, class, lines, name, one_of, optional, phone, tag};
use recado_domain::status::MessageStatus;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

/// A channel's id.
const CHANNEL_ID: &str = "^[A-Za-z0-9_-]{1,64}$";

/// The id of an event, as an example.
const EVENT: &str = "evt_01a2085f07eb0000000000070a5c1f22";
/// The id of a delivery, as an example.
const DELIVERY: &str = "dlv_01a2085f08b10000000000070a5c1f22";

/// The description and the form of an id in a path. Another text is the id of nothing, and is answered with 404.
pub fn path_id(name: &str) -> (&'static str, Value) {
    match name {
        "channelId" => ("The channel's id; `sandbox` is the institution's own sandbox channel.", channel_id()),
        "messageId" => ("The message's id.", uuid()),
        "phone" => ("The number: country, area, number.", phone("DDI+DDD+NUM, in digits.")),
        "keyId" => ("The key's id.", uuid()),
        "conversationId" => ("The conversation's id.", uuid()),
        "contactId" => ("The contact's id.", uuid()),
        "mediaId" => ("The file's id, `media.id` of a message.", uuid()),
        "webhookId" => ("The webhook's id.", uuid()),
        "deliveryId" => (
            "The delivery's id.",
            json!({"type": "string", "pattern": crate::api::webhooks::logs::DELIVERY_ID, "examples": [DELIVERY]}),
        ),
        "eventId" => {
            ("The event's id.", json!({"type": "string", "pattern": crate::api::events::EVENT_ID, "examples": [EVENT]}))
        }
        other => panic!("the document does not know the path parameter {other}"),
    }
}

/// An object that has all of these fields.
#[expect(clippy::needless_pass_by_value, reason = "callers give a literal")]
pub fn object(properties: Value) -> Value {
    let required: Vec<_> = properties.as_object().into_iter().flat_map(Map::keys).cloned().collect();
    json!({"type": "object", "required": required, "properties": properties})
}

/// A schema with a description, for a type whose form is written as JSON.
pub fn described(schema: Value, description: &str) -> Schema {
    let mut schema = Schema::try_from(schema).expect("an object");
    schema.insert("description".to_owned(), description.into());
    schema
}

/// The number of an event.
pub fn event_number() -> Value {
    json!({"type": "string", "pattern": "^[1-9][0-9]{0,18}$", "examples": ["4711"]})
}

/// A channel's id.
pub fn channel_id() -> Value {
    json!({"type": "string", "pattern": CHANNEL_ID, "examples": ["sandbox"]})
}

/// An id of a message or a key.
pub fn uuid() -> Value {
    json!({"type": "string", "format": "uuid"})
}

/// A place in a list of messages.
pub fn message_place() -> Value {
    let id = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
    let of_conversation = "-?[0-9]{1,19}\\.-?[0-9]{1,19}";
    json!({"type": "string", "pattern": format!("^((scheduled-)?{id}|[1-9][0-9]{{0,18}}|{of_conversation})$")})
}

/// A network's id of a message: 22 hexadecimal digits if the gateway assigned it, or the network's own form.
pub fn network_id() -> Value {
    json!({"type": "string", "pattern": "^[!-~]{1,255}$", "examples": ["3EB0459984FC15DDAB10A5"]})
}

/// Adds a schema with this name to the document, and returns the reference to it.
pub fn named(name: &str, schema: Value, generator: &mut SchemaGenerator) -> Value {
    let path = generator.settings().definitions_path.clone();
    generator.definitions_mut().insert(name.to_owned(), schema);
    json!({"$ref": format!("#{path}/{name}")})
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident as $shown:literal: $words:expr;)*) => {
        $(
            $(#[$doc])*
            pub struct $name;

            impl JsonSchema for $name {
                fn schema_name() -> Cow<'static, str> {
                    $shown.into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    json_schema!({"type": "string", "enum": $words})
                }
            }
        )*
    };
}

words! {
    /// The states of a message.
    Statuses as "MessageStatus": MessageStatus::ALL.map(MessageStatus::name);
    /// The states of a channel.
    ChannelStates as "ChannelState": ChannelState::ALL.map(ChannelState::name);
    /// The types of channels.
    ChannelTypes as "ChannelType": ChannelType::ALL.map(ChannelType::name);
    /// The environments of keys and channels.
    Environments as "Environment": Environment::ALL.map(Environment::name);
    /// The scopes of keys.
    ScopeNames as "Scope": Scope::ALL.map(Scope::name);
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident: $schema:expr;)*) => {
        $(
            $(#[$doc])*
            pub struct $name;

            impl JsonSchema for $name {
                fn schema_name() -> Cow<'static, str> {
                    stringify!($name).into()
                }

                fn inline_schema() -> bool {
                    true
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    Schema::try_from($schema).expect("an object")
                }
            }
        )*
    };
}

texts! {
    /// The time in an answer.
    Time: json!({"type": "string", "format": "date-time"});
    /// An id of a message or a key.
    Uuid: uuid();
    /// The id of a channel.
    ChannelId: channel_id();
    /// Digits of an account.
    Digits: json!({"type": "string", "pattern": "^[0-9]{4,15}$"});
    /// A network's id of a message.
    NetworkId: network_id();
    /// The kind of a message.
    Kinds: one_of(recado_domain::kinds::KINDS.iter().map(|kind| kind.name));
    /// The form in which a message is sent, which is its kind.
    Rendering: one_of(["NATIVE"]);
    /// The direction of a sent message.
    Outbound: json!({"type": "string", "const": "OUTBOUND"});
    /// The direction of a received message.
    Inbound: json!({"type": "string", "const": "INBOUND"});
    /// What can be simulated in the sandbox.
    SimulatedTypes: one_of(recado_domain::simulation::names());
}
