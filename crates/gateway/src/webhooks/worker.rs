//! Claims deliveries, sends them, and stores how the attempts ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::body::Bytes;
use recado_domain::clock::{Millis, millis, random};
use recado_domain::webhook::{
    ClaimedDelivery, DeliveryClaim, DeliveryError, DeliveryRef, DeliveryResult, Lane, WebhookKey,
};
use recado_store::StoreError;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::post::Request;
use super::slots::{BYTES, Slot, Slots};
use super::{Webhooks, leave_to_callers};
use crate::events::render::Body;
use crate::metrics::METRICS;

/// Most deliveries of one claim.
const CLAIM: usize = 128;
/// Most outcomes of one transaction.
const SETTLE: usize = 250;
/// How long a delivery is leased: longer than an attempt takes, with time to store its outcome.
const LEASE: Duration = Duration::from_secs(30);
/// How long ended attempts are gathered at most, so that they share a commit.
const GATHER: Duration = Duration::from_millis(10);
/// How often a node looks for work if nodes share the store. The node that created the work may have ended.
const CHECK: Duration = Duration::from_secs(5);
/// How long this node leaves a webhook to other nodes whose secret it cannot open.
const UNOPENED: Duration = Duration::from_secs(30);
/// The wait after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// The task that sends.
pub(super) struct Worker {
    webhooks: Arc<Webhooks>,
    shares: bool,
    stop: CancellationToken,
    slots: Slots,
    /// When the next claim of each lane is due. `None`: the lane waits for a notification.
    next: [Option<Instant>; 3],
    sends: JoinSet<Sent>,
    /// Attempts whose outcome is not stored yet.
    ended: Vec<DeliveryResult>,
    /// Webhooks whose secret this node cannot open, and until when it claims none of their deliveries.
    unopened: HashMap<WebhookKey, Instant>,
    /// Deliveries that are to be given back: of these webhooks, and those that waited in vain for a lookup.
    unsent: Vec<DeliveryRef>,
    /// Bytes of the bodies in flight.
    bytes: Arc<AtomicUsize>,
    /// Notified when a slow request has left its slot.
    freed: Arc<Notify>,
    failed: bool,
}

/// How an attempt ended.
enum Sent {
    Ended(DeliveryResult),
    /// The receiver was not called, so the attempt counts as none.
    Busy(DeliveryRef),
}

/// Counts the bytes of a body as long as the body is in flight.
struct Load(Arc<AtomicUsize>, usize);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl Worker {
    pub fn new(webhooks: Arc<Webhooks>, shares: bool, stop: CancellationToken) -> Self {
        let now = Some(Instant::now());
        Self {
            webhooks,
            shares,
            stop,
            slots: Slots::new(),
            next: [now; 3],
            sends: JoinSet::new(),
            ended: Vec::new(),
            unopened: HashMap::new(),
            unsent: Vec::new(),
            bytes: Arc::default(),
            freed: Arc::default(),
            failed: false,
        }
    }

    /// Sends until the server stops. Then it drains: requests in flight end, and their outcomes are stored.
    pub async fn run(mut self) {
        loop {
            let began = Instant::now();
            let worked = self.settle_and_claim().await;
            self.note(&worked);
            let all_stored = self.sends.is_empty() && self.ended.is_empty() && self.unsent.is_empty();
            if self.stop.is_cancelled() && all_stored {
                return;
            }
            if worked.is_err() {
                sleep(RETRY).await;
                // All lanes are claimed at once, because deliveries may have become due during the outage.
                self.look_now();
            } else {
                leave_to_callers(began, 1).await;
                self.wait().await;
            }
        }
    }

    /// Logs a failure once for each outage.
    fn note(&mut self, worked: &Result<(), StoreError>) {
        if let Err(error) = worked
            && !self.failed
        {
            tracing::warn!(%error, "webhook deliveries wait for the store; the next try continues");
        }
        self.failed = worked.is_err();
    }

    fn look_now(&mut self) {
        self.next = [Some(Instant::now()); 3];
    }

