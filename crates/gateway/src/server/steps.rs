//! The steps in which a server stops, so that a load balancer loses no call.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// The longest time that idle connections outlast the listener.
const LINGER: Duration = Duration::from_secs(1);

/// The steps of a stop, in their order. Before the first one, `/health/ready` reports that the server is stopping.
#[derive(Debug, Clone, Default)]
pub struct Steps {
    /// Answers close their connections.
    pub close: CancellationToken,
    /// No connection is accepted any more. A balancer whose connection is refused has sent nothing, so it may use another node.
    pub refuse: CancellationToken,
    /// Idle connections are closed. The server does this itself, `linger` after the listener is closed.
    pub close_idle: CancellationToken,
    /// How long idle connections outlast the listener.
    pub linger: Duration,
}

impl Steps {
    /// The steps of a drain that takes this long. The end of the drain cancels `refuse`.
    pub fn new(drain: Duration, refuse: CancellationToken) -> Self {
        Self {
            close: refuse.child_token(),
            refuse,
            close_idle: CancellationToken::new(),
            linger: LINGER.min(drain / 2),
        }
    }

    /// Waits through the drain. In its second half the answers close their connections.
    pub async fn drain(&self, drain: Duration) {
        tokio::time::sleep(drain / 2).await;
        self.close.cancel();
        tokio::time::sleep(drain / 2).await;
    }
}

/// Closes the listener, and returns the connections that the kernel had completed before. If they stayed in the kernel's queue,
/// the kernel would reset them, although their callers may have sent a call.
pub fn accepted_last(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    // The listener does not block: the first error says that the queue is empty.
    let accepted: Vec<_> = std::iter::from_fn(|| listener.accept().ok()).take(super::BACKLOG as usize).collect();
    drop(listener);
    let adopt = |(stream, peer): (std::net::TcpStream, SocketAddr)| {
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, peer))
    };
    accepted.into_iter().filter_map(adopt).collect()
}
