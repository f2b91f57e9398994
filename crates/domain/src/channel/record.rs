//! A channel as it is stored, and what a node needs to act on it.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use crate::api_key::Environment;
use crate::channel::{Actor, ChannelSettings, ChannelState, ChannelType, SessionNumber};
use crate::clock::Millis;
use crate::ids::{ChannelId, InstitutionId};

/// The store's own number of a channel. Callers know its [`ChannelId`].
pub type ChannelKey = i64;

/// The number of the channel's lease. A write under an older epoch is refused. A process that has the store to itself
/// ignores it.
pub type Epoch = i64;

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    pub key: ChannelKey,
    pub institution: InstitutionId,
    pub environment: Environment,
    pub id: ChannelId,
    pub name: String,
    pub kind: ChannelType,
    pub state: ChannelState,
    pub state_reason: Option<String>,
    pub settings: ChannelSettings,
    /// The link to its network without secrets, as JSON.
    pub link: Option<String>,
    /// When the channel was first connected.
    pub connected_at: Option<Millis>,
    pub created_at: Millis,
    pub deleted_at: Option<Millis>,
    /// The time until which the network lets the channel open no chats.
    pub restricted_until: Option<Millis>,
    /// Nothing is sent before this time.
    pub next_send_at: Millis,
    /// The current session of the channel, if a phone links it.
    pub session: SessionNumber,
}

impl Channel {
    /// The state of a channel that no phone links any more.
    pub fn unlinked(&self) -> ChannelState {
        if self.connected_at.is_some() { ChannelState::LoggedOut } else { ChannelState::Created }
    }
}

/// The channel that sends a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelRef {
    pub key: ChannelKey,
    pub institution: InstitutionId,
    pub id: ChannelId,
}

impl From<&Channel> for ChannelRef {
    fn from(channel: &Channel) -> Self {
        Self { key: channel.key, institution: channel.institution, id: channel.id.clone() }
    }
}

/// A channel to create.
#[derive(Debug, Clone)]
pub struct NewChannel {
    pub institution: InstitutionId,
    pub environment: Environment,
    pub id: ChannelId,
    pub name: String,
    pub kind: ChannelType,
    /// `None`: the defaults of its type.
    pub settings: Option<ChannelSettings>,
    pub state: ChannelState,
    pub by: Actor,
    pub now: Millis,
}

impl NewChannel {
    /// The sandbox channel of an institution. It needs no phone, so it is connected from the start.
    pub fn sandbox(institution: InstitutionId, by: Actor, now: Millis) -> Self {
        Self {
            institution,
            environment: Environment::Test,
            id: ChannelId::sandbox(),
            name: "Sandbox".to_owned(),
            kind: ChannelType::Sandbox,
            settings: None,
            state: ChannelState::Connected,
            by,
            now,
        }
    }
}

/// The right of a node to write for a channel. A write is refused if the channel has another epoch or session by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub channel: ChannelKey,
    pub epoch: Epoch,
    pub session: SessionNumber,
}
