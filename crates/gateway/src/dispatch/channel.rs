//! The task of one channel: it claims the queue head, sends the messages, and records their outcomes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use recado_domain::channel::{ChannelKey, Epoch};
use recado_domain::clock::{Millis, millis, random};
use recado_domain::event::Owner;
use recado_domain::message::Seq;
use recado_domain::queue::{
    Claim, ClaimRequest, Claimed, Outcomes, Settlement, Submitted, UnheldSending, UnknownOutcomePolicy,
};
use recado_domain::retry;
use recado_providers::{ChannelDriver, SendOutcome, Slot};
use recado_store::{Health, StoreError};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::slots::SendSlots;
use super::{Shared, Signal, measure};
use crate::directory::ChannelEntry;

/// The time limit for one send. A send without an answer by then has an unknown outcome.
const SEND_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a claim is valid. This is longer than any send. So if a claim has expired, no task has its message in
/// flight.
const CLAIM_DURATION: Duration = Duration::from_secs(75);
/// A message counts as the cause when the connection has broken during its sends this many times in a row.
const MAX_INTERRUPTIONS: u32 = 4;
/// The wait before a message is sent again after the channel's connection broke.
const AFTER_INTERRUPTION: Duration = Duration::from_secs(1);
/// The wait before a failed operation of the store is repeated.
const STORE_RETRY: Duration = Duration::from_millis(200);
/// The longest wait before a failed operation of the store is repeated. The wait doubles with each failure in a row.
const LONGEST_STORE_RETRY: Duration = Duration::from_secs(5);
/// The longest sleep of a task. After a sleep the task reads the clock again, and so notices a clock that was set
/// forward.
const LONGEST_SLEEP: Duration = Duration::from_mins(10);
/// The minimum time between two polls of a channel that has a waiting message and nothing in flight. A poll settles and
/// claims. Without this minimum, each of many accepted messages a second would cause a poll that only finds that the
/// first message still waits.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(25);

/// Runs the task of a channel. The task ends when the queue is empty, when it must stop, or when the node has lost the
/// channel.
pub(super) async fn run(
    shared: Arc<Shared>,
    (key, epoch): (ChannelKey, Epoch),
    signal: Arc<Signal>,
    stop: CancellationToken,
) {
    let entry = shared.directory.channel(key);
    let provider = entry.as_ref().and_then(|entry| shared.drivers.of(entry.kind));
    if let Some((entry, provider)) = entry.zip(provider) {
        let first = UnheldSending::OwnerCrashed;
        let (sends, in_flight, backoff) = (JoinSet::new(), HashMap::new(), Backoff::default());
        let task = ChannelTask {
            shared,
            signal,
            stop,
            entry,
            epoch,
            provider,
            sends,
            in_flight,
            orphans: first,
            backoff,
            interruptions: None,
            store_failures: 0,
            send_slots: SendSlots::default(),
        };
        let resends = task.unanswered() == UnknownOutcomePolicy::Resend;
        task.shared.joins.join_left(task.owner(), (key, epoch), resends).await;
        task.work().await;
    } else {
        let id = shared.directory.channel(key).map(|entry| entry.via.id.to_string());
        tracing::warn!(channel.id = id, "no provider compiled in for channel type");
    }
}

struct ChannelTask {
    shared: Arc<Shared>,
    signal: Arc<Signal>,
    /// Cancelled when the task must claim nothing more.
    stop: CancellationToken,
    entry: Arc<ChannelEntry>,
    /// The epoch under which this node owns the channel.
    epoch: Epoch,
    provider: Arc<dyn ChannelDriver>,
    /// The running sends, one task each.
    sends: JoinSet<SendOutcome>,
    /// Claimed messages whose outcomes are not recorded yet.
    in_flight: HashMap<Id, Claimed>,
    /// Where `SENDING` rows that are not in `in_flight` (orphans) come from. The next claim needs to know it.
    orphans: UnheldSending,
    backoff: Backoff,
    /// The message during whose send the connection last broke, and how often in a row that happened.
    interruptions: Option<(Seq, u32)>,
    /// Failures of the store in a row.
    store_failures: u32,
    send_slots: SendSlots,
}

impl ChannelTask {
    async fn work(mut self) {
        let mut outcomes = Vec::new();
        loop {
            self.signal.pending.store(false, Ordering::Release);
            // The flag is cleared before the claim, so that a message accepted meanwhile wakes the task. A message
            // accepted after the claim's answer is behind the messages in the answer, so the flag can then be set
            // again.
            self.signal.holds_all.store(false, Ordering::Release);
            let next = match self.poll(&mut outcomes).await {
                Ok(next) => {
                    self.store_failures = 0;
                    next
                }
                Err(StoreError::Fenced) => {
                    // The new owner rescues the messages in flight.
                    measure::fenced();
                    tracing::warn!(channel.id = %self.entry.via.id, "channel lease lost (fenced)");
                    return;
                }
                Err(error) => {
                    self.wait_for_the_store(&error).await;
                    continue;
                }
            };
            let stopping = self.stop.is_cancelled();
            if self.in_flight.is_empty()
                && (stopping || (next.is_none() && !self.send_slots.is_waiting()))
                && (stopping || self.shared.end_if_idle(self.entry.via.key, &self.signal))
            {
                return;
            }
            self.wait(next, &mut outcomes).await;
        }
    }

