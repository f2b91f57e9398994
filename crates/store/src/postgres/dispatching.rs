//! Dispatch: the channels of a node share transactions.
//!
//! A commit costs a sync of the disk, and a statement costs a plan, however many messages they change. So what waits goes
//! together: a batch locks its channels, records what became of their messages, and claims the next ones, each by one
//! statement for all of them. Each channel is fenced by itself. A channel goes alone where the batch would have to wait for
//! it, where its claim may look at many messages, and where the batch cannot be done: it holds up, and spoils, nobody else's.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::try_join;
use recado_domain::channel::{ChannelKey, ChannelType, Epoch, Ordering};
use recado_domain::message::Seq;
use recado_domain::queue::{Claim, ClaimPlan, ClaimRequest, Claimed, OpenRow, Outcomes};
use tokio::sync::Semaphore;

use super::apply::apply_all;
use super::claim::{claim, heads, plan_of_heads, send};
use super::lock::{Locked, Queues, lock, lock_free, save};
use super::queue::{Settling, record};
use crate::sqlkit::batches::{Batches, Bounds, Waiting};
use crate::sqlkit::postgres::db::{Db, Done, Failure, transaction};
use crate::sqlkit::postgres::pool::Pool;
use crate::{Result, StoreError};

/// One batch works in the database while another is prepared, or its disk is synced. A channel has one turn at a time, and
/// the dispatcher lets fewer ask at once than may wait.
const BOUNDS: Bounds = Bounds { most: 128, side_by_side: 2, waiting: 1_024 };

/// What one channel asks for: to record outcomes, to claim, or both in this order.
pub(super) struct Turn {
    pub outcomes: Option<Outcomes>,
    pub request: Option<ClaimRequest>,
}

/// What became of the two. What was not asked for is done.
pub(super) type Answer = (Result<()>, Result<Claim>);

impl Turn {
    /// The channel, and under which epoch the asker holds it.
    fn held(&self) -> (ChannelKey, Epoch) {
        let of_request = self.request.as_ref().map(|request| (request.channel, request.epoch));
        let of_outcomes = self.outcomes.as_ref().map(|outcomes| (outcomes.channel, outcomes.epoch));
        of_request.or(of_outcomes).unwrap_or_default()
    }

    /// Whether its claim, as far as the asker knows the channel, looks at the first messages alone.
    fn goes_together(&self) -> bool {
        let alone =
            |kind: ChannelType| kind.descriptor().ordering == Ordering::Recipient || kind.descriptor().opens_chats;
        !self.request.as_ref().is_some_and(|request| alone(request.kind))
    }
}

/// Where turns wait to be taken together.
pub(super) struct Dispatching {
    batches: Batches<Turn, Answer>,
    alone: Alone,
}

impl Dispatching {
    /// Works with this pool, which has so many connections.
    pub fn start(pool: Pool, connections: usize) -> Self {
        // Those that wait for locks leave some connections to the batches.
        let alone = Alone { pool: pool.clone(), room: Arc::new(Semaphore::new((connections / 2).max(1))) };
        let of_batches = alone.clone();
        Self { batches: Batches::start(BOUNDS, move |batch| run(pool.clone(), of_batches.clone(), batch)), alone }
    }

    pub async fn take(&self, turn: Turn) -> Answer {
        if turn.goes_together() {
            self.batches.ask(turn).await.unwrap_or_else(|ended| of_both(Err(ended)))
        } else {
            self.alone.take(turn).await
        }
    }
}

/// One result for both.
fn of_both(done: Result<Claim>) -> Answer {
    (done.as_ref().map(drop).map_err(Clone::clone), done)
}

/// Takes a batch's turns, and answers.
async fn run(pool: Pool, alone: Alone, batch: Vec<Waiting<Turn, Answer>>) {
    let mut channels = HashSet::new();
    // The second turn of a channel is of whoever holds it now.
    let (batch, second): (Vec<_>, Vec<_>) = batch.into_iter().partition(|one| channels.insert(one.work.held().0));
    second.into_iter().for_each(|one| alone.start(one));
    if batch.is_empty() {
        return;
    }
    let turns: Vec<_> = batch.iter().map(|one| &one.work).collect();
    let done: Result<Vec<Taken>> = async { transaction!(pool, db => Box::pin(together(db, &turns)).await) }.await;
    let taken = match done {
        Ok(taken) => taken,
        // One of them is at fault, and its neighbours must not fail with it.
        Err(StoreError::Refused(_)) => batch.iter().map(|_| Taken::NotYet).collect(),
        Err(error) => batch.iter().map(|_| Taken::Ended(Err(error.clone()))).collect(),
    };
    for (one, taken) in batch.into_iter().zip(taken) {
        match taken {
            // Who asked may be gone: the channel was lost meanwhile.
            Taken::Ended(done) => drop(one.answer.send(of_both(done))),
            Taken::NotYet => alone.start(one),
        }
    }
}

/// Takes turns in transactions of their own.
#[derive(Clone)]
struct Alone {
    pool: Pool,
    /// Those that are taken at a time.
    room: Arc<Semaphore>,
}

impl Alone {
    /// Takes a turn beside its batch.
    fn start(&self, Waiting { work, answer }: Waiting<Turn, Answer>) {
        let alone = self.clone();
        tokio::spawn(async move { answer.send(alone.take(work).await) });
    }

