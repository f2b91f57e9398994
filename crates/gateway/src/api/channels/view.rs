//! A channel as the API shows it.

use recado_domain::api_key::Environment;
use recado_domain::channel::{ChannelSettings, ChannelState, ChannelType, UnknownPolicy};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::openapi::schemas::{self, Time};
use crate::clock::rfc3339;
use crate::store::rows::Channel;

/// A channel with its state.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Channel")]
pub struct ChannelView {
    #[schemars(with = "schemas::ChannelId")]
    id: String,
    name: String,
    #[serde(rename = "type")]
    #[schemars(with = "schemas::ChannelTypes")]
    kind: ChannelType,
    #[schemars(with = "schemas::Environments")]
    environment: Environment,
    #[schemars(with = "schemas::ChannelStates")]
    state: ChannelState,
    /// Why it is in this state, where there is something to say.
    state_reason: Option<String>,
    /// Whether a send is taken in this state.
    accepts: bool,
    /// What can be set on a channel of this type; `null` where nothing can.
    settings: Option<SettingsView>,
    #[schemars(with = "Option<Time>")]
    connected_at: Option<String>,
    #[schemars(with = "Time")]
    created_at: String,
}

/// What a person may set on a channel.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ChannelSettings")]
struct SettingsView {
    /// Messages that may be on their way at once.
    pipeline: u16,
    #[schemars(with = "schemas::UnknownPolicies")]
    unknown_policy: UnknownPolicy,
    /// How long the network's word is waited for before an `UNKNOWN` message is sent again.
    unknown_wait_seconds: u32,
}

impl From<ChannelSettings> for SettingsView {
    fn from(settings: ChannelSettings) -> Self {
        let ChannelSettings { pipeline, unknown_policy, unknown_wait_seconds } = settings;
        Self { pipeline, unknown_policy, unknown_wait_seconds }
    }
}

impl From<Channel> for ChannelView {
    fn from(channel: Channel) -> Self {
        Self {
            accepts: channel.state.accepts(channel.connected_at.is_some()),
            id: channel.id.to_string(),
            name: channel.name,
            kind: channel.kind,
            environment: channel.environment,
            state: channel.state,
            state_reason: channel.state_reason,
            settings: channel.kind.has_settings().then(|| channel.settings.into()),
            connected_at: channel.connected_at.map(rfc3339),
            created_at: rfc3339(channel.created_at),
        }
    }
}

/// A channel for the document.
pub fn example(state: ChannelState) -> Value {
    json!({
        "id": "vendas-1",
        "name": "Vendas",
        "type": "SANDBOX",
        "environment": "test",
        "state": state.name(),
        "stateReason": null,
        "accepts": state.accepts(state != ChannelState::Created),
        "settings": null,
        "connectedAt": (state != ChannelState::Created).then_some("2026-11-23T12:27:01.739Z"),
        "createdAt": "2026-11-23T12:27:01.728Z",
    })
}
