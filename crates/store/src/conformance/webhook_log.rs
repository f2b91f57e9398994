//! The log of deliveries: replays, pages and deletion.

use recado_domain::event::{EventSeq, Patterns};
use recado_domain::ids::WebhookId;
use recado_domain::webhook::DeliveryStatus::{Delivered, Failed, Pending};
use recado_domain::webhook::{
    DELIVERY_RETENTION, DeliveryOrder, DeliveryQuery, Lane, Replay, ReplayBatch, ReplayQuery, ReplayStatus,
    RetryPolicy, WebhookSettings,
};

use super::webhooks::{
    claim, create, event, fan_out, happen, log, owner, prove, query, set_active, settings, settle, statuses, subjects,
    tidy,
};
use crate::fixtures::{DAY, Ground, MINUTE, NOW};

pub(super) async fn a_dead_letter_is_sent_again(ground: Ground) {
    let retry = Some(RetryPolicy { max_retries: 0, delay: 5_000 });
    let webhook = create(&ground, WebhookSettings { retry, ..settings() }).await;
    prove(&ground, NOW).await;
    happen(&ground, 1).await;
    fan_out(&ground, NOW).await;
    settle(&ground, &claim(&ground, Lane::First, 10, NOW).await, 500, NOW).await;
    let dead = log(&ground, &webhook).await.remove(1);
    assert_eq!(dead.status, Failed);
    let replay = async |webhook, id| {
        ground.store.replay_delivery(owner(&ground), webhook, id, NOW + DAY).await.expect("answered")
    };
    assert_eq!(replay(webhook.id, dead.id).await, Replay::Scheduled);
    assert_eq!(replay(webhook.id, dead.id).await, Replay::Scheduled, "it waits already");
    let again = claim(&ground, Lane::Retry, 10, NOW + DAY).await;
    assert_eq!((again.len(), again[0].id, again[0].of.attempt, again[0].replay), (1, dead.id, 2, true));
    settle(&ground, &again, 200, NOW + DAY).await;
    let sent = log(&ground, &webhook).await.remove(1);
    assert_eq!((sent.status, sent.replay, sent.delivered_at), (Delivered, true, Some(NOW + DAY)));
    assert_eq!(sent.attempts.iter().map(|one| one.replay).collect::<Vec<_>>(), [false, true]);
    assert_eq!(replay(WebhookId::new(1, [9; 10]), dead.id).await, Replay::NotFound);
    set_active(&ground, &webhook, false, NOW).await;
    assert_eq!(replay(webhook.id, dead.id).await, Replay::Inactive);
    assert_eq!(ground.store.forget_events(vec![[200; 16]]).await.expect("deleted"), 1);
    let gone = log(&ground, &webhook).await;
    assert_eq!(gone.len(), 1, "the other one's event was erased");
}

