//! `POST /v1/channels/{channelId}/connect`: brings a channel's line up, with what its type needs for it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::channel::types::cloud_api::{ID_LIMIT, SECRET_LIMIT, TOKEN_LIMIT};
use recado_domain::channel::{Actor, Channel, ChannelAction, ChannelState, ChannelType};
use recado_domain::field_errors::Field;
use recado_domain::phone::PhoneNumber;
use recado_providers::cloud_api::Link;
use recado_providers::cloud_api::link::FIELDS;
use recado_providers::pairing::Pairing;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::pairing::PairingView;
use super::{ChannelView, example};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data, JsonBody, Object};
use crate::api::openapi::{Operation, schemas};
use crate::api::path::Ids;
use crate::directory::ChannelEntry;
use crate::gateway::Gateway;
use crate::operations::{channels, links, pairing};

/// What is said of a number that is none.
pub const BAD_PHONE: &str = "O telefone deve estar no formato DDI+DDD+NUM.";

/// Brings the line up.
pub async fn connect(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ChannelsWrite>,
    Ids([channel]): Ids<1>,
    body: Option<JsonBody>,
) -> Result<Response, ApiError> {
    // Many clients send `{}` where there is nothing to say.
    let object = body.as_ref().map(JsonBody::object).transpose()?.filter(|object| !object.is_empty());
    let entry = caller.channel(&gateway, &channel)?;
    let channel = match (entry.kind, object) {
        (ChannelType::CloudApi, Some(object)) => link(&gateway, &entry, &object, caller.actor()).await?,
        (ChannelType::WhatsAppWeb, object) => return pair(&gateway, &entry, object.as_ref(), caller.actor()).await,
        (_, object) => {
            let strange = object.map(|object| object.refuse_unknown(&[])).unwrap_or_default();
            if !strange.is_empty() {
                return Err(strange.into());
            }
            channels::act(&gateway, &entry, ChannelAction::Connect, caller.actor()).await?
        }
    };
    Ok(answer(channel, None))
}

/// A channel, and how far its linking has come.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ConnectedChannel")]
pub struct ConnectedView {
    #[serde(flatten)]
    channel: ChannelView,
    /// How far the linking by a phone has come, where one is under way or was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pairing: Option<PairingView>,
}

impl ConnectedView {
    /// What a channel was answered with when it was asked to connect.
    pub fn new(channel: Channel, pairing: Option<Pairing>) -> Self {
        let pairing = pairing.filter(|pairing| *pairing != Pairing::Idle);
        Self { channel: channel.into(), pairing: pairing.map(Into::into) }
    }
}

fn answer(channel: Channel, pairing: Option<Pairing>) -> Response {
    json::answer(StatusCode::OK, &Data { data: ConnectedView::new(channel, pairing) })
}

/// Links a channel by a phone.
async fn pair(
    gateway: &Gateway,
    entry: &ChannelEntry,
    object: Option<&Object<'_>>,
    by: Actor,
) -> Result<Response, ApiError> {
    let mut phone = None;
    if let Some(object) = object {
        let given = object.text("phone")?;
        let mut errors = object.refuse_unknown(&["phone"]);
        match given.text("phone") {
            Ok(None) => {}
            Ok(Some(given)) => match PhoneNumber::parse(given, gateway.country(entry.via.institution)) {
                Ok(number) => phone = Some(number),
                Err(fault) => errors.push("phone", fault.text(BAD_PHONE)),
            },
            Err(fault) => errors.push("phone", fault),
        }
        if !errors.is_empty() {
            return Err(errors.into());
        }
    }
    let (channel, pairing) = pairing::connect(gateway, entry, phone.as_ref(), by).await?;
    Ok(answer(channel, Some(pairing)))
}

