//! The ends of messages that wait, and what becomes of messages that nobody has in flight.

use crate::channel::ChannelKey;
use crate::clock::Millis;
use crate::message::Seq;
use crate::status::MessageStatus;

use super::{
    ChannelQueue, ClaimRequest, NextWakeup, OpenRow, Patch, Position, Transition, UnheldSending, UnknownOutcomePolicy,
};

/// Most messages that one claim finishes unsent, queues again, or passes: other claims wait for the writer, or for the
/// channel's row, too.
pub const FINISH_AT_ONCE: usize = 500;

/// A message that is queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queued {
    /// Its channel.
    pub channel: ChannelKey,
    /// Its number.
    pub seq: Seq,
    /// When it is too old to be sent.
    pub expires_at: Millis,
    /// Its card may have arrived.
    pub unanswered: bool,
}

/// Why a queued message is not sent any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// It is too old, or its channel is gone, or the policy that queued it again was taken back.
    Dropped,
    /// Somebody wants it gone, or its channel was deleted.
    Cancelled,
}

impl Queued {
    fn position(&self) -> Position {
        let Self { channel, seq, unanswered, .. } = *self;
        // What may have arrived was sent.
        Position { channel, seq, status: MessageStatus::Queued, attempted: unanswered }
    }

    /// Whether it is not sent when its turn comes: it is too old, or the policy that queued it again was taken back.
    pub fn is_dropped(&self, resent: bool, request: &ClaimRequest) -> bool {
        self.expires_at <= request.now || resent && request.unanswered == UnknownOutcomePolicy::MarkUnknown(None)
    }

    /// Ends it. One whose card may have arrived is `UNKNOWN`: to say that it expired or was cancelled would be a guess.
    pub fn finish(&self, why: Finish, now: Millis) -> Option<Transition<'static>> {
        let to = match why {
            _ if self.unanswered => MessageStatus::Unknown,
            Finish::Dropped if self.expires_at <= now => MessageStatus::Expired,
            Finish::Dropped | Finish::Cancelled => MessageStatus::Cancelled,
        };
        self.position().moves_to(to, now, Patch::default())
    }

    /// Calls it back; `None` where that is too late: a card that may have arrived cannot be called back.
    pub fn call_back(&self, now: Millis) -> Option<Transition<'static>> {
        if self.unanswered { None } else { self.finish(Finish::Cancelled, now) }
    }

    /// Hands it to the network.
    pub fn send(&self, request: &ClaimRequest, queue: &ChannelQueue) -> Option<Transition<'static>> {
        let claimed_until = Some(request.claimed_until);
        let patch = Patch { claimed_until, connection: Some(queue.connections), attempts: 1, ..Patch::default() };
        self.position().moves_to(MessageStatus::Sending, request.now, patch)
    }
}

/// Ends the sending of a message that nobody has in flight: it is queued again, or its fate is `UNKNOWN`.
pub fn rescue(seq: Seq, request: &ClaimRequest) -> Option<Transition<'static>> {
    let (to, resend_at) = if request.gives_back_orphans() {
        (MessageStatus::Queued, None)
    } else {
        (MessageStatus::Unknown, request.unanswered.resend_at(request.now))
    };
    let never_sent = request.orphans == UnheldSending::ClaimLost;
    // What was never sent was no attempt; anything else may have arrived.
    let patch = Patch { resend_at, attempts: -i32::from(never_sent), unanswered: !never_sent, ..Patch::default() };
    Position::sending(request.channel, seq).moves_to(to, request.now, patch)
}

/// Ends a message that may have arrived from a number that its channel does not have any more: from another number the
/// card would come a second time.
pub fn leave(position: Position, now: Millis) -> Option<Transition<'static>> {
    position.moves_to(MessageStatus::Unknown, now, Patch::default())
}

/// What a claim ends at the head of a channel on which each recipient has a queue: what is too old, or was queued before the
/// channel was deleted. Messages expire in the order of their acceptance, unless the setting was changed meanwhile; those out
/// of order are found when their turn comes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outdated {
    /// Ended.
    pub ends: Vec<Transition<'static>>,
    /// When the first of what is left is too old.
    expires_at: Option<Millis>,
    /// There may be more to end.
    more: bool,
}

impl Outdated {
    /// Decides what to do with an open message: whether to look behind it. At most so many are ended.
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

    /// Whether the claim sends messages after that. Else, and for what is left, it says when to look again.
    pub fn may_send(&self, queue: &ChannelQueue, request: &ClaimRequest, wakeup: &mut NextWakeup) -> bool {
        if self.more {
            wakeup.schedule(request.now);
        }
        let Some(expires_at) = self.expires_at else { return false };
        // What waits for whatever may grow too old before.
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
    /// When it is too old to be sent.
    pub expires_at: Millis,
}

/// What becomes of `UNKNOWN` messages.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resends {
    /// Queued again.
    pub again: Vec<Transition<'static>>,
    /// They stay `UNKNOWN`: they are too old by now, or of a channel that was deleted.
    pub left: Vec<Seq>,
}

