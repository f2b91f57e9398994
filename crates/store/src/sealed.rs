//! Secrets at rest: the store has them sealed with a key that is kept elsewhere.
//!
//! ```text
//! version 1 byte | key id 8 bytes | nonce 24 bytes | ciphertext | tag 16 bytes
//! ```
//!
//! The cipher is XChaCha20-Poly1305. It also authenticates version, key id and [`Place`], so sealed bytes can neither be
//! changed nor moved to another row. The reasons: `docs/adr/0007-sealed-secrets.md`.

#[cfg(test)]
mod tests;

use std::fmt;

use base64ct::{Base64Unpadded, Encoding};
use chacha20poly1305::{AeadInOut, KeyInit, Tag, XChaCha20Poly1305, XNonce};
use recado_domain::channel::{ChannelKey, SessionKey, SessionNumber};
use recado_domain::clock::{Entropy, secret};
use recado_domain::ids::WebhookId;
use recado_domain::text::without_mark;
use secrecy::{ExposeSecret, ExposeSecretMut, SecretBox, SecretSlice, SecretString};
use sha2::{Digest, Sha256};

/// The only version of the format so far.
const VERSION: u8 = 1;
const KEY: usize = 32;
const ID: usize = 8;
const NONCE: usize = 24;
const TAG: usize = 16;
/// Where the nonce begins.
const HEAD: usize = 1 + ID;
/// The key id is a hash of this label and the key, so that it equals no other program's hash of the key.
const ID_LABEL: &[u8] = b"recado secret key id\0";

/// The row to which sealed bytes belong. Its name is authenticated: never change a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// How a channel is linked to its network.
    Link(ChannelKey),
    /// A row of a linked device's session, and which of its channel's sessions that is.
    Session { channel: ChannelKey, session: SessionNumber, kind: u8, key: &'a [u8] },
    /// The network's own form of a received message, or where one of its files is.
    Received { channel: ChannelKey, network_id: &'a str, part: ReceivedPart },
    /// An arrival that the store refused.
    Refused { channel: ChannelKey, id: &'a [u8] },
    /// A secret of a webhook: the current one, and the one before.
    WebhookSecret(WebhookId),
    /// The fixed headers of a webhook.
    WebhookHeaders(WebhookId),
}

/// Which part of a received message is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceivedPart {
    /// The message itself.
    Message,
    /// The address and the key of its file.
    File,
}

impl<'a> From<&'a SessionKey> for Place<'a> {
    fn from(SessionKey { channel, session, kind, key }: &'a SessionKey) -> Self {
        Self::Session { channel: *channel, session: *session, kind: *kind, key }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(channel) => write!(f, "links/{channel}"),
            Self::Session { channel, session, kind, key } => {
                write!(f, "session_rows/{channel}/")?;
                // Bytes that an earlier version sealed, before sessions had numbers.
                if *session != 0 {
                    write!(f, "session {session}/")?;
                }
                write!(f, "{kind}/")?;
                write_hex(key, f)
            }
            Self::Received { channel, network_id, part } => {
                let part = match part {
                    ReceivedPart::Message => "message",
                    ReceivedPart::File => "file",
                };
                write!(f, "incoming/{channel}/{part}/{network_id}")
            }
            Self::Refused { channel, id } => {
                write!(f, "refused_arrivals/{channel}/")?;
                write_hex(id, f)
            }
            Self::WebhookSecret(webhook) => write!(f, "webhooks/{webhook}/secret"),
            Self::WebhookHeaders(webhook) => write!(f, "webhooks/{webhook}/headers"),
        }
    }
}

/// Identifies a key without revealing anything about it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyId([u8; ID]);

impl KeyId {
    /// The key that these sealed bytes name; `None` if they have another form. This is only what the bytes claim.
    pub fn of(sealed: &[u8]) -> Option<Self> {
        let (version, rest) = sealed.split_first()?;
        (*version == VERSION).then(|| rest.first_chunk().copied().map(Self))?
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why something was not sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("there is no secret key: set RECADO_SECRET_KEY_FILE or RECADO_SECRET_KEY")]
    NoKey,
    #[error("the secret key with the id {0} is missing: it sealed this")]
    KeyMissing(KeyId),
    #[error("what is sealed was changed, or belongs to another place")]
    Tampered,
    #[error("a newer version of Recado sealed this")]
    UnknownForm,
}

impl SealError {
    /// The error in Portuguese, for a channel's `stateReason`.
    pub fn reason(&self) -> String {
        match self {
            Self::NoKey => "O servidor nao tem RECADO_SECRET_KEY para abrir os segredos do canal.".to_owned(),
            Self::KeyMissing(id) => format!("Falta a chave {id} em RECADO_SECRET_KEY para abrir os segredos do canal."),
            Self::Tampered => "Os segredos do canal foram alterados ou sao de outro canal.".to_owned(),
            Self::UnknownForm => "Os segredos do canal sao de uma versao mais nova do Recado.".to_owned(),
        }
    }
}

/// A text is no key. The error does not repeat the text, which may be a mistyped key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    #[error("it holds no key")]
    None,
    #[error(
        "its key number {0} is no key: 64 hexadecimal digits, or base64 of 32 bytes; `recado secrets new-key` makes one"
    )]
    Malformed(usize),
}

#[derive(Debug)]
struct Key {
    id: KeyId,
    bytes: SecretBox<[u8; KEY]>,
}

