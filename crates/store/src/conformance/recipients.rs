//! Channels with a queue for each recipient: pacing, unknown messages, pauses.

use std::time::Duration;

use futures_util::future::join_all;
use recado_domain::channel::types::cloud_api::{Settings, UnknownPolicy};
use recado_domain::channel::{ChannelKey, ChannelSettings, ChannelState, ChannelType};
use recado_domain::clock::Millis;
use recado_domain::ids::MessageId;
use recado_domain::message::{Cancelled, NewMessage};
use recado_domain::pacing::RecipientPacing;
use recado_domain::queue::{Claim, ClaimRequest, MessageRef, Receipt, Settlement, UnheldSending, UnknownOutcomePolicy};
use recado_domain::status::MessageStatus;

use crate::fixtures::{DAY, Ground, LEAVE, NOW, ids, request, sent};

const AGAIN: UnknownOutcomePolicy = UnknownOutcomePolicy::MarkUnknown(Some(600));

fn at(now: Millis, channel: ChannelKey) -> ClaimRequest {
    ClaimRequest { now, limit: 10, unanswered: AGAIN, ..request(channel) }
}

/// A message that was sent at the tests' time and had no answer.
async fn unknown(ground: &Ground, channel: ChannelKey, expires_at: Millis) -> MessageId {
    let message = NewMessage { expires_at, ..ground.new_message(channel, "551") };
    let id = message.id;
    ground.enqueue(message).await;
    let claimed = ground.claim_one(channel).await;
    assert_eq!(claimed.id, id);
    ground.settle(channel, claimed.seq, Settlement::Unknown { resend_at: AGAIN.resend_at(NOW), hold: None }).await;
    id
}

pub(super) async fn a_burst_then_one_in_a_time(mut ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let pacing = Some(RecipientPacing { burst: 2, every: Duration::from_secs(6) });
    let mut accepted = Vec::new();
    for _ in 0..4 {
        accepted.push(ground.accept(channel, "551").await);
    }
    let other = ground.accept(channel, "552").await;
    let claim = |now| ClaimRequest { now, limit: 1, recipient_pacing: pacing, ..request(channel) };
    for (id, now) in [(accepted[0], NOW), (accepted[1], NOW + 1)] {
        let claim = ground.claim(claim(now)).await;
        assert_eq!(ids(&claim), [id]);
        ground.settle(channel, claim.messages[0].seq, sent()).await;
    }
    let third = ground.claim(claim(NOW + 2)).await;
    assert_eq!(ids(&third), [other], "the others go on");
    ground.settle(channel, third.messages[0].seq, sent()).await;
    ground.reopen().await;
    for now in [NOW + 2, NOW + 5_999] {
        let claim = ground.claim(claim(now)).await;
        assert_eq!((claim.messages, claim.next_at), (vec![], Some(NOW + 6_000)), "a restart does not forget it");
    }
    let claim_ = ground.claim(claim(NOW + 6_000)).await;
    assert_eq!(ids(&claim_), [accepted[2]]);
    ground.settle(channel, claim_.messages[0].seq, sent()).await;
    assert_eq!(ground.claim(claim(NOW + 6_001)).await.next_at, Some(NOW + 12_000));
    // After a long enough pause the recipient has the full burst again.
    let later = NOW + 60_000;
    let claim_ = ground.claim(claim(later)).await;
    assert_eq!(ids(&claim_), [accepted[3]]);
    ground.settle(channel, claim_.messages[0].seq, sent()).await;
    let next = ground.accept(channel, "551").await;
    assert_eq!(ids(&ground.claim(claim(later)).await), [next]);
}

pub(super) async fn a_deferred_recipient_blocks_no_other(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let (first, second) = (ground.accept(channel, "551").await, ground.accept(channel, "551").await);
    let claimed = ground.claim_one(channel).await;
    ground.settle(channel, claimed.seq, Settlement::HoldRecipient { until: NOW + 4_000, hold: None }).await;
    let other = ground.accept(channel, "552").await;
    let claim = ground.claim(at(NOW, channel)).await;
    assert_eq!((ids(&claim), claim.next_at), (vec![other], Some(NOW + 4_000)));
    let claim = ground.claim(ClaimRequest { held: vec![claim.messages[0].seq], ..at(NOW + 4_000, channel) }).await;
    assert_eq!(ids(&claim), [first], "in its place, before {second}");
    assert_eq!((claim.messages[0].attempts, claim.messages[0].failures), (2, 0), "no fault of the message");
}

