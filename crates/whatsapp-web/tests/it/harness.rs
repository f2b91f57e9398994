//! A session against the loopback server, linked without pairing: the harness writes its device into the rows as a pairing
//! would. Logins then know the server's key and check no certificate, so the build is the shipped one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fake_whatsapp::{Account, FakeWhatsApp};
use recado_whatsapp_web::{
    Addressee, Body, Card, Change, Event, Kind, Logins, Options, Outgoing, Rows, Session, backlog,
};
use tokio::time::timeout;

use crate::memory_inbox::MemoryInbox;

pub const ACCOUNT: &str = "551140001000";
pub const ACCOUNT_LID: &str = "900000000000001";
pub const PEER: &str = "553199990001";
pub const PEER_LID: &str = "900000000000002";
pub const VCARD: &str = "BEGIN:VCARD\nVERSION:3.0\nFN:Maria\nTEL;waid=5531988887777:+5531988887777\nEND:VCARD";

const PATIENCE: Duration = Duration::from_mins(1);

pub fn options(url: &str) -> Options {
    Options { url: Some(url.into()), version: None, device_name: "Recado".into(), logins: Logins::new(1_000) }
}

/// A network that knows one contact.
pub fn network() -> FakeWhatsApp {
    let whatsapp = FakeWhatsApp::start();
    whatsapp.add_contact(PEER, PEER_LID);
    whatsapp
}

pub fn account() -> Account {
    Account::new(ACCOUNT, ACCOUNT_LID)
}

/// Writes a linked device into the rows.
pub async fn link(whatsapp: &FakeWhatsApp, rows: &dyn Rows) -> Result<()> {
    put_device(rows, serde_json::to_vec(&whatsapp.linked_device(&account()))?).await
}

pub async fn put_device(rows: &dyn Rows, value: Vec<u8>) -> Result<()> {
    rows.write(vec![Change::Put { kind: Kind::Device, key: Vec::new(), value, stamp: 0 }]).await?;
    Ok(())
}

/// A session and its events.
pub struct Client {
    pub session: Session,
    pub events: backlog::Receiver<Event>,
    /// What arrived.
    pub inbox: Arc<MemoryInbox>,
}

impl Client {
    pub async fn open(whatsapp: &FakeWhatsApp, rows: Arc<dyn Rows>) -> Result<Self> {
        Self::open_at(&whatsapp.url(), rows).await
    }

    async fn open_at(url: &str, rows: Arc<dyn Rows>) -> Result<Self> {
        let (sender, events) = backlog::channel();
        let inbox = Arc::new(MemoryInbox::default());
        let session = Session::open(rows, &options(url), inbox.clone(), sender).await?;
        Ok(Self { session, events, inbox })
    }

    /// Opens a session, and waits until it is connected.
    pub async fn up(whatsapp: &FakeWhatsApp, rows: Arc<dyn Rows>) -> Result<Self> {
        Self::up_at(&whatsapp.url(), rows).await
    }

    pub async fn up_at(url: &str, rows: Arc<dyn Rows>) -> Result<Self> {
        let mut client = Self::open_at(url, rows).await?;
        client.until(|event| *event == Event::Up).await?;
        Ok(client)
    }

    /// Waits for the first event that fits, and skips the others.
    pub async fn until(&mut self, fits: impl Fn(&Event) -> bool) -> Result<Event> {
        let mut passed = Vec::new();
        let found = async {
            while let Some(event) = self.events.recv().await {
                if fits(&event) {
                    return Ok(event);
                }
                passed.push(event);
            }
            bail!("the events ended")
        };
        let found = timeout(PATIENCE, found).await;
        found.map_err(anyhow::Error::from).flatten().with_context(|| format!("after {passed:?}"))
    }

    pub async fn acked(&mut self, id: &str) -> Result<()> {
        self.until(|event| *event == Event::Acked { id: id.into() }).await.map(drop)
    }

    pub async fn send(&mut self, id: &str) -> Result<()> {
        self.session.submit(&card(id)).await?;
        self.acked(id).await
    }
}

/// A card for the contact.
pub fn card(id: &str) -> Outgoing {
    Outgoing {
        id: id.into(),
        to: Addressee::Number(PEER.into()),
        body: Body::Contact(Card { display_name: "Maria".into(), vcard: VCARD.into() }),
        quote: None,
        refresh: false,
    }
}
