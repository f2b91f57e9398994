//! What the results of attempts change.

use recado_domain::webhook::DeliveryStatus::{Delivered, Failed, Pending};
use recado_domain::webhook::{ClaimedDelivery, DeliveryResult, Lane};

use super::webhooks::{
    behind, claim, create, cursor, ended, fan_out, happen, log, prove, read, set_active, settings, settle, statuses,
    subjects, tidy,
};
use crate::fixtures::{DAY, Ground, NOW};

pub(super) async fn a_failed_delivery_is_tried_again_and_becomes_a_dead_letter(ground: Ground) {
    let webhook = create(&ground, settings()).await;
    prove(&ground, NOW).await;
    happen(&ground, 1).await;
    fan_out(&ground, NOW).await;
    let (mut now, mut lane) = (NOW, Lane::First);
    for attempt in 1..=3 {
        let claimed = claim(&ground, lane, 10, now).await;
        assert_eq!((claimed.len(), claimed[0].of.attempt, claimed[0].replay), (1, attempt, false));
        settle(&ground, &claimed, 500, now + 1).await;
        assert!(claim(&ground, Lane::Retry, 10, now + 5_000).await.is_empty(), "not before its time");
        (now, lane) = (now + 5_001, Lane::Retry);
    }
    assert!(claim(&ground, Lane::Retry, 10, now + DAY).await.is_empty());
    let delivery = log(&ground, &webhook).await.remove(1);
    assert_eq!((delivery.status, delivery.next_attempt_at, delivery.failed_at), (Failed, None, Some(now - 5_000)));
    let shown: Vec<_> =
        delivery.attempts.iter().map(|one| (one.attempt, one.status_code, one.error.as_deref())).collect();
    let error = Some("HTTP_STATUS");
    assert_eq!(shown, [(1, Some(500), error), (2, Some(500), error), (3, Some(500), error)]);
    assert_eq!(read(&ground, webhook.id).await.failing_since, Some(NOW + 1));
    // Five failures in a row and more: two at a time, in a lane of their own, until one succeeds.
    for subject in 2..6 {
        happen(&ground, subject).await;
    }
    fan_out(&ground, now).await;
    let two = claim(&ground, Lane::First, 10, now).await;
    assert_eq!(two.len(), 2);
    settle(&ground, &two, 500, now).await;
    assert!(claim(&ground, Lane::First, 10, now).await.is_empty());
    let probes = claim(&ground, Lane::Failing, 10, now).await;
    assert_eq!(subjects(&probes), [4, 5]);
    settle(&ground, &probes, 200, now).await;
    assert_eq!(read(&ground, webhook.id).await.failing_since, None);
    assert_eq!(claim(&ground, Lane::Retry, 10, now + 5_000).await.len(), 2);
}

pub(super) async fn a_webhook_that_only_fails_is_disabled(ground: Ground) {
    let webhook = create(&ground, settings()).await;
    let other = create(&ground, settings()).await;
    for subject in 1..4 {
        happen(&ground, subject).await;
    }
    fan_out(&ground, NOW).await;
    let of = |claimed: Vec<ClaimedDelivery>, key| {
        claimed.into_iter().filter(|one| one.of.webhook == key).collect::<Vec<_>>()
    };
    let mine = of(claim(&ground, Lane::First, 10, NOW).await, webhook.key);
    assert_eq!(settle(&ground, &mine[..1], 500, NOW).await, 0);
    let later = NOW + 5 * DAY - 1;
    let mine = of(claim(&ground, Lane::Failing, 10, later).await, webhook.key);
    assert_eq!(settle(&ground, &mine[..1], 500, later).await, 0);
    let before = cursor(&ground).await;
    // One is in flight while the webhook is disabled.
    assert_eq!(settle(&ground, &mine[1..], 500, later + 1).await, 1);
    let disabled = read(&ground, webhook.id).await;
    assert_eq!((disabled.settings.active, disabled.disabled_at), (false, Some(later + 1)));
    let events = behind(&ground, before).await;
    assert_eq!(events.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), ["webhook.disabled"]);
    let data = format!(
        r#"{{"webhook":{{"id":"{}","name":"loja.exemplo.com","url":"https://loja.exemplo.com/eventos"}},"failingSince":"2027-01-15T08:00:00.000Z"}}"#,
        webhook.id
    );
    assert_eq!(events[0].data, data);
    fan_out(&ground, later + 1).await;
    assert_eq!(log(&ground, &other).await.len(), 4, "the other one gets the event");
    assert!(of(claim(&ground, Lane::Failing, 10, later + DAY).await, webhook.key).is_empty());
    tidy(&ground, later + DAY).await;
    assert_eq!(statuses(&ground, &webhook).await, [Failed, Failed, Failed]);
    // It begins again: with later events, and without its failures.
    let enabled = set_active(&ground, &webhook, true, later + DAY).await;
    assert_eq!((enabled.disabled_at, enabled.failing_since), (None, None));
    happen(&ground, 9).await;
    fan_out(&ground, later + DAY).await;
    let mine = of(claim(&ground, Lane::First, 10, later + DAY).await, webhook.key);
    assert_eq!((subjects(&mine), settle(&ground, &mine, 500, later + DAY).await), (vec![9], 0));
}

