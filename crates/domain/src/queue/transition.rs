//! The table of transitions, and transitions as data: a rule makes a transition, and an engine writes it.

use crate::channel::ChannelKey;
use crate::clock::Millis;
use crate::message::{MessageEvent, Seq, StatusChange};
use crate::status::MessageStatus;

use MessageStatus::{Cancelled, Delivered, Expired, Failed, Queued, Read, Sending, Sent, Unknown};

impl MessageStatus {
    /// The table of transitions: whether a message may go from this status to `next`. Any other transition changes nothing.
    ///
    /// `attempted` is the guard: the message was handed to the network at least once. While such a message waits for its next
    /// attempt, the network may have it already, and the end of its wait does not prove that its card did not arrive.
    pub fn may_become(self, next: Self, attempted: bool) -> bool {
        match self {
            Queued => match next {
                Sending | Expired | Cancelled => true,
                Sent | Delivered | Read | Failed | Unknown => attempted,
                Queued => false,
            },
            // `Queued`: to be tried again. `Delivered`, `Read`: a receipt that overtook the acknowledgement.
            Sending => matches!(next, Queued | Sent | Delivered | Read | Failed | Unknown),
            // `Failed`: networks refuse late.
            Sent => matches!(next, Delivered | Read | Failed),
            Delivered => next == Read,
            // `Queued`: by the channel's policy `resend`.
            Unknown => matches!(next, Queued | Sent | Delivered | Read | Failed),
            Read | Failed | Expired | Cancelled => false,
        }
    }
}

/// A message as a rule finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Its channel.
    pub channel: ChannelKey,
    /// Its number.
    pub seq: Seq,
    /// Its state.
    pub status: MessageStatus,
    /// Whether it was handed to the network at least once.
    pub attempted: bool,
}

impl Position {
    /// A message whose claim took it.
    pub fn sending(channel: ChannelKey, seq: Seq) -> Self {
        Self { channel, seq, status: MessageStatus::Sending, attempted: true }
    }

    /// The transition to this state at this time; `None` where the table of transitions has none. This is the only place
    /// that asks the table: an engine is never given an illegal transition.
    pub fn moves_to(self, to: MessageStatus, at: Millis, patch: Patch<'_>) -> Option<Transition<'_>> {
        let Self { channel, seq, status: from, attempted } = self;
        let legal = from.may_become(to, attempted);
        legal.then_some(Transition { channel, seq, from, passed: Vec::new(), to, at, patch })
    }
}

/// A legal change of one message's state. It is made only where the message is in the expected state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition<'a> {
    channel: ChannelKey,
    seq: Seq,
    from: MessageStatus,
    /// States between the two, which receipts of one batch reached before the last one.
    passed: Vec<(MessageStatus, Millis)>,
    to: MessageStatus,
    at: Millis,
    patch: Patch<'a>,
}

/// What changes of a message's other columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a column of its own")]
pub struct Patch<'a> {
    /// The recipient as the network knows it; the first one stands.
    pub account: Option<&'a str>,
    /// The network's own id of the message; the last one stands.
    pub remote_id: Option<&'a str>,
    /// What was sent, where it is another rendition than the stored one.
    pub rendition: Option<&'a str>,
    /// Code and text; an earlier error is cleared.
    pub error: Option<(&'a str, &'a str)>,
    /// When an `UNKNOWN` message is queued again. A message that was queued again once is not queued again twice: a second
    /// card may be one too many, a third one is.
    pub resend_at: Option<Millis>,
    /// Not to be sent before this time.
    pub run_at: Option<Millis>,
    /// When its claim ends; cleared by any other transition.
    pub claimed_until: Option<Millis>,
    /// Under which of the channel's connections it is sent.
    pub connection: Option<i64>,
    /// Attempts more, or less.
    pub attempts: i32,
    /// The attempt failed by the message's own trouble.
    pub failed: bool,
    /// The network takes nothing more for the recipient.
    pub throttled: bool,
    /// Its card may have arrived, whatever becomes of it from now on.
    pub unanswered: bool,
    /// It is queued again though the network may have it.
    pub resent: bool,
}

impl<'a> Transition<'a> {
    /// The message's channel.
    pub fn channel(&self) -> ChannelKey {
        self.channel
    }

    /// The message's number.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// The state in which the message is expected.
    pub fn from(&self) -> MessageStatus {
        self.from
    }

    /// The state that it reaches.
    pub fn to(&self) -> MessageStatus {
        self.to
    }

