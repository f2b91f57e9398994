//! The settings that channels of every type have.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::settings::{Setting, SettingKind};

/// The settings that channels of every type have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CommonSettings {
    /// Whether a call is refused while the service window is known to be closed.
    pub window_guard: WindowGuard,
    /// After how many hours without a message a conversation is closed.
    pub close_after_hours: Option<u32>,
    /// A person who answers with one of these words is left out of bulk sending.
    pub opt_out_words: Words,
    /// Whether the content of a revoked message is kept.
    pub keep_revoked: bool,
    /// When received messages are marked as read without a call.
    pub auto_read: AutoRead,
    /// Whether the content of received messages is kept after their events were delivered.
    pub keep_text: bool,
}

impl Default for CommonSettings {
    fn default() -> Self {
        Self {
            window_guard: WindowGuard::Off,
            close_after_hours: None,
            opt_out_words: Words::default(),
            keep_revoked: false,
            auto_read: AutoRead::Off,
            keep_text: true,
        }
    }
}

/// The table of these settings.
pub(super) const COMMON: [Setting; 6] = [
    Setting {
        name: "windowGuard",
        flag: "window-guard",
        kind: SettingKind::Choice { schema: "WindowGuard", names: &["off", "refuse"] },
        about: "Whether a call is refused while the service window of its chat is known to be closed.",
    },
    Setting {
        name: "closeAfterHours",
        flag: "close-after",
        kind: SettingKind::Limit(1, 8_760),
        about: "Hours without a message after which a conversation is closed.",
    },
    Setting {
        name: "optOutWords",
        flag: "opt-out-words",
        kind: SettingKind::Words,
        about: "Words with which a person who writes one of them alone is left out of bulk sending.",
    },
    Setting {
        name: "keepRevoked",
        flag: "keep-revoked",
        kind: SettingKind::Switch,
        about: "Whether the content of a message stays when its author takes it back.",
    },
    Setting {
        name: "autoRead",
        flag: "auto-read",
        kind: SettingKind::Choice { schema: "AutoRead", names: &["off", "received", "answered"] },
        about: "Whether messages are marked as read without a call: when they arrive, or when their conversation is answered.",
    },
    Setting {
        name: "keepText",
        flag: "keep-text",
        kind: SettingKind::Switch,
        about: "Whether the content of received messages stays after their events were delivered.",
    },
];

/// Whether calls are refused while the service window is known to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WindowGuard {
    /// The network decides.
    Off,
    /// The call is refused.
    Refuse,
}

/// When received messages are marked as read without a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AutoRead {
    /// Never.
    Off,
    /// When they arrive.
    Received,
    /// When their conversation is answered.
    Answered,
}

/// Some words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words(Arc<[String]>);

impl Words {
    /// The most words.
    pub const MOST: usize = 20;
    /// The most characters of a word.
    pub const LONGEST: usize = 40;

    /// The words.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl Default for Words {
    fn default() -> Self {
        Self(["SAIR", "PARAR", "STOP"].map(str::to_owned).into())
    }
}

impl Serialize for Words {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0[..].serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Vec::deserialize(deserializer)?.into()))
    }
}
