//! The conversations of the messages that are being sent.
//!
//! A message joins its conversation while the network has it, so that neither a call nor a claim waits for that. The messages
//! of one owner that wait at the same time join together: a transaction costs one sync of the disk, however many messages it
//! contains. Each owner has batches of its own, because only one transaction at a time changes the inbox of an owner: an inbox
//! that is busy, or a message that the store refuses, delays no other owner.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use recado_domain::channel::{ChannelKey, Epoch};
use recado_domain::clock::Clock;
use recado_domain::event::Owner;
use recado_domain::queue::Submitted;
use recado_store::{Queue, StoreError};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::directory::Directory;

/// The most messages that one transaction of the store joins.
const TOGETHER: usize = 128;
/// The most messages of one owner that wait.
const WAITING: usize = 8_192;
/// How long a known outcome waits for the conversation. The message joins later if that takes longer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long the messages of a crashed process are waited for.
const LEFT_TIMEOUT: Duration = Duration::from_secs(5);
/// After which time a message that cannot join stays without a conversation.
const GIVE_UP: Duration = Duration::from_secs(30);
/// The wait before a failed operation of the store is repeated.
const RETRY: Duration = Duration::from_millis(200);

/// Adds messages to their conversations.
pub(super) struct Joins {
    queue: Arc<dyn Queue>,
    clock: Arc<dyn Clock>,
    directory: Arc<Directory>,
    /// The messages that wait. Each owner here has a task that stores them; the task removes the owner when it ends.
    owners: Mutex<HashMap<Owner, VecDeque<Waiting>>>,
    /// The epochs in which the messages of a crashed process were joined, by their channels.
    examined: Mutex<HashMap<ChannelKey, Epoch>>,
}

struct Waiting {
    message: Submitted,
    since: Instant,
    /// Dropped without an answer if the message stays without a conversation.
    answer: oneshot::Sender<()>,
}

/// A message that joins its conversation.
pub(super) struct Joining(Option<oneshot::Receiver<()>>);

impl Joining {
    /// Waits until the message has joined or stays without a conversation, but not for long.
    pub(super) async fn wait(self) {
        if let Some(answer) = self.0 {
            drop(timeout(TIMEOUT, answer).await);
        }
    }
}

impl Joins {
    pub(super) fn new(queue: Arc<dyn Queue>, clock: Arc<dyn Clock>, directory: Arc<Directory>) -> Self {
        Self { queue, clock, directory, owners: Mutex::default(), examined: Mutex::default() }
    }

    /// The public id of a channel, for the log.
    fn id(&self, channel: ChannelKey) -> Option<String> {
        self.directory.channel(channel).map(|entry| entry.via.id.to_string())
    }

    /// Begins to add a message to its conversation.
    pub(super) fn join(self: &Arc<Self>, owner: Owner, message: Option<Submitted>) -> Joining {
        let Some(message) = message else { return Joining(None) };
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { message, since: Instant::now(), answer };
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(others) = owners.get_mut(&owner) {
            if others.len() < WAITING {
                others.push_back(waiting);
            } else {
                self.gives_up(&waiting);
            }
        } else {
            owners.insert(owner, VecDeque::from([waiting]));
            drop(tokio::spawn(self.clone().work(owner)));
        }
        Joining(Some(answered))
    }

    /// Joins the messages of an owner until none waits.
    async fn work(self: Arc<Self>, owner: Owner) {
        let mut most = TOGETHER;
        while let Some(batch) = self.take(owner, most) {
            let failed = self.store(owner, batch).await;
            if failed.is_empty() {
                most = TOGETHER.min(most + 1);
                continue;
            }
            // The store may be able to join fewer messages in the time that a transaction has.
            most = (failed.len() / 2).max(1);
            self.give_back(owner, failed);
            sleep(RETRY).await;
        }
    }

