//! JSON in and out: a body is read within its limits and taken apart without losing a field.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest, OptionalFromRequest, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use recado_domain::field_errors::{Field, FieldErrors, INVALID_JSON, REPEATED, UNKNOWN};
use recado_domain::text::without_mark;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::auth::Known;
use super::error::ApiError;
use crate::gateway::Gateway;
use crate::intake::Room;

/// The type of what is answered. JSON is always UTF-8, but some clients, such as PowerShell 5.1, read a text without a charset
/// as Latin-1.
pub const JSON: HeaderValue = HeaderValue::from_static(JSON_TEXT);
/// The same as text.
pub const JSON_TEXT: &str = "application/json; charset=utf-8";
/// Most bytes in a body.
pub const BODY_LIMIT: usize = 64 * 1024;
/// The time a client has to send its body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// A body that says that it is JSON, within the limits of size and time; not read yet as to what it says. Stands last
/// among a handler's arguments: who may not call must not make us read.
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

/// The same where a call may come without a body: an empty one is none, whatever the headers say of it.
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

/// Reads a body of at most so many bytes within that time. The bytes count as soon as they arrive.
pub async fn read(body: Body, limit: usize, time: Duration, room: &mut Room) -> Result<Bytes, ApiError> {
    // What announces itself as too large need not be sent.
    if body.size_hint().lower() > limit as u64 {
        return Err(ApiError::PayloadTooLarge);
    }
    // Too slow: nobody waits for an answer, or nobody should.
    tokio::time::timeout(time, collect(body, limit, room)).await.unwrap_or(Err(ApiError::TooSlow))
}

async fn collect(mut body: Body, limit: usize, room: &mut Room) -> Result<Bytes, ApiError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        // Broken off by the client.
        let Ok(data) = frame.map_err(|_| ApiError::TooSlow)?.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(ApiError::PayloadTooLarge);
        }
        // Most bodies are whole with their first frame.
        let is_whole = bytes.is_empty() && body.is_end_stream();
        let fits = if is_whole { room.grow_whole(data.len()) } else { room.grow(data.len()) };
        if !fits {
            return Err(ApiError::Unavailable);
        }
        if is_whole {
            return Ok(data);
        }
        // Copied: a frame is a part of the connection's buffer, and would keep all of it.
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.into())
}

/// Refuses what the headers do not announce as JSON in UTF-8, or announce as compressed.
fn plain_json(headers: &HeaderMap) -> Result<(), ApiError> {
    match (is_json(headers), is_compressed(headers)) {
        (false, _) => Err(ApiError::UnsupportedMediaType),
        (true, true) => Err(ApiError::UnsupportedContentEncoding),
        (true, false) => Ok(()),
    }
}

/// Whether a coding is named that changes the bytes. Some clients name the charset there.
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
        let Known { institution, .. } = *request.extensions().get().ok_or(ApiError::Unauthorized)?;
        let mut room = gateway.intake.keyed(institution);
        let bytes = read(request.into_body(), BODY_LIMIT, BODY_TIMEOUT, &mut room).await?;
        Ok(Self { bytes, _room: Some(room) })
    }

    /// Takes the body apart; only that it is a JSON object is checked here.
    pub fn object(&self) -> Result<Object<'_>, ApiError> {
        let text = std::str::from_utf8(&self.bytes).map_err(|_| ApiError::field("body", NO_UTF8))?;
        let text = without_mark(text);
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let fields = deserializer.deserialize_map(Fields);
        let fields = fields.and_then(|fields| deserializer.end().map(|()| fields));
        let fields = fields.map_err(|error| malformed(text, 0, &error))?;
        Ok(Object { text, fields })
    }
}

/// For a body in another encoding.
const NO_UTF8: &str = "O corpo deve estar em UTF-8.";

/// Says where the text is no JSON. `start` is the byte at which the reader of the error began. JSON that is no object has
/// no such place.
fn malformed(text: &str, start: usize, error: &serde_json::Error) -> ApiError {
    if error.is_data() {
        return ApiError::field("body", INVALID_JSON);
    }
    let mut lines = text[start..].split_inclusive('\n');
    let before: usize = lines.by_ref().take(error.line() - 1).map(str::len).sum();
    // The reader counts bytes; people count characters.
    let read = &text.as_bytes()[..(start + before + error.column()).min(text.len())];
    let line = read.split(|byte| *byte == b'\n').count();
    let own = read.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let column = String::from_utf8_lossy(own).chars().count();
    let place = format!("JSON invalido (linha {}, coluna {}).", line, column.max(1));
    ApiError::field("body", place)
}

