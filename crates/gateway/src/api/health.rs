//! Whether the process is alive, and whether it accepts messages. Load balancers have no key, so none is needed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_store::Health;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::json as answers;
use super::openapi::Operation;
use crate::gateway::Gateway;

/// The state of the server.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Health")]
struct Shown {
    #[schemars(extend("enum" = ["ok", "unavailable"]))]
    status: &'static str,
    /// `store`: the store accepts no writes. `stopping`: the server stops, and accepts calls until `--drain` is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// `secret_key`: this node has not the secret key that its channels need. Their messages wait, or another node sends them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("items" = {"enum": ["secret_key"]}))]
    warnings: Vec<&'static str>,
}

/// 200 while the process answers at all.
pub async fn live() -> Response {
    answers::answer(StatusCode::OK, &Shown { status: "ok", reason: None, warnings: Vec::new() })
}

/// 200 while messages are accepted; otherwise 503 with the reason.
pub async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    let reason = if gateway.draining.is_cancelled() {
        Some("stopping")
    } else if *gateway.store.health().borrow() == Health::Up {
        None
    } else {
        Some("store")
    };
    let status = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // No reason to take the node out of rotation: it accepts messages.
    let warnings = (!gateway.opens_secrets.load(Ordering::Relaxed)).then_some("secret_key").into_iter().collect();
    let shown = Shown { status: if reason.is_none() { "ok" } else { "unavailable" }, reason, warnings };
    answers::answer(status, &shown)
}

/// The operation in the OpenAPI document.
pub fn describe_live(operation: Operation<'_>) -> Operation<'_> {
    operation.named("Health", "live", "Whether the process lives").answers::<Shown>(
        200,
        "It does.",
        json!({"status": "ok"}),
    )
}

/// The operation in the OpenAPI document.
pub fn describe_ready(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("Health", "ready", "Whether messages are accepted")
        .answers::<Shown>(200, "They are.", json!({"status": "ok"}))
        .answers::<Shown>(503, "They are not.", json!({"status": "unavailable", "reason": "store"}))
}