impl Key {
    fn new(bytes: SecretBox<[u8; KEY]>) -> Self {
        let hash = Sha256::new().chain_update(ID_LABEL).chain_update(bytes.expose_secret()).finalize();
        let mut id = [0; ID];
        id.copy_from_slice(&hash[..ID]);
        Self { id: KeyId(id), bytes }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut bytes = SecretBox::new(Box::new([0; KEY]));
        let filled = if text.len() == 2 * KEY {
            read_hex(text, bytes.expose_secret_mut())
        } else {
            let digits = text.strip_suffix('=').unwrap_or(text);
            Base64Unpadded::decode(digits, bytes.expose_secret_mut()).is_ok_and(|filled| filled.len() == KEY)
        };
        filled.then(|| Self::new(bytes))
    }

    /// A cipher holds a copy of the key and zeroes it on drop, so each use creates one.
    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.bytes.expose_secret().into())
    }
}

/// A new key, as [`KeyRing::parse`] reads it.
pub fn new_key(entropy: &dyn Entropy) -> SecretString {
    let mut bytes = SecretBox::new(Box::new([0; KEY]));
    entropy.fill_secret(bytes.expose_secret_mut());
    // Allocated at full size: a growing text would leave copies in memory.
    let mut text = String::with_capacity(2 * KEY);
    write_hex(bytes.expose_secret(), &mut text).expect("a String accepts any text");
    text.into()
}

fn write_hex(bytes: &[u8], to: &mut dyn fmt::Write) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(to, "{byte:02x}"))
}

/// Reads hexadecimal digits into bytes. `false` if a character is no digit, or if there are not two digits for each byte.
fn read_hex(text: &str, bytes: &mut [u8]) -> bool {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks_exact(2);
    text.len() == 2 * bytes.len()
        && bytes.iter_mut().zip(pairs).all(|(byte, pair)| match (digit(pair[0]), digit(pair[1])) {
            (Some(high), Some(low)) => {
                // Both are below 16.
                *byte = u8::try_from(high << 4 | low).unwrap_or_default();
                true
            }
            _ => false,
        })
}

/// The server's keys: the first one seals, and each opens what it sealed. An empty ring seals nothing.
#[derive(Debug, Default)]
pub struct KeyRing(Vec<Key>);

impl KeyRing {
    /// Parses keys: 64 hexadecimal digits or base64 each, separated by commas or white space.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        let words = without_mark(text).split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
        let keys = words.enumerate().map(|(place, word)| Key::parse(word).ok_or(BadKey::Malformed(place + 1)));
        let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(BadKey::None) } else { Ok(Self(keys)) }
    }

    /// The key that seals.
    pub fn first(&self) -> Result<KeyId, SealError> {
        self.0.first().map(|key| key.id).ok_or(SealError::NoKey)
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Seals a secret for its place, with the first key.
    pub fn seal(&self, place: Place<'_>, plain: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>, SealError> {
        let key = self.0.first().ok_or(SealError::NoKey)?;
        let nonce: [u8; NONCE] = secret(entropy);
        let mut sealed = Vec::with_capacity(HEAD + NONCE + plain.len() + TAG);
        sealed.push(VERSION);
        sealed.extend(key.id.0);
        let bound = bound(&sealed, place);
        sealed.extend(nonce);
        sealed.extend(plain);
        let tag = key
            .cipher()
            .encrypt_inout_detached(&XNonce::from(nonce), &bound, (&mut sealed[HEAD + NONCE..]).into())
            .expect("only what has over 256 GiB is refused");
        sealed.extend(tag);
        Ok(sealed)
    }

    /// Opens bytes that were sealed for this place.
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<SecretSlice<u8>, SealError> {
        let key = self.key_of(sealed)?;
        let (head, rest) = sealed.split_at(HEAD);
        let (nonce, rest) = rest.split_first_chunk::<NONCE>().ok_or(SealError::Tampered)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG>().ok_or(SealError::Tampered)?;
        // Decrypted in place, in memory that is zeroed on drop.
        let mut plain = SecretSlice::from(ciphertext.to_vec());
        key.cipher()
            .decrypt_inout_detached(
                &XNonce::from(*nonce),
                &bound(head, place),
                plain.expose_secret_mut().into(),
                &Tag::from(*tag),
            )
            .map_err(|_| SealError::Tampered)?;
        Ok(plain)
    }

    /// Seals bytes again with the first key. `None` if the first key sealed them already.
    pub fn reencrypt(
        &self,
        place: Place<'_>,
        sealed: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<Option<Vec<u8>>, SealError> {
        let plain = self.open(place, sealed)?;
        if self.is_first_of(sealed)? {
            return Ok(None);
        }
        self.seal(place, plain.expose_secret(), entropy).map(Some)
    }

    /// Whether the first key sealed these bytes. This is only what the bytes claim, so open them as well.
    pub fn is_first_of(&self, sealed: &[u8]) -> Result<bool, SealError> {
        Ok(self.key_of(sealed)?.id == self.first()?)
    }

    /// The key that sealed this.
    fn key_of(&self, sealed: &[u8]) -> Result<&Key, SealError> {
        self.first()?;
        let (version, rest) = sealed.split_first().ok_or(SealError::Tampered)?;
        if *version != VERSION {
            return Err(SealError::UnknownForm);
        }
        let id = KeyId(*rest.first_chunk().ok_or(SealError::Tampered)?);
        self.0.iter().find(|key| key.id == id).ok_or(SealError::KeyMissing(id))
    }
}

/// The authenticated data that is not encrypted: a head of fixed length, and the place.
fn bound(head: &[u8], place: Place<'_>) -> Vec<u8> {
    [head, place.to_string().as_bytes()].concat()
}
