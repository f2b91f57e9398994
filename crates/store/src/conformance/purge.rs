//! What the purge deletes, what it keeps, and what a restart keeps.

use futures_util::future::join_all;
use recado_domain::api_key::Environment;
use recado_domain::channel::{ChannelKey, ChannelType};
use recado_domain::ids::MessageId;
use recado_domain::message::{Enqueued, NewMessage, Seq};
use recado_domain::party::Party;
use recado_domain::queue::{ClaimRequest, PurgeRequest, Settlement};
use recado_domain::status::MessageStatus;

use crate::fixtures::{DAY, Ground, NOW, request, sent};

pub(super) const EVERYTHING: PurgeRequest = PurgeRequest {
    now: NOW + 9 * DAY,
    finished_before: NOW + 9 * DAY,
    used_before: NOW + 9 * DAY,
    events_before: 0,
    after: 0,
};

/// More than two batches of any engine.
const MANY: usize = 4_100;

/// Purges to the end; where each batch ended.
pub(super) async fn purge(ground: &Ground, mut request: PurgeRequest) -> Vec<Seq> {
    let mut ends = Vec::new();
    while let Some(next) = ground.store.purge(request).await.expect("stored").next {
        assert!(ends.len() < 100, "a purge that never ends");
        ends.push(next);
        request.after = next;
    }
    ends
}

async fn accept_many(ground: &Ground, channel: ChannelKey) -> Vec<MessageId> {
    join_all((0..MANY).map(|_| ground.accept(channel, "551"))).await
}

async fn left(ground: &Ground, channel: ChannelKey) -> Vec<MessageId> {
    ground.all(channel).await.into_iter().map(|message| message.id).collect()
}

pub(super) async fn old_finished_messages_go(ground: Ground) {
    let channel = ground.channel("loja").await;
    let mut ended = Vec::new();
    for at in [NOW + 1, NOW + 2, NOW + 3] {
        let id = ground.accept(channel, "551").await;
        let claimed = ground.claim_one(channel).await;
        ground.settle_at(channel, vec![(claimed.seq, sent())], at).await;
        ended.push(id);
    }
    let purged = ground.store.purge(PurgeRequest { finished_before: NOW + 2, ..EVERYTHING }).await.expect("stored");
    assert_eq!(purged.rows, 1);
    assert_eq!(left(&ground, channel).await, ended[1..], "by the time of the last state, not before it");
    ground.receipt(channel, &ground.message(channel, ended[1]).await.network_id, MessageStatus::Read).await;
    purge(&ground, EVERYTHING).await;
    assert_eq!(left(&ground, channel).await, []);
    let id = ground.accept(channel, "551").await;
    assert_eq!(ground.claim_one(channel).await.id, id, "an empty store accepts messages like a new one");
}

pub(super) async fn open_messages_stay_however_old(ground: Ground) {
    let channel = ground.channel("loja").await;
    let (sending, queued) = (ground.accept(channel, "551").await, ground.accept(channel, "551").await);
    let claimed = ground.claim_one(channel).await;
    let cancelled = ground.accept(channel, "551").await;
    ground.store.cancel(channel, cancelled, NOW).await.expect("stored");
    purge(&ground, EVERYTHING).await;
    assert_eq!(left(&ground, channel).await, [sending, queued]);
    let held = ClaimRequest { held: vec![claimed.seq], ..request(channel) };
    ground.claim(held).await;
    assert_eq!(ground.open(channel).await, 2);
}

pub(super) async fn a_message_to_be_sent_again_is_never_purged(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let (waits, left) = (ground.accept(channel, "551").await, ground.accept(channel, "552").await);
    let claim = ground.claim(ClaimRequest { limit: 2, ..request(channel) }).await;
    let again = NOW + DAY;
    let in_time = PurgeRequest { now: NOW + DAY - 1, ..EVERYTHING };
    let outcomes = [Some(again), None].map(|resend_at| Settlement::Unknown { resend_at, hold: None });
    ground.settle_at(channel, claim.messages.iter().map(|message| message.seq).zip(outcomes).collect(), NOW).await;
    purge(&ground, in_time).await;
    assert_eq!(self::left(&ground, channel).await, [waits], "and not {left}");
    // If it is not sent again after all, it is purged like others.
    let leave = ChannelType::CloudApi.default_settings();
    assert!(ground.store.update_channel(channel, "Loja".to_owned(), leave).await.expect("stored"));
    purge(&ground, in_time).await;
    assert_eq!(self::left(&ground, channel).await, []);
}

/// A channel that stays paused sends nothing again, and does not search for resends.
pub(super) async fn an_expired_resend_is_purged(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let id = ground.accept(channel, "551").await;
    let seq = ground.claim_one(channel).await.seq;
    let again = Settlement::Unknown { resend_at: Some(NOW + DAY), hold: None };
    ground.settle(channel, seq, again).await;
    purge(&ground, PurgeRequest { now: NOW + DAY - 1, ..EVERYTHING }).await;
    assert_eq!(left(&ground, channel).await, [id]);
    purge(&ground, PurgeRequest { now: NOW + DAY, ..EVERYTHING }).await;
    assert_eq!(left(&ground, channel).await, []);
}

