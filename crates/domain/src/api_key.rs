//! API keys: their form, their scopes, and what one key may grant to another.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Whether a key's messages are real.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Messages go out to a real network.
    Live,
    /// Messages stay in the sandbox.
    Test,
}

impl Environment {
    /// Both environments.
    pub const ALL: [Self; 2] = [Self::Live, Self::Test];

    /// The environment's name in a key and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }

    /// The environment with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|environment| environment.name() == name)
    }
}

/// A permission of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Send and cancel messages.
    MessagesSend,
    /// Read messages and their cards.
    MessagesRead,
    /// Read channels.
    ChannelsRead,
    /// Create, connect, pause and delete channels.
    ChannelsWrite,
    /// List keys.
    KeysRead,
    /// Create and revoke keys.
    KeysWrite,
    /// Read webhooks.
    WebhooksRead,
    /// Create and change webhooks.
    WebhooksWrite,
    /// Read the sandbox inbox.
    SandboxRead,
    /// Empty the sandbox inbox.
    SandboxWrite,
    /// Read the event stream.
    EventsRead,
    /// Read conversations.
    ConversationsRead,
    /// Change conversations.
    ConversationsWrite,
    /// Read contacts.
    ContactsRead,
    /// Change contacts.
    ContactsWrite,
}

impl Scope {
    /// Every scope, in the order in which keys list them.
    pub const ALL: [Self; 15] = [
        Self::MessagesSend,
        Self::MessagesRead,
        Self::ChannelsRead,
        Self::ChannelsWrite,
        Self::KeysRead,
        Self::KeysWrite,
        Self::WebhooksRead,
        Self::WebhooksWrite,
        Self::SandboxRead,
        Self::SandboxWrite,
        Self::EventsRead,
        Self::ConversationsRead,
        Self::ConversationsWrite,
        Self::ContactsRead,
        Self::ContactsWrite,
    ];

    /// The scope's name on the wire and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::MessagesSend => "messages.send",
            Self::MessagesRead => "messages.read",
            Self::ChannelsRead => "channels.read",
            Self::ChannelsWrite => "channels.write",
            Self::KeysRead => "keys.read",
            Self::KeysWrite => "keys.write",
            Self::WebhooksRead => "webhooks.read",
            Self::WebhooksWrite => "webhooks.write",
            Self::SandboxRead => "sandbox.read",
            Self::SandboxWrite => "sandbox.write",
            Self::EventsRead => "events.read",
            Self::ConversationsRead => "conversations.read",
            Self::ConversationsWrite => "conversations.write",
            Self::ContactsRead => "contacts.read",
            Self::ContactsWrite => "contacts.write",
        }
    }

    /// The scope with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u16);

impl Scopes {
    /// Every scope there is.
    pub fn all() -> Self {
        Scope::ALL.into_iter().collect()
    }

    /// Whether the scope is in the set.
    pub fn allows(self, scope: Scope) -> bool {
        self.0 & Self::bit(scope) != 0
    }

    /// Whether the other set contains every scope of this set.
    pub fn is_subset_of(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// The scopes of this set that the other set does not contain.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names, in the order of [`Scope::ALL`].
    pub fn names(self) -> Vec<&'static str> {
        Scope::ALL.into_iter().filter(|scope| self.allows(*scope)).map(Scope::name).collect()
    }

    fn bit(scope: Scope) -> u16 {
        1 << (scope as u16)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | Self::bit(scope)))
    }
}

/// Calls a minute; `None` is unlimited.
pub type RateLimit = Option<u32>;
/// The rate limit of a key whose creator named none.
pub const DEFAULT_RATE_LIMIT: u32 = 60;
/// The highest limit that is not unlimited.
pub const MAX_RATE_LIMIT: u32 = 10_000;

/// The permissions of a key and their limits. A key may create only keys with no more than its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The environment that the key works in.
    pub environment: Environment,
    /// What the key may do.
    pub scopes: Scopes,
    /// How often the key may call.
    pub rate_limit: RateLimit,
    /// When the key expires, in Unix milliseconds; `None` is never.
    pub expires_at: Option<i64>,
}

impl Grant {
    /// The names of the properties in which this grant exceeds the grant of the creator. An empty list means that the
    /// creator may give it.
    pub fn exceeds(&self, giver: &Self) -> Vec<&'static str> {
        // An unlimited rate is the highest one.
        let higher = |a: Option<i64>, b: Option<i64>| a.unwrap_or(i64::MAX) > b.unwrap_or(i64::MAX);
        let checks = [
            ("permissions", !self.scopes.is_subset_of(giver.scopes)),
            ("environment", self.environment != giver.environment),
            ("rateLimit", higher(self.rate_limit.map(i64::from), giver.rate_limit.map(i64::from))),
            ("expiresAt", higher(self.expires_at, giver.expires_at)),
        ];
        checks.into_iter().filter(|(_, exceeds)| *exceeds).map(|(name, _)| name).collect()
    }
}

