//! `/docs` and `/openapi.json`: the API's documentation for people and for programs. All files are in the binary, so the
//! page works in a network that reaches only the server.

use std::sync::OnceLock;

use axum::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use recado_domain::hex::hex;
use sha2::{Digest, Sha256};

use super::json::JSON_TEXT;

/// The page may load its own files and call its own server. Images within the style are `data:`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file in the binary.
struct File {
    kind: &'static str,
    bytes: &'static [u8],
    gzip: bool,
    tag: OnceLock<String>,
}

impl File {
    const fn new(kind: &'static str, bytes: &'static [u8]) -> Self {
        Self { kind, bytes, gzip: false, tag: OnceLock::new() }
    }

    const fn compressed(kind: &'static str, bytes: &'static [u8]) -> Self {
        Self { kind, bytes, gzip: true, tag: OnceLock::new() }
    }

    /// Sends the file, or 304 if the caller has it already.
    fn send(&self, asked: &HeaderMap) -> Response {
        // Computed once, because anyone may request the file at any rate.
        let tag = self.tag.get_or_init(|| tag_of(self.bytes));
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        // The browser keeps the file but validates it each time, because another version of the server may answer.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        let known = asked.get_all(IF_NONE_MATCH).iter().any(|tags| {
            tags.to_str().is_ok_and(|tags| tags.split(',').any(|known| known.trim().trim_start_matches("W/") == tag))
        });
        // Quotes and hexadecimal digits always make a header value.
        headers.insert(ETAG, HeaderValue::from_str(tag).unwrap_or(HeaderValue::from_static("\"\"")));
        if known {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        if self.gzip {
            // For every caller: all browsers support gzip, and no other clients request these files.
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        (headers, self.bytes).into_response()
    }
}

fn tag_of(bytes: &[u8]) -> String {
    format!("\"{}\"", hex(&Sha256::digest(bytes)[..8]))
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

static OPENAPI: File = File::new(JSON_TEXT, include_bytes!("../../../../../openapi.json"));
static INDEX: File = File::new(HTML, include_bytes!("index.html"));
static START: File = File::new(JAVASCRIPT, include_bytes!("start.js"));
static STYLE: File = File::compressed(CSS, include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css.gz")));
static SCRIPT: File =
    File::compressed(JAVASCRIPT, include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js.gz")));

/// `GET /openapi.json`: the committed document.
pub async fn openapi(headers: HeaderMap) -> Response {
    OPENAPI.send(&headers)
}

/// `GET /docs`: the page.
pub async fn index(headers: HeaderMap) -> Response {
    INDEX.send(&headers)
}

/// `GET /docs/start.js`: the page's script.
pub async fn start(headers: HeaderMap) -> Response {
    START.send(&headers)
}

/// `GET /docs/swagger-ui.css`.
pub async fn style(headers: HeaderMap) -> Response {
    STYLE.send(&headers)
}

/// `GET /docs/swagger-ui-bundle.js`.
pub async fn script(headers: HeaderMap) -> Response {
    SCRIPT.send(&headers)
}
