//! Connects a session to the network, and reports failures, which the library retries silently.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use http::Uri;
use http::header::{HeaderValue, ORIGIN};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_websockets::{ClientBuilder, MaybeTlsStream, WebSocketStream};
use whatsapp_rust::anyhow::Context;
use whatsapp_rust::http::UreqHttpClient;
use whatsapp_rust::transport::{Connector, default_tls_connector, from_websocket};
use whatsapp_rust::version::parse_sw_js;
use whatsapp_rust::wacore::net::{
    HttpClient, HttpRequest, HttpResponse, StreamingHttpResponse, Transport, TransportEvent, TransportFactory,
    WHATSAPP_WEB_ORIGIN, WHATSAPP_WEB_WS_URL,
};
use whatsapp_rust::{anyhow, async_channel};

use super::ConnectionState;
use crate::backlog;
use crate::{Event, Logins};

/// The page that names the current version has some hundred kB.
const PAGE: u64 = 16 * 1024 * 1024;

/// The time limit for the page. Each request occupies a thread, and the process has some hundreds.
const FETCH: Duration = Duration::from_secs(15);

/// The time limits for the connection to a host of files, and for the bytes of a file.
const FILE_CONNECT: Duration = Duration::from_secs(5);
const FILE: Duration = Duration::from_mins(10);
/// Most bytes of an encrypted file: 100 MiB with padding and checksum.
const FILE_BYTES: u64 = (100 << 20) + 1_024;

/// One client for the process, because it keeps connections and buffers.
static HTTP: LazyLock<UreqHttpClient> = LazyLock::new(|| http_client(FETCH));

/// The client for files. Each download occupies a thread, so its time is limited.
static FILES: LazyLock<UreqHttpClient> = LazyLock::new(|| {
    let agent = ureq::Agent::config_builder()
        .timeout_connect(Some(FILE_CONNECT))
        .timeout_recv_response(Some(FETCH))
        .timeout_recv_body(Some(FILE))
        .max_redirects(0)
        .max_idle_connections(3)
        .build();
    UreqHttpClient::with_agent(agent.into()).with_max_body_bytes(FILE_BYTES)
});

/// The library stops waiting for an answer by itself, but the request keeps the thread.
fn http_client(longest: Duration) -> UreqHttpClient {
    let agent = ureq::Agent::config_builder().timeout_global(Some(longest)).max_idle_connections(3).build();
    UreqHttpClient::with_agent(agent.into()).with_max_body_bytes(PAGE)
}

/// Created once, because it holds the trusted certificates.
static TLS: LazyLock<Connector> = LazyLock::new(default_tls_connector);

/// The time limit for a login slot, and for a connection. The library gives up after 20 seconds without a report.
const SLOT_TIMEOUT: Duration = Duration::from_secs(11);
const CONNECT: Duration = Duration::from_secs(8);

/// Opens connections at the login rate of the process.
pub struct Dialer {
    url: String,
    logins: Logins,
    state: Arc<ConnectionState>,
    /// The session waited for a slot when it was opened.
    has_slot: AtomicBool,
    events: backlog::Sender<Event>,
}

impl Dialer {
    pub fn new(
        endpoint: Option<&str>,
        logins: &Logins,
        state: &Arc<ConnectionState>,
        events: backlog::Sender<Event>,
    ) -> Self {
        let (url, has_slot) = (endpoint.unwrap_or(WHATSAPP_WEB_WS_URL).to_owned(), AtomicBool::new(true));
        Self { url, logins: logins.clone(), state: Arc::clone(state), has_slot, events }
    }

    /// Waits for a login slot, unless the session already has one.
    async fn acquire_slot(&self) -> anyhow::Result<()> {
        if self.has_slot.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let pairing = self.state.pairing.load(Ordering::Relaxed);
        timeout(SLOT_TIMEOUT, self.logins.acquire(pairing)).await.context("too many sessions wait to connect")
    }

    /// Opens a WebSocket on its own connection. The library's own transport leaves Nagle's algorithm on: each stanza then
    /// waits for the acknowledgement of the previous one, which the other side delays by 40 ms.
    async fn open(&self) -> anyhow::Result<WebSocketStream<MaybeTlsStream<TcpStream>>> {
        let uri: Uri = self.url.parse()?;
        let host = uri.host().context("the address has no host")?;
        let (connector, port) = match uri.scheme_str() {
            Some("ws") => (&Connector::Plain, 80),
            _ => (&*TLS, 443),
        };
        let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(port))).await?;
        stream.set_nodelay(true)?;
        let stream = connector.wrap(host, stream).await?;
        let request = ClientBuilder::from_uri(uri).add_header(ORIGIN, HeaderValue::from_static(WHATSAPP_WEB_ORIGIN))?;
        Ok(request.connect_on(stream).await?.0)
    }
}

