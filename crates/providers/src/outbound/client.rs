//! Calls of URLs that callers or networks supply. A name is looked up once, every address of it is checked, and the
//! connection goes to an address that was checked. Redirects are not followed, proxies of the environment are not used, and time and bytes are
//! bounded. A connection waits for a short time for the next call of the same URL ([`idle`]).

pub mod idle;
mod lookups;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use axum::http::header::{HOST, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use recado_domain::ids::InstitutionId;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use self::idle::{Connection, Pool};
pub use self::lookups::Resolve;
use self::lookups::{Lookups, Seat, SystemResolver};
use super::address::Allowed;
use super::tls;
use super::url::{Host, TargetUrl};

/// The time that a lookup and a connection may take, over all addresses of a name.
const CONNECT: Duration = Duration::from_secs(5);
/// The time that a call may take, up to the head of the answer, without the wait for a lookup ([`lookups`]).
const TOTAL: Duration = Duration::from_secs(15);
/// Most bytes of an answer that are read: of its head, and of its body.
const ANSWER: usize = 64 << 10;
/// How long the body of an answer is read, so that the server can end in order. Nothing of it is kept.
const REST: Duration = Duration::from_secs(1);
/// How long the body of a file may bring nothing, and how long all of it may take.
const IDLE: Duration = Duration::from_secs(20);
const BODY: Duration = Duration::from_mins(10);
/// Addresses of a name that are tried.
const TRIES: usize = 4;

/// Calls URLs of callers.
pub struct Client {
    allowed: Allowed,
    lookups: Lookups,
    /// Created by the first call that needs TLS, because the creation reads the system's certificates.
    tls: OnceLock<TlsConnector>,
    total: Duration,
    connect: Duration,
    idle: Pool,
}

/// An answer: its status, and nothing of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub status: StatusCode,
    pub retry_after: Option<RetryAfter>,
}

/// How long the server wants no other call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    Wait(Duration),
    Until(SystemTime),
}

impl RetryAfter {
    /// The value of the header `Retry-After`: seconds or a date.
    fn parse(text: &str) -> Option<Self> {
        let seconds = text.parse().ok().map(|seconds| Self::Wait(Duration::from_secs(seconds)));
        seconds.or_else(|| httpdate::parse_http_date(text).ok().map(Self::Until))
    }

    /// The wait from this time on.
    pub fn wait(self, now: SystemTime) -> Duration {
        match self {
            Self::Wait(wait) => wait,
            Self::Until(then) => then.duration_since(now).unwrap_or_default(),
        }
    }
}

/// Why there was no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("TIMEOUT")]
    Timeout,
    #[error("CONNECT_FAILED")]
    ConnectFailed,
    #[error("TLS_FAILED")]
    TlsFailed,
    #[error("ADDRESS_REFUSED")]
    AddressRefused,
    #[error("TOO_LARGE")]
    TooLarge,
    /// Others use all lookups, so the URL was not called, which says nothing about it.
    #[error("BUSY")]
    Busy,
}

/// Where a URL leads.
enum Place<'a> {
    Address(IpAddr),
    /// A name that may be looked up now.
    Name(&'a str, Seat),
}

impl Client {
    /// A client that reaches these addresses.
    pub fn new(allowed: Allowed) -> Self {
        Self {
            allowed,
            lookups: Lookups::new(Arc::new(SystemResolver)),
            tls: OnceLock::new(),
            total: TOTAL,
            connect: CONNECT,
            idle: Pool::default(),
        }
    }

    /// The same with another resolver, which calls wait for so long if it is busy. For tests.
    #[must_use]
    pub fn resolving_by(self, resolver: Arc<dyn Resolve>, wait: Duration) -> Self {
        Self { lookups: Lookups::new(resolver).waiting(wait), ..self }
    }

