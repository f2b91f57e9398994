//! How a session reaches the network, and says when it does not: the library tries again in silence.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use http::Uri;
use http::header::{HeaderValue, ORIGIN};
use tokio::net::TcpStream;
use tokio_websockets::{ClientBuilder, MaybeTlsStream, WebSocketStream};
use whatsapp_rust::anyhow::Context;
use whatsapp_rust::http::UreqHttpClient;
use whatsapp_rust::transport::{Connector, default_tls_connector, from_websocket};
use whatsapp_rust::wacore::net::{
    HttpClient, HttpRequest, HttpResponse, Transport, TransportEvent, TransportFactory, WHATSAPP_WEB_ORIGIN,
    WHATSAPP_WEB_WS_URL,
};
use whatsapp_rust::{anyhow, async_channel};

use crate::Event;
use crate::backlog;

/// The page that names the current version is some hundred kB long.
const PAGE: u64 = 16 * 1024 * 1024;

/// The longest for the page. Each question takes a thread, of which the process has some hundreds.
const FETCH: Duration = Duration::from_secs(15);

/// One for the process: it keeps connections and buffers.
static HTTP: LazyLock<UreqHttpClient> = LazyLock::new(|| {
    let agent = ureq::Agent::config_builder().timeout_global(Some(FETCH)).max_idle_connections(3).build();
    UreqHttpClient::with_agent(agent.into()).with_max_body_bytes(PAGE)
});

/// Made once: it holds the certificates that are trusted.
static TLS: LazyLock<Connector> = LazyLock::new(default_tls_connector);

/// Opens the line.
pub struct Dial {
    url: String,
    events: backlog::Sender<Event>,
}

impl Dial {
    pub fn new(endpoint: Option<&str>, events: backlog::Sender<Event>) -> Self {
        Self { url: endpoint.unwrap_or(WHATSAPP_WEB_WS_URL).to_owned(), events }
    }

    /// A WebSocket on a connection of its own. The library's own way does not turn Nagle's algorithm off: each stanza then
    /// waits for the acknowledgement of the one before it, which the other side delays by 40 ms.
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
impl TransportFactory for Dial {
    async fn create_transport(&self) -> anyhow::Result<(Arc<dyn Transport>, async_channel::Receiver<TransportEvent>)> {
        let opened = self.open().await;
        if let Err(error) = &opened {
            tell(&self.events, "cannot connect", error);
        }
        opened.map(from_websocket)
    }
}

/// Asks for the current version. Nothing else is fetched: there is no media, and no history.
pub struct Fetch {
    allowed: bool,
    events: backlog::Sender<Event>,
}

impl Fetch {
    pub fn new(allowed: bool, events: backlog::Sender<Event>) -> Self {
        Self { allowed, events }
    }
}

#[async_trait]
impl HttpClient for Fetch {
    async fn execute(&self, request: HttpRequest) -> anyhow::Result<HttpResponse> {
        anyhow::ensure!(self.allowed, "a session on loopback fetches nothing");
        let fetched = HTTP.execute(request).await;
        if let Err(error) = &fetched {
            tell(&self.events, "cannot ask for the current version of WhatsApp Web", error);
        }
        fetched
    }
}

fn tell(events: &backlog::Sender<Event>, what: &str, error: &anyhow::Error) {
    events.send(Event::Trouble { text: format!("{what}: {error:#}") });
}
