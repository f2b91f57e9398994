//! Calls of Meta's Graph API, and what their answers mean.
//!
//! A message counts as sent when Graph named it, as refused when Graph answered with an error object, and as not sent
//! when hyper says that nothing left. Of everything else nobody knows (ADR 3): the API takes no id of ours, so another
//! try might double the card.

#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper_rustls::{HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use recado_domain::error_chain::{causes, chain};
use recado_domain::field_errors::FieldErrors;
use recado_domain::ids::MessageId;
use secrecy::ExposeSecret;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, service_fn};

use crate::SendOutcome;
use crate::cloud_api::answer::{self, Answer};
use crate::cloud_api::errors::{Class, Fault};
use crate::cloud_api::link::{FIELDS, Link};
use crate::cloud_api::slots::{Slot, Slots};
use crate::outbound::BaseUrl;
use recado_domain::channel::types::cloud_api::NumberInfo;

/// The time that a call may take as a whole; below the dispatcher's own limit of 45 s.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The time that name, connection and TLS may take. What ends here has certainly sent nothing.
const CONNECT: Duration = Duration::from_secs(10);
/// Most bytes of an answer; real ones have some hundred.
const ANSWER_LIMIT: usize = 64 << 10;
/// An idle connection is given up before servers and middleboxes do: a request into one that is just being closed is one
/// of which nobody knows.
const IDLE: Duration = Duration::from_secs(30);
/// A connection that stopped answering would swallow one message after another: HTTP/2 asks it.
const PING: Duration = Duration::from_secs(15);
const PONG: Duration = Duration::from_secs(5);

type Connector = BoxCloneSyncService<Uri, MaybeHttpsStream<TokioIo<TcpStream>>, BoxError>;

/// The Graph API. Connections are kept and shared, by HTTP/2 where the server has it. Redirects and proxies are not
/// followed: the token goes to the host that was named, and to no other.
pub struct Graph {
    /// Address and version, to which a path is added.
    base: String,
    url: BaseUrl,
    /// Made at the first call: they read the system's certificates, which a server without such channels need not have.
    lanes: OnceLock<Vec<Lane>>,
    slots: Arc<Slots>,
    /// Checks of numbers at a time.
    checks: Semaphore,
    timeout: Duration,
}

/// A connection of HTTP/2, or the connections of HTTP/1.1, with the calls that it takes at a time.
struct Lane {
    client: Client<Connector, Outgoing>,
    /// More than the server's limit of streams would wait inside the client, behind those of other numbers.
    calls: AtomicUsize,
}

/// Connections by HTTP/2 for messages; each is made when its first number needs it.
const LANES: usize = 32;
/// Calls on one at a time. RFC 9113 (6.5.2) advises servers to take no fewer than 100.
const CALLS: usize = 100;
/// Calls for one number at a time.
const CALLS_OF_ONE: usize = 100;
/// Checks of numbers at a time, on a connection of their own.
const CHECKS: usize = 8;
/// How long a check waits for its turn.
const TURN: Duration = Duration::from_secs(10);

/// Why a number could not be taken into use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    #[error("Graph refused the access token")]
    Token,
    #[error("Graph does not know the number, or not for this token")]
    Number,
    #[error("Graph cannot say now")]
    Later,
}

impl CheckError {
    /// The field that is at fault; none where Graph could not say.
    pub fn faulty_field(self) -> Option<FieldErrors> {
        match self {
            Self::Token => Some(FieldErrors::one(FIELDS[2], "A Meta recusou o accessToken.")),
            Self::Number => {
                Some(FieldErrors::one(FIELDS[0], "A Meta nao conhece o phoneNumberId, ou o accessToken nao o alcanca."))
            }
            Self::Later => None,
        }
    }
}

/// A call without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// Nothing left this machine, or nothing of it was looked at.
    NotSent,
    /// Nobody knows.
    Unknown,
}

impl Graph {
    /// The Graph API at that address: `https://graph.facebook.com`, or by http on this machine alone. The version is
    /// `v23.0` or the like.
    pub fn new(base_url: &str, version: &str) -> Result<Self> {
        let base = BaseUrl::parse("--graph-url (RECADO_GRAPH_URL)", base_url)?;
        if !base.secure && !base.loopback {
            bail!(
                "--graph-url (RECADO_GRAPH_URL) must begin with https://: tokens do not go to {} in clear",
                base.host
            );
        }
        if !is_version(version) {
            bail!("--graph-version (RECADO_GRAPH_VERSION) looks like v23.0, not like {version:?}");
        }
        let text = format!("{}/{version}", base.text);
        Ok(Self::of(text, base, OnceLock::new()))
    }