    /// Records the outcomes of sent messages and claims the next messages, in one commit of the store if possible.
    /// Returns the time of the next poll, or `None` if no message waits for a time.
    async fn poll(&mut self, outcomes: &mut Vec<(Id, Settlement)>) -> Result<Option<Millis>, StoreError> {
        // `acquire` fails only on a closed semaphore, and nothing closes this one.
        let shared = self.shared.clone();
        let _permit = shared.claim_permits.acquire().await;
        let now = self.shared.clock.now();
        let most = if self.backoff.half_open() { 1 } else { self.provider.max_in_flight(&self.entry.settings()) };
        let free = most.saturating_sub(self.in_flight.len() - outcomes.len());
        // If a re-send could arrive twice, the first claim only rescues messages of a crashed owner and claims no
        // message. Otherwise, if the answer to that claim were lost, the claimed messages could not be distinguished
        // from the messages of the crashed owner.
        let rescue_only =
            self.orphans == UnheldSending::OwnerCrashed && self.unanswered() != UnknownOutcomePolicy::Resend;
        let mut slots = if rescue_only { Vec::new() } else { self.acquire_slots(free) };
        let free = if rescue_only { free } else { slots.len() };
        // Messages that are being settled stay in `in_flight`. If the settlement fails, the next claim must not treat
        // them as orphans.
        let (settled, claim) = self.settle_and_claim(outcomes, (free, rescue_only), now).await;
        if (settled.is_err() || claim.is_err()) && self.orphans == UnheldSending::LeaseLive {
            // If the claim was committed, its messages are `SENDING`, but no task sends them.
            self.orphans = UnheldSending::ClaimLost;
        }
        settled?;
        for (id, settlement) in outcomes.drain(..) {
            let queued_at = self.in_flight.remove(&id).map(|held| held.queued_at);
            measure::settled(&self.entry, &settlement, queued_at.map(|at| self.shared.clock.now() - at));
        }
        let Some(claim) = claim? else { return Ok(None) };
        self.orphans = UnheldSending::LeaseLive;
        self.signal.holds_all.store(claim.holds_all && !rescue_only, Ordering::Release);
        claim.messages.into_iter().for_each(|message| self.send(message, slots.pop().flatten()));
        Ok(if rescue_only { claim.next_at.map(|_| now) } else { claim.next_at })
    }

    /// Gets at most `most` slots. A slot is the right to make one send.
    fn acquire_slots(&mut self, most: usize) -> Vec<Slot> {
        let most = if self.stop.is_cancelled() { 0 } else { most };
        let (provider, entry) = (self.provider.clone(), self.entry.clone());
        self.send_slots.acquire(most, || Box::pin(async move { provider.slots(&entry.via, most).await }))
    }

    /// Settles if there are outcomes, and claims if the task can send. `capacity`: how many messages to claim at most,
    /// and whether the claim only rescues.
    async fn settle_and_claim(
        &self,
        outcomes: &[(Id, Settlement)],
        capacity: (usize, bool),
        now: Millis,
    ) -> (Result<(), StoreError>, Result<Option<Claim>, StoreError>) {
        let queue = &self.shared.queue;
        match ((!outcomes.is_empty()).then(|| self.outcomes(outcomes, now)), self.request(capacity, now)) {
            (Some(outcomes), Some(request)) => {
                let (settled, claim) = queue.settle_and_claim(outcomes, request).await;
                (settled, claim.map(Some))
            }
            (Some(outcomes), None) => (queue.settle(outcomes).await, Ok(None)),
            (None, Some(request)) => (Ok(()), queue.claim(request).await.map(Some)),
            (None, None) => (Ok(()), Ok(None)),
        }
    }

    fn outcomes(&self, outcomes: &[(Id, Settlement)], now: Millis) -> Outcomes {
        let seq = |id: &Id| self.in_flight.get(id).map(|held| held.seq);
        let settled = outcomes.iter().filter_map(|(id, settlement)| Some((seq(id)?, settlement.clone()))).collect();
        // The claim has already set a send interval, which began before the commit of the claim. The settlement begins
        // the interval again, so that a slow disk does not shorten it.
        let next_send_at = Some(self.send_interval()).filter(|interval| *interval > 0).map(|interval| now + interval);
        Outcomes { channel: self.entry.via.key, epoch: self.epoch, settled, next_send_at, now }
    }

