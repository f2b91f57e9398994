//! Dispatch: the channels of a node share transactions.
//!
//! A commit costs one sync of the disk, and a statement costs one plan, however many messages they change. So the
//! waiting calls go together: a batch locks its channels, stores the outcomes, and claims the next messages, each with
//! one statement for all channels. Each channel is fenced by itself. A channel gets a transaction of its own if the
//! batch would have to wait for its lock, if its claim may scan many messages, or if the batch fails. So it delays no
//! other channel, and fails none.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::try_join;
use recado_domain::channel::{ChannelKey, Epoch, Ordering};
use recado_domain::message::Seq;
use recado_domain::queue::{Claim, ClaimPlan, ClaimRequest, Claimed, OpenRow, Outcomes};
use tokio::sync::Semaphore;

use super::apply::apply_all;
use super::claim::{claim, heads, plan_of_heads, send};
use super::lock::{Queues, lock, lock_free, save};
use super::new_chats;
use super::queue::{Settling, record};
use super::recipients::{self, Claiming};
use crate::sqlkit::batches::{Batches, Bounds, Waiting};
use crate::sqlkit::postgres::db::{Db, Done, Failure, with_transaction};
use crate::sqlkit::postgres::pool::Pool;
use crate::{Result, StoreError};

/// One batch works in the database while the next is prepared, or while the disk is synced. A channel has one call at a
/// time, and the dispatcher lets fewer channels call at once than may wait.
const BOUNDS: Bounds = Bounds { most: 128, side_by_side: 2, waiting: 1_024 };

/// Outcomes that are recorded together at most.
const OUTCOMES: usize = 2_048;

/// A call for one channel: to store outcomes, to claim, or both in this order.
pub(super) struct Call {
    pub outcomes: Option<Outcomes>,
    pub request: Option<ClaimRequest>,
}

/// The results of both. A part that was not requested is `Ok`.
pub(super) type Answer = (Result<()>, Result<Claim>);

impl Call {
    /// The channel, and the epoch of the caller.
    fn held(&self) -> (ChannelKey, Epoch) {
        let of_request = self.request.as_ref().map(|request| (request.channel, request.epoch));
        let of_outcomes = self.outcomes.as_ref().map(|outcomes| (outcomes.channel, outcomes.epoch));
        of_request.or(of_outcomes).unwrap_or_default()
    }
}

/// Collects calls into batches.
pub(super) struct Dispatching(Batches<Call, Answer>);

impl Dispatching {
    /// Starts with this pool of so many connections.
    pub fn start(pool: Pool, connections: usize) -> Self {
        // Calls that wait for locks leave some connections to the batches.
        let alone = Alone { pool: pool.clone(), room: Arc::new(Semaphore::new((connections / 2).max(1))) };
        Self(Batches::start(BOUNDS, move |batch| run(pool.clone(), alone.clone(), batch)))
    }

    pub async fn run(&self, call: Call) -> Answer {
        self.0.ask(call).await.unwrap_or_else(|ended| of_both(Err(ended)))
    }
}

/// One result for both parts.
fn of_both(done: Result<Claim>) -> Answer {
    (done.as_ref().map(drop).map_err(Clone::clone), done)
}

/// Runs the calls of a batch, and answers.
async fn run(pool: Pool, alone: Alone, batch: Vec<Waiting<Call, Answer>>) {
    let mut channels = HashSet::new();
    let mut outcomes = 0;
    // Of two calls for one channel, the second comes from its present owner.
    let (batch, others): (Vec<_>, Vec<_>) = batch.into_iter().partition(|one| {
        outcomes += one.work.outcomes.as_ref().map_or(0, |outcomes| outcomes.settled.len());
        channels.insert(one.work.held().0) && outcomes <= OUTCOMES
    });
    others.into_iter().for_each(|one| alone.start(one));
    if batch.is_empty() {
        return;
    }
    let calls: Vec<_> = batch.iter().map(|one| &one.work).collect();
    let done: Result<Vec<Progress>> =
        async { with_transaction!(pool, db => Box::pin(run_batch(db, &calls)).await) }.await;
    let progress = match done {
        Ok(progress) => progress,
        // One call is refused, and the others must not fail with it.
        Err(StoreError::Refused(_)) => batch.iter().map(|_| Progress::NotYet).collect(),
        Err(error) => batch.iter().map(|_| Progress::Ended(Err(error.clone()))).collect(),
    };
    for (one, progress) in batch.into_iter().zip(progress) {
        match progress {
            // The caller may have stopped waiting: the node lost the channel meanwhile.
            Progress::Ended(done) => drop(one.answer.send(of_both(done))),
            Progress::NotYet => alone.start(one),
            Progress::Settled => alone.claim(one),
        }
    }
}

