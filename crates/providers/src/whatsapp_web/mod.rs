//! WhatsApp Web: channels that a person's phone links. The driver crate speaks the protocol; this module connects its
//! sessions to channels.
//!
//! | File | |
//! |---|---|
//! | `connection` | the connection of a channel: its task keeps the session open |
//! | `connect` | opens a connection: on request, or at a start of the server |
//! | `events` | the events of a session: codes, answers, receipts |
//! | `state` | the channel's state after connects, disconnects and ends of a session |
//! | `incoming` | what people write, sealed and stored before it is confirmed to the network |
//! | `files` | the bytes of files that people send |
//! | `send` | one message: looks up the accounts, submits the message, awaits the network's answer |
//! | `message` | the content of one message: its body, the accounts on its cards, its quote |
//! | `reads` | reports to the network which messages were read |
//! | `answers` | the waiters for answers, and what was learned about recipients' devices |
//! | `refusal` | the meaning of the network's refusal codes, in one table |
//! | `codes` | the rate limit for codes that are typed on a phone |
//! | `accounts` | the accounts behind numbers: stored, and looked up sparingly |
//! | `session_rows` | a session's rows in the store, encrypted |

mod accounts;
mod answers;
mod codes;
mod connect;
mod connection;
mod events;
mod files;
mod groups;
mod incoming;
mod message;
mod reads;
mod refusal;
mod searches;
mod send;
mod session_rows;
mod state;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use futures_util::future::join_all;
use recado_domain::account::KnownAccount;
use recado_domain::channel::{Channel, ChannelKey, ChannelRef, ChannelSettings, ChannelState, Epoch};
use recado_domain::clock::{Clock, Entropy, Millis};
use recado_domain::conversation::ReadSignal;
use recado_domain::error::AppError;
use recado_domain::incoming::Media;
use recado_domain::phone::PhoneNumber;
use recado_domain::queue::{Claimed, UnknownOutcomePolicy};
use recado_store::lease::{Leases, Waker};
use recado_store::sealed::KeyRing;
use recado_store::{Store, StoreError};
use recado_whatsapp_web::Options;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::counted::Count;
use crate::media::{Download, MediaError};
use crate::pairing::{ConnectionError, Pairing};
use crate::transients::Transients;
use crate::whatsapp_web::codes::Codes;
use crate::whatsapp_web::connection::Connection;
use crate::{ChannelDriver, Connect, Connected, Context, ReadOutcome, SendOutcome};

/// The driver, with the connections of all channels.
pub struct WhatsAppWeb {
    shared: Arc<Shared>,
    connections: Mutex<HashMap<ChannelKey, Arc<Connection>>>,
}

/// What all connections share.
struct Shared {
    store: Arc<dyn Store>,
    secrets: Arc<KeyRing>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    options: Options,
    /// A connection of a channel that another node owns writes nothing.
    leases: Arc<Leases>,
    /// The rate limit for codes that are typed on a phone.
    codes: Codes,
    /// Wakes the dispatcher when a connection opens; set once the server runs.
    waker: OnceLock<Arc<dyn Waker>>,
    count: Count,
    transients: Arc<Transients>,
}

impl Shared {
    /// The epoch under which this node owns the channel.
    fn epoch(&self, channel: ChannelKey) -> Option<Epoch> {
        self.leases.session_epoch(channel)
    }

    fn wake(&self, channel: ChannelKey) {
        if let Some(waker) = self.waker.get() {
            waker.wake(channel);
        }
    }
}

impl WhatsAppWeb {
    /// A driver without connections.
    pub fn new(context: Context, options: Options) -> Self {
        let Context { store, secrets, clock, entropy, leases, count, transients, .. } = context;
        let (codes, waker) = (Codes::default(), OnceLock::new());
        let shared = Shared { store, secrets, clock, entropy, options, leases, codes, waker, count, transients };
        Self { shared: Arc::new(shared), connections: Mutex::default() }
    }

    /// A channel's connection, open or not.
    fn connection(&self, via: &ChannelRef) -> Arc<Connection> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections
            .entry(via.key)
            .or_insert_with(|| Arc::new(Connection::new(self.shared.clone(), via.clone(), None)))
            .clone()
    }

    fn existing_connection(&self, key: ChannelKey) -> Option<Arc<Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }
}

