//! Channels that share a transaction do not affect each other.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use recado_domain::channel::{ChannelKey, ChannelType};
use recado_domain::ids::{MessageId, NetworkId};
use recado_domain::message::Seq;
use recado_domain::pacing::RecipientPacing;
use recado_domain::party::Party;
use recado_domain::queue::{Claim, ClaimRequest, Claimed, MessageRef, Outcomes, Receipt, Settlement};
use recado_domain::status::MessageStatus;
use test_postgres::number;
use tokio_postgres::NoTls;

use crate::fixtures::{DAY, Ground, MINUTE, NOW, PgDatabase, ids, request, sent};
use crate::{Result, StoreError};

const CHANNELS: usize = 5;

/// Some channels, each with two messages for one recipient.
async fn channels() -> (Ground, Arc<PgDatabase>, Vec<(ChannelKey, [MessageId; 2])>) {
    channels_of(ChannelType::Sandbox, ["551", "551"]).await
}

/// Some channels of a type, each with messages for these recipients.
async fn channels_of(
    kind: ChannelType,
    recipients: [&str; 2],
) -> (Ground, Arc<PgDatabase>, Vec<(ChannelKey, [MessageId; 2])>) {
    let database = Arc::new(PgDatabase::new());
    let ground = Ground::on(database.clone()).await;
    let mut channels = Vec::new();
    for n in 0..CHANNELS {
        let channel = ground.channel_of(kind, &format!("loja-{n}")).await;
        let [first, second] = recipients;
        channels.push((channel, [ground.accept(channel, first).await, ground.accept(channel, second).await]));
    }
    (ground, database, channels)
}

/// Claims on all of these channels concurrently.
async fn claims(ground: &Ground, requests: Vec<ClaimRequest>) -> Vec<Result<Claim>> {
    join_all(requests.into_iter().map(|request| ground.store.claim(request))).await
}

/// How many transactions have written the messages that are in this state.
fn transactions(database: &PgDatabase, status: MessageStatus) -> i64 {
    number(
        database.url(),
        &format!("SELECT count(DISTINCT xmin::text) FROM messages WHERE status = {}", status.number()),
    )
}

/// A transaction that has the lock of a channel's row until it is dropped.
async fn lock_of(database: &PgDatabase, channel: ChannelKey) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.expect("connects");
    tokio::spawn(connection);
    let lock = format!("BEGIN; SELECT FROM channels WHERE key = {channel} FOR UPDATE");
    client.batch_execute(&lock).await.expect("locked");
    client
}

#[tokio::test]
async fn a_fenced_channel_changes_nothing_and_stops_nobody() {
    let (ground, database, channels) = channels().await;
    let fenced = 2;
    let asked = channels.iter().enumerate().map(|(n, (channel, _))| {
        let epoch = if n == fenced { 7 } else { 0 };
        ClaimRequest { epoch, ..request(*channel) }
    });
    let answers = claims(&ground, asked.collect()).await;
    for (n, (answer, (channel, messages))) in answers.iter().zip(&channels).enumerate() {
        if n == fenced {
            assert!(matches!(answer, Err(StoreError::Fenced)), "{answer:?}");
            assert_eq!(ground.status(*channel, messages[0]).await, MessageStatus::Queued);
        } else {
            assert_eq!(ids(answer.as_ref().expect("claimed")), messages[..1]);
        }
    }
    assert_eq!(transactions(&database, MessageStatus::Sending), 1, "the others share a transaction");
}

