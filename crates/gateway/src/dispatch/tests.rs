//! The dispatcher with a real store, a scripted network and a clock that the test controls.

mod attempts;
mod conversations;
mod failures;
mod faulty_store;
mod network;
mod stops;
mod waits;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering as Atomic};
use std::time::{Duration, Instant};

use recado_domain::channel::ChannelState;
use recado_domain::clock::{Millis, millis};
use recado_domain::ids::MessageId;
use recado_domain::pacing::Pacing;
use recado_domain::queue::{Claim, Claimed};
use recado_domain::status::MessageStatus;
use recado_providers::SendOutcome;
use recado_providers::sandbox::Sandbox;
use recado_store::clock::SystemEntropy;
use recado_store::fixtures::{DAY, Ground, NOW, SqliteFile, sent};
use tempfile::TempDir;

use super::*;
use faulty_store::{Fault, FaultyStore, Hindrance, Operation};
use network::{Act, Network, channel_failure, no_answer, temporary_failure};

/// Waits for a result that must come, and fails clearly when it does not.
async fn within_timeout<T>(something: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), something).await.expect("it comes in time")
}

/// A clock that a test moves, and that can also run by itself.
struct ManualClock {
    at: AtomicI64,
    runs_since: Option<Instant>,
}

impl Clock for ManualClock {
    fn now(&self) -> Millis {
        let ran = self.runs_since.map_or(Duration::ZERO, |since| since.elapsed());
        self.at.load(Atomic::SeqCst) + Millis::try_from(ran.as_millis()).expect("a short test")
    }
}

/// A running dispatcher.
struct DispatcherHarness {
    ground: Ground,
    store: Arc<FaultyStore>,
    network: Arc<Network>,
    clock: Arc<ManualClock>,
    directory: Arc<Directory>,
    dispatcher: Dispatcher,
    channel: ChannelKey,
    _sandbox: TempDir,
}

impl DispatcherHarness {
    async fn new(network: Network) -> Self {
        let ground = Ground::on(SqliteFile::new()).await;
        let channel = ground.channel_of(network.kind(), "loja").await;
        let harness = Self::over(ground, channel, network, None).await;
        harness.dispatcher.start().await.expect("the store works");
        harness
    }

    async fn over(ground: Ground, channel: ChannelKey, network: Network, runs_since: Option<Instant>) -> Self {
        let store = Arc::new(FaultyStore::new(ground.store.clone()));
        let network = Arc::new(network);
        let clock = Arc::new(ManualClock { at: AtomicI64::new(NOW), runs_since });
        let directory = Arc::new(Directory::new(vec![], &ground.store.channels().await.expect("read")));
        let dir = tempfile::tempdir().expect("a directory");
        let sandbox =
            Sandbox::open(&dir.path().join("sandbox.db"), Pacing::default(), clock.clone(), ground.store.clone());
        let drivers = Drivers::new(Arc::new(sandbox)).with(network.kind(), network.clone());
        let queue: (Arc<dyn Queue>, _) = (store.clone(), ground.store.health());
        let chance: (Arc<dyn Clock>, Arc<dyn Entropy>) = (clock.clone(), Arc::new(SystemEntropy));
        let dispatcher = Dispatcher::new(queue, Arc::new(drivers), directory.clone(), chance, Leases::standalone());
        Self { ground, store, network, clock, directory, dispatcher, channel, _sandbox: dir }
    }

    async fn accept(&self, recipient: &str) -> MessageId {
        let id = self.ground.accept(self.channel, recipient).await;
        self.dispatcher.notify(self.channel, WakeReason::Accepted);
        id
    }

    /// Moves the clock, and wakes the channel, whose sleep uses the real clock.
    fn advance(&self, time: Millis) {
        self.clock.at.fetch_add(time, Atomic::SeqCst);
        self.dispatcher.wake(self.channel);
    }

    async fn status(&self, id: MessageId) -> MessageStatus {
        self.ground.status(self.channel, id).await
    }

    /// The ids of the sent messages, in order.
    fn sent(&self) -> Vec<MessageId> {
        ids(&self.network.sent())
    }

    /// Wakes the channel, and waits for its claim. Returns the claim.
    async fn poll(&self) -> Claim {
        let claims = |done: &[Operation]| {
            let claim =
                |done: &Operation| if let Operation::Claimed(claim) = done { Some(claim.clone()) } else { None };
            done.iter().filter_map(claim).collect::<Vec<_>>()
        };
        let before = claims(&self.store.done()).len();
        self.dispatcher.wake(self.channel);
        self.store.until(|done| claims(done).len() > before).await;
        claims(&self.store.done()).swap_remove(before)
    }
}

fn ids(sent: &[Claimed]) -> Vec<MessageId> {
    sent.iter().map(|message| message.id).collect()
}
