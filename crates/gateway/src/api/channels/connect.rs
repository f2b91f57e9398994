//! `POST /v1/channels/{channelId}/connect`: brings a channel's line up, with what its type needs for it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::channel::{ChannelAction, ChannelState, ChannelType};
use recado_domain::field_errors::Field;
use serde_json::{Value, json};

use super::{ChannelView, example};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data, JsonBody, Object};
use crate::api::openapi::Operation;
use crate::api::path::Ids;
use crate::directory::ChannelEntry;
use crate::gateway::Gateway;
use crate::operations::{channels, links};
use crate::provider::cloud_api::Link;
use crate::provider::cloud_api::link::{FIELDS, ID_LIMIT, SECRET_LIMIT, TOKEN_LIMIT};
use crate::store::rows::Channel;

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
        (ChannelType::CloudApi, Some(object)) => link(&gateway, &entry, &object).await?,
        (_, object) => {
            let strange = object.map(|object| object.refuse_unknown(&[])).unwrap_or_default();
            if !strange.is_empty() {
                return Err(strange.into());
            }
            channels::act(&gateway, &entry, ChannelAction::Connect).await?
        }
    };
    Ok(json::answer(StatusCode::OK, &Data { data: ChannelView::from(channel) }))
}

async fn link(gateway: &Gateway, entry: &ChannelEntry, object: &Object<'_>) -> Result<Channel, ApiError> {
    let [phone_number_id, account, access, verify, app] = FIELDS.map(|field| object.text(field));
    // `null` takes it away.
    let app = if object.is_null(FIELDS[4]) { Field::from("") } else { app? };
    let given = [phone_number_id?, account?, access?, verify?, app];
    let strange = object.refuse_unknown(&FIELDS);
    if strange.is_empty() {
        return links::connect(gateway, entry, &given).await;
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
             `null` is taken away.",
        )
        .needs(Scope::ChannelsWrite)
        .optional_body("CloudApiLink", body_schema(), body_example())
        .answers::<Data<ChannelView>>(
            200,
            "The channel as it is now.",
            json!({"data": example(ChannelState::Connected)}),
        )
        .refuses([
            ApiError::field("accessToken", "A Meta recusou o accessToken."),
            ApiError::ChannelNotFound,
            ApiError::ChannelNotConnected,
            ApiError::SecretKeyMissing,
            ApiError::Unavailable,
        ])
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
        "description": "How a channel speaks for a number of Meta's Cloud API. None of it but the ids is ever shown again.",
        "additionalProperties": false,
        "properties": {
            "phoneNumberId": id("Meta's id of the number."),
            "businessAccountId": id("Meta's id of the WhatsApp business account."),
            "accessToken": secret(TOKEN_LIMIT, "A permanent token of the Graph API."),
            "verifyToken": secret(SECRET_LIMIT, "Chosen by you, and entered in Meta's dashboard with the callback address."),
            "appSecret": {"anyOf": [app_secret, {"const": ""}, {"type": "null"}]},
        },
    })
}
