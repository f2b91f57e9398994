//! The client against servers on loopback, which the tests allow by name.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;

use super::idle::Times;
use super::lookups::LOOKUPS;
use super::*;

/// The times of a client that waits for long.
const TIMES: Times = Times { idle: Duration::from_mins(1), age: Duration::from_mins(1) };

/// Answers lookups from a list, one answer a lookup; the last one again and again.
struct Names {
    answers: Mutex<Vec<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

impl Names {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let addresses = |texts: &&[&str]| texts.iter().map(|text| text.parse().expect("an address")).collect();
        Arc::new(Self { answers: Mutex::new(answers.iter().map(addresses).collect()), asked: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let answers = self.answers.lock().expect("a lock");
        Ok(answers[asked.min(answers.len() - 1)].clone())
    }
}

fn client(networks: &[&str]) -> Client {
    let networks = networks.iter().map(|text| text.parse().expect("a network")).collect();
    Client::new(Allowed::new(networks, Vec::new()))
}

fn url(text: &str) -> TargetUrl {
    TargetUrl::parse(text).expect("a URL")
}

async fn post(client: &Client, text: &str) -> Result<Answer, Failure> {
    client.post(&url(text), None, HeaderMap::new(), Bytes::from_static(b"{}")).await
}

/// Serves one connection after another with these bytes; the port, and the requests that came.
async fn serve(answer: &'static [u8]) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = requests.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4_096];
            let read = stream.read(&mut request).await.unwrap_or(0);
            seen.lock().expect("a lock").push(String::from_utf8_lossy(&request[..read]).into_owned());
            drop(stream.write_all(answer).await);
        }
    });
    (port, requests)
}

const OK: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

#[tokio::test]
async fn a_body_is_posted_to_the_address_that_was_checked() {
    let (port, requests) = serve(OK).await;
    let mut client = client(&["127.0.0.1"]);
    // The second lookup would lead elsewhere: there is none.
    let names = Names::new(&[&["127.0.0.1"], &["127.0.0.2"]]);
    client.lookups = Lookups::new(names.clone());
    let answer = post(&client, &format!("http://hooks.example:{port}/a?b=c")).await.expect("an answer");
    assert_eq!(answer, Answer { status: StatusCode::NO_CONTENT, retry_after: None });
    assert_eq!(names.asked.load(Ordering::Relaxed), 1);
    let request = requests.lock().expect("a lock").concat();
    assert!(request.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{request}");
    assert!(request.to_lowercase().contains(&format!("host: hooks.example:{port}\r\n")), "{request}");
    assert!(request.ends_with("\r\n\r\n{}"), "{request}");
    // The name was changed: the next call checks what it is now.
    assert_eq!(post(&client, &format!("http://hooks.example:{port}/")).await, Err(Failure::AddressRefused));
}

#[tokio::test]
async fn every_address_of_a_name_must_be_allowed() {
    let mut client = client(&["127.0.0.1"]);
    for addresses in [
        &["127.0.0.2"][..],
        &["10.0.0.1"],
        &["169.254.169.254"],
        &["100.64.0.1"],
        &["224.0.0.1"],
        &["0.0.0.0"],
        &["192.0.2.1"],
        &["::1"],
        &["fe80::1"],
        &["fd00::1"],
        &["::ffff:10.0.0.1"],
        &["::10.0.0.1"],
        &["64:ff9b::a00:1"],
        &["2002:a00:1::"],
        // One of several.
        &["127.0.0.1", "10.0.0.1"],
        &["1.1.1.1", "127.0.0.2"],
    ] {
        client.lookups = Lookups::new(Names::new(&[addresses]));
        for scheme in ["http", "https"] {
            let answer = post(&client, &format!("{scheme}://hooks.example/")).await;
            assert_eq!(answer, Err(Failure::AddressRefused), "{scheme} {addresses:?}");
        }
    }
    // Public, but without TLS.
    client.lookups = Lookups::new(Names::new(&[&["1.1.1.1"]]));
    assert_eq!(post(&client, "http://hooks.example/").await, Err(Failure::AddressRefused));
}

#[tokio::test]
async fn literals_in_every_notation_are_refused() {
    let client = client(&[]);
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "127.1",
        "0177.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "0xa9fea9fe",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[fd00:ec2::254]",
        "[64:ff9b::7f00:1]",
        "0",
        "localhost",
    ] {
        for scheme in ["http", "https"] {
            let text = format!("{scheme}://{host}/");
            assert_eq!(post(&client, &text).await, Err(Failure::AddressRefused), "{text}");
            let by_text = host != "localhost" || scheme == "http";
            assert_eq!(client.refuses(&url(&text)), by_text, "{text}: a name is checked when it is called");
        }
    }
    assert!(!client.refuses(&url("https://1.1.1.1/")) && client.refuses(&url("http://1.1.1.1/")));
    // If networks are allowed, a name without TLS is accepted, because it may lead to such a network.
    assert!(!self::client(&["10.0.0.0/8"]).refuses(&url("http://hooks.example/")));
}

