//! What the network's reports change: the outcome of an attempt, as the driver returns it, and receipts, which come later.

use std::collections::HashSet;

use crate::channel::ChannelKey;
use crate::clock::Millis;
use crate::ids::{MessageId, NetworkId};
use crate::message::{Pricing, Seq};
use crate::party::Party;
use crate::status::MessageStatus;

use super::{ChannelQueue, Outcomes, Patch, Position, Settlement, Transition};

// --- Outcomes ---

/// The changes that outcomes cause, in the order in which an engine makes them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settled<'a> {
    /// One for each message, of those that are `SENDING`.
    pub transitions: Vec<Transition<'a>>,
    /// The effects on the channel. They apply even if a receipt moved the message meanwhile.
    pub effects: Vec<(Seq, ChannelEffect<'a>)>,
    /// Messages whose id on the network is now known. Unmatched receipts with this id belong to them.
    pub named: Vec<(Seq, &'a str)>,
    /// The channel sends nothing before this time.
    pub defer_until: Option<Millis>,
}

/// The effect of a message's outcome on its channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelEffect<'a> {
    /// The network accepts nothing from the channel until a person acts.
    Pause {
        /// The reason.
        reason: &'a str,
    },
    /// The network lets the channel open no chats, and the message's recipient is new.
    BlockNewChats {
        /// When the block ends.
        until: Millis,
        /// The reason.
        reason: &'a str,
    },
    /// Nothing is sent to the message's recipient before this time, on a channel with one queue. It applies only if the
    /// message is queued again.
    DeferRecipient {
        /// When the wait ends.
        until: Millis,
    },
    /// The message's recipient is no longer new.
    OpenChat {
        /// The account of the recipient on the network.
        account: Option<&'a str>,
    },
}

/// The changes that these outcomes cause.
pub fn settle<'a>(outcomes: &'a Outcomes, queue: &ChannelQueue) -> Settled<'a> {
    let mut settled = Settled { defer_until: outcomes.next_send_at, ..Settled::default() };
    // A message has one outcome at a time, so a second one is too late.
    let mut seen = HashSet::new();
    for (seq, settlement) in &outcomes.settled {
        if seen.insert(*seq) {
            settled.transitions.extend(transition(outcomes.channel, *seq, settlement, outcomes.now));
        }
        if let Settlement::Sent { remote_id: Some(remote_id), .. } = settlement {
            settled.named.push((*seq, remote_id.as_str()));
        }
        // A failure of a deleted channel does not concern the channel that was created again in its place.
        if queue.is_former(*seq) {
            continue;
        }
        settled.defer_until = settled.defer_until.max(settlement.holds_channel());
        settled.effects.extend(effect(settlement, queue).map(|effect| (*seq, effect)));
    }
    settled
}

fn transition(channel: ChannelKey, seq: Seq, settlement: &Settlement, now: Millis) -> Option<Transition<'_>> {
    let none = Patch::default();
    let (to, patch) = match settlement {
        Settlement::Sent { account, remote_id, rendition } => {
            let (account, remote_id) = (account.as_deref(), remote_id.as_deref());
            (MessageStatus::Sent, Patch { account, remote_id, rendition: rendition.as_deref(), ..none })
        }
        Settlement::Failed { code, message } => (MessageStatus::Failed, Patch { error: Some((code, message)), ..none }),
        Settlement::Retry { run_at } => (MessageStatus::Queued, Patch { run_at: Some(*run_at), failed: true, ..none }),
        Settlement::RetryUnanswered { run_at } => {
            (MessageStatus::Queued, Patch { run_at: Some(*run_at), failed: true, unanswered: true, ..none })
        }
        Settlement::ConnectionLost { run_at } => {
            (MessageStatus::Queued, Patch { run_at: Some(*run_at), unanswered: true, ..none })
        }
        Settlement::HoldRecipient { until, .. } => {
            (MessageStatus::Queued, Patch { run_at: Some(*until), throttled: true, ..none })
        }
        Settlement::NewChatBlocked { .. } | Settlement::HoldChannel { .. } | Settlement::PauseChannel { .. } => {
            (MessageStatus::Queued, none)
        }
        Settlement::Unknown { resend_at, .. } => (MessageStatus::Unknown, Patch { resend_at: *resend_at, ..none }),
    };
    Position::sending(channel, seq).moves_to(to, now, patch)
}

