//! The table of legal transitions, and transitions as data: a rule creates a transition, and an engine writes it.

use crate::channel::ChannelKey;
use crate::clock::Millis;
use crate::message::{MessageEvent, Pricing, Seq, StatusChange};
use crate::status::MessageStatus;

use MessageStatus::{Cancelled, Delivered, Expired, Failed, Queued, Read, Sending, Sent, Unknown};

impl MessageStatus {
    /// The table of transitions: whether a message may go from this status to `next`. Any other transition changes nothing.
    ///
    /// `attempted` is the guard: the message was sent to the network at least once. While such a message waits for its next
    /// attempt, the network may have it already, so the end of the wait does not prove that the message did not arrive.
    pub fn may_become(self, next: Self, attempted: bool) -> bool {
        match self {
            Queued => match next {
                Sending | Expired | Cancelled => true,
                Sent | Delivered | Read | Failed | Unknown => attempted,
                Queued => false,
            },
            // `Queued`: for another attempt. `Delivered`, `Read`: a receipt that overtook the acknowledgement.
            Sending => matches!(next, Queued | Sent | Delivered | Read | Failed | Unknown),
            // `Failed`: networks may refuse late.
            Sent => matches!(next, Delivered | Read | Failed),
            Delivered => next == Read,
            // `Queued`: by the channel's policy `resend`.
            Unknown => matches!(next, Queued | Sent | Delivered | Read | Failed),
            Read | Failed | Expired | Cancelled => false,
        }
    }
}

/// The state of a message before a rule is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Its channel.
    pub channel: ChannelKey,
    /// Its number.
    pub seq: Seq,
    /// Its state.
    pub status: MessageStatus,
    /// Whether the message was sent to the network at least once.
    pub attempted: bool,
}

impl Position {
    /// A claimed message.
    pub fn sending(channel: ChannelKey, seq: Seq) -> Self {
        Self { channel, seq, status: MessageStatus::Sending, attempted: true }
    }

    /// The transition to this state at this time; `None` if the table does not allow it. No other code reads the table, so
    /// an engine never gets an illegal transition.
    pub fn moves_to(self, to: MessageStatus, at: Millis, patch: Patch<'_>) -> Option<Transition<'_>> {
        let Self { channel, seq, status: from, attempted } = self;
        let legal = from.may_become(to, attempted);
        legal.then_some(Transition { channel, seq, from, passed: Vec::new(), to, at, sending_at: None, patch })
    }
}

/// A legal change of a message's state. It applies only if the message is in the expected state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition<'a> {
    channel: ChannelKey,
    seq: Seq,
    from: MessageStatus,
    /// The states between the two, which receipts of one batch reached before the last one, with their prices.
    passed: Vec<(MessageStatus, Millis, Option<&'a Pricing>)>,
    to: MessageStatus,
    at: Millis,
    /// When the message was handed to its network, if a receipt caused the transition.
    sending_at: Option<Millis>,
    patch: Patch<'a>,
}

/// The changes of a message's other columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a column of its own")]
pub struct Patch<'a> {
    /// The recipient's account on the network. The first one is kept.
    pub account: Option<&'a str>,
    /// The network's own id of the message. The last one is kept.
    pub remote_id: Option<&'a str>,
    /// The rendition that was sent, if it differs from the stored one.
    pub rendition: Option<&'a str>,
    /// Code and text of an error. An earlier error is cleared.
    pub error: Option<(&'a str, &'a str)>,
    /// What the network said of the price. Only the event of the transition has it.
    pub pricing: Option<&'a Pricing>,
    /// When an `UNKNOWN` message is queued again. A message is queued again at most once: it may arrive twice, but not three
    /// times.
    pub resend_at: Option<Millis>,
    /// The message is not sent before this time.
    pub run_at: Option<Millis>,
    /// When its claim ends. Any other transition clears it.
    pub claimed_until: Option<Millis>,
    /// The number of the channel's connection under which it is sent.
    pub connection: Option<i64>,
    /// The change of the number of attempts.
    pub attempts: i32,
    /// The attempt failed because of the message itself.
    pub failed: bool,
    /// The network throttles the recipient.
    pub throttled: bool,
    /// The message may have arrived, whatever happens to it later.
    pub unanswered: bool,
    /// The message is queued again although it may have arrived.
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

    /// The expected state of the message.
    pub fn from(&self) -> MessageStatus {
        self.from
    }

    /// The new state of the message.
    pub fn to(&self) -> MessageStatus {
        self.to
    }

