//! Ends waiting messages, and rescues messages that no task has in flight.

use crate::channel::ChannelKey;
use crate::clock::Millis;
use crate::message::Seq;
use crate::status::MessageStatus;

use super::{
    ChannelQueue, ClaimRequest, NextWakeup, OpenRow, Patch, Position, Transition, UnheldSending, UnknownOutcomePolicy,
};

/// The most messages that one claim finishes unsent, queues again, or skips. Other claims wait for the writer, or for the
/// channel's row.
pub const FINISH_AT_ONCE: usize = 500;

/// A queued message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queued {
    /// Its channel.
    pub channel: ChannelKey,
    /// Its number.
    pub seq: Seq,
    /// When the message expires.
    pub expires_at: Millis,
    /// The message may have arrived.
    pub unanswered: bool,
}

/// Why a queued message will not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// It expired, its channel was deleted, or the policy that queued it again was changed.
    Dropped,
    /// A caller cancelled it, or its channel was deleted.
    Cancelled,
}

impl Queued {
    fn position(&self) -> Position {
        let Self { channel, seq, unanswered, .. } = *self;
        // A message that may have arrived was attempted.
        Position { channel, seq, status: MessageStatus::Queued, attempted: unanswered }
    }

    /// Whether the claim drops the message: it expired, or the policy that queued it again was changed.
    pub fn is_dropped(&self, resent: bool, request: &ClaimRequest) -> bool {
        self.expires_at <= request.now || resent && request.unanswered == UnknownOutcomePolicy::MarkUnknown(None)
    }

    /// Ends the message. A message that may have arrived becomes `UNKNOWN`, because `EXPIRED` or `CANCELLED` would be a
    /// guess.
    pub fn finish(&self, why: Finish, now: Millis) -> Option<Transition<'static>> {
        let to = match why {
            _ if self.unanswered => MessageStatus::Unknown,
            Finish::Dropped if self.expires_at <= now => MessageStatus::Expired,
            Finish::Dropped | Finish::Cancelled => MessageStatus::Cancelled,
        };
        self.position().moves_to(to, now, Patch::default())
    }

    /// Cancels the message; `None` if the message may have arrived, which cannot be undone.
    pub fn cancel(&self, now: Millis) -> Option<Transition<'static>> {
        if self.unanswered { None } else { self.finish(Finish::Cancelled, now) }
    }

    /// Marks the message as `SENDING`.
    pub fn send(&self, request: &ClaimRequest, queue: &ChannelQueue) -> Option<Transition<'static>> {
        let claimed_until = Some(request.claimed_until);
        let patch = Patch { claimed_until, connection: Some(queue.connections), attempts: 1, ..Patch::default() };
        self.position().moves_to(MessageStatus::Sending, request.now, patch)
    }
}

/// Ends the attempt of a message that no task has in flight: it is queued again, or becomes `UNKNOWN`.
pub fn rescue(seq: Seq, request: &ClaimRequest) -> Option<Transition<'static>> {
    let (to, resend_at) = if request.requeues_orphans() {
        (MessageStatus::Queued, None)
    } else {
        (MessageStatus::Unknown, request.unanswered.resend_at(request.now))
    };
    let never_sent = request.orphans == UnheldSending::ClaimLost;
    // A claim whose answer was lost is no attempt. Any other message may have arrived.
    let patch = Patch { resend_at, attempts: -i32::from(never_sent), unanswered: !never_sent, ..Patch::default() };
    Position::sending(request.channel, seq).moves_to(to, request.now, patch)
}

/// Ends a message that may have arrived from a number that its channel no longer has. Sent from another number, it could
/// arrive a second time.
pub fn mark_unknown(position: Position, now: Millis) -> Option<Transition<'static>> {
    position.moves_to(MessageStatus::Unknown, now, Patch::default())
}

/// The messages that a claim ends at the head of a channel with recipient queues: expired ones, and ones that were queued
/// before the channel was deleted. Messages expire in the order of acceptance unless the setting was changed; messages out
/// of this order are ended when they reach the head of their queue.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outdated {
    /// The transitions that end messages.
    pub ends: Vec<Transition<'static>>,
    /// When the first remaining message expires.
    expires_at: Option<Millis>,
    /// Whether there may be more messages to end.
    more: bool,
}