pub(super) async fn many_deliveries_are_sent_again_in_order(ground: Ground) {
    let retry = Some(RetryPolicy { max_retries: 0, delay: 5_000 });
    let webhook = create(&ground, WebhookSettings { retry, ..settings() }).await;
    prove(&ground, NOW).await;
    for subject in [1, 2, 1, 3] {
        happen(&ground, subject).await;
        fan_out(&ground, NOW + MINUTE).await;
        let claimed = claim(&ground, Lane::First, 1, NOW + MINUTE).await;
        let code = if subject == 3 { 200 } else { 500 };
        settle(&ground, &claimed, code, NOW + MINUTE).await;
    }
    let ask = |status, after| ReplayQuery {
        owner: owner(&ground),
        webhook: webhook.id,
        from: Some(NOW + MINUTE),
        to: Some(NOW + 2 * MINUTE),
        events: Some(Patterns::from_stored("message.*")),
        status,
        after,
        until: EventSeq::MAX,
        limit: 2,
        now: NOW + DAY,
    };
    let replay = async |query| ground.store.replay_deliveries(query).await.expect("stored");
    let ReplayBatch::Scheduled { count: 2, next: Some(next) } = replay(ask(ReplayStatus::Failed, 0)).await else {
        panic!("there are three dead letters");
    };
    let last = replay(ask(ReplayStatus::Failed, next)).await;
    assert_eq!(last, ReplayBatch::Scheduled { count: 1, next: None });
    assert_eq!(statuses(&ground, &webhook).await, [Delivered, Pending, Pending, Pending, Delivered]);
    let again = claim(&ground, Lane::Retry, 10, NOW + DAY).await;
    assert_eq!(subjects(&again), [1, 2], "the events of a message wait for one another");
    settle(&ground, &again, 200, NOW + DAY).await;
    let third = claim(&ground, Lane::Retry, 10, NOW + DAY).await;
    assert_eq!(subjects(&third), [1]);
    settle(&ground, &third, 200, NOW + DAY).await;
    let all = ReplayQuery { limit: 100, ..ask(ReplayStatus::All, 0) };
    assert_eq!(replay(all.clone()).await, ReplayBatch::Scheduled { count: 4, next: None });
    let none = ReplayQuery { from: Some(NOW + 2 * MINUTE), to: None, ..all.clone() };
    assert_eq!(replay(none).await, ReplayBatch::Scheduled { count: 0, next: None });
    let other = ReplayQuery { webhook: WebhookId::new(1, [9; 10]), ..all.clone() };
    assert_eq!(replay(other).await, ReplayBatch::NotFound);
    set_active(&ground, &webhook, false, NOW).await;
    assert_eq!(replay(all).await, ReplayBatch::Inactive);
}

pub(super) async fn a_log_has_pages_and_filters(ground: Ground) {
    let webhook = create(&ground, settings()).await;
    prove(&ground, NOW).await;
    for subject in 1..=4 {
        happen(&ground, subject).await;
        fan_out(&ground, NOW + MINUTE * i64::from(subject)).await;
    }
    assert!(ground.store.record_event(event(&ground, "contact.created", 9, None)).await.expect("stored"));
    fan_out(&ground, NOW + 5 * MINUTE).await;
    let page = async |query| {
        let page = ground.store.deliveries(query).await.expect("read").expect("a webhook");
        let ages: Vec<_> = page.deliveries.iter().map(|one| (one.created_at - NOW) / MINUTE).collect();
        (ages, page.next)
    };
    let all = query(&ground, &webhook);
    let (ages, next) = page(DeliveryQuery { limit: 4, ..all.clone() }).await;
    assert_eq!(ages, [5, 4, 3, 2]);
    assert_eq!(page(DeliveryQuery { before: next, limit: 4, ..all.clone() }).await, (vec![1, 0], None));
    assert_eq!(page(DeliveryQuery { offset: 4, limit: 4, ..all.clone() }).await, (vec![1, 0], None));
    let table = [
        (DeliveryQuery { status: Some(Delivered), ..all.clone() }, vec![0]),
        (DeliveryQuery { status: Some(Failed), ..all.clone() }, vec![]),
        (DeliveryQuery { status: Some(Pending), limit: 9, ..all.clone() }, vec![5, 4, 3, 2, 1]),
        (DeliveryQuery { event: Some("contact.created".to_owned()), ..all.clone() }, vec![5]),
        (DeliveryQuery { from: Some(NOW + 2 * MINUTE), to: Some(NOW + 4 * MINUTE), ..all.clone() }, vec![3, 2]),
    ];
    for (query, ages) in table {
        let count = ages.len();
        assert_eq!(ground.store.count_deliveries(query.clone(), 3).await.expect("read"), count.min(3));
        assert_eq!(page(query.clone()).await, (ages, None), "{query:?}");
    }
    let other = DeliveryQuery { webhook: WebhookId::new(1, [9; 10]), ..all };
    assert_eq!(ground.store.deliveries(other).await.expect("read"), None);
}