/// Looks up nothing below `dead.example`; other names lead to this machine.
#[derive(Default)]
struct Hangs {
    /// The lookups that hang.
    hanging: AtomicUsize,
}

#[async_trait]
impl Resolve for Hangs {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        if name.ends_with("dead.example") {
            self.hanging.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<()>().await;
        }
        Ok(vec![IpAddr::from([127, 0, 0, 1])])
    }
}

impl Hangs {
    async fn until(&self, count: usize) {
        let hang = async {
            while self.hanging.load(Ordering::Relaxed) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), hang).await.expect("the lookups begin");
    }
}

async fn post_for(client: &Client, of: u8, text: &str) -> Result<Answer, Failure> {
    let of = InstitutionId::from_bytes([of; 16]);
    client.post(&url(text), Some(of), HeaderMap::new(), Bytes::from_static(b"{}")).await
}

#[tokio::test]
async fn a_name_whose_lookup_was_given_up_takes_no_further_thread() {
    let (port, _) = serve(OK).await;
    let resolver = Arc::<Hangs>::default();
    let mut client = client(&["127.0.0.1"]);
    client.lookups = Lookups::new(resolver.clone());
    client.connect = Duration::from_millis(50);
    assert_eq!(post(&client, "http://dead.example/").await, Err(Failure::Timeout));
    assert_eq!(client.lookups.all.available_permits(), LOOKUPS.0 - 1, "its thread is busy");
    assert_eq!(post(&client, "http://dead.example/").await, Err(Failure::ConnectFailed));
    client.connect = CONNECT;
    for _ in 0..2 {
        post(&client, &format!("http://other.example:{port}/")).await.expect("an answer");
    }
    assert_eq!((client.lookups.all.available_permits(), resolver.hanging.load(Ordering::Relaxed)), (LOOKUPS.0 - 1, 1));
}

#[tokio::test]
async fn names_that_hang_delay_no_other_institution() {
    let (port, _) = serve(OK).await;
    let resolver = Arc::<Hangs>::default();
    let mut client = client(&["127.0.0.1"]).resolving_by(resolver.clone(), Duration::from_millis(500));
    (client.connect, client.total) = (Duration::from_mins(1), Duration::from_mins(1));
    let client = Arc::new(client);
    let mut dead = JoinSet::new();
    for n in 0..2 * LOOKUPS.0 {
        let client = client.clone();
        dead.spawn(async move { post_for(&client, 1, &format!("http://n{n}.dead.example/")).await });
    }
    resolver.until(LOOKUPS.1).await;
    let ok = format!("http://ok.example:{port}/");
    post_for(&client, 2, &ok).await.expect("an answer");
    // Those beyond the share were not called, and have not failed.
    while dead.len() > LOOKUPS.1 {
        let ended = timeout(Duration::from_secs(20), dead.join_next()).await.expect("in time").expect("a call");
        assert_eq!(ended.expect("no panic"), Err(Failure::Busy));
    }
    // Of another URL, which has no connection yet.
    assert_eq!(post_for(&client, 1, &format!("{ok}a")).await, Err(Failure::Busy), "the share is used up");
    post_for(&client, 2, &ok).await.expect("an answer");
    assert_eq!(resolver.hanging.load(Ordering::Relaxed), LOOKUPS.1);
}