    /// Whether a URL can be refused by its text: it contains an address that is not allowed, or it has a name without
    /// TLS and the operator allows no network. The addresses of a name are checked when the URL is called.
    pub fn refuses(&self, url: &TargetUrl) -> bool {
        match (&url.host, url.secure) {
            (Host::Address(address), true) => !self.allowed.allows(*address),
            (Host::Address(address), false) => !self.allowed.names(*address),
            (Host::Name(_), secure) => !secure && !self.allowed.names_any(),
        }
    }

    /// Gets a URL for an institution, and gives the head of the answer. Its body is read by [`Got::next`].
    pub async fn get(&self, url: &TargetUrl, of: Option<InstitutionId>, headers: HeaderMap) -> Result<Got, Failure> {
        let request = request(Method::GET, url, headers, Bytes::new())?;
        let Exchange { response, connection, .. } = self.call_anew(url, of, self.until(), request).await?;
        let (head, body) = response.into_parts();
        let until = Instant::now() + BODY;
        Ok(Got { status: head.status, headers: head.headers, body, until, _connection: connection })
    }

    /// Posts a body for an institution, and gives the head of the answer. `None`: for the operator, who shares with nobody.
    pub async fn post(
        &self,
        url: &TargetUrl,
        of: Option<InstitutionId>,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let (key, request) = (url.to_string(), request(Method::POST, url, headers, body)?);
        let Exchange { answer, response, mut connection } = self.call(url, of, &key, request).await?;
        // The head of the answer decides the result, however slow the body is.
        let rest = async { skip(response).await && connection.sender.ready().await.is_ok() };
        if timeout(REST, rest).await.unwrap_or(false) {
            self.idle.put(key, connection);
        }
        Ok(answer)
    }

    /// When the head of the answer to a call that begins now must be there.
    fn until(&self) -> Instant {
        Instant::now() + self.total
    }

    /// Sends the request on a connection that waits, or on a new one.
    async fn call(
        &self,
        url: &TargetUrl,
        of: Option<InstitutionId>,
        key: &str,
        request: Request<Full<Bytes>>,
    ) -> Result<Exchange, Failure> {
        let until = self.until();
        if let Some(waiting) = self.idle.take(key) {
            match timeout_at(until, exchange(waiting, request.clone())).await {
                Err(_) => return Err(Failure::Timeout),
                // The server may close a connection while it waits. Then the request is sent again, on a new connection.
                Ok(Err(error)) if error.is_canceled() || error.is_closed() || error.is_incomplete_message() => {}
                Ok(ended) => return ended.map_err(|error| failure(&error)),
            }
        }
        self.call_anew(url, of, until, request).await
    }

    /// Sends the request on a new connection. The wait for a lookup is no part of its time.
    async fn call_anew(
        &self,
        url: &TargetUrl,
        of: Option<InstitutionId>,
        until: Instant,
        request: Request<Full<Bytes>>,
    ) -> Result<Exchange, Failure> {
        let began = Instant::now();
        let place = match &url.host {
            Host::Address(address) => Place::Address(*address),
            Host::Name(name) => Place::Name(name, self.lookups.seat(name, of).await?),
        };
        let until = until + began.elapsed();
        let call = async { exchange(self.open(url, place).await?, request).await.map_err(|error| failure(&error)) };
        timeout_at(until, call).await.unwrap_or(Err(Failure::Timeout))
    }

    /// A new connection.
    async fn open(&self, url: &TargetUrl, place: Place<'_>) -> Result<Connection, Failure> {
        let stream = timeout(self.connect, self.connect(url, place)).await.unwrap_or(Err(Failure::Timeout))?;
        if !url.secure {
            return handshake(stream).await;
        }
        let name = match &url.host {
            Host::Address(address) => ServerName::IpAddress((*address).into()),
            Host::Name(name) => ServerName::try_from(name.clone()).map_err(|_| Failure::TlsFailed)?,
        };
        handshake(self.tls()?.connect(name, stream).await.map_err(|_| Failure::TlsFailed)?).await
    }