#[tokio::test]
async fn outcomes_and_the_next_claims_of_all_channels_share_a_transaction() {
    let (ground, database, channels) = channels().await;
    let first = claims(&ground, channels.iter().map(|(channel, _)| request(*channel)).collect()).await;
    let seqs: Vec<Seq> = first.into_iter().map(|claim| claim.expect("claimed").messages[0].seq).collect();
    let waits = NOW + MINUTE;
    let calls = channels.iter().zip(&seqs).enumerate().map(|(n, ((channel, _), seq))| {
        // One message is retried later, and blocks its channel until then.
        let settlement = if n == 0 { Settlement::Retry { run_at: waits } } else { sent() };
        let settled = vec![(*seq, settlement)];
        let outcomes = Outcomes { channel: *channel, epoch: 0, settled, next_send_at: None, now: NOW };
        ground.store.settle_and_claim(outcomes, ClaimRequest { held: vec![*seq], ..request(*channel) })
    });
    let answers = join_all(calls).await;
    for (n, ((settled, claim), (channel, messages))) in answers.into_iter().zip(&channels).enumerate() {
        settled.expect("settled");
        let claim = claim.expect("claimed");
        if n == 0 {
            assert_eq!((claim.messages.len(), claim.next_at, claim.holds_all), (0, Some(waits), true));
            assert_eq!(ground.status(*channel, messages[0]).await, MessageStatus::Queued);
        } else {
            assert_eq!(ids(&claim), messages[1..]);
            assert_eq!(ground.status(*channel, messages[0]).await, MessageStatus::Sent);
        }
    }
    assert_eq!(transactions(&database, MessageStatus::Sent), 1);
    assert_eq!(transactions(&database, MessageStatus::Sending), 1);
}

#[tokio::test]
async fn a_channel_whose_row_is_locked_delays_no_other() {
    let (ground, database, channels) = channels().await;
    let lock = lock_of(&database, channels[0].0).await;
    let requests: Vec<_> = channels.iter().map(|(channel, _)| request(*channel)).collect();
    let locked = ground.store.claim(requests[0].clone());
    let others = async {
        let others = claims(&ground, requests[1..].to_vec()).await;
        drop(lock);
        others
    };
    let (locked, others) = join(locked, others).await;
    for (claim, (_, messages)) in others.iter().zip(&channels[1..]) {
        assert_eq!(ids(claim.as_ref().expect("claimed")), messages[..1]);
    }
    assert_eq!(ids(&locked.expect("claimed as soon as the lock is free")), channels[0].1[..1]);
}

#[tokio::test]
async fn an_outcome_that_cannot_be_stored_spoils_no_other() {
    let (ground, _database, channels) = channels().await;
    let first = claims(&ground, channels.iter().map(|(channel, _)| request(*channel)).collect()).await;
    let calls = channels.iter().zip(first).enumerate().map(|(n, ((channel, _), claim))| {
        let seq = claim.expect("claimed").messages[0].seq;
        // PostgreSQL refuses this character.
        let code = if n == 3 { "\0" } else { "X" };
        let settlement = Settlement::Failed { code: code.to_owned(), message: String::new() };
        let outcomes =
            Outcomes { channel: *channel, epoch: 0, settled: vec![(seq, settlement)], next_send_at: None, now: NOW };
        ground.store.settle_and_claim(outcomes, ClaimRequest { held: vec![seq], ..request(*channel) })
    });
    for (n, ((settled, claim), (channel, messages))) in join_all(calls).await.into_iter().zip(&channels).enumerate() {
        let status = ground.status(*channel, messages[0]).await;
        if n == 3 {
            assert!(matches!(settled, Err(StoreError::Refused(_))), "{settled:?}");
            assert_eq!(status, MessageStatus::Sending);
        } else {
            settled.expect("settled");
            assert_eq!(status, MessageStatus::Failed);
            assert_eq!(ids(&claim.expect("claimed")), messages[1..]);
        }
    }
}

#[tokio::test]
async fn a_claim_that_scans_many_messages_has_its_own_transaction() {
    let (ground, database, channels) = channels().await;
    let (fresh, others) = channels.split_first().expect("some");
    for (channel, _) in others {
        for _ in 0..3 {
            ground.accept(*channel, "551").await;
        }
    }
    let old = "UPDATE messages SET expires_at = 1 WHERE channel_key <> ";
    test_postgres::run(database.url(), &format!("{old}{}", fresh.0));
    let answers = claims(&ground, channels.iter().map(|(channel, _)| request(*channel)).collect()).await;
    let claimed: Vec<_> = answers.iter().map(|answer| ids(answer.as_ref().expect("claimed"))).collect();
    assert_eq!(claimed[0], fresh.1[..1]);
    assert!(claimed[1..].iter().all(Vec::is_empty), "{claimed:?}");
    let expired = format!("SELECT count(*) FROM messages WHERE status = {}", MessageStatus::Expired.number());
    assert_eq!(number(database.url(), &expired), 4 * 5);
    assert_eq!(transactions(&database, MessageStatus::Expired), 4, "each in a transaction of its own");
}

