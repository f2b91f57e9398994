//! Channels: their types, the states of the contract's table, who may move between them, and their settings.

mod event;
mod link;
mod record;
mod session;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::api_key::Environment;

pub use event::{
    Actor, ChannelEvent, ChannelEventPage, ChannelEventQuery, ChannelMove, MAX_CHANNEL_EVENTS, Recorded, StoredEvent,
};
pub use link::{Link, LinkRest};
pub use record::{Channel, ChannelKey, Epoch, Held, NewChannel, Via};
pub use session::{SessionChange, SessionKey, SessionNumber, SessionOf, SessionRow};

/// What stands behind a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChannelType {
    /// The simulated network.
    #[serde(rename = "SANDBOX")]
    Sandbox,
    /// Meta's Cloud API.
    #[serde(rename = "WHATSAPP_WABA")]
    CloudApi,
    /// A linked phone over WhatsApp Web; the wire name is the vendor's.
    #[serde(rename = "WHATSAPP_BAILEYS")]
    WhatsAppWeb,
}

impl ChannelType {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::Sandbox, Self::CloudApi, Self::WhatsAppWeb];

    /// The type's name on the wire and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sandbox => "SANDBOX",
            Self::CloudApi => "WHATSAPP_WABA",
            Self::WhatsAppWeb => "WHATSAPP_BAILEYS",
        }
    }

    /// The type with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Test keys reach only the sandbox, live keys only real networks.
    pub fn environment(self) -> Environment {
        match self {
            Self::Sandbox => Environment::Test,
            Self::CloudApi | Self::WhatsAppWeb => Environment::Live,
        }
    }

    /// Which of [`ChannelSettings`] say anything of such a channel, by their names on the wire.
    pub fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Sandbox => &[],
            Self::CloudApi => &["pipeline", "unknownPolicy", "unknownWaitSeconds"],
            Self::WhatsAppWeb => &["delayMinSeconds", "delayMaxSeconds", "typing", "newRecipientsPerDay"],
        }
    }

    /// Whether there are any.
    pub fn has_settings(self) -> bool {
        !self.settings().is_empty()
    }

    /// Whether writing to somebody new opens a chat, which the network watches and limits.
    pub fn opens_chats(self) -> bool {
        self == Self::WhatsAppWeb
    }

    /// What may be sent side by side on such a channel.
    pub fn ordering(self) -> Ordering {
        match self {
            Self::Sandbox | Self::WhatsAppWeb => Ordering::Channel,
            Self::CloudApi => Ordering::Recipient,
        }
    }
}

/// What may be sent side by side on a channel: the key of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordering {
    /// One message after another.
    Channel,
    /// One after another for each recipient.
    Recipient,
}

/// What a person may set on a channel. Stored as JSON, so that further settings need no new columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChannelSettings {
    /// Messages that may be on their way at once, where the network takes several.
    pub pipeline: u16,
    /// What becomes of a message whose answer was lost, where the network would not recognise a re-send.
    pub unknown_policy: UnknownPolicy,
    /// How long the network's word is waited for before such a message is sent again.
    pub unknown_wait_seconds: u32,
    /// The shortest rest between two messages, where a linked phone sends them.
    pub delay_min_seconds: u16,
    /// The longest.
    pub delay_max_seconds: u16,
    /// Whether the recipient is shown that something is being typed.
    pub typing: bool,
    /// Chats that may be opened within 24 hours; further new recipients wait. `None`: no limit.
    pub new_recipients_per_day: Option<u32>,
}

/// What becomes of an `UNKNOWN` message of which the network says nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownPolicy {
    /// It stays as it is: never a second card, perhaps none.
    #[default]
    Leave,
    /// It is sent again: never none, perhaps two.
    Resend,
}

impl UnknownPolicy {
    /// Every policy.
    pub const ALL: [Self; 2] = [Self::Leave, Self::Resend];

    /// The policy's name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Leave => "leave",
            Self::Resend => "resend",
        }
    }

    /// The policy with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }
}

