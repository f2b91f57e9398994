//! `GET /v1/webhooks/{webhookId}/logs`: the deliveries of a webhook, newest first.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::event::EventSeq;
use recado_domain::webhook::{Delivery, DeliveryError, DeliveryId, DeliveryQuery, DeliveryStatus};
use recado_store::clock::rfc3339;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Value, json};

use super::{id, owner};
use crate::api::api_keys::create::parse_time;
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, CountedList, CountedPagination};
use crate::api::openapi::Operation;
use crate::api::openapi::schemas::{self, Time, Uuid};
use crate::api::path::Ids;
use crate::api::query::{COUNTED, Query, Start};
use crate::events::samples;
use crate::gateway::Gateway;

const PARAMETERS: [&str; 7] = ["limit", "cursor", "page", "status", "event", "from", "to"];
pub const BAD_TIME: &str = "A data deve estar no formato ISO 8601.";
/// The form of the id of a delivery.
pub const DELIVERY_ID: &str = "^dlv_[0-9a-f]{32}$";

/// The errors of an attempt.
pub struct Errors;

impl JsonSchema for Errors {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DeliveryError".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "enum": DeliveryError::ALL.map(DeliveryError::name)})
    }
}

/// A delivery in the log.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Delivery")]
pub struct DeliveryView {
    #[schemars(regex(pattern = "^dlv_[0-9a-f]{32}$"))]
    id: String,
    #[schemars(with = "Uuid")]
    webhook_id: String,
    event: String,
    #[schemars(regex(pattern = "^evt_[0-9a-f]{32}$"))]
    event_id: String,
    #[schemars(extend("enum" = ["PENDING", "DELIVERED", "FAILED"]))]
    status: &'static str,
    /// What the receiver answered to the last attempt.
    status_code: Option<u16>,
    /// How long the last attempt took, in milliseconds.
    response_time: Option<i64>,
    /// Attempts that were begun.
    attempt: u32,
    /// Why the last attempt failed.
    #[schemars(with = "Option<Errors>")]
    error: Option<String>,
    #[schemars(with = "Option<Time>")]
    next_attempt_at: Option<String>,
    #[schemars(with = "Time")]
    created_at: String,
    #[schemars(with = "Option<Time>")]
    delivered_at: Option<String>,
    #[schemars(with = "Option<Time>")]
    failed_at: Option<String>,
}

impl DeliveryView {
    pub fn new(delivery: &Delivery) -> Self {
        let last = delivery.last();
        Self {
            id: delivery.id.to_string(),
            webhook_id: delivery.webhook.to_string(),
            event: delivery.event.clone(),
            event_id: delivery.event_id.to_string(),
            status: delivery.status.name(),
            status_code: last.and_then(|last| last.status_code),
            response_time: last.map(|last| last.response_time),
            attempt: delivery.attempt,
            error: last.and_then(|last| last.error.clone()),
            next_attempt_at: delivery.next_attempt_at.map(rfc3339),
            created_at: rfc3339(delivery.created_at),
            delivered_at: delivery.delivered_at.map(rfc3339),
            failed_at: delivery.failed_at.map(rfc3339),
        }
    }
}

/// A delivery for the document.
pub fn example() -> Value {
    json!({
        "id": "dlv_01a2085f08b10000000000070a5c1f22",
        "webhookId": "01a2085f-11aa-7d63-b1c2-3e4f5a6b7c03",
        "event": "message.delivered",
        "eventId": "evt_01a2085f07eb0000000000070a5c1f22",
        "status": "DELIVERED",
        "statusCode": 204,
        "responseTime": 87,
        "attempt": 1,
        "error": null,
        "nextAttemptAt": null,
        "createdAt": "2026-11-23T12:26:15.403Z",
        "deliveredAt": "2026-11-23T12:26:15.611Z",
        "failedAt": null,
    })
}

/// Lists deliveries; filters narrow the list.
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::WebhooksRead>,
    Ids([webhook]): Ids<1>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let mut query = Query::parse(query.as_deref(), &PARAMETERS);
    let limit = query.limit();
    let start = query.start(limit, |text| text.parse::<EventSeq>().ok().filter(|seq| *seq > 0));
    let status = query.one_of("status", "O status", DeliveryStatus::ALL, DeliveryStatus::name);
    let event = query.get_with("event", |name| {
        let known = samples::names().any(|known| known == name);
        if known { Ok(name.to_owned()) } else { Err("Evento desconhecido.".to_owned()) }
    });
    let [from, to] = ["from", "to"].map(|name| query.get(name, BAD_TIME, parse_time));
    query.finish()?;
    let (before, offset) = match start {
        Start::First => (None, 0),
        Start::After(before) => (Some(before), 0),
        Start::At(offset) => (None, offset),
    };
    let owner = owner(&caller);
    let asked = DeliveryQuery { owner, webhook: id(&webhook)?, status, event, from, to, before, offset, limit };
    let page = gateway.store.deliveries(asked.clone()).await?.ok_or(ApiError::WebhookNotFound)?;
    let counts = matches!(start, Start::At(_));
    let total = if counts { Some(gateway.store.count_deliveries(asked, COUNTED + 1).await?) } else { None };
    let pagination = CountedPagination {
        total: total.map(|total| total.min(COUNTED) as u64),
        total_is_minimum: total.filter(|total| *total > COUNTED).map(|_| true),
        limit,
        offset: counts.then_some(offset),
        next_cursor: page.next.map(|seq| seq.to_string()),
    };
    let data = page.deliveries.iter().map(DeliveryView::new).collect();
    Ok(json::answer(StatusCode::OK, &CountedList { data, pagination }))
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let pagination = json!({"total": null, "limit": 20, "offset": null, "nextCursor": null});
    let time = || json!({"type": "string", "format": "date-time"});
    operation
        .named("Webhooks", "listDeliveries", "List the deliveries of a webhook")
        .about("Newest first. A page may be shorter than `limit` and still have a `nextCursor`.")
        .needs(Scope::WebhooksRead)
        .numbered_pages(schemas::event_number())
        .query("status", "Only those in this state.", schemas::one_of(DeliveryStatus::ALL.map(DeliveryStatus::name)))
        .query("event", "Only those of this event.", schemas::one_of(samples::names()))
        .query("from", "Only those from this time on.", time())
        .query("to", "Only those before this time.", time())
        .answers::<CountedList<DeliveryView>>(
            200,
            "A page of deliveries.",
            json!({"data": [example()], "pagination": pagination}),
        )
        .refuses([ApiError::WebhookNotFound, ApiError::Unavailable])
}

/// Parses an id in a path. A text that is no id gets the same error as an unknown id.
pub fn delivery_id(text: &str) -> Result<DeliveryId, ApiError> {
    text.parse().map_err(|_| ApiError::DeliveryNotFound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::events::EVENT_ID;

    #[test]
    fn the_forms_of_ids_are_those_of_their_schemas() {
        let schema = schemars::schema_for!(DeliveryView).to_value();
        assert_eq!(schema["properties"]["id"]["pattern"], DELIVERY_ID);
        assert_eq!(schema["properties"]["eventId"]["pattern"], EVENT_ID);
    }
}