#[tokio::test]
async fn receipts_that_wait_for_a_lock_delay_no_other_call() {
    let (ground, database, channels) = channels().await;
    let mut receipts = Vec::new();
    for (channel, _) in &channels {
        let claimed = ground.claim_one(*channel).await;
        ground.settle(*channel, claimed.seq, sent()).await;
        let of = MessageRef::NetworkId(NetworkId::from_stored(claimed.network_id));
        let status = MessageStatus::Delivered;
        receipts.push(Receipt {
            channel: *channel,
            of,
            status,
            at: NOW,
            from: None,
            account: None,
            error: None,
            pauses: None,
            pricing: None,
        });
    }
    // An unmatched receipt is stored under the lock of the channel.
    let early = MessageRef::RemoteId { remote_id: NetworkId::from_stored("wamid.1".to_owned()), ours: None };
    let early = Receipt { of: early, ..receipts[0].clone() };
    let lock = lock_of(&database, channels[0].0).await;
    let waits = ground.store.apply_receipts(vec![early, receipts[0].clone()], NOW);
    let others = async {
        let calls = receipts[1..].iter().map(|receipt| ground.store.apply_receipts(vec![receipt.clone()], NOW));
        let others = join_all(calls).await;
        drop(lock);
        others
    };
    let (waited, others) = join(waits, others).await;
    waited.expect("applied as soon as the lock is free");
    others.into_iter().for_each(|applied| applied.expect("applied"));
    for (channel, messages) in &channels {
        assert_eq!(ground.status(*channel, messages[0]).await, MessageStatus::Delivered);
    }
    assert_eq!(transactions(&database, MessageStatus::Delivered), 1, "applied together");
    assert_eq!(number(database.url(), "SELECT count(*) FROM early_receipts"), 1);
}

/// A claim of some messages on a channel where each recipient has a queue.
fn some(channel: ChannelKey) -> ClaimRequest {
    ClaimRequest { limit: 4, ..request(channel) }
}

/// An outcome of each of these messages.
fn outcomes(channel: ChannelKey, claimed: &[Claimed], outcome: impl Fn(&Claimed) -> Settlement) -> Outcomes {
    let settled = claimed.iter().map(|message| (message.seq, outcome(message))).collect();
    Outcomes { channel, epoch: 0, settled, next_send_at: None, now: NOW }
}

/// How many of a channel's messages have this value of `head`.
fn placed(database: &PgDatabase, channel: ChannelKey, head: i16) -> i64 {
    number(database.url(), &format!("SELECT count(*) FROM messages WHERE channel_key = {channel} AND head = {head}"))
}

#[tokio::test]
async fn recipients_of_all_channels_share_a_transaction_and_a_fenced_channel_changes_nothing() {
    let (ground, database, channels) = channels_of(ChannelType::CloudApi, ["551", "552"]).await;
    let fenced = 2;
    let asked = channels.iter().enumerate().map(|(n, (channel, _))| {
        let epoch = if n == fenced { 7 } else { 0 };
        ClaimRequest { epoch, ..some(*channel) }
    });
    let answers = claims(&ground, asked.collect()).await;
    for (n, (answer, (channel, messages))) in answers.iter().zip(&channels).enumerate() {
        if n == fenced {
            assert!(matches!(answer, Err(StoreError::Fenced)), "{answer:?}");
            assert_eq!(ground.status(*channel, messages[0]).await, MessageStatus::Queued);
            assert_eq!(placed(&database, *channel, 2), 2, "not even their places are found");
        } else {
            assert_eq!(ids(answer.as_ref().expect("claimed")), messages, "both recipients' first ones");
        }
    }
    assert_eq!(transactions(&database, MessageStatus::Sending), 1, "the others share a transaction");
}

