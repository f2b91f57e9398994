//! One channel's task: claim the head of the line, send it, record what became of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use recado_domain::channel::{ChannelKey, Epoch};
use recado_domain::clock::{Millis, millis, random};
use recado_domain::message::Seq;
use recado_domain::queue::{Claim, ClaimRequest, Claimed, Outcomes, Settlement, UnheldSending, UnknownOutcomePolicy};
use recado_domain::retry;
use recado_providers::{ChannelDriver, SendOutcome, Slot};
use recado_store::{Health, StoreError};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::back_off::BackOff;
use super::turn::Turns;
use super::{Shared, Signal};
use crate::directory::ChannelEntry;

/// The longest a network may take for one send. What is not answered by then has no answer.
const SEND_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a claim holds. Longer than any send, so that what runs out was in nobody's hand.
const CLAIM: Duration = Duration::from_secs(75);
/// Breaks of the line at one message that are taken for bad luck.
const INTERRUPTIONS: u32 = 4;
/// The wait before a message is sent again at which the line broke.
const AFTER_INTERRUPTION: Duration = Duration::from_secs(1);
/// The wait before the store is asked again after it refused something.
const STORE_RETRY: Duration = Duration::from_millis(200);
/// The longest such wait, after several failures in a row.
const LONGEST_STORE_RETRY: Duration = Duration::from_secs(5);
/// The longest sleep: a clock that was set forward is noticed by then.
const LONGEST_SLEEP: Duration = Duration::from_mins(10);
/// The least time between two looks at a channel that has nothing in hand and something that waits: with many calls a
/// second, most of the database's time would go into finding out that it still does.
const WAITS: Duration = Duration::from_millis(25);

/// Runs until the line is empty or the dispatcher stops.
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
        let (sends, in_hand, back_off) = (JoinSet::new(), HashMap::new(), BackOff::default());
        let line = Line {
            shared,
            signal,
            stop,
            entry,
            epoch,
            provider,
            sends,
            in_hand,
            orphans: first,
            back_off,
            interruptions: None,
            store_failures: 0,
            turns: Turns::default(),
        };
        line.work().await;
    } else {
        tracing::warn!(channel.key = key, "no provider compiled in for channel type");
    }
}

struct Line {
    shared: Arc<Shared>,
    signal: Arc<Signal>,
    /// Nothing more is to be claimed.
    stop: CancellationToken,
    entry: Arc<ChannelEntry>,
    /// Under which this node holds the channel.
    epoch: Epoch,
    provider: Arc<dyn ChannelDriver>,
    sends: JoinSet<SendOutcome>,
    /// What was claimed and not yet recorded.
    in_hand: HashMap<Id, Claimed>,
    orphans: UnheldSending,
    back_off: BackOff,
    /// How often in a row the line broke at a message.
    interruptions: Option<(Seq, u32)>,
    /// How often in a row the store failed.
    store_failures: u32,
    turns: Turns,
}

impl Line {
    async fn work(mut self) {
        let mut outcomes = Vec::new();
        loop {
            self.signal.news.store(false, Ordering::Release);
            // Before the store is asked: from its answer on, what is accepted is behind what the answer speaks of.
            self.signal.holds_all.store(false, Ordering::Release);
            let next = match self.turn(&mut outcomes).await {
                Ok(next) => {
                    self.store_failures = 0;
                    next
                }
                Err(StoreError::Fenced) => {
                    // What is in hand is the other node's to end, which knows it as left by the dead.
                    tracing::warn!(channel.id = %self.entry.via.id, "channel lease lost (fenced)");
                    return;
                }
                Err(error) => {
                    self.wait_for_the_store(&error).await;
                    continue;
                }
            };
            let stopping = self.stop.is_cancelled();
            if self.in_hand.is_empty()
                && (stopping || (next.is_none() && !self.turns.are_awaited()))
                && (stopping || self.shared.retire(self.entry.via.key, &self.signal))
            {
                return;
            }
            self.wait(next, &mut outcomes).await;
        }
    }

