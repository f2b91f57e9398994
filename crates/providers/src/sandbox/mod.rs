//! The sandbox: a network that is not there, with the troubles of a real one on demand.
//!
//! It has its own file (or tables) and its own transactions: after a crash the store may not know of an arrival, as with a
//! real network, and tests look at that difference. Every arrival is kept, repeated ones too; the phone shows each network id
//! once. A commit of its file survives the death of the process, not that of the machine. Scenarios depend on the message and
//! on the number of its attempt alone, so that a test can say what will happen.
//!
//! It behaves to the dispatcher as WhatsApp Web does: it takes our network id, recognises a re-send, answers with an
//! acknowledgement, and sends receipts later, again and again until the gateway has taken them.

pub mod network;
mod scenario;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use recado_domain::account::KnownAccount;
use recado_domain::channel::{ChannelRef, ChannelSettings};
use recado_domain::clock::{Clock, millis};
use recado_domain::error::AppError;
use recado_domain::ids::InstitutionId;
use recado_domain::message::Stored;
use recado_domain::pacing::Pacing;
use recado_domain::phone::PhoneNumber;
use recado_domain::queue::{Claimed, Receipt, UnknownOutcomePolicy};
use recado_store::person::Person;
use recado_store::sqlkit::postgres::pool::Database;
use recado_store::{Messages, Receipts, StoreError};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::quoted;
use crate::sandbox::network::postgres::Tables;
use crate::sandbox::network::sqlite::File;
use crate::sandbox::network::{Arrival, Network, Passed, PhoneQuery, Shown, ShownOfPerson, Taker};
pub use crate::sandbox::scenario::{CARD_SCENARIOS, Scenario};
use crate::{ChannelDriver, SendOutcome};

/// The wait between an arrival and its DELIVERED, and between that and its READ: together well under a second.
const RECEIPT_DELAY: Duration = Duration::from_millis(100);
/// The wait before receipts are sent again that the gateway could not take.
const RECEIPT_RETRY: Duration = Duration::from_millis(500);
/// How long the line stays down in `channel_disconnected`.
const LINE_DOWN: Duration = Duration::from_secs(5);
/// How long "too fast" means to wait in `rate_limit`.
const TOO_FAST: Duration = Duration::from_secs(1);
/// Arrivals that are written at a time; the file's queue is no place for the sends of ten thousand channels.
const ARRIVALS: usize = 1_024;
/// How long the network is let alone when its file cannot be written.
const NETWORK_DOWN: Duration = Duration::from_secs(1);

/// The simulated network and its one phone.
pub struct Sandbox {
    network: Box<dyn Network>,
    pacing: Pacing,
    clock: Arc<dyn Clock>,
    /// Says what became of a message that another one quotes.
    messages: Arc<dyn Messages>,
    /// Something arrived: receipts are due soon.
    arrived: Notify,
    arriving: Semaphore,
}

impl Sandbox {
    /// Opens the network's own file.
    pub fn open(
        path: &Path,
        pacing: Pacing,
        clock: Arc<dyn Clock>,
        messages: Arc<dyn Messages>,
    ) -> Result<Self, StoreError> {
        Ok(Self::on(Box::new(File::open(path)?), pacing, clock, messages))
    }

    /// Takes part in the network that all nodes of a database share. Connects nothing yet.
    pub fn on_postgres(
        database: &Arc<Database>,
        pacing: Pacing,
        clock: Arc<dyn Clock>,
        messages: Arc<dyn Messages>,
    ) -> anyhow::Result<Self> {
        Ok(Self::on(Box::new(Tables::new(database)?), pacing, clock, messages))
    }

    fn on(network: Box<dyn Network>, pacing: Pacing, clock: Arc<dyn Clock>, messages: Arc<dyn Messages>) -> Self {
        let (arrived, arriving) = (Notify::new(), Semaphore::new(ARRIVALS));
        Self { network, pacing, clock, messages, arrived, arriving }
    }

    /// What the phone shows, newest first.
    pub async fn shown(&self, query: PhoneQuery) -> Result<Option<Vec<Shown>>, StoreError> {
        self.network.shown(query).await
    }

    /// Empties what an institution's phone shows. What arrives meanwhile stays.
    pub async fn clear(&self, institution: InstitutionId) -> Result<(), StoreError> {
        let Some(last) = self.network.last(institution).await? else { return Ok(()) };
        while self.network.clear(institution, last).await? {}
        Ok(())
    }

    /// A page of what the phone shows of a person, in the order of its arrival.
    pub async fn person(&self, person: Person, after: i64) -> Result<ShownOfPerson, StoreError> {
        self.network.person(person, after).await
    }

    /// Erases a page of that; how many messages, and where the next page begins.
    pub async fn erase(&self, person: Person, after: i64) -> Result<(u64, Option<i64>), StoreError> {
        self.network.erase(person, after).await
    }

    /// Takes what was erased out of the file's log; `false` where somebody who reads stands in the way.
    pub async fn forget_erased(&self) -> Result<bool, StoreError> {
        self.network.forget_erased().await
    }

    /// Writes what is left and closes the file.
    pub async fn close(&self) {
        self.network.close().await;
    }