fn effect<'a>(settlement: &'a Settlement, queue: &ChannelQueue) -> Option<ChannelEffect<'a>> {
    match settlement {
        Settlement::PauseChannel { reason } => Some(ChannelEffect::Pause { reason }),
        Settlement::NewChatBlocked { until, reason } => Some(ChannelEffect::BlockNewChats { until: *until, reason }),
        // No later message of the queue may overtake this one.
        Settlement::HoldRecipient { until, .. } if queue.opens_chats => {
            Some(ChannelEffect::DeferRecipient { until: *until })
        }
        Settlement::Sent { account, .. } if queue.opens_chats && !queue.deleted => {
            Some(ChannelEffect::OpenChat { account: account.as_deref() })
        }
        Settlement::Sent { .. }
        | Settlement::Failed { .. }
        | Settlement::Retry { .. }
        | Settlement::RetryUnanswered { .. }
        | Settlement::ConnectionLost { .. }
        | Settlement::HoldRecipient { .. }
        | Settlement::HoldChannel { .. }
        | Settlement::Unknown { .. } => None,
    }
}

// --- Receipts ---

/// A network's report about a message that it accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are named as what they hold")]
pub struct Receipt {
    pub channel: ChannelKey,
    pub of: MessageRef,
    /// `Sent`, `Delivered`, `Read`, or `Failed`.
    pub status: MessageStatus,
    pub at: Millis,
    /// The person who reports it. The receipt counts only if the message was sent to this person. `None`: the network
    /// reports it.
    pub from: Option<Party>,
    /// The recipient as the network knows it.
    pub account: Option<String>,
    /// Code and text of a failure.
    pub error: Option<(String, String)>,
    /// The reason of a pause: the network accepts nothing more from the channel until a person acts. A receipt that moves no
    /// message causes no pause.
    pub pauses: Option<String>,
    /// What the network says of the price.
    pub pricing: Option<Pricing>,
}

/// How a receipt names a message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are named as what they hold")]
pub enum MessageRef {
    /// By the network id that we assigned.
    NetworkId(NetworkId),
    /// By an id of the network, and by our message id if the network returns it.
    RemoteId { remote_id: NetworkId, ours: Option<MessageId> },
}

/// The most unmatched receipts of a channel. More of them come from another program that sends with the same number.
pub const MAX_UNMATCHED_RECEIPTS: i64 = 1_000;

/// A message that a receipt names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The channel, number and state of the message.
    pub position: Position,
    /// The network's own id, if it is known.
    pub remote_id: Option<String>,
    /// The message was queued again although it may have arrived.
    pub resent: bool,
    /// When the message was first sent to the network.
    pub sending_at: Option<Millis>,
}

impl Found {
    /// The transition that the receipt causes; `None` if it is late, repeated, or not about this message.
    pub fn on_receipt<'a>(&self, receipt: &'a Receipt) -> Option<Transition<'a>> {
        // A message that was sent again may be on the network twice. The failure of one attempt proves nothing about the
        // other, so the message keeps its state until more is known.
        let of_another_attempt = self.resent || self.is_of_another_attempt(receipt);
        if receipt.status == MessageStatus::Failed && of_another_attempt {
            return None;
        }
        // The network's clock may be behind: no receipt is from before the first attempt.
        let at = receipt.at.max(self.sending_at.unwrap_or(receipt.at));
        let error = receipt.error.as_ref().map(|(code, message)| (code.as_str(), message.as_str()));
        let (account, pricing) = (receipt.account.as_deref(), receipt.pricing.as_ref());
        let patch = Patch { account, error, pricing, ..Patch::default() };
        Some(self.position.moves_to(receipt.status, at, patch)?.sent_at(self.sending_at))
    }

    /// Whether the receipt is about another attempt than the acknowledged one.
    fn is_of_another_attempt(&self, receipt: &Receipt) -> bool {
        match &receipt.of {
            MessageRef::RemoteId { remote_id, ours: Some(_) } => {
                self.remote_id.as_deref().is_some_and(|known| known != remote_id.as_str())
            }
            MessageRef::RemoteId { ours: None, .. } | MessageRef::NetworkId(_) => false,
        }
    }

    /// The network's own id of the message, if this receipt is the first to name it.
    pub fn named_by<'a>(&self, receipt: &'a Receipt) -> Option<&'a str> {
        match &receipt.of {
            MessageRef::RemoteId { remote_id, ours: Some(_) } if self.remote_id.is_none() => Some(remote_id.as_str()),
            MessageRef::RemoteId { .. } | MessageRef::NetworkId(_) => None,
        }
    }
}

