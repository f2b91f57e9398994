//! The trait of all drivers. A driver connects, disconnects and sends for the channels of one type. The facts about the type
//! that need no network are in its [`Descriptor`](recado_domain::channel::types::Descriptor).

use std::sync::Arc;

use async_trait::async_trait;
use recado_domain::account::KnownAccount;
use recado_domain::channel::{Actor, Channel, ChannelKey, ChannelRef, ChannelSettings, Link};
use recado_domain::clock::{Clock, Entropy, Millis};
use recado_domain::conversation::ReadSignal;
use recado_domain::error::AppError;
use recado_domain::field_errors::{Field, FieldErrors};
use recado_domain::incoming::Media;
use recado_domain::pacing::{Pacing, RecipientPacing};
use recado_domain::phone::{Country, PhoneNumber};
use recado_domain::queue::{Claimed, UnknownOutcomePolicy};
use recado_store::lease::{Leases, Waker};
use recado_store::sealed::KeyRing;
use recado_store::{Store, StoreError};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use crate::counted::Count;
use crate::media::{Download, MediaError};
use crate::pairing::Pairing;
use crate::transients::Transients;
use crate::{ReadOutcome, SendOutcome, Slot};

/// What a driver gets from the server.
#[derive(Clone)]
pub struct Context {
    pub store: Arc<dyn Store>,
    /// Encrypts and decrypts secrets. It is empty if the server has no secret key.
    pub secrets: Arc<KeyRing>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    /// The channels that this process owns.
    pub leases: Arc<Leases>,
    /// The lock for changes of institutions, keys and channels. It keeps the changes in the directory in the order of
    /// their commits.
    pub changes: Arc<Mutex<()>>,
    /// Counts what happens, for the metrics.
    pub count: Count,
    /// The open streams of this process, for what nothing stores.
    pub transients: Arc<Transients>,
}

impl Context {
    /// The channel as the store has it now. A deleted channel is not found.
    pub async fn channel(&self, key: ChannelKey) -> Result<Channel, AppError> {
        let found = self.store.channel(key).await?;
        found.filter(|channel| channel.deleted_at.is_none()).ok_or(AppError::ChannelNotFound)
    }
}

/// A request to a driver to connect a channel.
pub struct Connect<'a> {
    pub channel: &'a ChannelRef,
    pub given: Given<'a>,
    /// The country whose numbers may be given without a country code.
    pub country: Option<Country>,
    pub by: Actor,
}

/// The fields of a call that connects a channel, not checked yet.
#[derive(Default)]
pub struct Given<'a> {
    /// The fields that the channel's type has.
    pub fields: Vec<(&'static str, Field<'a>)>,
    /// The errors of all other fields.
    pub unknown: FieldErrors,
}

impl<'a> Given<'a> {
    /// The value of the field with this name.
    pub fn field(&self, name: &str) -> Field<'a> {
        let found = self.fields.iter().find(|(given, _)| *given == name);
        found.map_or(Field::Absent, |(_, field)| field.clone())
    }
}

/// How far a driver has connected a channel.
#[derive(Debug)]
pub enum Connected {
    /// The network needs nothing. Only the state of the channel has to change, and the caller changes it.
    NothingToDo,
    /// The channel is connected.
    Done,
    /// The channel is not connected yet. It connects by itself, or after a phone has linked it.
    Pairing(Pairing),
}

/// The driver of a channel type: it connects, sends and disconnects on the network.
#[async_trait]
pub trait ChannelDriver: Send + Sync {
    /// How many messages of one channel may be in flight at once.
    fn max_in_flight(&self, _: &ChannelSettings) -> usize {
        1
    }

    /// The send interval of a channel.
    fn pacing(&self, settings: &ChannelSettings) -> Pacing {
        settings.pacing()
    }

    /// How often a channel may send to one recipient. `None`: there is no such limit.
    fn recipient_pacing(&self) -> Option<RecipientPacing> {
        None
    }

    /// Waits until one send may begin, and returns at most `most` rights to send. The dispatcher gets them before it
    /// claims messages. So the wait for a right is no attempt, and it is no failure of the network.
    async fn slots(&self, _: &ChannelRef, most: usize) -> Vec<Slot> {
        std::iter::repeat_with(|| None).take(most).collect()
    }

