//! Receipts of a network that has its own message ids, and returns ours with some of them.

use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::ids::{MessageId, NetworkId};
use recado_domain::message::Seq;
use recado_domain::queue::{MessageRef, PurgeRequest, Receipt, Settlement};
use recado_domain::status::MessageStatus;

use crate::fixtures::{Ground, NOW, sent};

const DELIVERED: MessageStatus = MessageStatus::Delivered;
const FAILED: MessageStatus = MessageStatus::Failed;

pub(super) fn receipt(channel: ChannelKey, remote_id: &str, ours: Option<MessageId>, status: MessageStatus) -> Receipt {
    let of = MessageRef::RemoteId { remote_id: remote_id.parse().unwrap(), ours };
    let error = (status == FAILED).then(|| ("WINDOW_CLOSED".to_owned(), "Fora da janela.".to_owned()));
    Receipt {
        channel,
        of,
        status,
        at: NOW + 5,
        from: None,
        account: Some("5511888".to_owned()),
        error,
        pauses: None,
        pricing: None,
    }
}

pub(super) async fn sending(ground: &Ground, channel: ChannelKey) -> (MessageId, Seq) {
    let id = ground.accept(channel, "551").await;
    (id, ground.claim_one(channel).await.seq)
}

pub(super) fn sent_as(remote_id: &str) -> Settlement {
    Settlement::Sent { account: None, remote_id: remote_id.parse().ok(), rendition: None }
}

pub(super) async fn our_own_id_finds_a_message_in_any_state(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let (id, seq) = sending(&ground, channel).await;
    ground.apply(receipt(channel, "wamid.1", Some(id), MessageStatus::Sent)).await;
    let message = ground.message(channel, id).await;
    assert_eq!((message.status, message.remote_id.as_deref()), (MessageStatus::Sent, Some("wamid.1")));
    assert_eq!(message.account.as_deref(), Some("5511888"), "overtook the answer");
    ground.settle(channel, seq, sent_as("wamid.1")).await;
    assert_eq!(ground.message(channel, id).await, message);

    let (lost, seq) = sending(&ground, channel).await;
    ground.settle(channel, seq, Settlement::Unknown { resend_at: None, hold: None }).await;
    ground.apply(receipt(channel, "wamid.2", Some(lost), DELIVERED)).await;
    assert_eq!(ground.status(channel, lost).await, DELIVERED);
    ground.apply(receipt(channel, "wamid.2", None, MessageStatus::Read)).await;
    assert_eq!(ground.status(channel, lost).await, MessageStatus::Read, "the first receipt named it");
}

/// The network answered "try again", and accepted the message anyway.
pub(super) async fn a_receipt_for_a_message_that_waits_for_a_retry_counts(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let (id, seq) = sending(&ground, channel).await;
    ground.settle(channel, seq, Settlement::Retry { run_at: NOW + 9 }).await;
    ground.apply(receipt(channel, "wamid.1", Some(id), DELIVERED)).await;
    assert_eq!(ground.status(channel, id).await, DELIVERED);

    let never = ground.accept(channel, "552").await;
    ground.apply(receipt(channel, "wamid.2", Some(never), DELIVERED)).await;
    assert_eq!(ground.status(channel, never).await, MessageStatus::Queued, "it was never sent");
    assert_eq!(ground.claim_one(channel).await.id, never);
}

pub(super) async fn anothers_id_means_nothing(ground: Ground) {
    let (channel, neighbour) = (ground.channel_by_recipient("loja").await, ground.channel_by_recipient("outra").await);
    let (id, seq) = sending(&ground, channel).await;
    ground.apply(receipt(neighbour, "wamid.1", Some(id), DELIVERED)).await;
    ground.settle(channel, seq, sent_as("wamid.1")).await;
    ground.apply(receipt(neighbour, "wamid.1", None, DELIVERED)).await;
    ground.apply(receipt(99, "wamid.1", None, DELIVERED)).await;
    assert_eq!(ground.status(channel, id).await, MessageStatus::Sent);
}