    /// A connection to an address that was checked.
    async fn connect(&self, url: &TargetUrl, place: Place<'_>) -> Result<TcpStream, Failure> {
        let addresses = match place {
            Place::Address(address) => vec![address],
            Place::Name(name, seat) => self.lookups.find(name, seat).await.map_err(|_| Failure::ConnectFailed)?,
        };
        let fits =
            |address: &IpAddr| if url.secure { self.allowed.allows(*address) } else { self.allowed.names(*address) };
        // One that may not be called makes the name suspect.
        if !addresses.iter().all(fits) {
            return Err(Failure::AddressRefused);
        }
        let tries = addresses.len().clamp(1, TRIES);
        // Each address gets an equal part of the time, so that an address that drops packets does not use up the time
        // of the next address.
        let each = self.connect / u32::try_from(tries).unwrap_or(1);
        let mut failure = Failure::ConnectFailed;
        for address in addresses.into_iter().take(tries) {
            match timeout(each, TcpStream::connect(SocketAddr::new(address, url.port))).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(_)) => failure = Failure::ConnectFailed,
                Err(_) => failure = Failure::Timeout,
            }
        }
        Err(failure)
    }

    /// Only a successful creation is kept, so certificates that are installed later are found without a restart.
    fn tls(&self) -> Result<&TlsConnector, Failure> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls);
        }
        let made = tls(true).map_err(|_| Failure::TlsFailed)?;
        Ok(self.tls.get_or_init(|| Arc::new(made).into()))
    }
}

/// An answer with a body that is still to be read.
pub struct Got {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Incoming,
    /// When the body must be complete.
    until: Instant,
    /// Dropping it ends the connection.
    _connection: Connection,
}

impl Got {
    /// The next bytes of the body; `None` at its end. A body that ends early is a failure.
    pub async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        loop {
            let wait = IDLE.min(self.until.saturating_duration_since(Instant::now()));
            return match timeout(wait, self.body.frame()).await {
                Err(_) => Some(Err(Failure::Timeout)),
                Ok(None) => None,
                Ok(Some(Err(_))) => Some(Err(Failure::ConnectFailed)),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => Some(Ok(bytes)),
                    // Trailers are not looked at.
                    Err(_) => continue,
                },
            };
        }
    }
}

/// A call whose answer has begun.
struct Exchange {
    answer: Answer,
    response: Response<Incoming>,
    connection: Connection,
}

fn request(
    method: Method,
    url: &TargetUrl,
    mut headers: HeaderMap,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, Failure> {
    headers.insert(HOST, HeaderValue::from_str(url.authority()).map_err(|_| Failure::ConnectFailed)?);
    let request = Request::builder().method(method).uri(url.path());
    let mut request = request.body(Full::new(body)).map_err(|_| Failure::ConnectFailed)?;
    *request.headers_mut() = headers;
    Ok(request)
}

async fn handshake<S>(stream: S) -> Result<Connection, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http1::Builder::new().max_buf_size(ANSWER).handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|_| Failure::ConnectFailed)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    Ok(Connection::new(sender, tasks))
}

/// Sends the request, and reads the head of the answer.
async fn exchange(mut connection: Connection, request: Request<Full<Bytes>>) -> hyper::Result<Exchange> {
    let response = connection.sender.send_request(request).await?;
    let retry_after =
        response.headers().get(RETRY_AFTER).and_then(|value| RetryAfter::parse(value.to_str().ok()?.trim()));
    Ok(Exchange { answer: Answer { status: response.status(), retry_after }, response, connection })
}

fn failure(error: &hyper::Error) -> Failure {
    if error.is_parse_too_large() { Failure::TooLarge } else { Failure::ConnectFailed }
}

/// Reads the body to its end, or as far as it may go. Returns whether it ended.
async fn skip(response: Response<Incoming>) -> bool {
    let mut body = Limited::new(response.into_body(), ANSWER);
    loop {
        match body.frame().await {
            Some(Ok(_)) => {}
            Some(Err(_)) => return false,
            None => return true,
        }
    }
}

#[cfg(test)]
mod tests;
