//! The fan-out: which events become deliveries.

use recado_domain::api_key::{Environment, Scope};
use recado_domain::event::Patterns;
use recado_domain::webhook::{FanOut, Lane, WEBHOOKS, WebhookSettings};

use super::webhooks::{
    behind, claim, create, create_at, cursor, event, fan_out, happen, lead, log, owner, set_active, settings, settle,
    step,
};
use crate::fixtures::{DAY, Ground, NOW};

pub(super) async fn each_accepted_event_has_one_delivery(ground: Ground) {
    let all = create(&ground, settings()).await;
    let events = Patterns::from_stored("contact.*");
    let contacts = create(&ground, WebhookSettings { events, ..settings() }).await;
    let blind = [Scope::ChannelsRead].into_iter().collect();
    let blind = create(&ground, WebhookSettings { scopes: blind, ..settings() }).await;
    happen(&ground, 1).await;
    assert!(ground.store.record_event(event(&ground, "contact.created", 2, None)).await.expect("stored"));
    let after = lead(&ground, NOW).await.expect("a cursor");
    let done = step(&ground, after, NOW + 7).await;
    assert_eq!((done.is_ours, done.deliveries), (true, 3));
    // Another node with the same page comes too late.
    let again = step(&ground, after, NOW).await;
    assert_eq!(again, FanOut { cursor: done.cursor, deliveries: 0, is_ours: false });
    assert_eq!(fan_out(&ground, NOW).await, 0);
    let names = async |webhook| log(&ground, webhook).await.into_iter().map(|one| one.event).collect::<Vec<_>>();
    assert_eq!(names(&all).await, ["message.sent", "contact.created"]);
    assert_eq!(names(&contacts).await, ["contact.created"]);
    assert_eq!(names(&blind).await, Vec::<String>::new());
    let delivery = log(&ground, &contacts).await.remove(0);
    let of = ground.store.event(owner(&ground), delivery.event_seq).await.expect("read").expect("an event");
    assert_eq!((delivery.event_id, delivery.created_at, delivery.attempt), (of.id(), NOW + 7, 0));
    let found = ground.store.delivery(owner(&ground), contacts.id, delivery.id).await.expect("read");
    assert_eq!(found.as_ref(), Some(&delivery));
    assert_eq!(ground.store.delivery(owner(&ground), all.id, delivery.id).await.expect("read"), None);
    let other = (ground.institution, Environment::Test);
    assert_eq!(ground.store.delivery(other, contacts.id, delivery.id).await.expect("read"), None);
}

pub(super) async fn waiting_deliveries_are_counted(ground: Ground) {
    let (busy, idle) = (create(&ground, settings()).await, create(&ground, settings()).await);
    let idle = set_active(&ground, &idle, false, NOW).await;
    for subject in 1..=3 {
        happen(&ground, subject).await;
    }
    fan_out(&ground, NOW + 7).await;
    let claimed = claim(&ground, Lane::First, 1, NOW + 8).await;
    let counted = async || {
        let found = ground.store.webhook_backlogs().await.expect("read");
        found
            .into_iter()
            .map(|one| (one.institution, one.id, one.disabled, one.waiting, one.oldest))
            .collect::<Vec<_>>()
    };
    let (of, none) = (ground.institution, (ground.institution, idle.id, false, 0, None));
    assert_eq!(counted().await, [(of, busy.id, false, 3, Some(NOW + 7)), none], "one is in flight");
    settle(&ground, &claimed, 200, NOW + 9).await;
    assert_eq!(counted().await, [(of, busy.id, false, 2, Some(NOW + 7)), none]);
}