    /// Sends receipts until it is stopped. Those that an earlier run did not get rid of come first.
    pub async fn send_receipts(&self, receipts: Arc<dyn Receipts>, stop: CancellationToken) {
        loop {
            // Interest is registered before the question is asked, so an arrival in between is not missed.
            let arrived = self.arrived.notified();
            let wait = match self.pass_on(&*receipts).await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::warn!(%error, "sandbox receipt update failed; retrying");
                    Some(RECEIPT_RETRY)
                }
            };
            let wait = async {
                match (wait, self.network.look_every()) {
                    (Some(wait), _) => tokio::time::sleep(wait).await,
                    (None, None) => arrived.await,
                    (None, Some(every)) => drop(tokio::time::timeout(every, arrived).await),
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = wait => {}
            }
        }
    }

    /// Passes receipts on that are due; gives how long until the next are, if any will be.
    async fn pass_on(&self, receipts: &dyn Receipts) -> Result<Option<Duration>, StoreError> {
        let to = Recorder { receipts, clock: &*self.clock };
        Ok(match self.network.pass_on(self.clock.now(), millis(RECEIPT_DELAY), &to).await? {
            Passed::Some => Some(Duration::ZERO),
            Passed::NotYet => Some(RECEIPT_DELAY / 2),
            Passed::None => None,
        })
    }

    /// Nothing, where the message quotes none or one that the network has; else what becomes of the message.
    async fn quoted(&self, via: &ChannelRef, message: &Claimed) -> Result<(), SendOutcome> {
        let Some(target) = Stored::target(&message.payload) else { return Ok(()) };
        let quoted = quoted::read(&*self.messages, via.key, target).await;
        quoted.map(drop).map_err(|error| {
            error.outcome().unwrap_or_else(|error| {
                tracing::warn!(channel.id = %via.id, %error, "store unavailable; channel waits");
                SendOutcome::ChannelUnavailable { wait: NETWORK_DOWN }
            })
        })
    }

    async fn arrive(&self, via: &ChannelRef, message: &Claimed, receipts: bool) -> Result<(), StoreError> {
        let arrival = Arrival { via: via.clone(), message: message.clone(), at: self.clock.now(), receipts };
        // Nobody closes it.
        let _turn = self.arriving.acquire().await;
        self.network.arrive(arrival).await?;
        // As a stored permit: one who is not waiting yet will find it.
        self.arrived.notify_one();
        Ok(())
    }
}

/// Records in the store what the network passes on.
struct Recorder<'a> {
    receipts: &'a dyn Receipts,
    clock: &'a dyn Clock,
}

#[async_trait]
impl Taker for Recorder<'_> {
    async fn take(&self, receipts: Vec<Receipt>) -> Result<(), StoreError> {
        self.receipts.record_receipts(&receipts, self.clock.now()).await
    }
}

#[async_trait]
impl ChannelDriver for Sandbox {
    fn pacing(&self, _: &ChannelSettings) -> Pacing {
        self.pacing
    }

    fn unanswered(&self, _: &ChannelSettings) -> UnknownOutcomePolicy {
        UnknownOutcomePolicy::Resend
    }

    fn timeout_is_failure(&self) -> bool {
        // What the contract says of its scenario `timeout`.
        true
    }

    async fn known_account(&self, _: &ChannelRef, phone: &PhoneNumber) -> Option<String> {
        let absent = Scenario::of_number(phone.digits()) == Some(Scenario::NumberNotOnWhatsapp);
        (!absent).then(|| phone.digits().to_owned())
    }

    async fn look_up(&self, channel: &ChannelRef, phone: &PhoneNumber) -> Result<KnownAccount, AppError> {
        let account = self.known_account(channel, phone).await;
        Ok(KnownAccount { account, lid: None, checked_at: self.clock.now(), unconfirmed_at: None })
    }

    async fn send(&self, via: &ChannelRef, message: &Claimed) -> SendOutcome {
        if let Err(outcome) = self.quoted(via, message).await {
            return outcome;
        }
        let named = message.scenario.as_deref().and_then(Scenario::from_name);
        let scenario = named.or_else(|| Scenario::of_number(&message.recipient));
        let (arrives, outcome) = match (scenario, message.attempts) {
            (Some(Scenario::NumberNotOnWhatsapp), _) => (
                false,
                SendOutcome::PermanentFailure {
                    code: crate::NOT_ON_WHATSAPP,
                    message: "O numero do destinatario nao esta no WhatsApp.".to_owned(),
                },
            ),
            (Some(Scenario::ChannelDisconnected), 1) => (false, SendOutcome::ChannelUnavailable { wait: LINE_DOWN }),
            (Some(Scenario::RateLimit), 1 | 2) => (false, SendOutcome::ChannelUnavailable { wait: TOO_FAST }),
            (Some(Scenario::Timeout), _) => (false, SendOutcome::UnknownOutcome),
            (Some(Scenario::LostAnswer), 1) => (true, SendOutcome::UnknownOutcome),
            _ => {
                let account = Some(message.recipient.clone());
                (true, SendOutcome::Accepted { account, remote_id: None, rendition: None })
            }
        };
        if !arrives {
            return outcome;
        }
        // A lost answer takes the receipts with it: they come when the re-send was answered.
        match self.arrive(via, message, outcome != SendOutcome::UnknownOutcome).await {
            Ok(()) => outcome,
            Err(error) => {
                tracing::warn!(%error, "sandbox network down");
                SendOutcome::ChannelUnavailable { wait: NETWORK_DOWN }
            }
        }
    }
}