impl Outdated {
    /// Decides what to do with an open message. Returns whether to read the next one. At most `most` messages are ended.
    pub fn decide(&mut self, row: &OpenRow, queue: &ChannelQueue, request: &ClaimRequest, most: usize) -> bool {
        if row.status == MessageStatus::Sending {
            return true;
        }
        if row.expires_at > request.now && !queue.cancels(row.seq) {
            self.expires_at = Some(row.expires_at);
            return false;
        }
        if self.ends.len() == most {
            self.more = true;
            return false;
        }
        self.ends.extend(row.as_queued(request).finish(Finish::Dropped, request.now));
        true
    }

    /// Whether the claim may send messages after that. Otherwise, and for remaining messages, schedules the next claim.
    pub fn may_send(&self, queue: &ChannelQueue, request: &ClaimRequest, wakeup: &mut NextWakeup) -> bool {
        if self.more {
            wakeup.schedule(request.now);
        }
        let Some(expires_at) = self.expires_at else { return false };
        // Any waiting message may expire before its wait ends.
        wakeup.schedule(expires_at);
        if !queue.dispatches() || request.limit == 0 {
            return false;
        }
        if queue.next_send_at > request.now {
            wakeup.schedule(queue.next_send_at);
            return false;
        }
        true
    }
}

/// An `UNKNOWN` message that is to be queued again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resendable {
    /// Its number.
    pub seq: Seq,
    /// When it is due.
    pub resend_at: Millis,
    /// When the message expires.
    pub expires_at: Millis,
}

/// What happens to `UNKNOWN` messages.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resends {
    /// Queued again.
    pub again: Vec<Transition<'static>>,
    /// The messages that stay `UNKNOWN`, because they expired or their channel was deleted.
    pub left: Vec<Seq>,
}

/// Queues `UNKNOWN` messages again that are due, from the first ones by due time. The engine read at most this many.
pub fn resend(
    (first, asked): (&[Resendable], usize),
    request: &ClaimRequest,
    queue: &ChannelQueue,
    wakeup: &mut NextWakeup,
) -> Resends {
    let mut resends = Resends::default();
    for message in first {
        if message.resend_at > request.now {
            wakeup.schedule(message.resend_at);
            return resends;
        }
        if message.expires_at <= request.now || queue.is_former(message.seq) {
            resends.left.push(message.seq);
            continue;
        }
        let (channel, seq, status) = (request.channel, message.seq, MessageStatus::Unknown);
        let position = Position { channel, seq, status, attempted: true };
        let patch = Patch { unanswered: true, resent: true, ..Patch::default() };
        resends.again.extend(position.moves_to(MessageStatus::Queued, request.now, patch));
    }
    if first.len() == asked {
        // All of them were due, so the next one may be due too.
        wakeup.schedule(request.now);
    }
    resends
}

