//! Metrics of the dispatcher.

use std::time::{Duration, Instant};

use recado_domain::clock::Millis;
use recado_domain::queue::Settlement;
use recado_domain::status::MessageStatus;
use recado_providers::SendOutcome;
use recado_store::commits::Reached;

use crate::directory::{ChannelEntry, Directory};
use crate::metrics::{Activity, METRICS, OfType, Outcome};

/// Makes an attempt within the time limit, and measures it. Without an answer by then its outcome is unknown.
pub(super) async fn attempt(
    entry: &ChannelEntry,
    limit: Duration,
    sending: impl Future<Output = SendOutcome>,
) -> SendOutcome {
    let (began, channel_type) = (Instant::now(), entry.kind.name());
    let outcome = tokio::time::timeout(limit, sending).await.unwrap_or(SendOutcome::UnknownOutcome);
    METRICS.send_duration.get_or_create(&OfType { channel_type }).observe(began.elapsed().as_secs_f64());
    METRICS.send_attempts.get_or_create(&Outcome { channel_type, outcome: name_of(&outcome) }).inc();
    outcome
}

/// Counts a settlement that the store has accepted. `waited` is the time since the message was accepted.
pub(super) fn settled(entry: &ChannelEntry, settlement: &Settlement, waited: Option<Millis>) {
    let channel_type = entry.kind.name();
    if let (Settlement::Sent { .. }, Some(waited)) = (settlement, waited) {
        METRICS.took(channel_type, "sent", waited);
    }
    METRICS.settled.get_or_create(&Outcome { channel_type, outcome: became(settlement) }).inc();
    if let Settlement::Failed { code, .. } = settlement {
        METRICS.failed(channel_type, code);
    }
}

/// The network answered an attempt of this channel.
pub(super) fn answered(entry: &ChannelEntry, now: Millis) {
    METRICS.active(entry.via.key, Activity::Ack, now);
}

/// Counts statuses that messages reached, and states that channels reached. Returns how many messages expired.
pub(super) fn reached(reached: &[Reached], channels: &Directory, now: Millis) -> u64 {
    let mut expired = 0;
    for one in reached {
        let (Reached::Message { channel, .. } | Reached::Channel { channel, .. }) = one;
        let Some(entry) = channels.channel(*channel) else { continue };
        let channel_type = entry.kind.name();
        let (status, after) = match one {
            Reached::Message { status, after, .. } => (status, after),
            Reached::Channel { state, .. } => {
                METRICS.channel_moved(channel_type, *state);
                continue;
            }
        };
        METRICS.moved(*channel, channel_type, *status);
        expired += u64::from(*status == MessageStatus::Expired);
        if let Some(after) = after {
            METRICS.active(*channel, Activity::Receipt, now);
            if *status == MessageStatus::Delivered {
                METRICS.took(channel_type, "delivered", *after);
            }
        }
    }
    expired
}

/// The writing thread of the store has opened its file again.
pub(super) fn reopened() {
    METRICS.store_reopened.inc();
}

/// A write was refused because another node owns the channel.
pub(super) fn fenced() {
    METRICS.fenced.inc();
}

/// The writing thread of the store has committed so many calls.
pub(super) fn committed(time: Duration, calls: usize) {
    METRICS.commits.observe(time.as_secs_f64());
    METRICS.batches.observe(f64::from(u32::try_from(calls).unwrap_or(u32::MAX)));
}

fn name_of(outcome: &SendOutcome) -> &'static str {
    match outcome {
        SendOutcome::Accepted { .. } => "accepted",
        SendOutcome::PermanentFailure { .. } => "permanent_failure",
        SendOutcome::TemporaryFailure { .. } => "temporary_failure",
        SendOutcome::RecipientThrottled => "recipient_throttled",
        SendOutcome::NotSent => "not_sent",
        SendOutcome::ChannelUnavailable { .. } => "channel_unavailable",
        SendOutcome::ChannelThrottled => "channel_throttled",
        SendOutcome::ChannelDisabled { .. } => "channel_disabled",
        SendOutcome::NewChatBlocked { .. } => "new_chat_blocked",
        SendOutcome::ConnectionLost => "connection_lost",
        SendOutcome::UnknownOutcome => "unknown",
    }
}

/// What became of the message: the names of the settlements.
fn became(settlement: &Settlement) -> &'static str {
    match settlement {
        Settlement::Sent { .. } => "sent",
        Settlement::Failed { .. } => "failed",
        Settlement::Unknown { .. } => "unknown",
        Settlement::Retry { .. } | Settlement::RetryUnanswered { .. } | Settlement::ConnectionLost { .. } => "retry",
        Settlement::HoldRecipient { .. }
        | Settlement::HoldChannel { .. }
        | Settlement::PauseChannel { .. }
        | Settlement::NewChatBlocked { .. } => "held",
    }
}
