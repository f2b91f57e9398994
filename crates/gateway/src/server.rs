//! Accepts connections and ends them in good order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::Api;
use crate::api::auth::Peer;
use crate::api::error::CloseConnection;

/// The time a client has to send its request's head, from the connection's or the last answer's begin.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The time a client may go without reading anything of its answer.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes of a request's head, and of what is read ahead of a body.
pub const HEAD_LIMIT: usize = 32 * 1024;
/// Most headers of a request.
pub const HEADERS: usize = 100;
/// The wait after the system refused to give a connection (out of file descriptors, for instance).
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Connections that the kernel holds until they are accepted. A burst over it waits a second for its next try.
const BACKLOG: u32 = 4_096;

/// Files that a server has open besides its connections, at most.
pub const OTHER_FILES: u64 = 256;

/// Opens the listening socket.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait for the kernel to forget the connections of the last run.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stop`, then lets the calls in hand finish; those still unfinished at `hurry` are cut off.
pub async fn serve(
    listener: TcpListener,
    api: Api,
    connections: u32,
    stop: CancellationToken,
    hurry: impl Future<Output = ()>,
) {
    let tracker = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(connections as usize));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        match accepted {
            Ok((stream, peer, permit)) => {
                let calls = Calls { api: api.clone(), peer, tracker: tracker.clone(), permit: Arc::new(permit) };
                tracker.spawn(connection(stream, calls, stop.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "no connection could be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drop(listener);
    tracker.close();
    tokio::select! {
        () = tracker.wait() => {}
        () = hurry => tracing::warn!(connections = tracker.len(), "calls in hand were cut off"),
    }
}

type Permit = tokio::sync::OwnedSemaphorePermit;

/// Waits for room before it takes a connection: what is over the limit waits with the kernel.
async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> io::Result<(TcpStream, SocketAddr, Permit)> {
    let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    // Answers are small and whole: waiting to fill a packet would only delay them.
    stream.set_nodelay(true)?;
    Ok((stream, peer, permit))
}

/// What the calls of one connection share.
struct Calls {
    api: Api,
    peer: SocketAddr,
    tracker: TaskTracker,
    /// Held by the connection and by each of its calls: clients that disconnect at once cannot have more calls at work than
    /// there may be connections.
    permit: Arc<Permit>,
}

impl Calls {
    /// Answers a call in a task of its own. A client that disconnects ends its connection, and with it the wait for the
    /// answer; the call itself goes on to its end, so that nothing which has to follow a commit is left undone.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = io::Result<Response<Body>>> + use<> {
        let (api, peer, permit) = (self.api.clone(), self.peer, self.permit.clone());
        let task = self.tracker.spawn(async move {
            let answered = answer(&api, peer, request).await;
            drop(permit);
            answered
        });
        async { task.await.map_err(io::Error::other)? }
    }
}

async fn connection(stream: TcpStream, calls: Calls, stop: CancellationToken) {
    let service = service_fn(|request| calls.answer(request));
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let mut stream = std::pin::pin!(stream);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // A client may close its own direction after its request, and still read the answer.
        .half_close(true)
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEAD_LIMIT)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream.as_mut()), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

async fn answer(api: &Api, peer: SocketAddr, request: Request<Incoming>) -> io::Result<Response<Body>> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(Peer(peer.ip()));
    let response = api.answer(request).await;
    if response.extensions().get::<CloseConnection>().is_some() {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "the client was too slow"));
    }
    Ok(response)
}