    /// What happens to a message after the answer to an attempt was lost.
    fn unanswered(&self, settings: &ChannelSettings) -> UnknownOutcomePolicy;

    /// Whether a message fails if its last attempt had no answer. On a real network the message may have arrived, so its
    /// status becomes `UNKNOWN`.
    fn timeout_is_failure(&self) -> bool {
        false
    }

    /// The account behind a number, when it is known without asking the network.
    async fn known_account(&self, channel: &ChannelRef, phone: &PhoneNumber) -> Option<String>;

    /// Makes one attempt to send a message to the network. The call returns in bounded time.
    async fn send(&self, channel: &ChannelRef, message: &Claimed) -> SendOutcome;

    /// Reports to the network that messages of a chat were read. The call returns in bounded time.
    async fn mark_read(&self, channel: &ChannelRef, signal: &ReadSignal) -> ReadOutcome;

    /// Sets the waker, which the driver calls when a session opens. A server calls this once, when it starts.
    fn start(&self, _: Arc<dyn Waker>) {}

    /// Closes all connections when the server ends. The stored data of the connections stays.
    async fn stop(&self) {}

    /// Loads the stored credentials of these channels when a server starts. The result says whether that was possible.
    async fn load(&self, _: &[ChannelRef]) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// Replaces the credentials of these channels by the stored ones. A channel without a [`Link`] has no credentials.
    fn reload(&self, _: &[ChannelRef], _: &[Link]) {}

    /// Opens the session of a channel again. It was open when a server ended, or another node released the channel.
    async fn restore(&self, _: &ChannelRef) -> Result<(), StoreError> {
        Ok(())
    }

    /// Connects a channel with the fields of the call and the stored credentials.
    async fn connect(&self, request: Connect<'_>) -> Result<Connected, AppError> {
        if request.given.unknown.is_empty() { Ok(Connected::NothingToDo) } else { Err(request.given.unknown.into()) }
    }

    /// Closes the session of a channel. The stored data of the session stays.
    async fn disconnect(&self, _: ChannelKey) {}

    /// The state of the pairing of a channel. The receiver also gets every later state.
    fn follow(&self, _: ChannelKey) -> watch::Receiver<Pairing> {
        watch::channel(Pairing::Idle).1
    }

    /// Whether the stored data of a channel is enough to connect it.
    async fn is_linked(&self, _: &ChannelRef) -> bool {
        true
    }

    /// The reason why the session of a channel is not open. `None`: it is open, or the driver has no sessions.
    fn why_down(&self, _: ChannelKey) -> Option<String> {
        None
    }

    /// Whether the channel is down because the network no longer accepts this version of the protocol.
    fn is_outdated(&self, _: &Channel) -> bool {
        false
    }

    /// When the network last sent something on the open session of a channel. `None`: no session is open, or the driver has
    /// none.
    fn last_heard(&self, _: ChannelKey) -> Option<Millis> {
        None
    }

    /// Separates a deleted channel from its connection at once. A channel that is created again under the same key gets
    /// another connection. The returned task reports the deletion to the network.
    fn forget(&self, _: ChannelKey) -> Option<JoinHandle<()>> {
        None
    }

    /// Begins the download of a file that the network delivered. The call returns in bounded time.
    async fn fetch_media(&self, _: &ChannelRef, _: &Media) -> Result<Download, MediaError> {
        Err(MediaError::Unavailable("this build cannot fetch files of the channel type"))
    }

    /// The account behind a number. It comes from a recent look-up, or else from the network.
    async fn look_up(&self, _: &ChannelRef, _: &PhoneNumber) -> Result<KnownAccount, AppError> {
        Err(AppError::NotImplemented)
    }
}

#[cfg(test)]
impl Context {
    /// A context on a store that no other process uses.
    pub(crate) fn on(store: Arc<dyn Store>) -> Self {
        use recado_store::clock::{SystemClock, SystemEntropy};
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
        Self {
            store,
            secrets: Arc::default(),
            clock,
            entropy,
            leases: Leases::standalone(),
            changes: Arc::default(),
            count: |_| {},
            transients: Arc::default(),
        }
    }
}
