//! `POST /v1/channels`: makes a channel.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::field_errors::FieldErrors;

use super::ChannelView;
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data, JsonBody};
use crate::gateway::Gateway;
use crate::operations::channels::{self, ChannelWish, FIELDS};

/// Makes a channel; the caller may bring its id along.
pub async fn create(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ChannelsWrite>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let object = body.object()?;
    let mut errors = FieldErrors::default();
    let [name, kind, id] = FIELDS.map(|field| object.text(field).map(|value| (field, value)));
    let mut text = |(field, value): (&'static str, recado_domain::field_errors::Field<'_>)| {
        errors.take(field, value.text(field).map(|text| text.map(str::to_owned))).flatten()
    };
    let wish = ChannelWish { name: text(name?), kind: text(kind?), id: text(id?) };
    errors.append(object.refuse_unknown(&FIELDS));
    let channel = channels::create(&gateway, caller.institution, caller.environment, wish, errors).await?;
    Ok(json::answer(StatusCode::CREATED, &Data { data: ChannelView::from(channel) }))
}
