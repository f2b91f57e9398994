//! Whether the process lives, and whether it can take messages. No key: load balancers have none.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::json;
use crate::gateway::Gateway;
use crate::store::rows::Health;

#[derive(Serialize)]
struct Status {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// 200 while the process answers at all.
pub async fn live() -> Response {
    json::answer(StatusCode::OK, &Status { status: "ok", reason: None })
}

/// 200 while messages are taken; 503 with the reason while they are not.
pub async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    let reason = if gateway.stop.is_cancelled() {
        Some("stopping")
    } else if *gateway.store.health().borrow() == Health::Up {
        None
    } else {
        Some("store")
    };
    let status = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json::answer(status, &Status { status: if reason.is_none() { "ok" } else { "unavailable" }, reason })
}