    /// Records what has become of sent messages and claims the next, in one commit of the store where possible. Gives when
    /// to look again, where a message waits for a time.
    async fn turn(&mut self, outcomes: &mut Vec<(Id, Settlement)>) -> Result<Option<Millis>, StoreError> {
        // Nobody closes it.
        let shared = self.shared.clone();
        let _turn = shared.turns.acquire().await;
        let now = self.shared.clock.now();
        let most = if self.back_off.probes() { 1 } else { self.provider.max_in_flight(&self.entry.settings()) };
        let free = most.saturating_sub(self.in_hand.len() - outcomes.len());
        // Where a re-send may double, the first claim looks after what the dead left and takes nothing: should its
        // answer be lost, what it took could not be told from theirs.
        let only_orphans =
            self.orphans == UnheldSending::OwnerCrashed && self.unanswered() != UnknownOutcomePolicy::Resend;
        let mut slots = if only_orphans { Vec::new() } else { self.slots(free) };
        let free = if only_orphans { free } else { slots.len() };
        // The messages that are being settled still count as held: should that fail, nobody takes them for orphans.
        let (settled, claim) = self.settle_and_claim(outcomes, (free, only_orphans), now).await;
        if (settled.is_err() || claim.is_err()) && self.orphans == UnheldSending::LeaseLive {
            // What the claim took, if it took something, will not be sent by anyone.
            self.orphans = UnheldSending::ClaimLost;
        }
        settled?;
        for (id, _) in outcomes.drain(..) {
            self.in_hand.remove(&id);
        }
        let Some(claim) = claim? else { return Ok(None) };
        self.orphans = UnheldSending::LeaseLive;
        self.signal.holds_all.store(claim.holds_all && !only_orphans, Ordering::Release);
        claim.messages.into_iter().for_each(|message| self.send(message, slots.pop().flatten()));
        Ok(if only_orphans { claim.next_at.map(|_| now) } else { claim.next_at })
    }

    /// Turns for so many sends at most.
    fn slots(&mut self, most: usize) -> Vec<Slot> {
        let most = if self.stop.is_cancelled() { 0 } else { most };
        let (provider, entry) = (self.provider.clone(), self.entry.clone());
        self.turns.take(most, || Box::pin(async move { provider.slots(&entry.via, most).await }))
    }

