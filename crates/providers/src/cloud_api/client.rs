//! Calls of Meta's Graph API, and the meaning of their answers.
//!
//! A message counts as sent if Graph returned its id, as refused if Graph returned an error object, and as not sent if hyper
//! reports that nothing was sent. Every other outcome is unknown (ADR 3): the API accepts no id of ours, so another attempt
//! could arrive twice.

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

use crate::cloud_api::answer::{self, Answer};
use crate::cloud_api::errors::{ErrorClass, Refusal};
use crate::cloud_api::link::{FIELDS, Link};
use crate::cloud_api::slots::{Slot, Slots};
use crate::outbound::{self, BaseUrl};
use crate::{ReadOutcome, SendOutcome};
use recado_domain::channel::types::cloud_api::NumberInfo;

/// The time limit for a whole call; below the dispatcher's limit of 60 s.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The time limit for name resolution, connection and TLS. A call that ends here has sent nothing.
const CONNECT: Duration = Duration::from_secs(10);
/// The most bytes of an answer. Real ones have some hundred.
const ANSWER_LIMIT: usize = 64 << 10;
/// An idle connection is closed before servers and middleboxes close it: a request on a connection that is just being closed
/// has an unknown outcome.
const IDLE: Duration = Duration::from_secs(30);
/// The interval of HTTP/2 pings. A connection that stopped answering would lose one message after another.
const PING: Duration = Duration::from_secs(15);
const PONG: Duration = Duration::from_secs(5);

type Connector = BoxCloneSyncService<Uri, MaybeHttpsStream<TokioIo<TcpStream>>, BoxError>;

/// The Graph API. Connections are kept and shared, with HTTP/2 if the server supports it. Redirects and proxies are not
/// followed, so that the token goes only to the configured host.
pub struct Graph {
    /// Address and version. A path is appended to it.
    base: String,
    url: BaseUrl,
    /// Created at the first call: they read the system's certificates, which a server without such channels need not have.
    connections: OnceLock<Vec<Connection>>,
    slots: Arc<Slots>,
    /// The client for files.
    files: outbound::client::Client,
    /// Permits for concurrent checks of numbers.
    checks: Semaphore,
    timeout: Duration,
}

/// A pooled HTTP/2 connection, or the HTTP/1.1 connections in its place, with the number of its calls.
struct Connection {
    client: Client<Connector, Outgoing>,
    /// Further calls would wait inside the client for the server's limit of streams, behind the calls of other numbers.
    calls: AtomicUsize,
}

/// HTTP/2 connections for messages. Each is opened when the first number needs it.
const MAX_CONNECTIONS: usize = 32;
/// The most concurrent calls on one connection. RFC 9113 (6.5.2) advises servers to permit at least 100.
const MAX_CALLS: usize = 100;
/// The most concurrent calls for one number.
const CALLS_OF_ONE: usize = 100;
/// The most concurrent checks of numbers, which have their own connection.
const CHECKS: usize = 8;
/// How long a check waits for a permit.
const CHECK_WAIT: Duration = Duration::from_secs(10);

/// Why a number could not be connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    #[error("Graph refused the access token")]
    Token,
    #[error("Graph does not know the number, or not for this token")]
    Number,
    #[error("Graph gave no answer")]
    Later,
}

impl CheckError {
    /// The invalid field; `None` if Graph gave no answer.
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
pub(super) enum Failure {
    /// Nothing left this machine, or the server processed nothing of it.
    NotSent,
    /// The outcome is unknown.
    Unknown,
}

impl Graph {
    /// The Graph API at this address: `https://graph.facebook.com`, or with http on this machine alone. The version has the
    /// form `v23.0`.
    pub fn new(base_url: &str, version: &str) -> Result<Self> {
        let base = BaseUrl::parse("--graph-url (RECADO_GRAPH_URL)", base_url)?;
        if !base.secure && !base.loopback {
            bail!(
                "--graph-url (RECADO_GRAPH_URL) must begin with https://: tokens do not go to {} in clear",
                base.host
            );
        }
        if !is_version(version) {
            bail!("--graph-version (RECADO_GRAPH_VERSION) has the form v23.0, not {version:?}");
        }
        let text = format!("{}/{version}", base.text);
        Ok(Self::of(text, base, OnceLock::new()))
    }

