//! How a session reaches the network, and says when it does not: the library tries again in silence.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use whatsapp_rust::http::UreqHttpClient;
use whatsapp_rust::transport::TokioWebSocketTransportFactory;
use whatsapp_rust::wacore::net::{HttpClient, HttpRequest, HttpResponse, Transport, TransportEvent, TransportFactory};
use whatsapp_rust::{anyhow, async_channel};

use crate::Event;
use crate::backlog;

/// The page that names the current version is some hundred kB long.
const PAGE: u64 = 16 * 1024 * 1024;

/// One for the process: it keeps connections and buffers.
static HTTP: LazyLock<UreqHttpClient> = LazyLock::new(|| UreqHttpClient::new().with_max_body_bytes(PAGE));

/// Opens the line.
pub struct Dial {
    transport: TokioWebSocketTransportFactory,
    events: backlog::Sender<Event>,
}

impl Dial {
    pub fn new(endpoint: Option<&str>, events: backlog::Sender<Event>) -> Self {
        let transport = TokioWebSocketTransportFactory::new();
        Self {
            transport: match endpoint {
                Some(url) => transport.with_url(url),
                None => transport,
            },
            events,
        }
    }
}

#[async_trait]
impl TransportFactory for Dial {
    async fn create_transport(&self) -> anyhow::Result<(Arc<dyn Transport>, async_channel::Receiver<TransportEvent>)> {
        let opened = self.transport.create_transport().await;
        if let Err(error) = &opened {
            tell(&self.events, "cannot connect", error);
        }
        opened
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
