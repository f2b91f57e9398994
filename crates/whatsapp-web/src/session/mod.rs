//! One linked device, from its opening to its end.

mod body;
mod bounded;
mod log_out;
mod look_up;
mod network;
mod pair;
mod restriction;
mod submit;
mod tasks;
#[cfg(test)]
mod tests;
mod translate;
mod typing;
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
use crate::{Event, OpenError, Options, Rows, RowsError};

pub use body::{Body, Card, Quote};
pub use look_up::LookUpError;
pub use pair::PairError;
pub use submit::{Outgoing, SubmitError, Submitted};

/// What a server on loopback is told. Nothing leaves the machine to ask for the current one.
const LOOPBACK_VERSION: (u32, u32, u32) = (2, 3000, 1);

/// Recipients come back after days: one that cannot read a message then asks for it again.
const SENT_MESSAGES_KEPT: Duration = Duration::from_hours(7 * 24);

/// The library writes what it holds back, and closes the line; it waits five seconds at most for each of three things.
const CLOSE: Duration = Duration::from_secs(16);

/// A linked device, or one that waits to be linked. It connects, and connects again, by itself.
///
/// One session of the same rows at a time: the network shows the older one out. Dropped without [`stop`](Self::stop)
/// it ends at once, and what it had not yet told the network is lost.
pub struct Session {
    client: Arc<Client>,
    tasks: Arc<Tasks>,
    line: Arc<Shown>,
}

/// What the parts of a session know of its line.
#[derive(Default)]
struct Shown {
    /// Messages can be sent.
    up: AtomicBool,
    /// Somebody is shown that we type: the phone's own notifications wait meanwhile.
    typing: AtomicBool,
    /// The device is being linked, until its first login.
    pairing: AtomicBool,
}

impl Session {
    /// Waits for a turn to connect, and starts to; or, where no device is linked, to offer QR codes. `events` hears of
    /// everything from here on. A caller that goes away has opened nothing.
    pub async fn open(
        rows: Arc<dyn Rows>,
        options: &Options,
        events: backlog::Sender<Event>,
    ) -> Result<Self, OpenError> {
        let endpoint = options.endpoint()?;
        let version = options.version.or(endpoint.map(|_| LOOPBACK_VERSION));
        let linked = storage::is_linked(&rows).await.map_err(|error| OpenError::Storage(error.to_string()))?;
        options.logins.turn(!linked).await;
        let tasks = Arc::new(Tasks::new());
        let ending = tasks.end_when_dropped();
        let line = Arc::new(Shown { pairing: AtomicBool::new(!linked), ..Shown::default() });
        let mut builder = Bot::builder()
            .with_backend(Storage::new(rows))
            .with_transport_factory(network::Dial::new(endpoint, &options.logins, &line, events.clone()))
            .with_http_client(network::Fetch::new(endpoint.is_none(), events.clone()))
            .with_runtime(tasks::Spawner(Arc::clone(&tasks)))
            .with_cache_config(caches())
            .with_device_props(DevicePropsOverride::new().with_os(&options.device_name))
            .skip_history_sync();
        if let Some(version) = version {
            builder = builder.with_version(version);
        }
        let bot = builder.build().await.map_err(|error| OpenError::Storage(error.to_string()))?;
        let client = bot.client();
        watch::start(bot, &tasks, watch::Line::new(events, &line));
        // From here on the session ends them.
        ending.disarm();
        Ok(Self { client, tasks, line })
    }

    /// Whether a linked device is stored in the rows.
    pub async fn is_linked(rows: &Arc<dyn Rows>) -> Result<bool, RowsError> {
        storage::is_linked(rows).await
    }

    /// Whether messages can be sent now.
    pub fn is_up(&self) -> bool {
        self.line.up.load(Ordering::Relaxed)
    }

    /// The phone number of the account that the device is linked to, in digits.
    pub fn phone(&self) -> Option<String> {
        self.client.pn().map(|jid| jid.user.to_string())
    }

    /// Closes the line, writes what is held back and ends every task of the session, in 20 seconds at most. No event
    /// comes after it.
    pub async fn stop(&self) {
        self.line.up.store(false, Ordering::Relaxed);
        let closed = timeout(CLOSE, self.client.disconnect()).await;
        if closed.is_err() {
            tracing::warn!("session close timed out");
        }
        self.break_off().await;
    }

    /// Ends every task of the session at once, as the end of the process would. No event comes after it.
    pub async fn break_off(&self) {
        self.line.up.store(false, Ordering::Relaxed);
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

/// Small: a session is one of hundreds in the process, and writes to one person at a time.
fn caches() -> CacheConfig {
    CacheConfig {
        sent_message_ttl_secs: SENT_MESSAGES_KEPT.as_secs(),
        // They open votes and edits of messages, which nobody reads here.
        msg_secret_policy: MsgSecretPolicy::Disabled,
        seed_msg_secrets_from_history: false,
        ..CacheConfig::default()
    }
}
