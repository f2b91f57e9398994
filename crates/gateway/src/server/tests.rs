//! Connections with short timeouts: real sockets, and answers that the test makes.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Bytes;
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::*;

/// How long an expected event may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
/// Longer than any test takes.
const NEVER: Duration = Duration::from_hours(1);
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// Answers `/` at once, `/large` with more than any socket holds, and `/events` with a line every 10 ms for ever.
#[derive(Clone, Default)]
struct TestApi {
    /// Answers to `/events` that have not ended.
    events: Arc<AtomicUsize>,
}

struct Following(Arc<AtomicUsize>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Answer for TestApi {
    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        Response::new(match request.uri().path() {
            "/large" => Body::from(vec![b'x'; 64 << 20]),
            "/events" => {
                self.events.fetch_add(1, Ordering::SeqCst);
                Body::from_stream(stream::unfold(Following(self.events.clone()), async |following| {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    Some((Ok::<_, Infallible>(Bytes::from_static(b": still here\n")), following))
                }))
            }
            _ => Body::from("answered"),
        })
    }
}

struct Serving {
    address: SocketAddr,
    handler: TestApi,
    steps: Steps,
    task: JoinHandle<()>,
}

const LIMITS: Limits = Limits { connections: 100, head: NEVER, idle: NEVER, write: NEVER };

fn serve_with(limits: Limits) -> Serving {
    let listener = listen("127.0.0.1:0".parse().unwrap()).expect("a free port");
    let (address, stop, handler) = (listener.local_addr().unwrap(), CancellationToken::new(), TestApi::default());
    let steps = Steps { linger: SHORT, ..Steps::new(Duration::ZERO, stop.clone()) };
    let served = serve(listener, handler.clone(), limits, steps.clone(), Gauge::default(), std::future::pending());
    Serving { address, handler, steps, task: tokio::spawn(served) }
}

impl Serving {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    /// A connection on which one call was answered.
    async fn used(&self) -> TcpStream {
        let mut stream = self.connect().await;
        call(&mut stream).await;
        stream
    }

    /// Sends the stop signal, and returns how long the stop takes.
    async fn end(self) -> Duration {
        let stopped = Instant::now();
        self.steps.refuse.cancel();
        timeout(PATIENCE, self.task).await.expect("an end").expect("no panic");
        stopped.elapsed()
    }
}

