//! Claiming the next messages of a queue.

use recado_domain::channel::{ChannelKey, ChannelState, ChannelType};
use recado_domain::clock::Millis;
use recado_domain::ids::MessageId;
use recado_domain::message::NewMessage;
use recado_domain::queue::{Claim, ClaimRequest, Settlement};
use recado_domain::status::MessageStatus;

use crate::fixtures::{DAY, Ground, MINUTE, NOW, ids, request, sent};

/// Messages to these recipients, in this order.
async fn accept_all(ground: &Ground, channel: ChannelKey, recipients: &[&str]) -> Vec<MessageId> {
    let mut accepted = Vec::new();
    for recipient in recipients {
        accepted.push(ground.accept(channel, recipient).await);
    }
    accepted
}

fn up_to(limit: usize, channel: ChannelKey) -> ClaimRequest {
    ClaimRequest { limit, ..request(channel) }
}

/// A claim at another time.
fn at(now: Millis, channel: ChannelKey) -> ClaimRequest {
    ClaimRequest { now, claimed_until: now + MINUTE, ..request(channel) }
}

async fn expiring(ground: &Ground, channel: ChannelKey, recipient: &str, expires_at: Millis) -> MessageId {
    let message = NewMessage { expires_at, ..ground.new_message(channel, recipient) };
    let id = message.id;
    ground.enqueue(message).await;
    id
}

pub(super) async fn a_channel_is_one_queue(ground: Ground) {
    let (channel, neighbour) = (ground.channel("loja").await, ground.channel("outra").await);
    let accepted = accept_all(&ground, channel, &["551", "552", "551"]).await;
    let other = ground.accept(neighbour, "551").await;
    let greedy = ClaimRequest { limit: 10, ..request(channel) };
    for id in accepted {
        let claim = ground.claim(greedy.clone()).await;
        assert_eq!(ids(&claim), [id], "one at a time, whatever the limit");
        let seq = claim.messages[0].seq;
        let held = ClaimRequest { held: vec![seq], ..greedy.clone() };
        assert_eq!(ground.claim(held).await.messages, [], "the queue waits for the one in flight");
        ground.settle(channel, seq, sent()).await;
    }
    assert_eq!(ground.claim(greedy).await, Claim::default());
    assert_eq!(ground.claim_one(neighbour).await.id, other, "the neighbour has its own queue");
}

pub(super) async fn each_recipient_has_a_queue(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let accepted = accept_all(&ground, channel, &["551", "551", "552", "552", "553", "551"]).await;
    let first = ground.claim(up_to(10, channel)).await;
    assert_eq!(ids(&first), [accepted[0], accepted[2], accepted[4]]);
    let seqs: Vec<_> = first.messages.iter().map(|message| message.seq).collect();

    ground.settle(channel, seqs[1], sent()).await;
    let held = vec![seqs[0], seqs[2]];
    let second = ground.claim(ClaimRequest { held, ..up_to(10, channel) }).await;
    assert_eq!(ids(&second), [accepted[3]], "only the queue that was released goes on");

    ground.settle(channel, seqs[0], sent()).await;
    let held = vec![seqs[2], second.messages[0].seq];
    let third = ground.claim(ClaimRequest { held, ..up_to(10, channel) }).await;
    assert_eq!(ids(&third), [accepted[1]]);
}

pub(super) async fn a_limit_holds(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let accepted = accept_all(&ground, channel, &["551", "552", "553"]).await;
    assert_eq!(ground.claim(up_to(0, channel)).await.messages, []);
    assert_eq!(ids(&ground.claim(up_to(2, channel)).await), accepted[..2], "the oldest first");
}

pub(super) async fn an_open_upgrade_stays_open_until_it_ends(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    assert_eq!(ground.open(channel).await, 0);
    let accepted = accept_all(&ground, channel, &["551", "552", "553"]).await;
    let claim = ground.claim(up_to(2, channel)).await;
    assert_eq!(ground.open(channel).await, 3, "those just claimed included");
    ground.settle(channel, claim.messages[0].seq, Settlement::Retry { run_at: NOW }).await;
    let held = vec![claim.messages[1].seq];
    ground.claim(ClaimRequest { held, ..up_to(0, channel) }).await;
    assert_eq!(ground.open(channel).await, 3);
    ground.settle(channel, claim.messages[1].seq, Settlement::Unknown { resend_at: None, hold: None }).await;
    ground.store.cancel(channel, accepted[2], NOW).await.expect("stored");
    ground.claim(up_to(0, channel)).await;
    assert_eq!(ground.open(channel).await, 1);
}

