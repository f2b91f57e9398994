//! Webhooks, and what the tests of their deliveries share.

use recado_domain::api_key::{Environment, Scope};
use recado_domain::clock::Millis;
use recado_domain::event::{ChatKind, Event, EventPage, EventSeq, NewEvent, Owner, Patterns};
use recado_domain::ids::WebhookId;
use recado_domain::webhook::{
    Attempt, ClaimedDelivery, Delivery, DeliveryClaim, DeliveryError, DeliveryOrder, DeliveryQuery, DeliveryResult,
    DeliveryStatus, FanOut, Lane, NewWebhook, PreviousSecret, RetryPolicy, SealedWebhook, WEBHOOKS, Webhook,
    WebhookCreated, WebhookSettings, WebhookUpdate, WebhookUpdated,
};

use crate::fixtures::{DAY, Ground, NOW, new_event, webhook_settings};

pub(super) const LEASE: Millis = 45_000;

pub(crate) fn settings() -> WebhookSettings {
    WebhookSettings { retry: Some(RetryPolicy { max_retries: 2, delay: 5_000 }), ..webhook_settings() }
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
pub(super) async fn change(ground: &Ground, webhook: &Webhook, settings: WebhookSettings, now: Millis) -> Webhook {
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
    NewEvent { name, conversation: conversation.map(|id| [id; 16]), ..new_event(owner(ground), subject) }
}

/// Records an event of this message.
pub(super) async fn happen(ground: &Ground, subject: u8) {
    assert!(ground.store.record_event(event(ground, "message.sent", subject, None)).await.expect("stored"));
}

/// The number of the last event.
pub(super) async fn cursor(ground: &Ground) -> EventSeq {
    behind(ground, 0).await.last().map_or(0, |event| event.seq)
}

/// The events behind a number. No other task writes, so no number is missing.
pub(super) async fn behind(ground: &Ground, after: EventSeq) -> Vec<Event> {
    let mut events = Vec::new();
    for (seq, _) in ground.store.event_times(after, usize::MAX).await.expect("read") {
        events.extend(ground.store.event(owner(ground), seq).await.expect("read"));
    }
    events
}

pub(super) async fn lead(ground: &Ground, now: Millis) -> Option<EventSeq> {
    ground.store.lead_fan_out([1; 16], now, now + 10_000).await.expect("stored")
}

pub(super) async fn step(ground: &Ground, after: EventSeq, now: Millis) -> FanOut {
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
pub(super) fn subjects(claimed: &[ClaimedDelivery]) -> Vec<u8> {
    claimed.iter().map(|claimed| claimed.event.subject.map_or(0, |subject| subject[0])).collect()
}

pub(super) fn ended(code: u16, at: Millis) -> Attempt {
    let error = (!(200..300).contains(&code)).then_some(DeliveryError::HttpStatus);
    Attempt { at, status_code: Some(code), response_time: 12, error, retry_after: None, random: 0 }
}

/// Stores that these attempts ended with a status code; how many webhooks were disabled.
pub(crate) async fn settle(ground: &Ground, claimed: &[ClaimedDelivery], code: u16, now: Millis) -> usize {
    let results = claimed.iter().map(|claimed| DeliveryResult { of: claimed.of, ended: ended(code, now) }).collect();
    ground.store.record_attempts(results, now).await.expect("stored").len()
}

pub(super) fn query(ground: &Ground, webhook: &Webhook) -> DeliveryQuery {
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
pub(super) async fn log(ground: &Ground, webhook: &Webhook) -> Vec<Delivery> {
    let page = ground.store.deliveries(query(ground, webhook)).await.expect("read").expect("a webhook");
    assert_eq!(page.next, None);
    page.deliveries.into_iter().rev().collect()
}

pub(super) async fn statuses(ground: &Ground, webhook: &Webhook) -> Vec<DeliveryStatus> {
    log(ground, webhook).await.into_iter().map(|delivery| delivery.status).collect()
}

/// Does all work that no caller waits for.
pub(super) async fn tidy(ground: &Ground, now: Millis) {
    while ground.store.tidy_deliveries(now).await.expect("stored") {}
}

/// Has a new webhook accept an event, so that it gets all its slots.
pub(super) async fn prove(ground: &Ground, now: Millis) {
    happen(ground, 200).await;
    fan_out(ground, now).await;
    let claimed = claim(ground, Lane::First, 100, now).await;
    assert!(!claimed.is_empty());
    assert_eq!(settle(ground, &claimed, 200, now).await, 0);
}

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
    let unknown = (recado_domain::ids::InstitutionId::new(1, [8; 10]), Environment::Live);
    assert_eq!(create(unknown).await, WebhookCreated::NoInstitution);
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