pub(super) async fn an_unknown_message_is_queued_again_in_time(mut ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let id = unknown(&ground, channel, NOW + DAY).await;
    let claim = ground.claim(at(NOW + 599, channel)).await;
    assert_eq!((claim.messages, claim.next_at, ground.open(channel).await), (vec![], Some(NOW + 600), 0));
    ground.reopen().await;
    let left = ground.claim(ClaimRequest { unanswered: LEAVE, ..at(NOW + 600, channel) }).await;
    assert_eq!(left, Claim::default(), "the policy was changed meanwhile");
    let claim = ground.claim(at(NOW + 600, channel)).await;
    assert_eq!((ids(&claim), ground.open(channel).await), (vec![id], 1));
    assert_eq!(claim.messages[0].attempts, 2);
    ground.settle(channel, claim.messages[0].seq, Settlement::Retry { run_at: NOW + 700 }).await;
    assert_eq!(ground.store.cancel(channel, id, NOW).await.expect("works"), Cancelled::TooLate, "it may have arrived");
}

/// However many there are: an immediate claim finds the same again.
pub(super) async fn many_unknown_messages_wait_for_their_time(ground: Ground) {
    const MANY: usize = 501;
    let ground = &ground;
    let channel = ground.channel_by_recipient("loja").await;
    join_all((0..MANY).map(|n| async move { ground.accept(channel, &format!("55{n}")).await })).await;
    let mut seqs = Vec::new();
    while seqs.len() < MANY {
        let claim = ground.claim(ClaimRequest { limit: MANY, held: seqs.clone(), ..at(NOW, channel) }).await;
        seqs.extend(claim.messages.iter().map(|message| message.seq));
    }
    let (hour, unknown) = (NOW + 3_600_000, |resend_at| Settlement::Unknown { resend_at: Some(resend_at), hold: None });
    ground.settle_at(channel, seqs.iter().map(|seq| (*seq, unknown(hour))).collect(), NOW).await;
    assert_eq!(ground.claim(at(NOW, channel)).await, Claim { next_at: Some(hour), ..Claim::default() });
    // Some at a time, once they are due.
    let some = ground.claim(ClaimRequest { limit: 0, ..at(hour, channel) }).await;
    assert_eq!(some.next_at, Some(hour), "at once");
    ground.claim(ClaimRequest { limit: 0, ..at(hour, channel) }).await;
    assert_eq!(ground.open(channel).await, MANY);
}

pub(super) async fn an_unknown_message_that_is_too_old_stays(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let id = unknown(&ground, channel, NOW + 600).await;
    assert_eq!(ground.claim(at(NOW + 600, channel)).await, Claim::default());
    assert_eq!(ground.status(channel, id).await, MessageStatus::Unknown);
}

pub(super) async fn a_receipt_settles_an_unknown_message(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let id = unknown(&ground, channel, NOW + DAY).await;
    ground.receipt(channel, &ground.message(channel, id).await.network_id, MessageStatus::Sent).await;
    assert_eq!(ground.claim(at(NOW + 600, channel)).await, Claim::default());
    assert_eq!(ground.status(channel, id).await, MessageStatus::Sent);
}

pub(super) async fn a_message_queued_again_waits_for_the_one_in_flight(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let older = unknown(&ground, channel, NOW + DAY).await;
    let younger = ground.accept(channel, "551").await;
    let third = ground.accept(channel, "551").await;
    let claim = ground.claim(at(NOW, channel)).await;
    assert_eq!(ids(&claim), [younger], "an unknown message blocks no other");
    let seq = claim.messages[0].seq;
    let held = ClaimRequest { held: vec![seq], ..at(NOW + 600, channel) };
    assert_eq!(ground.claim(held).await.messages, [], "one of a recipient at a time");
    ground.settle(channel, seq, sent()).await;
    assert_eq!(ids(&ground.claim(at(NOW + 600, channel)).await), [older], "before {third}");
}

pub(super) async fn orphans_of_a_crashed_owner_are_sent_again_by_policy(mut ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let id = ground.accept(channel, "551").await;
    ground.claim_one(channel).await;
    ground.reopen().await;
    let claim = ground.claim(ClaimRequest { orphans: UnheldSending::OwnerCrashed, limit: 0, ..at(NOW, channel) }).await;
    assert_eq!((claim.messages, claim.next_at, ground.open(channel).await), (vec![], Some(NOW + 600), 0));
    assert_eq!(ids(&ground.claim(at(NOW + 600, channel)).await), [id]);
}