pub(super) async fn an_attempt_is_counted_and_the_first_time_stays(ground: Ground) {
    let channel = ground.channel("loja").await;
    let id = ground.accept(channel, "551").await;
    let stored = ground.message(channel, id).await;
    for attempt in 1..=3 {
        let now = NOW + Millis::from(attempt);
        let claim = ground.claim(at(now, channel)).await;
        let claimed = &claim.messages[0];
        assert_eq!(
            (claimed.seq, claimed.id, claimed.attempts, claimed.failures),
            (stored.seq, id, attempt, attempt - 1)
        );
        assert_eq!(
            (&claimed.network_id, &claimed.rendition),
            (&stored.network_id, &stored.rendition),
            "the same on each attempt"
        );
        assert_eq!((&claimed.recipient, &claimed.payload), (&stored.recipient, &stored.payload));
        ground.settle(channel, claimed.seq, Settlement::Retry { run_at: now }).await;
    }
    let stored = ground.message(channel, id).await;
    assert_eq!(stored.attempts, 3);
    assert_eq!(stored.reached[usize::from(MessageStatus::Sending.number())], Some(NOW + 1));
    assert_eq!(stored.reached[0], Some(NOW), "the first time of QUEUED stays");
}

pub(super) async fn a_message_waits_for_its_time(ground: Ground) {
    let channel = ground.channel("loja").await;
    let accepted = accept_all(&ground, channel, &["551", "552"]).await;
    let seq = ground.claim_one(channel).await.seq;
    ground.settle(channel, seq, Settlement::Retry { run_at: NOW + 1_000 }).await;
    for now in [NOW, NOW + 999] {
        let claim = ground.claim(at(now, channel)).await;
        assert_eq!((claim.messages, claim.next_at), (vec![], Some(NOW + 1_000)), "and the queue waits with it");
    }
    assert_eq!(ids(&ground.claim(at(NOW + 1_000, channel)).await), accepted[..1], "it kept its place");
}

/// After such a report new messages no longer wake the channel. A false report would delay them.
pub(super) async fn a_claim_reports_whether_a_message_blocks_all_others(ground: Ground) {
    let holds = async |claim: ClaimRequest| ground.claim(claim).await.holds_all;
    let channel = ground.channel("loja").await;
    assert!(!holds(request(channel)).await, "nothing waits");
    accept_all(&ground, channel, &["551", "552"]).await;
    let first = ground.claim(request(channel)).await;
    assert!(!first.holds_all, "it was claimed");
    ground.settle(channel, first.messages[0].seq, Settlement::Retry { run_at: NOW + 1_000 }).await;
    assert!(holds(request(channel)).await, "it waits for its time");
    assert!(!holds(at(NOW + 1_000, channel)).await, "it was claimed");
    let by_recipient = ground.channel_by_recipient("suporte").await;
    accept_all(&ground, by_recipient, &["551"]).await;
    let seq = ground.claim_one(by_recipient).await.seq;
    ground.settle(by_recipient, seq, Settlement::Retry { run_at: NOW + 1_000 }).await;
    assert!(!holds(request(by_recipient)).await, "it blocks its own queue alone");
    for (kind, name) in [(ChannelType::Sandbox, "vendas"), (ChannelType::WhatsAppWeb, "zap")] {
        let channel = ground.channel_of(kind, name).await;
        accept_all(&ground, channel, &["551"]).await;
        ground.move_channel(channel, ChannelState::Connected, ChannelState::Paused).await;
        assert!(holds(request(channel)).await, "{kind:?}: nothing goes out");
        ground.move_channel(channel, ChannelState::Paused, ChannelState::Connected).await;
        assert!(!holds(request(channel)).await, "{kind:?}: it was claimed");
    }
}

