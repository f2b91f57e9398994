//! Webhooks and their deliveries.

use std::collections::BTreeSet;

use recado_domain::api_key::{Environment, Scope, Scopes};
use recado_domain::clock::Millis;
use recado_domain::event::{ChatKind, Event, EventPage, EventSeq, NewEvent, Owner, Patterns};
use recado_domain::ids::WebhookId;
use recado_domain::webhook::{
    Attempt, ClaimedDelivery, DELIVERY_RETENTION, Delivery, DeliveryClaim, DeliveryError, DeliveryOrder, DeliveryQuery,
    DeliveryResult, DeliveryStatus, FanOut, Lane, NewWebhook, PreviousSecret, Replay, ReplayBatch, ReplayQuery,
    ReplayStatus, RetryPolicy, SealedWebhook, WEBHOOKS, Webhook, WebhookCreated, WebhookSettings, WebhookUpdate,
    WebhookUpdated,
};

use crate::fixtures::{DAY, Ground, MINUTE, NOW};

const LEASE: Millis = 45_000;

pub(crate) fn settings() -> WebhookSettings {
    WebhookSettings {
        name: "loja.exemplo.com".to_owned(),
        url: "https://loja.exemplo.com/eventos".to_owned(),
        events: Patterns::from_stored("*"),
        scopes: Scopes::all(),
        channels: None,
        chats: vec![ChatKind::Direct],
        content: true,
        order: DeliveryOrder::Message,
        retry: Some(RetryPolicy { max_retries: 2, delay: 5_000 }),
        active: true,
        secret: vec![1, 0, 255],
        previous_secret: None,
        header_names: Vec::new(),
        headers: None,
    }
}

pub(crate) fn owner(ground: &Ground) -> Owner {
    (ground.institution, Environment::Live)
}

