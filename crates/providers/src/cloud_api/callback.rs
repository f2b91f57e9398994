//! The calls of Meta: the verification of the address, the statuses of messages, and what people write.
//!
//! Only the signature with the app's secret authenticates a callback. A body is untrusted until its signature was checked,
//! and is read in bounded memory in any case. Callbacks repeat, come late and out of order, for up to seven days (peers'
//! guides: hookdeck, socialhook), so the caller must accept that.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use recado_domain::clock::Millis;
use recado_domain::ids::{NetworkId, is_account};
use recado_domain::message::Pricing;
use secrecy::{ExposeSecret, SecretString};
use serde::de::Deserialize;
use serde_json::value::RawValue;
use sha2::Sha256;

use crate::cloud_api::errors::{GraphError, Refusal};
use crate::cloud_api::incoming::{self, OfNumber};
use crate::cloud_api::lenient::{Later, Object, elements, is_digits, number, read, seconds};
use crate::cloud_api::link::Fingerprint;
use recado_domain::channel::types::cloud_api::{ID_LIMIT, SECRET_LIMIT};

/// The header that carries the signature.
pub const SIGNATURE_HEADER: &str = "x-hub-signature-256";
/// The most characters of a challenge. Meta's have about ten digits.
const CHALLENGE_LIMIT: usize = 256;
/// The most characters of `biz_opaque_callback_data`, by Meta's documentation.
const OPAQUE_LIMIT: usize = 512;

/// Whether Meta's app signed the raw bytes: `sha256=` and the hexadecimal HMAC-SHA256 with the app's secret.
pub fn is_signed(app_secret: &SecretString, header: &str, body: &[u8]) -> bool {
    let Some(signature) = header.strip_prefix("sha256=").and_then(from_hex) else { return false };
    let key = app_secret.expose_secret().as_bytes();
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    mac.update(body);
    // In constant time. Otherwise the signature of a body could be found byte by byte.
    mac.verify_slice(&signature).is_ok()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let mut bytes = [0; 32];
    if pairs.len() != bytes.len() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let digit = |sign: u8| char::from(sign).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// The query parameters of Meta's verification, which it sends when our callback address is entered in its dashboard.
#[derive(Debug, Clone, Copy, Default)]
pub struct Verification<'a> {
    /// `hub.mode`
    pub mode: &'a str,
    /// `hub.verify_token`
    pub token: &'a str,
    /// `hub.challenge`
    pub challenge: &'a str,
}

impl<'a> Verification<'a> {
    /// The challenge, which is returned as plain text. `None` if the token is unknown, or if the request is for something
    /// else. At most one hash is computed, and only of a token that can be valid.
    pub fn answer(self, verifies: impl FnOnce(Fingerprint) -> bool) -> Option<&'a str> {
        let plain = (1..=CHALLENGE_LIMIT).contains(&self.challenge.len())
            && self.challenge.bytes().all(|byte| byte.is_ascii_graphic());
        let may_be = self.mode == "subscribe" && plain && (1..=SECRET_LIMIT).contains(&self.token.len());
        (may_be && verifies(Fingerprint::of(self.token))).then_some(self.challenge)
    }
}

/// The ids in a body, before its signature is checked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ids<'a> {
    /// `phone_number_id`
    pub numbers: Vec<&'a str>,
    /// `id`, of an entry or of anything else. Digits are the id of a business account.
    pub accounts: Vec<&'a str>,
}

/// The most ids of each kind that are read. Meta's bodies are about one account.
const IDS: usize = 64;

/// Searches the bytes for ids without parsing JSON, because only signed bodies are parsed.
pub fn ids(body: &[u8]) -> Ids<'_> {
    let mut ids = Ids::default();
    for (at, _) in body.windows(3).enumerate().filter(|(_, bytes)| bytes == b"id\"") {
        let (before, after) = (&body[..at], &body[at + 3..]);
        let kind = match before {
            _ if before.ends_with(b"\"phone_number_") => &mut ids.numbers,
            _ if before.ends_with(b"\"") => &mut ids.accounts,
            _ => continue,
        };
        if let Some(id) = id_in(after).filter(|id| kind.len() < IDS && !kind.contains(id)) {
            kind.push(id);
        }
    }
    ids
}

