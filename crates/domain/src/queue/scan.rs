//! Decides whether a channel's queue accepts a message, and what a claim does with each row that it reads. A claim
//! makes all decisions before it changes a row.

use crate::clock::Millis;
use crate::message::{Enqueued, Seq};
use crate::status::MessageStatus;

use super::{ChannelQueue, ClaimRequest, FINISH_AT_ONCE, Finish, Queued, ScanCursor, Transition, UnheldSending};

/// Decides whether a channel accepts a message. `open` is the number of its open messages.
///
/// An earlier use of the idempotency key is checked before state and backlog: a repeated call gets its first answer,
/// whatever state the channel is in now.
///
/// # Errors
///
/// The answer for the caller if the message is not stored.
pub fn admit(
    queue: Option<&ChannelQueue>,
    earlier: Option<Enqueued>,
    (open, backlog_cap): (usize, usize),
) -> Result<&ChannelQueue, Enqueued> {
    match queue.filter(|queue| !queue.deleted) {
        None => Err(Enqueued::NoChannel),
        Some(_) if let Some(earlier) = earlier => Err(earlier),
        Some(queue) if !queue.state.accepts(queue.was_connected) => Err(Enqueued::NotConnected),
        Some(_) if open >= backlog_cap => Err(Enqueued::QueueFull),
        Some(queue) => Ok(queue),
    }
}

/// When to claim from a channel again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NextWakeup {
    /// The time of the next claim, if nothing wakes the task before.
    pub next_at: Option<Millis>,
    /// Whether a waiting message blocks all messages behind it.
    pub holds_all: bool,
}