/// Runs calls in transactions of their own.
#[derive(Clone)]
struct Alone {
    pool: Pool,
    /// Limits the transactions at a time.
    room: Arc<Semaphore>,
}

impl Alone {
    /// Runs a call outside its batch.
    fn start(&self, Waiting { work, answer }: Waiting<Call, Answer>) {
        let alone = self.clone();
        tokio::spawn(async move { answer.send(alone.run(work).await) });
    }

    /// Claims in a transaction of its own, after the batch has stored the outcomes.
    fn claim(&self, Waiting { work: Call { request, .. }, answer }: Waiting<Call, Answer>) {
        let alone = self.clone();
        tokio::spawn(async move { answer.send((Ok(()), alone.run(Call { outcomes: None, request }).await.1)) });
    }

    async fn run(&self, call: Call) -> Answer {
        // The semaphore is never closed.
        let _room = self.room.acquire().await;
        match (self.one(&call).await, call) {
            // One of the two parts is refused, and the other must not fail with it.
            (Err(StoreError::Refused(_)), Call { outcomes: outcomes @ Some(_), request: request @ Some(_) }) => {
                let settled = self.one(&Call { outcomes, request: None }).await;
                (settled.map(drop), self.one(&Call { outcomes: None, request }).await)
            }
            (done, _) => of_both(done),
        }
    }

    async fn one(&self, call: &Call) -> Result<Claim> {
        with_transaction!(self.pool, db => Box::pin(one(db, call)).await)
    }
}

async fn one(db: Db<'_>, call: &Call) -> Done<Claim> {
    let (channel, epoch) = call.held();
    let Some(locked) = lock(db, channel).await? else { return Ok(Claim::default()) };
    locked.fence(epoch)?;
    let mut settling = [Settling::of(locked, call.outcomes.as_ref())];
    record(db, &mut settling).await?;
    let [Settling { mut locked, .. }] = settling;
    let claim = match &call.request {
        Some(request) => claim(db, &mut locked, request).await?,
        None => Claim::default(),
    };
    save(db, [&mut locked]).await?;
    Ok(claim)
}

/// What a batch has done with a call.
enum Progress {
    Ended(Result<Claim>),
    /// Nothing was done: the call runs in a transaction of its own.
    NotYet,
    /// The outcomes are stored. The claim runs in a transaction of its own.
    Settled,
}

/// A call for a channel whose row the batch has locked.
struct Part<'a> {
    place: usize,
    request: Option<&'a ClaimRequest>,
    /// The plan of the claim, if it needs only the first messages of the channel.
    plan: Option<ClaimPlan>,
}

