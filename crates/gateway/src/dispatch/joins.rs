//! The conversations of the messages that are being sent.
//!
//! A message joins its conversation while the network has it, so that neither a call nor a claim waits for that. The messages
//! that wait at the same time join together: a transaction costs one sync of the disk, however many messages it contains.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use recado_domain::channel::{ChannelKey, Epoch};
use recado_domain::clock::{Clock, Millis};
use recado_domain::queue::Submitted;
use recado_store::{Queue, StoreError};
use tokio::sync::{Mutex as AsyncMutex, oneshot};

/// The most messages that one transaction of the store joins.
const TOGETHER: usize = 128;
/// How long a message waits for its conversation. A message whose outcome is known must not wait for the store much longer
/// than for the network.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The wait before a failed operation of the store is repeated.
const RETRY: Duration = Duration::from_millis(200);

/// Adds messages to their conversations.
pub(super) struct Joins {
    queue: Arc<dyn Queue>,
    clock: Arc<dyn Clock>,
    waiting: Mutex<Vec<Waiting>>,
    /// Held while a batch is stored: one of the waiting calls stores the messages of all.
    storing: AsyncMutex<()>,
    /// The epochs in which the messages of a crashed process were joined, by their channels.
    examined: Mutex<HashMap<ChannelKey, Epoch>>,
}

struct Waiting {
    message: Submitted,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

impl Joins {
    pub(super) fn new(queue: Arc<dyn Queue>, clock: Arc<dyn Clock>) -> Self {
        let (waiting, storing, examined) = (Mutex::default(), AsyncMutex::default(), Mutex::default());
        Self { queue, clock, waiting, storing, examined }
    }

    /// Adds a message to its conversation. If the store fails for long, the message stays without one.
    pub(super) async fn join(&self, message: Option<Submitted>) {
        let Some(message) = message else { return };
        let channel = message.channel;
        if tokio::time::timeout(TIMEOUT, self.until_joined(message)).await.is_err() {
            tracing::warn!(channel.key = channel, "message sent without a conversation: store unavailable");
        }
    }

    async fn until_joined(&self, message: Submitted) {
        while let Err(error) = self.join_with_others(message.clone()).await {
            if let StoreError::Refused(reason) = error {
                tracing::error!(channel.key = message.channel, error = reason, "message joins no conversation");
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Joins with all messages that wait. The first caller that gets the lock stores the messages of the others.
    async fn join_with_others(&self, message: Submitted) -> Result<(), StoreError> {
        let (answer, mut answered) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(Waiting { message, answer });
        loop {
            tokio::select! {
                biased;
                answer = &mut answered => return answer.unwrap_or(Err(StoreError::Overloaded)),
                _storing = self.storing.lock() => self.store().await,
            }
        }
    }

    /// Stores a batch, and answers. The batch ends although its caller is dropped.
    async fn store(&self) {
        let batch = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let most = waiting.len().min(TOGETHER);
            let rest = waiting.split_off(most);
            std::mem::replace(&mut *waiting, rest)
        };
        let (queue, now) = (self.queue.clone(), self.clock.now());
        let stored = tokio::spawn(store(queue, batch, now)).await;
        if let Err(error) = stored {
            tracing::error!(%error, "task that joins conversations failed");
        }
    }
}

impl Joins {
    /// Adds the messages to conversations that a crashed process had in flight on a channel. Once for each channel that this
    /// process owns, before its first claim settles these messages.
    pub(super) async fn join_left(&self, (channel, epoch): (ChannelKey, Epoch)) {
        let examined = || self.examined.lock().unwrap_or_else(PoisonError::into_inner);
        if examined().get(&channel) == Some(&epoch) {
            return;
        }
        // A failure is a failure of the store. The claim then fails too, and the next task tries again.
        let Ok(left) = self.queue.left_to_join(channel).await else { return };
        if !left.is_empty() && self.queue.join_conversations(left, self.clock.now()).await.is_err() {
            return;
        }
        examined().insert(channel, epoch);
    }
}

async fn store(queue: Arc<dyn Queue>, batch: Vec<Waiting>, now: Millis) {
    let (messages, answers): (Vec<_>, Vec<_>) = batch.into_iter().map(|one| (one.message, one.answer)).unzip();
    let stored = queue.join_conversations(messages.clone(), now).await;
    let is_alone = messages.len() == 1;
    for (message, answer) in messages.into_iter().zip(answers) {
        let stored = match &stored {
            // One message is refused, and the others must not fail with it.
            Err(StoreError::Refused(_)) if !is_alone => queue.join_conversations(vec![message], now).await,
            stored => stored.clone(),
        };
        // The caller may have stopped waiting.
        drop(answer.send(stored));
    }
}
