//! `POST /v1/channels`: creates a channel.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::channel::{ChannelState, ChannelType};
use recado_domain::field_errors::FieldErrors;
use recado_domain::ids::SANDBOX;
use serde_json::{Value, json};

use super::{ChannelView, example, settings};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data, JsonBody};
use crate::api::openapi::{Operation, schemas};
use crate::gateway::Gateway;
use crate::operations::channels::{self, CreateChannel, FIELDS, NAME_LIMIT};

/// The fields that are texts.
const TEXTS: [&str; 3] = ["name", "type", "id"];

/// Creates a channel. The caller may choose its id.
pub async fn create(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ChannelsWrite>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let object = body.object()?;
    let mut errors = FieldErrors::default();
    let [name, kind, id] = TEXTS.map(|field| object.text(field).map(|value| (field, value)));
    let mut text = |(field, value): (&'static str, recado_domain::field_errors::Field<'_>)| {
        errors.collect(field, value.text(field).map(|text| text.map(str::to_owned))).flatten()
    };
    let (name, kind, id) = (text(name?), text(kind?), text(id?));
    let given = errors.collect("settings", object.child("settings")).flatten();
    let settings = given.map(|given| settings::parse(&given, &mut errors)).unwrap_or_default();
    let request = CreateChannel { name, kind, id, settings };
    errors.append(object.refuse_unknown(&FIELDS));
    let channel =
        channels::create(&gateway, caller.institution, caller.environment, request, caller.actor(), errors).await?;
    Ok(json::answer(StatusCode::CREATED, &Data { data: ChannelView::from(channel) }))
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("Channels", "createChannel", "Create a channel")
        .needs(Scope::ChannelsWrite)
        .body("NewChannel", body_schema(), json!({"name": "Vendas", "type": "SANDBOX", "id": "vendas-1"}))
        .answers::<Data<ChannelView>>(201, "The new channel.", json!({"data": example(ChannelState::Created)}))
        .refuses([
            ApiError::field("name", "O nome do canal e obrigatorio."),
            ApiError::ChannelExists,
            ApiError::WhatsAppWebMissing,
            ApiError::SecretKeyMissing,
            ApiError::Unavailable,
        ])
}

fn body_schema() -> Value {
    let mut id = schemas::channel_id();
    id["not"] = json!({"const": SANDBOX});
    id["examples"] = json!(["vendas-1"]);
    json!({
        "type": "object",
        "required": ["name", "type"],
        "additionalProperties": false,
        "properties": {
            "name": schemas::name(NAME_LIMIT, true),
            "type": {
                "type": "string",
                "enum": ChannelType::ALL.map(ChannelType::name),
                "description": "`SANDBOX` needs a test key, the other types a live key. `WHATSAPP_BAILEYS` is answered 501 by a server that was built without WhatsApp Web.",
            },
            "id": {
                "anyOf": [id, {"const": ""}, {"type": "null"}],
                "description": "Made up when it is left out. `sandbox` is reserved.",
            },
            "settings": settings::change_schema(),
        },
    })
}
