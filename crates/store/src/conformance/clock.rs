//! The purge after a time in which the clock was ahead: rows of that time keep no old rows behind them.

use futures_util::future::join_all;
use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::event::NewEvent;
use recado_domain::incoming::{Arrival, Ignored, Outcome, SenderIds, What};
use recado_domain::message::{Enqueued, NewMessage};
use recado_domain::queue::PurgeRequest;
use recado_domain::status::MessageStatus;
use recado_domain::webhook::DELIVERY_RETENTION;

use super::inbox::{ANA, BIA, arrival, batch, both, conversations, delivered, events, one, owner, record, text};
use super::purge::{EVERYTHING, purge};
use super::remote::{receipt, sending, sent_as};
use super::webhooks::{create, fan_out, happen, log, settings, tidy};
use crate::fixtures::{DAY, Ground, NOW, new_event};

/// How far the clock was ahead.
const AHEAD: Millis = 700 * DAY;
/// More than a batch of any engine.
const MANY: usize = 2_100;

pub(super) async fn messages_and_keys_from_the_future_keep_no_old_ones(ground: Ground) {
    let channel = ground.channel("loja").await;
    let call = |n: usize, accepted_at| {
        let idempotency = Some(ground.idempotency(&format!("chave {n}"), 1));
        NewMessage { accepted_at, idempotency, expires_at: accepted_at + DAY, ..ground.new_message(channel, "551") }
    };
    join_all((0..MANY).map(|n| ground.enqueue(call(n, NOW + AHEAD)))).await;
    let old = ground.enqueue_id(call(MANY, NOW)).await;
    ground.store.cancel(channel, old, NOW).await.expect("stored");
    ground.enqueue(call(MANY + 1, NOW + 1)).await;
    purge(&ground, PurgeRequest { finished_before: NOW, used_before: NOW, ..EVERYTHING }).await;
    let kept = join_all([0, MANY].map(|n| ground.enqueue(call(n, NOW)))).await;
    assert!(kept.iter().all(|kept| matches!(kept, Enqueued::Replayed(_))), "no later key is old: {kept:?}");

    purge(&ground, PurgeRequest { finished_before: NOW + 1, used_before: NOW + 1, ..EVERYTHING }).await;
    assert_eq!(ground.store.message(channel, old).await.expect("read"), None);
    let forgotten = join_all([0, MANY - 1, MANY].map(|n| ground.enqueue(call(n, NOW)))).await;
    assert_eq!(forgotten, [Enqueued::Accepted; 3]);
    let kept = ground.enqueue(call(MANY + 1, NOW)).await;
    assert!(matches!(kept, Enqueued::Replayed(_)), "{kept:?}");
}

pub(super) async fn early_receipts_from_the_future_keep_no_old_ones(ground: Ground) {
    const HOUR: Millis = 3_600_000;
    for id in ["um", "dois", "tres"] {
        let strange = ground.channel_by_recipient(id).await;
        let receipts = (0..1_000).map(|n| receipt(strange, &format!("wamid.{n}"), None, MessageStatus::Delivered));
        ground.store.apply_receipts(receipts.collect(), NOW + AHEAD).await.expect("stored");
    }
    let channel = ground.channel_by_recipient("loja").await;
    let (id, seq) = sending(&ground, channel).await;
    ground.apply(receipt(channel, "wamid.1", None, MessageStatus::Delivered)).await;
    let now = NOW + HOUR + 1;
    purge(&ground, PurgeRequest { now, finished_before: 0, used_before: 0, events_before: 0, after: 0 }).await;
    ground.settle(channel, seq, sent_as("wamid.1")).await;
    assert_eq!(ground.status(channel, id).await, MessageStatus::Sent, "the receipt was old");
}

pub(super) async fn events_from_the_future_keep_no_old_ones(ground: Ground) {
    record(&ground).await;
    let happen = |at| ground.store.record_event(NewEvent { at, ..new_event(owner(&ground), 1) });
    for some in (0..MANY).collect::<Vec<_>>().chunks(100) {
        let recorded = join_all(some.iter().map(|_| happen(NOW + AHEAD))).await;
        assert!(recorded.into_iter().all(|recorded| recorded.expect("stored")));
    }
    for at in [NOW, NOW + 1] {
        assert!(happen(at).await.expect("stored"));
    }
    let before = async |events_before| {
        let now = NOW + DAY;
        purge(&ground, PurgeRequest { now, finished_before: 0, used_before: 0, events_before, after: 0 }).await;
    };
    before(NOW).await;
    assert_eq!(ground.store.event_state().await.expect("read").deleted_until, 0, "no later event is old");
    before(NOW + 1).await;
    assert_eq!(events(&ground).await.iter().map(|event| event.at).collect::<Vec<_>>(), [NOW + 1]);
}

