//! `/docs` and `/openapi.json`: the API shown to people and to programs. Everything comes from the binary, so that the
//! page works where nothing but the server can be reached.

use std::fmt::Write;

use axum::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

/// Whether the server shows its documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Docs {
    /// To everybody.
    #[default]
    On,
    /// Not at all: the paths are unknown ones.
    Off,
}

/// What the page may do: load its own files and call its own server. Images within the style are `data:`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of the binary.
struct File {
    kind: &'static str,
    bytes: &'static [u8],
    gzip: bool,
}

impl File {
    /// Sends the file, or says that the caller has it already.
    fn send(&self, asked: &HeaderMap) -> Response {
        let tag = self.tag();
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        // Kept, but asked for each time: another version of the server may answer.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        let known = asked.get_all(IF_NONE_MATCH).iter().any(|tags| {
            tags.to_str().is_ok_and(|tags| tags.split(',').any(|known| known.trim().trim_start_matches("W/") == tag))
        });
        // Quotes and hexadecimal digits always make a header value.
        headers.insert(ETAG, HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\"")));
        if known {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        if self.gzip {
            // To everybody: every browser reads it, and nobody else asks for these files.
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        (headers, self.bytes).into_response()
    }

    fn tag(&self) -> String {
        let mut tag = String::from("\"");
        for byte in &Sha256::digest(self.bytes)[..8] {
            // Writing to a string does not fail.
            let _ = write!(tag, "{byte:02x}");
        }
        tag + "\""
    }
}

/// `GET /openapi.json`: the committed document.
pub async fn openapi(headers: HeaderMap) -> Response {
    let bytes = include_bytes!("../../../../../openapi.json");
    File { kind: "application/json", bytes, gzip: false }.send(&headers)
}

/// `GET /docs`: the page.
pub async fn index(headers: HeaderMap) -> Response {
    File { kind: "text/html; charset=utf-8", bytes: include_bytes!("index.html"), gzip: false }.send(&headers)
}

/// `GET /docs/start.js`: what the page does first.
pub async fn start(headers: HeaderMap) -> Response {
    File { kind: "text/javascript; charset=utf-8", bytes: include_bytes!("start.js"), gzip: false }.send(&headers)
}

/// `GET /docs/swagger-ui.css`.
pub async fn style(headers: HeaderMap) -> Response {
    let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css.gz"));
    File { kind: "text/css; charset=utf-8", bytes, gzip: true }.send(&headers)
}

/// `GET /docs/swagger-ui-bundle.js`.
pub async fn script(headers: HeaderMap) -> Response {
    let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js.gz"));
    File { kind: "text/javascript; charset=utf-8", bytes, gzip: true }.send(&headers)
}
