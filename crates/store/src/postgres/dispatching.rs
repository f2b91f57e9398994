//! Dispatch: the channels of a node share transactions.
//!
//! A commit costs a sync of the disk, and a statement costs a plan, however many messages they change. So what waits goes
//! together: a batch locks its channels, records what became of their messages, and claims the next ones, each by one
//! statement for all of them. Each channel is fenced by itself. A channel goes alone where the batch would have to wait for
//! it, where its claim may look at many messages, and where the batch cannot be done: it holds up, and spoils, nobody else's.

use std::collections::{HashMap, HashSet};

use futures_util::future::try_join;
use recado_domain::channel::{ChannelKey, ChannelType, Epoch, Ordering};
use recado_domain::message::Seq;
use recado_domain::queue::{Claim, ClaimPlan, ClaimRequest, Claimed, OpenRow, Outcomes};

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
        let alone = |kind: ChannelType| kind.ordering() == Ordering::Recipient || kind.opens_chats();
        !self.request.as_ref().is_some_and(|request| alone(request.kind))
    }
}

/// Where turns wait to be taken together.
pub(super) struct Dispatching {
    batches: Batches<Turn, Answer>,
    pool: Pool,
}

impl Dispatching {
    pub fn start(pool: Pool) -> Self {
        let of_batches = pool.clone();
        Self { batches: Batches::start(BOUNDS, move |batch| run(of_batches.clone(), batch)), pool }
    }

    pub async fn take(&self, turn: Turn) -> Answer {
        if turn.goes_together() {
            self.batches.ask(turn).await.unwrap_or_else(|| of_both(Err(ended())))
        } else {
            alone(&self.pool, turn).await
        }
    }
}

fn ended() -> StoreError {
    StoreError::Unavailable("the batch ended without an answer".to_owned())
}

/// One result for both.
fn of_both(done: Result<Claim>) -> Answer {
    (done.as_ref().map(drop).map_err(Clone::clone), done)
}

/// Takes a batch's turns, and answers.
async fn run(pool: Pool, batch: Vec<Waiting<Turn, Answer>>) {
    let mut channels = HashSet::new();
    // The second turn of a channel is of whoever holds it now.
    let (batch, second): (Vec<_>, Vec<_>) = batch.into_iter().partition(|one| channels.insert(one.work.held().0));
    second.into_iter().for_each(|one| go_alone(&pool, one));
    if batch.is_empty() {
        return;
    }
    let turns: Vec<_> = batch.iter().map(|one| &one.work).collect();
    let done: Result<Vec<Taken>> = async { transaction!(pool, db => Box::pin(together(db, &turns)).await) }.await;
    let taken = match done {
        Ok(taken) => taken,
        // One of them is at fault, and its neighbours must not fail with it.
        Err(StoreError::Refused(_) | StoreError::Overloaded) => batch.iter().map(|_| Taken::NotYet).collect(),
        Err(error) => batch.iter().map(|_| Taken::Ended(Err(error.clone()))).collect(),
    };
    for (one, taken) in batch.into_iter().zip(taken) {
        match taken {
            // Who asked may be gone: the channel was lost meanwhile.
            Taken::Ended(done) => drop(one.answer.send(of_both(done))),
            Taken::NotYet => go_alone(&pool, one),
        }
    }
}

fn go_alone(pool: &Pool, Waiting { work, answer }: Waiting<Turn, Answer>) {
    let pool = pool.clone();
    tokio::spawn(async move { answer.send(alone(&pool, work).await) });
}

/// Takes one turn in a transaction of its own.
async fn alone(pool: &Pool, turn: Turn) -> Answer {
    let done: Result<Claim> = async { transaction!(pool, db => one(db, &turn).await) }.await;
    match (done, turn) {
        // One of the two cannot be done, and the other must not fail with it.
        (Err(StoreError::Refused(_)), Turn { outcomes: Some(outcomes), request: Some(request) }) => {
            let (outcomes, request) =
                (Turn { outcomes: Some(outcomes), request: None }, Turn { outcomes: None, request: Some(request) });
            let settled: Result<Claim> = async { transaction!(pool, db => one(db, &outcomes).await) }.await;
            let claimed: Result<Claim> = async { transaction!(pool, db => one(db, &request).await) }.await;
            (settled.map(drop), claimed)
        }
        (done, _) => of_both(done),
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

/// A turn of a batch whose channel is locked.
struct Part<'a> {
    place: usize,
    request: Option<&'a ClaimRequest>,
    /// What its claim does, where that is known from the channel's first messages.
    plan: Option<ClaimPlan>,
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
        } else if turn.request.is_none() || looks_at_heads(&locked) {
            let one = Settling::of(locked, turn.outcomes.as_ref());
            let heads = heads.get(&channel).map_or(&[][..], Vec::as_slice);
            let plan = turn.request.as_ref().and_then(|request| plan(&one, heads, request));
            parts.push(Part { place, request: turn.request.as_ref(), plan });
            settling.push(one);
        }
    }
    let queues = Queues::of(settling.iter().map(|one: &Settling<'_>| &one.locked));
    // Sent together as well: what is sent next does not depend on what is recorded, or there is no plan.
    let ((), sent) = try_join(record(db, &mut settling), carry_out(db, &queues, &parts)).await?;
    let mut sent: HashMap<Seq, Claimed> = sent.into_iter().map(|message| (message.seq, message)).collect();
    for (part, one) in parts.into_iter().zip(&mut settling) {
        let claim = match (part.plan, part.request) {
            (Some(plan), Some(request)) => planned(&plan, &mut one.locked, request, &mut sent),
            (None, Some(request)) => claim(db, &mut one.locked, request).await?,
            (_, None) => Claim::default(),
        };
        taken[part.place] = Taken::Ended(Ok(claim));
    }
    save(db, settling.iter_mut().map(|one| &mut one.locked)).await?;
    Ok(taken)
}

/// Whether a claim on the channel looks at its first messages alone.
fn looks_at_heads(locked: &Locked) -> bool {
    locked.queue.ordering == Ordering::Channel && !locked.queue.opens_chats
}

/// What a claim does after these outcomes; `None` where their effects decide about that, or more than the first messages do.
fn plan(settling: &Settling<'_>, heads: &[OpenRow], request: &ClaimRequest) -> Option<ClaimPlan> {
    if !settling.is_plain() {
        return None;
    }
    let mut queue = settling.locked.queue;
    queue.next_send_at = queue.next_send_at.max(settling.settled.defer_until.unwrap_or(0));
    plan_of_heads(heads, &settling.settled.transitions, &queue, request)
}

/// Does what the plans say, and gives what is sent.
async fn carry_out(db: Db<'_>, queues: &Queues, parts: &[Part<'_>]) -> Done<Vec<Claimed>> {
    let plans = || parts.iter().filter_map(|part| part.plan.as_ref());
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