    async fn settle_and_claim(
        &self,
        outcomes: &[(Id, Settlement)],
        hands: (usize, bool),
        now: Millis,
    ) -> (Result<(), StoreError>, Result<Option<Claim>, StoreError>) {
        let queue = &self.shared.queue;
        match ((!outcomes.is_empty()).then(|| self.outcomes(outcomes, now)), self.request(hands, now)) {
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
        let seq = |id: &Id| self.in_hand.get(id).map(|held| held.seq);
        let settled = outcomes.iter().filter_map(|(id, settlement)| Some((seq(id)?, settlement.clone()))).collect();
        // The claim's rest began before its commit; counted anew from here, no slow disk shortens it.
        let rest_until = Some(self.rest()).filter(|rest| *rest > 0).map(|rest| now + rest);
        Outcomes { channel: self.entry.via.key, epoch: self.epoch, settled, rest_until, now }
    }

    /// A question for work; `None` when there is no hand free for it.
    fn request(&self, (free, only_orphans): (usize, bool), now: Millis) -> Option<ClaimRequest> {
        if self.stop.is_cancelled() || free == 0 {
            return None;
        }
        Some(ClaimRequest {
            channel: self.entry.via.key,
            epoch: self.epoch,
            limit: if only_orphans { 0 } else { free },
            held: self.held(),
            orphans: self.orphans,
            unanswered: self.unanswered(),
            now,
            claimed_until: now + millis(CLAIM),
            rest: self.rest(),
            recipient_pacing: self.provider.recipient_pacing(),
            new_recipients_per_day: self.entry.settings().new_recipients_per_day(),
        })
    }

    fn unanswered(&self) -> UnknownOutcomePolicy {
        self.provider.unanswered(&self.entry.settings())
    }

    fn random(&self) -> u64 {
        u64::from_le_bytes(random(&*self.shared.entropy))
    }

    /// A rest between two sends, drawn anew, in milliseconds.
    fn rest(&self) -> Millis {
        millis(self.provider.pacing(&self.entry.settings()).rest(self.random()))
    }

    fn held(&self) -> Vec<Seq> {
        self.in_hand.values().map(|held| held.seq).collect()
    }

    /// Hands a message to the network, beside this task.
    fn send(&mut self, message: Claimed, slot: Slot) {
        let (provider, entry, sent) = (self.provider.clone(), self.entry.clone(), message.clone());
        let (leases, epoch) = (self.shared.leases.clone(), self.epoch);
        let handle = self.sends.spawn(async move {
            let _slot = slot;
            // Where another node may hold the channel by now, it may be sending, too.
            leases.wait_valid().await;
            if leases.session_epoch(entry.via.key) != Some(epoch) {
                // It is. What is said here reaches no store.
                return SendOutcome::ConnectionLost;
            }
            let sending = provider.send(&entry.via, &sent);
            tokio::time::timeout(SEND_TIMEOUT, sending).await.unwrap_or(SendOutcome::UnknownOutcome)
        });
        self.in_hand.insert(handle.id(), message);
    }

    /// Waits for news, for an outcome, or until it is time to look again.
    async fn wait(&mut self, next: Option<Millis>, outcomes: &mut Vec<(Id, Settlement)>) {
        let now = self.shared.clock.now();
        let sleep = next.map(|at| Duration::from_millis(u64::try_from(at - now).unwrap_or(0)).min(LONGEST_SLEEP));
        let stopping = self.stop.is_cancelled();
        tokio::select! {
            Some(done) = self.sends.join_next_with_id() => self.note(done, outcomes),
            () = self.signal.notify.notified() => if self.in_hand.is_empty() && !stopping {
                let rest = sleep.unwrap_or_default().min(WAITS);
                let _ = tokio::time::timeout(rest, self.stop.cancelled()).await;
            },
            () = tokio::time::sleep(sleep.unwrap_or_default()), if sleep.is_some() && !stopping => {}
            () = self.turns.come(), if !stopping => {}
            () = self.stop.cancelled(), if !stopping => {}
        }
        while let Some(done) = self.sends.try_join_next_with_id() {
            self.note(done, outcomes);
        }
    }

    fn note(&mut self, done: Result<(Id, SendOutcome), JoinError>, outcomes: &mut Vec<(Id, Settlement)>) {
        let (id, outcome) = done.unwrap_or_else(|error| {
            // A panic in a provider: nobody knows how far it came.
            tracing::error!(channel.id = %self.entry.via.id, %error, "send task panicked");
            (error.id(), SendOutcome::UnknownOutcome)
        });
        // Put back until it is recorded.
        if let Some(held) = self.in_hand.remove(&id) {
            outcomes.push((id, self.settlement(&held, outcome)));
            self.in_hand.insert(id, held);
        }
    }

    /// What an outcome means for a message.
    fn settlement(&mut self, message: &Claimed, outcome: SendOutcome) -> Settlement {
        let now = self.shared.clock.now();
        let next_try = retry::delay_after(message.failures + 1).map(|delay| now + millis(delay));
        let fail = |code: &str, text: String| {
            if message.resent || (message.unanswered && !self.provider.timeout_is_failure()) {
                // This sending failed; the one before may be there.
                return Settlement::Unknown { resend_at: None, hold: None };
            }
            Settlement::Failed { code: code.to_owned(), message: text }
        };
        let random = self.random();
        let longest_rest = millis(self.provider.pacing(&self.entry.settings()).max);
        if outcome.is_an_answer() {
            self.back_off.well(now);
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
                let until = self.back_off.behind_the_next_send(wait, now, longest_rest);
                Settlement::HoldRecipient { until, hold: None }
            }
            SendOutcome::NotSent => {
                let wait = millis(retry::channel_delay(message.recipient_holds + 1, random));
                self.back_off.unsent(&message.recipient, wait, (now, longest_rest), random)
            }
            SendOutcome::ChannelUnavailable { wait } => Settlement::HoldChannel { until: now + millis(wait) },
            SendOutcome::ChannelThrottled => Settlement::HoldChannel { until: self.back_off.trouble(now, random) },
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
                // The same network id makes another try harmless.
                UnknownOutcomePolicy::Resend => match next_try {
                    Some(run_at) => Settlement::RetryUnanswered { run_at },
                    None if self.provider.timeout_is_failure() => {
                        fail("TIMEOUT", "A rede nao respondeu a tempo.".to_owned())
                    }
                    None => Settlement::Unknown { resend_at: None, hold: None },
                },
                // Without one it might double the card.
                unanswered @ UnknownOutcomePolicy::MarkUnknown(_) => Settlement::Unknown {
                    resend_at: unanswered.resend_at(now),
                    hold: self.back_off.silence(now, random),
                },
            },
        }
    }

    /// The line broke. Where it breaks at the same message again and again, that is the message's own trouble: it has its
    /// tries, and then holds nobody any longer.
    fn interrupted(&mut self, message: &Claimed, now: Millis) -> Settlement {
        let times = self.interruptions.filter(|(seq, _)| *seq == message.seq).map_or(0, |(_, times)| times) + 1;
        self.interruptions = Some((message.seq, times));
        let next_try = retry::delay_after(message.failures + 1).map(|delay| now + millis(delay));
        match next_try {
            _ if times < INTERRUPTIONS => Settlement::ConnectionLost { run_at: now + millis(AFTER_INTERRUPTION) },
            Some(run_at) => Settlement::RetryUnanswered { run_at },
            None => Settlement::Unknown { resend_at: None, hold: None },
        }
    }

    /// The store failed. What is in hand stays in hand, and nothing is sent again, until it is recorded.
    async fn wait_for_the_store(&mut self, error: &StoreError) {
        self.store_failures += 1;
        if self.store_failures == 1 {
            tracing::warn!(channel.id = %self.entry.via.id, %error, "store unavailable; channel waits");
        }
        // Many channels that ask a full disk for room must not keep it from whoever makes some.
        tokio::time::sleep((STORE_RETRY * (1 << self.store_failures.min(6)) / 2).min(LONGEST_STORE_RETRY)).await;
        let mut health = self.shared.health.clone();
        // Its sender lives as long as the store; without one there is nothing to wait for.
        let _ = health.wait_for(|health| *health == Health::Up).await;
    }
}