/// Queues again what was `UNKNOWN` for long enough, of the first messages by the time at which they are due. The engine asked
/// for so many.
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
        // All of them were due: so may be the next.
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
            // Why, too old, may have arrived: the end.
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
            assert_eq!(message.call_back(NOW).is_some(), !unanswered);
        }
    }

    #[test]
    fn what_is_not_sent_when_its_turn_comes() {
        let wait = UnknownOutcomePolicy::MarkUnknown(Some(1));
        let table = [
            // Too old, queued again, the policy: dropped.
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
        let made_anew = ChannelQueue { cancel_before: 2, ..queue() };
        let mut wakeup = NextWakeup::default();
        let resends = resend((&first, FINISH_AT_ONCE), &request(NOW), &made_anew, &mut wakeup);
        assert_eq!(resends.left, [2, 6], "of the deleted channel, and too old");
        assert_eq!(wakeup.next_at, Some(NOW + 9));
        let [again] = &resends.again[..] else { panic!("{resends:?}") };
        assert_eq!((again.seq(), again.from(), again.to()), (5, Unknown, MessageStatus::Queued));
        assert_eq!(again.patch(), &Patch { unanswered: true, resent: true, ..Patch::default() });
    }

    #[test]
    fn behind_a_full_batch_that_is_due_the_next_one_may_be_due() {
        let first = vec![Resendable { seq: 1, resend_at: 1, expires_at: NOW + 1 }; FINISH_AT_ONCE];
        let mut wakeup = NextWakeup::default();
        resend((&first, FINISH_AT_ONCE), &request(NOW), &queue(), &mut wakeup);
        assert_eq!(wakeup.next_at, Some(NOW));
        let mut wakeup = NextWakeup::default();
        resend((&first[1..], FINISH_AT_ONCE), &request(NOW), &queue(), &mut wakeup);
        assert_eq!(wakeup.next_at, None);
    }

    #[test]
    fn only_a_channel_that_sends_and_whose_policy_says_so_queues_again() {
        let paused = ChannelQueue { state: ChannelState::Paused, ..queue() };
        let policy = |unanswered| ClaimRequest { unanswered, ..request(NOW) };
        assert!(resends(&policy(UnknownOutcomePolicy::MarkUnknown(Some(1))), &queue()));
        assert!(!resends(&policy(UnknownOutcomePolicy::MarkUnknown(Some(1))), &paused));
        assert!(!resends(&policy(LEAVE), &queue()));
        assert!(!resends(&policy(UnknownOutcomePolicy::Resend), &queue()));
    }

    #[test]
    fn what_may_have_arrived_from_another_number_is_left() {
        for (status, attempted, left) in
            [(MessageStatus::Queued, true, true), (MessageStatus::Queued, false, false), (Sending, true, true)]
        {
            let position = Position { channel: 1, seq: 7, status, attempted };
            assert_eq!(leave(position, NOW).is_some(), left, "{position:?}");
        }
    }

    fn open(seq: Seq, status: MessageStatus, expires_at: Millis) -> OpenRow {
        OpenRow { seq, status, run_at: 0, expires_at, claimed_until: None, unanswered: false }
    }

    #[test]
    fn what_is_too_old_ends_from_the_head_on() {
        let rows = [
            open(1, Sending, 1),
            open(2, MessageStatus::Queued, NOW),
            open(3, MessageStatus::Queued, NOW + 5),
            open(4, MessageStatus::Queued, 1),
        ];
        let (mut outdated, mut wakeup) = (Outdated::default(), NextWakeup::default());
        let looked_at = rows.iter().take_while(|row| outdated.decide(row, &queue(), &request(NOW), 9)).count();
        assert_eq!(looked_at, 2, "the third one is left, and the fourth has to wait for its turn");
        let ends: Vec<_> = outdated.ends.iter().map(|end| (end.seq(), end.to())).collect();
        assert_eq!(ends, [(2, Expired)]);
        assert!(outdated.may_send(&queue(), &request(NOW), &mut wakeup));
        assert_eq!(wakeup.next_at, Some(NOW + 5));
    }

    #[test]
    fn a_claim_ends_so_many_and_the_next_one_ends_more() {
        let (mut outdated, mut wakeup) = (Outdated::default(), NextWakeup::default());
        let old: Vec<_> = (1..4).map(|seq| open(seq, MessageStatus::Queued, 1)).collect();
        let decided: Vec<_> = old.iter().map(|row| outdated.decide(row, &queue(), &request(NOW), 2)).collect();
        assert_eq!((decided, outdated.ends.len()), (vec![true, true, false], 2));
        assert!(!outdated.may_send(&queue(), &request(NOW), &mut wakeup), "the next one may be too old as well");
        assert_eq!(wakeup.next_at, Some(NOW));
    }

    #[test]
    fn what_may_be_sent_and_when_to_look_again() {
        let connected = queue();
        let held = ChannelQueue { next_send_at: NOW + 2, ..connected };
        let paused = ChannelQueue { state: ChannelState::Paused, ..connected };
        let nothing = ClaimRequest { limit: 0, ..request(NOW) };
        let table = [
            // The channel, the claim: whether it sends, and when to look again.
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