#[tokio::test]
async fn the_wait_for_a_lookup_is_no_part_of_the_time_of_a_call() {
    let (port, _) = serve(OK).await;
    let mut client = client(&["127.0.0.1"]).resolving_by(Arc::<Hangs>::default(), Duration::from_secs(20));
    (client.connect, client.total) = (Duration::from_millis(500), Duration::from_millis(500));
    let taken = client.lookups.all.clone().acquire_many_owned(LOOKUPS.0.try_into().expect("few")).await.expect("free");
    let free = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(taken);
    };
    let ok = format!("http://ok.example:{port}/");
    let (answer, ()) = tokio::join!(post_for(&client, 1, &ok), free);
    assert_eq!(answer.map(|answer| answer.status), Ok(StatusCode::NO_CONTENT));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_leads_nowhere() {
    let (secret, requests) = serve(OK).await;
    let answer =
        format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:{secret}/\r\nContent-Length: 0\r\n\r\n");
    let (port, _) = serve(answer.leak().as_bytes()).await;
    let answer = post(&client(&["127.0.0.1"]), &format!("http://127.0.0.1:{port}/")).await.expect("an answer");
    assert_eq!(answer.status, StatusCode::TEMPORARY_REDIRECT);
    assert!(requests.lock().expect("a lock").is_empty());
}

#[tokio::test]
async fn the_wait_that_a_server_asks_for_is_told() {
    let (port, _) = serve(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n").await;
    let answer = post(&client(&["127.0.0.1"]), &format!("http://127.0.0.1:{port}/")).await;
    let retry_after = Some(RetryAfter::Wait(Duration::from_secs(7)));
    assert_eq!(answer, Ok(Answer { status: StatusCode::TOO_MANY_REQUESTS, retry_after }));
}

#[tokio::test]
async fn an_endless_body_is_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n").await.expect("written");
        let (chunk, mut sent) = (vec![0; 64 << 10], 0_usize);
        while stream.write_all(&chunk).await.is_ok() {
            sent += chunk.len();
        }
        sent
    });
    let answer = post(&client(&["127.0.0.1"]), &format!("http://127.0.0.1:{port}/")).await.expect("an answer");
    assert_eq!(answer.status, StatusCode::OK);
    // What the buffers of two sockets hold, and no more.
    let sent = serving.await.expect("an end");
    assert!(sent < 16 << 20, "{sent} bytes were taken");
}

/// Accepts one connection, writes the first bytes of an answer after a wait, and then one byte again and again.
async fn trickle(wait: Duration, first: &'static [u8], byte: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        tokio::time::sleep(wait).await;
        stream.write_all(first).await.expect("written");
        while stream.write_all(byte).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    port
}

#[tokio::test]
async fn a_head_that_trickles_has_its_time() {
    let port = trickle(Duration::ZERO, b"HTTP/1.1 200 OK\r\nx: ", b"a").await;
    let mut client = client(&["127.0.0.1"]);
    client.total = Duration::from_millis(300);
    let began = std::time::Instant::now();
    assert_eq!(post(&client, &format!("http://127.0.0.1:{port}/")).await, Err(Failure::Timeout));
    assert!(began.elapsed() < Duration::from_secs(10));
}

/// Otherwise a receiver that has answered 200 would get the same delivery again.
#[tokio::test]
async fn a_slow_body_does_not_take_back_its_head() {
    let port = trickle(Duration::from_millis(300), b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"a").await;
    let mut client = client(&["127.0.0.1"]);
    client.total = Duration::from_millis(800);
    let answer = post(&client, &format!("http://127.0.0.1:{port}/")).await;
    assert_eq!(answer.map(|answer| answer.status), Ok(StatusCode::OK));
}

