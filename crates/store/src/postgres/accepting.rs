//! Accepting messages: those that come together are stored together.
//!
//! A commit costs a sync of the disk, whatever it holds. So one task of the node takes all messages that wait (at most
//! [`BATCH`]), asks what decides about them, and stores those that are taken: those with idempotency keys, together with
//! these, by one statement and those without by another, each a transaction of its own. Only then it answers. No channel is
//! locked: that would have every message wait for a claim.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use recado_domain::channel::ChannelKey;
use recado_domain::ids::MessageId;
use recado_domain::message::{Enqueued, Idempotency, NewMessage};
use recado_domain::queue::admit;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::enqueue::{Form, Known, find, insert, look};
use super::levels::Levels;
use crate::commits::{Change, Follower};
use crate::sqlkit::postgres::db::{PATIENCE, plainly};
use crate::sqlkit::postgres::pool::Pool;
use crate::{Health, Result, StoreError};

/// Most messages in one commit.
const BATCH: usize = 512;
/// The wait before a database that lost a batch's answer is asked again what it kept of it.
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

    /// Stores what waits.
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

/// How many messages of a channel are open, as far as this node knows. What it accepts is counted at once, and what
/// others accept when it counts anew: alone, it keeps the cap to the message, and several may overshoot it by what the
/// others accept in [`STALE`], or a [`SMALL`] part of it each.
struct Backlog {
    counted: usize,
    /// It was not counted further than that.
    limit: usize,
    /// Accepted since.
    since: usize,
    at: Instant,
}

/// The age of a count at which it is made anew, where the backlog may be filling up.
const STALE: Duration = Duration::from_secs(5);
/// The part of the cap that a node may accept without counting anew, as others may, too.
const SMALL: usize = 64;
/// A cap beyond which counting takes so long that a full backlog is counted only once in [`AGAIN`].
const LARGE: usize = 1_000;
const AGAIN: Duration = Duration::from_secs(1);

impl Backlog {
    fn open(&self) -> usize {
        self.counted + self.since
    }

    /// Whether to count anew before so many more come.
    fn is_due(&self, coming: usize, cap: usize) -> bool {
        let age = self.at.elapsed();
        let cut_short = self.counted >= self.limit && self.limit < cap;
        let fills = self.open() + coming > cap && (cap <= LARGE || age >= AGAIN);
        let grows = self.since > cap / SMALL || self.open() > cap / 2;
        cut_short || fills || age >= STALE && grows
    }
}

/// What is decided about a message.
enum Verdict {
    Answer(Enqueued),
    Store,
    /// The same key stands before it in its batch, at that place: it has this answer if that one is stored.
    Twin(usize, Enqueued),
    /// To be looked at again, when those before it are stored.
    Later,
}

