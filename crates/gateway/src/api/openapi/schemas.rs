//! Schemas that no type says by itself: texts by the rules of the domain, and its words.

use std::borrow::Cow;

use recado_domain::api_key::{Environment, Scope};
use recado_domain::channel::{ChannelState, ChannelType, UnknownPolicy};
use recado_domain::status::MessageStatus;
use recado_domain::text;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// A channel's id.
const CHANNEL_ID: &str = "^[A-Za-z0-9_-]{1,64}$";

/// An id in a path: what it is, and its form. Another text than that is nobody's id, and answered 404.
pub fn path_id(name: &str) -> (&'static str, Value) {
    match name {
        "channelId" => ("The channel's id; `sandbox` is the institution's own sandbox channel.", channel_id()),
        "messageId" => ("The message's id.", uuid()),
        "phone" => ("The number: country, area, number.", phone("DDI+DDD+NUM, in digits.")),
        "keyId" => ("The key's id.", uuid()),
        other => panic!("the document does not know the path parameter {other}"),
    }
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

/// A network's id of a message: 22 hexadecimal digits where we give it, the network's own where that gives one.
pub fn network_id() -> Value {
    json!({"type": "string", "pattern": "^[!-~]{1,255}$", "examples": ["3EB0459984FC15DDAB10A5"]})
}

/// A phone number with its country code, in the usual notations.
pub fn phone(description: &str) -> Value {
    let description = format!(
        "{description} The pattern tells numbers with DDI; where there is a default country, its numbers without DDI are \
         taken as well."
    );
    json!({"type": "string", "pattern": recado_domain::phone::pattern(), "description": description})
}

/// A text by `text::check_name`; `required`: and not empty.
pub fn name(longest: usize, required: bool) -> Value {
    let allowed = class(|character| !text::is_forbidden(character));
    let shows = class(|character| text::shows(character) && !text::is_forbidden(character));
    let (pattern, kind) = if required {
        (format!("^{allowed}*{shows}{allowed}*$"), json!("string"))
    } else {
        (format!("^{allowed}*({shows}{allowed}*)?$"), json!(["string", "null"]))
    };
    json!({"type": kind, "maxLength": longest, "pattern": pattern})
}

/// The characters for which this holds, as a class of a regular expression: one that names the others, because these
/// are few. Only characters of the basic plane are named: not every reader of a pattern knows how to write more.
fn class(holds: impl Fn(char) -> bool) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for code in (0..=0xffff).filter(|code| char::from_u32(*code).is_some_and(|character| !holds(character))) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == code => *last = code,
            _ => ranges.push((code, code)),
        }
    }
    let written = ranges.iter().map(|(first, last)| match last - first {
        0 => format!("\\u{first:04x}"),
        _ => format!("\\u{first:04x}-\\u{last:04x}"),
    });
    format!("[^{}]", written.collect::<String>())
}

/// A card's fields as the caller wrote them.
#[derive(JsonSchema)]
#[schemars(rename = "Contact")]
#[expect(dead_code, reason = "the schema of the domain's `GivenContact`, which knows nothing of schemas")]
#[serde(rename_all = "camelCase")]
pub struct GivenCard {
    name: String,
    phone: String,
    email: Option<String>,
    organization: Option<String>,
    /// There when it was given.
    #[serde(skip_serializing_if = "String::is_empty")]
    first_name: String,
    /// There when it was given.
    #[serde(skip_serializing_if = "String::is_empty")]
    last_name: String,
}

/// One of these words.
pub fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> Value {
    json!({"type": "string", "enum": words.into_iter().collect::<Vec<_>>()})
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
    /// What becomes of an `UNKNOWN` message of which the network says nothing more.
    UnknownPolicies as "UnknownPolicy": UnknownPolicy::ALL.map(UnknownPolicy::name);
    /// The environments of keys and channels.
    Environments as "Environment": Environment::ALL.map(Environment::name);
    /// What a key may do.
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
    /// A time of an answer.
    Time: json!({"type": "string", "format": "date-time"});
    /// An id of a message or a key.
    Uuid: uuid();
    /// The id of a channel.
    ChannelId: channel_id();
    /// Digits of an account.
    Digits: json!({"type": "string", "pattern": "^[0-9]{4,15}$"});
    /// A network's id of a message.
    NetworkId: network_id();
    /// A card's kind.
    Contact: json!({"type": "string", "const": "contact"});
    /// Where the account on a card comes from.
    CardSource: one_of(["NETWORK", "TYPED"]);
    /// A direction; nothing comes in yet.
    Outbound: json!({"type": "string", "const": "OUTBOUND"});
}