    async fn take(&self, turn: Turn) -> Answer {
        // Nobody closes it.
        let _room = self.room.acquire().await;
        match (self.one(&turn).await, turn) {
            // One of the two cannot be done, and the other must not fail with it.
            (Err(StoreError::Refused(_)), Turn { outcomes: outcomes @ Some(_), request: request @ Some(_) }) => {
                let settled = self.one(&Turn { outcomes, request: None }).await;
                (settled.map(drop), self.one(&Turn { outcomes: None, request }).await)
            }
            (done, _) => of_both(done),
        }
    }

    async fn one(&self, turn: &Turn) -> Result<Claim> {
        transaction!(self.pool, db => one(db, turn).await)
    }
}

async fn one(db: Db<'_>, turn: &Turn) -> Done<Claim> {
    let (channel, epoch) = turn.held();
    let Some(locked) = lock(db, channel).await? else { return Ok(Claim::default()) };
    locked.fence(epoch)?;
    let mut settling = [Settling::of(locked, turn.outcomes.as_ref())];
    record(db, &mut settling).await?;
    let [Settling { mut locked, .. }] = settling;
    let claim = match &turn.request {
        Some(request) => claim(db, &mut locked, request).await?,
        None => Claim::default(),
    };
    save(db, [&mut locked]).await?;
    Ok(claim)
}

/// What a batch has done about a turn.
enum Taken {
    Ended(Result<Claim>),
    /// Nothing was done for it: it goes alone.
    NotYet,
}

/// What is asked of a channel whose row a batch has locked.
struct Part<'a> {
    place: usize,
    claim: Option<(&'a ClaimRequest, ClaimPlan)>,
}

/// Takes the turns of some channels, each channel once.
async fn together(db: Db<'_>, turns: &[&Turn]) -> Done<Vec<Taken>> {
    let channels: Vec<_> = turns.iter().map(|turn| turn.held().0).collect();
    // Sent together, and run in this order: the messages are read under the locks.
    let (mut locked, heads) = try_join(lock_free(db, &channels), heads(db, &channels)).await?;
    let mut taken: Vec<_> = turns.iter().map(|_| Taken::NotYet).collect();
    let (mut parts, mut settling) = (Vec::new(), Vec::new());
    for (place, turn) in turns.iter().enumerate() {
        let (channel, epoch) = turn.held();
        // Another transaction has it, or there is none.
        let Some(locked) = locked.remove(&channel) else { continue };
        if let Err(Failure::Fenced) = locked.fence(epoch) {
            taken[place] = Taken::Ended(Err(StoreError::Fenced));
            continue;
        }
        let one = Settling::of(locked, turn.outcomes.as_ref());
        let heads = heads.get(&channel).map_or(&[][..], Vec::as_slice);
        let claim = turn.request.as_ref().map(|request| plan(&one, heads, request).map(|plan| (request, plan)));
        // Whatever may take long goes alone: the batch holds the locks of all its channels.
        if one.is_plain() && claim.as_ref().is_none_or(Option::is_some) {
            parts.push(Part { place, claim: claim.flatten() });
            settling.push(one);
        }
    }
    let queues = Queues::of(settling.iter().map(|one: &Settling<'_>| &one.locked));
    // Sent together as well: what is sent next does not depend on what is recorded.
    let ((), sent) = try_join(record(db, &mut settling), carry_out(db, &queues, &parts)).await?;
    let mut sent: HashMap<Seq, Claimed> = sent.into_iter().map(|message| (message.seq, message)).collect();
    for (part, one) in parts.iter().zip(&mut settling) {
        let claim = part.claim.as_ref().map(|(request, plan)| planned(plan, &mut one.locked, request, &mut sent));
        taken[part.place] = Taken::Ended(Ok(claim.unwrap_or_default()));
    }
    save(db, settling.iter_mut().map(|one| &mut one.locked)).await?;
    Ok(taken)
}

/// What a claim does after these outcomes; `None` where it looks at more than the channel's first messages.
fn plan(settling: &Settling<'_>, heads: &[OpenRow], request: &ClaimRequest) -> Option<ClaimPlan> {
    let mut queue = settling.locked.queue;
    queue.next_send_at = queue.next_send_at.max(settling.settled.defer_until.unwrap_or(0));
    plan_of_heads(heads, &settling.settled.transitions, &queue, request)
}

/// Does what the plans say, and gives what is sent.
async fn carry_out(db: Db<'_>, queues: &Queues, parts: &[Part<'_>]) -> Done<Vec<Claimed>> {
    let plans = || parts.iter().filter_map(|part| part.claim.as_ref().map(|(_, plan)| plan));
    let finished: Vec<_> = plans().flat_map(|plan| plan.finished.iter().cloned()).collect();
    let sends: Vec<_> = plans().filter_map(|plan| plan.sent.clone()).collect();
    let (_, sent) = try_join(apply_all(db, queues, &finished), send(db, queues, &sends)).await?;
    Ok(sent)
}

/// The answer to a claim whose plan was carried out.
fn planned(plan: &ClaimPlan, locked: &mut Locked, request: &ClaimRequest, sent: &mut HashMap<Seq, Claimed>) -> Claim {
    let mut wakeup = plan.wakeup;
    let message = plan.sent.as_ref().and_then(|transition| sent.remove(&transition.seq()));
    if plan.sent.is_some() && message.is_none() {
        // It is not what it was when it was read.
        wakeup.schedule(request.now);
    }
    locked.rest(request, message.is_some());
    Claim { messages: message.into_iter().collect(), next_at: wakeup.next_at, holds_all: wakeup.holds_all }
}