pub(super) async fn deliveries_of_a_deleted_webhook_are_deleted(ground: Ground) {
    let deleted = create(&ground, settings()).await;
    let kept = create(&ground, settings()).await;
    for subject in 1..=3 {
        happen(&ground, subject).await;
    }
    fan_out(&ground, NOW).await;
    let claimed = claim(&ground, Lane::First, 4, NOW).await;
    assert!(ground.store.delete_webhook(owner(&ground), deleted.id).await.expect("stored"));
    assert_eq!(settle(&ground, &claimed, 500, NOW).await, 0, "it hurts nothing that one was in flight");
    tidy(&ground, NOW).await;
    assert!(claim(&ground, Lane::Failing, 100, NOW + DAY).await.iter().all(|one| one.of.webhook == kept.key));
    assert_eq!(log(&ground, &kept).await.len(), 3);
    let created = create(&ground, settings()).await;
    assert_eq!(log(&ground, &created).await, [], "whichever key it got");
}

pub(super) async fn old_deliveries_are_deleted(ground: Ground) {
    let webhook = create(&ground, settings()).await;
    prove(&ground, NOW).await;
    happen(&ground, 1).await;
    fan_out(&ground, NOW).await;
    happen(&ground, 1).await;
    fan_out(&ground, NOW + 1).await;
    tidy(&ground, NOW + DELIVERY_RETENTION).await;
    assert_eq!(log(&ground, &webhook).await.len(), 3);
    tidy(&ground, NOW + DELIVERY_RETENTION + 1).await;
    assert_eq!(log(&ground, &webhook).await.len(), 1);
    let claimed = claim(&ground, Lane::First, 10, NOW + DELIVERY_RETENTION + 1).await;
    assert_eq!(subjects(&claimed), [1], "it waited for one that is gone");
}

pub(super) async fn erasing_an_event_erases_its_deliveries(ground: Ground) {
    let order = DeliveryOrder::Conversation;
    let webhook = create(&ground, WebhookSettings { order, ..settings() }).await;
    prove(&ground, NOW).await;
    for subject in [1, 2] {
        let event = event(&ground, "message.received", subject, Some(50));
        assert!(ground.store.record_event(event).await.expect("stored"));
    }
    fan_out(&ground, NOW).await;
    assert_eq!(ground.store.forget_events(vec![[1; 16]]).await.expect("deleted"), 1);
    assert_eq!(log(&ground, &webhook).await.len(), 2);
    let claimed = claim(&ground, Lane::First, 10, NOW).await;
    assert_eq!(subjects(&claimed), [2], "it waited for one that is gone");
    // The result of an attempt whose delivery was erased in the meantime changes nothing.
    assert_eq!(ground.store.forget_events(vec![[2; 16]]).await.expect("deleted"), 1);
    settle(&ground, &claimed, 200, NOW).await;
    assert_eq!(log(&ground, &webhook).await.len(), 1);
}

pub(super) async fn a_delivery_without_its_event_is_a_dead_letter(ground: Ground) {
    let webhook = create(&ground, settings()).await;
    prove(&ground, NOW).await;
    happen(&ground, 1).await;
    fan_out(&ground, NOW).await;
    let purge = recado_domain::queue::PurgeRequest {
        now: NOW,
        finished_before: 0,
        used_before: 0,
        events_before: NOW + 1,
        after: 0,
    };
    ground.store.purge(purge).await.expect("purged");
    happen(&ground, 1).await;
    fan_out(&ground, NOW).await;
    assert!(claim(&ground, Lane::First, 10, NOW).await.is_empty());
    let delivery = log(&ground, &webhook).await.remove(1);
    assert_eq!((delivery.status, delivery.attempt, delivery.failed_at), (Failed, 0, Some(NOW)));
    let replay = ground.store.replay_delivery(owner(&ground), webhook.id, delivery.id, NOW).await;
    assert_eq!(replay.expect("answered"), Replay::EventGone);
    assert_eq!(claim(&ground, Lane::First, 10, NOW).await.len(), 1, "the next event of the message");
}
