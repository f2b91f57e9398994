//! `POST /v1/webhooks`: creates a webhook.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::webhook::{NewWebhook, WebhookCreated, WebhookSettings};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::json;

use super::request::{self, BAD_ADDRESS, BAD_URL, Request};
use super::{WebhookView, example, owner};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::events::may_read;
use crate::api::json::{self, Data, JsonBody};
use crate::api::openapi::Operation;
use crate::gateway::Gateway;
use crate::signature::new_secret;

/// A webhook, and the secret that was made for it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CreatedWebhook")]
struct Created {
    #[serde(flatten)]
    view: WebhookView,
    /// The secret, if the server made it. It is shown only once. `null`: the caller gave it.
    secret: Option<String>,
}

/// Creates a webhook. The webhook receives only later events.
pub async fn create(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::WebhooksWrite>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let asked = Request::read(&gateway, &caller, &body.object()?, true).await?;
    let (Some(url), Some(events)) = (asked.url, asked.events) else { return Err(ApiError::Internal) };
    may_read(&events, caller.grant.scopes)?;
    let id = gateway.new_ids().webhook();
    let made = asked.secret.is_none().then(|| SecretString::from(new_secret(&*gateway.entropy)));
    let webhooks = &gateway.webhooks;
    let secret = asked.secret.as_ref().or(made.as_ref()).ok_or(ApiError::Internal)?;
    let secret = webhooks.seal_secret(id, secret).map_err(|_| ApiError::WebhookKeyMissing)?;
    let headers = asked.headers.unwrap_or_default();
    let name = asked.name.unwrap_or_else(|| request::default_name(&url));
    let plain = WebhookSettings::new(name, url.to_string(), (events, caller.grant.scopes), secret);
    let settings = WebhookSettings {
        channels: asked.channels.value(),
        chats: asked.chats.unwrap_or(plain.chats),
        content: asked.content.unwrap_or(plain.content),
        order: asked.order.unwrap_or(plain.order),
        retry: asked.retry.value(),
        active: asked.active.unwrap_or(plain.active),
        header_names: headers.names(),
        headers: webhooks.seal_headers(id, &headers).map_err(|_| ApiError::WebhookKeyMissing)?,
        ..plain
    };
    let (after, now) = (gateway.events.settled().await?, gateway.webhooks.now().await?);
    let new = NewWebhook { id, owner: owner(&caller), settings, after, now };
    let webhook = match gateway.store.create_webhook(new).await? {
        WebhookCreated::Created(webhook) => *webhook,
        WebhookCreated::LimitReached => return Err(ApiError::TooManyWebhooks),
        WebhookCreated::NoInstitution => return Err(ApiError::Internal),
    };
    gateway.webhooks.changed();
    let view = WebhookView::new(webhook, &gateway.directory);
    let data = Created { view, secret: made.map(|secret| secret.expose_secret().to_owned()) };
    let mut answer = json::answer(StatusCode::CREATED, &Data { data });
    if let Ok(place) = HeaderValue::try_from(format!("/v1/webhooks/{id}")) {
        answer.headers_mut().insert(LOCATION, place);
    }
    Ok(answer)
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let mut created = example();
    created["secret"] = "whsec_…".into();
    let place = json!({"type": "string", "format": "uri-reference"});
    operation
        .named("Webhooks", "createWebhook", "Create a webhook")
        .about(
            "Events that happen from now on are sent to the URL, signed as Standard Webhooks defines it, at least once. \
             The key must be allowed to read the events; `*` and a group stand for those that it may read now.",
        )
        .needs(Scope::WebhooksWrite)
        .body("NewWebhook", request::schema(true), json!({"url": "https://crm.example.com/recado", "events": ["message.*"]}))
        .answers::<Data<Created>>(201, "The new webhook. Its secret is shown this once.", json!({"data": created}))
        .answer_header(201, "Location", "The path of the webhook.", place)
        .refuses([
            ApiError::field("url", BAD_URL),
            ApiError::field("url", BAD_ADDRESS),
            ApiError::TooManyWebhooks,
            ApiError::WebhookKeyMissing,
            ApiError::Unavailable,
        ])
}