impl Receipt {
    /// Whether the receipt proves that the message arrived, including an attempt without an answer.
    pub fn proves_arrival(&self) -> bool {
        matches!(self.status, MessageStatus::Delivered | MessageStatus::Read)
    }

    /// Whether the recipient no longer counts as new, if the receipt moves the message.
    pub fn opens_chat(&self) -> bool {
        matches!(self.of, MessageRef::NetworkId(_)) && self.status != MessageStatus::Failed
    }
}

#[cfg(test)]
mod outcome_tests {
    use super::*;
    use crate::channel::{ChannelState, ChannelType};

    const NOW: Millis = 1_000;

    fn queue() -> ChannelQueue {
        ChannelQueue::of(ChannelType::WhatsAppWeb, ChannelState::Connected)
    }

    fn outcomes(settled: Vec<(Seq, Settlement)>) -> Outcomes {
        Outcomes { channel: 3, epoch: 0, settled, next_send_at: None, now: NOW }
    }

    fn sent() -> Settlement {
        Settlement::Sent { account: None, remote_id: None, rendition: None }
    }

    fn why() -> String {
        "why".to_owned()
    }

    #[test]
    fn each_outcome_leads_to_the_listed_message_state() {
        let none = Patch::default;
        let run_at = || Patch { run_at: Some(5), ..none() };
        let full = Settlement::Sent {
            account: Some("55".to_owned()),
            remote_id: Some("wamid.1".parse().expect("an id")),
            rendition: Some("r".to_owned()),
        };
        let noted = Patch { account: Some("55"), remote_id: Some("wamid.1"), rendition: Some("r"), ..none() };
        let failed = Settlement::Failed { code: "1".to_owned(), message: "x".to_owned() };
        let unknown = Settlement::Unknown { resend_at: Some(5), hold: Some(6) };
        let (queued, unanswered) = (MessageStatus::Queued, true);
        let table = [
            (sent(), MessageStatus::Sent, none()),
            (full, MessageStatus::Sent, noted),
            (failed, MessageStatus::Failed, Patch { error: Some(("1", "x")), ..none() }),
            (unknown, MessageStatus::Unknown, Patch { resend_at: Some(5), ..none() }),
            (Settlement::Retry { run_at: 5 }, queued, Patch { failed: true, ..run_at() }),
            (Settlement::RetryUnanswered { run_at: 5 }, queued, Patch { failed: true, unanswered, ..run_at() }),
            (Settlement::ConnectionLost { run_at: 5 }, queued, Patch { unanswered, ..run_at() }),
            (Settlement::HoldRecipient { until: 5, hold: None }, queued, Patch { throttled: true, ..run_at() }),
            (Settlement::HoldChannel { until: 5 }, queued, none()),
            (Settlement::PauseChannel { reason: why() }, queued, none()),
            (Settlement::NewChatBlocked { until: 5, reason: why() }, queued, none()),
        ];
        for (settlement, to, patch) in table {
            let outcomes = outcomes(vec![(9, settlement)]);
            let settled = settle(&outcomes, &queue());
            let expected = Position::sending(3, 9).moves_to(to, NOW, patch).expect("legal");
            assert_eq!(settled.transitions, [expected], "{outcomes:?}");
            let named = settled.transitions[0].patch().remote_id.map(|id| (9, id));
            assert_eq!(settled.named, Vec::from_iter(named), "{outcomes:?}");
        }
    }