#[async_trait]
impl ChannelDriver for WhatsAppWeb {
    fn unanswered(&self, _: &ChannelSettings) -> UnknownOutcomePolicy {
        UnknownOutcomePolicy::Resend
    }

    async fn known_account(&self, via: &ChannelRef, phone: &PhoneNumber) -> Option<String> {
        let known = self.shared.store.known_account(via.key, phone.digits().to_owned()).await.ok().flatten();
        known.filter(|known| accounts::is_fresh(known, self.shared.clock.now()))?.account
    }

    async fn send(&self, via: &ChannelRef, message: &Claimed) -> SendOutcome {
        // A channel that comes from another node may be claimed before its connection is restored. The message waits for
        // that.
        self.connection(via).send(message).await
    }

    async fn mark_read(&self, via: &ChannelRef, signal: &ReadSignal) -> ReadOutcome {
        match self.existing_connection(via.key) {
            Some(connection) => connection.mark_read(signal).await,
            None => ReadOutcome::Later,
        }
    }

    async fn fetch_media(&self, via: &ChannelRef, media: &Media) -> Result<Download, MediaError> {
        self.fetch(via, media).await
    }

    fn start(&self, waker: Arc<dyn Waker>) {
        // Set only here.
        let _ = self.shared.waker.set(waker);
    }

    async fn restore(&self, via: &ChannelRef) -> Result<(), StoreError> {
        self.connection(via).restore().await
    }

    async fn stop(&self) {
        let connections: Vec<_> =
            self.connections.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        join_all(connections.iter().map(|connection| connection.stop())).await;
    }

    async fn connect(&self, request: Connect<'_>) -> Result<Connected, AppError> {
        self.connect_channel(request).await.map(Connected::Pairing)
    }

    fn follow(&self, channel: ChannelKey) -> watch::Receiver<Pairing> {
        match self.existing_connection(channel) {
            Some(connection) => connection.pairing(),
            // No pairing was requested, so nothing changes the progress either.
            None => watch::channel(Pairing::Idle).1,
        }
    }

    async fn disconnect(&self, channel: ChannelKey) {
        if let Some(connection) = self.existing_connection(channel) {
            connection.stop().await;
        }
    }

    async fn is_linked(&self, via: &ChannelRef) -> bool {
        // An unreadable session may be linked.
        self.connection(via).is_linked().await.unwrap_or(true)
    }

    fn forget(&self, channel: ChannelKey) -> Option<JoinHandle<()>> {
        let ended = CancellationToken::new();
        let former = {
            let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
            connections.get_mut(&channel).map(|connection| {
                let new = Connection::new(self.shared.clone(), connection.via.clone(), Some(ended.clone()));
                std::mem::replace(connection, Arc::new(new))
            })
        };
        former.iter().for_each(|connection| connection.forget());
        let ended = ended.drop_guard();
        Some(tokio::spawn(async move {
            let _ended = ended;
            if let Some(connection) = former {
                connection.log_out().await;
            }
        }))
    }

    fn why_down(&self, channel: ChannelKey) -> Option<String> {
        match self.existing_connection(channel) {
            Some(connection) if connection.is_up() => None,
            Some(connection) if connection.is_running() => Some(connection::LOST.to_owned()),
            _ => Some(connection::DISCONNECTED.to_owned()),
        }
    }

    fn is_outdated(&self, channel: &Channel) -> bool {
        channel.state == ChannelState::Disconnected && channel.state_reason.as_deref() == Some(state::OUTDATED)
    }

    fn last_heard(&self, channel: ChannelKey) -> Option<Millis> {
        self.existing_connection(channel)?.session()?.last_heard()
    }

    async fn look_up(&self, via: &ChannelRef, phone: &PhoneNumber) -> Result<KnownAccount, AppError> {
        let connection = self.existing_connection(via.key).ok_or(ConnectionError::Down)?;
        Ok(connection.look_up(phone.digits()).await?)
    }
}