async fn call(stream: &mut TcpStream) -> String {
    stream.write_all(GET).await.expect("the server reads");
    let mut answer = Vec::new();
    while !answer.ends_with(b"answered") {
        let read = timeout(PATIENCE, stream.read_buf(&mut answer)).await.expect("in time").expect("an answer");
        assert_ne!(read, 0, "closed: {:?}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8(answer).unwrap()
}

/// Reads until the server closes. Returns the received text, and the time until the close.
async fn until_closed(stream: &mut TcpStream) -> (String, Duration) {
    let (started, mut received) = (Instant::now(), Vec::new());
    // A reset counts as a close, too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut received)).await.expect("closed in time");
    (String::from_utf8_lossy(&received).into_owned(), started.elapsed())
}

const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time_and_half_a_head_after_its_own() {
    // Each wait ends by its own limit; the other limit is never reached.
    let idle = serve_with(Limits { idle: SHORT, ..LIMITS });
    let mut connection = idle.used().await;
    let (received, after) = until_closed(&mut connection).await;
    assert!(received.is_empty() && after >= SHORT / 2, "{received} {after:?}");

    let heads = serve_with(Limits { head: SHORT, ..LIMITS });
    for begin in [&b""[..], b"GET / HT"] {
        let mut fresh = heads.connect().await;
        fresh.write_all(begin).await.expect("the server reads");
        assert_eq!(until_closed(&mut fresh).await.0, "");
    }
    let mut used = heads.used().await;
    used.write_all(b"GET / HT").await.expect("the server reads");
    assert_eq!(until_closed(&mut used).await.0, "");
    // The idle connection outlasts them all, and is served.
    let mut idle = heads.used().await;
    tokio::time::sleep(SHORT * 2).await;
    call(&mut idle).await;
}

/// The close comes with the previous call, so that the server reads nothing more.
#[tokio::test]
async fn half_a_head_behind_another_call_does_not_stay() {
    let serving = serve_with(Limits { idle: SHORT, write: SHORT, ..LIMITS });
    let mut stream = serving.connect().await;
    stream.write_all(&[GET, b"GET / HT"].concat()).await.expect("the server reads");
    assert!(until_closed(&mut stream).await.0.ends_with("answered"));
}

#[tokio::test]
async fn an_answer_says_how_long_its_connection_stays() {
    let serving = serve_with(Limits { idle: Duration::from_millis(75_900), ..LIMITS });
    let answer = call(&mut serving.connect().await).await;
    assert!(answer.contains("\r\nkeep-alive: timeout=75\r\n"), "{answer}");
    for (version, more) in [("1.1", "Connection: x, Close\r\n"), ("1.0", ""), ("1.0", "Connection: keep-alive\r\n")] {
        let mut stream = serving.connect().await;
        let call = format!("GET / HTTP/{version}\r\nHost: x\r\n{more}\r\n");
        stream.write_all(call.as_bytes()).await.expect("the server reads");
        stream.shutdown().await.expect("half the connection is closed");
        let answer = until_closed(&mut stream).await.0;
        assert!(answer.ends_with("answered") && !answer.contains("timeout="), "{answer}");
    }
}

#[tokio::test]
async fn idle_connections_end_at_once_when_the_server_does() {
    let serving = serve_with(LIMITS);
    let mut used = Vec::new();
    for _ in 0..20 {
        used.push(serving.used().await);
    }
    let fresh = serving.connect().await;
    let took = serving.end().await;
    assert!(took < PATIENCE / 2, "{took:?}");
    drop((used, fresh));
}

#[tokio::test]
async fn a_stop_ends_the_connections_step_by_step() {
    let serving = serve_with(LIMITS);
    let (mut drained, late, mut idle) = (serving.used().await, serving.used().await, serving.used().await);

    // Answers close their connections, and new connections are still accepted.
    serving.steps.close.cancel();
    for connection in [&mut drained, &mut serving.connect().await] {
        let answer = call(connection).await;
        assert!(answer.contains("\r\nconnection: close\r\n") && !answer.contains("keep-alive"), "{answer}");
        assert_eq!(until_closed(connection).await.0, "");
    }

    // Connections are refused. A call that a balancer sends on an idle one is answered, and the rest are closed later.
    let (address, queued) = (serving.address, serving.connect().await);
    serving.steps.refuse.cancel();
    let end = Instant::now() + PATIENCE;
    while TcpStream::connect(address).await.is_ok() {
        assert!(Instant::now() < end, "the listener stays open");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for mut connection in [late, queued] {
        assert!(call(&mut connection).await.contains("\r\nconnection: close\r\n"));
    }
    assert_eq!(until_closed(&mut idle).await.0, "");
    timeout(PATIENCE, serving.task).await.expect("an end").expect("no panic");
}

/// Without a runtime thread that could accept it in between, the connection is in the kernel's queue when the listener closes.
#[tokio::test]
async fn a_connection_that_waits_to_be_accepted_is_served() {
    let listener = listen("127.0.0.1:0".parse().unwrap()).expect("a free port");
    let mut waiting = TcpStream::connect(listener.local_addr().unwrap()).await.expect("a connection");
    let (stop, handler) = (CancellationToken::new(), TestApi::default());
    stop.cancel();
    let steps = Steps { linger: SHORT, ..Steps::new(Duration::ZERO, stop) };
    let serving =
        tokio::spawn(
            async move { serve(listener, handler, LIMITS, steps, Gauge::default(), std::future::pending()).await },
        );
    assert!(call(&mut waiting).await.contains("\r\nconnection: close\r\n"));
    timeout(PATIENCE, serving).await.expect("an end").expect("no panic");
}

#[tokio::test]
async fn the_longest_idle_connection_is_closed_for_a_new_one() {
    let serving = serve_with(Limits { connections: 2, ..LIMITS });
    let mut first = serving.used().await;
    let mut second = serving.used().await;
    // There is no room, so it gets the first connection's.
    let third = timeout(PATIENCE, serving.used()).await.expect("room");
    assert_eq!(until_closed(&mut first).await.0, "");
    call(&mut second).await;
    drop(third);
}

#[tokio::test]
async fn an_unread_answer_is_aborted() {
    let serving = serve_with(Limits { write: SHORT, ..LIMITS });
    let mut deaf = serving.connect().await;
    deaf.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("the server reads");
    // Closes its own half, and reads no more.
    deaf.shutdown().await.expect("half the connection is closed");
    let took = serving.end().await;
    assert!(took < PATIENCE / 2, "{took:?}");
    let (received, _) = until_closed(&mut deaf).await;
    assert!(received.len() < 64 << 20, "all of it was sent");
}

/// Each read is in time, but all of them together would take forever.
#[tokio::test]
async fn an_answer_that_is_read_too_slowly_is_aborted() {
    let serving = serve_with(Limits { idle: SHORT, write: Duration::from_secs(1), ..LIMITS });
    let mut slow = serving.connect().await;
    slow.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("the server reads");
    let (mut all, mut part) = (0, vec![0; 64 << 10]);
    while let Ok(read @ 1..) = timeout(PATIENCE, slow.read(&mut part)).await.expect("in time") {
        all += read;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(all < 64 << 20, "all of it was sent");
}

#[tokio::test]
async fn events_end_when_their_reader_is_gone_and_only_then() {
    let serving = serve_with(Limits { idle: SHORT, write: SHORT, ..LIMITS });
    let mut reader = serving.connect().await;
    reader.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("the server reads");
    // Half-closed, it still reads. The limits of a connection that waits for its client do not apply to it.
    reader.shutdown().await.expect("half the connection is closed");
    let (end, mut part) = (Instant::now() + SHORT * 4, [0; 1024]);
    while Instant::now() < end {
        let read = timeout(PATIENCE, reader.read(&mut part)).await.expect("in time").expect("events");
        assert_ne!(read, 0, "the events have ended");
    }
    assert_eq!(serving.handler.events.load(Ordering::SeqCst), 1);
    drop(reader);
    timeout(PATIENCE, async {
        while serving.handler.events.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the events to end");
}

#[tokio::test]
async fn a_network_that_is_gone_is_given_up() {
    let listener = listen("127.0.0.1:0".parse().unwrap()).expect("a free port");
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.expect("a connection");
    let room = Room { permits: Arc::new(Semaphore::new(1)), crowd: Arc::default() };
    let (stream, _permit) = room.admit(client, WRITE_TIMEOUT).await.expect("a connection");
    assert_eq!(sockopt::tcp_user_timeout(&stream).expect("an option"), 30_000);
}