pub(super) async fn a_webhook_whose_address_is_gone_is_disabled_at_once(ground: Ground) {
    let webhook = create(&ground, settings()).await;
    prove(&ground, NOW).await;
    for subject in 1..4 {
        happen(&ground, subject).await;
    }
    fan_out(&ground, NOW).await;
    let claimed = claim(&ground, Lane::First, 2, NOW).await;
    assert_eq!(settle(&ground, &claimed[..1], 410, NOW).await, 1);
    assert!(!read(&ground, webhook.id).await.settings.active);
    // The result of the other one counts, and the rest are dead letters.
    tidy(&ground, NOW).await;
    assert_eq!(statuses(&ground, &webhook).await, [Delivered, Failed, Pending, Failed]);
    let enabled = set_active(&ground, &webhook, true, NOW).await;
    happen(&ground, 5).await;
    fan_out(&ground, NOW).await;
    assert!(claim(&ground, Lane::First, 10, NOW).await.is_empty(), "first the former deliveries end");
    settle(&ground, &claimed[1..], 500, NOW).await;
    tidy(&ground, NOW).await;
    assert_eq!(statuses(&ground, &webhook).await, [Delivered, Failed, Failed, Failed, Pending]);
    assert_eq!(subjects(&claim(&ground, Lane::First, 10, NOW).await), [5]);
    assert!(enabled.settings.active);
}

pub(super) async fn a_webhook_opens_again_when_its_last_attempt_ends(ground: Ground) {
    let webhook = create(&ground, settings()).await;
    prove(&ground, NOW).await;
    happen(&ground, 1).await;
    fan_out(&ground, NOW).await;
    let claimed = claim(&ground, Lane::First, 2, NOW).await;
    set_active(&ground, &webhook, false, NOW).await;
    set_active(&ground, &webhook, true, NOW).await;
    happen(&ground, 2).await;
    fan_out(&ground, NOW).await;
    assert!(claim(&ground, Lane::First, 10, NOW).await.is_empty(), "one of the time before is in flight");
    settle(&ground, &claimed, 200, NOW).await;
    assert_eq!(subjects(&claim(&ground, Lane::First, 10, NOW).await), [2]);
}

pub(super) async fn an_address_that_is_gone_counts_beside_a_success(ground: Ground) {
    let webhook = create(&ground, settings()).await;
    prove(&ground, NOW).await;
    for subject in 1..3 {
        happen(&ground, subject).await;
    }
    fan_out(&ground, NOW).await;
    let claimed = claim(&ground, Lane::First, 2, NOW).await;
    let result = |n: usize, code| DeliveryResult { of: claimed[n].of, ended: ended(code, NOW) };
    let disabled = ground.store.record_attempts(vec![result(0, 410), result(1, 200)], NOW).await.expect("stored");
    assert_eq!(disabled, [webhook.key]);
}
