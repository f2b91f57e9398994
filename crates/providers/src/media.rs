//! The bytes of received files, as a driver gets them from its network.

use std::pin::Pin;

use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use futures_util::stream::{self, Stream, StreamExt};
use hyper::body::Bytes;
use recado_domain::ids::InstitutionId;

use crate::outbound::client::{Client, Failure, Got};
use crate::outbound::url::TargetUrl;

/// Most bytes of a file.
pub const SIZE_LIMIT: u64 = 100 << 20;

/// A download that has begun.
pub struct Download {
    /// How many bytes come, if the network promises that.
    pub size: Option<u64>,
    /// SHA-256 that the bytes must have, in lower-case hexadecimal digits, if the network says it with the message or now.
    pub sha256: Option<String>,
    pub bytes: Chunks,
}

/// The bytes of a file in their order. An error ends them.
pub type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, MediaError>> + Send>>;

/// Why the bytes of a file do not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    /// The network has no copy any more.
    #[error("the network has no copy")]
    Gone,
    /// The file has more than [`SIZE_LIMIT`].
    #[error("the file is too large")]
    TooLarge,
    /// The address of the file is one that this server does not call.
    #[error("the address is not allowed")]
    Refused,
    /// The channel is not connected, so its network cannot be asked.
    #[error("the channel is not connected")]
    NotConnected,
    /// The network does not deliver the file now. The reason is for the log, and contains nothing of a person.
    #[error("the network does not deliver the file: {0}")]
    Unavailable(&'static str),
}

impl From<Failure> for MediaError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Timeout => Self::Unavailable("timeout"),
            Failure::ConnectFailed => Self::Unavailable("connection failed"),
            Failure::TlsFailed => Self::Unavailable("TLS failed"),
            Failure::AddressRefused => Self::Refused,
            Failure::TooLarge => Self::Unavailable("answer too large"),
            Failure::Busy => Self::Unavailable("too many lookups"),
        }
    }
}

/// Begins the download of a URL for an institution. Redirects are not followed, so the headers reach no other host.
pub async fn open(
    client: &Client,
    url: &TargetUrl,
    of: InstitutionId,
    mut headers: HeaderMap,
) -> Result<Download, MediaError> {
    headers.insert(USER_AGENT, HeaderValue::from_static("Recado-Fetch/1"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let got = client.get(url, Some(of), headers).await?;
    match got.status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND | StatusCode::GONE => return Err(MediaError::Gone),
        status if status.is_redirection() => return Err(MediaError::Unavailable("redirect")),
        _ => return Err(MediaError::Unavailable("status")),
    }
    if got.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(MediaError::Unavailable("encoded"));
    }
    let size = got.headers.get(CONTENT_LENGTH).and_then(|size| size.to_str().ok()?.parse().ok());
    if size.is_some_and(|size| size > SIZE_LIMIT) {
        return Err(MediaError::TooLarge);
    }
    Ok(Download { size, sha256: None, bytes: chunks(got) })
}

fn chunks(got: Got) -> Chunks {
    let next = |mut got: Got| async move {
        let next = got.next().await?;
        Some((next.map_err(MediaError::from), got))
    };
    stream::unfold(got, next).boxed()
}
