//! Channels that share a transaction: what one of them meets is no matter of the others.

use std::sync::Arc;

use futures_util::future::{join, join_all};
use recado_domain::channel::ChannelKey;
use recado_domain::ids::{MessageId, NetworkId};
use recado_domain::message::Seq;
use recado_domain::queue::{Claim, ClaimRequest, Named, Outcomes, Receipt, Settlement};
use recado_domain::status::MessageStatus;
use test_postgres::number;
use tokio_postgres::NoTls;

use crate::fixtures::{Ground, MINUTE, NOW, PgDatabase, ids, request, sent};
use crate::{Result, StoreError};

const CHANNELS: usize = 5;

/// Some channels, each with two messages for one recipient.
async fn channels() -> (Ground, Arc<PgDatabase>, Vec<(ChannelKey, [MessageId; 2])>) {
    let database = Arc::new(PgDatabase::new());
    let ground = Ground::on(database.clone()).await;
    let mut channels = Vec::new();
    for n in 0..CHANNELS {
        let channel = ground.channel(&format!("loja-{n}")).await;
        channels.push((channel, [ground.accept(channel, "551").await, ground.accept(channel, "551").await]));
    }
    (ground, database, channels)
}

/// Claims on all of these channels at one moment.
async fn claims(ground: &Ground, requests: Vec<ClaimRequest>) -> Vec<Result<Claim>> {
    join_all(requests.into_iter().map(|request| ground.store.claim(request))).await
}

/// How many transactions have made the messages that are in this state what they are.
fn transactions(database: &PgDatabase, status: MessageStatus) -> i64 {
    number(
        database.url(),
        &format!("select count(distinct xmin::text) from messages where status = {}", status.number()),
    )
}

/// A transaction that has the lock of a channel's row until it is dropped.
async fn lock_of(database: &PgDatabase, channel: ChannelKey) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.expect("connects");
    tokio::spawn(connection);
    let lock = format!("begin; select from channels where key = {channel} for update");
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
    let turns = channels.iter().zip(&seqs).enumerate().map(|(n, ((channel, _), seq))| {
        // One is to be tried again later, and holds its channel meanwhile.
        let settlement = if n == 0 { Settlement::Retry { run_at: waits } } else { sent() };
        let settled = vec![(*seq, settlement)];
        let outcomes = Outcomes { channel: *channel, epoch: 0, settled, rest_until: None, now: NOW };
        ground.store.settle_and_claim(outcomes, ClaimRequest { held: vec![*seq], ..request(*channel) })
    });
    let answers = join_all(turns).await;
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
async fn a_channel_whose_row_is_locked_holds_up_no_other() {
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
    let turns = channels.iter().zip(first).enumerate().map(|(n, ((channel, _), claim))| {
        let seq = claim.expect("claimed").messages[0].seq;
        // No text in PostgreSQL has such a character.
        let code = if n == 3 { "\0" } else { "X" };
        let settlement = Settlement::Failed { code: code.to_owned(), message: String::new() };
        let outcomes =
            Outcomes { channel: *channel, epoch: 0, settled: vec![(seq, settlement)], rest_until: None, now: NOW };
        ground.store.settle_and_claim(outcomes, ClaimRequest { held: vec![seq], ..request(*channel) })
    });
    for (n, ((settled, claim), (channel, messages))) in join_all(turns).await.into_iter().zip(&channels).enumerate() {
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
async fn a_claim_that_looks_at_many_messages_goes_alone() {
    let (ground, database, channels) = channels().await;
    let (fresh, others) = channels.split_first().expect("some");
    for (channel, _) in others {
        for _ in 0..3 {
            ground.accept(*channel, "551").await;
        }
    }
    let old = "update messages set expires_at = 1 where channel_key <> ";
    test_postgres::run(database.url(), &format!("{old}{}", fresh.0));
    let answers = claims(&ground, channels.iter().map(|(channel, _)| request(*channel)).collect()).await;
    let claimed: Vec<_> = answers.iter().map(|answer| ids(answer.as_ref().expect("claimed"))).collect();
    assert_eq!(claimed[0], fresh.1[..1]);
    assert!(claimed[1..].iter().all(Vec::is_empty), "{claimed:?}");
    let expired = format!("select count(*) from messages where status = {}", MessageStatus::Expired.number());
    assert_eq!(number(database.url(), &expired), 4 * 5);
    assert_eq!(transactions(&database, MessageStatus::Expired), 4, "each in a transaction of its own");
}

#[tokio::test]
async fn receipts_that_wait_for_a_lock_hold_up_no_other_call() {
    let (ground, database, channels) = channels().await;
    let mut receipts = Vec::new();
    for (channel, _) in &channels {
        let claimed = ground.claim_one(*channel).await;
        ground.settle(*channel, claimed.seq, sent()).await;
        let of = Named::NetworkId(NetworkId::from_stored(claimed.network_id));
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
        });
    }
    // A name that no message has yet: it is kept, under the lock of the channel.
    let early = Named::RemoteId { remote_id: NetworkId::from_stored("wamid.1".to_owned()), ours: None };
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
    assert_eq!(number(database.url(), "select count(*) from early_receipts"), 1);
}