    #[test]
    fn each_outcome_has_the_listed_channel_effect() {
        let table = [
            // The outcome: when the channel's wait ends, the effect on the channel.
            (sent(), None, Some(ChannelEffect::OpenChat { account: None })),
            (Settlement::Failed { code: "1".to_owned(), message: "x".to_owned() }, None, None),
            (Settlement::Retry { run_at: 5 }, None, None),
            (Settlement::RetryUnanswered { run_at: 5 }, None, None),
            (Settlement::ConnectionLost { run_at: 5 }, None, None),
            (
                Settlement::HoldRecipient { until: 5, hold: Some(4) },
                Some(4),
                Some(ChannelEffect::DeferRecipient { until: 5 }),
            ),
            (Settlement::HoldChannel { until: 5 }, Some(5), None),
            (Settlement::PauseChannel { reason: why() }, None, Some(ChannelEffect::Pause { reason: "why" })),
            (
                Settlement::NewChatBlocked { until: 5, reason: why() },
                None,
                Some(ChannelEffect::BlockNewChats { until: 5, reason: "why" }),
            ),
            (Settlement::Unknown { resend_at: Some(5), hold: Some(6) }, Some(6), None),
        ];
        for (settlement, defer_until, effect) in table {
            let outcomes = outcomes(vec![(9, settlement)]);
            let settled = settle(&outcomes, &queue());
            assert_eq!(settled.defer_until, defer_until, "{outcomes:?}");
            assert_eq!(settled.effects, Vec::from_iter(effect.map(|effect| (9, effect))), "{outcomes:?}");
        }
    }

    #[test]
    fn the_latest_time_defers_the_channel() {
        let hold = |until| Settlement::HoldChannel { until };
        let outcomes = Outcomes { next_send_at: Some(4), ..outcomes(vec![(1, hold(3)), (2, hold(7)), (3, sent())]) };
        assert_eq!(settle(&outcomes, &queue()).defer_until, Some(7));
    }

    #[test]
    fn the_second_outcome_of_a_message_is_ignored() {
        let outcomes = outcomes(vec![(1, sent()), (1, Settlement::Retry { run_at: 5 })]);
        let transitions = settle(&outcomes, &queue()).transitions;
        assert_eq!(transitions.iter().map(Transition::to).collect::<Vec<_>>(), [MessageStatus::Sent]);
    }

    #[test]
    fn a_message_of_a_deleted_channel_does_not_affect_the_recreated_one() {
        let recreated = ChannelQueue { cancel_before: 1, ..queue() };
        let failures = [
            Settlement::HoldChannel { until: 5 },
            Settlement::PauseChannel { reason: "why".to_owned() },
            Settlement::NewChatBlocked { until: 5, reason: "why".to_owned() },
            Settlement::HoldRecipient { until: 5, hold: Some(5) },
            sent(),
        ];
        for settlement in failures {
            let outcomes = outcomes(vec![(1, settlement.clone()), (2, settlement)]);
            let settled = settle(&outcomes, &recreated);
            assert_eq!(settled.transitions.len(), 2, "both messages move");
            assert!(settled.effects.iter().all(|(seq, _)| *seq == 2), "{settled:?}");
            let former = Outcomes { settled: outcomes.settled[..1].to_vec(), ..outcomes.clone() };
            let settled = settle(&former, &recreated);
            assert_eq!((settled.effects, settled.defer_until), (Vec::new(), None));
        }
    }

    #[test]
    fn a_deleted_channel_and_one_that_opens_no_chats_have_no_chat_effect() {
        let hold = Settlement::HoldRecipient { until: 5, hold: None };
        let deleted = ChannelQueue { deleted: true, ..queue() };
        let other = ChannelQueue::of(ChannelType::CloudApi, ChannelState::Connected);
        for queue in [deleted, other] {
            assert_eq!(settle(&outcomes(vec![(1, sent())]), &queue).effects, []);
        }
        // If each recipient has a queue, the message itself holds it.
        assert_eq!(settle(&outcomes(vec![(1, hold)]), &other).effects, []);
    }
}

#[cfg(test)]
mod receipt_tests {
    use super::*;
    use MessageStatus::{Cancelled, Delivered, Expired, Failed, Queued, Read, Sending, Sent, Unknown};

    fn found(status: MessageStatus, attempted: bool) -> Found {
        let position = Position { channel: 1, seq: 7, status, attempted };
        Found { position, remote_id: None, resent: false, sending_at: Some(100) }
    }

