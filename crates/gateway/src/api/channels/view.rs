//! A channel as the API shows it.

use std::borrow::Cow;

use recado_domain::api_key::Environment;
use recado_domain::channel::{Channel, ChannelState, ChannelType};
use recado_store::clock::rfc3339;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Value, json};

use super::settings::SettingsView;
use crate::api::openapi::schemas::{self, Time};

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
    /// Why the channel is in this state, if there is a reason to show.
    state_reason: Option<String>,
    /// The time until which the network lets the channel open no chats.
    #[schemars(with = "Option<Time>")]
    restricted_until: Option<String>,
    /// Whether the channel accepts messages in this state.
    accepts: bool,
    /// The link to its network; `null` if the channel is not linked.
    link: Option<LinkView>,
    /// The settings of the channel.
    settings: SettingsView,
    #[schemars(with = "Option<Time>")]
    connected_at: Option<String>,
    #[schemars(with = "Time")]
    created_at: String,
}

/// The link of a channel, as its type shows it.
#[derive(Serialize)]
#[serde(transparent)]
struct LinkView(Value);

impl LinkView {
    fn new(channel: &Channel) -> Option<Self> {
        let view = channel.kind.descriptor().link.as_ref()?;
        (view.show)(channel.link.as_deref()?, &channel.id).map(Self)
    }
}

impl JsonSchema for LinkView {
    fn schema_name() -> Cow<'static, str> {
        "ChannelLink".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let links = ChannelType::ALL.into_iter().filter_map(|kind| kind.descriptor().link);
        let of_types: Vec<_> = links.map(|link| schemas::named(link.schema_name, (link.schema)(), generator)).collect();
        json_schema!({"anyOf": of_types, "description": "How a channel is linked."})
    }
}

impl From<Channel> for ChannelView {
    fn from(channel: Channel) -> Self {
        Self {
            accepts: channel.state.accepts(channel.connected_at.is_some()),
            link: LinkView::new(&channel),
            id: channel.id.to_string(),
            name: channel.name,
            kind: channel.kind,
            environment: channel.environment,
            state: channel.state,
            state_reason: channel.state_reason,
            restricted_until: channel.restricted_until.map(rfc3339),
            settings: SettingsView::new(channel.settings),
            connected_at: channel.connected_at.map(rfc3339),
            created_at: rfc3339(channel.created_at),
        }
    }
}

/// An example of a channel for the OpenAPI document.
pub fn example(state: ChannelState) -> Value {
    json!({
        "id": "vendas-1",
        "name": "Vendas",
        "type": "SANDBOX",
        "environment": "test",
        "state": state.name(),
        "stateReason": null,
        "restrictedUntil": null,
        "accepts": state.accepts(state != ChannelState::Created),
        "link": null,
        "settings": {
            "windowGuard": "off", "closeAfterHours": null, "optOutWords": ["SAIR", "PARAR", "STOP"], "keepRevoked": false,
            "autoRead": "off", "keepText": true,
        },
        "connectedAt": (state != ChannelState::Created).then_some("2026-11-23T12:27:01.739Z"),
        "createdAt": "2026-11-23T12:27:01.728Z",
    })
}
