//! A channel as the API shows it.

use recado_domain::api_key::Environment;
use recado_domain::channel::{ChannelState, ChannelType};
use serde::Serialize;

use crate::clock::rfc3339;
use crate::store::rows::Channel;

/// A channel with its state.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelView {
    id: String,
    name: String,
    #[serde(rename = "type")]
    kind: ChannelType,
    environment: Environment,
    state: ChannelState,
    state_reason: Option<String>,
    /// Whether a send is taken in this state.
    accepts: bool,
    connected_at: Option<String>,
    created_at: String,
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
            connected_at: channel.connected_at.map(rfc3339),
            created_at: rfc3339(channel.created_at),
        }
    }
}
