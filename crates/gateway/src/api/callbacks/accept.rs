//! `POST /v1/callbacks/meta` and `/v1/callbacks/meta/{channelId}`: statuses of messages, and received messages. A 200
//! means that they are on disk.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use hyper::body::Body as _;
use recado_domain::clock::Millis;
use recado_domain::field_errors::INVALID_JSON;
use recado_domain::queue::Receipt;
use recado_providers::cloud_api::Link;
use recado_providers::cloud_api::callback::{self, NotJson, SIGNATURE_HEADER};
use serde_json::json;

use super::arrivals::Delivered;
use super::{Address, Caller, SMALL, arrivals, receipts, refuse};
use crate::api::error::ApiError;
use crate::api::json::{self, Done};
use crate::api::openapi::Operation;
use crate::api::path::Ids;
use crate::gateway::Gateway;
use crate::intake::CALLBACK_TIMEOUT;
use crate::metrics::METRICS;

/// The most bytes of a callback's body: Meta's own limit.
pub const BODY_LIMIT: usize = 3 << 20;
/// `sha256=` and 64 hexadecimal digits.
const SIGNATURE_LENGTH: usize = 71;
/// The most statuses and messages of one callback, counted for each channel to which they go. Meta puts at most 1,000 into
/// a callback. A number that ten channels share may have ten times as many.
const MOST: usize = 10_000;

/// The address of an app. Its statuses and messages go to the channels of its numbers.
pub async fn of_app(State(gateway): State<Arc<Gateway>>, request: Request) -> Result<Response, ApiError> {
    accept(&gateway, Address::app, request).await
}

/// The address of a channel.
pub async fn of_channel(
    State(gateway): State<Arc<Gateway>>,
    Ids([channel]): Ids<1>,
    request: Request,
) -> Result<Response, ApiError> {
    accept(&gateway, move |gateway| Address::channel(gateway, &channel), request).await
}

async fn accept<A>(gateway: &Arc<Gateway>, address: A, request: Request) -> Result<Response, ApiError>
where
    A: FnOnce(&Gateway) -> Address + Send + 'static,
{
    let done = handle(gateway, address, request).await;
    METRICS.called_back(match done {
        Ok(_) => "ok",
        Err(ApiError::Forbidden | ApiError::RateLimited(_)) => "signature",
        Err(_) => "error",
    });
    done
}

async fn handle<A>(gateway: &Arc<Gateway>, address: A, request: Request) -> Result<Response, ApiError>
where
    A: FnOnce(&Gateway) -> Address + Send + 'static,
{
    let (head, body) = request.into_parts();
    let caller = Caller::of(gateway, &head.extensions);
    let announced = body.size_hint().exact();
    let is_small = announced.is_some_and(|bytes| bytes <= SMALL);
    // Failures of other callers must not block Meta, which may have the same address behind a proxy. So a small body is
    // read, and hashed if it names a linked number.
    if !is_small {
        caller.admit()?;
    }
    let Some(signature) = signature(&head.headers) else { return Err(refuse(gateway, &caller)) };
    let budget = gateway.intake.callbacks(caller.is_known);
    let mut room = budget.open(caller.peer, announced);
    // Read the body before the channels are looked up, so that the handling of a body reveals nothing about them.
    let body = json::read(body, BODY_LIMIT, CALLBACK_TIMEOUT, &mut room).await;
    let body = body.inspect_err(|_| drop(refuse(gateway, &caller)))?;
    let (work, now) = (gateway.clone(), gateway.clock.now());
    let on_all = caller.is_known || (is_small && caller.spent.is_none());
    let verified = budget.run(room, move || parse_signed(&work, &address(&work), (&signature, &body, on_all), now));
    let (verified, _room) = verified.await?;
    let Some(content) = verified else { return Err(refuse(gateway, &caller)) };
    gateway.intake.note_verified(caller.peer, now);
    let (receipts, delivered) = content?;
    // A crash between the two loses nothing: Meta repeats a callback without an answer, and both are stored once.
    gateway.store.record_receipts(&receipts, now).await?;
    arrivals::receive(gateway, &delivered, now).await?;
    Ok(json::answer(StatusCode::OK, &Done { success: true, message: "Recebido." }))
}

/// The content of a body.
type Content = (Vec<Receipt>, Vec<Delivered>);

/// The content of a body; `None` if no app has signed it.
fn parse_signed(
    gateway: &Gateway,
    address: &Address,
    (signature, body, on_all): (&str, &[u8], bool),
    now: Millis,
) -> Option<Result<Content, ApiError>> {
    let app = address.signed_by(gateway, body, on_all).into_iter().find(|app| app.signed(signature, body))?;
    Some(content(gateway, address, (&app, body), now))
}

fn content(
    gateway: &Gateway,
    address: &Address,
    (app, body): (&Link, &[u8]),
    now: Millis,
) -> Result<Content, ApiError> {
    let parsed = callback::parse(body, now).map_err(|NotJson| ApiError::field("body", INVALID_JSON))?;
    if parsed.skipped > 0 {
        tracing::warn!(skipped = parsed.skipped, "parts of a callback skipped: unknown form");
    }
    if parsed.is_too_large {
        return Err(ApiError::PayloadTooLarge);
    }
    let receipts = receipts::of(address, app, &parsed.statuses, MOST)?;
    let delivered = arrivals::of(gateway, address, app, parsed.received);
    let arrivals: usize = delivered.iter().map(Delivered::count).sum();
    if receipts.len() + arrivals > MOST { Err(ApiError::PayloadTooLarge) } else { Ok((receipts, delivered)) }
}

/// The signature, if there is exactly one.
fn signature(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(SIGNATURE_HEADER).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    value.to_str().ok().filter(|value| value.len() == SIGNATURE_LENGTH).map(str::to_owned)
}

/// The operation in the OpenAPI document.
pub fn describe_of_app(operation: Operation<'_>) -> Operation<'_> {
    describe(operation.named("Callbacks", "takeAppCallback", "Take the statuses and messages of an app"))
}

/// The operation in the OpenAPI document.
pub fn describe_of_channel(operation: Operation<'_>) -> Operation<'_> {
    describe(operation.named("Callbacks", "takeChannelCallback", "Take the statuses and messages of a channel"))
}

fn describe(operation: Operation<'_>) -> Operation<'_> {
    let example = json!({"success": true, "message": "Recebido."});
    operation
        .about(
            "For Meta, whose payload of the webhook fields `messages`, `smb_message_echoes` and `user_preferences` it takes: \
             3 MiB at most. The 200 is sent after everything is on disk. Statuses of others, repeated and late ones \
             change nothing. A message of unknown form is stored as type `other`.",
        )
        .header(
            "X-Hub-Signature-256",
            "HMAC-SHA256 of the raw body under the app's secret.",
            json!({"type": "string", "pattern": "^sha256=[0-9a-f]{64}$"}),
        )
        .answers::<Done>(200, "Taken.", example)
        .refuses([
            ApiError::field("body", INVALID_JSON),
            ApiError::Forbidden,
            ApiError::PayloadTooLarge,
            ApiError::RateLimited(1),
            ApiError::Unavailable,
        ])
}