    async fn settle_and_claim(&mut self) -> Result<(), StoreError> {
        while let Some(sent) = self.sends.try_join_next() {
            self.record(&sent);
        }
        if !self.ended.is_empty() || !self.unsent.is_empty() {
            self.settle().await?;
            self.release().await?;
            // The end of a delivery may let the next delivery of its queue be claimed.
            self.look_now();
        }
        for (place, lane) in Lane::ALL.into_iter().enumerate() {
            let is_due = self.next[place].is_some_and(|at| at <= Instant::now());
            let limit = self.slots.free(lane).min(CLAIM);
            let fits = limit > 0 && self.bytes.load(Ordering::Relaxed) < BYTES;
            // Without a key this node cannot sign requests. It claims nothing, because another node may have the key.
            let claims = !self.stop.is_cancelled() && !self.webhooks.secrets.is_empty();
            if is_due && fits && claims {
                self.next[place] = self.claim(lane, limit).await?;
            }
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), StoreError> {
        let mut together = SETTLE;
        while !self.ended.is_empty() {
            let some = self.ended.len().min(together);
            let (results, now) = (self.ended[..some].to_vec(), self.webhooks.now().await?);
            match self.webhooks.store.record_attempts(results, now).await {
                Ok(disabled) if disabled.is_empty() => {}
                Ok(_) => self.webhooks.untidy.notify_one(),
                // Smaller parts, until the outcome that is refused is alone: it must take no other with it.
                Err(StoreError::Refused(_)) if some > 1 => {
                    together = some / 2;
                    continue;
                }
                // The store would refuse it each time, and other outcomes must not wait for it. The delivery is sent again.
                Err(StoreError::Refused(reason)) => {
                    tracing::error!(error = reason, "webhook outcomes dropped: store refused them");
                    together = SETTLE;
                }
                Err(error) => return Err(error),
            }
            self.ended.drain(..some);
        }
        Ok(())
    }

    /// Claims deliveries of a lane and sends them. Returns the time of the next claim.
    async fn claim(&mut self, lane: Lane, limit: usize) -> Result<Option<Instant>, StoreError> {
        let now = self.webhooks.now().await?;
        let claim = DeliveryClaim { lane, limit, now, lease_until: now + millis(LEASE) };
        self.unopened.retain(|_, until| Instant::now() < *until);
        let except = self.unopened.keys().copied().collect();
        let claimed = self.webhooks.store.claim_deliveries(claim, except).await?;
        let count = claimed.deliveries.len();
        for delivery in claimed.deliveries {
            // The store gives no more than there are slots.
            let Some(slot) = self.slots.take(lane) else { continue };
            self.send(delivery, slot, now);
        }
        self.release().await?;
        let wait = claimed.next_at.map(|at| Duration::from_millis(u64::try_from(at - now).unwrap_or(0)));
        // A due delivery that was not claimed waits for a slot of its webhook, or for another node.
        let wait = if count < limit { wait.map(|wait| wait.max(GATHER)) } else { wait };
        let wait = if self.shares { Some(wait.unwrap_or(CHECK).min(CHECK)) } else { wait };
        let opened = self.unopened.values().min().copied();
        Ok(wait.map(|wait| Instant::now() + wait).into_iter().chain(opened).min())
    }

    /// Records how an attempt ended. A task that panicked has no end; its delivery is sent again after its lease.
    fn record(&mut self, sent: &Result<Sent, JoinError>) {
        match sent {
            Ok(Sent::Ended(result)) => self.ended.push(*result),
            Ok(Sent::Busy(of)) => self.unsent.push(*of),
            Err(_) => {}
        }
    }

    /// Gives back what this node did not send. Another node may have the key. Each delivery that waited in vain for a lookup
    /// has waited for seconds, so it is not claimed in a quick circle.
    async fn release(&mut self) -> Result<(), StoreError> {
        if !self.unsent.is_empty() {
            let now = self.webhooks.now().await?;
            self.webhooks.store.release_deliveries(self.unsent.clone(), now).await?;
            self.unsent.clear();
        }
        Ok(())
    }

    fn send(&mut self, claimed: ClaimedDelivery, slot: Slot, now: Millis) {
        let ClaimedDelivery { of, webhook, event, replay, .. } = claimed;
        let opened = match self.webhooks.open(&webhook, now) {
            Ok(opened) => opened,
            Err(error) => {
                if self.unopened.insert(webhook.key, Instant::now() + UNOPENED).is_none() {
                    tracing::warn!(webhook.id = %webhook.id, %error, "webhook secret not opened; its events wait");
                }
                self.unsent.push(of);
                return;
            }
        };
        let body = Body::new(&event, webhook.settings.content, &self.webhooks.media_base);
        let (id, body) = (body.id().to_owned(), Bytes::from(body.text()));
        self.bytes.fetch_add(body.len(), Ordering::Relaxed);
        let load = Load(self.bytes.clone(), body.len());
        let (webhooks, freed) = (self.webhooks.clone(), self.freed.clone());
        self.sends.spawn(async move {
            let request = Request { id: &id, body, attempt: of.attempt, replay };
            let at = webhooks.clock.now();
            let post = webhooks.post(&webhook, &opened, request);
            let outcome = slot.run(post, || freed.notify_one()).await;
            drop(load);
            if outcome.busy {
                return Sent::Busy(of);
            }
            METRICS.delivered(outcome.error.map_or("OK", DeliveryError::name), outcome.time);
            let ended = outcome.attempt(at, u64::from_ne_bytes(random(&*webhooks.entropy)));
            Sent::Ended(DeliveryResult { of, ended })
        });
    }

    /// Gathers attempts that end soon. If all have ended there is nothing to wait for.
    async fn gather(&mut self) {
        let until = Instant::now() + GATHER;
        while let Ok(Some(sent)) = timeout_at(until, self.sends.join_next()).await {
            self.record(&sent);
        }
    }

    /// Waits until there may be something to do.
    async fn wait(&mut self) {
        let lanes = Lane::ALL.into_iter().zip(self.next);
        let free = |lane| self.slots.free(lane) > 0 && self.bytes.load(Ordering::Relaxed) < BYTES;
        let next = lanes.filter(|(lane, _)| free(*lane)).filter_map(|(_, at)| at).min();
        let next = next.filter(|_| !self.webhooks.secrets.is_empty());
        let stopping = self.stop.is_cancelled();
        if stopping && self.sends.is_empty() {
            // The stop came after the last step. Nothing would end this wait.
            return;
        }
        let due = async {
            match next.filter(|_| !stopping) {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(sent) = self.sends.join_next() => {
                self.record(&sent);
                self.gather().await;
            }
            () = due => {}
            () = self.webhooks.due.notified(), if !stopping => self.next = [Some(Instant::now()); 3],
            () = self.freed.notified(), if !stopping => {}
            () = self.stop.cancelled(), if !stopping => {}
        }
    }
}

#[cfg(test)]
mod tests;
