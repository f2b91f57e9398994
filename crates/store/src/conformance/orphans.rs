//! Messages that are `SENDING` and that no process has in flight.

use recado_domain::channel::{ChannelKey, ChannelState};
use recado_domain::ids::MessageId;
use recado_domain::message::{Cancelled, NewMessage};
use recado_domain::queue::{ClaimRequest, Claimed, Settlement, UnheldSending, UnknownOutcomePolicy};
use recado_domain::status::MessageStatus;

use crate::fixtures::{DAY, Ground, LEAVE, MINUTE, NOW, ids, request};

/// A claimed message, and another one after it.
async fn claimed_and_waiting(ground: &Ground) -> (ChannelKey, Claimed, MessageId) {
    let channel = ground.channel("loja").await;
    let first = ground.accept(channel, "551").await;
    let second = ground.accept(channel, "551").await;
    let claimed = ground.claim_one(channel).await;
    assert_eq!(claimed.id, first);
    (channel, claimed, second)
}

pub(super) async fn a_message_in_flight_is_not_claimed_twice(ground: Ground) {
    let (channel, claimed, _) = claimed_and_waiting(&ground).await;
    for orphans in [UnheldSending::LeaseLive, UnheldSending::OwnerCrashed, UnheldSending::ClaimLost] {
        for unanswered in [UnknownOutcomePolicy::Resend, LEAVE] {
            let now = NOW + 2 * MINUTE;
            let claim = ClaimRequest { held: vec![claimed.seq], orphans, unanswered, now, ..request(channel) };
            let claim = ground.claim(claim).await;
            assert_eq!(
                (claim.messages, claim.next_at, ground.open(channel).await),
                (vec![], None, 2),
                "{orphans:?} {unanswered:?}"
            );
        }
    }
    assert_eq!(ground.status(channel, claimed.id).await, MessageStatus::Sending);
}

pub(super) async fn a_claim_of_another_process_counts_until_it_expires(ground: Ground) {
    let (channel, ..) = claimed_and_waiting(&ground).await;
    for unanswered in [UnknownOutcomePolicy::Resend, LEAVE] {
        let claim = ground.claim(ClaimRequest { unanswered, now: NOW + MINUTE - 1, ..request(channel) }).await;
        assert_eq!((claim.messages, claim.next_at), (vec![], Some(NOW + MINUTE)));
    }
}

pub(super) async fn an_expired_claim_is_queued_again(ground: Ground) {
    let (channel, claimed, _) = claimed_and_waiting(&ground).await;
    let claim = ground.claim(ClaimRequest { now: NOW + MINUTE, ..request(channel) }).await;
    assert_eq!((ids(&claim), ground.open(channel).await), (vec![claimed.id], 2), "still the head of its queue");
    assert_eq!((claim.messages[0].attempts, claim.messages[0].failures), (2, 0));
}

pub(super) async fn an_expired_claim_is_unknown_if_a_resend_would_double(ground: Ground) {
    let (channel, claimed, second) = claimed_and_waiting(&ground).await;
    let claim = ground.claim(ClaimRequest { unanswered: LEAVE, now: NOW + MINUTE, ..request(channel) }).await;
    assert_eq!((ids(&claim), ground.open(channel).await), (vec![second], 1));
    assert_eq!(ground.status(channel, claimed.id).await, MessageStatus::Unknown);
}

pub(super) async fn messages_of_a_crashed_owner_are_queued_again(mut ground: Ground) {
    let (channel, claimed, _) = claimed_and_waiting(&ground).await;
    ground.reopen().await;
    let claim = ground.claim(ClaimRequest { orphans: UnheldSending::OwnerCrashed, ..request(channel) }).await;
    assert_eq!((ids(&claim), ground.open(channel).await), (vec![claimed.id], 2), "at once: it is not in flight");
    assert_eq!(claim.messages[0].network_id, claimed.network_id);
}

pub(super) async fn messages_of_a_crashed_owner_are_unknown_if_a_resend_would_double(mut ground: Ground) {
    let (channel, claimed, second) = claimed_and_waiting(&ground).await;
    ground.reopen().await;
    let claim = ClaimRequest { orphans: UnheldSending::OwnerCrashed, unanswered: LEAVE, ..request(channel) };
    let claim = ground.claim(claim).await;
    assert_eq!((ids(&claim), ground.open(channel).await), (vec![second], 1));
    let unknown = ground.message(channel, claimed.id).await;
    assert_eq!(unknown.status, MessageStatus::Unknown);
    assert_eq!(unknown.reached[usize::from(MessageStatus::Unknown.number())], Some(NOW));
}

pub(super) async fn a_message_that_was_never_sent_is_queued_again_in_any_case(ground: Ground) {
    let (channel, claimed, _) = claimed_and_waiting(&ground).await;
    for unanswered in [UnknownOutcomePolicy::Resend, LEAVE] {
        let claim =
            ground.claim(ClaimRequest { orphans: UnheldSending::ClaimLost, unanswered, ..request(channel) }).await;
        assert_eq!((ids(&claim), ground.open(channel).await), (vec![claimed.id], 2));
        assert_eq!(claim.messages[0].attempts, 1, "what was never sent was no attempt");
    }
}

