//! The ids of messages, channels, keys and institutions, and how they are created from a time and random bytes.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::{Builder, Uuid};

/// The text does not have the form of this kind of id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed id")]
pub struct InvalidId;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id (`UUIDv7`) from Unix milliseconds and random bytes. The order of ids has no meaning; the store's
            /// sequence orders messages.
            pub fn new(unix_ms: i64, random: [u8; 10]) -> Self {
                Self(Builder::from_unix_timestamp_millis(u64::try_from(unix_ms).unwrap_or(0), &random).into_uuid())
            }

            /// When the id was made, in Unix milliseconds.
            pub fn made_at(&self) -> i64 {
                self.0.as_bytes()[..6].iter().fold(0, |time, byte| time << 8 | i64::from(*byte))
            }

            /// The stored form of the id.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The id from its stored form.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                // Only the form that is printed is accepted, so that an id has one spelling.
                let id = Uuid::try_parse(text).map_err(|_| InvalidId)?;
                if id.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text { Ok(Self(id)) } else { Err(InvalidId) }
            }
        }
    };
}

uuid_id! {
    /// A tenant: it owns channels, messages and keys, and cannot see those of others.
    InstitutionId
}
uuid_id! {
    /// A message.
    MessageId
}
uuid_id! {
    /// A conversation: what is said in one chat of a channel, until it is closed.
    ConversationId
}
uuid_id! {
    /// A contact: one person.
    ContactId
}
uuid_id! {
    /// A file of a received message.
    MediaId
}
uuid_id! {
    /// The public id of an API key, by which it is listed and revoked.
    ApiKeyId
}
uuid_id! {
    /// A webhook.
    WebhookId
}

/// A channel's public id: `[A-Za-z0-9_-]{1,64}`, unique within an institution and environment. Callers choose it, so that
/// they can keep the ids that they already have.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChannelId(String);

/// The id of an institution's own sandbox channel in every path.
pub const SANDBOX: &str = "sandbox";

impl ChannelId {
    /// The institution's own sandbox channel.
    pub fn sandbox() -> Self {
        Self(SANDBOX.to_owned())
    }

    /// A new channel id, for a call that names none.
    pub fn new(unix_ms: i64, random: [u8; 10]) -> Self {
        let id = Builder::from_unix_timestamp_millis(u64::try_from(unix_ms).unwrap_or(0), &random).into_uuid();
        Self(id.as_hyphenated().to_string())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ChannelId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        if fits { Ok(Self(text.to_owned())) } else { Err(InvalidId) }
    }
}

impl TryFrom<String> for ChannelId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<ChannelId> for String {
    fn from(id: ChannelId) -> Self {
        id.0
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The most characters of a network's id. Meta's have about 60, WhatsApp Web's about 22.
const NETWORK_ID_LIMIT: usize = 255;

/// An id that a network gave to a message: 1 to 255 visible ASCII characters. A network may send any text; another text is
/// refused when it arrives, because a database may not be able to store it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetworkId(String);

impl NetworkId {
    /// The id from its stored form, which was checked when it arrived.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NetworkId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let fits = (1..=NETWORK_ID_LIMIT).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self(text.to_owned())) } else { Err(InvalidId) }
    }
}

impl Deref for NetworkId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// The most digits of a WhatsApp account. Telephone numbers have at most 15.
const ACCOUNT_LIMIT: usize = 32;

/// Whether a text of a network can be a WhatsApp account: 1 to 32 digits.
pub fn is_account(text: &str) -> bool {
    (1..=ACCOUNT_LIMIT).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The id under which the network knows a message. It is fixed when the message is accepted and used in every attempt, so
/// that the network recognises a re-send. The form is that of WhatsApp Web's own clients: `3EB0` and 18 hex digits.
pub fn network_id(random: [u8; 9]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digits = random.into_iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|four| DIGITS[usize::from(four)]);
    let mut id = String::with_capacity(22);
    id.push_str("3EB0");
    id.extend(digits.map(char::from));
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_has_one_spelling() {
        let id = MessageId::new(1_700_000_000_000, [7; 10]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse::<MessageId>(), Err(InvalidId));
        assert_eq!(id.to_string().replace('-', "").parse::<MessageId>(), Err(InvalidId));
    }

    #[test]
    fn network_ids_are_visible_ascii() {
        for id in ["3EB0459984FC15DDAB10A5", "wamid.HBgLNTUxMQ==", "~", &"x".repeat(255)] {
            assert_eq!(id.parse::<NetworkId>().as_deref(), Ok(id));
        }
        for id in ["", "\0", "a\0", "a b", "a\n", "\u{7f}", "\u{e9}", &"x".repeat(256)] {
            assert_eq!(id.parse::<NetworkId>(), Err(InvalidId), "{id:?}");
        }
    }

    #[test]
    fn accounts_are_digits() {
        assert!(is_account("5511988887777") && is_account(&"1".repeat(32)));
        for text in ["", "+5511", "55\0", "5511:1", &"1".repeat(33)] {
            assert!(!is_account(text), "{text:?}");
        }
    }

    #[test]
    fn channel_ids_are_short_plain_words() {
        let longest = "x".repeat(64);
        for good in ["sandbox", "65f0c0ffee65f0c0ffee65f0", "a_b-C9", &longest] {
            assert!(good.parse::<ChannelId>().is_ok(), "{good}");
        }
        let too_long = "x".repeat(65);
        for bad in ["", "a b", "a/b", "ç", "a.b", "%41", &too_long] {
            assert_eq!(bad.parse::<ChannelId>(), Err(InvalidId), "{bad}");
        }
    }

    #[test]
    fn network_ids_look_like_those_of_whatsapp_web() {
        assert_eq!(network_id([0, 1, 2, 3, 4, 5, 6, 7, 255]), "3EB00001020304050607FF");
    }
}
