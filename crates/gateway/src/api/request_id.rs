//! The outermost layer: adds `X-Request-Id` to every answer, turns a panic into a 500, and writes the request log.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::header::HeaderValue;
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tower::ServiceExt;

use super::error::ApiError;
use crate::gateway::Gateway;
use crate::metrics::METRICS;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Assigns the request's id, has the request answered, and adds the id to the answer.
pub async fn identify(gateway: &Gateway, request: Request, router: Router) -> Response {
    let id = own_id(request.headers()).unwrap_or_else(|| new_id(gateway));
    let started = Instant::now();
    let method = request.method().clone();
    let answered: Result<Result<Response, Infallible>, _> =
        AssertUnwindSafe(router.oneshot(request)).catch_unwind().await;
    let mut response = match answered {
        Ok(Ok(response)) => response,
        Err(_) => ApiError::Internal.into_response(),
    };
    // The pattern and not the path, because ids may be any text.
    let route = response.extensions().get().map(MatchedPath::as_str);
    METRICS.called(route, method.as_str(), response.status().as_u16(), started.elapsed());
    tracing::debug!(
        %method,
        route,
        status = response.status().as_u16(),
        request.id = id.to_str().unwrap_or_default(),
        elapsed_us = started.elapsed().as_micros(),
        "request"
    );
    response.headers_mut().insert(X_REQUEST_ID, id);
    response
}

/// Records the route for the log and for metrics. It is a layer on every route, present only if one of them needs it.
pub async fn name_route(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}

/// The caller's own id, if it has 1 to 128 harmless characters.
fn own_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let id = headers.get(X_REQUEST_ID)?;
    let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    ((1..=128).contains(&id.len()) && id.as_bytes().iter().all(harmless)).then(|| id.clone())
}

fn new_id(gateway: &Gateway) -> HeaderValue {
    // Letters, digits and hyphens are a valid header value.
    HeaderValue::from_str(&gateway.new_ids().message().to_string()).unwrap_or(HeaderValue::from_static("-"))
}
