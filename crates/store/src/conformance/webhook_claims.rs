//! Which deliveries a claim returns: order, lanes, slots and leases.

use std::collections::BTreeSet;

use recado_domain::api_key::Scope;
use recado_domain::webhook::DeliveryStatus::{Delivered, Failed, Pending};
use recado_domain::webhook::{
    ClaimedDelivery, DeliveryClaim, DeliveryOrder, Lane, Replay, RetryPolicy, WebhookSettings,
};

use super::webhooks::{
    LEASE, change, claim, create, create_at, cursor, event, fan_out, happen, log, owner, prove, read, settings, settle,
    statuses, subjects,
};
use crate::fixtures::{Ground, MINUTE, NOW};

pub(super) async fn events_of_a_message_wait_for_one_another(ground: Ground) {
    let webhook = create(&ground, settings()).await;
    prove(&ground, NOW).await;
    for subject in [1, 1, 2, 1] {
        happen(&ground, subject).await;
    }
    assert_eq!(fan_out(&ground, NOW).await, 4);
    let first = claim(&ground, Lane::First, 10, NOW).await;
    assert_eq!(subjects(&first), [1, 2]);
    assert!(claim(&ground, Lane::First, 10, NOW).await.is_empty(), "the others wait for the one in flight");
    settle(&ground, &first, 500, NOW).await;
    assert!(claim(&ground, Lane::First, 10, NOW).await.is_empty(), "and for its retries");
    let again = claim(&ground, Lane::Retry, 10, NOW + 5_000).await;
    assert_eq!(subjects(&again), [1, 2]);
    // A dead letter lets the next one go, and so does a delivery.
    settle(&ground, &again, 200, NOW + 5_000).await;
    let next = claim(&ground, Lane::First, 10, NOW + 5_000).await;
    assert_eq!((subjects(&next), next[0].of.attempt), (vec![1], 1));
    for round in 1..=3 {
        let lane = if round == 1 { next.clone() } else { claim(&ground, Lane::Retry, 10, NOW + MINUTE).await };
        settle(&ground, &lane, 500, NOW + 10_000).await;
    }
    assert_eq!(subjects(&claim(&ground, Lane::First, 10, NOW + MINUTE).await), [1]);
    assert_eq!(statuses(&ground, &webhook).await, [Delivered, Delivered, Failed, Delivered, Pending]);
}

pub(super) async fn events_of_a_conversation_wait_for_one_another(ground: Ground) {
    create(&ground, WebhookSettings { order: DeliveryOrder::Conversation, ..settings() }).await;
    prove(&ground, NOW).await;
    for (subject, conversation) in [(1, Some(50)), (2, Some(50)), (3, Some(51)), (4, None)] {
        let event = event(&ground, "message.received", subject, conversation);
        assert!(ground.store.record_event(event).await.expect("stored"));
    }
    assert_eq!(fan_out(&ground, NOW).await, 4);
    let first = claim(&ground, Lane::First, 10, NOW).await;
    assert_eq!(subjects(&first), [1, 3, 4]);
    settle(&ground, &first, 200, NOW).await;
    assert_eq!(subjects(&claim(&ground, Lane::First, 10, NOW).await), [2]);
}

pub(super) async fn a_changed_order_keeps_messages_in_order(ground: Ground) {
    let webhook = create(&ground, settings()).await;
    prove(&ground, NOW).await;
    let happen = async |subject| {
        let event = event(&ground, "message.received", subject, Some(50));
        assert!(ground.store.record_event(event).await.expect("stored"));
        assert_eq!(fan_out(&ground, NOW).await, 1);
    };
    happen(1).await;
    let order = DeliveryOrder::Conversation;
    let webhook = change(&ground, &webhook, WebhookSettings { order, ..settings() }, NOW).await;
    happen(1).await;
    let first = claim(&ground, Lane::First, 10, NOW).await;
    assert_eq!(subjects(&first), [1], "the second event of the message waits for the first");
    settle(&ground, &first, 200, NOW).await;
    let second = claim(&ground, Lane::First, 10, NOW).await;
    settle(&ground, &second, 200, NOW).await;
    happen(2).await;
    change(&ground, &webhook, settings(), NOW).await;
    happen(2).await;
    assert_eq!(subjects(&claim(&ground, Lane::First, 10, NOW).await), [2]);
}