    fn of(base: String, url: BaseUrl, connections: OnceLock<Vec<Connection>>) -> Self {
        let (slots, checks) = (Slots::new(MAX_CONNECTIONS * MAX_CALLS, CALLS_OF_ONE), Semaphore::new(CHECKS));
        let files = super::media::client(&url);
        Self { base, url, connections, slots, files, checks, timeout: TIMEOUT }
    }

    /// The configured address, without the version.
    pub(super) fn url(&self) -> &BaseUrl {
        &self.url
    }

    /// The client for files.
    pub(super) fn files(&self) -> &outbound::client::Client {
        &self.files
    }

    /// At most `most` slots for calls of the link's number. Waits until there is one.
    pub async fn slots(&self, link: &Link, most: usize) -> Vec<Slot> {
        let number = link.phone_number_id();
        let first = self.slots.acquire(number).await;
        first.into_iter().chain(std::iter::from_fn(|| self.slots.try_acquire(number))).take(most).collect()
    }

    /// Reserves a call on the connection for checks, on the number's own connection, or on the next one that is not full.
    /// The slots guarantee that there is one.
    fn connection(&self, link: &Link, method: &Method) -> Result<ConnectionGuard<'_>> {
        if self.connections.get().is_none() {
            let connector = connector(&self.url, CONNECT)?;
            let connections = (0..=MAX_CONNECTIONS).map(|_| Connection::new(connector.clone())).collect();
            // A concurrent caller's connections are equivalent.
            let _ = self.connections.set(connections);
        }
        let (of_checks, connections) =
            self.connections.get().and_then(|connections| connections.split_last()).context("they were just made")?;
        if method == Method::GET || connections.is_empty() {
            return Ok(of_checks.enter());
        }
        let place = link.phone_number_id().bytes().fold(0_usize, |place, digit| place * 31 % 997 + usize::from(digit));
        let from_own = (0..connections.len()).map(|next| &connections[(place + next) % connections.len()]);
        let has_room = from_own.clone().find(|connection| connection.calls.load(Ordering::Relaxed) < MAX_CALLS);
        Ok(has_room.unwrap_or(&connections[place % connections.len()]).enter())
    }

    /// Reads the link's number: whether it exists, and whether the token may use it. One call, which changes nothing.
    pub async fn check(&self, link: &Link) -> Result<NumberInfo, CheckError> {
        let id = link.phone_number_id();
        let path = format!("/{id}?fields=id,display_phone_number,verified_name");
        let permit = tokio::time::timeout(CHECK_WAIT, self.checks.acquire()).await;
        let _permit = permit.map_err(|_| CheckError::Later)?;
        let (status, body) = self.call(link, Method::GET, &path, Vec::new()).await.map_err(|_| CheckError::Later)?;
        match answer::number(status, &body) {
            Answer::Good(number) if number.id == id => Ok(number.info),
            Answer::Good(_) => Err(CheckError::Number),
            Answer::Refused(error) => Err(check_error(error.code, &error.refusal(Some(status.as_u16())))),
            Answer::Unreadable => Err(CheckError::Later),
        }
    }

