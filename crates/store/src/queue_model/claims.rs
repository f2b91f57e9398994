//! What a claim may do and must do, and the invariants after each step.

use recado_domain::channel::Ordering;
use recado_domain::clock::{Millis, millis};
use recado_domain::message::Message;
use recado_domain::pacing::RecipientPacing;
use recado_domain::queue::{Claim, ClaimRequest, UnheldSending, UnknownOutcomePolicy};
use recado_domain::status::MessageStatus;

use super::RECIPIENTS;
use super::ops::How;
use super::world::{Holder, Known, World};
use crate::fixtures::{MINUTE, request};

impl World {
    pub(super) async fn claim(&mut self, channel: usize, limit: usize, send_interval: Millis, answered: bool) -> Claim {
        let rows = self.ground.all(self.queues[channel].key).await;
        let seq_of = |id| rows.iter().find(|row| row.id == id).expect("a message in the store").seq;
        let held = self.held(|known| known.channel == channel).into_iter().map(|n| seq_of(self.messages[n].id));
        let queue = &self.queues[channel];
        let request = ClaimRequest {
            limit,
            held: held.collect(),
            orphans: queue.orphans,
            unanswered: queue.rule.unanswered,
            now: self.now,
            claimed_until: self.now + MINUTE,
            send_interval,
            recipient_pacing: queue.rule.pacing,
            ..request(queue.key)
        };
        let claim = self.ground.claim(request.clone()).await;
        assert!(claim.messages.is_sorted_by_key(|claimed| claimed.seq));
        let rows = self.ground.all(queue.key).await;
        for n in 0..self.messages.len() {
            if self.messages[n].channel == channel {
                self.check_claimed(n, &claim, &rows, answered);
            }
        }
        let queue = &mut self.queues[channel];
        for claimed in &claim.messages {
            let recipient = RECIPIENTS.iter().position(|known| *known == claimed.recipient).expect("known");
            queue.sends[recipient].push(self.now);
            if let Some(RecipientPacing { burst, every }) = queue.rule.pacing {
                let (sends, burst) = (&queue.sends[recipient], usize::try_from(burst).expect("small"));
                let before = sends.len().checked_sub(burst + 1).map(|n| sends[n]);
                assert!(before.is_none_or(|before| self.now - before >= millis(every)), "more than a burst: {sends:?}");
            }
        }
        let could_send = !queue.paused && queue.next_send_at <= self.now;
        assert!(could_send || claim.messages.is_empty(), "the channel does not send now: {claim:?}");
        if send_interval > 0 && !claim.messages.is_empty() {
            queue.next_send_at = queue.next_send_at.max(self.now + send_interval);
        }
        queue.orphans = match (answered, queue.orphans) {
            (true, _) => UnheldSending::LeaseLive,
            // Messages of a lost answer look like those of a crashed owner now.
            (false, UnheldSending::OwnerCrashed) => UnheldSending::OwnerCrashed,
            (false, _) => UnheldSending::ClaimLost,
        };
        let most = if send_interval > 0 { limit.min(1) } else { limit };
        self.nothing_idle(channel, could_send && claim.messages.len() < most, &claim);
        assert!(claim.messages.len() <= most, "{request:?}: {claim:?}");
        claim
    }

    /// Checks what a claim did to one message.
    fn check_claimed(&mut self, n: usize, claim: &Claim, rows: &[Message], answered: bool) {
        let (now, queue) = (self.now, &self.queues[self.messages[n].channel]);
        let known = &mut self.messages[n];
        let resent = known.status == MessageStatus::Unknown
            && !queue.paused
            && known.resend_at.is_some_and(|at| at <= now)
            && known.expires_at > now;
        if resent {
            (known.status, known.holder) = (MessageStatus::Queued, Holder::None);
            (known.queued_again, known.unanswered, known.maybe_sent, known.resend_at) = (true, true, false, None);
        }
        let (before, after) = (known.status, rows.iter().find(|row| row.id == known.id).expect("not lost").status);
        let context = format!("message {n}, {before:?} held by {:?} -> {after:?} by {:?}", known.holder, queue.orphans);
        let orphan = before == MessageStatus::Sending
            && known.holder != Holder::Held
            && queue.orphans != UnheldSending::LeaseLive;
        let free = before == MessageStatus::Queued || orphan;
        // If the network does not recognise a resend, a message that may have arrived is not sent again.
        let may_go = queue.rule.unanswered == UnknownOutcomePolicy::Resend || !known.maybe_sent;
        let was_claimed = claim.messages.iter().any(|claimed| claimed.id == known.id);
        if orphan && queue.orphans == UnheldSending::ClaimLost {
            // Its claim was no attempt.
            known.claims -= 1;
        }
        known.unanswered |= orphan && queue.orphans == UnheldSending::OwnerCrashed;
        if known.due.is_some() {
            assert!(!was_claimed && after == before, "not yet: {context}");
        }
        if was_claimed {
            assert_eq!(after, MessageStatus::Sending, "{context}");
            assert!(free && may_go && known.run_at <= now && known.expires_at > now, "was_claimed: {context}");
            known.claims += 1;
            known.connection = queue.connections;
            known.holder = if answered { Holder::Held } else { Holder::Lost };
            known.maybe_sent |= answered;
        } else {
            let allowed = match after {
                // The next claim could not distinguish it from a message in flight.
                _ if orphan && after == MessageStatus::Sending => false,
                _ if after == before => true,
                MessageStatus::Queued => orphan && may_go,
                MessageStatus::Expired => free && may_go && !known.unanswered && known.expires_at <= now,
                MessageStatus::Unknown if known.unanswered && known.expires_at <= now => free,
                MessageStatus::Unknown => {
                    let given_up = queue.rule.unanswered != UnknownOutcomePolicy::Resend;
                    // Once.
                    known.resend_at = queue.rule.unanswered.resend_at(now).filter(|_| !known.queued_again);
                    orphan && given_up && queue.orphans == UnheldSending::OwnerCrashed
                }
                _ => false,
            };
            assert!(allowed, "{context}");
            if orphan {
                known.holder = Holder::None;
            }
        }
        known.status = after;
    }

