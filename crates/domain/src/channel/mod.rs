//! Channels: their states, and the transitions that a person may request. `types` describes each type.

mod common_settings;
mod event;
mod link;
mod record;
mod session;
mod settings;
pub mod types;

use serde::{Deserialize, Serialize};

pub use common_settings::{AutoRead, CommonSettings, WindowGuard, Words};
pub use event::{
    Actor, ChannelEvent, ChannelEventPage, ChannelEventQuery, ChannelMove, MAX_CHANNEL_EVENTS, Recorded, StoredEvent,
};
pub use link::{Link, LoginLimits};
pub use record::{Channel, ChannelKey, ChannelRef, Epoch, Held, NewChannel};
pub use session::{DeletedRows, SessionChange, SessionKey, SessionNumber, SessionOf, SessionRow};
pub use settings::{ChannelChange, InboundMedia, OnOff, Setting, SettingKind, TypeSettings, all_settings};
pub use types::{ChannelSettings, ChannelType, Ordering};

/// The state of a channel: the contract's table, one row a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ChannelState {
    /// Never connected.
    Created,
    /// Waiting for a scan or a check.
    Connecting,
    /// The connection is open.
    Connected,
    /// The connection is closed. It was lost and reopens by itself, or a person closed it until the next connect.
    Disconnected,
    /// The network limits the channel until a known time.
    Restricted,
    /// Stopped by a person, or until the access is authorised again.
    Paused,
    /// The network ended the link; a person must link it again.
    LoggedOut,
    /// The network banned the number.
    Banned,
}

/// An action that a person may request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelAction {
    /// Open the connection.
    Connect,
    /// Close the connection; waiting messages are held.
    Disconnect,
    /// Hold waiting messages, and keep the connection.
    Pause,
    /// End a pause.
    Resume,
}

impl ChannelState {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Created,
        Self::Connecting,
        Self::Connected,
        Self::Disconnected,
        Self::Restricted,
        Self::Paused,
        Self::LoggedOut,
        Self::Banned,
    ];

    /// The state's name on the wire and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Connecting => "CONNECTING",
            Self::Connected => "CONNECTED",
            Self::Disconnected => "DISCONNECTED",
            Self::Restricted => "RESTRICTED",
            Self::Paused => "PAUSED",
            Self::LoggedOut => "LOGGED_OUT",
            Self::Banned => "BANNED",
        }
    }

    /// The state with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether the channel accepts messages. With `was_connected` a connecting channel accepts them, because it was
    /// connected before.
    pub fn accepts(self, was_connected: bool) -> bool {
        match self {
            Self::Connected | Self::Disconnected | Self::Restricted | Self::Paused => true,
            Self::Connecting => was_connected,
            Self::Created | Self::LoggedOut | Self::Banned => false,
        }
    }

    /// Whether waiting messages are sent. A restricted channel sends some of them: its driver decides which.
    pub fn dispatches(self) -> bool {
        matches!(self, Self::Connected | Self::Restricted)
    }

    /// Whether a restriction is kept in this state. It outlasts a pause, and a connection that is lost and reopens.
    pub fn keeps_restriction(self) -> bool {
        match self {
            Self::Restricted | Self::Paused | Self::Disconnected | Self::Connecting => true,
            Self::Created | Self::Connected | Self::LoggedOut | Self::Banned => false,
        }
    }

    /// The state after an action, for a channel whose connection needs neither a scan nor a check. `None`: the action is not
    /// possible in this state.
    pub fn after(self, action: ChannelAction) -> Option<Self> {
        let up =
            matches!(self, Self::Connecting | Self::Connected | Self::Disconnected | Self::Restricted | Self::Paused);
        match action {
            // The ban may have been lifted. If it was not, the network bans the number again.
            ChannelAction::Connect => Some(Self::Connected),
            ChannelAction::Disconnect => up.then_some(Self::Disconnected),
            ChannelAction::Pause => up.then_some(Self::Paused),
            ChannelAction::Resume => match self {
                Self::Paused => Some(Self::Connected),
                // Nothing to resume, and no error: the action may be repeated.
                Self::Connected | Self::Restricted => Some(self),
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_contract() {
        let table = [
            (ChannelState::Created, false, false),
            (ChannelState::Connected, true, true),
            (ChannelState::Disconnected, true, false),
            (ChannelState::Restricted, true, true),
            (ChannelState::Paused, true, false),
            (ChannelState::LoggedOut, false, false),
            (ChannelState::Banned, false, false),
        ];
        for (state, accepts, dispatches) in table {
            assert_eq!(state.accepts(true), accepts, "{state:?}");
            assert_eq!(state.dispatches(), dispatches, "{state:?}");
        }
        assert!(!ChannelState::Connecting.accepts(false), "the first time");
        assert!(ChannelState::Connecting.accepts(true), "as before");
    }

    #[test]
    fn names_are_parsed_back() {
        for state in ChannelState::ALL {
            assert_eq!(ChannelState::from_name(state.name()), Some(state));
        }
    }

    #[test]
    fn a_pause_ends_where_it_began() {
        assert_eq!(ChannelState::Created.after(ChannelAction::Pause), None);
        assert_eq!(ChannelState::Created.after(ChannelAction::Connect), Some(ChannelState::Connected));
        assert_eq!(ChannelState::Connected.after(ChannelAction::Pause), Some(ChannelState::Paused));
        assert_eq!(ChannelState::Paused.after(ChannelAction::Resume), Some(ChannelState::Connected));
        assert_eq!(ChannelState::Disconnected.after(ChannelAction::Resume), None);
        assert_eq!(ChannelState::Banned.after(ChannelAction::Connect), Some(ChannelState::Connected));
    }
}