    /// Sends a message with this body.
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
            Answer::Refused(error) => error.refusal(Some(status.as_u16())).outcome(),
            Answer::Unreadable => {
                tracing::warn!(message.id = %id, status = status.as_u16(), "graph response not recognised");
                SendOutcome::UnknownOutcome
            }
        }
    }

    /// Tells Meta that a message, and those before it in its chat, were read.
    pub async fn mark_read(&self, link: &Link, wamid: &str) -> ReadOutcome {
        // Within the limit of concurrent calls, as a message.
        let _slot = self.slots(link, 1).await;
        let body = serde_json::json!({"messaging_product": "whatsapp", "status": "read", "message_id": wamid});
        let path = format!("/{}/messages", link.phone_number_id());
        let Ok((status, body)) = self.call(link, Method::POST, &path, body.to_string().into_bytes()).await else {
            return ReadOutcome::Later;
        };
        match answer::done(status, &body) {
            Answer::Good(()) => ReadOutcome::Sent,
            Answer::Refused(error) => match error.refusal(Some(status.as_u16())).class {
                ErrorClass::PermanentFailure => ReadOutcome::Refused,
                _ => ReadOutcome::Later,
            },
            Answer::Unreadable => ReadOutcome::Later,
        }
    }

    pub(super) async fn call(
        &self,
        link: &Link,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let connection = self.connection(link, &method).map_err(|error| {
            tracing::warn!(error = format!("{error:#}"), "graph client unavailable");
            Failure::NotSent
        })?;
        let body = Outgoing::new(body);
        let begun = body.begun.clone();
        let request = self.request(link, method, path, body);
        let answered = tokio::time::timeout(self.timeout, async {
            let response = connection.0.client.request(request).await.map_err(|error| {
                let sent = if was_not_sent(&error) { Failure::NotSent } else { Failure::Unknown };
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
            // A request whose body was not read has not been sent: it waited for a stream that the server did not permit.
            Err(if begun.load(Ordering::Acquire) { Failure::Unknown } else { Failure::NotSent })
        })
    }

    fn request(&self, link: &Link, method: Method, path: &str, body: Outgoing) -> Request<Outgoing> {
        let bearer = format!("Bearer {}", link.access_token().expose_secret());
        // A link's token is visible ASCII, and its id has only digits.
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

impl Connection {
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

    fn enter(&self) -> ConnectionGuard<'_> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        ConnectionGuard(self)
    }
}

/// A call that is counted on its connection.
struct ConnectionGuard<'a>(&'a Connection);

impl Drop for ConnectionGuard<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request body that records whether it was read, which happens only when the request has its stream.
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

/// Whether the text has the form `v`, a number, a dot, a number. It is part of URLs.
fn is_version(text: &str) -> bool {
    let number = |text: &str| (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts = text.strip_prefix('v').and_then(|text| text.split_once('.'));
    parts.is_some_and(|(major, minor)| number(major) && number(minor))
}

/// Connects in bounded time, with HTTP/2 if TLS negotiates it.
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

/// Whether the request certainly reached no server:
///
/// - no connection came up: the name, TCP, TLS, or the time for them;
/// - hyper gave it up before it wrote any of it. Its client calls a request canceled only if it still holds all of it
///   (hyper 1.12, `TrySendError` with a message in `client/dispatch.rs`, `client/conn/` and `proto/h1/dispatch.rs`);
/// - the server reset its stream with `REFUSED_STREAM`, which promises so (RFC 9113, 8.7).
///
/// A GOAWAY promises it too for streams above the one it names, but h2 gives the same error to those below when the
/// connection ends, so it proves nothing here.
fn was_not_sent(error: &hyper_util::client::legacy::Error) -> bool {
    error.is_connect()
        || chain(error).any(|cause| {
            cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
                || cause.downcast_ref::<h2::Error>().is_some_and(|error| {
                    error.is_reset() && error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM)
                })
        })
}

/// The field that a refusal of [`Graph::check`] is about.
fn check_error(code: Option<i64>, refusal: &Refusal) -> CheckError {
    match (code, refusal.class) {
        // The object does not exist, or has other fields, such as a business account whose id is in the place of the
        // number's.
        (Some(33 | 100 | 803), _) => CheckError::Number,
        (_, ErrorClass::PauseChannel) => CheckError::Token,
        _ => CheckError::Later,
    }
}
