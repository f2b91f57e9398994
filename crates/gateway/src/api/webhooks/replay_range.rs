//! `POST /v1/webhooks/{webhookId}/replay`: sends many deliveries again.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::clock::Millis;
use recado_domain::event::Patterns;
use recado_domain::field_errors::FieldErrors;
use recado_domain::webhook::{REPLAYS, ReplayBatch, ReplayQuery, ReplayStatus};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::logs::BAD_TIME;
use super::replay::SCHEDULED;
use super::{find, owner};
use crate::api::api_keys::create::parse_time;
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::events::{pattern_form, patterns};
use crate::api::json::{self, JsonBody, Object};
use crate::api::openapi::Operation;
use crate::api::path::Ids;
use crate::gateway::Gateway;

const FIELDS: [&str; 4] = ["from", "to", "events", "status"];
const BAD_STATUS: &str = "O status deve ser FAILED ou ALL.";
const BAD_RANGE: &str = "O inicio do intervalo deve ser anterior ao fim.";
const BAD_EVENTS: &str = "O campo events deve ser uma lista de 1 a 64 eventos.";
/// Deliveries that are scheduled in one transaction.
const BATCH: usize = 1_000;
/// Seconds after which a caller may try again while another such call runs.
const BUSY: u64 = 5;

/// The answer: how many deliveries are sent again.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ReplayScheduled")]
struct Scheduled {
    #[schemars(extend("const" = true))]
    success: bool,
    /// A text for people, in Portuguese.
    message: &'static str,
    data: Count,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct Count {
    #[schemars(range(max = 100_000))]
    count: usize,
}

struct Asked {
    from: Option<Millis>,
    to: Option<Millis>,
    events: Option<Patterns>,
    status: ReplayStatus,
}

/// Sends deliveries again.
pub async fn replay(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::WebhooksWrite>,
    Ids([webhook]): Ids<1>,
    body: Option<JsonBody>,
) -> Result<Response, ApiError> {
    let asked = match &body {
        Some(body) => read(&body.object()?)?,
        None => Asked { from: None, to: None, events: None, status: ReplayStatus::Failed },
    };
    let owner = owner(&caller);
    let webhook = find(&gateway, owner, &webhook).await?.id;
    let (until, now) = (gateway.events.settled().await?, gateway.webhooks.now().await?);
    let Asked { from, to, events, status } = asked;
    let mut query = ReplayQuery { owner, webhook, from, to, events, status, after: 0, until, limit: BATCH, now };
    // A call reads a large part of the log, so an owner can run only one such call at a time.
    let seat = gateway.webhooks.replay_seat(owner).ok_or(ApiError::RateLimited(BUSY))?;
    let mut total = 0;
    loop {
        let began = Instant::now();
        query.limit = BATCH.min(REPLAYS - total);
        let next = match gateway.store.replay_deliveries(query.clone()).await? {
            ReplayBatch::Scheduled { count, next } => {
                total += count;
                gateway.webhooks.scheduled();
                next
            }
            ReplayBatch::NotFound => return Err(ApiError::WebhookNotFound),
            // The webhook was disabled after some deliveries were scheduled.
            ReplayBatch::Inactive if total > 0 => None,
            ReplayBatch::Inactive => return Err(ApiError::WebhookInactive),
        };
        match next.filter(|_| total < REPLAYS) {
            Some(next) => query.after = next,
            None => break,
        }
        seat.rest(began).await;
        if gateway.stop.is_cancelled() {
            break;
        }
    }
    let answer = Scheduled { success: true, message: SCHEDULED, data: Count { count: total } };
    Ok(json::answer(StatusCode::ACCEPTED, &answer))
}

fn read(object: &Object<'_>) -> Result<Asked, ApiError> {
    let mut errors = FieldErrors::default();
    let mut time = |name: &'static str| {
        let time = object
            .value::<String>(name, || BAD_TIME.into())
            .and_then(|text| text.map(|text| parse_time(&text).ok_or(Cow::from(BAD_TIME))).transpose());
        errors.collect(name, time).flatten()
    };
    let (from, to) = (time("from"), time("to"));
    let events = object.value::<Vec<String>>("events", || BAD_EVENTS.into()).and_then(|texts| match texts {
        None => Ok(None),
        Some(texts) if texts.is_empty() => Err(BAD_EVENTS.into()),
        Some(texts) => Ok(Some(patterns(&texts, false)?)),
    });
    let events = errors.collect("events", events).flatten();
    let status = object.value::<String>("status", || BAD_STATUS.into()).and_then(|name| match name.as_deref() {
        None | Some("FAILED") => Ok(ReplayStatus::Failed),
        Some("ALL") => Ok(ReplayStatus::All),
        Some(_) => Err(BAD_STATUS.into()),
    });
    let status = errors.collect("status", status);
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        errors.push("to", BAD_RANGE);
    }
    errors.append(object.refuse_unknown(&FIELDS));
    let Some(status) = status.filter(|_| errors.is_empty()) else { return Err(errors.into()) };
    Ok(Asked { from, to, events, status })
}

fn body_schema() -> Value {
    let time =
        |description: &str| json!({"type": ["string", "null"], "format": "date-time", "description": description});
    let pattern = json!({"type": "string", "pattern": format!("^{}$", pattern_form())});
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "from": time("Deliveries from this time on."),
            "to": time("Deliveries before this time."),
            "events": {"type": ["array", "null"], "minItems": 1, "maxItems": Patterns::LIMIT, "items": pattern},
            "status": {"enum": ["FAILED", "ALL", null], "default": "FAILED"},
        },
    })
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let scheduled = json!({"success": true, "message": SCHEDULED, "data": {"count": 12}});
    operation
        .named("Webhooks", "replayDeliveries", "Send deliveries again")
        .about("In the order of their events, at most 100,000 with one call, as far as the events are kept.")
        .needs(Scope::WebhooksWrite)
        .optional_body("NewReplay", body_schema(), json!({"from": "2026-11-23T00:00:00Z", "status": "FAILED"}))
        .answers::<Scheduled>(202, "How many are sent again.", scheduled)
        .refuses([
            ApiError::field("status", BAD_STATUS),
            ApiError::WebhookNotFound,
            ApiError::WebhookInactive,
            ApiError::Unavailable,
        ])
}