pub(super) async fn a_webhook_has_eight_deliveries_in_flight(ground: Ground) {
    create(&ground, settings()).await;
    for subject in 1..20 {
        happen(&ground, subject).await;
    }
    fan_out(&ground, NOW).await;
    let first = claim(&ground, Lane::First, 100, NOW).await;
    assert_eq!(subjects(&first), [1, 2], "it has accepted nothing yet");
    settle(&ground, &first, 200, NOW).await;
    assert_eq!(subjects(&claim(&ground, Lane::First, 3, NOW).await), [3, 4, 5], "a limit");
    let more = claim(&ground, Lane::First, 100, NOW).await;
    assert_eq!(subjects(&more), [6, 7, 8, 9, 10]);
    let claim_now = DeliveryClaim { lane: Lane::First, limit: 100, now: NOW, lease_until: NOW + LEASE };
    let none = ground.store.claim_deliveries(claim_now, Vec::new()).await.expect("stored");
    assert_eq!((none.deliveries.len(), none.next_at), (0, Some(NOW + LEASE)), "the end of the leases frees slots");
    settle(&ground, &more[..2], 500, NOW).await;
    let next = claim(&ground, Lane::First, 100, NOW).await;
    assert_eq!(next.len(), 0, "after a failure at most two are in flight");
}

pub(super) async fn a_lost_lease_is_claimed_again_and_its_result_counts_no_more(ground: Ground) {
    let webhook = create(&ground, settings()).await;
    prove(&ground, NOW).await;
    happen(&ground, 1).await;
    fan_out(&ground, NOW).await;
    let lost = claim(&ground, Lane::First, 10, NOW).await;
    assert!(claim(&ground, Lane::Retry, 10, NOW + LEASE - 1).await.is_empty());
    let again = claim(&ground, Lane::Retry, 10, NOW + LEASE).await;
    assert_eq!((again[0].id, again[0].of.attempt), (lost[0].id, 2));
    // The first node answers late.
    settle(&ground, &lost, 200, NOW + LEASE + 1).await;
    assert_eq!(statuses(&ground, &webhook).await, [Delivered, Pending]);
    assert!(claim(&ground, Lane::Retry, 10, NOW + LEASE + 2).await.is_empty(), "it is in flight");
    settle(&ground, &again, 500, NOW + LEASE + 3).await;
    settle(&ground, &again, 200, NOW + LEASE + 4).await;
    let delivery = log(&ground, &webhook).await.remove(1);
    assert_eq!((delivery.status, delivery.attempts.len(), delivery.attempt), (Pending, 1, 2));
    // A late result counts, if no other node claimed the delivery in the meantime.
    let third = claim(&ground, Lane::Retry, 10, NOW + 10 * MINUTE).await;
    settle(&ground, &third, 204, NOW + 20 * MINUTE).await;
    assert_eq!(statuses(&ground, &webhook).await, [Delivered, Delivered]);
    assert_eq!(read(&ground, webhook.id).await.last_delivered_at, Some(NOW + 20 * MINUTE));
}

/// Nodes may have different secret keys for a while.
pub(super) async fn what_a_node_cannot_send_is_left_to_others(ground: Ground) {
    let webhook = create(&ground, settings()).await;
    prove(&ground, NOW).await;
    happen(&ground, 1).await;
    fan_out(&ground, NOW).await;
    let claimed = claim(&ground, Lane::First, 10, NOW).await;
    let release = async |claimed: &[ClaimedDelivery]| {
        let of = claimed.iter().map(|claimed| claimed.of).collect();
        ground.store.release_deliveries(of, NOW + 1).await.expect("stored");
    };
    release(&claimed).await;
    let request = DeliveryClaim { lane: Lane::First, limit: 10, now: NOW + 1, lease_until: NOW + LEASE };
    let none = ground.store.claim_deliveries(request, vec![webhook.key]).await.expect("stored");
    assert_eq!((none.deliveries.len(), none.next_at), (0, None), "and it does not wake this node");
    let again = claim(&ground, Lane::First, 10, NOW + 1).await;
    assert_eq!((again.len(), again[0].of), (1, claimed[0].of), "the first attempt still");
    settle(&ground, &again, 500, NOW + 1).await;
    let retry = claim(&ground, Lane::Retry, 10, NOW + MINUTE).await;
    release(&retry).await;
    let retry = claim(&ground, Lane::Retry, 10, NOW + MINUTE).await;
    assert_eq!(retry[0].of.attempt, 2);
    // What was settled in the meantime is not given back.
    settle(&ground, &retry, 200, NOW + MINUTE).await;
    release(&retry).await;
    assert_eq!(statuses(&ground, &webhook).await.last(), Some(&Delivered));
    assert!(claim(&ground, Lane::Retry, 10, NOW + 2 * MINUTE).await.is_empty());
}

