//! A channel as it is stored, and what a node needs to act on it.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use crate::api_key::Environment;
use crate::channel::{Actor, ChannelSettings, ChannelState, ChannelType, SessionNumber};
use crate::clock::Millis;
use crate::ids::{ChannelId, InstitutionId};

/// The store's own number of a channel. What callers know is its [`ChannelId`].
pub type ChannelKey = i64;

/// How often a channel has changed hands between nodes: what a node does under an epoch that has passed is refused. Where
/// one process has the store to itself it is not looked at.
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
    /// How it is linked to its network: JSON, nothing secret.
    pub link: Option<String>,
    /// When its line was first up.
    pub connected_at: Option<Millis>,
    pub created_at: Millis,
    pub deleted_at: Option<Millis>,
    /// Until when its network lets it open no chats.
    pub restricted_until: Option<Millis>,
    /// Nothing is sent before this time.
    pub next_send_at: Millis,
    /// Which of its sessions it has, where a phone links it.
    pub session: SessionNumber,
}

impl Channel {
    /// The state of a channel that no phone links, or none any more.
    pub fn unlinked(&self) -> ChannelState {
        if self.connected_at.is_some() { ChannelState::LoggedOut } else { ChannelState::Created }
    }
}

/// The channel that a message leaves by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelRef {
    pub key: ChannelKey,
    pub institution: InstitutionId,
    pub id: ChannelId,
}

/// A channel to be made.
#[derive(Debug, Clone)]
pub struct NewChannel {
    pub institution: InstitutionId,
    pub environment: Environment,
    pub id: ChannelId,
    pub name: String,
    pub kind: ChannelType,
    pub state: ChannelState,
    pub by: Actor,
    pub now: Millis,
}

impl NewChannel {
    /// The sandbox channel that each institution has. There is no phone to link: it works from the start.
    pub fn sandbox(institution: InstitutionId, by: Actor, now: Millis) -> Self {
        Self {
            institution,
            environment: Environment::Test,
            id: ChannelId::sandbox(),
            name: "Sandbox".to_owned(),
            kind: ChannelType::Sandbox,
            state: ChannelState::Connected,
            by,
            now,
        }
    }
}

/// As what a node speaks for a channel: who holds it by now under another epoch, or has another session of it, is not
/// overwritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub channel: ChannelKey,
    pub epoch: Epoch,
    pub session: SessionNumber,
}
