//! The sandbox: a simulated network, with the failures of a real one on demand.
//!
//! It has its own file (or tables) and its own transactions: after a crash the store may not know of an arrival, as with a
//! real network, and tests check that difference. Every arrival is stored, including repeated ones; the inbox shows each
//! network id once. A commit of its file survives the end of the process, but not of the machine. Scenarios depend only on
//! the message and the number of its attempt, so that a test can predict the result.
//!
//! To the dispatcher it behaves like WhatsApp Web: it accepts our network id, recognises a re-send, answers with an
//! acknowledgement, and sends receipts later, repeatedly until the gateway has recorded them.

mod incoming;
pub mod network;
mod scenario;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::http::HeaderMap;
use recado_domain::account::KnownAccount;
use recado_domain::address::AddressKind;
use recado_domain::channel::{ChannelRef, ChannelSettings};
use recado_domain::clock::{Clock, Millis, millis};
use recado_domain::conversation::ReadSignal;
use recado_domain::error::AppError;
use recado_domain::ids::InstitutionId;
use recado_domain::incoming::Media;
use recado_domain::message::Stored;
use recado_domain::pacing::Pacing;
use recado_domain::phone::PhoneNumber;
use recado_domain::queue::{Claimed, Receipt, UnknownOutcomePolicy};
use recado_domain::simulation::EXPIRED;
use recado_store::person::Person;
use recado_store::sqlkit::postgres::pool::Database;
use recado_store::{Messages, Receipts, StoreError};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::media::{self, Download, MediaError};
use crate::outbound::address::Allowed;
use crate::outbound::client::Client;
use crate::outbound::url::TargetUrl;
use crate::quoted;
pub use crate::sandbox::incoming::SimulatedAct;
use crate::sandbox::network::postgres::Tables;
use crate::sandbox::network::sqlite::File;
use crate::sandbox::network::{Arrival, Network, Passed, PhoneQuery, ReceiptSink, Shown, ShownOfPerson};
pub use crate::sandbox::scenario::{CARD_SCENARIOS, Scenario};
use crate::{ChannelDriver, ReadOutcome, SendOutcome};

/// The wait between an arrival and its `DELIVERED`, and between that and its `READ`: together well under a second.
const RECEIPT_DELAY: Duration = Duration::from_millis(100);
/// The wait before receipts are sent again that the gateway could not record.
const RECEIPT_RETRY: Duration = Duration::from_millis(500);
/// How long the connection stays closed in `channel_disconnected`.
const DISCONNECTED_FOR: Duration = Duration::from_secs(5);
/// How long a sender must wait in `rate_limit`.
const TOO_FAST: Duration = Duration::from_secs(1);
/// The most concurrent writes of arrivals, so that ten thousand channels do not fill the file's queue.
const ARRIVALS: usize = 1_024;
/// How long the network is not used after its file could not be written.
const NETWORK_DOWN: Duration = Duration::from_secs(1);

/// The simulated network and its inbox.
pub struct Sandbox {
    network: Box<dyn Network>,
    pacing: Pacing,
    clock: Arc<dyn Clock>,
    /// Reads the state of a quoted message.
    messages: Arc<dyn Messages>,
    /// Notified when a message arrived, because receipts are due soon.
    arrived: Notify,
    /// Notified when a person did something, because the gateway has to get it.
    acts: Notify,
    arriving: Semaphore,
    /// Fetches the files that simulated people send.
    files: Client,
}

impl Sandbox {
    /// Opens the network's own file. If that fails the network is down, until the file can be opened.
    pub fn open(path: &Path, pacing: Pacing, clock: Arc<dyn Clock>, messages: Arc<dyn Messages>) -> Self {
        Self::on(Box::new(File::open(path)), pacing, clock, messages)
    }

    /// Uses the network that all nodes of a database share. It does not connect yet.
    pub fn on_postgres(
        database: &Arc<Database>,
        pacing: Pacing,
        clock: Arc<dyn Clock>,
        messages: Arc<dyn Messages>,
    ) -> anyhow::Result<Self> {
        Ok(Self::on(Box::new(Tables::new(database)?), pacing, clock, messages))
    }

    fn on(network: Box<dyn Network>, pacing: Pacing, clock: Arc<dyn Clock>, messages: Arc<dyn Messages>) -> Self {
        let (arrived, acts, arriving) = (Notify::new(), Notify::new(), Semaphore::new(ARRIVALS));
        let files = Client::new(Allowed::default());
        Self { network, pacing, clock, messages, arrived, acts, arriving, files }
    }

    /// The same, with files that may be at these addresses.
    #[must_use]
    pub fn reaching(self, reach: Allowed) -> Self {
        Self { files: Client::new(reach), ..self }
    }

    /// Whether a file at this URL may be fetched, as far as the URL shows. The addresses of a name are checked when the file is
    /// fetched.
    pub fn may_fetch(&self, url: &str) -> bool {
        TargetUrl::parse(url).is_ok_and(|url| !self.files.refuses(&url))
    }

    /// A page of the inbox, newest first.
    pub async fn shown(&self, query: PhoneQuery) -> Result<Option<Vec<Shown>>, StoreError> {
        self.network.shown(query).await
    }

    /// Empties the inbox of an institution. Messages that arrive meanwhile stay.
    pub async fn clear(&self, institution: InstitutionId) -> Result<(), StoreError> {
        let Some(last) = self.network.last(institution).await? else { return Ok(()) };
        while self.network.clear(institution, last).await? {}
        Ok(())
    }