    /// A claim request, or `None` if the task must claim nothing more or has no free capacity.
    fn request(&self, (free, rescue_only): (usize, bool), now: Millis) -> Option<ClaimRequest> {
        if self.stop.is_cancelled() || free == 0 {
            return None;
        }
        Some(ClaimRequest {
            channel: self.entry.via.key,
            epoch: self.epoch,
            limit: if rescue_only { 0 } else { free },
            held: self.held(),
            orphans: self.orphans,
            unanswered: self.unanswered(),
            now,
            claimed_until: now + millis(CLAIM_DURATION),
            send_interval: self.send_interval(),
            recipient_pacing: self.provider.recipient_pacing(),
            new_recipients_per_day: self.entry.settings().new_recipients_per_day(),
        })
    }

    /// The owner of the channel.
    fn owner(&self) -> Owner {
        (self.entry.via.institution, self.entry.environment)
    }

    fn unanswered(&self) -> UnknownOutcomePolicy {
        self.provider.unanswered(&self.entry.settings())
    }

    fn random(&self) -> u64 {
        u64::from_le_bytes(random(&*self.shared.entropy))
    }

    /// A random send interval, in milliseconds.
    fn send_interval(&self) -> Millis {
        millis(self.provider.pacing(&self.entry.settings()).interval(self.random()))
    }

    fn held(&self) -> Vec<Seq> {
        self.in_flight.values().map(|held| held.seq).collect()
    }

    /// Spawns a task that sends the message.
    fn send(&mut self, message: Claimed, slot: Slot) {
        let (provider, entry, sent) = (self.provider.clone(), self.entry.clone(), message.clone());
        let (leases, epoch) = (self.shared.leases.clone(), self.epoch);
        let (joins, owner) = (self.shared.joins.clone(), self.owner());
        let submitted = (!message.joined).then(|| Submitted::new((entry.via.key, entry.kind), &message));
        let handle = self.sends.spawn(async move {
            let _slot = slot;
            // Until the lease is valid, another node may own the channel and send the message too.
            leases.wait_valid().await;
            if leases.session_epoch(entry.via.key) != Some(epoch) {
                // Another node owns the channel. The store accepts no outcome from this node, so the returned value has
                // no effect.
                return SendOutcome::ConnectionLost;
            }
            let joining = joins.join(owner, submitted);
            let outcome = measure::attempt(&entry, SEND_TIMEOUT, provider.send(&entry.via, &sent)).await;
            // The outcome waits for the conversation, so that the events of the message name it.
            joining.wait().await;
            outcome
        });
        self.in_flight.insert(handle.id(), message);
    }

    /// Waits for a wake-up, an outcome, or the time of the next poll.
    async fn wait(&mut self, next: Option<Millis>, outcomes: &mut Vec<(Id, Settlement)>) {
        let now = self.shared.clock.now();
        let sleep = next.map(|at| Duration::from_millis(u64::try_from(at - now).unwrap_or(0)).min(LONGEST_SLEEP));
        let stopping = self.stop.is_cancelled();
        tokio::select! {
            Some(done) = self.sends.join_next_with_id() => self.record(done, outcomes),
            () = self.signal.notify.notified() => if self.in_flight.is_empty() && !stopping {
                let pause = sleep.unwrap_or_default().min(MIN_POLL_INTERVAL);
                let _ = tokio::time::timeout(pause, self.stop.cancelled()).await;
            },
            () = tokio::time::sleep(sleep.unwrap_or_default()), if sleep.is_some() && !stopping => {}
            () = self.send_slots.wait(), if !stopping => {}
            () = self.stop.cancelled(), if !stopping => {}
        }
        while let Some(done) = self.sends.try_join_next_with_id() {
            self.record(done, outcomes);
        }
    }

    fn record(&mut self, done: Result<(Id, SendOutcome), JoinError>, outcomes: &mut Vec<(Id, Settlement)>) {
        let (id, outcome) = done.unwrap_or_else(|error| {
            // A panic in a driver: the message may or may not have been sent.
            tracing::error!(channel.id = %self.entry.via.id, %error, "send task panicked");
            (error.id(), SendOutcome::UnknownOutcome)
        });
        // The message stays in flight until its outcome is recorded.
        if let Some(held) = self.in_flight.remove(&id) {
            outcomes.push((id, self.settlement(&held, outcome)));
            self.in_flight.insert(id, held);
        }
    }