/// One message's answer; `None` when it has to be looked at again.
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
                // Whoever closes may be gone.
                let _ = closing.map(|done: oneshot::Sender<()>| done.send(()));
                return;
            }
            for item in items.drain(..) {
                match item {
                    Item::Message(message) => batch.push(*message),
                    Item::Close(done) => closing = Some(done),
                }
            }
            // Apart, so that a use of a key that another node is just noting holds up nobody else.
            let (keyed, plain) = batch.into_iter().partition(|waiting| waiting.message.idempotency.is_some());
            batch = self.store(plain).await;
            batch.extend(self.store(keyed).await);
        }
    }

    /// Stores a batch and answers; gives those back that have to be looked at again.
    async fn store(&mut self, batch: Vec<Waiting>) -> Vec<Waiting> {
        if batch.is_empty() {
            return batch;
        }
        let messages: Vec<_> = batch.iter().map(|waiting| &waiting.message).collect();
        let answers = match self.together(&messages).await {
            Ok(answers) => answers,
            // One of them is at fault, and its neighbours must not fail with it.
            Err(StoreError::Refused(_)) if messages.len() > 1 => {
                let mut answers = Vec::with_capacity(messages.len());
                for message in &messages {
                    answers.push(self.together(&[*message]).await.and_then(|mut answer| answer.remove(0)));
                }
                answers
            }
            Err(error) => vec![Err(error); messages.len()],
        };
        let taken = messages
            .iter()
            .zip(&answers)
            .filter(|(_, answer)| matches!(answer, Ok(Some(Enqueued::Accepted | Enqueued::Replayed(_)))));
        let channels: HashSet<ChannelKey> = taken.map(|(message, _)| message.channel).collect();
        let schedules = messages.iter().any(|message| message.send_at.is_some()).then_some(Change::Scheduled);
        // Whether or not a caller still waits.
        self.follower.tell(channels.into_iter().map(Change::Accepted).chain(schedules).collect());
        let mut again = Vec::new();
        for (waiting, answer) in batch.into_iter().zip(answers) {
            if let Some(answer) = answer.transpose() {
                // Nobody waits any more: a caller may hang up at any time.
                let _ = waiting.answer.send(answer);
            } else {
                again.push(waiting);
            }
        }
        again
    }

    /// Decides about messages and stores those that are taken; an error is of all of them.
    async fn together(&mut self, messages: &[&NewMessage]) -> Result<Vec<Answer>> {
        let counting = self.counting(messages);
        let (known, counted): (Known, _) = plainly!(self.pool, db => look(db, messages, &counting))?;
        let at = Instant::now();
        for ((channel, limit), counted) in counting.into_iter().zip(counted) {
            self.backlogs.insert(channel, Backlog { counted, limit, since: 0, at });
        }
        // Asked once: what is refused and the form in which the rest is stored go together.
        let form = if self.levels.all_understand_kinds() { Form::Kinds } else { Form::Cards };
        let verdicts = self.decide(messages, &known, form);
        let new = messages.iter().zip(&verdicts).filter(|(_, verdict)| matches!(verdict, Verdict::Store));
        let new: Vec<_> = new.map(|(message, _)| *message).collect();
        let (stored, unknown) = self.insert(&new, &known, form).await?;
        for message in new.iter().filter(|message| stored.contains(&message.id)) {
            self.backlogs.entry(message.channel).and_modify(|backlog| backlog.since += 1);
        }
        let if_stored = |place: usize, answer| match &unknown {
            _ if stored.contains(&messages[place].id) => Ok(Some(answer)),
            Some(error) => Err(error.clone()),
            // Another node was faster with its key.
            None => Ok(None),
        };
        let answers = verdicts.into_iter().enumerate().map(|(place, verdict)| match verdict {
            Verdict::Answer(answer) => Ok(Some(answer)),
            Verdict::Store => if_stored(place, Enqueued::Accepted),
            Verdict::Twin(of, answer) => if_stored(of, answer),
            Verdict::Later => Ok(None),
        });
        Ok(answers.collect())
    }

    /// The channels whose backlogs are to be counted, and how far.
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

    fn decide(&self, messages: &[&NewMessage], known: &Known, form: Form) -> Vec<Verdict> {
        let mut keys = HashMap::new();
        let mut taken: HashMap<ChannelKey, usize> = HashMap::new();
        let mut verdicts = Vec::with_capacity(messages.len());
        for (place, message) in messages.iter().enumerate() {
            let key = message.idempotency.as_ref().map(name_of);
            let open = self.backlogs.get(&message.channel).map_or(0, Backlog::open)
                + taken.get(&message.channel).copied().unwrap_or(0);
            let queue = known.queues.get(&message.channel);
            let twin = key.and_then(|key| keys.get(&key)).filter(|_| queue.is_some_and(|queue| !queue.deleted));
            let verdict = if let Some(twin) = twin {
                as_twin(messages, *twin, message)
            } else if let Err(answer) = admit(queue, known.earlier.get(&place).copied(), (open, message.backlog_cap)) {
                Verdict::Answer(answer)
            } else if !form.can_hold(message) {
                Verdict::Answer(Enqueued::OldNodes)
            } else {
                *taken.entry(message.channel).or_default() += 1;
                key.map(|key| keys.insert(key, place));
                Verdict::Store
            };
            verdicts.push(verdict);
        }
        verdicts
    }

    /// Stores messages: which ones. Those that it does not give have the error, or else lost their key to another node.
    async fn insert(
        &mut self,
        new: &[&NewMessage],
        known: &Known,
        form: Form,
    ) -> Result<(HashSet<MessageId>, Option<StoreError>)> {
        if new.is_empty() {
            return Ok((HashSet::new(), None));
        }
        let stored: Result<HashSet<MessageId>> =
            async { plainly!(self.pool, db => insert(db, new, &known.queues, form)) }.await;
        let lost = match stored {
            Ok(stored) => return Ok((stored, None)),
            Err(error @ StoreError::Unavailable(_)) => error,
            Err(error) => return Err(error),
        };
        // Nobody knows what was kept. Once the database is back, what is there was.
        self.backlogs.clear();
        match tokio::time::timeout(PATIENCE, self.stored(new)).await {
            Ok(stored) => Ok((stored, Some(lost))),
            Err(_) => Err(lost),
        }
    }

    /// Which of them are there, as soon as the database says so.
    async fn stored(&self, new: &[&NewMessage]) -> HashSet<MessageId> {
        let mut health = self.pool.health();
        loop {
            // Its sender lives as long as the pool.
            let _ = health.wait_for(|health| *health == Health::Up).await;
            let stored: Result<HashSet<MessageId>> = async { plainly!(self.pool, db => find(db, new)) }.await;
            match stored {
                Ok(stored) => return stored,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }
}

/// What tells one use of a key from others.
fn name_of(key: &Idempotency) -> (&[u8; 16], &'static str, &str, &str) {
    (key.institution.as_bytes(), key.environment.name(), key.route, &key.key)
}

/// The answer to a message whose key stands before it in its batch.
fn as_twin(messages: &[&NewMessage], twin: usize, message: &NewMessage) -> Verdict {
    let (first, again) = (messages[twin].idempotency.as_ref(), message.idempotency.as_ref());
    match first.zip(again) {
        Some((_, again)) if messages[twin].accepted_at < again.forget_before => Verdict::Later,
        Some((first, again)) if again.is_of(&first.fingerprint) => {
            Verdict::Twin(twin, Enqueued::Replayed(messages[twin].id))
        }
        _ => Verdict::Twin(twin, Enqueued::KeyReused),
    }
}