    fn of(base: String, url: BaseUrl, lanes: OnceLock<Vec<Lane>>) -> Self {
        let (slots, checks) = (Slots::new(LANES * CALLS, CALLS_OF_ONE), Semaphore::new(CHECKS));
        Self { base, url, lanes, slots, checks, timeout: TIMEOUT }
    }

    /// Rights to calls for the link's number, up to that many, as soon as there is one.
    pub async fn slots(&self, link: &Link, most: usize) -> Vec<Slot> {
        let number = link.phone_number_id();
        let first = self.slots.take(number).await;
        first.into_iter().chain(std::iter::from_fn(|| self.slots.try_take(number))).take(most).collect()
    }

    /// Room on a connection: that of checks, or the number's own, or the next that has some. The slots see to it that
    /// there is one.
    fn lane(&self, link: &Link, method: &Method) -> Result<OnLane<'_>> {
        if self.lanes.get().is_none() {
            let connector = connector(&self.url, CONNECT)?;
            let lanes = (0..=LANES).map(|_| Lane::new(connector.clone())).collect();
            // Somebody else's are as good.
            let _ = self.lanes.set(lanes);
        }
        let (of_checks, lanes) =
            self.lanes.get().and_then(|lanes| lanes.split_last()).context("they were just made")?;
        if method == Method::GET || lanes.is_empty() {
            return Ok(of_checks.enter());
        }
        let place = link.phone_number_id().bytes().fold(0_usize, |place, digit| place * 31 % 997 + usize::from(digit));
        let from_own = (0..lanes.len()).map(|next| &lanes[(place + next) % lanes.len()]);
        let has_room = from_own.clone().find(|lane| lane.calls.load(Ordering::Relaxed) < CALLS);
        Ok(has_room.unwrap_or(&lanes[place % lanes.len()]).enter())
    }

    /// Asks for the link's number: whether it is there, and whether the token may speak for it. One call, which changes
    /// nothing.
    pub async fn check(&self, link: &Link) -> Result<NumberInfo, CheckError> {
        let id = link.phone_number_id();
        let path = format!("/{id}?fields=id,display_phone_number,verified_name");
        let turn = tokio::time::timeout(TURN, self.checks.acquire()).await;
        let _turn = turn.map_err(|_| CheckError::Later)?;
        let (status, body) = self.call(link, Method::GET, &path, Vec::new()).await.map_err(|_| CheckError::Later)?;
        match answer::number(status, &body) {
            Answer::Good(number) if number.id == id => Ok(number.info),
            Answer::Good(_) => Err(CheckError::Number),
            Answer::Refused(error) => Err(refusal(error.code, &error.fault(Some(status.as_u16())))),
            Answer::Unreadable => Err(CheckError::Later),
        }
    }

    /// Hands a message over, whose body is this.
    pub async fn send(&self, link: &Link, id: MessageId, body: Vec<u8>) -> SendOutcome {
        let path = format!("/{}/messages", link.phone_number_id());
        let (status, body) = match self.call(link, Method::POST, &path, body).await {
            Ok(answer) => answer,
            Err(Failure::NotSent) => return SendOutcome::ChannelThrottled,
            Err(Failure::Unknown) => return SendOutcome::UnknownOutcome,
        };
        match answer::sent(status, &body) {
            Answer::Good(sent) => {
                SendOutcome::Accepted { account: sent.account, remote_id: Some(sent.remote_id), rendition: None }
            }
            Answer::Refused(error) => error.fault(Some(status.as_u16())).outcome(),
            Answer::Unreadable => {
                tracing::warn!(message.id = %id, status = status.as_u16(), "graph response not recognised");
                SendOutcome::UnknownOutcome
            }
        }
    }

    async fn call(
        &self,
        link: &Link,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let lane = self.lane(link, &method).map_err(|error| {
            tracing::warn!(error = format!("{error:#}"), "graph client unavailable");
            Failure::NotSent
        })?;
        let body = Outgoing::new(body);
        let begun = body.begun.clone();
        let request = self.request(link, method, path, body);
        let answered = tokio::time::timeout(self.timeout, async {
            let response = lane.0.client.request(request).await.map_err(|error| {
                let sent = if never_left(&error) { Failure::NotSent } else { Failure::Unknown };
                tracing::warn!(error = causes(&error), "graph request failed");
                sent
            })?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_LIMIT).collect().await.map_err(|error| {
                tracing::warn!(error = causes(&*error), "graph response interrupted");
                Failure::Unknown
            })?;
            Ok((parts.status, body.to_bytes()))
        });
        answered.await.unwrap_or_else(|_| {
            tracing::warn!(seconds = self.timeout.as_secs(), "graph request timed out");
            // A message without its body is none: it waited for a stream that the server did not allow.
            Err(if begun.load(Ordering::Acquire) { Failure::Unknown } else { Failure::NotSent })
        })
    }

    fn request(&self, link: &Link, method: Method, path: &str, body: Outgoing) -> Request<Outgoing> {
        let bearer = format!("Bearer {}", link.access_token().expose_secret());
        // A link's token is visible ASCII, its id digits.
        let mut authorization = HeaderValue::from_str(&bearer).expect("a token that a header takes");
        authorization.set_sensitive(true);
        Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(AUTHORIZATION, authorization)
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .expect("an address that was read before")
    }
}

