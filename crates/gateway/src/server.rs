//! Accepts connections and drains them.

mod call;
mod steps;
#[cfg(test)]
mod tests;
mod waits;
mod watched;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::header::{CONNECTION, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Request, Response, StatusCode, Version};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::gauge::Gauge;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio_io_timeout::TimeoutStream;
use tokio_util::io::InspectReader;
use tokio_util::task::TaskTracker;

use crate::api::Api;
use crate::api::error::CloseConnection;
use crate::disconnected::Disconnected;
use crate::rate_limit::Peer;
use call::Call;
pub use steps::Steps;
use waits::{Over, Waits, Watch};
use watched::Watched;

/// The time a client has to send its request's head, from the connection's begin or the head's first byte.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The time a client may go without reading anything of its answer, and a network without acknowledging anything of it.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes of a request's head, and of what is read ahead of a body.
pub const HEAD_LIMIT: usize = 32 * 1024;
/// Most headers of a request: hyper's own limit. Hyper keeps them on the stack as long as no limit is set.
pub const HEADERS: usize = 100;
/// The wait after a failed accept (out of file descriptors, for instance).
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Connections that the kernel queues until they are accepted. A client beyond it retries after a second.
const BACKLOG: u32 = 4_096;

/// The most files that a server has open besides its connections.
pub const OTHER_FILES: u64 = 256;

/// Opens the listening socket.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait for closed connections of the last run (TIME_WAIT).
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// How many connections there may be, and how long each may wait for its client.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub connections: u32,
    /// For a request's head.
    pub head: Duration,
    /// From an answer to the first byte of the next request.
    pub idle: Duration,
    /// Without reading anything of an answer.
    pub write: Duration,
}

impl Limits {
    /// The usual limits, with these numbers.
    pub fn new(connections: u32, idle: Duration) -> Self {
        Self { connections, head: HEADER_TIMEOUT, idle, write: WRITE_TIMEOUT }
    }
}

/// Answers calls.
pub trait Answer: Clone + Send + Sync + 'static {
    fn answer(&self, request: Request<Body>) -> impl Future<Output = Response<Body>> + Send;
}

impl Answer for Api {
    fn answer(&self, request: Request<Body>) -> impl Future<Output = Response<Body>> + Send {
        self.answer(request)
    }
}