#[tokio::test]
async fn an_address_that_swallows_packets_leaves_time_for_the_next() {
    let (port, _) = serve(OK).await;
    let silent = TcpSocket::new_v4().expect("a socket");
    silent.bind(SocketAddr::new([127, 0, 0, 2].into(), port)).expect("the same port");
    let listener = silent.listen(1).expect("listening");
    // No task accepts connections, so the kernel drops packets when the queue is full.
    let mut waiting = Vec::new();
    while let Ok(stream) =
        timeout(Duration::from_millis(200), TcpStream::connect(listener.local_addr().expect("an address"))).await
    {
        waiting.push(stream.expect("a connection"));
    }
    let mut client = client(&["127.0.0.0/8"]);
    client.connect = Duration::from_secs(2);
    client.lookups = Lookups::new(Names::new(&[&["127.0.0.2", "127.0.0.1"]]));
    let answer = post(&client, &format!("http://hooks.example:{port}/")).await;
    assert_eq!(answer.map(|answer| answer.status), Ok(StatusCode::NO_CONTENT));
    // A single address gets the whole time, and its failure is a timeout.
    client.connect = Duration::from_millis(200);
    client.lookups = Lookups::new(Names::new(&[&["127.0.0.2"]]));
    assert_eq!(post(&client, &format!("http://hooks.example:{port}/")).await, Err(Failure::Timeout));
}

#[tokio::test]
async fn an_endless_head_is_too_large() {
    let head: Vec<u8> = [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'a'; 200 << 10]].concat();
    let (port, _) = serve(head.leak()).await;
    let answer = post(&client(&["127.0.0.1"]), &format!("http://127.0.0.1:{port}/")).await;
    assert_eq!(answer, Err(Failure::TooLarge));
}

#[tokio::test]
async fn a_server_that_says_nothing_has_its_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let mut client = client(&["127.0.0.1"]);
    assert_eq!(client.total, TOTAL);
    client.total = Duration::from_millis(100);
    let answer = post(&client, &format!("http://127.0.0.1:{port}/")).await;
    assert_eq!(answer, Err(Failure::Timeout));
    drop(listener);
}

#[tokio::test]
async fn a_closed_port_is_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let answer = post(&client(&["127.0.0.1"]), &format!("http://127.0.0.1:{port}/")).await;
    assert_eq!(answer, Err(Failure::ConnectFailed));
}

#[tokio::test]
async fn tls_is_checked_by_the_name_in_the_url() {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["hooks.example".to_owned()]).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key))
        .expect("a configuration");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(server));
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            drop(stream.read(&mut [0; 4_096]).await);
            drop(stream.write_all(OK).await);
        }
    });
    let mut client = client(&["127.0.0.1"]);
    client.lookups = Lookups::new(Names::new(&[&["127.0.0.1"]]));
    let of = |name: &str| format!("https://{name}:{port}/");
    assert_eq!(post(&client, &of("hooks.example")).await, Err(Failure::TlsFailed), "nobody knows the certificate");
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).expect("a root");
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.tls = OnceLock::from(TlsConnector::from(Arc::new(config)));
    assert_eq!(post(&client, &of("hooks.example")).await.expect("an answer").status, StatusCode::NO_CONTENT);
    assert_eq!(post(&client, &of("other.example")).await, Err(Failure::TlsFailed), "another name");
}

/// Answers requests until the other side closes, and counts connections and requests. It closes each connection after
/// `most` requests, without a word.
fn serve_on(listener: TcpListener, most: usize) -> Arc<(AtomicUsize, AtomicUsize)> {
    let counted = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let counts = counted.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counts.0.fetch_add(1, Ordering::Relaxed);
            let counts = counts.clone();
            tokio::spawn(async move {
                for _ in 0..most {
                    if stream.read(&mut [0; 4_096]).await.unwrap_or(0) == 0 {
                        return;
                    }
                    counts.1.fetch_add(1, Ordering::Relaxed);
                    drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await);
                }
                // The client learns of the end only when it sends again.
                drop(stream.read(&mut [0; 4_096]).await);
            });
        }
    });
    counted
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

fn counts(counted: &(AtomicUsize, AtomicUsize)) -> (usize, usize) {
    (counted.0.load(Ordering::Relaxed), counted.1.load(Ordering::Relaxed))
}