/// An orphan that is left would not be recognised by the next claim, or would count as one of another kind.
pub(super) async fn orphans_behind_the_limit_are_dealt_with_too(ground: Ground) {
    for (orphans, unanswered, expected) in [
        (UnheldSending::OwnerCrashed, LEAVE, MessageStatus::Unknown),
        (UnheldSending::OwnerCrashed, UnknownOutcomePolicy::Resend, MessageStatus::Queued),
        (UnheldSending::ClaimLost, LEAVE, MessageStatus::Queued),
    ] {
        let channel = ground.channel_by_recipient(&format!("{}", ground.unique()[7])).await;
        let first = ground.accept(channel, "551").await;
        let second = ground.accept(channel, "552").await;
        let third = ground.accept(channel, "552").await;
        let all = ClaimRequest { limit: 2, ..request(channel) };
        let claim = ground.claim(all.clone()).await;
        // Earlier in the queue, and due again.
        ground.settle(channel, claim.messages[0].seq, Settlement::Retry { run_at: NOW }).await;
        let claim = ground.claim(ClaimRequest { limit: 1, orphans, unanswered, ..all }).await;
        assert_eq!((ids(&claim), claim.messages.len()), (vec![first], 1));
        assert_eq!(ground.status(channel, second).await, expected, "{orphans:?}, {unanswered:?}");
        assert_eq!(ground.status(channel, third).await, MessageStatus::Queued);
    }
}

pub(super) async fn orphans_of_a_paused_channel_are_dealt_with_too(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let first = ground.accept(channel, "551").await;
    let second = ground.accept(channel, "552").await;
    let all = ClaimRequest { limit: 2, unanswered: LEAVE, ..request(channel) };
    let claim = ground.claim(all.clone()).await;
    ground.settle(channel, claim.messages[0].seq, Settlement::Retry { run_at: NOW }).await;
    ground.move_channel(channel, ChannelState::Connected, ChannelState::Paused).await;
    let claim = ground.claim(ClaimRequest { orphans: UnheldSending::OwnerCrashed, ..all }).await;
    assert_eq!((claim.messages, claim.next_at, ground.open(channel).await), (vec![], Some(NOW + DAY), 1));
    assert_eq!(ground.status(channel, first).await, MessageStatus::Queued);
    assert_eq!(ground.status(channel, second).await, MessageStatus::Unknown);
}

pub(super) async fn an_orphan_waits_for_its_time_like_any_other(ground: Ground) {
    let (channel, claimed, _) = claimed_and_waiting(&ground).await;
    ground.settle(channel, claimed.seq, Settlement::HoldChannel { until: NOW + 1 }).await;
    let again = ground.claim(ClaimRequest { now: NOW + 1, send_interval: 100, ..request(channel) }).await;
    assert_eq!(ids(&again), [claimed.id]);
    let claim =
        ground.claim(ClaimRequest { now: NOW + 2, orphans: UnheldSending::ClaimLost, ..request(channel) }).await;
    assert_eq!((claim.messages, claim.next_at), (vec![], Some(NOW + 101)), "the channel rests");
    assert_eq!(ground.status(channel, claimed.id).await, MessageStatus::Queued);
}

pub(super) async fn an_orphan_that_is_too_old_ends(ground: Ground) {
    let channel = ground.channel("loja").await;
    let message = NewMessage { expires_at: NOW + 1, ..ground.new_message(channel, "551") };
    let id = message.id;
    ground.enqueue(message).await;
    ground.claim_one(channel).await;
    let claim = ClaimRequest { now: NOW + 1, orphans: UnheldSending::ClaimLost, unanswered: LEAVE, ..request(channel) };
    ground.claim(claim).await;
    assert_eq!(ground.open(channel).await, 0);
    assert_eq!(ground.status(channel, id).await, MessageStatus::Expired);
}

/// A message that may have arrived is never cancelled or expired.
pub(super) async fn a_maybe_delivered_message_ends_as_unknown(ground: Ground) {
    let (channel, claimed, second) = claimed_and_waiting(&ground).await;
    let first = claimed.id;
    ground.settle(channel, claimed.seq, Settlement::RetryUnanswered { run_at: NOW + 1_000 }).await;
    assert_eq!(ground.status(channel, first).await, MessageStatus::Queued);
    assert_eq!(ground.store.cancel(channel, first, NOW).await.expect("works"), Cancelled::TooLate);
    ground.delete_channel(channel, NOW).await;
    assert_eq!(ground.store.cancel_former(channel, 10, NOW).await.expect("works"), 2);
    assert_eq!(ground.status(channel, first).await, MessageStatus::Unknown);
    assert_eq!(ground.status(channel, second).await, MessageStatus::Cancelled);
}

pub(super) async fn an_expired_orphan_that_is_queued_again_ends_as_unknown(mut ground: Ground) {
    let (channel, claimed, second) = claimed_and_waiting(&ground).await;
    ground.reopen().await;
    let now = NOW + 2 * DAY;
    let claim = ground.claim(ClaimRequest { orphans: UnheldSending::OwnerCrashed, now, ..request(channel) }).await;
    assert_eq!((ids(&claim), ground.open(channel).await), (vec![], 0));
    assert_eq!(ground.status(channel, claimed.id).await, MessageStatus::Unknown);
    assert_eq!(ground.status(channel, second).await, MessageStatus::Expired);
    ground.receipt(channel, &claimed.network_id, MessageStatus::Delivered).await;
    assert_eq!(ground.status(channel, claimed.id).await, MessageStatus::Delivered, "the network knows better");
}
