//! A channel as the API shows it.

use recado_domain::api_key::Environment;
use recado_domain::channel::{Channel, ChannelSettings, ChannelState, ChannelType, UnknownPolicy};
use recado_domain::ids::ChannelId;
use recado_providers::cloud_api::link::LinkDetails;
use recado_store::clock::rfc3339;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

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
    /// Why it is in this state, where there is something to say.
    state_reason: Option<String>,
    /// Until when its network lets it write to nobody new.
    #[schemars(with = "Option<Time>")]
    restricted_until: Option<String>,
    /// Whether a send is taken in this state.
    accepts: bool,
    /// How it is linked to its network; `null` where it is not, or needs no link.
    link: Option<LinkView>,
    /// What can be set on a channel of this type; `null` where nothing can.
    settings: Option<SettingsView>,
    #[schemars(with = "Option<Time>")]
    connected_at: Option<String>,
    #[schemars(with = "Time")]
    created_at: String,
}

/// How a channel is linked.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "ChannelLink")]
enum LinkView {
    CloudApi(CloudApiLinkView),
    Phone(PhoneLinkView),
}

/// The phone that has linked the channel.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PhoneLink")]
struct PhoneLinkView {
    /// The digits of its number, which is the channel's.
    #[schemars(with = "schemas::Digits")]
    phone: String,
}

/// The link of a channel to Meta's Cloud API, without its secrets.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "CloudApiLinkDetails")]
struct CloudApiLinkView {
    phone_number_id: String,
    business_account_id: String,
    /// The number as Meta writes it for people.
    phone: Option<String>,
    /// The name that Meta verified.
    name: Option<String>,
    /// `OFF` where no `appSecret` is known: callbacks are refused then, and no message goes further than `SENT`.
    #[schemars(extend("enum" = ["ON", "OFF"]))]
    receipts: &'static str,
    /// The path of the address to enter in Meta's dashboard.
    callback_path: String,
}

impl LinkView {
    fn new(kind: ChannelType, details: &str, channel: &ChannelId) -> Option<Self> {
        match kind {
            ChannelType::WhatsAppWeb => serde_json::from_str(details).ok().map(Self::Phone),
            ChannelType::CloudApi | ChannelType::Sandbox => CloudApiLinkView::new(details, channel).map(Self::CloudApi),
        }
    }
}

impl CloudApiLinkView {
    fn new(details: &str, channel: &ChannelId) -> Option<Self> {
        let details = LinkDetails::parse(details)?;
        Some(Self {
            phone_number_id: details.phone_number_id,
            business_account_id: details.business_account_id,
            phone: details.number.phone,
            name: details.number.name,
            receipts: if details.receipts { "ON" } else { "OFF" },
            callback_path: format!("/v1/callbacks/meta/{channel}"),
        })
    }
}

/// What a person may set on a channel, by its type.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "ChannelSettings")]
enum SettingsView {
    CloudApi(CloudApiSettings),
    WhatsAppWeb(WhatsAppWebSettings),
}

/// Settings of a channel of type `WHATSAPP_WABA`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct CloudApiSettings {
    /// Messages that may be on their way at once.
    pipeline: u16,
    #[schemars(with = "schemas::UnknownPolicies")]
    unknown_policy: UnknownPolicy,
    /// How long the network's word is waited for before an `UNKNOWN` message is sent again.
    unknown_wait_seconds: u32,
}

/// Settings of a channel of type `WHATSAPP_BAILEYS`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct WhatsAppWebSettings {
    /// The shortest rest between two messages.
    delay_min_seconds: u16,
    /// The longest.
    delay_max_seconds: u16,
    /// Whether the recipient is shown that something is being typed.
    typing: bool,
    /// Chats that may be opened within 24 hours; `null`: no limit.
    new_recipients_per_day: Option<u32>,
}

impl SettingsView {
    fn of(kind: ChannelType, settings: ChannelSettings) -> Option<Self> {
        let ChannelSettings { pipeline, unknown_policy, unknown_wait_seconds, .. } = settings;
        let ChannelSettings { delay_min_seconds, delay_max_seconds, typing, new_recipients_per_day, .. } = settings;
        match kind {
            ChannelType::Sandbox => None,
            ChannelType::CloudApi => {
                Some(Self::CloudApi(CloudApiSettings { pipeline, unknown_policy, unknown_wait_seconds }))
            }
            ChannelType::WhatsAppWeb => Some(Self::WhatsAppWeb(WhatsAppWebSettings {
                delay_min_seconds,
                delay_max_seconds,
                typing,
                new_recipients_per_day,
            })),
        }
    }
}

impl From<Channel> for ChannelView {
    fn from(channel: Channel) -> Self {
        Self {
            accepts: channel.state.accepts(channel.connected_at.is_some()),
            link: channel.link.and_then(|details| LinkView::new(channel.kind, &details, &channel.id)),
            id: channel.id.to_string(),
            name: channel.name,
            kind: channel.kind,
            environment: channel.environment,
            state: channel.state,
            state_reason: channel.state_reason,
            restricted_until: channel.restricted_until.map(rfc3339),
            settings: SettingsView::of(channel.kind, channel.settings),
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
        "restrictedUntil": null,
        "accepts": state.accepts(state != ChannelState::Created),
        "link": null,
        "settings": null,
        "connectedAt": (state != ChannelState::Created).then_some("2026-11-23T12:27:01.739Z"),
        "createdAt": "2026-11-23T12:27:01.728Z",
    })
}