/// The digits of `: "123"`.
fn id_in(bytes: &[u8]) -> Option<&str> {
    let text = bytes.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    let end = text.iter().take(ID_LIMIT + 1).position(|byte| *byte == b'"')?;
    std::str::from_utf8(&text[..end]).ok().filter(|id| is_digits(id))
}

/// The state of a message, in Meta's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    Sent,
    Delivered,
    Read,
    Failed,
}

/// Meta's report about one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The number that sent the message.
    pub phone_number_id: Arc<str>,
    /// Meta's id of the message, `wamid.…`.
    pub remote_id: NetworkId,
    /// The value that we sent as `biz_opaque_callback_data`.
    pub opaque: Option<String>,
    pub stage: Stage,
    /// The time, to the second: the last millisecond of the second, so that it is not before an event that we saw in the
    /// same second.
    pub at: Millis,
    /// The recipient's account, in digits.
    pub recipient_id: Option<String>,
    /// What Meta says of the price.
    pub pricing: Option<Pricing>,
    /// The reason of a failure.
    pub refusal: Option<Refusal>,
}

/// The content of a callback.
#[derive(Debug, Clone, Default)]
pub struct Callback {
    pub statuses: Vec<Status>,
    /// What people wrote, in the order of the callback.
    pub received: Vec<OfNumber>,
    /// The number of statuses, and parts around them, that had an unknown form.
    pub skipped: usize,
    /// There are more than [`MOST_MESSAGES`]; the rest was not read.
    pub is_too_large: bool,
}

/// The most messages of a callback. Meta puts at most 1,000 into one.
pub const MOST_MESSAGES: usize = 10_000;

/// The body is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the callback's body is no JSON")]
pub struct NotJson;

/// Parses a callback's body. Fields of other kinds are ignored. A status of unknown form is skipped, so that it does not
/// delay the rest of the callback. A message of unknown form is kept as it is.
pub fn parse(body: &[u8], now: Millis) -> Result<Callback, NotJson> {
    let body: &RawValue = serde_json::from_slice(body).map_err(|_| NotJson)?;
    let mut callback = Callback::default();
    let Some(envelope) = read::<Envelope<'_>>(body) else {
        callback.skipped += 1;
        return Ok(callback);
    };
    each(envelope.entry, &mut callback, |entry: Entry<'_>, callback| {
        each(entry.changes, callback, |change: Change<'_>, callback| change.read(now, callback));
        true
    });
    Ok(callback)
}

#[derive(serde::Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    entry: Later<'a>,
}

#[derive(serde::Deserialize)]
struct Entry<'a> {
    #[serde(borrow, default)]
    changes: Later<'a>,
}

#[derive(serde::Deserialize)]
struct Change<'a> {
    #[serde(borrow, default)]
    value: Later<'a>,
}

#[derive(serde::Deserialize)]
struct GivenStatus<'a> {
    id: String,
    status: Stage,
    #[serde(borrow, default)]
    timestamp: Later<'a>,
    #[serde(borrow, default)]
    recipient_id: Later<'a>,
    #[serde(borrow, default)]
    biz_opaque_callback_data: Later<'a>,
    #[serde(borrow, default)]
    pricing: Later<'a>,
    #[serde(borrow, default)]
    errors: Later<'a>,
}

#[derive(serde::Deserialize)]
struct GivenError<'a> {
    #[serde(borrow, default)]
    code: Later<'a>,
    #[serde(borrow, default)]
    error_subcode: Later<'a>,
}