pub(super) async fn a_waiting_message_blocks_only_its_own_queue(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let accepted = accept_all(&ground, channel, &["551", "551", "552"]).await;
    let seq = ground.claim_one(channel).await.seq;
    ground.settle(channel, seq, Settlement::Retry { run_at: NOW + 1_000 }).await;
    let claim = ground.claim(up_to(10, channel)).await;
    assert_eq!(ids(&claim), accepted[2..]);
    assert_eq!(claim.next_at, Some(NOW + 1_000));
}

pub(super) async fn the_send_interval_blocks_the_channel(mut ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let accepted = accept_all(&ground, channel, &["551", "552"]).await;
    let resting = ClaimRequest { send_interval: 500, ..up_to(10, channel) };
    let first = ground.claim(resting.clone()).await;
    assert_eq!(ids(&first), accepted[..1], "with a rest between sends, one at a time");
    let held = vec![first.messages[0].seq];
    ground.reopen().await;
    let early = ground.claim(ClaimRequest { now: NOW + 499, held: held.clone(), ..resting.clone() }).await;
    assert_eq!((early.messages, early.next_at), (vec![], Some(NOW + 500)), "a restart does not forget it");
    let due = ground.claim(ClaimRequest { now: NOW + 500, held, ..resting }).await;
    assert_eq!(ids(&due), accepted[1..]);
}

/// Otherwise the second of two free slots would be idle until the first is free again.
pub(super) async fn the_send_interval_ends_in_time(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    accept_all(&ground, channel, &["551", "552"]).await;
    let claim = ground.claim(ClaimRequest { send_interval: 500, ..up_to(2, channel) }).await;
    assert_eq!((claim.messages.len(), claim.next_at), (1, Some(NOW + 500)));
}

pub(super) async fn a_deferred_channel_sends_to_no_recipient(mut ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let accepted = accept_all(&ground, channel, &["551", "552"]).await;
    let seq = ground.claim_one(channel).await.seq;
    ground.settle(channel, seq, Settlement::HoldChannel { until: NOW + 5_000 }).await;
    for _ in 0..2 {
        let early = ground.claim(ClaimRequest { now: NOW + 4_999, ..up_to(10, channel) }).await;
        assert_eq!((early.messages, early.next_at), (vec![], Some(NOW + 5_000)));
        ground.reopen().await;
    }
    let due = ground.claim(ClaimRequest { now: NOW + 5_000, ..up_to(10, channel) }).await;
    assert_eq!(ids(&due), accepted);
    assert_eq!(due.messages[0].failures, 0, "the trouble was not the message's own");
}

pub(super) async fn a_deferral_never_gets_shorter(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    accept_all(&ground, channel, &["551", "552"]).await;
    let claim = ground.claim(up_to(2, channel)).await;
    for (message, wait) in claim.messages.iter().zip([5_000, 100]) {
        ground.settle(channel, message.seq, Settlement::HoldChannel { until: NOW + wait }).await;
    }
    assert_eq!(ground.claim(up_to(2, channel)).await.next_at, Some(NOW + 5_000));
}

pub(super) async fn a_channel_can_be_held_by_itself(mut ground: Ground) {
    let (channel, neighbour) = (ground.channel_by_recipient("loja").await, ground.channel_by_recipient("outra").await);
    let accepted = accept_all(&ground, channel, &["551", "552"]).await;
    let theirs = ground.accept(neighbour, "551").await;
    for until in [NOW + 500, NOW + 100] {
        ground.store.defer_channel(channel, until).await.expect("stored");
    }
    ground.store.defer_channel(99, NOW + DAY).await.expect("an unknown channel is no error");
    for _ in 0..2 {
        let early = ground.claim(ClaimRequest { now: NOW + 499, ..up_to(10, channel) }).await;
        assert_eq!((early.messages, early.next_at), (vec![], Some(NOW + 500)), "the later time stays");
        ground.reopen().await;
    }
    assert_eq!(ground.claim_one(neighbour).await.id, theirs);
    assert_eq!(ids(&ground.claim(ClaimRequest { now: NOW + 500, ..up_to(10, channel) }).await), accepted);
}

