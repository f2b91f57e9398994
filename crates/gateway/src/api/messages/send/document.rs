//! The description of the send calls in the OpenAPI document, generated from the kinds.

use recado_domain::api_key::Scope;
use recado_domain::kinds::{KINDS, Kind, TYPE};
use recado_providers::sandbox::CARD_SCENARIOS;
use serde_json::{Value, json};

use super::answer::{ACCEPTED_TEXT, Accepted};
use crate::api::error::ApiError;
use crate::api::openapi::{Operation, schemas};

/// Describes the route of a kind, or the route for any kind.
pub fn describe<'a>(operation: Operation<'a>, kind: Option<&'static Kind>) -> Operation<'a> {
    let (title, id) = kind.map_or(("Send a message of any kind", "sendMessage"), |kind| kind.title);
    let sent = json!({"channelId": "$request.path.channelId", "messageId": "$response.header.X-Message-Id"});
    let operation = with_headers(operation.named("Messages", id, title).about(
        "The 202 is sent after the message is on disk. Under the setting `unknown_fields=ignore` a field that the call \
         does not know is not refused but named in `X-Ignored-Fields`.",
    ));
    let operation = match kind {
        Some(kind) => operation.body(kind.body, kind.body_schema(), (kind.examples)().remove(0)),
        None => operation.body("MessageCall", any_schema(), named(&KINDS[0], (KINDS[0].examples)().remove(0))),
    };
    let operation = answers(operation).link(202, "message", "getMessage", &sent);
    // The route for any kind may have stored a message without a card.
    let has_card = kind.is_some_and(|kind| (kind.shown_schemas)().iter().any(|(name, _)| *name == "card"));
    let operation = if has_card { operation.link(202, "card", "getMessageCard", &sent) } else { operation };
    let (field, message) = kind.map_or((TYPE, "O campo type e obrigatorio."), faulty);
    operation.link(202, "cancel", "cancelMessage", &sent).refuses([
        ApiError::field(field, message),
        ApiError::ChannelNotFound,
        ApiError::ConversationNotFound,
        ApiError::ChannelNotConnected,
        ApiError::WindowClosed,
        ApiError::IdempotencyKeyReused,
        ApiError::not_supported([TYPE]),
        ApiError::QueueFull,
        ApiError::UpgradeInProgress,
        ApiError::Unavailable,
    ])
}

/// An example of an invalid field of a kind, and its error.
fn faulty(kind: &'static Kind) -> (&'static str, &'static str) {
    match kind.name {
        "contact" => ("name", "O nome do contato e obrigatorio."),
        _ => ("to", "O numero do destinatario e obrigatorio."),
    }
}

fn with_headers(operation: Operation<'_>) -> Operation<'_> {
    operation
        .needs(Scope::MessagesSend)
        .header(
            "Idempotency-Key",
            "A repeated call with the same key within 24 hours (a setting) makes no second message.",
            json!({"type": "string", "pattern": "^[!-~]{1,255}$"}),
        )
        .header(
            "Prefer",
            "`return=representation` adds `data`, the stored message, to the 202.",
            json!({"type": "string", "examples": ["return=representation"]}),
        )
        .header(
            "X-Ogmma-Sandbox-Scenario",
            "The trouble that the simulated network makes for this message. For test keys.",
            schemas::one_of(CARD_SCENARIOS.map(|(name, ..)| name)),
        )
}

fn answers(operation: Operation<'_>) -> Operation<'_> {
    let text = || json!({"type": "string"});
    operation
        .answers::<Accepted>(202, "Stored, and will be sent.", json!({"success": true, "message": ACCEPTED_TEXT}))
        .required_header(202, "Location", "Where to ask what became of it.", text())
        .required_header(202, "X-Message-Id", "The message's id.", schemas::uuid())
        .answer_header(
            202,
            "Idempotent-Replayed",
            "It is a call made before.",
            json!({"type": "string", "const": "true"}),
        )
        .answer_header(
            202,
            "Preference-Applied",
            "`data` is there.",
            json!({"type": "string", "const": "return=representation"}),
        )
        .answer_header(202, "X-Ignored-Fields", "Fields that were left out, percent-encoded.", text())
}

/// The schema of a body for any kind, which names its kind.
fn any_schema() -> Value {
    let one = |kind: &Kind| {
        let mut schema = kind.body_schema();
        schema["required"].as_array_mut().into_iter().for_each(|names| names.push(TYPE.into()));
        schema["properties"][TYPE] = json!({"type": "string", "const": kind.name});
        schema
    };
    json!({
        "description": "The fields of one kind, and `type`, which names it.",
        "oneOf": KINDS.iter().map(one).collect::<Vec<_>>(),
    })
}

fn named(kind: &Kind, mut body: Value) -> Value {
    body[TYPE] = kind.name.into();
    body
}