/// A JSON object: every field in the order of the text, repeated ones too.
pub struct Object<'a> {
    /// The whole body.
    text: &'a str,
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::with_capacity(8);
        while let Some(Name(name)) = map.next_key()? {
            fields.push((name, map.next_value()?));
        }
        Ok(fields)
    }
}

/// A field's name, borrowed from the body unless it is written with escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Object<'a> {
    /// The one value under a name, as text; `Absent`, `WrongType` and `Repeated` are told apart.
    pub fn text(&self, name: &str) -> Result<Field<'a>, ApiError> {
        Ok(match self.raw(name) {
            Raw::Absent => Field::Absent,
            Raw::Repeated => Field::Repeated,
            Raw::Value(value) if value.get().starts_with('"') => {
                // Text that is no Unicode (half a surrogate pair) is found only here.
                let start = value.get().as_ptr().addr() - self.text.as_ptr().addr();
                let read = serde_json::from_str(value.get());
                let Name(text) = read.map_err(|error| malformed(self.text, start, &error))?;
                Field::Text(text)
            }
            Raw::Value(_) => Field::WrongType,
        })
    }

    /// The one value under a name, read as `T`; a value of another type gives the given text.
    pub fn value<T: serde::de::DeserializeOwned>(
        &self,
        name: &'static str,
        wrong_type: &'static str,
    ) -> Result<Option<T>, Cow<'static, str>> {
        match self.raw(name) {
            Raw::Absent => Ok(None),
            Raw::Repeated => Err(REPEATED.into()),
            Raw::Value(value) => serde_json::from_str(value.get()).map(Some).map_err(|_| wrong_type.into()),
        }
    }

    /// The one whole number under a name, in this range. JSON has one kind of number: 60.0 is 60.
    pub fn whole(
        &self,
        name: &'static str,
        range: RangeInclusive<u32>,
        wrong: &'static str,
    ) -> Result<Option<u32>, Cow<'static, str>> {
        let Some(given) = self.value::<f64>(name, wrong)? else { return Ok(None) };
        if given.fract() != 0.0 || !(f64::from(*range.start())..=f64::from(*range.end())).contains(&given) {
            return Err(wrong.into());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number in the range")]
        Ok(Some(given as u32))
    }

    /// The one object under a name.
    pub fn child(&self, name: &'static str) -> Result<Option<Object<'a>>, Cow<'static, str>> {
        let wrong_type = || Cow::Owned(format!("O campo {name} deve ser um objeto."));
        match self.raw(name) {
            Raw::Absent => Ok(None),
            Raw::Repeated => Err(REPEATED.into()),
            Raw::Value(value) => {
                let fields = serde_json::Deserializer::from_str(value.get()).deserialize_map(Fields);
                fields.map(|fields| Some(Object { text: self.text, fields })).map_err(|_| wrong_type())
            }
        }
    }

    /// Whether the field is given as `null`.
    pub fn is_null(&self, name: &str) -> bool {
        self.fields.iter().any(|(field, value)| field == name && value.get() == "null")
    }

    fn raw(&self, name: &str) -> Raw<'a> {
        let mut values = self.fields.iter().filter(|(field, _)| field == name).map(|(_, value)| *value);
        match (values.next(), values.next()) {
            (None, _) => Raw::Absent,
            (Some(_), Some(_)) => Raw::Repeated,
            (Some(value), None) if value.get() == "null" => Raw::Absent,
            (Some(value), None) => Raw::Value(value),
        }
    }

    /// Whether there is no field at all.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The names that are not among the known ones, in their order, each once.
    pub fn unknown(&self, known: &[&str]) -> Vec<&str> {
        let mut seen = HashSet::new();
        let strange = self.fields.iter().map(|(name, _)| &**name).filter(|name| !known.contains(name));
        strange.filter(|name| seen.insert(*name)).collect()
    }

    /// Errors that name every unknown field.
    pub fn refuse_unknown(&self, known: &[&str]) -> FieldErrors {
        let mut errors = FieldErrors::default();
        self.unknown(known).into_iter().for_each(|name| errors.push(name.to_owned(), UNKNOWN));
        errors
    }
}

enum Raw<'a> {
    Absent,
    Repeated,
    Value(&'a RawValue),
}

/// A value as a JSON answer.
pub fn answer(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => (status, [(CONTENT_TYPE, JSON)], bytes).into_response(),
        Err(error) => {
            tracing::error!(%error, "response serialization failed");
            ApiError::Internal.into_response()
        }
    }
}

