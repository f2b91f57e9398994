//! What a session does by itself, tested from inside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use fake_whatsapp::{Account, FakeWhatsApp};
use tokio::time::timeout;

use super::Session;
use crate::memory_inbox::MemoryInbox as Inbox;
use crate::memory_rows::MemoryRows;
use crate::{Change, Event, Kind, Logins, Options, Rows, RowsError, backlog};

const PATIENCE: Duration = Duration::from_mins(1);

/// Rows that refuse to store the device while `refuses` is set.
#[derive(Default)]
struct Stubborn {
    rows: MemoryRows,
    refuses: AtomicBool,
}

#[async_trait]
impl Rows for Stubborn {
    async fn get(&self, kind: Kind, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Vec<u8>>>, RowsError> {
        self.rows.get(kind, keys).await
    }

    async fn list(&self, kind: Kind, prefix: Vec<u8>) -> Result<Vec<(Vec<u8>, Vec<u8>)>, RowsError> {
        self.rows.list(kind, prefix).await
    }

    async fn write(&self, changes: Vec<Change>) -> Result<recado_domain::channel::DeletedRows, RowsError> {
        let is_device = |change: &Change| matches!(change, Change::Put { kind: Kind::Device, .. });
        if self.refuses.load(Ordering::Relaxed) && changes.iter().any(is_device) {
            return Err(RowsError("the disk is full".to_owned()));
        }
        self.rows.write(changes).await
    }
}

/// A connected session.
async fn up(whatsapp: &FakeWhatsApp, rows: Arc<Stubborn>) -> (Session, backlog::Receiver<Event>) {
    let (url, logins) = (Some(whatsapp.url()), Logins::new(1_000));
    let options = Options { url, version: None, device_name: "Recado".to_owned(), logins };
    let (sender, mut events) = backlog::channel();
    let session = Session::open(rows, &options, Arc::new(Inbox::default()), sender).await.expect("opened");
    until(&mut events, &Event::Up).await;
    (session, events)
}

async fn until(events: &mut backlog::Receiver<Event>, wanted: &Event) {
    let received = async { while events.recv().await.expect("it lives") != *wanted {} };
    timeout(PATIENCE, received).await.unwrap_or_else(|_| panic!("waited in vain for {wanted:?}"));
}

/// The library's saver gives up after ten failures, and the session would continue without it.
#[tokio::test]
async fn a_session_whose_device_cannot_be_stored_ends_and_can_be_reopened() {
    let (whatsapp, rows) = (FakeWhatsApp::start(), Arc::new(Stubborn::default()));
    let device = whatsapp.linked_device(&Account::new("551140001000", "900000000000001"));
    let value = serde_json::to_vec(&device).expect("a device");
    rows.write(vec![Change::Put { kind: Kind::Device, key: Vec::new(), value, stamp: 0 }]).await.expect("written");
    let (session, mut events) = up(&whatsapp, rows.clone()).await;
    rows.refuses.store(true, Ordering::Relaxed);
    let saver = session.client.persistence_manager();
    let gives_up = async {
        while !saver.is_saver_halted() {
            saver.modify_device(|_| ()).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, gives_up).await.expect("the saver tries ten times");
    until(&mut events, &Event::Stopped).await;

    // The reopened session stores again.
    rows.refuses.store(false, Ordering::Relaxed);
    let (session, _events) = up(&whatsapp, rows.clone()).await;
    let (saver, written) = (session.client.persistence_manager(), rows.rows.writes());
    saver.modify_device(|_| ()).await;
    timeout(PATIENCE, async {
        while rows.rows.writes() == written {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("a write");
    assert!(!saver.is_saver_halted());
}
