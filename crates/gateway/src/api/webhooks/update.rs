//! `PUT /v1/webhooks/{webhookId}`: changes a webhook. Omitted fields stay as they are.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::{Scope, Scopes};
use recado_domain::clock::Millis;
use recado_domain::event::EVENTS;
use recado_domain::webhook::{
    PREVIOUS_SECRET_FOR, PreviousSecret, Webhook, WebhookSettings, WebhookUpdate, WebhookUpdated,
};
use recado_store::sealed::SealError;
use serde_json::json;

use super::request::{self, BAD_ADDRESS, BAD_URL, Request};
use super::{WebhookView, example, find, owner};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::events::may_read;
use crate::api::json::{self, Data, JsonBody};
use crate::api::openapi::Operation;
use crate::api::path::Ids;
use crate::gateway::Gateway;
use crate::webhooks::Webhooks;

/// How often a change is tried again after another call changed the webhook first.
const TRIES: usize = 5;

/// Changes a webhook.
pub async fn update(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::WebhooksWrite>,
    Ids([id]): Ids<1>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let asked = Request::read(&gateway, &caller, &body.object()?, false).await?;
    if let Some(events) = &asked.events {
        may_read(events, caller.grant.scopes)?;
    }
    let owner = owner(&caller);
    for _ in 0..TRIES {
        let webhook = find(&gateway, owner, &id).await?;
        // Otherwise a key could redirect events that it may not read to its own URL.
        if !received(&webhook).is_subset_of(caller.grant.scopes) {
            return Err(ApiError::Forbidden);
        }
        let (after, now) = (gateway.events.settled().await?, gateway.webhooks.now().await?);
        let (id, revision) = (webhook.id, webhook.revision);
        let settings = changed(&gateway.webhooks, webhook, &asked, caller.grant.scopes, now);
        let settings = settings.map_err(|_| ApiError::WebhookKeyMissing)?;
        let update = WebhookUpdate { id, owner, settings, revision, after, now };
        match gateway.store.update_webhook(update).await? {
            WebhookUpdated::Updated(webhook) => {
                gateway.webhooks.changed();
                let data = WebhookView::new(*webhook, &gateway.directory);
                return Ok(json::answer(StatusCode::OK, &Data { data }));
            }
            WebhookUpdated::Changed => {}
            WebhookUpdated::NotFound => return Err(ApiError::WebhookNotFound),
        }
    }
    Err(ApiError::Unavailable)
}

/// The scopes of the events that the webhook receives.
fn received(webhook: &Webhook) -> Scopes {
    let WebhookSettings { events, scopes, .. } = &webhook.settings;
    let all = EVENTS.iter().filter(|(name, scope)| events.matches(name) && scopes.allows(*scope));
    all.map(|(_, scope)| *scope).collect()
}

/// The settings after the change.
fn changed(
    webhooks: &Webhooks,
    webhook: Webhook,
    asked: &Request,
    scopes: Scopes,
    now: Millis,
) -> Result<WebhookSettings, SealError> {
    // The current secret replaces nothing, because a client may send back all fields together with the secret that it
    // knows.
    let secret = match &asked.secret {
        Some(secret) if webhooks.has_secret(&webhook, secret) => None,
        other => other.as_ref(),
    };
    let signs = webhooks.opens_secret(&webhook);
    let Webhook { id, settings: mut set, .. } = webhook;
    if let Some(events) = &asked.events {
        // The webhook receives only events that the key of this call may read, because this key chose the events.
        (set.events, set.scopes) = (events.clone(), scopes);
    }
    if let Some(secret) = secret {
        let sealed = std::mem::replace(&mut set.secret, webhooks.seal_secret(id, secret)?);
        // A secret whose key was lost can sign nothing: beside the new one it would stop the webhook for a day.
        let until = now + PREVIOUS_SECRET_FOR;
        set.previous_secret = signs.then_some(PreviousSecret { sealed, until });
    }
    if let Some(headers) = &asked.headers {
        (set.header_names, set.headers) = (headers.names(), webhooks.seal_headers(id, headers)?);
    }
    put(&mut set.name, asked.name.as_ref());
    put(&mut set.url, asked.url.as_ref().map(ToString::to_string).as_ref());
    put(&mut set.active, asked.active.as_ref());
    asked.retry.put(&mut set.retry);
    asked.channels.put(&mut set.channels);
    put(&mut set.chats, asked.chats.as_ref());
    put(&mut set.content, asked.content.as_ref());
    put(&mut set.order, asked.order.as_ref());
    Ok(set)
}

/// Sets a field if the caller gave a value.
fn put<T: Clone>(place: &mut T, given: Option<&T>) {
    if let Some(given) = given {
        place.clone_from(given);
    }
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    operation
        .named("Webhooks", "updateWebhook", "Change a webhook")
        .about(
            "What is left out stays as it is. The key must be allowed to read what the webhook receives. A replaced secret signs for 24 hours beside the new one. `active: true` \
             enables a webhook that the server disabled, and forgets its failures. `active: false` ends the deliveries \
             that wait.",
        )
        .needs(Scope::WebhooksWrite)
        .body("WebhookChange", request::schema(false), json!({"active": true}))
        .answers::<Data<WebhookView>>(200, "The webhook as it is now.", json!({"data": example()}))
        .refuses([
            ApiError::field("url", BAD_URL),
            ApiError::field("url", BAD_ADDRESS),
            ApiError::WebhookNotFound,
            ApiError::WebhookKeyMissing,
            ApiError::Unavailable,
        ])
}