pub(super) async fn a_pause_by_the_network_keeps_the_order(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let accepted = [ground.accept(channel, "551").await, ground.accept(channel, "552").await];
    let claim = ground.claim(at(NOW, channel)).await;
    for message in &claim.messages {
        ground.settle(channel, message.seq, Settlement::PauseChannel { reason: "Autorize.".to_owned() }).await;
    }
    let paused = ground.store.channel(channel).await.expect("read").expect("there");
    assert_eq!((paused.state, paused.state_reason.as_deref()), (ChannelState::Paused, Some("Autorize.")));
    assert_eq!(ground.claim(at(NOW, channel)).await.messages, []);
    // Which a paused channel still does.
    ground.accept(channel, "553").await;
    ground.move_channel(channel, ChannelState::Paused, ChannelState::Connected).await;
    let claim = ground.claim(ClaimRequest { limit: 2, ..at(NOW, channel) }).await;
    assert_eq!(ids(&claim), accepted);
    assert_eq!(claim.messages[0].failures, 0);
}

/// A person's decision stays: a disconnected channel is not paused, and needs no new authorisation to connect.
pub(super) async fn only_a_connected_channel_is_paused_by_the_network(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    ground.accept(channel, "551").await;
    let seq = ground.claim_one(channel).await.seq;
    ground.move_channel(channel, ChannelState::Connected, ChannelState::Disconnected).await;
    ground.settle(channel, seq, Settlement::PauseChannel { reason: "Autorize.".to_owned() }).await;
    let channel = ground.store.channel(channel).await.expect("read").expect("there");
    assert_eq!((channel.state, channel.state_reason), (ChannelState::Disconnected, None));
}

pub(super) async fn settings_are_kept(mut ground: Ground) {
    let key = ground.channel_by_recipient("loja").await;
    let settings = Settings {
        pipeline: 3,
        unknown_policy: UnknownPolicy::Resend,
        unknown_wait_seconds: 60,
        ..Settings::default()
    };
    let settings = ChannelSettings::CloudApi(settings);
    assert!(ground.store.update_channel(key, "Outro".to_owned(), settings.clone()).await.expect("stored"));
    ground.reopen().await;
    let channel = ground.store.channel(key).await.expect("read").expect("there");
    assert_eq!((channel.name.as_str(), &channel.settings), ("Outro", &settings));
    ground.delete_channel(key, NOW).await;
    assert!(!ground.store.update_channel(key, "X".to_owned(), settings).await.expect("answered"));
    let again = ground.channel_by_recipient("loja").await;
    let made = ground.store.channel(again).await.expect("read").expect("there");
    assert_eq!(made.settings, made.kind.default_settings(), "a channel created again has default settings");
}

/// Only once, because each further copy is one too many.
pub(super) async fn an_unknown_message_is_sent_again_once(mut ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let lost = queued_again(&ground, channel).await;
    let claimed = ground.claim(at(NOW + 600, channel)).await.messages.remove(0);
    let no_answer = Settlement::Unknown { resend_at: AGAIN.resend_at(NOW + 700), hold: None };
    ground.settle_at(channel, vec![(claimed.seq, no_answer)], NOW + 700).await;
    // Nor is a message that was in flight when its process crashed.
    let other = ground.channel_by_recipient("outra").await;
    let orphaned = queued_again(&ground, other).await;
    assert_eq!(ids(&ground.claim(at(NOW + 600, other)).await), [orphaned]);
    ground.reopen().await;
    let orphans = ClaimRequest { orphans: UnheldSending::OwnerCrashed, limit: 0, ..at(NOW + 700, other) };
    assert_eq!(ground.claim(orphans).await, Claim::default());
    for (channel, id) in [(channel, lost), (other, orphaned)] {
        assert_eq!(ground.claim(at(NOW + DAY / 2, channel)).await, Claim::default());
        assert_eq!(ground.status(channel, id).await, MessageStatus::Unknown);
    }
}

/// Waits for its resend, on a channel whose policy was `resend`.
async fn queued_again(ground: &Ground, channel: ChannelKey) -> MessageId {
    let id = unknown(ground, channel, NOW + DAY).await;
    ground.claim(ClaimRequest { limit: 0, ..at(NOW + 600, channel) }).await;
    assert_eq!(ground.status(channel, id).await, MessageStatus::Queued);
    id
}