#[tokio::test]
async fn a_connection_serves_the_next_call_of_the_same_url_alone() {
    let (listener, port) = listen().await;
    let counted = serve_on(listener, 100);
    let mut client = client(&["127.0.0.1"]);
    let names = Names::new(&[&["127.0.0.1"]]);
    client.lookups = Lookups::new(names.clone());
    let a = format!("http://hooks.example:{port}/a");
    for _ in 0..5 {
        assert_eq!(post(&client, &a).await.map(|answer| answer.status), Ok(StatusCode::OK));
    }
    assert_eq!((counts(&counted), names.asked.load(Ordering::Relaxed)), ((1, 5), 1));
    post(&client, &format!("http://hooks.example:{port}/b")).await.expect("an answer");
    assert_eq!(counts(&counted), (2, 6), "another URL has its own");
    // Calls at the same time have a connection each.
    let (one, other) = tokio::join!(post(&client, &a), post(&client, &a));
    assert!(one.is_ok() && other.is_ok());
    assert_eq!(counts(&counted), (3, 8));
}

#[tokio::test]
async fn an_old_connection_is_not_used_and_the_name_is_looked_up_again() {
    let (listener, port) = listen().await;
    let counted = serve_on(listener, 1_000);
    let mut client = client(&["127.0.0.1"]);
    client.idle = Pool::new(Times { age: Duration::from_secs(1), ..TIMES });
    // From the second lookup on, the name leads to a forbidden address.
    client.lookups = Lookups::new(Names::new(&[&["127.0.0.1"], &["127.0.0.2"]]));
    let a = format!("http://hooks.example:{port}/a");
    let began = Instant::now();
    let refused = loop {
        match post(&client, &a).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(failure) => break failure,
        }
    };
    let age = began.elapsed();
    assert_eq!((refused, counts(&counted).0), (Failure::AddressRefused, 1));
    assert!((Duration::from_millis(900)..Duration::from_secs(10)).contains(&age), "{age:?}");
    assert!(counts(&counted).1 > 1, "the connection was used again before");
}

#[tokio::test]
async fn a_connection_that_waits_is_closed_soon() {
    let (listener, port) = listen().await;
    let counted = serve_on(listener, 100);
    let mut client = client(&["127.0.0.1"]);
    client.idle = Pool::new(Times { idle: Duration::from_millis(500), ..TIMES });
    let a = format!("http://127.0.0.1:{port}/a");
    post(&client, &a).await.expect("an answer");
    assert_eq!(client.idle.waiting(), 1);
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    assert_eq!(client.idle.waiting(), 0, "closed without a further call");
    post(&client, &a).await.expect("an answer");
    assert_eq!(counts(&counted), (2, 2));
}

#[tokio::test]
async fn a_call_on_a_connection_that_the_server_closed_is_made_again() {
    let (listener, port) = listen().await;
    let counted = serve_on(listener, 1);
    let client = client(&["127.0.0.1"]);
    let a = format!("http://127.0.0.1:{port}/a");
    for _ in 0..3 {
        assert_eq!(post(&client, &a).await.map(|answer| answer.status), Ok(StatusCode::OK));
        assert_eq!(client.idle.waiting(), 1, "the server has not closed it yet");
    }
    assert_eq!(counts(&counted), (3, 3));
}

#[tokio::test]
async fn no_more_connections_wait_than_may() {
    let (listener, port) = listen().await;
    let counted = serve_on(listener, 100);
    let client = client(&["127.0.0.1"]);
    let a = format!("http://127.0.0.1:{port}/a");
    let calls = (0..20).map(|_| post(&client, &a));
    futures_util::future::join_all(calls).await.into_iter().for_each(|answer| assert!(answer.is_ok()));
    assert_eq!(client.idle.waiting(), 8);
    assert!(counts(&counted).0 > 8, "{:?}", counts(&counted));
}

#[test]
fn a_server_may_ask_for_a_wait_by_a_date() {
    let now = httpdate::parse_http_date("Mon, 30 Nov 2026 12:00:00 GMT").expect("a date");
    let wait = |text: &str| RetryAfter::parse(text).map(|asked| asked.wait(now).as_secs());
    for (text, expected) in [
        ("7", Some(7)),
        ("Mon, 30 Nov 2026 12:00:07 GMT", Some(7)),
        ("Monday, 30-Nov-26 12:00:07 GMT", Some(7)),
        ("Mon Nov 30 12:00:07 2026", Some(7)),
        ("Mon, 30 Nov 2026 11:00:00 GMT", Some(0)),
        ("-1", None),
        ("soon", None),
        ("", None),
    ] {
        assert_eq!(wait(text), expected, "{text}");
    }
}