/// Serves through the steps of a stop: calls in flight finish, and those that are unfinished at `hurry` are cut off.
pub async fn serve(
    listener: TcpListener,
    api: impl Answer,
    limits: Limits,
    steps: Steps,
    open: Gauge,
    hurry: impl Future<Output = ()>,
) {
    let server = Server {
        api,
        limits,
        steps,
        open,
        tracker: TaskTracker::new(),
        room: Room { permits: Arc::new(Semaphore::new(limits.connections as usize)), crowd: Arc::default() },
        keep_alive: keep_alive(limits.idle),
    };
    loop {
        let accepted = tokio::select! {
            () = server.steps.refuse.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        // A connection waits for its place here, so that further ones wait in the kernel's queue.
        let admitted = match accepted {
            Ok((stream, peer)) => server.room.admit(stream, limits.write).await.map(|place| (place, peer)),
            Err(error) => Err(error),
        };
        match admitted {
            Ok((place, peer)) => server.connect(place, peer),
            Err(error) => {
                // Out of file descriptors: close an idle connection.
                server.room.crowd.notify_one();
                tracing::warn!(%error, "connection accept failed; retrying");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    server.end(listener, hurry).await;
}

/// What all connections share.
struct Server<A> {
    api: A,
    limits: Limits,
    steps: Steps,
    /// The number of connections, for metrics.
    open: Gauge,
    tracker: TaskTracker,
    room: Room,
    /// The header of the answers, made once.
    keep_alive: HeaderValue,
}

impl<A: Answer> Server<A> {
    /// Serves an admitted connection in a task of its own.
    fn connect(&self, (stream, permit): (TcpStream, Permit), peer: SocketAddr) {
        let calls = Calls {
            api: self.api.clone(),
            peer,
            tracker: self.tracker.clone(),
            permit: Arc::new(permit),
            waits: Waits::new(),
            keep_alive: self.keep_alive.clone(),
            steps: self.steps.clone(),
            disconnected: Disconnected::default(),
            _open: Open::new(self.open.clone()),
        };
        let watch = Watch::new(calls.waits.clone(), self.limits, self.room.crowd.clone());
        self.tracker.spawn(connection(stream, calls, watch, self.limits.write));
    }

    /// Closes the listener, then the idle connections, and waits for the calls in flight.
    async fn end(self, listener: TcpListener, hurry: impl Future<Output = ()>) {
        for (stream, peer) in steps::accepted_last(listener) {
            // Beyond the limit of connections it is closed: no place is going to be free in time.
            if let Some(place) = self.room.admit(stream, self.limits.write).now_or_never().and_then(Result::ok) {
                self.connect(place, peer);
            }
        }
        self.tracker.close();
        let ended = async {
            // A balancer may be sending a call on a connection that is idle here. Such calls find the connection open, and
            // their answers close it.
            let _ = tokio::time::timeout(self.steps.linger, self.tracker.wait()).await;
            self.steps.close_idle.cancel();
            self.tracker.wait().await;
        };
        tokio::select! {
            () = ended => {}
            () = hurry => {
                self.steps.close_idle.cancel();
                tracing::warn!(connections = self.tracker.len(), "requests cut off");
            }
        }
    }
}

type Permit = tokio::sync::OwnedSemaphorePermit;

/// Counts a connection as long as it is open.
struct Open(Gauge);

impl Open {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Limits the number of connections.
struct Room {
    permits: Arc<Semaphore>,
    /// Notifies idle connections that another one waits.
    crowd: Arc<Notify>,
}

impl Room {
    /// Gives a connection its place. Beyond the limit it waits, and the longest idle connection is closed.
    async fn admit(&self, stream: TcpStream, write: Duration) -> io::Result<(TcpStream, Permit)> {
        // Answers are small and whole: Nagle's algorithm would only delay them.
        stream.set_nodelay(true)?;
        // Without this the kernel retries for a quarter of an hour if the client's network is gone.
        sockopt::set_tcp_user_timeout(&stream, u32::try_from(write.as_millis()).unwrap_or(u32::MAX))?;
        if self.permits.available_permits() == 0 {
            self.crowd.notify_one();
        }
        let permit = self.permits.clone().acquire_owned().await.map_err(io::Error::other)?;
        Ok((stream, permit))
    }
}

/// What the calls of one connection share.
struct Calls<A> {
    api: A,
    peer: SocketAddr,
    tracker: TaskTracker,
    /// Held by the connection and by each of its calls: clients that disconnect early cannot have more calls in progress than
    /// connections are allowed.
    permit: Arc<Permit>,
    waits: Waits,
    /// The header of the answers, made once.
    keep_alive: HeaderValue,
    steps: Steps,
    disconnected: Disconnected,
    _open: Open,
}

impl<A: Answer> Calls<A> {
    /// Answers a call. If the client disconnects, the connection ends and the call still runs to its end.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = io::Result<Response<Body>>> + use<A> {
        self.waits.called();
        let (api, peer, permit) = (self.api.clone(), self.peer, self.permit.clone());
        let (waits, keep_alive, closing) = (self.waits.clone(), self.keep_alive.clone(), self.steps.close.clone());
        let stays = stays_open(request.version(), request.headers());
        let disconnected = self.disconnected.clone();
        let work = async move {
            let answered = answer(&api, peer, disconnected, request).await;
            drop(permit);
            answered
        };
        let call = Call::new(work, self.tracker.clone());
        async move {
            let mut response = call.await?;
            if closing.is_cancelled() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            } else if stays && response.status() != StatusCode::PAYLOAD_TOO_LARGE {
                // After a refused body, which is left unread, the connection is closed.
                response.headers_mut().insert(KEEP_ALIVE, keep_alive);
            }
            Ok(record_end(response, waits))
        }
    }
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Whether the client keeps the connection. HTTP/1.0 does not by default.
fn stays_open(version: Version, headers: &HeaderMap) -> bool {
    let mut options = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let close = options.any(|options| options.split(',').any(|option| option.trim().eq_ignore_ascii_case("close")));
    version == Version::HTTP_11 && !close
}

/// The header that says how long an idle connection stays open, so that clients close it earlier.
fn keep_alive(idle: Duration) -> HeaderValue {
    // Digits are a valid header value.
    HeaderValue::from_str(&format!("timeout={}", idle.as_secs())).unwrap_or(HeaderValue::from_static("timeout=1"))
}

/// Records when the answer has ended: at once if its body is whole.
fn record_end(response: Response<Body>, waits: Waits) -> Response<Body> {
    struct End(Waits);
    impl Drop for End {
        fn drop(&mut self) {
            self.0.answered();
        }
    }
    let end = End(waits);
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _held = &end;
            frame
        }))
    })
}

async fn connection(stream: TcpStream, calls: Calls<impl Answer>, mut watch: Watch, write: Duration) {
    let (waits, stop) = (calls.waits.clone(), calls.steps.close_idle.clone());
    let disconnected = calls.disconnected.clone();
    let _ended = disconnected.guard();
    let service = service_fn(|request| calls.answer(request));
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(write));
    let stream = Watched { stream: std::pin::pin!(stream), disconnected };
    let received = |bytes: &[u8]| {
        if !bytes.is_empty() {
            waits.received();
        }
    };
    let connection = http1::Builder::new()
        // A client may close its own direction after its request, and still read the answer.
        .half_close(true)
        // `watch` has separate times for a head and for the next call; hyper has one for both.
        .header_read_timeout(None)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(InspectReader::new(stream, received)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = loop {
        tokio::select! {
            // In this order: what the connection has read and answered decides the wait.
            biased;
            ended = connection.as_mut() => break ended.map_err(io::Error::other),
            () = stop.cancelled(), if !watch.is_closing() => {}
            over = watch.over() => if over == Over::Cut {
                break Err(io::Error::new(io::ErrorKind::TimedOut, "the client was too slow"));
            },
        }
        watch.close();
        connection.as_mut().graceful_shutdown();
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "client connection failed");
    }
}

async fn answer(
    api: &impl Answer,
    peer: SocketAddr,
    disconnected: Disconnected,
    request: Request<Incoming>,
) -> io::Result<Response<Body>> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(Peer(peer.ip()));
    request.extensions_mut().insert(disconnected);
    let response = api.answer(request).await;
    if response.extensions().get::<CloseConnection>().is_some() {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "the client was too slow"));
    }
    Ok(response)
}