pub(super) async fn received_messages_from_the_future_keep_no_old_ones(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let writes = |n| if n == 1 { SenderIds::of_phone(BIA) } else { both() };
    receive_many(&ground, &|n| text(&format!("F{n}"), writes(n), "Oi"), channel).await;
    for (id, at) in [("A1", NOW - 60 * DAY), ("A2", NOW)] {
        ground.store.receive(batch(channel, vec![text(id, both(), "Oi")]), at).await.expect("stored");
    }
    let before = async |finished_before| {
        purge(&ground, PurgeRequest { now: NOW, finished_before, used_before: 0, events_before: 0, after: 0 }).await;
    };
    before(NOW - 60 * DAY).await;
    let again = one(&ground, channel, text("F0", both(), "Oi")).await;
    assert_eq!(again.outcome, Outcome::Repeated, "no later message is old");
    before(NOW - 30 * DAY).await;
    let left = delivered(&ground, channel).await;
    assert_eq!(left.iter().map(|message| &*message.network_id).collect::<Vec<_>>(), ["A2"]);
    // A conversation of that time is left. It shows no text of a message that is gone.
    let shown = async |address: &str| {
        let conversation = conversations(&ground).await.into_iter().find(|one| one.address == address);
        conversation.expect("it is there").last.map(|last| last.content)
    };
    assert_eq!((shown(ANA).await.as_deref(), shown(BIA).await), (Some("Oi"), None));
}

pub(super) async fn changes_from_the_future_keep_no_old_ones(ground: Ground) {
    let channel = ground.channel("vendas").await;
    let revoke = |target: &str| {
        let target_id = target.parse().expect("an id");
        arrival(&format!("R{target}"), both(), What::Revoke { target: target_id, by_admin: false })
    };
    let preference = |id: &str| arrival(id, both(), What::OptOut(false));
    receive_many(&ground, &|n| revoke(&format!("F{n}")), channel).await;
    receive_many(&ground, &|n| preference(&format!("P{n}")), channel).await;
    let old_and_young = [
        (revoke("A1"), NOW - 33 * DAY),
        (revoke("A2"), NOW - 31 * DAY),
        (preference("B1"), NOW - 9 * DAY),
        (preference("B2"), NOW - 7 * DAY),
    ];
    for (arrival, at) in old_and_young {
        ground.store.receive(batch(channel, vec![arrival]), at).await.expect("stored");
    }
    purge(&ground, PurgeRequest { now: NOW, finished_before: 0, used_before: 0, events_before: 0, after: 0 }).await;
    for (id, is_revoked) in [("F0", false), ("A1", false), ("A2", true)] {
        one(&ground, channel, text(id, both(), "Oi")).await;
        let message = delivered(&ground, channel).await.into_iter().find(|message| message.network_id == id);
        assert_eq!(message.expect("stored").revoked_at.is_some(), is_revoked, "{id}");
    }
    let forgotten = Outcome::Ignored(Ignored::Stale);
    for (id, outcome) in [("P0", forgotten), ("B1", forgotten), ("B2", Outcome::Repeated)] {
        assert_eq!(one(&ground, channel, preference(id)).await.outcome, outcome, "{id}");
    }
}

/// Receives arrivals while the clock is ahead.
async fn receive_many(ground: &Ground, arrival: &dyn Fn(usize) -> Arrival, channel: ChannelKey) {
    for some in (0..MANY).collect::<Vec<_>>().chunks(100) {
        let arrivals = some.iter().map(|n| arrival(*n)).collect();
        ground.store.receive(batch(channel, arrivals), NOW + AHEAD).await.expect("stored");
    }
}

/// One of them at the head of the table is enough, because the others are read up to the first young one.
pub(super) async fn deliveries_from_the_future_keep_no_old_ones(ground: Ground) {
    let webhook = create(&ground, settings()).await;
    for at in [NOW + AHEAD, NOW, NOW + 1] {
        happen(&ground, 1).await;
        fan_out(&ground, at).await;
    }
    tidy(&ground, NOW + DELIVERY_RETENTION).await;
    assert_eq!(log(&ground, &webhook).await.len(), 3, "no later delivery is old");
    tidy(&ground, NOW + DELIVERY_RETENTION + 1).await;
    let left: Vec<_> = log(&ground, &webhook).await.iter().map(|delivery| delivery.created_at).collect();
    assert_eq!(left, [NOW + 1]);
}
