//! What a channel type does on its network: its driver. What is known of the type without the network is its
//! [`Descriptor`](recado_domain::channel::types::Descriptor).

use std::sync::Arc;

use async_trait::async_trait;
use recado_domain::account::KnownAccount;
use recado_domain::channel::{Actor, Channel, ChannelKey, ChannelRef, ChannelSettings, Link};
use recado_domain::clock::{Clock, Entropy};
use recado_domain::error::AppError;
use recado_domain::field_errors::{Field, FieldErrors};
use recado_domain::pacing::{Pacing, RecipientPacing};
use recado_domain::phone::{Country, PhoneNumber};
use recado_domain::queue::{Claimed, UnknownOutcomePolicy};
use recado_store::lease::{Leases, Waker};
use recado_store::sealed::KeyRing;
use recado_store::{Store, StoreError};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use crate::pairing::Pairing;
use crate::{SendOutcome, Slot};

/// What drivers work with.
#[derive(Clone)]
pub struct Context {
    pub store: Arc<dyn Store>,
    /// Seals and opens secrets; empty where no key was given.
    pub secrets: Arc<KeyRing>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    /// Which channels this process holds.
    pub leases: Arc<Leases>,
    /// Held by who changes institutions, keys or channels, so that the directory hears of changes in the order of the store.
    pub changes: Arc<Mutex<()>>,
}

impl Context {
    /// The channel as it stands.
    pub async fn channel(&self, key: ChannelKey) -> Result<Channel, AppError> {
        let found = self.store.channel(key).await?;
        found.filter(|channel| channel.deleted_at.is_none()).ok_or(AppError::ChannelNotFound)
    }
}

/// What is asked of a driver that is to connect a channel.
pub struct Connect<'a> {
    pub channel: &'a ChannelRef,
    pub given: Given<'a>,
    /// Whose numbers may stand without a country code.
    pub country: Option<Country>,
    pub by: Actor,
}

/// The fields of a call that connects a channel, not checked yet.
#[derive(Default)]
pub struct Given<'a> {
    /// Those that the channel's type has.
    pub fields: Vec<(&'static str, Field<'a>)>,
    /// What is said of all others.
    pub unknown: FieldErrors,
}

impl<'a> Given<'a> {
    /// What was given under this name.
    pub fn field(&self, name: &str) -> Field<'a> {
        let found = self.fields.iter().find(|(given, _)| *given == name);
        found.map_or(Field::Absent, |(_, field)| field.clone())
    }
}

/// How far a driver came that was to connect a channel.
#[derive(Debug)]
pub enum Connected {
    /// There is nothing to do on the network: the channel's state is all that changes, and has not changed yet.
    NothingToDo,
    /// The channel is connected.
    Done,
    /// The channel connects by itself, or when a phone has linked it.
    Pairing(Pairing),
}

/// What a channel type does on its network.
#[async_trait]
pub trait ChannelDriver: Send + Sync {
    /// How many messages of one channel may be on their way at once.
    fn max_in_flight(&self, _: &ChannelSettings) -> usize {
        1
    }

    /// The rest of a channel between two sends.
    fn pacing(&self, settings: &ChannelSettings) -> Pacing {
        settings.pacing()
    }

    /// How often one recipient of a channel is written to.
    fn recipient_pacing(&self) -> Option<RecipientPacing> {
        None
    }

    /// Rights to sends, up to that many, as soon as there is one. They are taken before messages are claimed: to wait for
    /// our own turn is no attempt, and no trouble of the network.
    async fn slots(&self, _: &ChannelRef, most: usize) -> Vec<Slot> {
        std::iter::repeat_with(|| None).take(most).collect()
    }

    /// What becomes of a message whose answer was lost.
    fn unanswered(&self, settings: &ChannelSettings) -> UnknownOutcomePolicy;

    /// Whether a message that had no answer at its last try has failed. On a real network nobody can know: it is
    /// `UNKNOWN`.
    fn timeout_is_failure(&self) -> bool {
        false
    }

    /// The account behind a number, when it is known without asking the network.
    async fn known_account(&self, channel: &ChannelRef, phone: &PhoneNumber) -> Option<String>;

    /// Hands a message over. Ends by itself in bounded time.
    async fn send(&self, channel: &ChannelRef, message: &Claimed) -> SendOutcome;

    /// Names who is woken when a session comes up. Called once, when a server starts.
    fn start(&self, _: Arc<dyn Waker>) {}

    /// Closes all connections when the server ends; what is stored of them stays.
    async fn stop(&self) {}

    /// Takes the stored credentials of these channels into use when a server starts; whether it could.
    async fn load(&self, _: &[ChannelKey]) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// Takes the credentials of these channels into use as they are stored by now. Channels without a row have none.
    fn reload(&self, _: &[ChannelKey], _: &[Link]) {}

    /// Restores a channel's session that was open when a server ended, or that another node gave away.
    async fn restore(&self, _: &ChannelRef) -> Result<(), StoreError> {
        Ok(())
    }

    /// Connects a channel with what the call names and with what is stored.
    async fn connect(&self, request: Connect<'_>) -> Result<Connected, AppError> {
        if request.given.unknown.is_empty() { Ok(Connected::NothingToDo) } else { Err(request.given.unknown.into()) }
    }

    /// Closes a channel's session, and keeps what is stored of it.
    async fn disconnect(&self, _: ChannelKey) {}

    /// How far the linking of a channel has come, now and from now on.
    fn follow(&self, _: ChannelKey) -> watch::Receiver<Pairing> {
        watch::channel(Pairing::Idle).1
    }

    /// Whether a channel can be connected with what is stored of it.
    async fn is_linked(&self, _: &ChannelRef) -> bool {
        true
    }

    /// Why the channel's session is not open, where it should be.
    fn why_down(&self, _: ChannelKey) -> Option<String> {
        None
    }

    /// Parts a deleted channel from its connection, at once: one that is created anew under the same key has another. What
    /// the network is to be told is told in a task, which is returned.
    fn forget(&self, _: ChannelKey) -> Option<JoinHandle<()>> {
        None
    }

    /// The account behind a number: as it was found not long ago, else by asking the network.
    async fn look_up(&self, _: &ChannelRef, _: &PhoneNumber) -> Result<KnownAccount, AppError> {
        Err(AppError::NotImplemented)
    }
}

#[cfg(test)]
impl Context {
    /// On this store, of which nobody else knows.
    pub(crate) fn on(store: Arc<dyn Store>) -> Self {
        use recado_store::clock::{SystemClock, SystemEntropy};
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
        Self { store, secrets: Arc::default(), clock, entropy, leases: Leases::standalone(), changes: Arc::default() }
    }
}
