//! The random operations, and the random rules of the channels.

use std::time::Duration;

use proptest::prelude::*;
use recado_domain::channel::{ChannelType, Ordering};
use recado_domain::clock::Millis;
use recado_domain::pacing::RecipientPacing;
use recado_domain::queue::{Settlement, UnknownOutcomePolicy};
use recado_domain::status::MessageStatus;

use super::RECIPIENTS;
use crate::fixtures::{LEAVE, sent};

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Enqueue {
        channel: usize,
        recipient: usize,
        lives: Millis,
        key: Option<u8>,
        delay: Option<Millis>,
    },
    /// Due messages are queued.
    Promote,
    Claim {
        channel: usize,
        limit: usize,
        send_interval: Millis,
        answered: bool,
    },
    Settle {
        pick: usize,
        how: How,
    },
    Receipt {
        pick: usize,
        status: MessageStatus,
        astray: bool,
    },
    Cancel {
        pick: usize,
    },
    Pass(Millis),
    Pause {
        channel: usize,
    },
    Resume {
        channel: usize,
    },
    Crash,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum How {
    Sent,
    Failed,
    /// The network refused for now.
    Retry(Millis),
    /// The answer was lost; once the connection broke before it.
    Silence(Millis),
    Broken(Millis),
    /// The network accepts nothing more from the channel.
    Pause,
    Hold(Millis),
    HoldRecipient(Millis),
    Unknown,
}

impl How {
    pub(super) fn at(self, now: Millis, unanswered: UnknownOutcomePolicy) -> Settlement {
        match self {
            How::Sent => sent(),
            How::Failed => Settlement::Failed { code: "X".to_owned(), message: "x".to_owned() },
            How::Retry(wait) => Settlement::Retry { run_at: now + wait },
            // If the network does not recognise a resend, nothing is sent again.
            How::Silence(_) | How::Broken(_) if unanswered != UnknownOutcomePolicy::Resend => {
                How::Unknown.at(now, unanswered)
            }
            How::Silence(wait) => Settlement::RetryUnanswered { run_at: now + wait },
            How::Broken(wait) => Settlement::ConnectionLost { run_at: now + wait },
            How::Pause => Settlement::PauseChannel { reason: "x".to_owned() },
            How::Hold(wait) => Settlement::HoldChannel { until: now + wait },
            How::HoldRecipient(wait) => Settlement::HoldRecipient { until: now + wait, hold: None },
            How::Unknown => Settlement::Unknown { resend_at: unanswered.resend_at(now), hold: None },
        }
    }
}

pub(crate) fn ops() -> impl Strategy<Value = Vec<Op>> {
    let channel = 0..3_usize;
    let pick = any::<prop::sample::Index>().prop_map(|index| index.index(1 << 16));
    let how = prop_oneof![
        4 => Just(How::Sent),
        1 => Just(How::Failed),
        2 => (0..800_i64).prop_map(How::Retry),
        2 => (0..800_i64).prop_map(How::Silence),
        1 => (0..800_i64).prop_map(How::Broken),
        1 => Just(How::Pause),
        1 => (0..500_i64).prop_map(How::Hold),
        1 => (0..800_i64).prop_map(How::HoldRecipient),
        2 => Just(How::Unknown),
    ];
    let receipt = prop_oneof![Just(MessageStatus::Delivered), Just(MessageStatus::Read), Just(MessageStatus::Failed)];
    let lives = prop_oneof![2 => 1..2_000_i64, 3 => Just(100_000_i64)];
    let (key, delay) = (prop::option::weighted(0.3, 0..6_u8), prop::option::weighted(0.2, 0..1_500_i64));
    let send_interval = prop_oneof![3 => Just(0_i64), 1 => 1..300_i64];
    let op = prop_oneof![
        10 => (channel.clone(), 0..RECIPIENTS.len(), lives, key, delay).prop_map(
            |(channel, recipient, lives, key, delay)| Op::Enqueue { channel, recipient, lives, key, delay }
        ),
        3 => Just(Op::Promote),
        10 => (channel.clone(), 0..4_usize, send_interval, prop::bool::weighted(0.8))
            .prop_map(|(channel, limit, send_interval, answered)| Op::Claim { channel, limit, send_interval, answered }),
        10 => (pick.clone(), how).prop_map(|(pick, how)| Op::Settle { pick, how }),
        3 => (pick.clone(), receipt, prop::bool::weighted(0.2))
            .prop_map(|(pick, status, astray)| Op::Receipt { pick, status, astray }),
        2 => pick.prop_map(|pick| Op::Cancel { pick }),
        4 => (1..1_000_i64).prop_map(Op::Pass),
        1 => channel.clone().prop_map(|channel| Op::Pause { channel }),
        2 => channel.prop_map(|channel| Op::Resume { channel }),
        2 => Just(Op::Crash),
    ];
    prop::collection::vec(op, 1..120)
}

/// The behaviour of a channel's driver.
pub(crate) fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let kind = prop_oneof![Just(ChannelType::Sandbox), Just(ChannelType::CloudApi)];
    let unanswered = prop_oneof![
        Just(UnknownOutcomePolicy::Resend),
        Just(LEAVE),
        Just(UnknownOutcomePolicy::MarkUnknown(Some(700)))
    ];
    let pacing = prop::option::of((1..4_u32, 1..900_u64));
    let rule = (kind, unanswered, pacing).prop_map(|(kind, unanswered, pacing)| {
        let every = |(burst, every)| RecipientPacing { burst, every: Duration::from_millis(every) };
        let by_recipient = kind.descriptor().ordering == Ordering::Recipient;
        // Unknown messages are queued again on channels with a queue for each recipient.
        let unanswered = if by_recipient || unanswered == UnknownOutcomePolicy::Resend { unanswered } else { LEAVE };
        Rule { kind, unanswered, pacing: pacing.map(every).filter(|_| by_recipient) }
    });
    prop::collection::vec(rule, 3)
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    pub(super) kind: ChannelType,
    pub(super) unanswered: UnknownOutcomePolicy,
    pub(super) pacing: Option<RecipientPacing>,
}