    /// Deletes some of what arrived before this time, in the inboxes of all institutions, behind this place. Returns the number
    /// of rows, and where the next part begins.
    pub async fn purge(&self, after: i64, before: Millis) -> Result<(u64, Option<i64>), StoreError> {
        self.network.purge(after, before).await
    }

    /// A page of a person's messages in the inbox, in order of arrival.
    pub async fn person(&self, person: Person, after: i64) -> Result<ShownOfPerson, StoreError> {
        self.network.person(person, after).await
    }

    /// Erases such a page. Returns the number of messages, and where the next page begins.
    pub async fn erase(&self, person: Person, after: i64) -> Result<(u64, Option<i64>), StoreError> {
        self.network.erase(person, after).await
    }

    /// Removes erased data from the file's log; `false` if a reader prevents it.
    pub async fn forget_erased(&self) -> Result<bool, StoreError> {
        self.network.forget_erased().await
    }

    /// Writes unsaved data and closes the file.
    pub async fn close(&self) {
        self.network.close().await;
    }

    /// Sends receipts until it is stopped, beginning with those that an earlier run did not send.
    pub async fn send_receipts(&self, receipts: Arc<dyn Receipts>, stop: CancellationToken) {
        loop {
            // The waiter is registered before the query, so that an arrival in between is not missed.
            let arrived = self.arrived.notified();
            let wait = match self.pass_on(&*receipts).await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::warn!(%error, "sandbox receipt update failed; retrying");
                    Some(RECEIPT_RETRY)
                }
            };
            let wait = async {
                match (wait, self.network.poll_interval()) {
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

    /// Sends receipts that are due. Returns when the next ones are due, if there are any.
    async fn pass_on(&self, receipts: &dyn Receipts) -> Result<Option<Duration>, StoreError> {
        let to = Recorder { receipts, clock: &*self.clock };
        Ok(match self.network.pass_on(self.clock.now(), millis(RECEIPT_DELAY), &to).await? {
            Passed::Some => Some(Duration::ZERO),
            Passed::NotYet => Some(RECEIPT_DELAY / 2),
            Passed::None => None,
        })
    }

    /// `Ok` if the message quotes none, or one that the network has. Otherwise the outcome of the message.
    async fn quoted(&self, via: &ChannelRef, message: &Claimed) -> Result<(), SendOutcome> {
        let Some(target) = Stored::target(&message.payload) else { return Ok(()) };
        if target.received {
            return Ok(());
        }
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
        // The semaphore is never closed.
        let _permit = self.arriving.acquire().await;
        self.network.arrive(arrival).await?;
        // Stored as a permit, so that a task that is not waiting yet finds it.
        self.arrived.notify_one();
        Ok(())
    }
}

/// Records the network's receipts in the store.
struct Recorder<'a> {
    receipts: &'a dyn Receipts,
    clock: &'a dyn Clock,
}

#[async_trait]
impl ReceiptSink for Recorder<'_> {
    async fn accept(&self, receipts: Vec<Receipt>) -> Result<(), StoreError> {
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

    /// The file is at the URL that the simulation named. It is not read before a caller wants it. What is there may change,
    /// so the bytes need not have the hash of an earlier download.
    async fn fetch_media(&self, via: &ChannelRef, media: &Media) -> Result<Download, MediaError> {
        let url = media.about.remote_id.as_deref().filter(|url| !url.starts_with(EXPIRED)).ok_or(MediaError::Gone)?;
        let url = TargetUrl::parse(url).map_err(|_| MediaError::Refused)?;
        media::open(&self.files, &url, via.institution, HeaderMap::new()).await
    }

    fn timeout_is_failure(&self) -> bool {
        // The contract defines this for its scenario `timeout`.
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

    async fn mark_read(&self, via: &ChannelRef, signal: &ReadSignal) -> ReadOutcome {
        let ids = signal.messages.iter().map(|message| message.network_id.clone()).collect();
        match self.network.note_read(via.key, ids, self.clock.now()).await {
            Ok(()) => ReadOutcome::Sent,
            Err(error) => {
                tracing::warn!(%error, "sandbox network down");
                ReadOutcome::Later
            }
        }
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
            (Some(Scenario::ChannelDisconnected), 1) => {
                (false, SendOutcome::ChannelUnavailable { wait: DISCONNECTED_FOR })
            }
            (Some(Scenario::RateLimit), 1 | 2) => (false, SendOutcome::ChannelUnavailable { wait: TOO_FAST }),
            (Some(Scenario::Timeout), _) => (false, SendOutcome::UnknownOutcome),
            (Some(Scenario::LostAnswer), 1) => (true, SendOutcome::UnknownOutcome),
            _ => {
                let is_number = AddressKind::of(&message.recipient) == AddressKind::Phone;
                let account = is_number.then(|| message.recipient.clone());
                (true, SendOutcome::Accepted { account, remote_id: None, rendition: None })
            }
        };
        if !arrives {
            return outcome;
        }
        // A lost answer has no receipts: they come after the re-send was answered.
        match self.arrive(via, message, outcome != SendOutcome::UnknownOutcome).await {
            Ok(()) => outcome,
            Err(error) => {
                tracing::warn!(%error, "sandbox network down");
                SendOutcome::ChannelUnavailable { wait: NETWORK_DOWN }
            }
        }
    }
}
