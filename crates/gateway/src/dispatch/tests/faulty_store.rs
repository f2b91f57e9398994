//! A queue that fails when a test demands it, and records the dispatcher's operations.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, pending};
use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::event::Owner;
use recado_domain::ids::MessageId;
use recado_domain::message::{Cancelled, Enqueued, NewMessage, Seq};
use recado_domain::queue::{Claim, ClaimRequest, Outcomes, Settlement, Submitted};
use recado_store::{Queue, Result, StoreError};
use tokio::sync::watch;

/// How one operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// An outcome is not stored.
    SettleFails,
    /// An outcome is stored, and the answer is lost.
    SettleAnswerLost,
    /// Nothing is claimed.
    ClaimFails,
    /// Messages are claimed, and the answer is lost.
    ClaimAnswerLost,
    /// Messages join no conversation.
    JoinFails,
    /// The messages of a crashed process are not read.
    LeftFails,
    /// They are not read, because too much waits to be read.
    LeftOverloaded,
}

/// How messages are kept from joining their conversations.
#[derive(Debug, Clone)]
pub(super) enum Hindrance {
    /// The inbox of an owner is busy for ever.
    Hangs(Owner),
    /// More messages at once take too long.
    TooMany(usize),
    /// The store refuses a message to this recipient.
    Refuses(String),
}

/// An operation of the store for the dispatcher.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    Claimed(Claim),
    Settled(Vec<(Seq, Settlement)>),
}

pub(super) struct FaultyStore {
    inner: Arc<dyn Queue>,
    faults: Mutex<Vec<Fault>>,
    hindrance: Mutex<Option<Hindrance>>,
    meanwhile: Mutex<Option<BoxFuture<'static, ()>>>,
    done: watch::Sender<Vec<Operation>>,
    claiming: AtomicUsize,
    most_claiming: AtomicUsize,
}

impl FaultyStore {
    pub(super) fn new(inner: Arc<dyn Queue>) -> Self {
        let (faults, meanwhile, done) = (Mutex::default(), Mutex::default(), watch::Sender::default());
        let (claiming, most_claiming) = (AtomicUsize::default(), AtomicUsize::default());
        Self { inner, faults, hindrance: Mutex::default(), meanwhile, done, claiming, most_claiming }
    }

    pub(super) fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().expect("no panic").extend(faults);
    }

    pub(super) fn hinder(&self, hindrance: Hindrance) {
        *self.hindrance.lock().expect("no panic") = Some(hindrance);
    }

    /// Runs this once, between a claim that found nothing and its answer.
    pub(super) fn when_found_empty(&self, meanwhile: impl Future<Output = ()> + Send + 'static) {
        *self.meanwhile.lock().expect("no panic") = Some(meanwhile.boxed());
    }

    pub(super) fn troubles_left(&self) -> usize {
        self.faults.lock().expect("no panic").len()
    }

    pub(super) fn done(&self) -> Vec<Operation> {
        self.done.borrow().clone()
    }

    /// Waits until the operations are as wanted.
    pub(super) async fn until(&self, wanted: impl Fn(&[Operation]) -> bool) {
        super::within_timeout(self.done.subscribe().wait_for(|done| wanted(done))).await.expect("it lives");
    }

    /// Waits until so many outcomes are recorded.
    pub(super) async fn until_settled(&self, count: usize) {
        let settled = |done: &Operation| if let Operation::Settled(outcomes) = done { outcomes.len() } else { 0 };
        self.until(|done| done.iter().map(settled).sum::<usize>() >= count).await;
    }

    /// Waits until the last claim found nothing to send before this time.
    pub(super) async fn until_waiting(&self, next_at: Millis) {
        let waits = |claim: &Claim| claim.messages.is_empty() && claim.next_at == Some(next_at);
        let last_claim =
            |done: &Operation| if let Operation::Claimed(claim) = done { Some(waits(claim)) } else { None };
        self.until(|done| done.iter().rev().find_map(last_claim) == Some(true)).await;
    }

    /// The most concurrent claims.
    pub(super) fn most_claiming(&self) -> usize {
        self.most_claiming.load(Ordering::SeqCst)
    }

    fn fails(&self, fault: Fault) -> bool {
        let mut faults = self.faults.lock().expect("no panic");
        let position = faults.iter().position(|next| *next == fault);
        position.map(|position| faults.remove(position)).is_some()
    }
}

fn down<T>() -> Result<T> {
    Err(StoreError::Unavailable("as the test wants it".to_owned()))
}

#[async_trait]
impl Queue for FaultyStore {
    async fn enqueue(&self, message: NewMessage) -> Result<Enqueued> {
        self.inner.enqueue(message).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claim> {
        if self.fails(Fault::ClaimFails) {
            return down();
        }
        let claiming = self.claiming.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_claiming.fetch_max(claiming, Ordering::SeqCst);
        let claim = self.inner.claim(request).await;
        self.claiming.fetch_sub(1, Ordering::SeqCst);
        let claim = claim?;
        if !claim.messages.is_empty() && self.fails(Fault::ClaimAnswerLost) {
            return down();
        }
        let empty = claim.messages.is_empty() && claim.next_at.is_none();
        let meanwhile = if empty { self.meanwhile.lock().expect("no panic").take() } else { None };
        if let Some(meanwhile) = meanwhile {
            meanwhile.await;
        }
        self.done.send_modify(|done| done.push(Operation::Claimed(claim.clone())));
        Ok(claim)
    }

    async fn settle(&self, outcomes: Outcomes) -> Result<()> {
        if self.fails(Fault::SettleFails) {
            return down();
        }
        self.inner.settle(outcomes.clone()).await?;
        if self.fails(Fault::SettleAnswerLost) {
            return down();
        }
        self.done.send_modify(|done| done.push(Operation::Settled(outcomes.settled)));
        Ok(())
    }

    async fn settle_and_claim(&self, outcomes: Outcomes, request: ClaimRequest) -> (Result<()>, Result<Claim>) {
        tokio::join!(self.settle(outcomes), self.claim(request))
    }

    async fn join_conversations(&self, owner: Owner, submitted: Vec<Submitted>, now: Millis) -> Result<()> {
        if self.fails(Fault::JoinFails) {
            return down();
        }
        let hindrance = self.hindrance.lock().expect("no panic").clone();
        match hindrance {
            Some(Hindrance::Hangs(of)) if of == owner => pending().await,
            Some(Hindrance::TooMany(most)) if submitted.len() > most => return Err(StoreError::Overloaded),
            Some(Hindrance::Refuses(recipient)) if submitted.iter().any(|one| one.recipient == recipient) => {
                return Err(StoreError::Refused("as the test wants it".to_owned()));
            }
            _ => {}
        }
        self.inner.join_conversations(owner, submitted, now).await
    }

    async fn left_to_join(&self, channel: ChannelKey) -> Result<Vec<Submitted>> {
        if self.fails(Fault::LeftFails) {
            return down();
        }
        if self.fails(Fault::LeftOverloaded) {
            return Err(StoreError::Overloaded);
        }
        self.inner.left_to_join(channel).await
    }

    async fn cancel(&self, channel: ChannelKey, id: MessageId, now: Millis) -> Result<Cancelled> {
        self.inner.cancel(channel, id, now).await
    }

    async fn cancel_former(&self, key: ChannelKey, limit: usize, now: Millis) -> Result<usize> {
        self.inner.cancel_former(key, limit, now).await
    }

    async fn open_channels(&self) -> Result<Vec<ChannelKey>> {
        self.inner.open_channels().await
    }
}