    /// The messages that have waited longest; `None`: there are none, and the task of the owner ends.
    fn take(&self, owner: Owner, most: usize) -> Option<Vec<Waiting>> {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = owners.get_mut(&owner).filter(|waiting| !waiting.is_empty());
        let Some(waiting) = waiting else {
            // Under the lock that `join` acquires: a message either is seen here or starts a new task.
            owners.remove(&owner);
            return None;
        };
        Some(waiting.drain(..waiting.len().min(most)).collect())
    }

    /// Puts messages back to the beginning.
    fn give_back(&self, owner: Owner, failed: Vec<Waiting>) {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = owners.entry(owner).or_default();
        for one in failed.into_iter().rev() {
            if one.since.elapsed() < GIVE_UP {
                waiting.push_front(one);
            } else {
                self.gives_up(&one);
            }
        }
    }

    /// Stores a batch. If the store refuses it, its halves are stored by themselves, so that the one message that is refused
    /// keeps no other from its conversation. Returns the messages that can join later.
    async fn store(&self, owner: Owner, batch: Vec<Waiting>) -> Vec<Waiting> {
        let (mut parts, mut failed) = (vec![batch], Vec::new());
        while let Some(mut part) = parts.pop() {
            let messages: Vec<_> = part.iter().map(|one| one.message.clone()).collect();
            let (queue, now) = (self.queue.clone(), self.clock.now());
            // In a task of its own, so that a panic does not end the task of the owner.
            let stored = tokio::spawn(async move { queue.join_conversations(owner, messages, now).await }).await;
            match stored {
                Ok(Ok(())) => {
                    for one in part {
                        // The outcome may have stopped waiting.
                        let _ = one.answer.send(());
                    }
                }
                Ok(Err(StoreError::Refused(_))) if part.len() > 1 => {
                    parts.push(part.split_off(part.len() / 2));
                    parts.push(part);
                }
                Ok(Err(StoreError::Refused(reason))) => {
                    let channel = part.first().map(|one| one.message.channel);
                    tracing::error!(
                        channel.id = channel.and_then(|key| self.id(key)),
                        error = reason,
                        "message joins no conversation"
                    );
                }
                Ok(Err(_)) => failed.extend(part),
                Err(error) => {
                    tracing::error!(%error, "task that joins conversations failed");
                    failed.extend(part);
                }
            }
        }
        failed
    }

    fn gives_up(&self, one: &Waiting) {
        let id = self.id(one.message.channel);
        tracing::warn!(channel.id = id, "message sent without a conversation: store unavailable");
    }

    /// Adds the messages to conversations that a crashed process had in flight on a channel. Once for each channel that this
    /// process owns, before its first claim settles these messages. `resends`: that claim settles none of them, because the
    /// network recognises a repeated message. Each joins with its next attempt then, so an overloaded store is not waited for.
    pub(super) async fn join_left(
        self: &Arc<Self>,
        owner: Owner,
        (channel, epoch): (ChannelKey, Epoch),
        resends: bool,
    ) {
        let examined = || self.examined.lock().unwrap_or_else(PoisonError::into_inner);
        if examined().get(&channel) == Some(&epoch) {
            return;
        }
        let read = async {
            loop {
                match self.queue.left_to_join(channel).await {
                    Ok(left) => return Some(left),
                    Err(StoreError::Overloaded) if resends => return None,
                    Err(_) => sleep(RETRY).await,
                }
            }
        };
        let left = match timeout(LEFT_TIMEOUT, read).await {
            Ok(Some(left)) => left,
            // The next task of the channel reads them again.
            Ok(None) => return,
            Err(_) => {
                tracing::warn!(
                    channel.id = self.id(channel),
                    "messages of a crashed process join no conversations: store unavailable"
                );
                return;
            }
        };
        examined().insert(channel, epoch);
        let joining: Vec<_> = left.into_iter().map(|message| self.join(owner, Some(message))).collect();
        let answers = joining.into_iter().filter_map(|joining| joining.0);
        // Those that need longer join after the claim.
        drop(timeout(LEFT_TIMEOUT, join_all(answers)).await);
    }
}
