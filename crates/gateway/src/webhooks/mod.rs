//! Webhooks: events are sent to the URLs that callers gave.
//!
//! | File | |
//! |---|---|
//! | `sealing` | the secret and the headers of a webhook, sealed and opened |
//! | `post` | one signed request, and how it ended |
//! | `fan_out` | creates the deliveries of new events |
//! | `worker` | claims deliveries, sends them and settles them |
//! | `slots` | how many requests may be in flight |
//! | `tidy` | deliveries of disabled and deleted webhooks, and old ones |
//!
//! The rules are in `recado_domain::webhook`, and the store applies them. This module decides only when it asks the store, and
//! how many requests this process makes at a time.

mod fan_out;
mod post;
mod sealing;
mod slots;
mod tidy;
mod worker;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use recado_domain::clock::{Clock, Entropy, Millis};
use recado_domain::event::Owner;
use recado_domain::webhook::Webhook;
use recado_providers::outbound::address::Allowed;
use recado_providers::outbound::client::Client;
use recado_store::sealed::{KeyRing, SealError};
use recado_store::{Store, StoreError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::events::Events;
use crate::events::render::Body;
pub use post::Outcome;
use post::Request;
pub use sealing::Headers;
pub use slots::CONNECTIONS;

/// The longest pause after a use of the store.
const LONGEST_YIELD: Duration = Duration::from_millis(100);

/// Tests of webhooks at a time: of one institution, and of all.
const TESTS: (usize, usize) = (4, 32);

/// The state that the tasks and routes of webhooks share.
pub struct Webhooks {
    store: Arc<dyn Store>,
    events: Arc<Events>,
    secrets: Arc<KeyRing>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    client: Client,
    /// The address that is put before the path of a file.
    media_base: String,
    /// Notified when a webhook was created or changed.
    changed: Notify,
    /// Notified when deliveries may be due.
    due: Notify,
    /// Notified when a webhook was disabled or deleted.
    untidy: Notify,
    tests: Arc<Semaphore>,
    own_tests: Mutex<HashMap<Owner, Arc<Semaphore>>>,
    /// The owners that replay a range of deliveries now.
    replaying: Mutex<HashSet<Owner>>,
}

/// Permits a replay of a range of deliveries. Dropping it releases the permit.
pub struct ReplaySeat<'a> {
    webhooks: &'a Webhooks,
    owner: Owner,
}

impl ReplaySeat<'_> {
    /// Pauses after a batch that began at this time, so that callers can use the store.
    pub async fn rest(&self, began: Instant) {
        leave_to_callers(began, 1).await;
    }
}

impl Drop for ReplaySeat<'_> {
    fn drop(&mut self) {
        self.webhooks.replaying.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.owner);
    }
}

/// Permits a test. Dropping it releases the permit.
pub struct TestSeat {
    _seats: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Webhooks {
    /// Webhooks whose URLs may lead to these addresses, and an address that is put before the path of a file.
    pub fn new(
        (store, events): (Arc<dyn Store>, Arc<Events>),
        secrets: Arc<KeyRing>,
        (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>),
        (reach, media_base): (Allowed, &str),
    ) -> Self {
        Self {
            store,
            events,
            secrets,
            clock,
            entropy,
            client: Client::new(reach),
            media_base: media_base.to_owned(),
            changed: Notify::new(),
            due: Notify::new(),
            untidy: Notify::new(),
            tests: Arc::new(Semaphore::new(TESTS.1)),
            own_tests: Mutex::default(),
            replaying: Mutex::default(),
        }
    }

    /// The client of the requests.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Notifies the tasks that a webhook was created, changed or deleted.
    pub fn changed(&self) {
        self.changed.notify_one();
        self.untidy.notify_one();
        self.due.notify_one();
    }

    /// Notifies the worker that deliveries were scheduled.
    pub fn scheduled(&self) {
        self.due.notify_one();
    }

    /// Permits a test. `None`: too many tests run.
    pub fn test_seat(&self, owner: Owner) -> Option<TestSeat> {
        let mut own = self.own_tests.lock().unwrap_or_else(PoisonError::into_inner);
        // Remove the semaphores of owners without a test, so that the map stays small.
        own.retain(|_, free| free.available_permits() < TESTS.0);
        let free = own.entry(owner).or_insert_with(|| Arc::new(Semaphore::new(TESTS.0))).clone();
        let seats = (free.try_acquire_owned().ok()?, self.tests.clone().try_acquire_owned().ok()?);
        Some(TestSeat { _seats: seats })
    }

    /// Permits a replay of a range of deliveries. `None`: another such call of the owner runs.
    pub fn replay_seat(&self, owner: Owner) -> Option<ReplaySeat<'_>> {
        let mut replaying = self.replaying.lock().unwrap_or_else(PoisonError::into_inner);
        replaying.insert(owner).then_some(ReplaySeat { webhooks: self, owner })
    }

    /// Sends an example at once. Nothing of it is stored.
    pub async fn test(&self, webhook: &Webhook, body: &Body<'_>, _: TestSeat) -> Result<Outcome, SealError> {
        let now = self.clock.now();
        let opened = self.open(webhook, now)?;
        let request = Request { id: body.id(), body: body.text().into(), attempt: 1, replay: false };
        Ok(self.post(webhook, &opened, request).await)
    }

    /// The time that decides which deliveries are due. Nodes that share a database use the clock of the database.
    pub async fn now(&self) -> Result<Millis, StoreError> {
        Ok(self.store.clock().await?.unwrap_or_else(|| self.clock.now()))
    }
}

/// Pauses for as long as the store was used since this time, or this many times longer. So webhooks slow down before callers do.
async fn leave_to_callers(began: Instant, times: u32) {
    tokio::time::sleep(began.elapsed().min(LONGEST_YIELD) * times).await;
}

/// Sends events until the server stops. Then it drains: requests in flight end, and their outcomes are stored.
pub async fn run(webhooks: Arc<Webhooks>, shares: bool, stop: CancellationToken) {
    tokio::join!(
        fan_out::run(&webhooks, shares, &stop),
        stop.run_until_cancelled(tidy::run(&webhooks)),
        worker::Worker::new(webhooks.clone(), shares, stop.clone()).run(),
    );
}
