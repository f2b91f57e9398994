//! `POST /v1/webhooks/{webhookId}/test`: sends an example at once, one time.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::field_errors::FieldErrors;
use recado_domain::webhook::{DeliveryError, DeliveryStatus};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::{find, owner};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data, JsonBody};
use crate::api::openapi::{Operation, schemas};
use crate::api::path::Ids;
use crate::events::render::Body;
use crate::events::samples::{self, TEST_EVENT};
use crate::gateway::Gateway;

const FIELDS: [&str; 1] = ["event"];
const BAD_EVENT: &str = "O campo event deve ser o nome de um evento.";
/// Seconds after which a caller may try again while other tests run.
const BUSY: u64 = 5;

/// How the test ended.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "WebhookTest")]
struct Tested {
    #[schemars(extend("enum" = ["DELIVERED", "FAILED"]))]
    status: &'static str,
    /// The status that the receiver answered; `null` without an answer.
    status_code: Option<u16>,
    /// Milliseconds.
    response_time: u64,
    #[schemars(with = "Option<super::logs::Errors>")]
    error: Option<&'static str>,
}

/// Sends an example.
pub async fn test(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::WebhooksWrite>,
    Ids([id]): Ids<1>,
    body: Option<JsonBody>,
) -> Result<Response, ApiError> {
    let event = body.map(|body| event(&body)).transpose()?.flatten();
    let event = event.as_deref().unwrap_or(TEST_EVENT);
    let owner = owner(&caller);
    let webhook = find(&gateway, owner, &id).await?;
    let data = samples::data(event).ok_or(ApiError::Internal)?;
    let at = gateway.clock.now();
    let body = Body::example(event, samples::channel_of(event), owner, at, data, webhook.settings.content);
    // Each test sends a request, so the number of tests at a time is limited.
    let seat = gateway.webhooks.test_seat(owner).ok_or(ApiError::RateLimited(BUSY))?;
    let outcome = gateway.webhooks.test(&webhook, &body, seat).await.map_err(|_| ApiError::WebhookKeyMissing)?;
    let status = if outcome.error.is_none() { DeliveryStatus::Delivered } else { DeliveryStatus::Failed };
    let data = Tested {
        status: status.name(),
        status_code: outcome.status.map(|status| status.as_u16()),
        response_time: u64::try_from(outcome.time.as_millis()).unwrap_or(u64::MAX),
        error: outcome.error.map(DeliveryError::name),
    };
    Ok(json::answer(StatusCode::OK, &Data { data }))
}

/// The event that the caller names.
fn event(body: &JsonBody) -> Result<Option<String>, ApiError> {
    let object = body.object()?;
    let mut errors = FieldErrors::default();
    let name = object.value::<String>("event", || BAD_EVENT.into()).and_then(|name| {
        let known = name.as_deref().is_none_or(|name| samples::names().any(|known| known == name));
        if known { Ok(name) } else { Err(BAD_EVENT.into()) }
    });
    let name = errors.collect("event", name).flatten();
    errors.append(object.refuse_unknown(&FIELDS));
    if errors.is_empty() { Ok(name) } else { Err(errors.into()) }
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let mut event = schemas::one_of(samples::names());
    event["type"] = json!(["string", "null"]);
    event["enum"].as_array_mut().expect("names").push(serde_json::Value::Null);
    event["default"] = TEST_EVENT.into();
    let schema = json!({"type": "object", "additionalProperties": false, "properties": {"event": event}});
    let tested = json!({"status": "DELIVERED", "statusCode": 204, "responseTime": 87, "error": null});
    operation
        .named("Webhooks", "testWebhook", "Send an example to a webhook")
        .about(
            "Sends an example of an event with `\"test\": true` at once, one time, and waits for the answer of the \
             receiver, at most 15 seconds. The log does not show it.",
        )
        .needs(Scope::WebhooksWrite)
        .optional_body("NewWebhookTest", schema, json!({"event": "message.received"}))
        .answers::<Data<Tested>>(200, "How the test ended.", json!({"data": tested}))
        .refuses([
            ApiError::field("event", BAD_EVENT),
            ApiError::WebhookNotFound,
            ApiError::WebhookKeyMissing,
            ApiError::Unavailable,
        ])
}