impl Lane {
    fn new(connector: Connector) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(PONG)
            .http2_keep_alive_while_idle(true)
            .build(connector);
        Self { client, calls: AtomicUsize::new(0) }
    }

    fn enter(&self) -> OnLane<'_> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        OnLane(self)
    }
}

/// A call that is on a lane.
struct OnLane<'a>(&'a Lane);

impl Drop for OnLane<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request's body that tells whether any of it was asked for, which happens when the request has its stream.
struct Outgoing {
    bytes: Full<Bytes>,
    begun: Arc<AtomicBool>,
}

impl Outgoing {
    fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: Full::from(bytes), begun: Arc::default() }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.begun.store(true, Ordering::Release);
        Pin::new(&mut self.bytes).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.bytes.size_hint()
    }
}

/// `v`, a number, a dot, a number: it goes into URLs.
fn is_version(text: &str) -> bool {
    let number = |text: &str| (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts = text.strip_prefix('v').and_then(|text| text.split_once('.'));
    parts.is_some_and(|(major, minor)| number(major) && number(minor))
}

/// Connects in bounded time, by HTTP/2 where TLS agrees on it.
fn connector(base: &BaseUrl, limit: Duration) -> Result<Connector> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let tls = base.tls().context("cannot call the Graph API")?;
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .enable_http2()
        .wrap_connector(tcp);
    Ok(BoxCloneSyncService::new(service_fn(move |uri: Uri| {
        let connecting = https.clone().call(uri);
        async move { tokio::time::timeout(limit, connecting).await? }
    })))
}

/// Whether the request certainly reached nobody who looked at it:
///
/// - no connection came up: the name, TCP, TLS, or the time for them;
/// - hyper gave it up before it wrote any of it. Its client calls a request canceled only where it still holds all of it
///   (hyper 1.12, `TrySendError` with a message in `client/dispatch.rs`, `client/conn/` and `proto/h1/dispatch.rs`);
/// - the server reset its stream with `REFUSED_STREAM`, which promises so (RFC 9113, 8.7).
///
/// A GOAWAY promises it too for streams above the one it names, but h2 gives the same error to those below when the
/// connection ends, so it proves nothing here.
fn never_left(error: &hyper_util::client::legacy::Error) -> bool {
    error.is_connect()
        || chain(error).any(|cause| {
            cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
                || cause.downcast_ref::<h2::Error>().is_some_and(|error| {
                    error.is_reset() && error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM)
                })
        })
}

/// Which field a refusal of [`Graph::check`] is about.
fn refusal(code: Option<i64>, fault: &Fault) -> CheckError {
    match (code, fault.class) {
        // No such thing, or one without these fields: such as a business account's id in the number's place.
        (Some(33 | 100 | 803), _) => CheckError::Number,
        (_, Class::PauseChannel) => CheckError::Token,
        _ => CheckError::Later,
    }
}
