//! `GET /v1/media/{mediaId}/content`: the bytes of a file that a person sent.

use std::ops::ControlFlow::{Break, Continue};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderValue};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use hyper::body::Bytes;
use recado_domain::api_key::Scope;
use recado_domain::ids::MediaId;
use recado_domain::incoming::{Media, MediaState};
use serde_json::json;

use super::headers;
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::forward;
use crate::api::openapi::Operation;
use crate::api::path::Ids;
use crate::gateway::Gateway;
use crate::media::{Content, Fault};

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NotFound => Self::MediaNotFound,
            Fault::Gone => Self::MediaExpired,
            Fault::TooLarge => Self::MediaTooLarge,
            Fault::Refused => Self::MediaRefused,
            Fault::NotConnected => Self::ChannelNotConnected,
            Fault::Unavailable => Self::MediaUnavailable,
            Fault::Full => Self::MediaStoreFull,
            Fault::Broken => Self::Unavailable,
        }
    }
}

/// Returns the bytes of a file, from the disk or from the network.
pub async fn content(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::MessagesRead>,
    Ids([id]): Ids<1>,
    request: Request,
) -> Result<Response, ApiError> {
    let id: MediaId = id.parse().map_err(|_| ApiError::MediaNotFound)?;
    let owner = (caller.institution, caller.environment);
    let media = gateway.store.media(owner, id).await?.ok_or(ApiError::MediaNotFound)?;
    let is_here = media.state == MediaState::Gone || gateway.media.has(media.id).await?;
    if request.method() == Method::HEAD && !is_here {
        return Ok(head(&media));
    }
    // The session of a linked phone is on one node, and so are the files that it has fetched.
    let request = if is_here { Continue(request) } else { forward::to_session(&gateway, media.channel, request).await };
    let request = match request {
        Continue(request) => request,
        Break(response) => return Ok(response),
    };
    let content = gateway.media.content(owner, &media).await?;
    answer(&media, content, request.headers())
}

/// What is known of a file that was not fetched. Asking for it does not fetch the file.
fn head(media: &Media) -> Response {
    // A body of unknown length, so that no length is added.
    let nothing = Body::from_stream(stream::empty::<Result<Bytes, std::io::Error>>());
    let mut response = (StatusCode::OK, headers::of(media, false), nothing).into_response();
    if let Some(size) = media.about.size {
        response.headers_mut().insert(CONTENT_LENGTH, size.into());
    }
    response
}

fn answer(media: &Media, content: Content, given: &HeaderMap) -> Result<Response, ApiError> {
    let mut headers = headers::of(media, content.is_complete());
    let whole = content.size.filter(|_| content.is_complete());
    let part = match whole {
        Some(size) => headers::part(given, size, headers.get(ETAG)).map_err(ApiError::RangeNotSatisfiable)?,
        None => None,
    };
    let status = if part.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    if let (Some(part), Some(size)) = (&part, whole) {
        let range = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        headers.extend(HeaderValue::try_from(range).ok().map(|range| (CONTENT_RANGE, range)));
    }
    // The length of a file that is still arriving is what the network has promised.
    if let Some(length) = part.as_ref().map(|part| part.end - part.start).or(content.size) {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    Ok((status, headers, content.into_body(part)).into_response())
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let bytes = || json!({"*/*": {"schema": {"type": "string", "format": "binary"}}});
    operation
        .named("Messages", "getMediaContent", "Get the bytes of a received file")
        .about(
            "The first call fetches them from the network, and gives them on while they are stored; calls meanwhile \
             follow the same download. `HEAD` fetches nothing. Single ranges are answered of a file that is stored. A \
             transfer that breaks off has failed: the last byte comes only after the SHA-256 was verified.",
        )
        .needs(Scope::MessagesRead)
        .answers_with(200, "The bytes.", bytes())
        .answers_with(206, "The part that `Range` names.", bytes())
        .refuses([
            ApiError::MediaNotFound,
            ApiError::ChannelNotConnected,
            ApiError::MediaExpired,
            ApiError::RangeNotSatisfiable(0),
            ApiError::MediaTooLarge,
            ApiError::MediaRefused,
            ApiError::MediaUnavailable,
            ApiError::MediaStoreFull,
            ApiError::Unavailable,
        ])
}
