//! `PUT /v1/channels/{channelId}`: changes a channel's name and settings. Omitted fields stay as they are.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::channel::{ChannelChange, ChannelState};
use recado_domain::field_errors::FieldErrors;
use serde_json::{Value, json};

use super::{ChannelView, example, settings};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data, JsonBody, Object};
use crate::api::openapi::{Operation, schemas};
use crate::api::path::Ids;
use crate::gateway::Gateway;
use crate::operations::channels::{self, NAME_LIMIT};

const FIELDS: [&str; 2] = ["name", "settings"];

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

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("Channels", "updateChannel", "Change a channel")
        .about("What is left out stays as it is. Some settings are those of one type.")
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
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {"name": schemas::name(NAME_LIMIT, false), "settings": settings::change_schema()},
    })
}

fn parse(object: &Object<'_>) -> Result<(ChannelChange, FieldErrors), ApiError> {
    let mut errors = FieldErrors::default();
    let given = object.text("name")?;
    let name = errors.collect("name", given.text("name").map(|name| name.map(str::to_owned))).flatten();
    let mut change = ChannelChange { name, ..ChannelChange::default() };
    if let Some(given) = errors.collect("settings", object.child("settings")).flatten() {
        change.settings = settings::parse(&given, &mut errors);
    }
    errors.append(object.refuse_unknown(&FIELDS));
    Ok((change, errors))
}
