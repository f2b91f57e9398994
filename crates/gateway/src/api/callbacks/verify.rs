//! `GET /v1/callbacks/meta` and `/v1/callbacks/meta/{channelId}`: Meta verifies an address that was entered in its
//! dashboard.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use recado_providers::cloud_api::callback::Verification;
use serde_json::json;

use super::{Address, Caller, refuse};
use crate::api::error::ApiError;
use crate::api::openapi::Operation;
use crate::api::path::Ids;
use crate::api::query::Query;
use crate::gateway::Gateway;

const PARAMETERS: [&str; 3] = ["hub.mode", "hub.verify_token", "hub.challenge"];

/// The address of an app.
pub async fn of_app(State(gateway): State<Arc<Gateway>>, request: Request) -> Result<Response, ApiError> {
    answer(&gateway, Address::app, &request)
}

/// The address of a channel.
pub async fn of_channel(
    State(gateway): State<Arc<Gateway>>,
    Ids([channel]): Ids<1>,
    request: Request,
) -> Result<Response, ApiError> {
    answer(&gateway, |gateway| Address::channel(gateway, &channel), &request)
}

fn answer(
    gateway: &Gateway,
    address: impl FnOnce(&Gateway) -> Address,
    request: &Request,
) -> Result<Response, ApiError> {
    let caller = Caller::of(gateway, request.extensions());
    caller.admit()?;
    let mut query = Query::parse(request.uri().query(), &PARAMETERS);
    let [mode, token, challenge] =
        PARAMETERS.map(|name| query.get(name, "", |text| Some(text.to_owned())).unwrap_or_default());
    let asked = Verification { mode: &mode, token: &token, challenge: &challenge };
    match asked.answer(|token| address(gateway).is_verified_by(token)) {
        Some(challenge) => {
            Ok((StatusCode::OK, [(CONTENT_TYPE, "text/plain; charset=utf-8")], challenge.to_owned()).into_response())
        }
        None => Err(refuse(gateway, &caller)),
    }
}

/// The operation in the OpenAPI document.
pub fn describe_of_app(operation: Operation<'_>) -> Operation<'_> {
    describe(operation.named("Callbacks", "verifyAppCallback", "Answer Meta's check of an app's callback address"))
}

/// The operation in the OpenAPI document.
pub fn describe_of_channel(operation: Operation<'_>) -> Operation<'_> {
    describe(operation.named(
        "Callbacks",
        "verifyChannelCallback",
        "Answer Meta's check of a channel's callback address",
    ))
}

fn describe(operation: Operation<'_>) -> Operation<'_> {
    let text = || json!({"type": "string"});
    operation
        .about("For Meta. A channel without an `appSecret` takes no callbacks, and so answers 403.")
        .query("hub.mode", "`subscribe`.", text())
        .query("hub.verify_token", "The channel's `verifyToken`.", text())
        .query("hub.challenge", "What is sent back.", text())
        .answers_with(
            200,
            "The challenge.",
            json!({"text/plain": {"schema": {"type": "string"}, "example": "1158201444"}}),
        )
        .refuses([ApiError::Forbidden, ApiError::RateLimited(1)])
}