pub(super) async fn a_delivery_whose_leases_are_all_lost_ends(ground: Ground) {
    let webhook = create(&ground, settings()).await;
    prove(&ground, NOW).await;
    happen(&ground, 1).await;
    fan_out(&ground, NOW).await;
    let mut now = NOW;
    for attempt in 1..=50 {
        let lane = if attempt == 1 { Lane::First } else { Lane::Retry };
        assert_eq!(claim(&ground, lane, 10, now).await.len(), 1, "{attempt}");
        now += LEASE;
    }
    assert!(claim(&ground, Lane::Retry, 10, now).await.is_empty());
    assert_eq!(statuses(&ground, &webhook).await, [Delivered, Failed]);
}

pub(super) async fn a_webhook_receives_only_what_its_scopes_permit_now(ground: Ground) {
    let retry = Some(RetryPolicy { max_retries: 0, delay: 5_000 });
    let webhook = create(&ground, WebhookSettings { retry, ..settings() }).await;
    prove(&ground, NOW).await;
    happen(&ground, 1).await;
    fan_out(&ground, NOW).await;
    settle(&ground, &claim(&ground, Lane::First, 10, NOW).await, 500, NOW).await;
    happen(&ground, 2).await;
    fan_out(&ground, NOW).await;
    // A key that may not read messages changes it, perhaps with another URL.
    let scopes = [Scope::ChannelsRead].into_iter().collect();
    change(&ground, &webhook, WebhookSettings { scopes, retry, ..settings() }, NOW).await;
    let dead = log(&ground, &webhook).await.remove(1);
    let replay = ground.store.replay_delivery(owner(&ground), webhook.id, dead.id, NOW).await;
    assert_eq!(replay.expect("answered"), Replay::Scheduled);
    for lane in Lane::ALL {
        assert_eq!(claim(&ground, lane, 10, NOW).await, []);
    }
    assert_eq!(statuses(&ground, &webhook).await, [Delivered, Failed, Failed]);
}

pub(super) async fn failing_webhooks_take_no_slots_of_others(ground: Ground) {
    for _ in 0..20 {
        create(&ground, settings()).await;
    }
    for subject in 1..6 {
        happen(&ground, subject).await;
    }
    fan_out(&ground, NOW).await;
    let first = claim(&ground, Lane::First, 100, NOW).await;
    assert_eq!(first.len(), 40, "two of each");
    settle(&ground, &first, 500, NOW).await;
    let healthy = create_at(&ground, settings(), cursor(&ground).await).await;
    happen(&ground, 6).await;
    fan_out(&ground, NOW + 1).await;
    let claimed = claim(&ground, Lane::First, 100, NOW + 1).await;
    assert_eq!(claimed.iter().map(|one| one.of.webhook).collect::<Vec<_>>(), [healthy.key]);
    settle(&ground, &claimed, 200, NOW + 1).await;
    assert_eq!(claim(&ground, Lane::Retry, 100, NOW + MINUTE).await, []);
    assert_eq!(claim(&ground, Lane::Failing, 100, NOW + MINUTE).await.len(), 40);
}

pub(super) async fn webhooks_are_served_in_turn(ground: Ground) {
    let webhooks = [create(&ground, settings()).await, create(&ground, settings()).await];
    prove(&ground, NOW).await;
    for subject in 1..5 {
        happen(&ground, subject).await;
    }
    fan_out(&ground, NOW).await;
    let mut turns = Vec::new();
    for at in 1..=4 {
        let claimed = claim(&ground, Lane::First, 1, NOW + at).await;
        settle(&ground, &claimed, 200, NOW + at).await;
        turns.push(claimed[0].of.webhook);
    }
    let [one, two] = webhooks.map(|webhook| webhook.key);
    assert_eq!(turns, [one, two, one, two]);
    // One claim takes the first of each before the second of any.
    let claimed = claim(&ground, Lane::First, 3, NOW + 9).await;
    assert_eq!(claimed.iter().map(|one| one.of.webhook).collect::<BTreeSet<_>>().len(), 2);
}
