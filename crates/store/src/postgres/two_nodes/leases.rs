//! Leases: late nodes, releases, and failures of single statements.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use recado_domain::channel::{Channel, ChannelKey, ChannelState, ChannelType, Epoch, Held, Link};
use recado_domain::message::{Cancelled, Enqueued, NewMessage};
use recado_domain::queue::{ClaimRequest, Outcomes, Settlement};
use recado_domain::status::MessageStatus;
use test_postgres::{number, run};

use super::nodes;
use crate::conformance::inbox::batch;
use crate::fixtures::{DAY, Ground, NOW, PgDatabase, ids, request, sent};
use crate::nodes::{ClusterStore, NewNode, NodeId};
use crate::postgres::PgStore;
use crate::sqlkit::postgres::hosts::Hosts;
use crate::{Channels, Inbox, Links, Queue, Sessions, StoreError};

#[tokio::test]
async fn a_node_whose_time_has_passed_changes_nothing() {
    let (ground, other, database) = nodes().await;
    for kind in ChannelType::ALL {
        let channel = ground.channel_of(kind, kind.name()).await;
        let sending = ground.accept(channel, "551").await;
        let waiting = ground.accept(channel, "552").await;
        let claimed = ground.claim_one(channel).await;
        run(database.url(), &format!("UPDATE channels SET lease_epoch = 7 WHERE key = {channel}"));
        let before = (ground.all(channel).await, ground.store.channel(channel).await.expect("read"));
        for epoch in [0, 6, 8] {
            let late =
                ClaimRequest { epoch, held: vec![claimed.seq], send_interval: 500, limit: 9, ..request(channel) };
            let settled = vec![(claimed.seq, Settlement::HoldChannel { until: NOW + DAY })];
            let outcomes = Outcomes { channel, epoch, settled, next_send_at: Some(NOW + DAY), now: NOW };
            assert!(matches!(ground.store.claim(late.clone()).await, Err(StoreError::Fenced)));
            assert!(matches!(ground.store.settle(outcomes.clone()).await, Err(StoreError::Fenced)));
            let both = ground.store.settle_and_claim(outcomes, late).await;
            assert!(matches!(both, (Err(StoreError::Fenced), Err(StoreError::Fenced))), "{both:?}");
        }
        let after = (ground.all(channel).await, ground.store.channel(channel).await.expect("read"));
        assert_eq!(after, before, "{kind:?}");
        // Receipts of the network and cancellations by a person need no lease.
        ground.receipt(channel, &claimed.network_id, MessageStatus::Delivered).await;
        assert_eq!(ground.status(channel, sending).await, MessageStatus::Delivered);
        assert_eq!(other.cancel(channel, waiting, NOW).await.expect("works"), Cancelled::Done);
        let third = ground.accept(channel, "553").await;
        let settled = vec![(claimed.seq, sent())];
        let outcomes = Outcomes { channel, epoch: 7, settled, next_send_at: None, now: NOW };
        let (settled, claim) = other.settle_and_claim(outcomes, ClaimRequest { epoch: 7, ..request(channel) }).await;
        settled.expect("it has the channel");
        assert_eq!(ids(&claim.expect("it has the channel")), [third], "{kind:?}");
    }
}

/// Two nodes. The first one owns a channel with a message.
async fn held() -> (Ground, Arc<PgStore>, [NodeId; 2], (ChannelKey, Epoch), Arc<PgDatabase>) {
    let (ground, _, database) = nodes().await;
    let channel = ground.channel("loja").await;
    ground.accept(channel, "551").await;
    let store = Arc::new(PgStore::open(database.url(), database.direct_url(), 2).await.expect("the store opens"));
    let new = |name: &str| NewNode { name: name.to_owned(), address: None, types: ChannelType::ALL.to_vec() };
    let first = store.join(&new("first"), HOUR).await.expect("joined");
    let second = store.join(&new("second"), HOUR).await.expect("joined");
    let kind = ground.store.channel(channel).await.expect("read").expect("there").kind;
    let acquired = store.acquire(first, kind, 9).await.expect("acquired");
    assert_eq!(acquired.len(), 1);
    assert_eq!(store.acquire(second, kind, 9).await.expect("asked"), [], "another node has it");
    (ground, store, [first, second], acquired[0], database)
}

