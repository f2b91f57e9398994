//! Files that people sent: Graph names their URL, and serves their bytes to the right token.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, LOCATION};
use hyper::{Request, Response};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use crate::GraphError;
use crate::network::{Network, lock};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Bytes of one piece of a body.
const PIECE: usize = 64 << 10;

/// A file that a person sent.
#[derive(Debug, Clone)]
pub struct File {
    bytes: Bytes,
    mime_type: String,
    url: Option<String>,
    serving: VecDeque<Serving>,
    asked: usize,
    downloaded: usize,
}

/// How the network serves the bytes of a file once.
#[derive(Debug, Clone)]
pub enum Serving {
    /// All of them.
    Whole,
    /// Other bytes of the same length.
    Wrong,
    /// A status without bytes: 404 after five minutes.
    Status(u16),
    /// To another URL.
    Redirect(String),
    /// A pause before each piece of 64 KiB.
    Slow(Duration),
    /// The first half, and then nothing.
    Stalled,
    /// The first half, and then the end of the connection.
    Cut,
    /// All of them, with this `Content-Encoding`.
    Encoded(&'static str),
    /// More and more, without an announced length.
    Endless,
    /// All of them, with this announced length.
    Announced(u64),
}

/// How often a file was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileCalls {
    /// Calls for its URL.
    pub asked: usize,
    /// Calls for its bytes with the right token.
    pub downloaded: usize,
}

impl File {
    /// A file with these bytes, which is always served whole.
    pub fn new(mime_type: &str, bytes: impl Into<Bytes>) -> Self {
        let (bytes, mime_type) = (bytes.into(), mime_type.to_owned());
        Self { bytes, mime_type, url: None, serving: VecDeque::new(), asked: 0, downloaded: 0 }
    }

    /// Serves the bytes in these ways, one after another; the last one again and again.
    #[must_use]
    pub fn serving(mut self, ways: impl IntoIterator<Item = Serving>) -> Self {
        self.serving = ways.into_iter().collect();
        self
    }

    /// Names this URL in place of its own.
    #[must_use]
    pub fn at(mut self, url: &str) -> Self {
        self.url = Some(url.to_owned());
        self
    }

    /// The hash of the bytes in hexadecimal digits.
    pub fn sha256(&self) -> String {
        Sha256::digest(&self.bytes).iter().fold(String::new(), |mut digits, byte| {
            write!(digits, "{byte:02x}").expect("a String accepts any text");
            digits
        })
    }

    pub(crate) fn calls(&self) -> FileCalls {
        FileCalls { asked: self.asked, downloaded: self.downloaded }
    }
}

/// The answer of `GET /{media}`; `None` if there is no such file.
pub fn show(
    network: &Network,
    id: &str,
    token: Option<&str>,
    request: &Request<Incoming>,
) -> Option<Result<Value, GraphError>> {
    let mut files = lock(&network.files);
    let file = files.get_mut(id)?;
    let query = request.uri().query().unwrap_or_default();
    let number = query.split('&').find_map(|pair| pair.strip_prefix("phone_number_id="));
    if let Err(error) = network.authorised("GET", number.unwrap_or_default(), token) {
        return Some(Err(error));
    }
    file.asked += 1;
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let own = format!("http://{host}/files/{id}/{}", file.asked);
    Some(Ok(json!({
        "messaging_product": "whatsapp",
        "url": file.url.as_ref().unwrap_or(&own),
        "mime_type": file.mime_type,
        "sha256": file.sha256(),
        "file_size": file.bytes.len(),
        "id": id,
    })))
}

/// Serves the bytes of a file.
pub fn serve(network: &Arc<Network>, path: &str, request: &Request<Incoming>) -> Response<Body> {
    let token = request.headers().get(AUTHORIZATION).and_then(|token| token.to_str().ok()?.strip_prefix("Bearer "));
    if !lock(&network.numbers).values().any(|number| Some(&*number.access_token) == token) {
        return empty(401);
    }
    let mut files = lock(&network.files);
    let Some(file) = path.split('/').nth(2).and_then(|id| files.get_mut(id)) else { return empty(404) };
    file.downloaded += 1;
    let way = if file.serving.len() > 1 { file.serving.pop_front() } else { file.serving.front().cloned() };
    let bytes = file.bytes.clone();
    let half = bytes.slice(..bytes.len() / 2);
    let whole = Full::from(bytes.clone()).boxed_unsync();
    let length = bytes.len() as u64;
    match way.unwrap_or(Serving::Whole) {
        Serving::Whole => answer(&file.mime_type, whole),
        Serving::Wrong => {
            let other: Vec<_> = bytes.iter().map(|byte| byte ^ 1).collect();
            answer(&file.mime_type, Full::from(other).boxed_unsync())
        }
        Serving::Status(status) => empty(status),
        Serving::Redirect(to) => {
            let mut redirect = empty(302);
            redirect.headers_mut().insert(LOCATION, to.parse().expect("a URL"));
            redirect
        }
        Serving::Slow(pause) => announced(answer(&file.mime_type, pieces(bytes, pause)), length),
        Serving::Stalled => {
            let never = stream::pending::<Result<Frame<Bytes>, Infallible>>();
            let stalled = stream::iter([Ok(Frame::data(half))]).chain(never);
            announced(answer(&file.mime_type, StreamBody::new(stalled).boxed_unsync()), length)
        }
        Serving::Cut => announced(answer(&file.mime_type, pieces(half, Duration::from_millis(50))), length),
        Serving::Encoded(encoding) => {
            let mut encoded = answer(&file.mime_type, whole);
            encoded.headers_mut().insert(CONTENT_ENCODING, encoding.parse().expect("a value"));
            encoded
        }
        Serving::Endless => {
            let piece = Bytes::from(vec![b'x'; PIECE]);
            let more = stream::repeat_with(move || Ok(Frame::data(piece.clone())));
            answer(&file.mime_type, StreamBody::new(more).boxed_unsync())
        }
        Serving::Announced(length) => announced(answer(&file.mime_type, pieces(bytes, Duration::ZERO)), length),
    }
}

/// The bytes in pieces, with a pause before each.
fn pieces(bytes: Bytes, pause: Duration) -> Body {
    let pieces = stream::unfold(bytes, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        sleep(pause).await;
        let piece = rest.split_to(rest.len().min(PIECE));
        Some((Ok(Frame::data(piece)), rest))
    });
    StreamBody::new(pieces).boxed_unsync()
}

fn empty(status: u16) -> Response<Body> {
    let answer = Response::builder().status(status).body(Full::default().boxed_unsync());
    answer.expect("a status of three digits")
}

fn answer(mime_type: &str, body: Body) -> Response<Body> {
    Response::builder().header(CONTENT_TYPE, mime_type).body(body).expect("a MIME type")
}

fn announced(mut answer: Response<Body>, length: u64) -> Response<Body> {
    answer.headers_mut().insert(CONTENT_LENGTH, length.into());
    answer
}
