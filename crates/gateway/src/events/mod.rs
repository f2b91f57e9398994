//! Reading events in this process: one reader for the event stream and for webhooks, and the news that there are more.

pub mod render;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use recado_domain::event::{EventPage, EventQuery, EventSeq, Owner, Patterns};
use recado_domain::ids::InstitutionId;
use recado_store::{EventReader, Result, Store};
use tokio::sync::{Mutex as AsyncMutex, Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// How often the reader asks the store for new events while it has subscribers.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The wait after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// Connections of an institution that read the stream at a time.
pub const READERS: usize = 16;

/// The events of the store, as this process reads them.
pub struct Events {
    store: Arc<dyn Store>,
    /// On PostgreSQL a reader has a connection of its own, so there is one for all.
    reader: AsyncMutex<Box<dyn EventReader>>,
    /// Up to which number events can be read.
    news: watch::Sender<EventSeq>,
    asked: Notify,
    seats: Mutex<HashMap<InstitutionId, Arc<Semaphore>>>,
    /// Whose event log was found, or begun.
    logged: Mutex<HashSet<Owner>>,
}

/// A seat of an institution that reads the stream.
pub struct Seat(#[expect(dead_code, reason = "held until the reader goes")] OwnedSemaphorePermit);

impl Events {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            reader: AsyncMutex::new(store.event_reader()),
            store,
            news: watch::Sender::new(0),
            asked: Notify::new(),
            seats: Mutex::default(),
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
        let news = self.news.subscribe();
        self.asked.notify_one();
        news
    }

    /// A seat to read the stream; `None` where the institution has as many as it may.
    pub fn seat(&self, institution: InstitutionId) -> Option<Seat> {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        // Remove the semaphores of institutions without a connection, so that the map stays small.
        seats.retain(|_, free| free.available_permits() < READERS);
        let free = seats.entry(institution).or_insert_with(|| Arc::new(Semaphore::new(READERS)));
        free.clone().try_acquire_owned().ok().map(Seat)
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

    /// Asks the store for news until the server stops. Without a follower nothing is asked.
    async fn look(&self) {
        loop {
            if self.news.receiver_count() == 0 {
                self.asked.notified().await;
                continue;
            }
            let wait = match self.settled().await {
                Ok(settled) => {
                    self.news.send_if_modified(|known| {
                        let changed = *known != settled;
                        *known = settled;
                        changed
                    });
                    LOOK_EVERY
                }
                // A subscriber gets the error from its own read.
                Err(_) => RETRY,
            };
            tokio::time::sleep(wait).await;
        }
    }
}

/// Tells readers of the stream of new events, until the server stops.
pub async fn run(events: Arc<Events>, stop: CancellationToken) {
    stop.run_until_cancelled(events.look()).await;
}
