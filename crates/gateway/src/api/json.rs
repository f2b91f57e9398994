//! JSON requests and answers. A body is read within its limits, and parsed without losing a field.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest, OptionalFromRequest, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
pub use recado_domain::json::Object;
use schemars::JsonSchema;
use serde::Serialize;

use super::auth::AuthContext;
use super::error::ApiError;
use super::held::Whole;
use crate::gateway::Gateway;
use crate::intake::Room;

/// The content type of answers. JSON is always UTF-8, but some clients, such as PowerShell 5.1, read a text without a
/// charset as Latin-1.
pub const JSON: HeaderValue = HeaderValue::from_static(JSON_TEXT);
/// [`JSON`] as a `&str`.
pub const JSON_TEXT: &str = "application/json; charset=utf-8";
/// The most bytes of a body.
pub const BODY_LIMIT: usize = 64 * 1024;
/// The time that a client has to send its body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// A body that its headers declare as JSON, within the limits of size and time, and not parsed yet. It must be the last
/// argument of a handler: an unauthorised caller must not make the server read it.
pub struct JsonBody {
    bytes: Bytes,
    /// Held until the call is answered.
    _room: Option<Room>,
}

impl FromRequest<Arc<Gateway>> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, gateway: &Arc<Gateway>) -> Result<Self, ApiError> {
        plain_json(request.headers())?;
        Self::read(request, gateway).await
    }
}

/// The body of a call that may have none. An empty body counts as none, whatever its headers say.
impl OptionalFromRequest<Arc<Gateway>> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, gateway: &Arc<Gateway>) -> Result<Option<Self>, ApiError> {
        let plain = plain_json(request.headers());
        let body = Self::read(request, gateway).await?;
        if body.bytes.is_empty() {
            return Ok(None);
        }
        plain.map(|()| Some(body))
    }
}

/// The body of a call that has none: nothing, or an object without fields. A field is refused, because the caller would
/// believe that it was obeyed. It must be the last argument of a handler.
pub struct NoBody;

impl FromRequest<Arc<Gateway>> for NoBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, gateway: &Arc<Gateway>) -> Result<Self, ApiError> {
        let body = <JsonBody as OptionalFromRequest<_>>::from_request(request, gateway).await?;
        let Some(body) = body else { return Ok(Self) };
        let unknown = body.object()?.refuse_unknown(&[]);
        if unknown.is_empty() { Ok(Self) } else { Err(unknown.into()) }
    }
}

/// Reads a body of at most this many bytes within this time. The bytes count as soon as they arrive.
pub async fn read(body: Body, limit: usize, time: Duration, room: &mut Room) -> Result<Bytes, ApiError> {
    // A body that declares too large a size is refused before it is sent.
    if body.size_hint().lower() > limit as u64 {
        return Err(ApiError::PayloadTooLarge);
    }
    // The client is too slow to wait for an answer.
    tokio::time::timeout(time, collect(body, limit, room)).await.unwrap_or(Err(ApiError::TooSlow))
}

async fn collect(mut body: Body, limit: usize, room: &mut Room) -> Result<Bytes, ApiError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        // The client aborted the request.
        let Ok(data) = frame.map_err(|_| ApiError::TooSlow)?.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(ApiError::PayloadTooLarge);
        }
        // Most bodies are complete with their first frame.
        let is_whole = bytes.is_empty() && body.is_end_stream();
        let fits = if is_whole { room.grow_whole(data.len()) } else { room.grow(data.len()) };
        if !fits {
            return Err(ApiError::Unavailable);
        }
        if is_whole {
            return Ok(data);
        }
        // Copied, because a frame is a part of the connection's buffer and would keep all of it.
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.into())
}

/// Refuses a body that its headers do not declare as JSON in UTF-8, or declare as compressed.
fn plain_json(headers: &HeaderMap) -> Result<(), ApiError> {
    match (is_json(headers), is_compressed(headers)) {
        (false, _) => Err(ApiError::UnsupportedMediaType),
        (true, true) => Err(ApiError::UnsupportedContentEncoding),
        (true, false) => Ok(()),
    }
}

/// Whether `Content-Encoding` names a coding that changes the bytes. Some clients write the charset into this header.
fn is_compressed(headers: &HeaderMap) -> bool {
    let plain = |coding: &str| ["", "identity", "utf-8"].iter().any(|name| coding.trim().eq_ignore_ascii_case(name));
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    values.any(|value| value.to_str().map_or(true, |codings| !codings.split(',').all(plain)))
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(Ok(one)), None) = (types.next().map(HeaderValue::to_str), types.next()) else { return false };
    let mut parts = one.split(';').map(str::trim);
    let json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    let utf8 = parts.filter_map(|part| part.split_once('=')).all(|(name, value)| {
        !name.trim().eq_ignore_ascii_case("charset") || value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
    });
    json && utf8
}