#[async_trait]
impl TransportFactory for Dialer {
    async fn create_transport(&self) -> anyhow::Result<(Arc<dyn Transport>, async_channel::Receiver<TransportEvent>)> {
        self.acquire_slot().await?;
        let begun = Instant::now();
        let opened = timeout(CONNECT, self.open()).await.context("no connection in time").flatten();
        self.logins.note(begun, opened.is_ok());
        if let Err(error) = &opened {
            report(&self.events, "cannot connect", error);
        }
        opened.map(from_websocket)
    }
}

/// Fetches the current version, the account's settings and the bytes of files. No history is fetched.
pub struct Fetch {
    allowed: bool,
    files: Files,
    events: backlog::Sender<Event>,
}

impl Fetch {
    pub fn new(endpoint: Option<&str>, events: backlog::Sender<Event>) -> Self {
        Self { allowed: endpoint.is_none(), files: Files::new(endpoint), events }
    }
}

#[async_trait]
impl HttpClient for Fetch {
    async fn execute(&self, request: HttpRequest) -> anyhow::Result<HttpResponse> {
        anyhow::ensure!(self.allowed, "a session on loopback fetches nothing");
        if request.url != VERSION_PAGE {
            return HTTP.execute(request).await;
        }
        let fetched = VERSION.get(|| HTTP.execute(request)).await;
        if let Err(error) = &fetched {
            report(&self.events, "cannot ask for the current version of WhatsApp Web", error);
        }
        fetched
    }

    fn supports_streaming(&self) -> bool {
        true
    }

    fn execute_streaming(&self, request: HttpRequest) -> anyhow::Result<StreamingHttpResponse> {
        self.files.execute_streaming(request)
    }
}

/// Fetches the bytes of files. Those of a session on loopback are at the session's server.
pub struct Files {
    /// The address of a server on loopback.
    loopback: Option<String>,
}

impl Files {
    pub fn new(endpoint: Option<&str>) -> Self {
        let authority = |url: &str| Some(url.split_once("://")?.1.split(['/', '?', '#']).next()?.to_owned());
        Self { loopback: endpoint.and_then(authority) }
    }

    /// Where a file is. The library adds its parameters with a question mark, also to a path that has parameters already.
    fn address(&self, url: &str) -> Option<String> {
        let (host, path) = url.strip_prefix("https://")?.split_once('/')?;
        let (path, parameters) = path.split_once('?').unwrap_or((path, ""));
        let parameters = parameters.replace('?', "&");
        let (scheme, host) = self.loopback.as_deref().map_or(("https", host), |authority| ("http", authority));
        Some(format!("{scheme}://{host}/{path}?{parameters}"))
    }
}

#[async_trait]
impl HttpClient for Files {
    async fn execute(&self, _: HttpRequest) -> anyhow::Result<HttpResponse> {
        anyhow::bail!("files are streamed")
    }

    fn supports_streaming(&self) -> bool {
        true
    }

    fn execute_streaming(&self, request: HttpRequest) -> anyhow::Result<StreamingHttpResponse> {
        let url = self.address(&request.url).context("a file is fetched with TLS alone")?;
        FILES.execute_streaming(HttpRequest { url, ..request })
    }
}

/// The page that names the current version. The library requests this address.
const VERSION_PAGE: &str = "https://web.whatsapp.com/sw.js";
/// How long a fetched page is used for all sessions.
const GOOD: Duration = Duration::from_hours(1);
/// How long the page is not requested again after a failure.
const MISSED: Duration = Duration::from_secs(30);

/// The last page that names the current version, shared by the sessions of the process. Concurrent sessions share one
/// request.
static VERSION: Page = Page::new(GOOD, MISSED);

struct Page {
    asked: Mutex<Option<Asked>>,
    good: Duration,
    missed: Duration,
}

/// The result of the last request.
struct Asked {
    at: Instant,
    /// The last page that was fetched, also by an earlier request.
    page: Option<HttpResponse>,
    /// Why the last request failed.
    error: Option<String>,
}

impl Page {
    const fn new(good: Duration, missed: Duration) -> Self {
        Self { asked: Mutex::const_new(None), good, missed }
    }

    async fn get<F: Future<Output = anyhow::Result<HttpResponse>>>(
        &self,
        ask: impl FnOnce() -> F,
    ) -> anyhow::Result<HttpResponse> {
        let mut asked = self.asked.lock().await;
        let kept = |asked: &Asked| if asked.error.is_some() { self.missed } else { self.good };
        if asked.as_ref().is_none_or(|asked| asked.at.elapsed() >= kept(asked)) {
            // A copy: a session that is dropped during its request must not remove the page for the others.
            let former = asked.as_ref().and_then(|asked| asked.page.clone());
            let (page, error) = match ask().await {
                // A proxy may answer with another page.
                Ok(page) if names_version(&page) => (Some(page), None),
                Ok(page) => (former, Some(format!("the answer ({}) names no version", page.status_code))),
                Err(error) => (former, Some(format!("{error:#}"))),
            };
            *asked = Some(Asked { at: Instant::now(), page, error });
        }
        let error = || asked.as_ref().and_then(|asked| asked.error.clone()).unwrap_or_default();
        asked.as_ref().and_then(|asked| asked.page.clone()).ok_or_else(|| anyhow::anyhow!(error()))
    }
}

