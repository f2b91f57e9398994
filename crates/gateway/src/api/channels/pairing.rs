//! `GET /v1/channels/{channelId}/pairing`: the progress of linking a channel, on request as an event stream.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use base64ct::{Base64, Encoding};
use futures_util::stream::{self, Stream};
use qrcode::QrCode;
use qrcode::render::svg;
use recado_domain::api_key::Scope;
use recado_providers::pairing::Pairing;
use recado_store::clock::rfc3339;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data};
use crate::api::openapi::Operation;
use crate::api::openapi::schemas::Time;
use crate::api::path::Ids;
use crate::gateway::Gateway;

/// The interval of keep-alive comments to a subscriber, so that no proxy closes the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The progress of linking a channel.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Pairing")]
pub struct PairingView {
    /// `IDLE`: no link was requested. `WAITING`: no code yet. `QR_CODE`: scan it. `PHONE_CODE`: type it on the phone.
    /// `LINKED`: the phone has linked the channel. `ENDED`: the linking failed.
    #[schemars(extend("enum" = ["IDLE", "WAITING", "QR_CODE", "PHONE_CODE", "LINKED", "ENDED"]))]
    status: &'static str,
    /// The code as an image for a page: a `data:` URL with an SVG.
    qr_code: Option<String>,
    /// The text of the QR code, or the code to type. A person who has it can link the channel to a phone.
    code: Option<String>,
    /// When another code follows.
    #[schemars(with = "Option<Time>")]
    expires_at: Option<String>,
    /// Why the linking failed.
    reason: Option<String>,
}

impl From<Pairing> for PairingView {
    fn from(pairing: Pairing) -> Self {
        let plain = |status| Self { status, qr_code: None, code: None, expires_at: None, reason: None };
        match pairing {
            Pairing::Idle => plain("IDLE"),
            Pairing::Waiting => plain("WAITING"),
            Pairing::QrCode { code, expires_at } => Self {
                qr_code: image(&code),
                code: Some(code),
                expires_at: Some(rfc3339(expires_at)),
                ..plain("QR_CODE")
            },
            Pairing::PhoneCode { code, expires_at } => {
                Self { code: Some(code), expires_at: Some(rfc3339(expires_at)), ..plain("PHONE_CODE") }
            }
            Pairing::Linked => plain("LINKED"),
            Pairing::Ended { reason } => Self { reason: Some(reason), ..plain("ENDED") },
        }
    }
}

/// A QR code as a `data:` URL; `None` if the text is too long for one.
fn image(code: &str) -> Option<String> {
    let drawn = QrCode::new(code).ok()?.render::<svg::Color<'_>>().min_dimensions(264, 264).build();
    Some(format!("data:image/svg+xml;base64,{}", Base64::encode_string(drawn.as_bytes())))
}

/// Shows the progress. An event stream reports each change until the linking is over.
pub async fn get(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ChannelsWrite>,
    Ids([channel]): Ids<1>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let entry = caller.channel(&gateway, &channel)?;
    let mut pairing = gateway.drivers.get(entry.kind)?.follow(entry.via.key);
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if !accept.contains("text/event-stream") {
        let now = pairing.borrow_and_update().clone();
        return Ok(json::answer(StatusCode::OK, &Data { data: PairingView::from(now) }));
    }
    let permit = gateway.subscribers.clone().try_acquire_owned().map_err(|_| ApiError::Unavailable)?;
    let events = events(pairing, gateway.stop.clone(), permit);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

/// The current progress, then each change, until the linking is over.
fn events(
    pairing: watch::Receiver<Pairing>,
    stop: CancellationToken,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(Some((pairing, stop, permit, true)), |state| async {
        let (mut pairing, stop, permit, first) = state?;
        if !first {
            tokio::select! {
                changed = pairing.changed() => changed.ok()?,
                // A stopping server does not wait for subscribers.
                () = stop.cancelled() => return None,
            }
        }
        let now = pairing.borrow_and_update().clone();
        let next = (!now.is_over()).then_some((pairing, stop, permit, false));
        let data = serde_json::to_string(&PairingView::from(now)).unwrap_or_default();
        Some((Ok(Event::default().event("pairing").data(data)), next))
    })
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("Channels", "getPairing", "Follow the linking of a channel")
        .about(
            "For channels of type `WHATSAPP_BAILEYS`, after `connect`; others are always `IDLE`. Codes to scan are replaced by new ones, the first \
             after 60 seconds, the others after 20; after six of them it is over. With `Accept: text/event-stream` each change is an \
             event `pairing` with the same object in its data, until it is over.",
        )
        .needs(Scope::ChannelsWrite)
        .answers::<Data<PairingView>>(200, "How far it has come.", json!({"data": example()}))
        .refuses([
            ApiError::ChannelNotFound,
            ApiError::WhatsAppWebMissing,
            ApiError::Unavailable,
        ])
}

/// An example of a code to scan for the OpenAPI document.
pub fn example() -> Value {
    json!({
        "status": "QR_CODE",
        "qrCode": "data:image/svg+xml;base64,PHN2Zy8+",
        "code": "2@p2Vy9V,aGVsbG8=,d29ybGQ=,YWR2",
        "expiresAt": "2026-11-23T12:28:01.739Z",
        "reason": null,
    })
}
