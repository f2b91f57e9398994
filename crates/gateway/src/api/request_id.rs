//! The outermost layer: gives every answer its `X-Request-Id`, turns a panic into a 500, and writes the log's line.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::HeaderValue;
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;

use super::error::ApiError;
use crate::gateway::Gateway;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Names the request, runs it, and names the answer.
pub async fn identify(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let id = own_id(request.headers()).unwrap_or_else(|| new_id(&gateway));
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => ApiError::Internal.into_response(),
    };
    tracing::debug!(
        %method,
        // The pattern, not the path: ids may be anything a stranger typed.
        route = route.as_ref().map(MatchedPath::as_str),
        status = response.status().as_u16(),
        request.id = id.to_str().unwrap_or_default(),
        elapsed_us = started.elapsed().as_micros(),
        "request"
    );
    response.headers_mut().insert(X_REQUEST_ID, id);
    response
}

/// The caller's own id, when it is 1 to 128 harmless characters.
fn own_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let id = headers.get(X_REQUEST_ID)?;
    let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    ((1..=128).contains(&id.len()) && id.as_bytes().iter().all(harmless)).then(|| id.clone())
}

fn new_id(gateway: &Gateway) -> HeaderValue {
    // Letters, digits and hyphens always make a header value.
    HeaderValue::from_str(&gateway.new_ids().message().to_string()).unwrap_or(HeaderValue::from_static("-"))
}
