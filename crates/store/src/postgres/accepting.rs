//! Accepting messages in batches.
//!
//! A commit costs one sync of the disk, however many messages it stores. So one task of the node stores all waiting
//! messages (at most [`BATCH`]), reads what decides about them, and stores the accepted ones. Messages with idempotency
//! keys and messages without keys are two statements, and each statement is a transaction of its own. The task answers
//! after the commit. It locks no channel: otherwise every message would wait for a claim.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use recado_domain::channel::ChannelKey;
use recado_domain::ids::MessageId;
use recado_domain::message::{Enqueued, Idempotency, NewMessage};
use recado_domain::queue::admit;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::enqueue::{Form, Lookup, find, insert, look_up};
use super::levels::Levels;
use crate::commits::{Change, Follower};
use crate::sqlkit::postgres::db::{PATIENCE, with_connection};
use crate::sqlkit::postgres::pool::Pool;
use crate::{Health, Result, StoreError};

/// Most messages in one commit.
const BATCH: usize = 512;
/// The wait before the database is asked again for a batch whose answer was lost.
const RETRY: Duration = Duration::from_millis(100);
/// Most messages that wait; more are refused, so that memory stays bounded when the database is slow.
const WAITING: usize = 8_192;

struct Waiting {
    message: NewMessage,
    answer: oneshot::Sender<Result<Enqueued>>,
}

enum Item {
    Message(Box<Waiting>),
    Close(oneshot::Sender<()>),
}

/// Where messages wait to be stored together.
pub(super) struct Accepting {
    queue: mpsc::Sender<Item>,
    health: watch::Receiver<Health>,
}

impl Accepting {
    pub fn start(pool: Pool, follower: Follower, levels: Levels) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        let health = pool.health();
        tokio::spawn(Acceptor { pool, follower, levels, backlogs: HashMap::new() }.run(waiting));
        Self { queue, health }
    }

    pub async fn accept(&self, message: NewMessage) -> Result<Enqueued> {
        if let Health::Down(why) = &*self.health.borrow() {
            return Err(StoreError::Unavailable(why.clone()));
        }
        let (answer, answered) = oneshot::channel();
        let waiting = Item::Message(Box::new(Waiting { message, answer }));
        self.queue.try_send(waiting).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => closed(),
        })?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Stores all waiting messages.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.queue.send(Item::Close(done)).await.is_ok() {
            // It may be closed twice.
            let _ = closed.await;
        }
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".to_owned())
}

/// How many messages of a channel are open, as far as this node knows. The node counts its own messages at once, and
/// those of other nodes at the next count. A single node keeps the cap exactly. Several nodes together may exceed it by
/// what the others accept within [`STALE`], or by a [`SMALL`] part of the cap each.
struct Backlog {
    counted: usize,
    /// The limit of the count: it was not counted further.
    limit: usize,
    /// Messages that this node has accepted since.
    since: usize,
    at: Instant,
}

/// The age at which a count is repeated, if the backlog may be filling up.
const STALE: Duration = Duration::from_secs(5);
/// A node may accept this part of the cap without a new count. So may every other node.
const SMALL: usize = 64;
/// Counting to a cap above this takes long, so a full backlog is counted only once in [`AGAIN`].
const LARGE: usize = 1_000;
const AGAIN: Duration = Duration::from_secs(1);

impl Backlog {
    fn open(&self) -> usize {
        self.counted + self.since
    }

    /// Whether to count again before this many more messages are accepted.
    fn is_due(&self, coming: usize, cap: usize) -> bool {
        let age = self.at.elapsed();
        let cut_short = self.counted >= self.limit && self.limit < cap;
        let fills = self.open() + coming > cap && (cap <= LARGE || age >= AGAIN);
        let grows = self.since > cap / SMALL || self.open() > cap / 2;
        cut_short || fills || age >= STALE && grows
    }
}

/// The decision about a message.
enum Decision {
    Answer(Enqueued),
    Store,
    /// An earlier message of the batch, at this index, has the same key. This message gets this answer if the earlier
    /// one is stored.
    SameKey(usize, Enqueued),
    /// To be decided again when the earlier messages are stored.
    Later,
}

/// The answer to one message; `None` if it has to be decided again.
type Answer = Result<Option<Enqueued>>;

struct Acceptor {
    pool: Pool,
    follower: Follower,
    levels: Levels,
    backlogs: HashMap<ChannelKey, Backlog>,
}