#[tokio::test]
async fn outcomes_elect_the_next_heads_and_apply_unmatched_receipts() {
    let (ground, database, channels) = channels_of(ChannelType::CloudApi, ["551", "551"]).await;
    let first = claims(&ground, channels.iter().map(|(channel, _)| some(*channel)).collect()).await;
    let first: Vec<_> = first.into_iter().map(|claim| claim.expect("claimed").messages).collect();
    for (claimed, (_, messages)) in first.iter().zip(&channels) {
        assert_eq!(claimed.iter().map(|message| message.id).collect::<Vec<_>>(), messages[..1], "one of a recipient");
    }
    // The same network ids exist in all channels; a receipt concerns one channel.
    let remote_id = NetworkId::from_stored("wamid.1".to_owned());
    let of = MessageRef::RemoteId { remote_id: remote_id.clone(), ours: None };
    let (channel, status) = (channels[1].0, MessageStatus::Delivered);
    let early =
        Receipt { channel, of, status, at: NOW, from: None, account: None, error: None, pauses: None, pricing: None };
    ground.apply(early).await;
    let calls = channels.iter().zip(&first).enumerate().map(|(n, ((channel, _), claimed))| {
        let outcome = |_: &Claimed| match n {
            0 => Settlement::Retry { run_at: NOW + MINUTE },
            _ => Settlement::Sent { account: None, remote_id: Some(remote_id.clone()), rendition: None },
        };
        ground.store.settle_and_claim(outcomes(*channel, claimed, outcome), some(*channel))
    });
    let answers = join_all(calls).await;
    for (n, ((settled, claim), (channel, messages))) in answers.into_iter().zip(&channels).enumerate() {
        settled.expect("settled");
        let claim = claim.expect("claimed");
        let (status, next) = match n {
            // It stays first of its recipient's while it waits.
            0 => (MessageStatus::Queued, &messages[..0]),
            1 => (MessageStatus::Delivered, &messages[1..]),
            _ => (MessageStatus::Sent, &messages[1..]),
        };
        assert_eq!((ground.status(*channel, messages[0]).await, ids(&claim)), (status, next.to_vec()), "{n}");
        assert_eq!(claim.next_at, Some(if n == 0 { NOW + MINUTE } else { NOW + DAY }), "{n}");
    }
    assert_eq!(transactions(&database, MessageStatus::Sending), 1);
    assert_eq!(number(database.url(), "SELECT count(*) FROM early_receipts"), 0);
}

#[tokio::test]
async fn a_locked_channel_delays_no_recipient_of_another() {
    let (ground, database, channels) = channels_of(ChannelType::CloudApi, ["551", "552"]).await;
    let lock = lock_of(&database, channels[0].0).await;
    let requests: Vec<_> = channels.iter().map(|(channel, _)| some(*channel)).collect();
    let locked = ground.store.claim(requests[0].clone());
    let others = async {
        let others = claims(&ground, requests[1..].to_vec()).await;
        drop(lock);
        others
    };
    let (locked, others) = join(locked, others).await;
    for (claim, (_, messages)) in others.iter().zip(&channels[1..]) {
        assert_eq!(ids(claim.as_ref().expect("claimed")), messages);
    }
    assert_eq!(ids(&locked.expect("claimed as soon as the lock is free")), channels[0].1);
}

#[tokio::test]
async fn a_channel_whose_head_expired_ends_some_in_each_batch_until_all_are_ended() {
    let (ground, database, channels) = channels_of(ChannelType::CloudApi, ["551", "552"]).await;
    let (old, others) = channels.split_first().expect("some");
    for _ in 0..40 {
        ground.accept(old.0, "551").await;
    }
    let age = format!("UPDATE messages SET expires_at = {NOW} WHERE channel_key = {}", old.0);
    test_postgres::run(database.url(), &age);
    let fresh = ground.accept(old.0, "553").await;
    let requests: Vec<_> = channels.iter().map(|(channel, _)| some(*channel)).collect();
    let answers = claims(&ground, requests.clone()).await;
    for (answer, (_, messages)) in answers[1..].iter().zip(others) {
        assert_eq!(ids(answer.as_ref().expect("claimed")), messages);
    }
    let first = answers[0].as_ref().expect("claimed");
    assert_eq!((ids(first), first.next_at), (vec![], Some(NOW)), "more are to be ended");
    let expired = format!("SELECT count(*) FROM messages WHERE status = {}", MessageStatus::Expired.number());
    assert_eq!(number(database.url(), &expired), 32, "as many as one channel may end in a batch");
    // The other channels claim again concurrently: their messages are in flight.
    let again = claims(&ground, requests).await;
    assert_eq!(ids(again[0].as_ref().expect("claimed")), [fresh]);
    assert_eq!(number(database.url(), &expired), 42);
}

