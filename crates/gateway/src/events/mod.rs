//! Reading events in this process: one reader for the event stream and for webhooks, and
//! notifications that new events can be read.

mod reader;
pub mod render;
pub mod samples;
mod tail;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use recado_domain::event::{EventPage, EventQuery, EventSeq, Owner, Patterns};
use recado_domain::ids::InstitutionId;
use recado_store::{Result, Store};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use reader::SharedReader;
use tail::Tail;

/// How often the store is polled for new events while there is a follower.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The wait after a poll that failed.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// The most connections of an institution that read the stream at a time.
pub const MAX_CONNECTIONS: usize = 16;

/// The events of the store, as this process reads them.
pub struct Events {
    store: Arc<dyn Store>,
    reader: SharedReader,
    /// The number up to which events can be read, as the last poll found it.
    settled: watch::Sender<EventSeq>,
    /// The owners of the newest events. `tail` is changed before `settled`.
    tail: Mutex<Tail>,
    /// Notified when the first follower arrives.
    followed: Notify,
    connections: Mutex<HashMap<InstitutionId, Arc<Semaphore>>>,
}

/// Permits one connection of an institution to read the stream. Dropping it releases the permit.
pub struct ConnectionPermit(#[expect(dead_code, reason = "held until the connection ends")] OwnedSemaphorePermit);

impl Events {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            reader: SharedReader::new(store.event_reader()),
            store,
            settled: watch::Sender::new(0),
            tail: Mutex::default(),
            followed: Notify::new(),
            connections: Mutex::default(),
        }
    }

    /// The next events behind a cursor; `None` where the cursor is ahead of the store.
    pub async fn read(&self, query: EventQuery) -> Result<Option<EventPage>> {
        self.reader.read(query).await
    }

    /// The number up to which events can be read. The number includes every event that is committed at the time of the
    /// call, so the call waits for transactions that may still commit an earlier event. The call fails if such a
    /// transaction runs for long.
    pub async fn settled(&self) -> Result<EventSeq> {
        self.reader.newest().await
    }

    /// Reports the number up to which events can be read, whenever this number changes. While a receiver exists, the reader
    /// asks the store for new events.
    pub fn follow(&self) -> watch::Receiver<EventSeq> {
        let settled = self.settled.subscribe();
        self.followed.notify_one();
        settled
    }

    /// Moves the position of a reader of this owner over events of other owners, as far as this process knows these
    /// events without a read of the store. The second part of the result says whether events of the owner may follow.
    pub fn skip(&self, owner: Owner, position: EventSeq) -> (EventSeq, bool) {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let position = tail.skip(owner, position);
        (position, tail.may_follow(owner, position))
    }

    /// Permits one more connection to read the stream. `None`: the institution has reached its limit.
    pub fn permit_connection(&self, institution: InstitutionId) -> Option<ConnectionPermit> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        // Remove the semaphores of institutions without a connection, so that the map stays small.
        connections.retain(|_, permits| permits.available_permits() < MAX_CONNECTIONS);
        let permits = connections.entry(institution).or_insert_with(|| Arc::new(Semaphore::new(MAX_CONNECTIONS)));
        permits.clone().try_acquire_owned().ok().map(ConnectionPermit)
    }

    /// How many connections read the stream.
    pub fn connections(&self) -> usize {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.values().map(|permits| MAX_CONNECTIONS - permits.available_permits()).sum()
    }

    /// Which events are recorded for the stream. If no choice is stored, stores the default, which begins the
    /// recording.
    pub async fn begin_log(&self, owner: Owner) -> Result<Patterns> {
        match self.store.event_log(owner).await? {
            Some(log) => Ok(log),
            None => self.store.begin_event_log(owner, Patterns::default_log()).await,
        }
    }

    /// Polls the store for new events until the server stops. Without a follower it does not poll.
    async fn poll(&self) {
        loop {
            if self.settled.receiver_count() == 0 {
                self.followed.notified().await;
                continue;
            }
            // After a failure a follower gets the error from its own read.
            let wait = if self.poll_once().await.is_ok() { POLL_INTERVAL } else { RETRY_DELAY };
            tokio::time::sleep(wait).await;
        }
    }

    async fn poll_once(&self) -> Result<()> {
        let settled = self.reader.settled().await?;
        let known = self.tail.lock().unwrap_or_else(PoisonError::into_inner).end();
        let is_next = (known..=known.saturating_add(tail::LONGEST)).contains(&settled);
        let owners = if is_next && known < settled { self.reader.owners(known, settled).await? } else { Vec::new() };
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        // Otherwise there was no follower for long, or a promoted database server gives lower numbers.
        if is_next {
            tail.extend(settled, &owners);
        } else {
            tail.restart(settled);
        }
        drop(tail);
        self.settled.send_if_modified(|known| std::mem::replace(known, settled) != settled);
        Ok(())
    }
}

/// Notifies followers of new events until the server stops.
pub async fn run(events: Arc<Events>, stop: CancellationToken) {
    stop.run_until_cancelled(events.poll()).await;
}