impl Acceptor {
    async fn run(mut self, mut waiting: mpsc::Receiver<Item>) {
        let (mut batch, mut items, mut closing) = (Vec::new(), Vec::new(), None);
        loop {
            if !batch.is_empty() {
                while batch.len() + items.len() < BATCH
                    && let Ok(item) = waiting.try_recv()
                {
                    items.push(item);
                }
            } else if closing.is_some() || waiting.recv_many(&mut items, BATCH).await == 0 {
                // The closing task may have ended.
                let _ = closing.map(|done: oneshot::Sender<()>| done.send(()));
                return;
            }
            for item in items.drain(..) {
                match item {
                    Item::Message(message) => batch.push(*message),
                    Item::Close(done) => closing = Some(done),
                }
            }
            // Stored separately: a key that another node is inserting delays no message without a key.
            let (keyed, plain) = batch.into_iter().partition(|waiting| waiting.message.idempotency.is_some());
            batch = self.store(plain).await;
            batch.extend(self.store(keyed).await);
        }
    }

    /// Stores a batch and answers. Returns the messages that have to be decided again.
    async fn store(&mut self, batch: Vec<Waiting>) -> Vec<Waiting> {
        if batch.is_empty() {
            return batch;
        }
        let messages: Vec<_> = batch.iter().map(|waiting| &waiting.message).collect();
        let answers = match self.accept_all(&messages).await {
            Ok(answers) => answers,
            // The database refuses one message. The others must not fail with it.
            Err(StoreError::Refused(_)) if messages.len() > 1 => {
                let mut answers = Vec::with_capacity(messages.len());
                for message in &messages {
                    answers.push(self.accept_all(&[*message]).await.and_then(|mut answer| answer.remove(0)));
                }
                answers
            }
            Err(error) => vec![Err(error); messages.len()],
        };
        let accepted = messages
            .iter()
            .zip(&answers)
            .filter(|(_, answer)| matches!(answer, Ok(Some(Enqueued::Accepted | Enqueued::Replayed(_)))));
        let channels: HashSet<ChannelKey> = accepted.map(|(message, _)| message.channel).collect();
        let schedules = messages.iter().any(|message| message.send_at.is_some()).then_some(Change::Scheduled);
        // Notified here and not by the callers, because they may have disconnected.
        self.follower.notify(channels.into_iter().map(Change::Accepted).chain(schedules).collect());
        let mut again = Vec::new();
        for (waiting, answer) in batch.into_iter().zip(answers) {
            if let Some(answer) = answer.transpose() {
                // The caller may have disconnected.
                let _ = waiting.answer.send(answer);
            } else {
                again.push(waiting);
            }
        }
        again
    }

    /// Decides about messages and stores the accepted ones. An error applies to all of them.
    async fn accept_all(&mut self, messages: &[&NewMessage]) -> Result<Vec<Answer>> {
        let counting = self.counting(messages);
        let (known, counted): (Lookup, _) = with_connection!(self.pool, db => look_up(db, messages, &counting))?;
        let at = Instant::now();
        for ((channel, limit), counted) in counting.into_iter().zip(counted) {
            self.backlogs.insert(channel, Backlog { counted, limit, since: 0, at });
        }
        // Read once, because the refusals and the stored form must agree.
        let form = if self.levels.all_understand_kinds() { Form::Kinds } else { Form::Cards };
        let decisions = self.decide(messages, &known, form);
        let new = messages.iter().zip(&decisions).filter(|(_, decision)| matches!(decision, Decision::Store));
        let new: Vec<_> = new.map(|(message, _)| *message).collect();
        let (stored, unknown) = self.insert(&new, &known, form).await?;
        for message in new.iter().filter(|message| stored.contains(&message.id)) {
            self.backlogs.entry(message.channel).and_modify(|backlog| backlog.since += 1);
        }
        let if_stored = |place: usize, answer| match &unknown {
            _ if stored.contains(&messages[place].id) => Ok(Some(answer)),
            Some(error) => Err(error.clone()),
            // Another node has stored a message with this key first.
            None => Ok(None),
        };
        let answers = decisions.into_iter().enumerate().map(|(place, decision)| match decision {
            Decision::Answer(answer) => Ok(Some(answer)),
            Decision::Store => if_stored(place, Enqueued::Accepted),
            Decision::SameKey(of, answer) => if_stored(of, answer),
            Decision::Later => Ok(None),
        });
        Ok(answers.collect())
    }