    /// The head of each queue; every other open message waits. A message that was queued again waits for the one in
    /// flight.
    fn heads(&self, channel: usize) -> Vec<&Known> {
        let mut heads: Vec<&Known> = Vec::new();
        for known in self.queued(channel) {
            let same_queue = |head: &&mut &Known| {
                self.queues[channel].rule.kind.descriptor().ordering == Ordering::Channel
                    || head.recipient == known.recipient
            };
            match heads.iter_mut().find(same_queue) {
                Some(head) if known.status == MessageStatus::Sending => {
                    let is_older = head.queued_again && head.status == MessageStatus::Queued;
                    assert!(is_older, "claimed before earlier messages of its queue");
                    *head = known;
                }
                Some(_) => {}
                None => heads.push(known),
            }
        }
        heads
    }

    fn nothing_idle(&self, channel: usize, has_capacity: bool, claim: &Claim) {
        for head in self.heads(channel) {
            let paced = claim.next_at.is_some() && self.queues[channel].rule.pacing.is_some();
            let moves = head.status == MessageStatus::Sending || head.run_at > self.now || paced;
            assert!(moves || !has_capacity, "a queue is stuck: {claim:?}");
        }
        let waits = self.queued(channel).next().is_some() && self.held(|known| known.channel == channel).is_empty();
        let lost = self.open(channel).any(|known| known.holder == Holder::Lost);
        assert!(!waits || lost || claim.next_at.is_some(), "no wake-up is scheduled");
        assert!(claim.next_at.is_none_or(|at| at > self.now), "looking again at once: {claim:?}");
    }

    /// The store has each accepted message once, in the order of the numbers, in the state of the model; and only heads
    /// are in flight.
    pub(super) async fn check(&self) {
        for (channel, queue) in self.queues.iter().enumerate() {
            let rows = self.ground.all(queue.key).await;
            assert!(rows.is_sorted_by(|older, newer| older.seq < newer.seq));
            let stored = rows.iter().map(|row| (row.id, row.status, row.attempts));
            let known = self.messages.iter().filter(|known| known.channel == channel);
            let known = known.map(|known| (known.id, known.status, known.claims));
            assert_eq!(stored.collect::<Vec<_>>(), known.collect::<Vec<_>>(), "channel {channel}");
            self.heads(channel);
        }
    }

    /// Continues without failures until no message is open.
    pub(super) async fn drain(&mut self) {
        for channel in 0..self.queues.len() {
            if self.queues[channel].paused {
                self.pause(channel, false).await;
            }
        }
        for round in 0.. {
            assert!(round < 20 * (self.messages.len() + 10), "the queue does not drain");
            let mut next = self.promote().await;
            for channel in 0..self.queues.len() {
                for n in self.held(|known| known.channel == channel) {
                    self.settle(n, How::Sent).await;
                }
                let claim = self.claim(channel, 2, 0, true).await;
                let at = if claim.messages.is_empty() { claim.next_at } else { Some(self.now) };
                next = [next, at].into_iter().flatten().min();
            }
            match next {
                Some(at) => self.now = self.now.max(at),
                None => break,
            }
        }
        self.check().await;
        for (channel, queue) in self.queues.iter().enumerate() {
            assert_eq!(self.open(channel).count(), 0, "channel {channel} has an end for each");
            for row in self.ground.all(queue.key).await {
                use MessageStatus::{Cancelled, Expired, Failed, Read};
                let ends = [Read, Failed, Expired, Cancelled].map(|end| row.reached[usize::from(end.number())]);
                assert!(ends.iter().flatten().count() <= 1, "finished twice: {row:?}");
            }
        }
    }
}
