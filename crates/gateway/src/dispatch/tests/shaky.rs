//! A queue that fails when a test says so, and tells what the dispatcher asked of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::ids::MessageId;
use recado_domain::message::{Cancelled, Enqueued, NewMessage, Seq};
use recado_domain::queue::{Claim, ClaimRequest, Outcomes, Settlement};
use recado_store::{Queue, Result, StoreError};
use tokio::sync::watch;

/// How one operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// An outcome is not kept.
    SettleFails,
    /// An outcome is kept, and nobody is told.
    SettleUntold,
    /// Nothing is claimed.
    ClaimFails,
    /// Messages are claimed, and nobody is told.
    ClaimUntold,
}

/// What the store did for the dispatcher.
#[derive(Debug, Clone)]
pub(super) enum Done {
    Claimed(Claim),
    Settled(Vec<(Seq, Settlement)>),
}

pub(super) struct Shaky {
    inner: Arc<dyn Queue>,
    troubles: Mutex<Vec<Trouble>>,
    meanwhile: Mutex<Option<BoxFuture<'static, ()>>>,
    done: watch::Sender<Vec<Done>>,
    claiming: AtomicUsize,
    most_claiming: AtomicUsize,
}

impl Shaky {
    pub(super) fn new(inner: Arc<dyn Queue>) -> Self {
        let (troubles, meanwhile, done) = (Mutex::default(), Mutex::default(), watch::Sender::default());
        let (claiming, most_claiming) = (AtomicUsize::default(), AtomicUsize::default());
        Self { inner, troubles, meanwhile, done, claiming, most_claiming }
    }

    pub(super) fn trouble(&self, troubles: impl IntoIterator<Item = Trouble>) {
        self.troubles.lock().expect("no panic").extend(troubles);
    }

    /// Does this once, between a claim that found nothing and its answer.
    pub(super) fn when_found_empty(&self, meanwhile: impl Future<Output = ()> + Send + 'static) {
        *self.meanwhile.lock().expect("no panic") = Some(meanwhile.boxed());
    }

    pub(super) fn troubles_left(&self) -> usize {
        self.troubles.lock().expect("no panic").len()
    }

    pub(super) fn done(&self) -> Vec<Done> {
        self.done.borrow().clone()
    }

    /// Waits until what was done is as wanted.
    pub(super) async fn until(&self, wanted: impl Fn(&[Done]) -> bool) {
        super::in_time(self.done.subscribe().wait_for(|done| wanted(done))).await.expect("it lives");
    }

    /// Waits for so many outcomes to be recorded.
    pub(super) async fn until_settled(&self, count: usize) {
        let settled = |done: &Done| if let Done::Settled(outcomes) = done { outcomes.len() } else { 0 };
        self.until(|done| done.iter().map(settled).sum::<usize>() >= count).await;
    }

    /// Waits until the last claim found nothing to take before this time.
    pub(super) async fn until_waiting(&self, next_at: Millis) {
        let waits = |claim: &Claim| claim.messages.is_empty() && claim.next_at == Some(next_at);
        let last_claim = |done: &Done| if let Done::Claimed(claim) = done { Some(waits(claim)) } else { None };
        self.until(|done| done.iter().rev().find_map(last_claim) == Some(true)).await;
    }

    /// The most claims that were asked for at a time.
    pub(super) fn most_claiming(&self) -> usize {
        self.most_claiming.load(Ordering::SeqCst)
    }

    fn meets(&self, trouble: Trouble) -> bool {
        let mut troubles = self.troubles.lock().expect("no panic");
        let place = troubles.iter().position(|next| *next == trouble);
        place.map(|place| troubles.remove(place)).is_some()
    }
}

fn down<T>() -> Result<T> {
    Err(StoreError::Unavailable("as the test wants it".to_owned()))
}

#[async_trait]
impl Queue for Shaky {
    async fn enqueue(&self, message: NewMessage) -> Result<Enqueued> {
        self.inner.enqueue(message).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claim> {
        if self.meets(Trouble::ClaimFails) {
            return down();
        }
        let claiming = self.claiming.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_claiming.fetch_max(claiming, Ordering::SeqCst);
        let claim = self.inner.claim(request).await;
        self.claiming.fetch_sub(1, Ordering::SeqCst);
        let claim = claim?;
        if !claim.messages.is_empty() && self.meets(Trouble::ClaimUntold) {
            return down();
        }
        let empty = claim.messages.is_empty() && claim.next_at.is_none();
        let meanwhile = if empty { self.meanwhile.lock().expect("no panic").take() } else { None };
        if let Some(meanwhile) = meanwhile {
            meanwhile.await;
        }
        self.done.send_modify(|done| done.push(Done::Claimed(claim.clone())));
        Ok(claim)
    }

    async fn settle(&self, outcomes: Outcomes) -> Result<()> {
        if self.meets(Trouble::SettleFails) {
            return down();
        }
        self.inner.settle(outcomes.clone()).await?;
        if self.meets(Trouble::SettleUntold) {
            return down();
        }
        self.done.send_modify(|done| done.push(Done::Settled(outcomes.settled)));
        Ok(())
    }

    async fn settle_and_claim(&self, outcomes: Outcomes, request: ClaimRequest) -> (Result<()>, Result<Claim>) {
        tokio::join!(self.settle(outcomes), self.claim(request))
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
