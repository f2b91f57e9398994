//! One linked device, from its opening to its end.

mod body;
mod bounded;
mod calls;
mod download;
mod envelopes;
mod former;
mod group;
mod group_changes;
mod log_out;
mod look_up;
mod network;
mod pair;
mod read;
mod receive;
mod restriction;
mod submit;
mod tasks;
#[cfg(test)]
mod tests;
mod translate;
mod typing;
mod unreadable;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::timeout;
use whatsapp_rust::bot::Bot;
use whatsapp_rust::wacore::msg_secret::MsgSecretPolicy;
use whatsapp_rust::wacore::store::device::DevicePropsOverride;
use whatsapp_rust::wacore_binary::Jid;
use whatsapp_rust::{CacheConfig, Client};

use self::tasks::Tasks;
use crate::backlog;
use crate::storage::{self, Storage};
use crate::{Event, Inbox, OpenError, Options, Rows, RowsError};

pub use body::{Author, Body, Card, Quote, Quoted};
pub use download::{DownloadError, OfMessage, download_without_session};
pub use look_up::LookUpError;
pub use pair::PairError;
pub use submit::{Addressee, Outgoing, SubmitError, Submitted};

/// The version presented to a server on loopback. The session makes no outside request for the current one.
const LOOPBACK_VERSION: (u32, u32, u32) = (2, 3000, 1);

/// A recipient may return after days, and then request a message again that it could not read.
const SENT_MESSAGES_KEPT: Duration = Duration::from_hours(7 * 24);

/// The library writes its unsaved data and closes the connection. It waits at most five seconds for each of three steps.
const CLOSE: Duration = Duration::from_secs(16);

/// A linked device, or a device that waits to be linked. It connects and reconnects by itself.
///
/// Only one session may use the same rows at a time: the network ends the older one. A session that is dropped without
/// [`stop`](Self::stop) ends at once, and loses what it had not yet sent.
pub struct Session {
    client: Arc<Client>,
    tasks: Arc<Tasks>,
    state: Arc<ConnectionState>,
}

/// The state of the connection, shared by the parts of a session.
#[derive(Default)]
struct ConnectionState {
    /// Messages can be sent.
    up: AtomicBool,
    /// A recipient sees that we are typing. The phone shows no notifications meanwhile.
    typing: AtomicBool,
    /// The device is being linked, until its first login.
    pairing: AtomicBool,
    /// Something that arrived could not be stored. The network delivers it again after the next login.
    unstored: AtomicBool,
    /// The same, and nothing of the session is stored any more: see [`Storage`].
    broken: Arc<AtomicBool>,
}

impl Session {
    /// Waits for a login slot, and starts to connect, or to offer QR codes if no device is linked. All later events go to
    /// `events`, and what arrives goes to `inbox`. If the caller is dropped, no session is opened.
    pub async fn open(
        rows: Arc<dyn Rows>,
        options: &Options,
        inbox: Arc<dyn Inbox>,
        events: backlog::Sender<Event>,
    ) -> Result<Self, OpenError> {
        let endpoint = options.endpoint()?;
        let version = options.version.or(endpoint.map(|_| LOOPBACK_VERSION));
        let linked = storage::is_linked(&rows).await.map_err(|error| OpenError::Storage(error.to_string()))?;
        options.logins.acquire(!linked).await;
        let tasks = Arc::new(Tasks::new());
        let ending = tasks.end_when_dropped();
        let state = Arc::new(ConnectionState { pairing: AtomicBool::new(!linked), ..ConnectionState::default() });
        let own_rows = [(); 2].map(|()| Storage::new(Arc::clone(&rows)));
        let receiver = Arc::new(receive::Receiver::new(inbox, own_rows, &state));
        let mut builder = Bot::builder()
            .with_backend(Storage::watched(rows, Arc::clone(&state.broken)))
            .with_inbound_durability_hook(receive::Hook(Arc::clone(&receiver)))
            .with_transport_factory(network::Dialer::new(endpoint, &options.logins, &state, events.clone()))
            .with_http_client(network::Fetch::new(endpoint, events.clone()))
            .with_runtime(tasks::Spawner(Arc::clone(&tasks)))
            .with_cache_config(caches())
            .with_device_props(DevicePropsOverride::new().with_os(&options.device_name))
            .skip_history_sync();
        if let Some(version) = version {
            builder = builder.with_version(version);
        }
        let bot = builder.build().await.map_err(|error| OpenError::Storage(error.to_string()))?;
        let client = bot.client();
        watch::start(bot, &tasks, receiver, watch::Tracker::new(events, &state));
        // From here on the session ends the tasks.
        ending.disarm();
        Ok(Self { client, tasks, state })
    }

    /// Whether a linked device is stored in the rows.
    pub async fn is_linked(rows: &Arc<dyn Rows>) -> Result<bool, RowsError> {
        storage::is_linked(rows).await
    }

    /// Whether messages can be sent now.
    pub fn is_up(&self) -> bool {
        self.state.up.load(Ordering::Relaxed)
    }

    /// When the network last sent something, in Unix milliseconds; `None` if it has not yet. Keep-alives count, so an open
    /// session receives something from it every minute.
    pub fn last_heard(&self) -> Option<i64> {
        i64::try_from(self.client.stats().last_data_received_ms).ok().filter(|at| *at > 0)
    }

    /// The digits of the phone number of the linked account.
    pub fn phone(&self) -> Option<String> {
        self.client.pn().map(|jid| jid.user.to_string())
    }

    /// Closes the connection, writes unsaved data and ends every task of the session, within 20 seconds. No event follows.
    pub async fn stop(&self) {
        self.state.up.store(false, Ordering::Relaxed);
        let closed = timeout(CLOSE, self.client.disconnect()).await;
        if closed.is_err() {
            tracing::warn!("session close timed out");
        }
        self.abort().await;
    }

    /// Ends every task of the session at once, as the end of the process would. No event follows.
    pub async fn abort(&self) {
        self.state.up.store(false, Ordering::Relaxed);
        self.tasks.end();
        self.tasks.ended().await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.tasks.end();
    }
}

/// The account that the device is linked to, by its number and by its hidden id.
fn own_addresses(client: &Client) -> Vec<Jid> {
    let device = client.persistence_manager().get_device_snapshot();
    [&device.pn, &device.lid].into_iter().flatten().cloned().collect()
}

/// The caches are small: a process has hundreds of sessions, and a session writes to one person at a time.
fn caches() -> CacheConfig {
    CacheConfig {
        sent_message_ttl_secs: SENT_MESSAGES_KEPT.as_secs(),
        // With these secrets the library decrypts edits and reactions.
        msg_secret_policy: MsgSecretPolicy::Managed,
        seed_msg_secrets_from_history: false,
        ..CacheConfig::default()
    }
}