pub(super) async fn a_revoked_policy_sends_nothing_again(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let id = queued_again(&ground, channel).await;
    let claim = ground.claim(ClaimRequest { unanswered: LEAVE, ..at(NOW + 600, channel) }).await;
    assert_eq!((claim.messages, ground.open(channel).await), (vec![], 0));
    assert_eq!(ground.status(channel, id).await, MessageStatus::Unknown);

    // Nor does a new policy send what was unknown before.
    let channel = ground.channel_by_recipient("outra").await;
    unknown(&ground, channel, NOW + DAY).await;
    let leave = ChannelType::CloudApi.default_settings();
    assert!(ground.store.update_channel(channel, "Outra".to_owned(), leave).await.expect("stored"));
    assert_eq!(ground.claim(at(NOW + 600, channel)).await, Claim::default());
}

pub(super) async fn a_channel_created_again_sends_no_former_messages(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    unknown(&ground, channel, NOW + DAY).await;
    ground.delete_channel(channel, NOW).await;
    assert_eq!(ground.channel_by_recipient("loja").await, channel);
    assert_eq!(ground.claim(at(NOW + 600, channel)).await, Claim::default());
}

pub(super) async fn a_channel_that_does_not_send_queues_nothing_again(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let id = unknown(&ground, channel, NOW + DAY).await;
    ground.move_channel(channel, ChannelState::Connected, ChannelState::Paused).await;
    assert_eq!(ground.claim(at(NOW + 600, channel)).await, Claim::default());
    assert_eq!(ground.status(channel, id).await, MessageStatus::Unknown);
}

/// A repaired and reconnected channel must not be paused by an earlier refusal, whatever the clock says; a later
/// refusal pauses it.
pub(super) async fn a_refusal_of_a_former_link_pauses_nothing(mut ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    for recipient in ["551", "552"] {
        ground.accept(channel, recipient).await;
    }
    let claimed = ground.claim(ClaimRequest { limit: 1, ..at(NOW, channel) }).await.messages.remove(0);
    let hour = 3_600_000;
    let move_at = async |ground: &Ground, from, to, now| {
        assert!(ground.try_move(channel, from, to, None, now).await);
    };
    move_at(&ground, ChannelState::Connected, ChannelState::Paused, NOW).await;
    // Ahead of the time, which is set right afterwards.
    move_at(&ground, ChannelState::Paused, ChannelState::Connected, NOW + hour).await;
    ground.reopen().await;
    let state = async |ground: &Ground| ground.store.channel(channel).await.expect("read").expect("there").state;
    let refused = || Settlement::PauseChannel { reason: "Autorize.".to_owned() };
    ground.settle(channel, claimed.seq, refused()).await;
    assert_eq!(state(&ground).await, ChannelState::Connected);
    assert_eq!(ground.status(channel, claimed.id).await, MessageStatus::Queued, "in its place");

    let claim = ground.claim(at(NOW, channel)).await;
    assert_eq!(claim.messages.len(), 2);
    ground.reopen().await;
    for message in &claim.messages {
        ground.settle(channel, message.seq, refused()).await;
        assert_eq!(state(&ground).await, ChannelState::Paused);
        assert_eq!(ground.status(channel, message.id).await, MessageStatus::Queued, "in its place");
    }
}

/// The network may have the message twice: a delivered message must not be reported as failed.
pub(super) async fn a_message_that_was_sent_again_does_not_fail(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let id = queued_again(&ground, channel).await;
    let claimed = ground.claim(at(NOW + 600, channel)).await.messages.remove(0);
    assert!(claimed.resent);
    let receipt = |remote_id: &str, status| Receipt {
        channel,
        of: MessageRef::RemoteId { remote_id: remote_id.parse().unwrap(), ours: Some(id) },
        status,
        at: NOW + 700,
        from: None,
        account: None,
        error: None,
        pauses: None,
        pricing: None,
    };
    ground.apply(receipt("wamid.1", MessageStatus::Failed)).await;
    let accepted = Settlement::Sent { account: None, remote_id: Some("wamid.2".parse().unwrap()), rendition: None };
    ground.settle(channel, claimed.seq, accepted).await;
    ground.apply(receipt("wamid.2", MessageStatus::Failed)).await;
    assert_eq!(ground.status(channel, id).await, MessageStatus::Sent);
    ground.apply(receipt("wamid.1", MessageStatus::Delivered)).await;
    assert_eq!(ground.status(channel, id).await, MessageStatus::Delivered);
}