/// One thing: `{"data":{…}}`.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Data<T> {
    pub data: T,
}

/// A page of things: `{"data":[…],"pagination":{…}}`.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct List<T> {
    pub data: Vec<T>,
    pub pagination: Pagination,
}

/// Where a page ends.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pagination {
    /// Most entries on a page.
    #[schemars(range(min = 1, max = 100))]
    pub limit: usize,
    /// `cursor` of the next page; `null` at the end.
    pub next_cursor: Option<String>,
}

/// A change that has nothing to show.
#[derive(Serialize, JsonSchema)]
pub struct Done {
    #[schemars(extend("const" = true))]
    pub success: bool,
    /// Portuguese, for people.
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
    fn only_plain_json_in_utf8_is_taken() {
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
    fn a_coding_that_changes_nothing_is_none() {
        let of = |value| plain_json(&headers(&[("content-type", "application/json"), ("content-encoding", value)]));
        for none in ["", "identity", "utf-8", "UTF-8", "identity, utf-8"] {
            assert_eq!(of(none), Ok(()), "{none}");
        }
        for coding in ["gzip", "br", "identity, gzip", "utf8", "chunked"] {
            assert_eq!(of(coding), Err(ApiError::UnsupportedContentEncoding), "{coding}");
        }
        assert_eq!(plain_json(&headers(&[("content-encoding", "gzip")])), Err(ApiError::UnsupportedMediaType));
    }

    fn body(text: &str) -> JsonBody {
        JsonBody { bytes: Bytes::copy_from_slice(text.as_bytes()), _room: None }
    }

    #[test]
    fn fields_are_told_apart() {
        let body = body(r#"{"a":"x","b":1,"c":null,"d":"1","d":"2","\u0065":"\u00e7","strange":{},"strange":[]}"#);
        let object = body.object().unwrap();
        assert_eq!(object.text("a").unwrap(), Field::from("x"));
        assert_eq!(object.text("b").unwrap(), Field::WrongType);
        assert_eq!(object.text("c").unwrap(), Field::Absent);
        assert_eq!(object.text("d").unwrap(), Field::Repeated);
        assert_eq!(object.text("e").unwrap(), Field::from("ç"));
        assert_eq!(object.text("f").unwrap(), Field::Absent);
        assert_eq!(object.unknown(&["a", "b", "c", "d", "e"]), ["strange"]);
    }

    #[test]
    fn what_is_no_json_object_is_refused() {
        let told = |bytes: &[u8]| {
            let body = JsonBody { bytes: Bytes::copy_from_slice(bytes), _room: None };
            let read = body.object().and_then(|object| object.text("a").map(drop));
            let Err(ApiError::Validation(errors)) = read else { panic!("{read:?}") };
            errors.as_slice()[0].message.to_string()
        };
        for (bad, place) in [
            ("", "linha 1, coluna 1"),
            ("{", "linha 1, coluna 1"),
            ("{\"a\":1,}", "linha 1, coluna 8"),
            ("{\"a\":1} x", "linha 1, coluna 9"),
            ("{'a':1}", "linha 1, coluna 2"),
            ("{\n \"ação\": \"x\",\n \"b\": tru}\n", "linha 3, coluna 10"),
            ("{\"ação\":x}", "linha 1, coluna 9"),
            ("{\"b\":\"çç\",\n\"a\":\"ç\\ud800\"}", "linha 2, coluna 13"),
            ("\u{feff}{\"a\":1,}", "linha 1, coluna 8"),
        ] {
            assert_eq!(told(bad.as_bytes()), format!("JSON invalido ({place})."), "{bad}");
        }
        for other in ["[]", "\"x\"", "null", "1"] {
            assert_eq!(told(other.as_bytes()), INVALID_JSON, "{other}");
        }
        for bytes in [&b"{\"a\":\"\xff\"}"[..], b"\xff\xfe{\0"] {
            assert_eq!(told(bytes), "O corpo deve estar em UTF-8.");
        }
        assert!(body("\u{feff}{\"a\":\"x\"}").object().is_ok(), "a mark in front is passed over");
    }

    /// Passed over without recursion: depth is no way to exhaust the stack.
    #[test]
    fn depth_is_just_a_wrong_type() {
        let deep = body(&format!("{{\"a\":{}1{}}}", "[".repeat(30_000), "]".repeat(30_000)));
        assert_eq!(deep.object().unwrap().text("a").unwrap(), Field::WrongType);
    }
}