async fn link(gateway: &Gateway, entry: &ChannelEntry, object: &Object<'_>, by: Actor) -> Result<Channel, ApiError> {
    let [phone_number_id, account, access, verify, app] = FIELDS.map(|field| object.text(field));
    // `null` takes it away.
    let app = if object.is_null(FIELDS[4]) { Field::from("") } else { app? };
    let given = [phone_number_id?, account?, access?, verify?, app];
    let strange = object.refuse_unknown(&FIELDS);
    if strange.is_empty() {
        return Ok(links::connect(gateway, entry, &given, by).await?);
    }
    // The faults of the other fields are told with them.
    let mut errors = Link::parse(&given, None).err().unwrap_or_default();
    errors.append(strange);
    Err(errors.into())
}

/// What the OpenAPI document says of it.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("Channels", "connectChannel", "Bring the line up")
        .about(
            "A channel of type `SANDBOX` takes no body. One of type `WHATSAPP_WABA` is linked by what the body names; \
             Meta is asked first whether the token may speak for the number. All fields but `appSecret` are required the \
             first time; afterwards what is left out stays as it is, so that a new token needs nothing else; an `appSecret` of \
             `null` is taken away.\n\nOne of type `WHATSAPP_BAILEYS` is linked by a phone: the answer has the QR code to scan, \
             or, with the account's own number as `phone` in the body, a code to type on the phone. Codes are replaced by new ones \
             (`GET …/pairing` tells them). One that was linked before goes on with its session, without a code.",
        )
        .needs(Scope::ChannelsWrite)
        .optional_body("ConnectBody", body_schema(), body_example())
        .answers::<Data<ConnectedView>>(200, "The channel as it is now.", json!({"data": answer_example()}))
        .refuses([
            ApiError::field("accessToken", "A Meta recusou o accessToken."),
            ApiError::ChannelNotFound,
            ApiError::ChannelNotConnected,
            ApiError::SecretKeyMissing,
            ApiError::WhatsAppWebMissing,
            ApiError::Unavailable,
        ])
}

fn answer_example() -> Value {
    let mut answer = example(ChannelState::Connecting);
    answer["type"] = json!("WHATSAPP_BAILEYS");
    answer["environment"] = json!("live");
    answer["pairing"] = super::pairing::example();
    answer
}

fn body_example() -> Value {
    json!({
        "phoneNumberId": "106540352242922",
        "businessAccountId": "102290129340398",
        "accessToken": "EAAJB-um-token-permanente",
        "verifyToken": "uma-senha-que-voce-escolhe",
        "appSecret": "0123456789abcdef0123456789abcdef",
    })
}

fn body_schema() -> Value {
    let id = |description: &str| {
        let pattern = format!("^[\\t\\n\\r ]*[0-9]{{1,{ID_LIMIT}}}[\\t\\n\\r ]*$");
        json!({"type": "string", "pattern": pattern, "description": description})
    };
    let secret = |limit: usize, description: &str| {
        let pattern = format!("^[!-~]{{1,{limit}}}$");
        json!({"type": "string", "pattern": pattern, "writeOnly": true, "description": description})
    };
    let app_secret =
        secret(SECRET_LIMIT, "The secret of Meta's app. Without it callbacks cannot be believed: no receipts.");
    json!({
        "type": "object",
        "description": "How a channel speaks for a number of Meta's Cloud API (none of it but the ids is ever shown again), or the phone that links it.",
        "additionalProperties": false,
        "properties": {
            "phoneNumberId": id("Meta's id of the number."),
            "businessAccountId": id("Meta's id of the WhatsApp business account."),
            "accessToken": secret(TOKEN_LIMIT, "A permanent token of the Graph API."),
            "verifyToken": secret(SECRET_LIMIT, "Chosen by you, and entered in Meta's dashboard with the callback address."),
            "phone": schemas::phone("`WHATSAPP_BAILEYS`: the number of the phone on which a code is to be typed."),
            "appSecret": {"anyOf": [app_secret, {"const": ""}, {"type": "null"}]},
        },
    })
}
