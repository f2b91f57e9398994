//! The properties of a channel type that do not need its network. The queue rules, the store, the API's document and the
//! command line read them.

use serde_json::Value;

use crate::address::AddressKind;
use crate::api_key::Environment;
use crate::channel::Setting;
use crate::error::AppError;
use crate::ids::ChannelId;

/// The properties of a channel type that do not need its network.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each answers a question of its own")]
pub struct Descriptor {
    /// The name on the wire and in the store.
    pub name: &'static str,
    /// The environment of its channels. Test keys reach only the sandbox, and live keys only real networks.
    pub environment: Environment,
    /// Which messages of a channel are sent in order.
    pub ordering: Ordering,
    /// The addresses to which its network sends.
    pub addresses: &'static [AddressKind],
    /// Whether a message to a new recipient opens a chat, which the network watches and limits.
    pub opens_chats: bool,
    /// Whether a phone links a channel of this type, and one process keeps its session open.
    pub holds_session: bool,
    /// Whether a channel has secrets, which cannot be stored without a secret key.
    pub has_secrets: bool,
    /// Whether the network lets a channel answer freely only for some time after a person wrote.
    pub has_window: bool,
    /// Whether an attempt carries the message's own id, because the network accepts no other id for the message.
    pub sends_message_id: bool,
    /// The error for channels of this type in a build without its driver.
    pub missing: fn() -> AppError,
    /// The settings of a channel.
    pub settings: &'static [Setting],
    /// The name of the settings' schema in the API's document.
    pub settings_schema: &'static str,
    /// The fields that the body of `connect` may have.
    pub connect: &'static [ConnectField],
    /// How a channel's link is shown, if channels of the type have one.
    pub link: Option<LinkView>,
}

/// Which messages of a channel are sent in order, one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordering {
    /// All messages of the channel.
    Channel,
    /// The messages for each recipient.
    Recipient,
}

/// A field of the body of `connect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectField {
    /// The name on the wire.
    pub name: &'static str,
    /// The name of the command line's flag. A secret's flag names a file.
    pub flag: &'static str,
    /// The texts that the field accepts.
    pub text: FieldText,
    /// Whether an empty text, or `null`, removes the stored value.
    pub is_removable: bool,
    /// A description of the field for people, in one sentence.
    pub about: &'static str,
}

/// The texts that a field of `connect` accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldText {
    /// Digits, at most this many.
    Digits(usize),
    /// A secret of visible ASCII characters.
    Secret {
        /// The most characters.
        limit: usize,
        /// The environment variable that holds the secret on the command line.
        variable: &'static str,
    },
    /// A phone number.
    Phone,
}

/// How a channel's link is shown.
#[derive(Debug, Clone, Copy)]
pub struct LinkView {
    /// The name of its schema in the API's document.
    pub schema_name: &'static str,
    /// Its JSON schema.
    pub schema: fn() -> Value,
    /// Converts the stored details to the shown form; `None` if the details have an unknown form.
    pub show: fn(&str, &ChannelId) -> Option<Value>,
}