const HOUR: Duration = Duration::from_hours(1);

/// The channels that the node acquires. A fenced transaction is rolled back after its caller has the answer. Until then
/// its lock hides the channel, as any lock of a channel does.
async fn acquire_when_unlocked(store: &PgStore, node: NodeId) -> Vec<(ChannelKey, Epoch)> {
    for _ in 0..200 {
        let acquired = store.acquire(node, ChannelType::Sandbox, 9).await.expect("acquired");
        if !acquired.is_empty() {
            return acquired;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    Vec::new()
}

#[tokio::test]
async fn a_released_channel_has_no_owner_until_it_is_acquired() {
    let (_ground, store, [first, second], (channel, epoch), _database) = held().await;
    let claim = |epoch| store.claim(ClaimRequest { epoch, ..request(channel) });
    store.release(second, &[(channel, epoch)]).await.expect("asked");
    assert_eq!(store.owner(channel).await.expect("read").map(|node| node.id), Some(first), "it was not the second's");
    store.release(first, &[(channel, epoch - 1)]).await.expect("asked");
    assert_eq!(store.owner(channel).await.expect("read").map(|node| node.id), Some(first), "of that it knows nothing");
    store.release(first, &[(channel, epoch)]).await.expect("given back");
    assert!(matches!(claim(epoch).await, Err(StoreError::Fenced)));
    assert!(matches!(store.end_session(Held { channel, epoch, session: 0 }).await, Err(StoreError::Fenced)));
    let (up, down) = (ChannelState::Connected, ChannelState::Disconnected);
    let says_down = |epoch| {
        store.move_held_channel(Held { channel, epoch, session: 0 }, crate::fixtures::channel_move(up, down, NOW))
    };
    assert!(matches!(says_down(epoch).await, Err(StoreError::Fenced)));
    let links = |epoch| {
        let link = Link { channel, details: "{}".to_owned(), sealed: vec![1] };
        store.link_held_channel(link, Held { channel, epoch, session: 1 }, down, NOW)
    };
    assert!(matches!(links(epoch).await, Err(StoreError::Fenced)));
    assert_eq!(store.held(first).await.expect("read"), []);
    let acquired = acquire_when_unlocked(&store, second).await;
    assert_eq!(acquired.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [channel]);
    assert_eq!(claim(acquired[0].1).await.expect("it has the channel").messages.len(), 1);
    assert!(says_down(acquired[0].1).await.expect("it has the channel"));
    assert!(!says_down(acquired[0].1).await.expect("it has the channel"), "it is down");
    assert!(matches!(links(epoch).await, Err(StoreError::Fenced)), "the former holder says nothing of it");
    let receives = |epoch| {
        let nothing = batch(channel, Vec::new());
        store.receive_held(Held { channel, epoch, session: 0 }, nothing, NOW)
    };
    assert!(matches!(receives(epoch).await, Err(StoreError::Fenced)), "and receives nothing");
    assert!(receives(acquired[0].1).await.expect("it has the channel").is_some());
    let held = Held { channel, epoch: acquired[0].1, session: 0 };
    store.end_session(held).await.expect("it has the channel");
    assert!(links(acquired[0].1).await.expect("it has the channel"));
}

#[tokio::test]
async fn messages_of_a_deleted_channel_find_a_node() {
    let (_ground, store, [first, second], (channel, _), _database) = held().await;
    store.delete_channel(channel, recado_domain::channel::Actor::Operator, NOW).await.expect("deleted");
    assert_eq!(store.acquire_deleted(second, ChannelType::Sandbox).await.expect("asked"), [], "another node has it");
    store.deregister(first).await.expect("left");
    assert_eq!(store.acquire(second, ChannelType::Sandbox, 9).await.expect("asked"), [], "it counts in no quota");
    assert_eq!(store.acquire_deleted(second, ChannelType::CloudApi).await.expect("asked"), []);
    assert_eq!(store.acquire_deleted(second, ChannelType::Sandbox).await.expect("acquired").len(), 1);
    store.cancel_former(channel, 9, NOW).await.expect("cancelled");
    store.deregister(second).await.expect("left");
    let third = NewNode { name: "third".to_owned(), address: None, types: vec![ChannelType::Sandbox] };
    let third = store.join(&third, HOUR).await.expect("joined");
    assert_eq!(store.acquire_deleted(third, ChannelType::Sandbox).await.expect("asked"), [], "nothing is open in it");
}

#[tokio::test]
async fn a_channel_of_a_newer_version_hides_no_other() {
    let (ground, store, _, (channel, _), database) = held().await;
    let other = ground.channel("outra").await;
    run(database.url(), &format!("UPDATE channels SET type = 'FUTURE', version = 1000 WHERE key = {channel}"));
    run(database.url(), &format!("UPDATE channels SET version = 1000 WHERE key = {other}"));
    let keys = |channels: Vec<Channel>| channels.into_iter().map(|channel| channel.key).collect::<Vec<_>>();
    assert_eq!(keys(store.channels().await.expect("read")), [other]);
    assert_eq!(keys(store.changes_since(999).await.expect("read").channels), [other]);
}

/// A failure of one table, file or page is no loss of the database.
#[tokio::test]
async fn trouble_of_one_statement_is_its_own() {
    let (ground, _, database) = nodes().await;
    let channel = ground.channel("loja").await;
    run(
        database.url(),
        "CREATE FUNCTION fail() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
             IF new.recipient LIKE '6%' THEN RAISE EXCEPTION 'no room' USING ERRCODE = '5' || right(new.recipient, 4); END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER fail BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION fail();",
    );
    let health = ground.store.health();
    for recipient in ["63100", "63200", "63400"] {
        let failed = ground.store.enqueue(ground.new_message(channel, recipient)).await;
        assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{recipient}: {failed:?}");
        ground.accept(channel, "551").await;
    }
    assert!(!health.has_changed().expect("the store is open"), "it was given up for a moment");
}

#[tokio::test]
async fn an_outcome_that_cannot_be_recorded_keeps_no_claim() {
    let (ground, _, _database) = nodes().await;
    let channel = ground.channel_by_recipient("loja").await;
    ground.accept(channel, "551").await;
    let claimed = ground.claim_one(channel).await;
    let next = ground.accept(channel, "552").await;
    // PostgreSQL refuses a NUL in a text.
    let settled = vec![(claimed.seq, Settlement::Failed { code: "X".to_owned(), message: "\0".to_owned() })];
    let outcomes = Outcomes { channel, epoch: 0, settled, next_send_at: None, now: NOW };
    let (settled, claim) = ground.store.settle_and_claim(outcomes, request(channel)).await;
    assert!(matches!(settled, Err(StoreError::Refused(_))), "{settled:?}");
    assert_eq!(ids(&claim.expect("it is no fault of the claim")), [next]);
}

/// The messages of a batch whose answer was lost are found by their ids.
#[tokio::test]
async fn a_lost_connection_loses_no_answer_for_long() {
    let (ground, _, database) = nodes().await;
    let channel = ground.channel("loja").await;
    // Its backend ends itself, once.
    run(
        database.url(),
        "CREATE TABLE ended (n bigint);
         CREATE FUNCTION end_it() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
             IF new.recipient = '666' THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER end_it BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION end_it();",
    );
    let lost = ground.store.enqueue(ground.new_message(channel, "666")).await;
    assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
    assert_eq!(ground.all(channel).await, [], "it was not reported as stored");
    ground.accept(channel, "551").await;
}

/// Opens a store with so few connections that they do not suffice for all that is done at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_channels_share_a_few_connections() {
    let (ground, _, database) = nodes().await;
    let store = PgStore::open(database.url(), database.direct_url(), 2).await.expect("the store opens");
    let mut channels = Vec::new();
    for n in 0..20 {
        channels.push(ground.channel(&format!("canal-{n}")).await);
    }
    let (ground, store) = (&ground, &store);
    let done = channels.iter().map(|channel| async move {
        for _ in 0..5 {
            let message = ground.new_message(*channel, "551");
            assert_eq!(store.enqueue(message).await.expect("the store works"), Enqueued::Accepted);
            let claim = store.claim(request(*channel)).await.expect("the store works");
            let settled = vec![(claim.messages[0].seq, sent())];
            let outcomes = Outcomes { channel: *channel, epoch: 0, settled, next_send_at: None, now: NOW };
            store.settle(outcomes).await.expect("the store works");
        }
    });
    join_all(done).await;
    assert!(store.open_channels().await.expect("read").is_empty());
}

/// How a node of the version before kinds joins: without a level.
const JOIN_OF_BEFORE: &str = "INSERT INTO nodes (name, types, lease_until)
                              VALUES ('before', '', clock_timestamp() + interval '1 hour')";

#[tokio::test]
async fn no_message_is_stored_that_an_old_node_cannot_send() {
    let database = Arc::new(PgDatabase::new());
    run(database.direct_url(), JOIN_OF_BEFORE);
    let ground = Ground::on(database.clone()).await;
    let node = PgStore::open(database.url(), database.direct_url(), 2).await.expect("the store opens");
    let channel = ground.channel("loja").await;
    let short =
        r#"{"to":"551","type":"contact","contact":{"name":"Maria","phone":"552","email":null,"organization":null}}"#;
    let contact = |payload: &str| NewMessage { payload: payload.to_owned(), ..ground.new_message(channel, "551") };
    let refused = [
        NewMessage { kind: "text", rendition: None, ..contact(short) },
        NewMessage { reference: Some("pedido-1".to_owned()), ..contact(short) },
        contact(&short.replace("\"email\"", "\"title\":\"x\",\"email\"")),
        contact(&short.replace("\"type\"", "\"replyTo\":\"x\",\"type\"")),
        NewMessage { rendition: Some(r#"{"cards":[]}"#.to_owned()), ..contact(short) },
        NewMessage { recipient: "BR.1502576394655843".to_owned(), ..contact(short) },
    ];
    for message in &refused {
        assert_eq!(ground.enqueue(message.clone()).await, Enqueued::OldNodes, "{message:?}");
    }
    let accepted = contact(short);
    assert_eq!(ground.enqueue(accepted.clone()).await, Enqueued::Accepted);
    let of_before = "SELECT count(*) FROM messages WHERE kind IS NULL AND rendition IS NULL AND card = 'BEGIN:VCARD'
                     AND card_account = '551' AND card_account_known";
    assert_eq!(number(database.direct_url(), of_before), 1, "in the form that the version before reads");
    let stored = ground.message(channel, accepted.id).await;
    assert_eq!((stored.kind.as_str(), stored.rendition), ("contact", accepted.rendition));

    run(database.direct_url(), "UPDATE nodes SET lease_until = clock_timestamp() - interval '1 second'");
    // The old node may return from an outage: the first refresh without it ends nothing.
    node.nodes(None).await.expect("looked");
    assert_eq!(node.enqueue(refused[0].clone()).await.expect("answered"), Enqueued::OldNodes);
    while node.enqueue(refused[0].clone()).await.expect("answered") == Enqueued::OldNodes {
        node.nodes(None).await.expect("looked");
    }
    // A suspended node of the old version joins again, and another one is started.
    let (client, connection) =
        Hosts::parse(database.direct_url(), "").expect("a URL").connect().await.expect("connected");
    tokio::spawn(connection);
    client.batch_execute(JOIN_OF_BEFORE).await.expect_err("it would claim the row");
    let works_from = "SELECT max(works_from)::bigint FROM recado_migrations";
    assert_eq!(number(database.direct_url(), works_from), 15, "it reports that a newer version has worked here");
    let fresh = PgStore::open(database.url(), database.direct_url(), 2).await.expect("the store opens");
    assert_eq!(fresh.enqueue(refused[1].clone()).await.expect("answered"), Enqueued::Accepted);
}
