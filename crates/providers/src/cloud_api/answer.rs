//! The answers of Graph. Their texts are not read, because they may contain people's numbers.

use axum::http::StatusCode;
use recado_domain::channel::types::cloud_api::NumberInfo;
use recado_domain::ids::{NetworkId, is_account};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::cloud_api::errors::GraphError;

/// An answer to a call.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer<T> {
    Good(T),
    /// An error object: Graph did not do what was requested.
    Refused(GraphError),
    /// A proxy's page, a success without its content, or anything else: the outcome is unknown.
    Unreadable,
}

/// An accepted message.
#[derive(Debug, PartialEq, Eq)]
pub struct Sent {
    /// The recipient's account, which may differ from the number it was sent to (Brazil's ninth digit).
    pub account: Option<String>,
    /// Graph's id of the message, `wamid.…`.
    pub remote_id: NetworkId,
}

/// A phone number at Meta.
#[derive(Debug, PartialEq, Eq)]
pub struct Number {
    pub id: String,
    pub info: NumberInfo,
}

/// Where the bytes of a file are.
#[derive(Debug, PartialEq, Eq)]
pub struct File {
    /// Valid for five minutes.
    pub url: String,
    /// In hexadecimal digits or in Base64.
    pub sha256: Option<String>,
}

/// The longest text of Graph that is kept.
const TEXT_LIMIT: usize = 255;

#[derive(Deserialize)]
struct Refusal {
    error: GivenError,
}

#[derive(Deserialize)]
struct GivenError {
    code: i64,
    #[serde(default)]
    error_subcode: Option<i64>,
    #[serde(default)]
    is_transient: Option<bool>,
}

#[derive(Deserialize)]
struct GivenSent {
    #[serde(default)]
    contacts: Vec<GivenContact>,
    messages: Vec<GivenMessage>,
}

#[derive(Deserialize)]
struct GivenContact {
    #[serde(default)]
    wa_id: Option<String>,
}

#[derive(Deserialize)]
struct GivenMessage {
    id: String,
}

#[derive(Deserialize)]
struct GivenSuccess {
    success: bool,
}

#[derive(Deserialize)]
struct GivenNumber {
    id: String,
    #[serde(default)]
    display_phone_number: Option<String>,
    #[serde(default)]
    verified_name: Option<String>,
}

#[derive(Deserialize)]
struct GivenFile {
    url: String,
    #[serde(default)]
    sha256: Option<String>,
}

/// The answer of `GET /{media}`.
pub fn file(status: StatusCode, body: &[u8]) -> Answer<File> {
    read(status, body, |given: GivenFile| Some(File { url: given.url, sha256: given.sha256 }))
}

/// The answer of `POST /{number}/messages`.
pub fn sent(status: StatusCode, body: &[u8]) -> Answer<Sent> {
    read(status, body, |given: GivenSent| {
        let remote_id = given.messages.first()?.id.parse().ok()?;
        let account = given.contacts.into_iter().next().and_then(|contact| contact.wa_id);
        Some(Sent { account: account.filter(|text| is_account(text)), remote_id })
    })
}

/// The answer of a call that returns nothing.
pub fn done(status: StatusCode, body: &[u8]) -> Answer<()> {
    read(status, body, |given: GivenSuccess| given.success.then_some(()))
}

/// The answer of `GET /{number}`.
pub fn number(status: StatusCode, body: &[u8]) -> Answer<Number> {
    read(status, body, |given: GivenNumber| {
        let kept = |text: Option<String>| text.filter(|text| (1..=TEXT_LIMIT).contains(&text.len()));
        let info = NumberInfo { phone: kept(given.display_phone_number), name: kept(given.verified_name) };
        Some(Number { id: given.id, info })
    })
}

fn read<G: DeserializeOwned, T>(status: StatusCode, body: &[u8], good: impl FnOnce(G) -> Option<T>) -> Answer<T> {
    if let Ok(Refusal { error }) = serde_json::from_slice(body) {
        let (subcode, transient) = (error.error_subcode, error.is_transient.unwrap_or_default());
        return Answer::Refused(GraphError { code: Some(error.code), subcode, transient });
    }
    let given = serde_json::from_slice(body).ok().filter(|_| status.is_success());
    given.and_then(good).map_or(Answer::Unreadable, Answer::Good)
}