impl JsonBody {
    async fn read(request: Request, gateway: &Gateway) -> Result<Self, ApiError> {
        let AuthContext { institution, .. } = *request.extensions().get().ok_or(ApiError::Unauthorized)?;
        let mut room = gateway.intake.keyed(institution);
        let bytes = read(request.into_body(), BODY_LIMIT, BODY_TIMEOUT, &mut room).await?;
        Ok(Self { bytes, _room: Some(room) })
    }

    /// Parses the body as a JSON object. Its fields are not checked here.
    pub fn object(&self) -> Result<Object<'_>, ApiError> {
        let text = std::str::from_utf8(&self.bytes).map_err(|_| ApiError::field("body", NO_UTF8))?;
        Ok(Object::parse(text)?)
    }
}

/// The error of a body in another encoding.
const NO_UTF8: &str = "O corpo deve estar em UTF-8.";

/// A value as a JSON answer.
pub fn answer(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let bytes = Bytes::from(bytes);
            (status, [(CONTENT_TYPE, JSON)], Extension(Whole(bytes.clone())), bytes).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "response serialization failed");
            ApiError::Internal.into_response()
        }
    }
}

/// One item: `{"data":{…}}`.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Data<T> {
    pub data: T,
}

/// A page of items: `{"data":[…],"pagination":{…}}`.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct List<T> {
    pub data: Vec<T>,
    pub pagination: Pagination,
}

/// The end of a page.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pagination {
    /// The most entries of a page.
    #[schemars(range(min = 1, max = 100))]
    pub limit: usize,
    /// `cursor` of the next page; `null` at the end.
    pub next_cursor: Option<String>,
}

/// A page of a list that has numbered pages too.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct CountedList<T> {
    pub data: Vec<T>,
    pub pagination: CountedPagination,
}

/// The end of a page of a list that has numbered pages too.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CountedPagination {
    /// How many items the list has; counted only if `page` was given.
    pub total: Option<u64>,
    /// Present if there are more items than `total`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("const" = true))]
    pub total_is_minimum: Option<bool>,
    /// The most entries of a page.
    #[schemars(range(min = 1, max = 100))]
    pub limit: usize,
    /// How many items are before this page; `null` behind a cursor.
    pub offset: Option<usize>,
    /// `cursor` of the next page; `null` at the end.
    pub next_cursor: Option<String>,
}

/// The answer to a change without data.
#[derive(Serialize, JsonSchema)]
pub struct Done {
    #[schemars(extend("const" = true))]
    pub success: bool,
    /// A text for people, in Portuguese.
    pub message: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| (name.parse().unwrap(), value.parse().unwrap());
        let pairs: Vec<(axum::http::HeaderName, HeaderValue)> = pairs.iter().map(pair).collect();
        pairs.into_iter().fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(name, value);
            headers
        })
    }

    #[test]
    fn only_uncompressed_json_in_utf8_is_accepted() {
        let of = |value| is_json(&headers(&[("content-type", value)]));
        for good in ["application/json", "Application/JSON; charset=UTF-8", "application/json;charset=\"utf-8\"; x=y"] {
            assert!(of(good), "{good}");
        }
        for bad in
            ["text/json", "application/json; charset=latin1", "application/jsonp", "", "application/vnd.api+json"]
        {
            assert!(!of(bad), "{bad}");
        }
        assert!(!is_json(&headers(&[])));
        assert!(!is_json(&headers(&[("content-type", "application/json"), ("content-type", "text/plain")])));
    }

    #[test]
    fn the_identity_coding_is_accepted() {
        let of = |value| plain_json(&headers(&[("content-type", "application/json"), ("content-encoding", value)]));
        for none in ["", "identity", "utf-8", "UTF-8", "identity, utf-8"] {
            assert_eq!(of(none), Ok(()), "{none}");
        }
        for coding in ["gzip", "br", "identity, gzip", "utf8", "chunked"] {
            assert_eq!(of(coding), Err(ApiError::UnsupportedContentEncoding), "{coding}");
        }
        assert_eq!(plain_json(&headers(&[("content-encoding", "gzip")])), Err(ApiError::UnsupportedMediaType));
    }

    #[test]
    fn a_body_is_utf8() {
        for bytes in [&b"{\"a\":\"\xff\"}"[..], b"\xff\xfe{\0"] {
            let body = JsonBody { bytes: Bytes::copy_from_slice(bytes), _room: None };
            let Err(ApiError::Validation(errors)) = body.object().map(drop) else { panic!("{bytes:?}") };
            assert_eq!(errors.as_slice()[0].message, "O corpo deve estar em UTF-8.");
        }
    }
}