pub(super) async fn receipts_that_come_before_the_answer_wait_for_it(mut ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let (id, seq) = sending(&ground, channel).await;
    for status in [DELIVERED, DELIVERED, MessageStatus::Sent] {
        ground.apply(receipt(channel, "wamid.1", None, status)).await;
    }
    ground.reopen().await;
    ground.settle(channel, seq, sent_as("wamid.1")).await;
    assert_eq!(ground.status(channel, id).await, DELIVERED);

    let (id, seq) = sending(&ground, channel).await;
    ground.apply(receipt(channel, "wamid.2", None, FAILED)).await;
    ground.settle(channel, seq, sent_as("wamid.2")).await;
    let failed = ground.message(channel, id).await;
    assert_eq!((failed.status, failed.error.expect("an error").0), (FAILED, "WINDOW_CLOSED".to_owned()));
}

pub(super) async fn an_early_receipt_is_kept_for_a_while_only(ground: Ground) {
    const HOUR: Millis = 3_600_000;
    let channel = ground.channel_by_recipient("loja").await;
    let (id, seq) = sending(&ground, channel).await;
    ground.apply(receipt(channel, "wamid.1", None, DELIVERED)).await;
    let purge = |now| PurgeRequest { now, finished_before: 0, used_before: 0, events_before: 0, after: 0 };
    ground.store.purge(purge(NOW + HOUR)).await.expect("stored");
    ground.store.purge(purge(NOW + HOUR + 1)).await.expect("stored");
    ground.settle(channel, seq, sent_as("wamid.1")).await;
    assert_eq!(ground.status(channel, id).await, MessageStatus::Sent);
}

/// Another program may send by the same number: its receipts must not fill the store.
pub(super) async fn early_receipts_are_bounded(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let strange = (0..1_000).map(|n| receipt(channel, &format!("wamid.strange.{n}"), None, DELIVERED)).collect();
    ground.store.apply_receipts(strange, NOW).await.expect("stored");
    let (id, seq) = sending(&ground, channel).await;
    ground.apply(receipt(channel, "wamid.1", None, DELIVERED)).await;
    ground.settle(channel, seq, sent_as("wamid.1")).await;
    assert_eq!(ground.status(channel, id).await, MessageStatus::Sent, "there was no room");
}

/// The message was sent twice by the channel's policy: the failure of the first attempt says nothing about the second.
pub(super) async fn only_the_last_sending_can_fail(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let (id, seq) = sending(&ground, channel).await;
    ground.settle(channel, seq, sent_as("wamid.2")).await;
    ground.apply(receipt(channel, "wamid.1", Some(id), FAILED)).await;
    assert_eq!(ground.status(channel, id).await, MessageStatus::Sent);
    ground.apply(receipt(channel, "wamid.1", Some(id), DELIVERED)).await;
    assert_eq!(ground.status(channel, id).await, DELIVERED, "a card is a card");
    assert_eq!(ground.message(channel, id).await.remote_id.as_deref(), Some("wamid.2"));
}

pub(super) async fn an_account_is_remembered_by_channel(ground: Ground) {
    let (channel, neighbour) = (ground.channel_by_recipient("loja").await, ground.channel_by_recipient("outra").await);
    let account = async |channel| ground.store.account(channel, "551".to_owned()).await.expect("read");
    assert_eq!(account(channel).await, None);
    let (_, seq) = sending(&ground, channel).await;
    ground
        .settle(channel, seq, Settlement::Sent { account: Some("5518".to_owned()), remote_id: None, rendition: None })
        .await;
    let (_, seq) = sending(&ground, channel).await;
    ground.settle(channel, seq, sent()).await;
    assert_eq!(account(channel).await.as_deref(), Some("5518"));
    assert_eq!(account(neighbour).await, None);
}

/// PostgreSQL stores no NUL. Such an id cannot arrive; it represents any receipt that a store may refuse.
pub(super) async fn a_receipt_that_the_store_refuses_delays_no_other(ground: Ground) {
    let channel = ground.channel_by_recipient("loja").await;
    let (one, seq) = sending(&ground, channel).await;
    ground.settle(channel, seq, sent_as("wamid.1")).await;
    let (other, _) = sending(&ground, channel).await;
    let mut refused = receipt(channel, "x", None, DELIVERED);
    refused.of = MessageRef::RemoteId { remote_id: NetworkId::from_stored("a\0".to_owned()), ours: None };
    let receipts = [
        receipt(channel, "wamid.1", Some(one), DELIVERED),
        refused,
        receipt(channel, "wamid.2", Some(other), DELIVERED),
    ];
    ground.store.record_receipts(&receipts, NOW).await.expect("they are recorded");
    for id in [one, other] {
        assert_eq!(ground.status(channel, id).await, DELIVERED);
    }
}