    /// Maps the outcome of an attempt to a settlement.
    fn settlement(&mut self, message: &Claimed, outcome: SendOutcome) -> Settlement {
        let now = self.shared.clock.now();
        let next_try = retry::delay_after(message.failures + 1).map(|delay| now + millis(delay));
        let fail = |code: &str, text: String| {
            if message.resent || (message.unanswered && !self.provider.timeout_is_failure()) {
                // This attempt failed, but the message may have arrived by an earlier attempt.
                return Settlement::Unknown { resend_at: None, hold: None };
            }
            Settlement::Failed { code: code.to_owned(), message: text }
        };
        let random = self.random();
        let longest_rest = millis(self.provider.pacing(&self.entry.settings()).max);
        if outcome.is_an_answer() {
            self.backoff.record_success(now);
            measure::answered(&self.entry, now);
        }
        match outcome {
            SendOutcome::Accepted { account, remote_id, rendition } => {
                Settlement::Sent { account, remote_id, rendition }
            }
            SendOutcome::PermanentFailure { code, message } => fail(code, message),
            SendOutcome::TemporaryFailure { code, message } => match next_try {
                Some(run_at) => Settlement::Retry { run_at },
                None => fail(code, message),
            },
            SendOutcome::RecipientThrottled => {
                let wait = millis(retry::recipient_delay(message.recipient_holds + 1));
                let until = self.backoff.after_next_send(wait, now, longest_rest);
                Settlement::HoldRecipient { until, hold: None }
            }
            SendOutcome::NotSent => {
                let wait = millis(retry::channel_delay(message.recipient_holds + 1, random));
                self.backoff.record_not_sent(&message.recipient, wait, (now, longest_rest), random)
            }
            SendOutcome::ChannelUnavailable { wait } => Settlement::HoldChannel { until: now + millis(wait) },
            SendOutcome::ChannelThrottled => {
                Settlement::HoldChannel { until: self.backoff.record_failure(now, random) }
            }
            SendOutcome::ChannelDisabled { reason } => {
                tracing::warn!(channel.id = %self.entry.via.id, error = reason, "channel paused by network");
                Settlement::PauseChannel { reason }
            }
            SendOutcome::NewChatBlocked { until, reason } => {
                tracing::warn!(channel.id = %self.entry.via.id, error = reason, "channel restricted by network");
                Settlement::NewChatBlocked { until, reason }
            }
            SendOutcome::ConnectionLost => self.interrupted(message, now),
            SendOutcome::UnknownOutcome => match self.unanswered() {
                // The network recognises the network id, so another attempt is harmless.
                UnknownOutcomePolicy::Resend => match next_try {
                    Some(run_at) => Settlement::RetryUnanswered { run_at },
                    None if self.provider.timeout_is_failure() => {
                        fail("TIMEOUT", "A rede nao respondeu a tempo.".to_owned())
                    }
                    None => Settlement::Unknown { resend_at: None, hold: None },
                },
                // The network cannot recognise a re-send, so another attempt could arrive twice.
                unanswered @ UnknownOutcomePolicy::MarkUnknown(_) => Settlement::Unknown {
                    resend_at: unanswered.resend_at(now),
                    hold: self.backoff.record_timeout(now, random),
                },
            },
        }
    }

    /// Settles a message during whose send the connection broke. If that happens repeatedly with one message, the
    /// message counts as the cause. From then on each break counts as a failed attempt. After the last attempt the
    /// message becomes `UNKNOWN` and no longer delays other messages.
    fn interrupted(&mut self, message: &Claimed, now: Millis) -> Settlement {
        let times = self.interruptions.filter(|(seq, _)| *seq == message.seq).map_or(0, |(_, times)| times) + 1;
        self.interruptions = Some((message.seq, times));
        let next_try = retry::delay_after(message.failures + 1).map(|delay| now + millis(delay));
        match next_try {
            _ if times < MAX_INTERRUPTIONS => Settlement::ConnectionLost { run_at: now + millis(AFTER_INTERRUPTION) },
            Some(run_at) => Settlement::RetryUnanswered { run_at },
            None => Settlement::Unknown { resend_at: None, hold: None },
        }
    }

    /// Waits until the store works again. The messages in flight stay in flight until their outcomes are recorded, and
    /// none is sent again before that.
    async fn wait_for_the_store(&mut self, error: &StoreError) {
        self.store_failures += 1;
        if self.store_failures == 1 {
            tracing::warn!(channel.id = %self.entry.via.id, %error, "store unavailable; channel waits");
        }
        // The wait grows, so that many channels that retry on a full disk do not delay a task that frees space.
        tokio::time::sleep((STORE_RETRY * (1 << self.store_failures.min(6)) / 2).min(LONGEST_STORE_RETRY)).await;
        let mut health = self.shared.health.clone();
        // `wait_for` fails only if the sender is gone. The sender lives as long as the store, so there is then nothing
        // to wait for.
        let _ = health.wait_for(|health| *health == Health::Up).await;
    }
}
