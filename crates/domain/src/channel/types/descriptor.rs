//! What is known of a channel type without its network: for the rules of the queue, the store, the API's document and the
//! command line.

use serde_json::Value;

use crate::api_key::Environment;
use crate::channel::Setting;
use crate::error::AppError;
use crate::ids::ChannelId;

/// What is known of a channel type without its network.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each answers a question of its own")]
pub struct Descriptor {
    /// The name on the wire and in the store.
    pub name: &'static str,
    /// Test keys reach only the sandbox, live keys only real networks.
    pub environment: Environment,
    /// What may be sent side by side on a channel.
    pub ordering: Ordering,
    /// Whether writing to somebody new opens a chat, which the network watches and limits.
    pub opens_chats: bool,
    /// Whether a channel's connection is a session that one process holds open, and a phone links it.
    pub holds_session: bool,
    /// Whether a channel has secrets, which cannot be stored without a secret key.
    pub has_secrets: bool,
    /// Whether an attempt carries the message's own id, because the network takes no other name for the message.
    pub sends_message_id: bool,
    /// Why no channel of the type can be used in a build without its driver.
    pub missing: fn() -> AppError,
    /// What a person may set.
    pub settings: &'static [Setting],
    /// What the API's document calls the settings; empty where there are none.
    pub settings_schema: &'static str,
    /// What the body of `connect` may name.
    pub connect: &'static [ConnectField],
    /// How a channel's link is shown, where channels of the type have one.
    pub link: Option<LinkView>,
}

/// What may be sent side by side on a channel: the key of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordering {
    /// One message after another.
    Channel,
    /// One after another for each recipient.
    Recipient,
}

/// A field by which a channel is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectField {
    /// The name on the wire.
    pub name: &'static str,
    /// The name of the command line's flag. A secret's flag names a file.
    pub flag: &'static str,
    /// Which texts it takes.
    pub text: FieldText,
    /// Whether an empty one, or `null`, takes away what the channel has.
    pub is_removable: bool,
    /// What it is, in a sentence for people.
    pub about: &'static str,
}

/// Which texts a field of `connect` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldText {
    /// Digits, so many at most.
    Digits(usize),
    /// Visible ASCII characters, so many at most, and secret.
    Secret {
        /// The most characters.
        limit: usize,
        /// The variable that holds it on the command line.
        variable: &'static str,
    },
    /// A phone number.
    Phone,
}

/// How a channel's link is shown.
#[derive(Debug, Clone, Copy)]
pub struct LinkView {
    /// What the API's document calls it.
    pub schema_name: &'static str,
    /// Its JSON schema.
    pub schema: fn() -> Value,
    /// What is shown of the stored details; `None` where they are not in their form.
    pub show: fn(&str, &ChannelId) -> Option<Value>,
}