impl NextWakeup {
    /// Makes this time the time of the next claim, unless an earlier time is set.
    pub fn schedule(&mut self, at: Millis) {
        self.next_at = Some(self.next_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// The changes of a claim on a channel with one queue.
#[derive(Debug, Default)]
pub struct ClaimPlan {
    /// `SENDING` messages that no task has in flight. They are rescued before any other change.
    pub orphans: Vec<Seq>,
    /// Messages that will not be sent.
    pub finished: Vec<Transition<'static>>,
    /// The message to send.
    pub sent: Option<Transition<'static>>,
    /// When to claim again.
    pub wakeup: NextWakeup,
    /// The number of rows that were read. Only scans that limit this number count it.
    pub scanned: usize,
}

impl ClaimPlan {
    /// Decides what to do with a row. Returns whether to read the next one.
    pub fn decide(&mut self, row: &OpenRow, queue: &ChannelQueue, request: &ClaimRequest) -> bool {
        self.in_flight(row, request).unwrap_or_else(|| self.queued(row, queue, request))
    }

    /// Decides what to do with a `SENDING` row. Returns whether to read the next one, or `None` if [`Self::queued`] has
    /// to decide about the row.
    pub fn in_flight(&mut self, row: &OpenRow, request: &ClaimRequest) -> Option<bool> {
        if row.status != MessageStatus::Sending {
            return None;
        }
        match row.as_orphan(request) {
            Orphan::Held(until) => {
                until.into_iter().for_each(|at| self.wakeup.schedule(at));
                Some(false)
            }
            Orphan::MarkUnknown => {
                self.orphans.push(row.seq);
                Some(true)
            }
            // Treat it as a queued row.
            Orphan::Requeue => {
                self.orphans.push(row.seq);
                None
            }
        }
    }

    /// Decides what to do with a row before the cursor. Returns whether to read the next one. Such a message waits for
    /// its recipient, so it can only expire. The messages expire in queue order, with rare exceptions.
    pub fn before_cursor(
        &mut self,
        row: &OpenRow,
        cursor: ScanCursor,
        queue: &ChannelQueue,
        request: &ClaimRequest,
    ) -> bool {
        self.scanned += 1;
        if row.seq >= cursor.before {
            return false;
        }
        if row.expires_at > request.now {
            self.wakeup.schedule(row.expires_at);
            return false;
        }
        self.queued(row, queue, request)
    }

    /// Decides what to do with a queued row, and whether to read the next one.
    pub fn queued(&mut self, row: &OpenRow, queue: &ChannelQueue, request: &ClaimRequest) -> bool {
        let message = row.as_queued(request);
        match row.decide(request, queue) {
            Decision::Finish if self.finished.len() < FINISH_AT_ONCE => {
                self.finished.extend(message.finish(Finish::Dropped, request.now));
                return true;
            }
            Decision::Finish => self.wakeup.schedule(request.now),
            Decision::Wait(until) => {
                self.wakeup.schedule(until);
                self.wakeup.holds_all = true;
            }
            Decision::Send => {
                self.sent = message.send(request, queue);
                // With a send interval, the next message can be sent only when the interval has passed.
                if request.send_interval > 0 {
                    self.wakeup.schedule(request.now + request.send_interval);
                }
            }
        }
        false
    }
}

/// The fields of an open message that a claim reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenRow {
    /// The number of the message.
    pub seq: Seq,
    /// `Queued` or `Sending`.
    pub status: MessageStatus,
    /// The message is not sent before this time.
    pub run_at: Millis,
    /// When the message expires.
    pub expires_at: Millis,
    /// When the claim of the message ends.
    pub claimed_until: Option<Millis>,
    /// The message may have arrived.
    pub unanswered: bool,
}

/// The meaning of a `SENDING` row for the claiming task.
enum Orphan {
    /// A task has the message in flight. `None`: the claiming task has it. A time: another task may have it until then,
    /// when its claim ends.
    Held(Option<Millis>),
    /// The outcome of the message is unknown, and the network would not recognise a re-send.
    MarkUnknown,
    Requeue,
}

/// What to do with a queued row.
enum Decision {
    /// The message will not be sent. It expired, or its channel was deleted.
    Finish,
    /// Nothing more can be sent from this channel before this time.
    Wait(Millis),
    Send,
}

impl OpenRow {
    /// The row as a queued message. If the row needs a rescue, this is the message after the rescue.
    pub fn as_queued(&self, request: &ClaimRequest) -> Queued {
        let rescued = self.status == MessageStatus::Sending && request.orphans != UnheldSending::ClaimLost;
        let Self { seq, expires_at, unanswered, .. } = *self;
        Queued { channel: request.channel, seq, expires_at, unanswered: unanswered || rescued }
    }

    /// The row after this transition of its message; `None` if the message has left the queue.
    pub fn after(self, transition: &Transition<'_>) -> Option<Self> {
        if transition.seq() != self.seq || transition.from() != self.status {
            return Some(self);
        }
        let (status, patch) = (transition.to(), transition.patch());
        let (run_at, claimed_until) = (patch.run_at.unwrap_or(self.run_at), patch.claimed_until);
        let unanswered = self.unanswered || patch.unanswered;
        status.is_open().then_some(Self { status, run_at, claimed_until, unanswered, ..self })
    }

    fn as_orphan(&self, request: &ClaimRequest) -> Orphan {
        let ends = self.claimed_until.unwrap_or(0);
        if request.held.contains(&self.seq) {
            Orphan::Held(None)
        } else if request.orphans == UnheldSending::LeaseLive && ends > request.now {
            Orphan::Held(Some(ends))
        } else if request.requeues_orphans() {
            Orphan::Requeue
        } else {
            Orphan::MarkUnknown
        }
    }

    fn decide(&self, request: &ClaimRequest, queue: &ChannelQueue) -> Decision {
        let now = request.now;
        if self.expires_at <= now || queue.cancels(self.seq) {
            Decision::Finish
        } else if !queue.state.dispatches() || request.limit == 0 {
            Decision::Wait(self.expires_at)
        } else if queue.next_send_at.max(self.run_at) > now {
            Decision::Wait(queue.next_send_at.max(self.run_at).min(self.expires_at))
        } else {
            Decision::Send
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{ChannelState, ChannelType};
    use crate::ids::MessageId;
    use crate::queue::UnknownOutcomePolicy;
    use crate::queue::fixtures::{NOW, request, waiting};
    use MessageStatus::{Expired, Sending, Unknown};

    fn queue() -> ChannelQueue {
        ChannelQueue::of(ChannelType::Sandbox, ChannelState::Connected)
    }

    /// The decision of a claim about one row.
    fn decided(row: OpenRow, queue: &ChannelQueue, request: &ClaimRequest) -> (ClaimPlan, bool) {
        let mut plan = ClaimPlan::default();
        let goes_on = plan.decide(&row, queue, request);
        (plan, goes_on)
    }

    #[test]
    fn the_order_of_the_reasons() {
        let connected = ChannelQueue::of(ChannelType::Sandbox, ChannelState::Connected);
        let deleted = ChannelQueue { deleted: true, ..connected };
        let banned = ChannelQueue { state: ChannelState::Banned, ..connected };
        let replayed = Enqueued::Replayed(MessageId::new(1, [0; 10]));
        let table = [
            // The channel, an earlier use of the key, whether the backlog is full: the answer.
            (None, Some(replayed), true, Some(Enqueued::NoChannel)),
            (Some(deleted), Some(replayed), true, Some(Enqueued::NoChannel)),
            (Some(banned), Some(replayed), true, Some(replayed)),
            (Some(connected), Some(Enqueued::KeyReused), true, Some(Enqueued::KeyReused)),
            (Some(banned), None, true, Some(Enqueued::NotConnected)),
            (Some(connected), None, true, Some(Enqueued::QueueFull)),
            (Some(connected), None, false, None),
        ];
        for (queue, earlier, full, answer) in table {
            let backlog = if full { (5, 5) } else { (4, 5) };
            assert_eq!(admit(queue.as_ref(), earlier, backlog).err(), answer, "{queue:?}, {earlier:?}, {full}");
        }
    }

    #[test]
    fn a_reconnecting_channel_continues_to_accept() {
        let connecting = ChannelQueue::of(ChannelType::WhatsAppWeb, ChannelState::Connecting);
        let reconnecting = ChannelQueue { was_connected: true, ..connecting };
        assert_eq!(admit(Some(&connecting), None, (0, 5)).err(), Some(Enqueued::NotConnected));
        assert!(admit(Some(&reconnecting), None, (0, 5)).is_ok());
    }

    #[test]
    fn a_claim_sends_waits_or_finishes_a_queued_message() {
        let (row, asked) = (waiting(5), request(NOW));
        let paused = ChannelQueue { state: ChannelState::Paused, ..queue() };
        let deferred = ChannelQueue { next_send_at: NOW + 7, ..queue() };
        let deleted = ChannelQueue { deleted: true, ..queue() };
        let recreated = ChannelQueue { cancel_before: 5, ..queue() };
        let full = ClaimRequest { limit: 0, ..request(NOW) };
        let rests = ClaimRequest { send_interval: 30, ..request(NOW) };
        let table = [
            // Row, channel, request: the next state, when to claim again, whether it blocks the messages behind it.
            (row, queue(), &asked, Some(Sending), None, false),
            (row, queue(), &rests, Some(Sending), Some(NOW + 30), false),
            (row, paused, &asked, None, Some(NOW + 500), true),
            (row, queue(), &full, None, Some(NOW + 500), true),
            (row, deferred, &asked, None, Some(NOW + 7), true),
            (OpenRow { run_at: NOW + 9, ..row }, deferred, &asked, None, Some(NOW + 9), true),
            (OpenRow { run_at: NOW + 900, ..row }, queue(), &asked, None, Some(NOW + 500), true),
            (OpenRow { expires_at: NOW, ..row }, queue(), &asked, Some(Expired), None, false),
            (row, deleted, &asked, Some(MessageStatus::Cancelled), None, false),
            (row, recreated, &asked, Some(MessageStatus::Cancelled), None, false),
            (OpenRow { unanswered: true, ..row }, deleted, &asked, Some(Unknown), None, false),
        ];
        for (row, queue, request, to, next_at, holds_all) in table {
            let (plan, goes_on) = decided(row, &queue, request);
            let found = plan.finished.iter().chain(&plan.sent).map(Transition::to).next();
            assert_eq!(found, to, "{row:?}, {queue:?}, {request:?}");
            assert_eq!(plan.wakeup, NextWakeup { next_at, holds_all }, "{row:?}, {queue:?}, {request:?}");
            assert_eq!(goes_on, !plan.finished.is_empty(), "only behind a message that ended");
        }
    }

    #[test]
    fn a_claim_rescues_or_leaves_a_message_in_flight() {
        let row = OpenRow { status: Sending, claimed_until: Some(NOW + 3), ..waiting(5) };
        let of = |orphans, unanswered| ClaimRequest { orphans, unanswered, ..request(NOW) };
        let leave = UnknownOutcomePolicy::MarkUnknown(None);
        let held = ClaimRequest { held: vec![5], ..of(UnheldSending::OwnerCrashed, leave) };
        let late = OpenRow { claimed_until: Some(NOW), ..row };
        let table = [
            // Row, request: is it rescued, is it sent at once, is the next row read, when to claim again.
            (row, held, false, false, false, None),
            (row, of(UnheldSending::LeaseLive, leave), false, false, false, Some(NOW + 3)),
            (late, of(UnheldSending::LeaseLive, leave), true, false, true, None),
            (row, of(UnheldSending::OwnerCrashed, leave), true, false, true, None),
            (row, of(UnheldSending::ClaimLost, leave), true, true, false, None),
            (row, of(UnheldSending::OwnerCrashed, UnknownOutcomePolicy::Resend), true, true, false, None),
        ];
        for (row, request, rescued, sent, goes_on, next_at) in table {
            let (plan, found) = decided(row, &queue(), &request);
            assert_eq!((!plan.orphans.is_empty(), plan.sent.is_some(), found), (rescued, sent, goes_on), "{request:?}");
            assert_eq!(plan.wakeup.next_at, next_at, "{request:?}");
        }
    }

    #[test]
    fn a_rescued_message_that_is_too_old_may_have_arrived_unless_it_was_never_sent() {
        let row = OpenRow { status: Sending, expires_at: NOW, ..waiting(5) };
        for (orphans, end) in [(UnheldSending::OwnerCrashed, Unknown), (UnheldSending::ClaimLost, Expired)] {
            let (plan, _) = decided(row, &queue(), &ClaimRequest { orphans, ..request(NOW) });
            assert_eq!(plan.finished.iter().map(Transition::to).collect::<Vec<_>>(), [end], "{orphans:?}");
        }
    }

    #[test]
    fn a_row_after_the_outcome_of_its_message() {
        let row = OpenRow { status: Sending, claimed_until: Some(NOW + 3), ..waiting(5) };
        let of = |to, patch| crate::queue::Position::sending(1, 5).moves_to(to, NOW, patch).expect("legal");
        let sent = of(MessageStatus::Sent, crate::queue::Patch::default());
        assert_eq!(row.after(&sent), None);
        let patch = crate::queue::Patch { run_at: Some(NOW + 9), unanswered: true, ..crate::queue::Patch::default() };
        let queued = OpenRow { run_at: NOW + 9, unanswered: true, ..waiting(5) };
        assert_eq!(row.after(&of(MessageStatus::Queued, patch)), Some(queued));
        assert_eq!(OpenRow { seq: 6, ..row }.after(&sent), Some(OpenRow { seq: 6, ..row }), "another message's");
        assert_eq!(waiting(5).after(&sent), Some(waiting(5)), "it is not in the expected state");
    }

    #[test]
    fn a_claim_finishes_so_many_at_once() {
        let mut plan = ClaimPlan::default();
        let old = OpenRow { expires_at: NOW, ..waiting(5) };
        for _ in 0..FINISH_AT_ONCE {
            assert!(plan.decide(&old, &queue(), &request(NOW)));
        }
        assert!(!plan.decide(&old, &queue(), &request(NOW)));
        assert_eq!((plan.finished.len(), plan.wakeup.next_at), (FINISH_AT_ONCE, Some(NOW)));
    }

    #[test]
    fn in_front_of_the_cursor_only_old_messages_end() {
        let cursor = ScanCursor { before: 6, ..ScanCursor::default() };
        let old = OpenRow { expires_at: NOW, ..waiting(5) };
        let table = [(old, true, None), (waiting(5), false, Some(NOW + 500)), (OpenRow { seq: 6, ..old }, false, None)];
        for (row, ends, next_at) in table {
            let mut plan = ClaimPlan::default();
            assert_eq!(plan.before_cursor(&row, cursor, &queue(), &request(NOW)), ends, "{row:?}");
            assert_eq!((plan.finished.len(), plan.wakeup.next_at), (usize::from(ends), next_at), "{row:?}");
        }
    }
}