/// Runs the calls for some channels, each channel once.
async fn run_batch(db: Db<'_>, calls: &[&Call]) -> Done<Vec<Progress>> {
    let channels: Vec<_> = calls.iter().map(|call| call.held().0).collect();
    // Sent together, and run in this order: the messages are read under the locks.
    let (mut locked, heads) = try_join(lock_free(db, &channels), heads(db, &channels)).await?;
    let mut progress: Vec<_> = calls.iter().map(|_| Progress::NotYet).collect();
    let (mut parts, mut settling) = (Vec::new(), Vec::new());
    for (place, call) in calls.iter().enumerate() {
        let (channel, epoch) = call.held();
        // Another transaction has locked the channel, or it does not exist.
        let Some(locked) = locked.remove(&channel) else { continue };
        if let Err(Failure::Fenced) = locked.fence(epoch) {
            progress[place] = Progress::Ended(Err(StoreError::Fenced));
            continue;
        }
        let one = Settling::of(locked, call.outcomes.as_ref());
        let heads = heads.get(&channel).map_or(&[][..], Vec::as_slice);
        let request = call.request.as_ref();
        let is_one_queue = one.locked.queue.ordering == Ordering::Channel && !one.locked.queue.opens_chats;
        let plan = request.filter(|_| is_one_queue).map(|request| plan(&one, heads, request));
        // Work that may take long runs outside the batch, because the batch holds the locks of all its channels.
        if one.is_plain() && plan.as_ref().is_none_or(Option::is_some) {
            parts.push(Part { place, request, plan: plan.flatten() });
            settling.push(one);
        }
    }
    let queues = Queues::of(settling.iter().map(|one: &Settling<'_>| &one.locked));
    // Sent in parallel: the next messages do not depend on the stored outcomes.
    let planned = parts.iter().filter_map(|part| part.plan.as_ref());
    let ((), sent) = try_join(record(db, &mut settling), carry_out(db, &queues, planned)).await?;
    let mut sent: HashMap<Seq, Claimed> = sent.into_iter().map(|message| (message.seq, message)).collect();
    // The stored outcomes decide which messages are heads, and which recipients are known.
    let mut claims = claim_by_recipient(db, &queues, &parts, &settling).await?;
    claims.extend(claim_with_new_chats(db, &queues, &parts, &mut settling).await?);
    for (part, one) in parts.iter().zip(&mut settling) {
        let claim = match (part.request, &part.plan) {
            (None, _) => Some(Claim::default()),
            (Some(request), Some(plan)) => Some(answer(plan, request, &mut sent)),
            (Some(_), None) => claims.remove(&one.locked.key),
        };
        let sends = claim.as_ref().is_some_and(|claim| !claim.messages.is_empty());
        part.request.into_iter().for_each(|request| one.locked.apply_send_interval(request, sends));
        progress[part.place] = claim.map_or(Progress::Settled, |claim| Progress::Ended(Ok(claim)));
    }
    save(db, settling.iter_mut().map(|one| &mut one.locked)).await?;
    Ok(progress)
}

/// The claims on channels on which each recipient has a queue.
async fn claim_by_recipient(
    db: Db<'_>,
    queues: &Queues,
    parts: &[Part<'_>],
    settling: &[Settling<'_>],
) -> Done<HashMap<ChannelKey, Claim>> {
    let by_recipient = parts.iter().zip(settling).filter(|(_, one)| one.locked.queue.ordering == Ordering::Recipient);
    let claims = by_recipient.filter_map(|(part, one)| part.request.map(|request| Claiming::on(&one.locked, request)));
    let mut claims: Vec<_> = claims.collect();
    recipients::claim(db, queues, &mut claims).await?;
    Ok(claims.into_iter().map(|claim| (claim.channel(), claim.answer())).collect())
}

/// The claims on channels that open chats, of those that need only the first messages.
async fn claim_with_new_chats(
    db: Db<'_>,
    queues: &Queues,
    parts: &[Part<'_>],
    settling: &mut [Settling<'_>],
) -> Done<HashMap<ChannelKey, Claim>> {
    let asking = parts.iter().zip(&*settling).filter(|(_, one)| one.locked.queue.opens_chats);
    let asking: Vec<_> =
        asking.filter_map(|(part, one)| part.request.map(|request| (one.locked.queue, request))).collect();
    if asking.is_empty() {
        return Ok(HashMap::new());
    }
    let plans = new_chats::plans(db, &asking).await?;
    let sent = carry_out(db, queues, plans.values().map(|(plan, _)| plan)).await?;
    let mut sent: HashMap<Seq, Claimed> = sent.into_iter().map(|message| (message.seq, message)).collect();
    for one in settling {
        plans.get(&one.locked.key).into_iter().for_each(|(_, cursor)| one.locked.place(*cursor));
    }
    let claims = asking.iter().filter_map(|(_, request)| {
        let (plan, _) = plans.get(&request.channel)?;
        Some((request.channel, answer(plan, request, &mut sent)))
    });
    Ok(claims.collect())
}

/// The plan of a claim after these outcomes; `None` if it needs more than the channel's first messages.
fn plan(settling: &Settling<'_>, heads: &[OpenRow], request: &ClaimRequest) -> Option<ClaimPlan> {
    let mut queue = settling.locked.queue;
    queue.next_send_at = queue.next_send_at.max(settling.settled.defer_until.unwrap_or(0));
    plan_of_heads(heads, &settling.settled.transitions, &queue, request)
}

/// Applies the plans, and returns the messages to send.
async fn carry_out<'a>(
    db: Db<'_>,
    queues: &Queues,
    plans: impl Iterator<Item = &'a ClaimPlan> + Clone,
) -> Done<Vec<Claimed>> {
    let finished: Vec<_> = plans.clone().flat_map(|plan| plan.finished.iter().cloned()).collect();
    let sends: Vec<_> = plans.filter_map(|plan| plan.sent.clone()).collect();
    let (_, sent) = try_join(apply_all(db, queues, &finished), send(db, queues, &sends)).await?;
    Ok(sent)
}

/// The answer to a claim after its plan was applied.
fn answer(plan: &ClaimPlan, request: &ClaimRequest, sent: &mut HashMap<Seq, Claimed>) -> Claim {
    let mut wakeup = plan.wakeup;
    let message = plan.sent.as_ref().and_then(|transition| sent.remove(&transition.seq()));
    if plan.sent.is_some() && message.is_none() {
        // The message has changed since it was read.
        wakeup.schedule(request.now);
    }
    Claim { messages: message.into_iter().collect(), next_at: wakeup.next_at, holds_all: wakeup.holds_all }
}
