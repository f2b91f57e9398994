//! `PUT /v1/channels/{channelId}`: changes a channel's name and settings. What is left out stays as it is.

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::channel::{ChannelSettings, ChannelState, UnknownPolicy};
use recado_domain::field_errors::FieldErrors;
use serde_json::{Value, json};

use super::{ChannelView, example};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data, JsonBody, Object};
use crate::api::openapi::{Operation, schemas};
use crate::api::path::Ids;
use crate::gateway::Gateway;
use crate::operations::channels::{self, ChannelChange, NAME_LIMIT, NewRecipients};

const FIELDS: [&str; 2] = ["name", "settings"];
const SETTINGS: [&str; 7] = [
    "pipeline",
    "unknownPolicy",
    "unknownWaitSeconds",
    "delayMinSeconds",
    "delayMaxSeconds",
    "typing",
    "newRecipientsPerDay",
];

/// Changes a channel.
pub async fn update(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ChannelsWrite>,
    Ids([channel]): Ids<1>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let (change, errors) = parse(&body.object()?)?;
    let entry = caller.channel(&gateway, &channel)?;
    let channel = channels::update(&gateway, &entry, change, errors).await?;
    Ok(json::answer(StatusCode::OK, &Data { data: ChannelView::from(channel) }))
}

/// What the OpenAPI document says of it.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("Channels", "updateChannel", "Change a channel")
        .about("What is left out stays as it is. Each type has settings of its own, channels of type `SANDBOX` none.")
        .needs(Scope::ChannelsWrite)
        .body("ChannelChange", body_schema(), json!({"name": "Vendas"}))
        .answers::<Data<ChannelView>>(
            200,
            "The channel as it is now.",
            json!({"data": example(ChannelState::Connected)}),
        )
        .refuses([
            ApiError::field("settings.pipeline", "O campo settings.pipeline deve ser um numero de 1 a 256."),
            ApiError::ChannelNotFound,
            ApiError::Unavailable,
        ])
}

fn body_schema() -> Value {
    let ((least, most), (shortest, longest)) = (ChannelSettings::PIPELINE, ChannelSettings::UNKNOWN_WAIT);
    let (fewest, chats) = ChannelSettings::NEW_RECIPIENTS;
    let mut policy = json!({"enum": [UnknownPolicy::Leave.name(), UnknownPolicy::Resend.name(), null]});
    policy["description"] = "What becomes of a message whose answer was lost, when the network says nothing more: it \
                             stays `UNKNOWN`, or is sent again and may be there twice."
        .into();
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "name": schemas::name(NAME_LIMIT, false),
            "settings": {
                "type": ["object", "null"],
                "additionalProperties": false,
                "properties": {
                    "pipeline": {
                        "type": ["integer", "null"],
                        "minimum": least,
                        "maximum": most,
                        "description": "Messages that may be on their way at once.",
                    },
                    "unknownPolicy": policy,
                    "unknownWaitSeconds": {
                        "type": ["integer", "null"],
                        "minimum": shortest,
                        "maximum": longest,
                        "description": "How long the network's word is waited for before a message is sent again.",
                    },
                    "delayMinSeconds": delay("The shortest rest between two messages."),
                    "delayMaxSeconds": delay("The longest rest between two messages."),
                    "typing": {
                        "type": ["boolean", "null"],
                        "description": "Whether the recipient is shown that something is being typed.",
                    },
                    "newRecipientsPerDay": {
                        "type": ["integer", "null"],
                        "minimum": fewest,
                        "maximum": chats,
                        "description": "Chats that may be opened within 24 hours; `null`: no limit.",
                    },
                },
            },
        },
    })
}

fn delay(description: &str) -> Value {
    let (least, most) = ChannelSettings::DELAY;
    json!({"type": ["integer", "null"], "minimum": least, "maximum": most, "description": description})
}

fn parse(object: &Object<'_>) -> Result<(ChannelChange, FieldErrors), ApiError> {
    let mut errors = FieldErrors::default();
    let given = object.text("name")?;
    let name = errors.take("name", given.text("name").map(|name| name.map(str::to_owned))).flatten();
    let mut change = ChannelChange { name, ..ChannelChange::default() };
    if let Some(settings) = errors.take("settings", object.child("settings")).flatten() {
        let pipeline = number(&settings, "pipeline", ChannelSettings::PIPELINE);
        change.pipeline = errors.take("settings.pipeline", pipeline).flatten();
        let policy = settings
            .value::<String>("unknownPolicy", BAD_POLICY)
            .and_then(|name| name.map(|name| UnknownPolicy::from_name(&name).ok_or(BAD_POLICY.into())).transpose());
        change.unknown_policy = errors.take("settings.unknownPolicy", policy).flatten();
        let wait = number(&settings, "unknownWaitSeconds", ChannelSettings::UNKNOWN_WAIT);
        change.unknown_wait_seconds = errors.take("settings.unknownWaitSeconds", wait).flatten();
        parse_web(&settings, &mut change, &mut errors);
        for unknown in settings.unknown(&SETTINGS) {
            errors.push(format!("settings.{unknown}"), recado_domain::field_errors::UNKNOWN);
        }
    }
    errors.append(object.refuse_unknown(&FIELDS));
    Ok((change, errors))
}

/// What channels of type `WHATSAPP_BAILEYS` have.
fn parse_web(settings: &Object<'_>, change: &mut ChannelChange, errors: &mut FieldErrors) {
    let least = number(settings, "delayMinSeconds", ChannelSettings::DELAY);
    change.delay_min_seconds = errors.take("settings.delayMinSeconds", least).flatten();
    let most = number(settings, "delayMaxSeconds", ChannelSettings::DELAY);
    change.delay_max_seconds = errors.take("settings.delayMaxSeconds", most).flatten();
    let typing = settings.value("typing", "O campo settings.typing deve ser true ou false.");
    change.typing = errors.take("settings.typing", typing).flatten();
    let chats = number(settings, "newRecipientsPerDay", ChannelSettings::NEW_RECIPIENTS);
    let chats = errors.take("settings.newRecipientsPerDay", chats).flatten();
    let unlimited = settings.is_null("newRecipientsPerDay").then_some(NewRecipients::Unlimited);
    change.new_recipients_per_day = chats.map(NewRecipients::AtMost).or(unlimited);
}

const BAD_POLICY: &str = "O campo settings.unknownPolicy deve ser leave ou resend.";

/// A whole number; its range is checked with the change, as on the command line.
fn number<N: Display>(
    settings: &Object<'_>,
    name: &'static str,
    range: (N, N),
) -> Result<Option<u32>, Cow<'static, str>> {
    // No text of ours yet: an error without one is of the number, one with a text is of the field.
    settings.whole(name, 0..=u32::MAX, "").map_err(|error| match &*error {
        "" => channels::out_of_range(&format!("settings.{name}"), range).into(),
        _ => error,
    })
}