impl Change<'_> {
    /// Adds the content of a change, which is about one number; false for a change of unknown form.
    fn read(self, now: Millis, callback: &mut Callback) -> bool {
        let Some(raw) = self.value else { return true };
        // A value that is no object is of another kind, and no error. An object that cannot be read may hold anything.
        let Some(value) = Object::read(raw) else { return !raw.get().starts_with('{') };
        let statuses = value.raw("statuses");
        // A change with other parts is of another kind, and no error.
        if statuses.is_none() && !incoming::is_in(&value) {
            return true;
        }
        let metadata = value.object("metadata");
        let id = metadata.as_ref().and_then(|metadata| metadata.text_if("phone_number_id", is_digits));
        let Some(phone_number_id) = id.filter(|id| id.len() <= ID_LIMIT).map(Arc::<str>::from) else { return false };
        each(statuses, callback, |given: GivenStatus<'_>, callback| {
            let Ok(remote_id) = given.id.parse() else { return false };
            callback.statuses.push(given.status(&phone_number_id, remote_id, now));
            true
        });
        let number = metadata.and_then(|metadata| metadata.text("display_phone_number"));
        let read = callback.received.iter().map(|of| of.arrivals.len()).sum();
        let mut room = MOST_MESSAGES.checked_sub(read);
        callback.received.extend(incoming::read(&value, (&phone_number_id, number.as_deref()), &mut room, now));
        callback.is_too_large |= room.is_none();
        true
    }
}

impl GivenStatus<'_> {
    fn status(self, phone_number_id: &Arc<str>, remote_id: NetworkId, now: Millis) -> Status {
        Status {
            phone_number_id: phone_number_id.clone(),
            remote_id,
            opaque: self.biz_opaque_callback_data.and_then(read::<String>).filter(|text| text.len() <= OPAQUE_LIMIT),
            stage: self.status,
            at: time(self.timestamp, now),
            recipient_id: self.recipient_id.and_then(read::<String>).filter(|text| is_account(text)),
            pricing: self.pricing.and_then(Object::read).as_ref().and_then(pricing),
            refusal: (self.status == Stage::Failed).then(|| refusal(self.errors)),
        }
    }
}

/// The most characters of the model and of the category of a price.
const PRICE_LIMIT: usize = 64;

/// A price, if it says anything that is known.
fn pricing(given: &Object<'_>) -> Option<Pricing> {
    let text = |key| given.text_if(key, |text| (1..=PRICE_LIMIT).contains(&text.len()) && text.is_ascii());
    let (model, category) = (text("pricing_model"), text("category"));
    let pricing = Pricing { billable: given.value("billable"), model, category };
    Some(pricing).filter(|pricing| *pricing != Pricing::default())
}

/// The first error is the reason.
fn refusal(errors: Later<'_>) -> Refusal {
    let mut first = None;
    // The whole list is read, although one element is enough: the body bounds it.
    each(errors, &mut Callback::default(), |error: GivenError<'_>, _| {
        first.get_or_insert(GraphError {
            code: error.code.and_then(number),
            subcode: error.error_subcode.and_then(number),
            transient: false,
        });
        true
    });
    first.unwrap_or_default().refusal(None)
}

fn time(timestamp: Later<'_>, now: Millis) -> Millis {
    // The last millisecond of the second.
    seconds(timestamp).map_or(now, |millis| millis.saturating_add(999).min(now))
}

/// Calls `accept` with each element of a list, and counts the elements that have an unknown form or are not accepted.
fn each<'a, T: Deserialize<'a>>(
    list: Later<'a>,
    callback: &mut Callback,
    mut accept: impl FnMut(T, &mut Callback) -> bool,
) {
    let Some(list) = list else { return };
    let is_list = elements(list, |element| {
        let fits = read(element).is_some_and(|element| accept(element, callback));
        callback.skipped += usize::from(!fits);
    });
    callback.skipped += usize::from(!is_list);
}