impl Default for ChannelSettings {
    fn default() -> Self {
        Self {
            pipeline: 16,
            unknown_policy: UnknownPolicy::Leave,
            unknown_wait_seconds: 600,
            delay_min_seconds: 1,
            delay_max_seconds: 3,
            typing: false,
            new_recipients_per_day: None,
        }
    }
}

impl ChannelSettings {
    /// Least and most messages on their way at once. Meta takes 80 a second for a number, answered within a second or
    /// two: more than this would only wait elsewhere.
    pub const PIPELINE: (u16, u16) = (1, 256);
    /// The shortest and the longest wait for the network's word, in seconds. After a day messages expire by default.
    pub const UNKNOWN_WAIT: (u32, u32) = (5, 86_400);
    /// The shortest and the longest rest between two messages, in seconds.
    pub const DELAY: (u16, u16) = (0, 600);
    /// Fewest and most chats that may be opened within 24 hours.
    pub const NEW_RECIPIENTS: (u32, u32) = (1, 10_000);

    /// How long the network's word is waited for before an `UNKNOWN` message is sent again; `None`: for ever.
    pub fn resend_after(&self) -> Option<Duration> {
        (self.unknown_policy == UnknownPolicy::Resend)
            .then(|| Duration::from_secs(u64::from(self.unknown_wait_seconds)))
    }
}

/// The state of a channel: the contract's table, one row a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ChannelState {
    /// Never connected.
    Created,
    /// Waiting for a scan or a check.
    Connecting,
    /// The line is up.
    Connected,
    /// The line is down: lost and coming back by itself, or put down by a person until the next connect.
    Disconnected,
    /// The network limits it until a stated time.
    Restricted,
    /// Held by a person, or until it is re-authorised.
    Paused,
    /// The network ended the link; a person must link it again.
    LoggedOut,
    /// The network banned the number.
    Banned,
}

/// What a person may ask of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelAction {
    /// Bring the line up.
    Connect,
    /// Put the line down; what waits is held.
    Disconnect,
    /// Hold what waits, keep the line.
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

    /// Whether a send is taken. `was_connected`: the line has been up before, so a channel that is connecting anew goes
    /// on accepting as it did.
    pub fn accepts(self, was_connected: bool) -> bool {
        match self {
            Self::Connected | Self::Disconnected | Self::Restricted | Self::Paused => true,
            Self::Connecting => was_connected,
            Self::Created | Self::LoggedOut | Self::Banned => false,
        }
    }

    /// Whether what waits is sent. A restricted channel dispatches in part: its provider says which part.
    pub fn dispatches(self) -> bool {
        matches!(self, Self::Connected | Self::Restricted)
    }

    /// Whether a restriction is remembered in this state: it outlasts a pause, and a line that is lost and comes back.
    pub fn keeps_restriction(self) -> bool {
        match self {
            Self::Restricted | Self::Paused | Self::Disconnected | Self::Connecting => true,
            Self::Created | Self::Connected | Self::LoggedOut | Self::Banned => false,
        }
    }

    /// Where an action leads on a channel whose line needs neither scan nor check; `None` when it makes no sense here.
    pub fn after(self, action: ChannelAction) -> Option<Self> {
        let up =
            matches!(self, Self::Connecting | Self::Connected | Self::Disconnected | Self::Restricted | Self::Paused);
        match action {
            // A ban may have been lifted: the network says so, or bans again.
            ChannelAction::Connect => Some(Self::Connected),
            ChannelAction::Disconnect => up.then_some(Self::Disconnected),
            ChannelAction::Pause => up.then_some(Self::Paused),
            ChannelAction::Resume => match self {
                Self::Paused => Some(Self::Connected),
                // Nothing to resume, nothing wrong either: asking twice is harmless.
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
    fn names_go_both_ways() {
        for state in ChannelState::ALL {
            assert_eq!(ChannelState::from_name(state.name()), Some(state));
        }
        for kind in ChannelType::ALL {
            assert_eq!(ChannelType::from_name(kind.name()), Some(kind));
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
