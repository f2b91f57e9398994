//! A client of whatsapp-rust on one account, and a contact that it writes to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fake_whatsapp::{Account, FakeWhatsApp};
use wacore::net::{HttpClient, HttpRequest, HttpResponse};
use wacore::store::InMemoryBackend;
use wacore::store::traits::DeviceStore as _;
use wacore::types::events::{ChannelEventHandler, Event};
use waproto::buffa::MessageField;
use waproto::whatsapp as wa;
use whatsapp_rust::bot::{Bot, BotHandle};
use whatsapp_rust::send::SendOptions;
use whatsapp_rust::transport::TokioWebSocketTransportFactory;
use whatsapp_rust::{Client, Jid, TokioRuntime};

pub const ACCOUNT: &str = "551140001000";
pub const LID: &str = "900000000000001";
/// A Brazilian mobile number: typed with the ninth digit, registered without it.
pub const TYPED: &str = "5531999990001";
pub const CONTACT: &str = "553199990001";
pub const CONTACT_LID: &str = "900000000000002";

const PATIENCE: Duration = Duration::from_secs(30);

/// Refuses every request, so that nothing leaves this machine.
struct NoHttp;

#[async_trait::async_trait]
impl HttpClient for NoHttp {
    async fn execute(&self, request: HttpRequest) -> anyhow::Result<HttpResponse> {
        anyhow::bail!("no HTTP in this test: {}", request.url)
    }
}

pub fn account() -> Account {
    Account::new(ACCOUNT, LID)
}

/// A network with the contact.
pub fn network() -> FakeWhatsApp {
    let whatsapp = FakeWhatsApp::start();
    whatsapp.add_contact(CONTACT, CONTACT_LID);
    whatsapp
}

/// The store of a device that is linked to the account.
pub async fn linked(whatsapp: &FakeWhatsApp) -> Arc<InMemoryBackend> {
    let store = Arc::new(InMemoryBackend::new());
    store.save(&whatsapp.linked_device(&account())).await.expect("a device is saved");
    store
}

pub struct TestSession {
    pub client: Arc<Client>,
    events: tokio::sync::mpsc::UnboundedReceiver<Arc<Event>>,
    handle: BotHandle,
}

impl TestSession {
    /// Starts a client, which may fail to connect.
    pub async fn start(whatsapp: &FakeWhatsApp, store: Arc<InMemoryBackend>) -> Self {
        let bot = Bot::builder()
            .with_backend_arc(store)
            .with_transport_factory(TokioWebSocketTransportFactory::new().with_url(whatsapp.url()))
            .with_http_client(NoHttp)
            .with_runtime(TokioRuntime)
            .with_version((2, 3000, 1))
            .build()
            .await
            .expect("a client");
        let client = bot.client();
        let (handler, received) = ChannelEventHandler::new();
        client.subscribe_handler(handler).detach();
        let (forward, events) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(event) = received.recv().await {
                let _ = forward.send(event);
            }
        });
        Self { client, events, handle: bot.spawn() }
    }

    /// Starts a client with a linked device, and waits until it is connected.
    pub async fn up(whatsapp: &FakeWhatsApp) -> Self {
        let mut session = Self::start(whatsapp, linked(whatsapp).await).await;
        session.connected().await;
        session
    }

    pub async fn connected(&mut self) {
        self.until("being connected", |event| matches!(event, Event::Connected(_)).then_some(())).await;
    }

    /// Waits for an event.
    pub async fn until<T>(&mut self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let mut seen = Vec::new();
        let wanted = async {
            loop {
                let event = self.events.recv().await.expect("the client goes on");
                if let Some(found) = pick(&event) {
                    return found;
                }
                seen.push(format!("{event:?}").chars().take(60).collect::<String>());
            }
        };
        let found = tokio::time::timeout(PATIENCE, wanted).await;
        found.unwrap_or_else(|_| panic!("waited in vain for {what}; there were {seen:#?}"))
    }

    /// Sends a card to a number under an id. A successful send does not mean that it was delivered.
    pub async fn send(&self, to: &str, id: &str) {
        let options = SendOptions::default().with_message_id(id);
        self.client.send_message_with_options(Jid::pn(to), card("Maria"), options).await.expect("it goes out");
    }

    /// Waits for the ack of a message, and returns its error.
    pub async fn ack(&mut self, id: &str) -> Option<String> {
        self.until("an ack", |event| match event {
            Event::ServerAck(ack) if ack.id == id => Some(ack.error.clone()),
            _ => None,
        })
        .await
    }

    pub async fn stop(self) {
        self.handle.shutdown().await;
    }
}

pub fn vcard(name: &str) -> String {
    format!("BEGIN:VCARD\nVERSION:3.0\nN:;{name};;;\nFN:{name}\nTEL;waid=5531988887777:+5531988887777\nEND:VCARD")
}

pub fn card(name: &str) -> wa::Message {
    let contact = wa::message::ContactMessage {
        display_name: Some(name.to_owned()),
        vcard: Some(vcard(name)),
        ..Default::default()
    };
    wa::Message { contact_message: MessageField::some(contact), ..Default::default() }
}

/// Waits for a condition that no event reports.
pub async fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