    /// The other changes.
    pub fn patch(&self) -> &Patch<'a> {
        &self.patch
    }

    /// When the transition reached this state.
    pub fn reached(&self, status: MessageStatus) -> Option<Millis> {
        if status == self.to {
            return Some(self.at);
        }
        self.passed.iter().find(|(passed, ..)| *passed == status).map(|(_, at, _)| *at)
    }

    /// This transition of a message that was handed to its network at this time.
    #[must_use]
    pub fn sent_at(self, sending_at: Option<Millis>) -> Self {
        Self { sending_at, ..self }
    }

    /// The states that the transition reaches, in order, each with the milliseconds since the message was handed to its
    /// network, if a receipt caused the transition.
    pub fn reaches(&self) -> impl Iterator<Item = (MessageStatus, Option<Millis>)> {
        let passed = self.passed.iter().map(|(status, at, _)| (*status, *at));
        passed
            .chain([(self.to, self.at)])
            .map(|(status, at)| (status, self.sending_at.map(|sending_at| at - sending_at)))
    }

    /// The events that record the transition: one for each state that it reaches, in order.
    pub fn events(&self) -> impl Iterator<Item = MessageEvent> {
        let reached = self.passed.iter().copied().chain([(self.to, self.at, self.patch.pricing)]);
        let left = [self.from].into_iter().chain(self.passed.iter().map(|(passed, ..)| *passed));
        left.zip(reached).map(|(from, (to, at, pricing))| {
            // The states between are those of messages that arrived.
            let error = self.patch.error.filter(|_| to == self.to).map(|(code, _)| code.to_owned());
            MessageEvent {
                channel: self.channel,
                message: self.seq,
                at,
                what: StatusChange { from: Some(from), to, error, pricing: pricing.cloned() },
            }
        })
    }

    /// Whether the transition changes the head of the recipient's queue. A claim does not: a message in flight stays the
    /// head.
    pub fn changes_heads(&self) -> bool {
        let starts = (self.from, self.to) == (MessageStatus::Queued, MessageStatus::Sending);
        (self.from.is_open() || self.to.is_open()) && !starts
    }

    /// Whether the message returns to the queue.
    pub fn returns_to_queue(&self) -> bool {
        !self.from.is_open() && self.to.is_open()
    }

    /// The change of the number of open messages.
    pub fn backlog_change(&self) -> i8 {
        i8::from(self.to.is_open()) - i8::from(self.from.is_open())
    }

    /// Combines this transition and the next one of the same message.
    #[must_use]
    pub fn then(mut self, next: Self) -> Self {
        self.passed.push((self.to, self.at, self.patch.pricing));
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

    /// The contract's list: to add or remove a transition changes the contract. A guarded transition from `QUEUED` stands for
    /// two of these, from `QUEUED` to `SENDING` and from there on. The earlier attempt made the first of the two.
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
            assert_eq!(waiting.moves_to(to, 5, Patch::default()), None, "{to:?}: it was never sent");
            assert!(at(Queued).moves_to(to, 5, Patch::default()).is_some(), "{to:?}");
        }
    }

    #[test]
    fn a_transition_changes_heads_and_backlog() {
        let table = [
            // From, to, changes the heads, returns to the queue, change of open messages.
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
            let found = (transition.changes_heads(), transition.returns_to_queue(), transition.backlog_change());
            assert_eq!(found, (changes_heads, comes_back, open), "{from:?} -> {to:?}");
        }
    }

    #[test]
    fn two_transitions_of_a_message_combine_into_one() {
        let patch = |account, error| Patch { account: Some(account), error, ..Patch::default() };
        let delivered = at(Sent).moves_to(Delivered, 5, patch("a", Some(("1", "x")))).expect("legal");
        let read = at(Delivered).moves_to(Read, 6, patch("b", None)).expect("legal");
        let both = delivered.then(read);
        assert_eq!((both.from(), both.to()), (Sent, Read));
        assert_eq!([Sent, Delivered, Read, Failed].map(|status| both.reached(status)), [None, Some(5), Some(6), None]);
        assert_eq!(both.patch().account, Some("a"), "the first account is kept");
        assert_eq!(both.patch().error, None, "the last error is kept");
    }

    #[test]
    fn each_reached_state_knows_how_long_after_the_send_it_came() {
        let delivered = at(Sent).moves_to(Delivered, 25, Patch::default()).expect("legal").sent_at(Some(20));
        let read = at(Delivered).moves_to(Read, 60, Patch::default()).expect("legal").sent_at(Some(20));
        let both: Vec<_> = delivered.then(read).reaches().collect();
        assert_eq!(both, [(Delivered, Some(5)), (Read, Some(40))]);
        let claimed: Vec<_> = transition(Queued, Sending).reaches().collect();
        assert_eq!(claimed, [(Sending, None)]);
    }

    #[test]
    fn each_reached_state_has_an_event() {
        let event = |from, to, at, error: Option<&str>| {
            let what = StatusChange { from: Some(from), to, error: error.map(str::to_owned), pricing: None };
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

    #[test]
    fn each_state_of_a_combined_transition_keeps_its_price() {
        let pricing = |model: &str| Pricing { model: Some(model.to_owned()), ..Pricing::default() };
        let (first, second) = (pricing("PMP"), pricing("CBP"));
        let to = |from, to, pricing| {
            at(from).moves_to(to, 5, Patch { pricing: Some(pricing), ..Patch::default() }).expect("legal")
        };
        let both = to(Sent, Delivered, &first).then(to(Delivered, Read, &second));
        let prices: Vec<_> = both.events().filter_map(|event| event.what.pricing).collect();
        assert_eq!(prices, [first.clone(), second.clone()]);
    }
}
