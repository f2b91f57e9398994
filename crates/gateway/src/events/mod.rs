//! Reading events in this process: one reader for the event stream and for webhooks, and
//! notifications that new events can be read.

pub mod render;
pub mod samples;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use recado_domain::event::{EventPage, EventQuery, EventSeq, Owner, Patterns};
use recado_domain::ids::InstitutionId;
use recado_store::{EventReader, Result, Store};
use tokio::sync::{Mutex as AsyncMutex, Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// How often the store is polled for new events while somebody follows them.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The wait after a poll that failed.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// The most connections of an institution that read the stream at a time.
pub const MAX_CONNECTIONS: usize = 16;

/// The events of the store, as this process reads them.
pub struct Events {
    store: Arc<dyn Store>,
    /// On PostgreSQL a reader has a connection of its own, so there is one for all.
    reader: AsyncMutex<Box<dyn EventReader>>,
    /// The number up to which events can be read, as the last poll found it.
    settled: watch::Sender<EventSeq>,
    /// Notified when the first follower arrives.
    followed: Notify,
    connections: Mutex<HashMap<InstitutionId, Arc<Semaphore>>>,
    /// Owners that are known to have an event log.
    logged: Mutex<HashSet<Owner>>,
}

/// Permits one connection of an institution to read the stream. Dropping it releases the permit.
pub struct ConnectionPermit(#[expect(dead_code, reason = "held until the connection ends")] OwnedSemaphorePermit);

impl Events {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            reader: AsyncMutex::new(store.event_reader()),
            store,
            settled: watch::Sender::new(0),
            followed: Notify::new(),
            connections: Mutex::default(),
            logged: Mutex::default(),
        }
    }

    /// The next events behind a cursor; `None` where the cursor is ahead of the store.
    pub async fn read(&self, query: EventQuery) -> Result<Option<EventPage>> {
        self.reader.lock().await.read(query).await
    }

    /// Up to which number every event is there, or never will be.
    pub async fn settled(&self) -> Result<EventSeq> {
        self.reader.lock().await.settled().await
    }

    /// Reports the number up to which events can be read, whenever this number changes. While a receiver exists, the reader
    /// asks the store for new events.
    pub fn follow(&self) -> watch::Receiver<EventSeq> {
        let settled = self.settled.subscribe();
        self.followed.notify_one();
        settled
    }

    /// Permits one more connection to read the stream; `None` where the institution has as many as it may.
    pub fn permit_connection(&self, institution: InstitutionId) -> Option<ConnectionPermit> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        // Remove the semaphores of institutions without a connection, so that the map stays small.
        connections.retain(|_, permits| permits.available_permits() < MAX_CONNECTIONS);
        let permits = connections.entry(institution).or_insert_with(|| Arc::new(Semaphore::new(MAX_CONNECTIONS)));
        permits.clone().try_acquire_owned().ok().map(ConnectionPermit)
    }

    /// Begins to record events for the stream where nothing has said what to record.
    pub async fn begin_log(&self, owner: Owner) -> Result<()> {
        if self.logged.lock().unwrap_or_else(PoisonError::into_inner).contains(&owner) {
            return Ok(());
        }
        if self.store.event_log(owner).await?.is_none() {
            self.store.set_event_log(owner, Patterns::default_log()).await?;
        }
        self.logged.lock().unwrap_or_else(PoisonError::into_inner).insert(owner);
        Ok(())
    }

    /// Polls the store for new events until the server stops. Without a follower it does not poll.
    async fn poll(&self) {
        loop {
            if self.settled.receiver_count() == 0 {
                self.followed.notified().await;
                continue;
            }
            let wait = match self.settled().await {
                Ok(settled) => {
                    self.settled.send_if_modified(|known| {
                        let changed = *known != settled;
                        *known = settled;
                        changed
                    });
                    POLL_INTERVAL
                }
                // A follower gets the error from its own read.
                Err(_) => RETRY_DELAY,
            };
            tokio::time::sleep(wait).await;
        }
    }
}

/// Notifies followers of new events until the server stops.
pub async fn run(events: Arc<Events>, stop: CancellationToken) {
    stop.run_until_cancelled(events.poll()).await;
}