const PREFIX: &str = "oapi_sk_";
const RANDOM: usize = 29;
const CHECKSUM: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A secret key: `oapi_sk_{live|test}_`, 29 random characters of base 62 (172 bits) and 6 of checksum, 48 in all. It is
/// shown once; the store keeps only its SHA-256.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(String);

impl SecretKey {
    /// Creates a key from random bytes. Bytes of 248 and more are skipped, so that every character is equally likely. `None`
    /// when too few remain (for 64 bytes that does not happen in practice).
    pub fn new(environment: Environment, random: &[u8]) -> Option<Self> {
        let even = random.iter().filter(|byte| **byte < 248).map(|byte| char::from(ALPHABET[usize::from(byte % 62)]));
        let body: String = even.take(RANDOM).collect();
        let text = format!("{PREFIX}{}_{body}", environment.name());
        (body.len() == RANDOM).then(|| Self(format!("{text}{}", checksum(&text))))
    }

    /// Parses a key that a caller sent. The checksum detects a typo without a query to the store.
    pub fn parse(text: &str) -> Option<Self> {
        let body = text.strip_prefix(PREFIX)?;
        let body = body.strip_prefix("live_").or_else(|| body.strip_prefix("test_"))?;
        let fits = body.len() == RANDOM + CHECKSUM && body.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let (start, sum) = text.split_at_checked(text.len() - CHECKSUM).filter(|_| fits)?;
        (checksum(start) == sum).then(|| Self(text.to_owned()))
    }

    /// The hash that the store keeps and finds keys by. 172 random bits need no slow hash.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }

    /// The part that may be shown to identify the key: the environment and the first four random characters.
    pub fn visible_prefix(&self) -> &str {
        &self.0[..PREFIX.len() + "live_".len() + 4]
    }

    /// The whole key, to be shown once to its creator.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretKey(…)")
    }
}

/// The first 32 bits of the SHA-256 of the preceding text, in base 62.
fn checksum(text: &str) -> String {
    let digest = Sha256::digest(text);
    let mut number = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    let mut sum = [0; CHECKSUM];
    for place in sum.iter_mut().rev() {
        *place = ALPHABET[number as usize % 62];
        number /= 62;
    }
    sum.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SecretKey {
        let random: Vec<u8> = (0..64).collect();
        SecretKey::new(Environment::Test, &random).unwrap()
    }

    #[test]
    fn a_key_has_48_characters_and_reads_back() {
        let key = key();
        assert_eq!(key.reveal().len(), 48);
        assert_eq!(SecretKey::parse(key.reveal()), Some(key.clone()));
        assert_eq!(key.visible_prefix(), "oapi_sk_test_0123");
        assert!(!format!("{key:?}").contains("0123"));
    }

    #[test]
    fn every_typo_of_one_character_is_found() {
        let text = key().reveal().to_owned();
        for place in 0..text.len() {
            for other in [b'0', b'z', b'_', b' '] {
                let mut typo = text.clone().into_bytes();
                if typo[place] != other {
                    typo[place] = other;
                    assert_eq!(SecretKey::parse(std::str::from_utf8(&typo).unwrap()), None);
                }
            }
        }
        for bad in ["", "oapi_sk_", "oapi_sk_test_", "ç", "oapi_sk_test_ççççççççççççççççççç", &text[1..], &text[..47]]
        {
            assert_eq!(SecretKey::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn too_little_randomness_makes_no_key() {
        assert_eq!(SecretKey::new(Environment::Live, &[255; 64]), None);
        assert_eq!(SecretKey::new(Environment::Live, &[1; 28]), None);
    }

    #[test]
    fn a_key_grants_no_more_than_its_own() {
        let own = Grant {
            environment: Environment::Test,
            scopes: [Scope::KeysWrite, Scope::MessagesSend].into_iter().collect(),
            rate_limit: Some(60),
            expires_at: Some(1_000),
        };
        assert!(own.exceeds(&own).is_empty());
        let more = Grant { environment: Environment::Live, scopes: Scopes::all(), rate_limit: None, expires_at: None };
        assert_eq!(more.exceeds(&own), ["permissions", "environment", "rateLimit", "expiresAt"]);
        assert!(Grant { environment: Environment::Live, ..own }.exceeds(&more).is_empty());
    }
}
