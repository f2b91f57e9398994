//! A webhook as the API shows it: never its secret, nor the values of its headers.

use recado_domain::webhook::{Webhook, WebhookSettings};
use recado_store::clock::rfc3339;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::openapi::schemas::{ChannelId, Time, Uuid};
use crate::directory::Directory;

/// A webhook.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Webhook")]
pub struct WebhookView {
    #[schemars(with = "Uuid")]
    id: String,
    name: String,
    url: String,
    events: Vec<String>,
    active: bool,
    /// `null`: the long schedule.
    retry_policy: Option<RetryView>,
    /// `null`: all channels.
    #[schemars(with = "Option<Vec<ChannelId>>")]
    channel_ids: Option<Vec<String>>,
    chat_kinds: Vec<&'static str>,
    /// The names of the fixed headers.
    headers: Vec<String>,
    content: bool,
    order: &'static str,
    /// The first failure after the last success.
    #[schemars(with = "Option<Time>")]
    failing_since: Option<String>,
    /// When the server disabled it.
    #[schemars(with = "Option<Time>")]
    disabled_at: Option<String>,
    #[schemars(with = "Option<Time>")]
    last_delivered_at: Option<String>,
    #[schemars(with = "Time")]
    created_at: String,
    #[schemars(with = "Time")]
    updated_at: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "RetryPolicy")]
struct RetryView {
    max_retries: u32,
    /// Milliseconds.
    retry_delay: i64,
}

impl WebhookView {
    /// A webhook. The directory has the ids of its channels, also of deleted channels.
    pub fn new(webhook: Webhook, directory: &Directory) -> Self {
        let Webhook { id, settings, failing_since, disabled_at, last_delivered_at, created_at, updated_at, .. } =
            webhook;
        let WebhookSettings { name, url, events, channels, chats, content, order, retry, active, header_names, .. } =
            settings;
        let names = |keys: Vec<_>| {
            let ids = keys.into_iter().filter_map(|key| directory.channel(key).map(|entry| entry.via.id.to_string()));
            ids.collect()
        };
        Self {
            id: id.to_string(),
            name,
            url,
            events: events.texts(),
            active,
            retry_policy: retry.map(|policy| RetryView { max_retries: policy.max_retries, retry_delay: policy.delay }),
            channel_ids: channels.map(names),
            chat_kinds: chats.into_iter().map(recado_domain::event::ChatKind::name).collect(),
            headers: header_names,
            content,
            order: order.name(),
            failing_since: failing_since.map(rfc3339),
            disabled_at: disabled_at.map(rfc3339),
            last_delivered_at: last_delivered_at.map(rfc3339),
            created_at: rfc3339(created_at),
            updated_at: rfc3339(updated_at),
        }
    }
}

/// A webhook for the document.
pub fn example() -> Value {
    json!({
        "id": "01a2085f-11aa-7d63-b1c2-3e4f5a6b7c03",
        "name": "CRM",
        "url": "https://crm.example.com/recado",
        "events": ["message.*"],
        "active": true,
        "retryPolicy": null,
        "channelIds": null,
        "chatKinds": ["DIRECT"],
        "headers": ["Authorization"],
        "content": true,
        "order": "message",
        "failingSince": null,
        "disabledAt": null,
        "lastDeliveredAt": "2026-11-23T12:27:01.739Z",
        "createdAt": "2026-11-23T12:26:15.403Z",
        "updatedAt": "2026-11-23T12:26:15.403Z",
    })
}