pub(super) async fn an_old_message_expires(ground: Ground) {
    let channel = ground.channel("loja").await;
    let old = expiring(&ground, channel, "551", NOW + 10).await;
    let young = ground.accept(channel, "551").await;
    let sending = ground.claim_one(channel).await;
    assert_eq!(sending.id, old);
    let held = ClaimRequest { now: NOW + 10, held: vec![sending.seq], ..request(channel) };
    ground.claim(held).await;
    assert_eq!(ground.status(channel, old).await, MessageStatus::Sending, "a message in flight does not expire");

    ground.settle(channel, sending.seq, Settlement::Retry { run_at: NOW + 50 }).await;
    assert_eq!(ground.claim(at(NOW + 9, channel)).await.next_at, Some(NOW + 10), "it will not be sent at 50");
    let claim = ground.claim(at(NOW + 10, channel)).await;
    assert_eq!(
        (ids(&claim), ground.open(channel).await),
        (vec![young], 1),
        "to the millisecond, and the queue goes on"
    );
    let expired = ground.message(channel, old).await;
    assert_eq!(expired.status, MessageStatus::Expired);
    assert_eq!(expired.reached[usize::from(MessageStatus::Expired.number())], Some(NOW + 10));
}

pub(super) async fn many_expire_a_batch_at_a_time(ground: Ground) {
    let channel = ground.channel("loja").await;
    let accepted = futures_util::future::join_all((0..700).map(|_| expiring(&ground, channel, "551", NOW + 1))).await;
    let young = ground.accept(channel, "551").await;
    let first = ground.claim(at(NOW + 2, channel)).await;
    assert_eq!((first.messages, first.next_at), (vec![], Some(NOW + 2)), "there is more to do at once");
    let left = ground.open(channel).await - 1;
    assert!((1..700).contains(&left), "{left} are left");
    let second = ground.claim(at(NOW + 2, channel)).await;
    assert_eq!((ids(&second), ground.open(channel).await), (vec![young], 1));
    assert_eq!(ground.status(channel, accepted[0]).await, MessageStatus::Expired);
}

pub(super) async fn a_channel_that_does_not_dispatch_only_lets_expire(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let old = expiring(&ground, channel, "551", NOW + 10).await;
    let young = ground.accept(channel, "552").await;
    let mut state = ChannelState::Connected;
    for next in [
        ChannelState::Paused,
        ChannelState::Disconnected,
        ChannelState::Connecting,
        ChannelState::LoggedOut,
        ChannelState::Banned,
    ] {
        ground.move_channel(channel, state, next).await;
        state = next;
        let claim = ground.claim(up_to(10, channel)).await;
        assert_eq!((claim.messages, claim.next_at), (vec![], Some(NOW + 10)), "{state:?}");
    }
    let claim = ground.claim(ClaimRequest { now: NOW + 10, ..up_to(10, channel) }).await;
    assert_eq!((claim.messages, claim.next_at), (vec![], Some(NOW + DAY)));
    assert_eq!(ground.status(channel, old).await, MessageStatus::Expired);
    for next in [ChannelState::Restricted, ChannelState::Connected] {
        ground.move_channel(channel, state, next).await;
        state = next;
        let seq = ground.claim_one(channel).await.seq;
        assert_eq!(ground.status(channel, young).await, MessageStatus::Sending, "{state:?} dispatches");
        ground.settle(channel, seq, Settlement::Retry { run_at: NOW }).await;
    }
}

pub(super) async fn a_claim_on_a_deleted_channel_cancels_what_waits(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let accepted = accept_all(&ground, channel, &["551", "551", "552"]).await;
    let sending = ground.claim_one(channel).await;
    ground.delete_channel(channel, NOW).await;
    let held = vec![sending.seq];
    let claim = ground.claim(ClaimRequest { held, ..up_to(10, channel) }).await;
    assert_eq!((claim, ground.open(channel).await), (Claim::default(), 1));
    ground.settle(channel, sending.seq, sent()).await;
    let statuses = ground.all(channel).await.into_iter().map(|message| (message.id, message.status));
    let ends = [MessageStatus::Sent, MessageStatus::Cancelled, MessageStatus::Cancelled];
    assert_eq!(statuses.collect::<Vec<_>>(), accepted.into_iter().zip(ends).collect::<Vec<_>>());
}

pub(super) async fn an_unknown_channel_has_nothing(ground: Ground) {
    assert_eq!(ground.claim(request(99)).await, Claim::default());
}