/// Whether the channel's policy queues `UNKNOWN` messages again.
pub fn resends(request: &ClaimRequest, queue: &ChannelQueue) -> bool {
    queue.dispatches() && matches!(request.unanswered, UnknownOutcomePolicy::MarkUnknown(Some(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{ChannelState, ChannelType};
    use crate::queue::fixtures::request;
    use MessageStatus::{Cancelled, Expired, Sending, Unknown};

    const NOW: Millis = 1_000;
    const LEAVE: UnknownOutcomePolicy = UnknownOutcomePolicy::MarkUnknown(None);

    fn queue() -> ChannelQueue {
        ChannelQueue { connections: 4, ..ChannelQueue::of(ChannelType::CloudApi, ChannelState::Connected) }
    }

    #[test]
    fn the_table_of_ends() {
        let table = [
            // The reason, expired, may have arrived: the final state.
            (Finish::Dropped, true, false, Expired),
            (Finish::Dropped, false, false, Cancelled),
            (Finish::Dropped, true, true, Unknown),
            (Finish::Dropped, false, true, Unknown),
            (Finish::Cancelled, true, false, Cancelled),
            (Finish::Cancelled, false, false, Cancelled),
            (Finish::Cancelled, true, true, Unknown),
            (Finish::Cancelled, false, true, Unknown),
        ];
        for (why, old, unanswered, end) in table {
            let expires_at = if old { NOW } else { NOW + 1 };
            let message = Queued { channel: 1, seq: 7, expires_at, unanswered };
            let finished = message.finish(why, NOW).expect("legal");
            assert_eq!((finished.from(), finished.to()), (MessageStatus::Queued, end), "{why:?}, {message:?}");
            assert_eq!(finished.reached(end), Some(NOW));
            assert_eq!(message.cancel(NOW).is_some(), !unanswered);
        }
    }

    #[test]
    fn a_claim_drops_expired_and_outdated_messages() {
        let wait = UnknownOutcomePolicy::MarkUnknown(Some(1));
        let table = [
            // Expired, queued again, the policy: whether it is dropped.
            (true, false, UnknownOutcomePolicy::Resend, true),
            (false, true, LEAVE, true),
            (false, true, wait, false),
            (false, false, LEAVE, false),
            (false, false, UnknownOutcomePolicy::Resend, false),
        ];
        for (old, resent, unanswered, dropped) in table {
            let expires_at = if old { NOW } else { NOW + 1 };
            let message = Queued { channel: 1, seq: 7, expires_at, unanswered: resent };
            let request = ClaimRequest { unanswered, ..request(NOW) };
            assert_eq!(message.is_dropped(resent, &request), dropped, "{message:?}, {unanswered:?}");
        }
    }

    #[test]
    fn a_claim_counts_an_attempt_and_holds_the_message_for_a_while() {
        let message = Queued { channel: 1, seq: 7, expires_at: NOW + 1, unanswered: false };
        let sent = message.send(&request(NOW), &queue()).expect("legal");
        assert_eq!((sent.from(), sent.to()), (MessageStatus::Queued, Sending));
        let (claimed_until, connection) = (Some(request(NOW).claimed_until), Some(4));
        assert_eq!(sent.patch(), &Patch { attempts: 1, claimed_until, connection, ..Patch::default() });
    }

    #[test]
    fn the_table_of_rescues() {
        let wait = UnknownOutcomePolicy::MarkUnknown(Some(50));
        let table = [
            // What is known, the policy: the state, attempts, may have arrived, due again.
            (UnheldSending::OwnerCrashed, UnknownOutcomePolicy::Resend, MessageStatus::Queued, 0, true, None),
            (UnheldSending::OwnerCrashed, LEAVE, Unknown, 0, true, None),
            (UnheldSending::OwnerCrashed, wait, Unknown, 0, true, Some(NOW + 50)),
            (UnheldSending::LeaseLive, UnknownOutcomePolicy::Resend, MessageStatus::Queued, 0, true, None),
            (UnheldSending::LeaseLive, wait, Unknown, 0, true, Some(NOW + 50)),
            (UnheldSending::ClaimLost, UnknownOutcomePolicy::Resend, MessageStatus::Queued, -1, false, None),
            (UnheldSending::ClaimLost, LEAVE, MessageStatus::Queued, -1, false, None),
            (UnheldSending::ClaimLost, wait, MessageStatus::Queued, -1, false, None),
        ];
        for (orphans, policy, to, attempts, unanswered, resend_at) in table {
            let request = ClaimRequest { orphans, unanswered: policy, ..request(NOW) };
            let rescued = rescue(7, &request).expect("legal");
            assert_eq!((rescued.from(), rescued.to()), (Sending, to), "{orphans:?}, {policy:?}");
            assert_eq!(rescued.patch(), &Patch { resend_at, attempts, unanswered, ..Patch::default() });
        }
    }

    #[test]
    fn unknown_messages_are_queued_again_when_they_are_due_and_not_too_old() {
        let message = |seq, resend_at, expires_at| Resendable { seq, resend_at, expires_at };
        let first =
            [message(5, 10, NOW + 1), message(2, 20, NOW + 1), message(6, 30, NOW), message(7, NOW + 9, NOW + 99)];
        let recreated = ChannelQueue { cancel_before: 2, ..queue() };
        let mut wakeup = NextWakeup::default();
        let resends = resend((&first, FINISH_AT_ONCE), &request(NOW), &recreated, &mut wakeup);
        assert_eq!(resends.left, [2, 6], "of the deleted channel, and too old");
        assert_eq!(wakeup.next_at, Some(NOW + 9));
        let [again] = &resends.again[..] else { panic!("{resends:?}") };
        assert_eq!((again.seq(), again.from(), again.to()), (5, Unknown, MessageStatus::Queued));
        assert_eq!(again.patch(), &Patch { unanswered: true, resent: true, ..Patch::default() });
    }

    #[test]
    fn a_full_batch_of_due_messages_schedules_the_next_claim_at_once() {
        let first = vec![Resendable { seq: 1, resend_at: 1, expires_at: NOW + 1 }; FINISH_AT_ONCE];
        let mut wakeup = NextWakeup::default();
        resend((&first, FINISH_AT_ONCE), &request(NOW), &queue(), &mut wakeup);
        assert_eq!(wakeup.next_at, Some(NOW));
        let mut wakeup = NextWakeup::default();
        resend((&first[1..], FINISH_AT_ONCE), &request(NOW), &queue(), &mut wakeup);
        assert_eq!(wakeup.next_at, None);
    }

    #[test]
    fn only_a_sending_channel_with_the_resend_policy_queues_again() {
        let paused = ChannelQueue { state: ChannelState::Paused, ..queue() };
        let policy = |unanswered| ClaimRequest { unanswered, ..request(NOW) };
        assert!(resends(&policy(UnknownOutcomePolicy::MarkUnknown(Some(1))), &queue()));
        assert!(!resends(&policy(UnknownOutcomePolicy::MarkUnknown(Some(1))), &paused));
        assert!(!resends(&policy(LEAVE), &queue()));
        assert!(!resends(&policy(UnknownOutcomePolicy::Resend), &queue()));
    }

    #[test]
    fn a_message_that_may_have_arrived_from_another_number_becomes_unknown() {
        for (status, attempted, left) in
            [(MessageStatus::Queued, true, true), (MessageStatus::Queued, false, false), (Sending, true, true)]
        {
            let position = Position { channel: 1, seq: 7, status, attempted };
            assert_eq!(mark_unknown(position, NOW).is_some(), left, "{position:?}");
        }
    }

    fn open(seq: Seq, status: MessageStatus, expires_at: Millis) -> OpenRow {
        OpenRow { seq, status, run_at: 0, expires_at, claimed_until: None, unanswered: false }
    }

    #[test]
    fn expired_messages_end_from_the_head_on() {
        let rows = [
            open(1, Sending, 1),
            open(2, MessageStatus::Queued, NOW),
            open(3, MessageStatus::Queued, NOW + 5),
            open(4, MessageStatus::Queued, 1),
        ];
        let (mut outdated, mut wakeup) = (Outdated::default(), NextWakeup::default());
        let read = rows.iter().take_while(|row| outdated.decide(row, &queue(), &request(NOW), 9)).count();
        assert_eq!(read, 2, "the third one remains, and the fourth is not at the head yet");
        let ends: Vec<_> = outdated.ends.iter().map(|end| (end.seq(), end.to())).collect();
        assert_eq!(ends, [(2, Expired)]);
        assert!(outdated.may_send(&queue(), &request(NOW), &mut wakeup));
        assert_eq!(wakeup.next_at, Some(NOW + 5));
    }

    #[test]
    fn a_claim_ends_a_limited_number_and_the_next_claim_continues() {
        let (mut outdated, mut wakeup) = (Outdated::default(), NextWakeup::default());
        let old: Vec<_> = (1..4).map(|seq| open(seq, MessageStatus::Queued, 1)).collect();
        let decided: Vec<_> = old.iter().map(|row| outdated.decide(row, &queue(), &request(NOW), 2)).collect();
        assert_eq!((decided, outdated.ends.len()), (vec![true, true, false], 2));
        assert!(!outdated.may_send(&queue(), &request(NOW), &mut wakeup), "the next one may have expired as well");
        assert_eq!(wakeup.next_at, Some(NOW));
    }

    #[test]
    fn a_claim_sends_what_is_allowed_and_schedules_the_next_claim() {
        let connected = queue();
        let held = ChannelQueue { next_send_at: NOW + 2, ..connected };
        let paused = ChannelQueue { state: ChannelState::Paused, ..connected };
        let nothing = ClaimRequest { limit: 0, ..request(NOW) };
        let table = [
            // The channel, the claim: whether it sends, and when to claim again.
            (connected, request(NOW), true, NOW + 5),
            (held, request(NOW), false, NOW + 2),
            (paused, request(NOW), false, NOW + 5),
            (connected, nothing, false, NOW + 5),
        ];
        for (queue, request, sends, next_at) in table {
            let (mut outdated, mut wakeup) = (Outdated::default(), NextWakeup::default());
            outdated.decide(&open(1, MessageStatus::Queued, NOW + 5), &queue, &request, 9);
            assert_eq!(outdated.may_send(&queue, &request, &mut wakeup), sends, "{queue:?}");
            assert_eq!(wakeup.next_at, Some(next_at), "{queue:?}");
        }
        let mut wakeup = NextWakeup::default();
        assert!(!Outdated::default().may_send(&connected, &request(NOW), &mut wakeup), "nothing waits");
        assert_eq!(wakeup, NextWakeup::default());
    }
}