pub(super) async fn a_webhook_receives_only_events_behind_its_beginning(ground: Ground) {
    assert_eq!(lead(&ground, NOW).await, None, "no webhook is active");
    ground.record_messages(Environment::Live, true).await;
    happen(&ground, 1).await;
    let first = create_at(&ground, settings(), cursor(&ground).await).await;
    assert_eq!(lead(&ground, NOW).await, Some(cursor(&ground).await), "it does not begin at the first event");
    happen(&ground, 2).await;
    let second = create_at(&ground, settings(), cursor(&ground).await).await;
    happen(&ground, 3).await;
    assert_eq!(fan_out(&ground, NOW).await, 3);
    assert_eq!((log(&ground, &first).await.len(), log(&ground, &second).await.len()), (2, 1));
    let second = set_active(&ground, &second, false, NOW).await;
    happen(&ground, 4).await;
    assert_eq!(fan_out(&ground, NOW).await, 1);
    happen(&ground, 5).await;
    let second = set_active(&ground, &second, true, NOW).await;
    happen(&ground, 6).await;
    assert_eq!(fan_out(&ground, NOW).await, 3);
    assert_eq!(log(&ground, &second).await.len(), 2, "those of events 3 and 6");
}

pub(super) async fn a_long_step_of_the_fan_out_ends_early(ground: Ground) {
    for _ in 0..WEBHOOKS {
        create(&ground, settings()).await;
    }
    for subject in 0..25 {
        happen(&ground, subject).await;
    }
    let done = step(&ground, 0, NOW).await;
    assert_eq!(done.deliveries, 500);
    assert_eq!(fan_out(&ground, NOW).await, 750);
}

pub(super) async fn one_node_leads_the_fan_out(ground: Ground) {
    create(&ground, settings()).await;
    let lead = async |node, now| ground.store.lead_fan_out([node; 16], now, now + 10_000).await.expect("stored");
    assert_eq!(lead(1, NOW).await, Some(0));
    assert_eq!(lead(2, NOW + 9_999).await, None);
    assert_eq!(lead(1, NOW + 9_999).await, Some(0), "renewed");
    assert_eq!(lead(2, NOW + 10_001).await, None);
    assert_eq!(lead(2, NOW + 30_000).await, Some(0));
    assert_eq!(lead(1, NOW + 30_000).await, None);
    ground.store.leave_fan_out([1; 16]).await.expect("stored");
    assert_eq!(lead(1, NOW + 30_000).await, None, "only the lease of the node itself ends");
    ground.store.leave_fan_out([2; 16]).await.expect("stored");
    assert_eq!(lead(1, NOW + 30_000).await, Some(0), "without a wait");
    ground.store.leave_fan_out([1; 16]).await.expect("stored");
    // A lease of another store, or of a time when the clock was wrong.
    let long = ground.store.lead_fan_out([2; 16], NOW + 30_000, NOW + 1_000 * DAY).await.expect("stored");
    assert_eq!((long, lead(1, NOW + 30_000).await), (Some(0), Some(0)));
}

/// All nodes may have been down for longer than events are kept.
pub(super) async fn events_that_webhooks_wait_for_stay_until_the_fan_out_has_read_them(ground: Ground) {
    let webhook = create(&ground, settings()).await;
    let purge = async |events_before| {
        let purge = recado_domain::queue::PurgeRequest {
            now: NOW + 40 * DAY,
            finished_before: 0,
            used_before: 0,
            events_before,
            after: 0,
        };
        ground.store.purge(purge).await.expect("purged");
        behind(&ground, 0).await.len()
    };
    happen(&ground, 1).await;
    assert_eq!(fan_out(&ground, NOW).await, 1);
    happen(&ground, 2).await;
    assert_eq!(purge(NOW + 1).await, 1, "the delivery of the first exists");
    assert_eq!(fan_out(&ground, NOW).await, 1);
    assert_eq!(purge(NOW + 1).await, 0);
    // The wait has a limit.
    happen(&ground, 3).await;
    assert_eq!(purge(NOW + 14 * DAY).await, 1);
    assert_eq!(purge(NOW + 14 * DAY + 1).await, 0);
    // Without a webhook, events wait for nothing.
    happen(&ground, 4).await;
    assert!(ground.store.delete_webhook(owner(&ground), webhook.id).await.expect("stored"));
    assert_eq!(purge(NOW + 1).await, 0);
}