pub(super) async fn a_purge_goes_in_batches(ground: Ground) {
    let channel = ground.channel("loja").await;
    let accepted = accept_many(&ground, channel).await;
    ground.delete_channel(channel, NOW).await;
    while ground.store.cancel_former(channel, 500, NOW).await.expect("stored") > 0 {}
    let ends = purge(&ground, EVERYTHING).await;
    assert!(ends.len() > 1, "{ends:?}");
    assert!(ends.is_sorted_by(|earlier, later| earlier < later), "{ends:?}");
    assert_eq!(left(&ground, channel).await, []);
    assert_eq!(ground.store.message(channel, accepted[0]).await.expect("read"), None);

    // Young messages stay, and are not scanned each time.
    assert_eq!(ground.channel("loja").await, channel);
    accept_many(&ground, channel).await;
    let young = PurgeRequest { finished_before: NOW, used_before: NOW, ..EVERYTHING };
    assert_eq!(ground.store.purge(young).await.expect("stored").next, None);
}

pub(super) async fn used_keys_are_forgotten(ground: Ground) {
    let channel = ground.channel("loja").await;
    let call = |n: usize, accepted_at| {
        let idempotency = Some(ground.idempotency(&format!("chave {n}"), 1));
        NewMessage { accepted_at, idempotency, ..ground.new_message(channel, "551") }
    };
    join_all((0..MANY).map(|n| ground.enqueue(call(n, NOW)))).await;
    ground.enqueue(call(MANY, NOW + 1)).await;
    let ends = purge(&ground, PurgeRequest { finished_before: 0, used_before: NOW + 1, ..EVERYTHING }).await;
    assert!(ends.len() > 1, "in batches: {ends:?}");
    let answers = join_all([0, 600, MANY - 1].map(|n| ground.enqueue(call(n, NOW)))).await;
    assert_eq!(answers, [Enqueued::Accepted; 3], "forgotten");
    let kept = ground.enqueue(call(MANY, NOW + 2)).await;
    assert!(matches!(kept, Enqueued::Replayed(_)), "{kept:?}");
}

pub(super) async fn accounts_of_numbers_are_forgotten_in_time(ground: Ground) {
    let channel = ground.channel("loja").await;
    let month = 30 * DAY;
    let note = |n: usize, now| ground.store.note_account(channel, format!("55{n}"), Some(Party::of_number("551")), now);
    for some in (0..MANY).collect::<Vec<_>>().chunks(100) {
        join_all(some.iter().map(|n| note(*n, NOW - month - 1))).await;
    }
    note(MANY, NOW - month).await.expect("stored");
    let ends =
        purge(&ground, PurgeRequest { now: NOW, finished_before: 0, used_before: 0, events_before: 0, after: 0 }).await;
    assert!(ends.len() > 1, "in batches: {ends:?}");
    let known = async |n: usize| ground.store.known_account(channel, format!("55{n}")).await.expect("read").is_some();
    assert_eq!([known(0).await, known(MANY - 1).await, known(MANY).await], [false, false, true]);
}

pub(super) async fn a_restart_keeps_everything(mut ground: Ground) {
    let (loja, outra) = (ground.channel("loja").await, ground.channel("outra").await);
    for channel in [loja, outra] {
        for _ in 0..20 {
            ground.accept(channel, "551").await;
        }
    }
    let keyed = NewMessage { idempotency: Some(ground.idempotency("chave", 1)), ..ground.new_message(loja, "552") };
    ground.enqueue(keyed.clone()).await;
    let claimed = ground.claim_one(loja).await;
    ground.settle(loja, claimed.seq, sent()).await;
    let sending = ground.claim_one(loja).await;
    ground.delete_channel(outra, NOW).await;

    let before = (ground.all(loja).await, ground.all(outra).await, ground.store.channels().await.expect("read"));
    let institutions = ground.store.institutions().await.expect("read");
    for _ in 0..2 {
        ground.reopen().await;
        let after = (ground.all(loja).await, ground.all(outra).await, ground.store.channels().await.expect("read"));
        assert_eq!(after, before);
        assert_eq!(ground.store.institutions().await.expect("read"), institutions);
        let again = NewMessage { idempotency: keyed.idempotency.clone(), ..ground.new_message(loja, "552") };
        assert_eq!(ground.enqueue(again).await, Enqueued::Replayed(keyed.id));
        let held = ClaimRequest { held: vec![sending.seq], ..request(loja) };
        ground.claim(held).await;
        assert_eq!(ground.open(loja).await, 20);
        assert_eq!(ground.enqueue(ground.new_message(outra, "551")).await, Enqueued::NoChannel);
    }
    let owner = (ground.institution, Environment::Live);
    assert_eq!(ground.store.channels_of(owner, 0, 10).await.expect("read").len(), 1);
}
