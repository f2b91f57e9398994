//! `GET /v1/webhooks/{webhookId}/logs/{deliveryId}`: one delivery with its attempts, and the body that is sent.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::event::{Event, scope_of};
use recado_domain::webhook::AttemptLog;
use recado_store::clock::rfc3339;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::logs::{DeliveryView, Errors, delivery_id, example};
use super::{find, owner};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::events;
use crate::api::json::{self, Data};
use crate::api::openapi::Operation;
use crate::api::openapi::schemas::Time;
use crate::api::path::Ids;
use crate::events::render::Body;
use crate::gateway::Gateway;

/// A delivery with its attempts.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "DeliveryDetails")]
struct Details {
    #[serde(flatten)]
    view: DeliveryView,
    /// The attempts that ended, the last 22 at most, oldest first.
    attempts: Vec<AttemptView>,
    /// The text that is sent; `null` when the event is not kept any more, or if the key may not read the event.
    body: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "DeliveryAttempt")]
struct AttemptView {
    attempt: u32,
    #[schemars(with = "Time")]
    at: String,
    status_code: Option<u16>,
    /// Milliseconds.
    response_time: i64,
    #[schemars(with = "Option<Errors>")]
    error: Option<String>,
    /// Whether the attempt was made by a replay.
    replay: bool,
}

impl From<AttemptLog> for AttemptView {
    fn from(log: AttemptLog) -> Self {
        let AttemptLog { attempt, at, status_code, response_time, error, replay } = log;
        Self { attempt, at: rfc3339(at), status_code, response_time, error, replay }
    }
}

/// Shows a delivery.
pub async fn get(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::WebhooksRead>,
    Ids([webhook, id]): Ids<2>,
) -> Result<Response, ApiError> {
    let owner = owner(&caller);
    let webhook = find(&gateway, owner, &webhook).await?;
    let delivery = gateway.store.delivery(owner, webhook.id, delivery_id(&id)?).await?;
    let delivery = delivery.ok_or(ApiError::DeliveryNotFound)?;
    let event = gateway.store.event(owner, delivery.event_seq).await?;
    let may_read = |event: &Event| scope_of(&event.kind).is_some_and(|scope| caller.grant.scopes.allows(scope));
    let event = event.filter(|event| event.id() == delivery.event_id && may_read(event));
    let data = Details {
        view: DeliveryView::new(&delivery),
        attempts: delivery.attempts.into_iter().map(AttemptView::from).collect(),
        body: event.map(|event| Body::new(&event, webhook.settings.content, gateway.behaviour.media_base()).text()),
    };
    Ok(json::answer(StatusCode::OK, &Data { data }))
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let mut delivery = example();
    delivery["attempts"] = json!([{
        "attempt": 1,
        "at": "2026-11-23T12:26:15.524Z",
        "statusCode": 204,
        "responseTime": 87,
        "error": null,
        "replay": false,
    }]);
    delivery["body"] = events::example().to_string().into();
    operation
        .named("Webhooks", "getDelivery", "Show a delivery")
        .needs(Scope::WebhooksRead)
        .answers::<Data<Details>>(200, "The delivery.", json!({"data": delivery}))
        .refuses([ApiError::WebhookNotFound, ApiError::DeliveryNotFound, ApiError::Unavailable])
}
