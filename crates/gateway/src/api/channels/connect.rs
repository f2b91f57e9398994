//! `POST /v1/channels/{channelId}/connect`: connects a channel, with the fields that its type needs.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::channel::types::{ConnectField, FieldText};
use recado_domain::channel::{Channel, ChannelState, ChannelType};
use recado_domain::field_errors::Field;
use recado_providers::Given;
use recado_providers::pairing::Pairing;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::pairing::PairingView;
use super::{ChannelView, example};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data, JsonBody, Object};
use crate::api::openapi::{Operation, schemas};
use crate::api::path::Ids;
use crate::gateway::Gateway;
use crate::operations::channels;

/// Connects a channel.
pub async fn connect(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ChannelsWrite>,
    Ids([channel]): Ids<1>,
    body: Option<JsonBody>,
) -> Result<Response, ApiError> {
    // Many clients send `{}` if there is nothing to say.
    let object = body.as_ref().map(JsonBody::object).transpose()?.filter(|object| !object.is_empty());
    let entry = caller.channel(&gateway, &channel)?;
    let given = object.map(|object| given(&object, entry.kind)).transpose()?.unwrap_or_default();
    let (channel, pairing) = channels::connect(&gateway, &entry, given, caller.actor()).await?;
    Ok(json::answer(StatusCode::OK, &Data { data: ConnectedView::new(channel, pairing) }))
}

/// The fields of a body, as a channel of this type accepts them.
fn given<'a>(object: &Object<'a>, kind: ChannelType) -> Result<Given<'a>, ApiError> {
    let known = kind.descriptor().connect;
    let read = |field: &ConnectField| {
        // `null` removes the stored value.
        let removed = field.is_removable && object.is_null(field.name);
        let value = if removed { Field::from("") } else { object.text(field.name)? };
        Ok((field.name, value))
    };
    let fields = known.iter().map(read).collect::<Result<_, ApiError>>()?;
    let names: Vec<_> = known.iter().map(|field| field.name).collect();
    Ok(Given { fields, unknown: object.refuse_unknown(&names) })
}

/// A channel, and the progress of its linking.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ConnectedChannel")]
pub struct ConnectedView {
    #[serde(flatten)]
    channel: ChannelView,
    /// The progress of the linking by a phone, if there is or was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pairing: Option<PairingView>,
}

impl ConnectedView {
    /// The answer to a connect call.
    pub fn new(channel: Channel, pairing: Option<Pairing>) -> Self {
        let pairing = pairing.filter(|pairing| *pairing != Pairing::Idle);
        Self { channel: channel.into(), pairing: pairing.map(Into::into) }
    }
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("Channels", "connectChannel", "Connect a channel")
        .about(
            "A channel of type `SANDBOX` takes no body. One of type `WHATSAPP_WABA` is linked by what the body names; \
             Recado first asks Meta whether the token may use the number. All fields but `appSecret` are required the \
             first time; afterwards what is left out stays as it is, so that a new token needs nothing else; an `appSecret` of \
             `null` is taken away.\n\nOne of type `WHATSAPP_BAILEYS` is linked by a phone: the answer has the QR code to scan, \
             or, with the account's own number as `phone` in the body, a code to type on the phone. Codes are replaced by new ones \
             (`GET …/pairing` shows them). One that was linked before goes on with its session, without a code.",
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
    let fields = ChannelType::ALL.into_iter().flat_map(|kind| kind.descriptor().connect);
    // Removable fields come last.
    let (removable, others): (Vec<&ConnectField>, Vec<&ConnectField>) = fields.partition(|field| field.is_removable);
    let properties: Map<_, _> =
        others.into_iter().chain(removable).map(|field| (field.name.to_owned(), field_schema(field))).collect();
    json!({
        "type": "object",
        "description": "The credentials of a number of Meta's Cloud API (only the ids are shown again), or the phone that links the channel.",
        "additionalProperties": false,
        "properties": properties,
    })
}

fn field_schema(field: &ConnectField) -> Value {
    let schema = match field.text {
        FieldText::Digits(limit) => {
            let pattern = format!("^[\\t\\n\\r ]*[0-9]{{1,{limit}}}[\\t\\n\\r ]*$");
            json!({"type": "string", "pattern": pattern, "description": field.about})
        }
        FieldText::Secret { limit, .. } => {
            let pattern = format!("^[!-~]{{1,{limit}}}$");
            json!({"type": "string", "pattern": pattern, "writeOnly": true, "description": field.about})
        }
        FieldText::Phone => schemas::phone(field.about),
    };
    if field.is_removable { json!({"anyOf": [schema, {"const": ""}, {"type": "null"}]}) } else { schema }
}