    fn receipt(of: MessageRef, status: MessageStatus) -> Receipt {
        Receipt { channel: 1, of, status, at: 200, from: None, account: None, error: None, pauses: None, pricing: None }
    }

    fn by_network_id(status: MessageStatus) -> Receipt {
        receipt(MessageRef::NetworkId("3EB0".parse().expect("an id")), status)
    }

    fn by_our_id(remote_id: &str, status: MessageStatus) -> Receipt {
        let ours = Some(crate::ids::MessageId::new(1, [0; 10]));
        receipt(MessageRef::RemoteId { remote_id: remote_id.parse().expect("an id"), ours }, status)
    }

    /// The effect of each receipt on a sent message in each state.
    #[test]
    fn the_table_of_receipts() {
        let legal = [
            (Queued, vec![Sent, Delivered, Read, Failed]),
            (Sending, vec![Sent, Delivered, Read, Failed]),
            (Sent, vec![Delivered, Read, Failed]),
            (Delivered, vec![Read]),
            (Unknown, vec![Sent, Delivered, Read, Failed]),
            (Read, vec![]),
            (Failed, vec![]),
            (Expired, vec![]),
            (Cancelled, vec![]),
        ];
        for (from, legal) in legal {
            for to in [Sent, Delivered, Read, Failed] {
                let receipt = by_network_id(to);
                let moved = found(from, true).on_receipt(&receipt).map(|transition| transition.to());
                assert_eq!(moved, legal.contains(&to).then_some(to), "{from:?}, {to:?}");
            }
        }
    }

    #[test]
    fn no_receipt_moves_a_message_that_was_never_sent() {
        for to in [Sent, Delivered, Read, Failed] {
            assert_eq!(found(Queued, false).on_receipt(&by_network_id(to)), None, "{to:?}");
        }
    }

    #[test]
    fn the_failure_of_one_attempt_proves_nothing_about_another() {
        let resent = Found { resent: true, ..found(Sent, true) };
        assert_eq!(resent.on_receipt(&by_network_id(Failed)), None);
        assert!(resent.on_receipt(&by_network_id(Read)).is_some());
        let acknowledged = Found { remote_id: Some("a".to_owned()), ..found(Sent, true) };
        assert_eq!(acknowledged.on_receipt(&by_our_id("b", Failed)), None);
        assert!(acknowledged.on_receipt(&by_our_id("a", Failed)).is_some());
        assert!(acknowledged.on_receipt(&by_our_id("b", Delivered)).is_some());
    }

    #[test]
    fn no_receipt_is_dated_before_the_first_attempt() {
        let early = Receipt { at: 50, ..by_network_id(Delivered) };
        let late = by_network_id(Delivered);
        let dated = |receipt| found(Sent, true).on_receipt(receipt).and_then(|moved| moved.reached(Delivered));
        assert_eq!((dated(&early), dated(&late)), (Some(100), Some(200)));
    }

    #[test]
    fn a_receipt_brings_the_account_and_the_error() {
        let error = Some(("1".to_owned(), "x".to_owned()));
        let receipt = Receipt { account: Some("55".to_owned()), error, ..by_network_id(Failed) };
        let moved = found(Sent, true).on_receipt(&receipt).expect("legal");
        assert_eq!(moved.patch(), &Patch { account: Some("55"), error: Some(("1", "x")), ..Patch::default() });
    }

    #[test]
    fn the_first_receipt_with_our_id_names_the_message() {
        let named = Found { remote_id: Some("a".to_owned()), ..found(Sent, true) };
        assert_eq!(found(Sent, true).named_by(&by_our_id("b", Sent)), Some("b"));
        assert_eq!(named.named_by(&by_our_id("b", Sent)), None);
        assert_eq!(found(Sent, true).named_by(&by_network_id(Sent)), None);
    }

    #[test]
    fn only_delivery_and_read_receipts_prove_arrival() {
        let table = [(Sent, false, true), (Delivered, true, true), (Read, true, true), (Failed, false, false)];
        for (status, arrived, opens) in table {
            let receipt = by_network_id(status);
            assert_eq!((receipt.proves_arrival(), receipt.opens_chat()), (arrived, opens), "{status:?}");
        }
        assert!(!by_our_id("a", Read).opens_chat(), "a network that names messages counts no chats");
    }
}