    /// The channels to count, each with the limit of the count.
    fn counting(&self, messages: &[&NewMessage]) -> Vec<(ChannelKey, usize)> {
        let mut coming: HashMap<ChannelKey, (usize, usize)> = HashMap::new();
        for message in messages {
            let (n, cap) = coming.entry(message.channel).or_default();
            (*n, *cap) = (*n + 1, message.backlog_cap.max(*cap));
        }
        let due = |channel: &ChannelKey, (n, cap): (usize, usize)| {
            self.backlogs.get(channel).is_none_or(|backlog| backlog.is_due(n, cap))
        };
        coming.into_iter().filter(|(channel, of)| due(channel, *of)).map(|(channel, (_, cap))| (channel, cap)).collect()
    }

    fn decide(&self, messages: &[&NewMessage], known: &Lookup, form: Form) -> Vec<Decision> {
        let mut keys = HashMap::new();
        let mut accepted: HashMap<ChannelKey, usize> = HashMap::new();
        let mut decisions = Vec::with_capacity(messages.len());
        for (place, message) in messages.iter().enumerate() {
            let key = message.idempotency.as_ref().map(name_of);
            let open = self.backlogs.get(&message.channel).map_or(0, Backlog::open)
                + accepted.get(&message.channel).copied().unwrap_or(0);
            let queue = known.queues.get(&message.channel);
            let same = key.and_then(|key| keys.get(&key)).filter(|_| queue.is_some_and(|queue| !queue.deleted));
            let decision = if let Some(same) = same {
                answer_of_same_key(messages, *same, message)
            } else if let Err(answer) = admit(queue, known.earlier.get(&place).copied(), (open, message.backlog_cap)) {
                Decision::Answer(answer)
            } else if !form.can_hold(message) {
                Decision::Answer(Enqueued::OldNodes)
            } else {
                *accepted.entry(message.channel).or_default() += 1;
                key.map(|key| keys.insert(key, place));
                Decision::Store
            };
            decisions.push(decision);
        }
        decisions
    }

    /// Stores messages and returns the ids of the stored ones. For the others the error applies; without an error,
    /// another node has used their key.
    async fn insert(
        &mut self,
        new: &[&NewMessage],
        known: &Lookup,
        form: Form,
    ) -> Result<(HashSet<MessageId>, Option<StoreError>)> {
        if new.is_empty() {
            return Ok((HashSet::new(), None));
        }
        let stored: Result<HashSet<MessageId>> =
            async { with_connection!(self.pool, db => insert(db, new, &known.queues, form)) }.await;
        let lost = match stored {
            Ok(stored) => return Ok((stored, None)),
            Err(error @ StoreError::Unavailable(_)) => error,
            Err(error) => return Err(error),
        };
        // It is unknown which messages were stored, until the database is back.
        self.backlogs.clear();
        match tokio::time::timeout(PATIENCE, self.stored(new)).await {
            Ok(stored) => Ok((stored, Some(lost))),
            Err(_) => Err(lost),
        }
    }

    /// The ids of the stored messages, as soon as the database answers.
    async fn stored(&self, new: &[&NewMessage]) -> HashSet<MessageId> {
        let mut health = self.pool.health();
        loop {
            // The sender exists as long as the pool, so this does not fail.
            let _ = health.wait_for(|health| *health == Health::Up).await;
            let stored: Result<HashSet<MessageId>> = async { with_connection!(self.pool, db => find(db, new)) }.await;
            match stored {
                Ok(stored) => return stored,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }
}

/// What identifies a use of a key.
fn name_of(key: &Idempotency) -> (&[u8; 16], &'static str, &str, &str) {
    (key.institution.as_bytes(), key.environment.name(), key.route, &key.key)
}

/// The answer to a message whose key an earlier message of the batch has.
fn answer_of_same_key(messages: &[&NewMessage], same: usize, message: &NewMessage) -> Decision {
    let (first, again) = (messages[same].idempotency.as_ref(), message.idempotency.as_ref());
    match first.zip(again) {
        Some((_, again)) if messages[same].accepted_at < again.forget_before => Decision::Later,
        Some((first, again)) if again.is_of(&first.fingerprint) => {
            Decision::SameKey(same, Enqueued::Replayed(messages[same].id))
        }
        _ => Decision::SameKey(same, Enqueued::KeyReused),
    }
}
