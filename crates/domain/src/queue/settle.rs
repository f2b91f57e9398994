//! The changes that an outcome causes for a message and its channel.

use std::collections::HashSet;

use crate::channel::ChannelKey;
use crate::clock::Millis;
use crate::message::Seq;
use crate::status::MessageStatus;

use super::{ChannelQueue, Outcomes, Patch, Position, Settlement, Transition};

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

#[cfg(test)]
mod tests {
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
