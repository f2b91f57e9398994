//! Calls from pages of other origins. A browser lets a page read answers only if the operator has allowed its origin.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, ORIGIN, VARY,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::gateway::Gateway;
use crate::origin::Origin;

/// The methods that a page may use.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
/// The headers that a page may send.
const HEADERS: &str = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Prefer, X-Ogmma-Sandbox-Scenario, \
    X-Request-Id";
/// The headers of an answer that a page may read.
const EXPOSED: &str = "Content-Disposition, Idempotent-Replayed, Location, Preference-Applied, RateLimit-Limit, \
    RateLimit-Remaining, RateLimit-Reset, Retry-After, X-Ignored-Fields, X-Message-Id, X-Request-Id";
/// The seconds for which a browser caches the permission. Browsers cap it at two hours.
const MAX_AGE: u16 = 7_200;

/// A layer around every route, if origins are allowed. It answers a preflight itself, because a preflight has no key.
pub async fn share(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let origin = listed(&gateway.behaviour.cors_origins, request.headers());
    let asks = request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match &origin {
        Some(_) if asks => allow(),
        _ => next.run(request).await,
    };
    // A cache must not use an answer for one origin for another.
    response.headers_mut().append(VARY, HeaderValue::from_static("Origin"));
    if let Some(Origin(origin)) = origin {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        response.headers_mut().insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
    response
}

fn listed(origins: &[Origin], headers: &HeaderMap) -> Option<Origin> {
    let asking = headers.get(ORIGIN)?;
    origins.iter().find(|Origin(origin)| origin == asking).cloned()
}

fn allow() -> Response {
    let headers = [
        (ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS)),
        (ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(HEADERS)),
        (ACCESS_CONTROL_MAX_AGE, MAX_AGE.into()),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}