fn names_version(page: &HttpResponse) -> bool {
    page.status_code == 200 && std::str::from_utf8(&page.body).is_ok_and(|text| parse_sw_js(text).is_some())
}

fn report(events: &backlog::Sender<Event>, what: &str, error: &anyhow::Error) {
    events.send(Event::Trouble { text: format!("{what}: {error:#}") });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn answer(status_code: u16, revision: &str) -> HttpResponse {
        HttpResponse { status_code, body: format!("{{\\\"client_revision\\\":{revision}}}").into() }
    }

    async fn ask(page: &Page, status_code: u16, revision: &str) -> String {
        let page = page.get(async || Ok(answer(status_code, revision))).await.expect("a page");
        let (_, _, revision) = parse_sw_js(std::str::from_utf8(&page.body).expect("text")).expect("a version");
        revision.to_string()
    }

    #[test]
    fn a_file_is_at_a_host_with_tls_or_on_loopback() {
        let address = |endpoint: Option<&str>, url: &str| Files::new(endpoint).address(url);
        let url = "https://mmg.whatsapp.net/v/t62.7118-24/1_n.enc?ccb=11-4&oh=a?auth=b&token=c";
        let there = "https://mmg.whatsapp.net/v/t62.7118-24/1_n.enc?ccb=11-4&oh=a&auth=b&token=c";
        assert_eq!(address(None, url).as_deref(), Some(there));
        let here = "http://127.0.0.1:7701/v/t62.7118-24/1_n.enc?ccb=11-4&oh=a&auth=b&token=c";
        assert_eq!(address(Some("ws://127.0.0.1:7701/ws/chat"), url).as_deref(), Some(here));
        for bad in ["http://mmg.whatsapp.net/v/1", "https://mmg.whatsapp.net", "/v/1", ""] {
            assert_eq!(address(None, bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn no_other_page_is_answered_with_this_one() {
        let (events, _heard) = backlog::channel();
        let request = HttpRequest::get("http://127.0.0.1:1/of-an-account");
        let fetched = Fetch::new(None, events).execute(request).await;
        assert!(fetched.is_err(), "nothing listens there");
        assert!(VERSION.asked.lock().await.is_none(), "and nothing of it was kept");
    }

    #[tokio::test]
    async fn a_page_without_an_answer_blocks_no_thread() {
        // The operating system accepts the connection, and nothing answers on it.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = silent.local_addr().expect("bound");
        let request = HttpRequest::get(format!("http://{address}/sw.js"));
        let fetched = timeout(Duration::from_mins(1), http_client(Duration::from_millis(200)).execute(request)).await;
        assert!(fetched.expect("the thread is given back").is_err());
        let librarys_own = Duration::from_secs(20);
        assert!(FETCH < librarys_own, "what the library waits for has ended by then");
    }

    #[tokio::test]
    async fn sessions_share_one_request() {
        let (page, asked) = (Page::new(HOUR, HOUR), AtomicUsize::new(0));
        let ask = || {
            page.get(async || {
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok(answer(200, "1"))
            })
        };
        let (first, second) = tokio::join!(ask(), ask());
        assert_eq!(first.unwrap().body, second.unwrap().body);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn the_last_page_is_used_when_a_request_fails() {
        for (missed, next) in [(HOUR, "1"), (Duration::ZERO, "3")] {
            let page = Page::new(Duration::ZERO, missed);
            assert_eq!(ask(&page, 200, "1").await, "1");
            assert_eq!(ask(&page, 503, "2").await, "1");
            let page_of_a_proxy = HttpResponse { status_code: 200, body: b"please log in".into() };
            assert_eq!(
                page.get(async || Ok(page_of_a_proxy)).await.expect("the former page").body,
                answer(200, "1").body
            );
            assert_eq!(ask(&page, 200, "3").await, next, "asked again after {missed:?}");
        }
    }

    #[tokio::test]
    async fn a_dropped_caller_leaves_the_request_to_the_next_and_errors_are_shared() {
        let page = Page::new(HOUR, HOUR);
        let gone = timeout(Duration::from_millis(1), page.get(std::future::pending)).await;
        assert!(gone.is_err());
        let failed = page.get(async || Err(anyhow::anyhow!("no route"))).await.expect_err("no page");
        assert_eq!(failed.to_string(), "no route");
        let failed = page.get(std::future::pending).await.expect_err("not asked again yet");
        assert_eq!(failed.to_string(), "no route");
    }
}