#[tokio::test]
async fn the_pace_of_a_recipient_is_that_of_one_channel() {
    let (ground, _database, channels) = channels_of(ChannelType::CloudApi, ["551", "552"]).await;
    let pacing = |n| RecipientPacing { burst: 1, every: Duration::from_secs(n) };
    let paced = |n: u64, channel| ClaimRequest { recipient_pacing: (n > 0).then(|| pacing(n)), ..some(channel) };
    let requests: Vec<_> = (0..).zip(&channels).map(|(n, (channel, _))| paced(n, *channel)).collect();
    let first = claims(&ground, requests.clone()).await;
    let first: Vec<_> = first.into_iter().map(|claim| claim.expect("claimed").messages).collect();
    for (channel, _) in &channels {
        ground.accept(*channel, "551").await;
    }
    let calls = channels.iter().zip(&first).zip(requests).map(|(((channel, _), claimed), request)| {
        ground.store.settle_and_claim(outcomes(*channel, claimed, |_| sent()), request)
    });
    for (n, (settled, claim)) in (0..).zip(join_all(calls).await) {
        settled.expect("settled");
        let claim = claim.expect("claimed");
        let waits_until = if n == 0 { NOW + DAY } else { NOW + 1_000 * n };
        assert_eq!((claim.messages.len(), claim.next_at), (usize::from(n == 0), Some(waits_until)), "{n}");
    }
}

#[tokio::test]
async fn channels_that_open_chats_share_transactions_and_each_keeps_to_its_own_limit() {
    let (ground, database, channels) = channels_of(ChannelType::WhatsAppWeb, ["551", "552"]).await;
    let (limited, known, fenced) = (0, 1, 2);
    let request = |n: usize, channel, now| {
        let new_recipients_per_day = (n == limited || n == known).then_some(1);
        let epoch = if n == fenced { 7 } else { 0 };
        ClaimRequest { epoch, new_recipients_per_day, now, ..request(channel) }
    };
    let all = |now| channels.iter().enumerate().map(|(n, (channel, _))| request(n, *channel, now)).collect();
    let first = claims(&ground, all(NOW)).await;
    for (n, (answer, (channel, messages))) in first.iter().zip(&channels).enumerate() {
        if n == fenced {
            assert!(matches!(answer, Err(StoreError::Fenced)), "{answer:?}");
            assert_eq!(ground.status(*channel, messages[0]).await, MessageStatus::Queued);
        } else {
            assert_eq!(ids(answer.as_ref().expect("claimed")), messages[..1]);
        }
    }
    assert_eq!(transactions(&database, MessageStatus::Sending), 1, "the others share a transaction");
    assert!(ground.store.note_chat(channels[known].0, Party::of_number("552")).await.expect("noted"));
    // Each outcome opens a chat, which counts for the claim of the same call.
    let later = NOW + MINUTE;
    let calls = channels.iter().zip(&first).enumerate().filter_map(|(n, ((channel, _), claim))| {
        let claimed = &claim.as_ref().ok()?.messages;
        Some((n, ground.store.settle_and_claim(outcomes(*channel, claimed, |_| sent()), request(n, *channel, later))))
    });
    let (places, calls): (Vec<_>, Vec<_>) = calls.unzip();
    for (n, (settled, claim)) in places.into_iter().zip(join_all(calls).await) {
        settled.expect("settled");
        let (claim, (channel, messages)) = (claim.expect("claimed"), &channels[n]);
        assert_eq!(ground.status(*channel, messages[0]).await, MessageStatus::Sent);
        let next = if n == limited { &messages[..0] } else { &messages[1..] };
        assert_eq!(ids(&claim), next, "{n}");
        if n == limited {
            assert_eq!(claim.next_at, Some(NOW + DAY), "the second one would be a new chat");
        }
    }
    assert_eq!(transactions(&database, MessageStatus::Sent), 1);
    assert_eq!(transactions(&database, MessageStatus::Sending), 1);
    let chats = "SELECT count(*) FROM chats WHERE opened_at IS NOT NULL";
    assert_eq!(number(database.url(), chats), 4, "one on each channel but the fenced one");
    // The waiting messages are before the cursor by now, and expire there.
    let age = format!("UPDATE messages SET expires_at = {later} WHERE channel_key = {}", channels[limited].0);
    test_postgres::run(database.url(), &age);
    claims(&ground, all(later)).await;
    let (channel, messages) = &channels[limited];
    assert_eq!(ground.status(*channel, messages[1]).await, MessageStatus::Expired);
}