pub(crate) async fn create_at(ground: &Ground, settings: WebhookSettings, after: EventSeq) -> Webhook {
    let id = WebhookId::new(NOW, ground.unique());
    let new = NewWebhook { id, owner: owner(ground), settings, after, now: NOW };
    match ground.store.create_webhook(new).await.expect("stored") {
        WebhookCreated::Created(webhook) => *webhook,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn create(ground: &Ground, settings: WebhookSettings) -> Webhook {
    create_at(ground, settings, 0).await
}

pub(crate) async fn read(ground: &Ground, id: WebhookId) -> Webhook {
    ground.store.webhook(owner(ground), id).await.expect("read").expect("a webhook")
}

/// Changes a webhook.
async fn change(ground: &Ground, webhook: &Webhook, settings: WebhookSettings, now: Millis) -> Webhook {
    let revision = read(ground, webhook.id).await.revision;
    let after = cursor(ground).await;
    let update = WebhookUpdate { id: webhook.id, owner: owner(ground), settings, revision, after, now };
    match ground.store.update_webhook(update).await.expect("stored") {
        WebhookUpdated::Updated(webhook) => *webhook,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn set_active(ground: &Ground, webhook: &Webhook, active: bool, now: Millis) -> Webhook {
    let settings = WebhookSettings { active, ..read(ground, webhook.id).await.settings };
    change(ground, webhook, settings, now).await
}

pub(crate) fn event(ground: &Ground, name: &'static str, subject: u8, conversation: Option<u8>) -> NewEvent {
    NewEvent {
        owner: owner(ground),
        channel: None,
        name,
        subject: [subject; 16],
        conversation: conversation.map(|id| [id; 16]),
        chat: ChatKind::Direct,
        at: NOW,
        data: "{}".to_owned(),
    }
}

/// Records an event of this message.
async fn happen(ground: &Ground, subject: u8) {
    assert!(ground.store.record_event(event(ground, "message.sent", subject, None)).await.expect("stored"));
}

/// The number of the last event.
async fn cursor(ground: &Ground) -> EventSeq {
    behind(ground, 0).await.last().map_or(0, |event| event.seq)
}

/// The events behind a number. No other task writes, so no number is missing.
async fn behind(ground: &Ground, after: EventSeq) -> Vec<Event> {
    let mut events = Vec::new();
    for (seq, _) in ground.store.event_times(after, usize::MAX).await.expect("read") {
        events.extend(ground.store.event(owner(ground), seq).await.expect("read"));
    }
    events
}

async fn lead(ground: &Ground, now: Millis) -> Option<EventSeq> {
    ground.store.lead_fan_out([1; 16], now, now + 10_000).await.expect("stored")
}

async fn step(ground: &Ground, after: EventSeq, now: Millis) -> FanOut {
    let events = behind(ground, after).await;
    let cursor = events.last().map_or(after, |event| event.seq);
    ground.store.fan_out(after, EventPage { events, cursor }, now).await.expect("stored")
}

/// Creates the deliveries of all events so far; how many there were.
pub(crate) async fn fan_out(ground: &Ground, now: Millis) -> usize {
    let mut created = 0;
    while let Some(after) = lead(ground, now).await {
        let done = step(ground, after, now).await;
        assert!(done.is_ours);
        created += done.deliveries;
        if done.cursor == after {
            break;
        }
    }
    created
}

pub(crate) async fn claim(ground: &Ground, lane: Lane, limit: usize, now: Millis) -> Vec<ClaimedDelivery> {
    let claim = DeliveryClaim { lane, limit, now, lease_until: now + LEASE };
    ground.store.claim_deliveries(claim, Vec::new()).await.expect("stored").deliveries
}

/// The subjects of claimed deliveries.
fn subjects(claimed: &[ClaimedDelivery]) -> Vec<u8> {
    claimed.iter().map(|claimed| claimed.event.subject.map_or(0, |subject| subject[0])).collect()
}

fn ended(code: u16, at: Millis) -> Attempt {
    let error = (!(200..300).contains(&code)).then_some(DeliveryError::HttpStatus);
    Attempt { at, status_code: Some(code), response_time: 12, error, retry_after: None, random: 0 }
}

/// Stores that these attempts ended with a status code; how many webhooks were disabled.
pub(crate) async fn settle(ground: &Ground, claimed: &[ClaimedDelivery], code: u16, now: Millis) -> usize {
    let results = claimed.iter().map(|claimed| DeliveryResult { of: claimed.of, ended: ended(code, now) }).collect();
    ground.store.record_attempts(results, now).await.expect("stored").len()
}

fn query(ground: &Ground, webhook: &Webhook) -> DeliveryQuery {
    DeliveryQuery {
        owner: owner(ground),
        webhook: webhook.id,
        status: None,
        event: None,
        from: None,
        to: None,
        before: None,
        offset: 0,
        limit: 100,
    }
}

/// The log of a webhook, oldest first.
async fn log(ground: &Ground, webhook: &Webhook) -> Vec<Delivery> {
    let page = ground.store.deliveries(query(ground, webhook)).await.expect("read").expect("a webhook");
    assert_eq!(page.next, None);
    page.deliveries.into_iter().rev().collect()
}

async fn statuses(ground: &Ground, webhook: &Webhook) -> Vec<DeliveryStatus> {
    log(ground, webhook).await.into_iter().map(|delivery| delivery.status).collect()
}

/// Does all work that no caller waits for.
async fn tidy(ground: &Ground, now: Millis) {
    while ground.store.tidy_deliveries(now).await.expect("stored") {}
}

/// Has a new webhook accept an event, so that it gets all its slots.
async fn prove(ground: &Ground, now: Millis) {
    happen(ground, 200).await;
    fan_out(ground, now).await;
    let claimed = claim(ground, Lane::First, 100, now).await;
    assert!(!claimed.is_empty());
    assert_eq!(settle(ground, &claimed, 200, now).await, 0);
}

use DeliveryStatus::{Delivered, Failed, Pending};

pub(super) async fn a_webhook_comes_back_as_it_was_written(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let all = WebhookSettings {
        name: "Pedidos da loja".to_owned(),
        events: Patterns::from_stored("message.* contact.created"),
        scopes: [Scope::MessagesRead, Scope::ContactsRead].into_iter().collect(),
        channels: Some(vec![channel, 77]),
        chats: ChatKind::ALL.to_vec(),
        content: false,
        order: DeliveryOrder::Conversation,
        previous_secret: Some(PreviousSecret { sealed: vec![9], until: NOW + DAY }),
        header_names: vec!["X-Loja".to_owned(), "Authorization".to_owned()],
        headers: Some(vec![7, 7]),
        ..settings()
    };
    let webhook = create(&ground, all.clone()).await;
    assert_eq!((&webhook.settings, webhook.owner, webhook.revision), (&all, owner(&ground), 1));
    assert_eq!((webhook.created_at, webhook.disabled_at, webhook.failing_since), (NOW, None, None));
    let plain = create(&ground, WebhookSettings { retry: None, active: false, ..settings() }).await;
    assert_eq!(ground.store.webhooks(owner(&ground)).await.expect("read"), [webhook.clone(), plain.clone()]);
    assert_eq!(read(&ground, plain.id).await, plain);
    let other = (ground.institution, Environment::Test);
    assert_eq!(ground.store.webhook(other, webhook.id).await.expect("read"), None);
    assert_eq!(ground.store.webhooks(other).await.expect("read"), []);

    let updated = change(&ground, &webhook, settings(), NOW + 5).await;
    assert_eq!((&updated.settings, updated.revision, updated.updated_at), (&settings(), 2, NOW + 5));
    let update =
        |owner, revision| WebhookUpdate { id: webhook.id, owner, settings: settings(), revision, after: 0, now: NOW };
    let stale = ground.store.update_webhook(update(owner(&ground), 1)).await.expect("answered");
    assert_eq!(stale, WebhookUpdated::Changed);
    let foreign = ground.store.update_webhook(update(other, 2)).await.expect("answered");
    assert_eq!(foreign, WebhookUpdated::NotFound);
    assert!(!ground.store.delete_webhook(other, webhook.id).await.expect("answered"));
    assert!(ground.store.delete_webhook(owner(&ground), webhook.id).await.expect("stored"));
    assert!(!ground.store.delete_webhook(owner(&ground), webhook.id).await.expect("answered"));
    assert_eq!(ground.store.webhooks(owner(&ground)).await.expect("read"), [plain]);
}

pub(super) async fn an_institution_has_fifty_webhooks_in_each_environment(ground: Ground) {
    let mut last = None;
    for _ in 0..WEBHOOKS {
        last = Some(create(&ground, settings()).await);
    }
    let new = |owner| NewWebhook {
        id: WebhookId::new(NOW, ground.unique()),
        owner,
        settings: settings(),
        after: 0,
        now: NOW,
    };
    let create = async |owner| ground.store.create_webhook(new(owner)).await.expect("answered");
    assert_eq!(create(owner(&ground)).await, WebhookCreated::LimitReached);
    let test = (ground.institution, Environment::Test);
    assert!(matches!(create(test).await, WebhookCreated::Created(_)));
    let nobody = (recado_domain::ids::InstitutionId::new(1, [8; 10]), Environment::Live);
    assert_eq!(create(nobody).await, WebhookCreated::NoInstitution);
    let last = last.expect("a webhook");
    assert!(ground.store.delete_webhook(owner(&ground), last.id).await.expect("stored"));
    assert!(matches!(create(owner(&ground)).await, WebhookCreated::Created(_)));
}

pub(super) async fn what_webhooks_want_is_recorded_while_they_are_active(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let kinds = async || {
        let before = cursor(&ground).await;
        ground.accept(channel, "551").await;
        behind(&ground, before).await.into_iter().map(|event| event.kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds().await, Vec::<String>::new());
    let sent = WebhookSettings { events: Patterns::from_stored("message.sent"), ..settings() };
    create(&ground, sent).await;
    assert_eq!(kinds().await, Vec::<String>::new(), "accepting costs nothing more");
    assert!(ground.store.record_event(event(&ground, "contact.created", 1, None)).await.expect("stored"));
    let all = create(&ground, settings()).await;
    assert_eq!(kinds().await, ["message.queued"]);
    let all = set_active(&ground, &all, false, NOW).await;
    assert_eq!(kinds().await, Vec::<String>::new());
    set_active(&ground, &all, true, NOW).await;
    assert_eq!(kinds().await, ["message.queued"]);
    // The log and the webhooks together decide.
    assert!(ground.store.set_event_log(owner(&ground), Patterns::from_stored("*")).await.expect("stored"));
    assert!(ground.store.delete_webhook(owner(&ground), all.id).await.expect("stored"));
    assert_eq!(kinds().await, ["message.queued"]);
    assert!(ground.store.set_event_log(owner(&ground), Patterns::default()).await.expect("stored"));
    assert_eq!(kinds().await, Vec::<String>::new());
}

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
    let told = behind(&ground, before).await;
    assert_eq!(told.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), ["webhook.disabled"]);
    let data = format!(
        r#"{{"webhook":{{"id":"{}","name":"loja.exemplo.com","url":"https://loja.exemplo.com/eventos"}},"failingSince":"2027-01-15T08:00:00.000Z"}}"#,
        webhook.id
    );
    assert_eq!(told[0].data, data);
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

pub(super) async fn only_unchanged_secrets_are_sealed_again(ground: Ground) {
    let previous_secret = Some(PreviousSecret { sealed: vec![9], until: NOW + DAY });
    let first = create(&ground, WebhookSettings { previous_secret, headers: Some(vec![5]), ..settings() }).await;
    let second = create(&ground, settings()).await;
    let all = ground.store.sealed_webhooks(0, 10).await.expect("read");
    assert_eq!(all.iter().map(|sealed| sealed.key).collect::<Vec<_>>(), [first.key, second.key]);
    assert_eq!(ground.store.sealed_webhooks(first.key, 10).await.expect("read"), all[1..]);
    let old = all[0].clone();
    assert_eq!((&old.secret, &old.previous_secret, &old.headers), (&vec![1, 0, 255], &Some(vec![9]), &Some(vec![5])));
    let new = SealedWebhook { secret: vec![2], previous_secret: Some(vec![3]), headers: Some(vec![4]), ..old.clone() };
    let reseal = async |old: &SealedWebhook, new: &SealedWebhook| {
        ground.store.reseal_webhook(old.clone(), new.clone()).await.expect("stored")
    };
    assert!(!reseal(&SealedWebhook { headers: None, ..old.clone() }, &new).await);
    assert!(!reseal(&SealedWebhook { secret: vec![8], ..old.clone() }, &new).await);
    assert!(reseal(&old, &new).await);
    assert_eq!(read(&ground, first.id).await.revision, 2, "no change of the settings brings the old bytes back");
    assert_eq!(ground.store.sealed_webhooks(0, 1).await.expect("read"), [new]);
    let of_second = all[1].clone();
    assert!(reseal(&of_second, &SealedWebhook { secret: vec![6], ..of_second.clone() }).await, "without the others");
    tidy(&ground, NOW + DAY - 1).await;
    assert!(read(&ground, first.id).await.settings.previous_secret.is_some());
    tidy(&ground, NOW + DAY).await;
    assert_eq!(read(&ground, first.id).await.settings.previous_secret, None, "it signs no more");
    assert!(ground.store.delete_webhook(owner(&ground), second.id).await.expect("stored"));
    assert_eq!(ground.store.sealed_webhooks(first.key, 10).await.expect("read"), []);
}
