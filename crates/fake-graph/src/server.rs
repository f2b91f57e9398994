//! The server: its own thread with a runtime, and connections with or without TLS.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustix::net::sockopt::set_socket_linger;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::calls::answer;
use crate::network::Network;

/// The connection ends without an answer.
#[derive(Debug)]
pub struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the network behaves badly, as configured")
    }
}

impl std::error::Error for Broken {}

/// What a call knows about its connection.
#[derive(Clone)]
pub struct Connection {
    pub number: u64,
    /// Cancelled to reset the connection.
    pub reset: CancellationToken,
}

/// The running server. It ends when dropped, with its unfinished work.
pub struct Server {
    pub address: SocketAddr,
    pub runtime: Handle,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts on a free port of loopback. One thread is enough: a call costs about 50 microseconds, and waits use timers.
    pub fn start(network: Arc<Network>, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        listener.set_nonblocking(true).expect("a listener can be asked without waiting");
        let address = listener.local_addr().expect("a bound listener has an address");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        let handle = runtime.handle().clone();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let work = move || {
            runtime.block_on(stopped.run_until_cancelled(accept(listener, network, tls)));
        };
        let thread = std::thread::Builder::new().name("fake-graph".to_owned());
        let thread = thread.spawn(work).expect("a thread can be started");
        Self { address, runtime: handle, stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // The thread panics only because of a bug in the fake, which was printed by then.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, network: Arc<Network>, tls: Option<Arc<ServerConfig>>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime that does I/O");
    let tls = tls.map(TlsAcceptor::from);
    for number in 1.. {
        let stream = loop {
            match listener.accept().await {
                Ok((stream, _)) => break stream,
                // Out of file descriptors: some will be closed.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        tokio::spawn(connection(stream, tls.clone(), network.clone(), number));
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, network: Arc<Network>, number: u64) {
    let _ = stream.set_nodelay(true);
    // The duplicate outlives the original, so it decides how the socket is closed.
    let Ok(twin) = stream.as_fd().try_clone_to_owned() else { return };
    let reset = CancellationToken::new();
    let connection = Connection { number, reset: reset.clone() };
    let spoken = async {
        match tls {
            None => speak(stream, false, network, connection).await,
            Some(tls) => {
                if let Ok(stream) = tls.accept(stream).await {
                    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    speak(stream, http2, network, connection).await;
                }
            }
        }
    };
    tokio::select! {
        // First, so that no orderly close is sent before the reset.
        biased;
        () = reset.cancelled() => {}
        () = spoken => {}
    }
    if reset.is_cancelled() {
        let _ = set_socket_linger(&twin, Some(Duration::ZERO));
    }
}

async fn speak<S>(stream: S, http2: bool, network: Arc<Network>, connection: Connection)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| answer(network.clone(), connection.clone(), request));
    let server = auto::Builder::new(TokioExecutor::new());
    let server = if http2 { server.http2_only() } else { server.http1_only() };
    // A broken connection is part of the simulation.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}