    /// What else changes.
    pub fn patch(&self) -> &Patch<'a> {
        &self.patch
    }

    /// When the transition reached this state.
    pub fn reached(&self, status: MessageStatus) -> Option<Millis> {
        if status == self.to {
            return Some(self.at);
        }
        self.passed.iter().find(|(passed, _)| *passed == status).map(|(_, at)| *at)
    }

    /// The events that record it: one for each state that it reaches, in their order.
    pub fn events(&self) -> impl Iterator<Item = MessageEvent> {
        let reached = self.passed.iter().copied().chain([(self.to, self.at)]);
        let left = [self.from].into_iter().chain(self.passed.iter().map(|(passed, _)| *passed));
        left.zip(reached).map(|(from, (to, at))| {
            // The states between are those of messages that arrived.
            let error = self.patch.error.filter(|_| to == self.to).map(|(code, _)| code.to_owned());
            MessageEvent {
                channel: self.channel,
                message: self.seq,
                at,
                what: StatusChange { from: Some(from), to, error },
            }
        })
    }

    /// Whether it changes which of a recipient's messages is next. A claim does not: a message that is on its way stays
    /// its recipient's first one.
    pub fn changes_heads(&self) -> bool {
        let starts = (self.from, self.to) == (MessageStatus::Queued, MessageStatus::Sending);
        (self.from.is_open() || self.to.is_open()) && !starts
    }

    /// Whether the message was out of the queue and comes back.
    pub fn comes_back(&self) -> bool {
        !self.from.is_open() && self.to.is_open()
    }

    /// How it changes the number of open messages.
    pub fn backlog_change(&self) -> i8 {
        i8::from(self.to.is_open()) - i8::from(self.from.is_open())
    }

    /// This transition and the next one of the same message as one.
    #[must_use]
    pub fn then(mut self, next: Self) -> Self {
        self.passed.push((self.to, self.at));
        self.passed.extend(next.passed);
        let patch = Patch { account: self.patch.account.or(next.patch.account), ..next.patch };
        Self { to: next.to, at: next.at, patch, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(status: MessageStatus) -> Position {
        Position { channel: 1, seq: 7, status, attempted: true }
    }

    fn transition(from: MessageStatus, to: MessageStatus) -> Transition<'static> {
        at(from).moves_to(to, 5, Patch::default()).expect("legal")
    }

    /// The contract's list, written out: a transition more or less is a change of the contract. The guarded transitions
    /// stand for two of them, by way of `SENDING`: the message was there before it was queued again.
    #[test]
    fn the_legal_transitions_are_those_of_the_contract() {
        let legal = [
            (Queued, Sending),
            (Queued, Expired),
            (Queued, Cancelled),
            (Sending, Queued),
            (Sending, Sent),
            (Sending, Delivered),
            (Sending, Read),
            (Sending, Failed),
            (Sending, Unknown),
            (Sent, Delivered),
            (Sent, Read),
            (Sent, Failed),
            (Delivered, Read),
            (Unknown, Queued),
            (Unknown, Sent),
            (Unknown, Delivered),
            (Unknown, Read),
            (Unknown, Failed),
        ];
        let guarded = [Sent, Delivered, Read, Failed, Unknown].map(|to| (Queued, to));
        for from in MessageStatus::ALL {
            for to in MessageStatus::ALL {
                let (always, after_an_attempt) = (legal.contains(&(from, to)), guarded.contains(&(from, to)));
                assert_eq!(from.may_become(to, false), always, "{from:?} -> {to:?}");
                assert_eq!(from.may_become(to, true), always || after_an_attempt, "{from:?} -> {to:?}");
            }
        }
    }

    #[test]
    fn an_illegal_transition_does_not_exist() {
        assert_eq!(at(Read).moves_to(Failed, 5, Patch::default()), None);
        let waiting = Position { attempted: false, ..at(Queued) };
        for to in [Unknown, Delivered, Read, Sent, Failed] {
            assert_eq!(waiting.moves_to(to, 5, Patch::default()), None, "{to:?}: nobody sent it");
            assert!(at(Queued).moves_to(to, 5, Patch::default()).is_some(), "{to:?}");
        }
    }

    #[test]
    fn what_a_transition_does_to_the_queue() {
        let table = [
            // From, to, changes the heads, comes back, open messages.
            (Queued, Sending, false, false, 0),
            (Queued, Expired, true, false, -1),
            (Queued, Cancelled, true, false, -1),
            (Sending, Queued, true, false, 0),
            (Sending, Sent, true, false, -1),
            (Sent, Delivered, false, false, 0),
            (Unknown, Delivered, false, false, 0),
            (Unknown, Queued, true, true, 1),
        ];
        for (from, to, changes_heads, comes_back, open) in table {
            let transition = transition(from, to);
            let found = (transition.changes_heads(), transition.comes_back(), transition.backlog_change());
            assert_eq!(found, (changes_heads, comes_back, open), "{from:?} -> {to:?}");
        }
    }

    #[test]
    fn two_transitions_of_a_message_are_one_that_passes_a_state() {
        let patch = |account, error| Patch { account: Some(account), error, ..Patch::default() };
        let delivered = at(Sent).moves_to(Delivered, 5, patch("a", Some(("1", "x")))).expect("legal");
        let read = at(Delivered).moves_to(Read, 6, patch("b", None)).expect("legal");
        let both = delivered.then(read);
        assert_eq!((both.from(), both.to()), (Sent, Read));
        assert_eq!([Sent, Delivered, Read, Failed].map(|status| both.reached(status)), [None, Some(5), Some(6), None]);
        assert_eq!(both.patch().account, Some("a"), "the first account stands");
        assert_eq!(both.patch().error, None, "the last word on errors stands");
    }

    #[test]
    fn each_state_that_is_reached_has_an_event() {
        let event = |from, to, at, error: Option<&str>| {
            let what = StatusChange { from: Some(from), to, error: error.map(str::to_owned) };
            MessageEvent { channel: 1, message: 7, at, what }
        };
        let failed = Patch { error: Some(("131026", "Numero 5511999998888")), ..Patch::default() };
        let failed = at(Sending).moves_to(Failed, 5, failed).expect("legal");
        assert_eq!(failed.events().collect::<Vec<_>>(), [event(Sending, Failed, 5, Some("131026"))]);
        let delivered = at(Sent).moves_to(Delivered, 5, Patch::default()).expect("legal");
        let both = delivered.then(at(Delivered).moves_to(Read, 6, Patch::default()).expect("legal"));
        let expected = [event(Sent, Delivered, 5, None), event(Delivered, Read, 6, None)];
        assert_eq!(both.events().collect::<Vec<_>>(), expected);
    }
}
