//! Tells networks which messages were read here.
//!
//! The mark of the messages and the signal are committed together. So a call never waits for a network, and a crash loses no
//! signal. The process that owns a channel sends its signals: one at a time for a channel, so that a slow network delays
//! others little.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use recado_domain::channel::ChannelKey;
use recado_domain::clock::millis;
use recado_domain::conversation::{ReadClaim, ReadSignal, read_retry};
use recado_providers::ReadOutcome;
use recado_store::StoreError;
use tokio::task::{Id, JoinSet};
use tokio::time::timeout;

use crate::gateway::Gateway;

/// Signals that are sent at once.
const AT_ONCE: usize = 32;
/// The time limit for one signal.
const LIMIT: Duration = Duration::from_secs(15);
/// An attempt that did not end by then is lost: the process has crashed.
const LOST: Duration = Duration::from_mins(1);
/// The longest wait of one node among several, because another node may have stored a signal.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// The wait after a failure of the store.
const RETRY: Duration = Duration::from_secs(1);

/// Sends signals until the server stops.
pub async fn run(gateway: Arc<Gateway>) {
    let stop = gateway.stop.clone();
    stop.run_until_cancelled(Telling::default().run(&gateway)).await;
}

/// The signals that are being sent, with their channels.
#[derive(Default)]
struct Telling {
    tasks: JoinSet<()>,
    busy: HashMap<Id, ChannelKey>,
    failed: bool,
}

impl Telling {
    async fn run(&mut self, gateway: &Arc<Gateway>) {
        loop {
            let wait = if self.busy.len() < AT_ONCE { self.begin(gateway).await } else { None };
            let due = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Messages that were marked since the last look have left a permit.
                () = gateway.dispatcher.messages_read() => {}
                () = due => {}
                Some(ended) = self.tasks.join_next_with_id() => {
                    let id = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(id, ())| *id);
                    self.busy.remove(&id);
                }
            }
        }
    }

    /// Begins to send due signals. Returns how long to wait until the next look; `None`: until messages are read.
    async fn begin(&mut self, gateway: &Arc<Gateway>) -> Option<Duration> {
        match self.claim(gateway).await {
            Ok(wait) => {
                self.failed = false;
                let longest = gateway.nodes.are_shared().then_some(CHECK_INTERVAL);
                wait.into_iter().chain(longest).min()
            }
            Err(error) => {
                // Log once for each outage.
                if !self.failed {
                    tracing::warn!(%error, "read signals not read; the next try continues");
                }
                self.failed = true;
                Some(RETRY)
            }
        }
    }

    async fn claim(&mut self, gateway: &Arc<Gateway>) -> Result<Option<Duration>, StoreError> {
        let now = gateway.clock.now();
        let claim = ReadClaim {
            owned: gateway.nodes.are_shared().then(|| gateway.dispatcher.owned()),
            busy: self.busy.values().copied().collect(),
            limit: AT_ONCE - self.busy.len(),
            now,
            lost_at: now + millis(LOST),
        };
        let claims = gateway.store.due_reads(claim).await?;
        for signal in claims.signals {
            let channel = signal.channel;
            let task = self.tasks.spawn(attempt(gateway.clone(), signal));
            self.busy.insert(task.id(), channel);
        }
        Ok(claims.next_at.map(|at| Duration::from_millis(u64::try_from(at - now).unwrap_or(0))))
    }
}

/// Sends one signal, and records what became of it.
async fn attempt(gateway: Arc<Gateway>, signal: ReadSignal) {
    let outcome = send(&gateway, &signal).await;
    let now = gateway.clock.now();
    let retry_at = match outcome {
        ReadOutcome::Later => read_retry(signal.attempts).map(|wait| now + wait),
        ReadOutcome::Sent | ReadOutcome::Refused => None,
    };
    if outcome != ReadOutcome::Sent && retry_at.is_none() {
        let id = gateway.directory.channel(signal.channel).map(|entry| entry.via.id.to_string());
        tracing::warn!(channel.id = id, conversation.id = %signal.conversation, "read signal dropped");
    }
    if let Err(error) = gateway.store.end_read(signal, retry_at, now).await {
        // Its attempt counts as lost later, and the signal is sent again.
        tracing::warn!(%error, "read signal not recorded");
    }
}

async fn send(gateway: &Gateway, signal: &ReadSignal) -> ReadOutcome {
    let Some(entry) = gateway.directory.channel(signal.channel) else { return ReadOutcome::Refused };
    let Some(driver) = gateway.drivers.of(entry.kind) else { return ReadOutcome::Refused };
    timeout(LIMIT, driver.mark_read(&entry.via, signal)).await.unwrap_or(ReadOutcome::Later)
}
