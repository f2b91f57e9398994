//! Two stores on one database, like two nodes: what they do concurrently.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use recado_domain::channel::{Channel, ChannelKey, ChannelState, ChannelType, Epoch, Held, Link};
use recado_domain::clock::Millis;
use recado_domain::ids::MessageId;
use recado_domain::incoming::SenderIds;
use recado_domain::message::{Cancelled, Enqueued, MessageQuery, NewMessage, Promoted};
use recado_domain::party::Party;
use recado_domain::queue::{Claim, ClaimRequest, Outcomes, PurgeRequest, Settlement};
use recado_domain::status::MessageStatus;
use test_postgres::{number, run};

use super::PgStore;
use crate::conformance::inbox::{batch, contacts, conversations, delivered, record, text};
use crate::fixtures::{DAY, Engine, Ground, MINUTE, NOW, PgDatabase, ids, request, sent};
use crate::nodes::{ClusterStore, NewNode, NodeId};
use crate::sqlkit::postgres::hosts::Hosts;
use crate::{Channels, Inbox, Links, Queue, Sessions, Store, StoreError};

/// A node with the tests' rows, another one, and their database.
async fn nodes() -> (Ground, Arc<dyn Store>, Arc<PgDatabase>) {
    let database = Arc::new(PgDatabase::new());
    let ground = Ground::on(database.clone()).await;
    let other = database.open().await;
    (ground, other, database)
}

/// Hides a message, as if another node had not stored it yet, and brings it to light.
fn hide(database: &PgDatabase, seq: i64) {
    run(database.url(), &format!("UPDATE messages SET channel_key = -channel_key WHERE seq = {seq}"));
}

async fn claim_at(ground: &Ground, channel: ChannelKey, now: Millis) -> Claim {
    ground.claim(ClaimRequest { now, claimed_until: now + MINUTE, ..request(channel) }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_two_nodes_use_at_once_makes_one_message() {
    let (ground, other, _database) = nodes().await;
    let channel = ground.channel("loja").await;
    let (ground, other) = (&ground, &other);
    let rounds = (0..300).map(|n| async move {
        let call = || {
            let idempotency = Some(ground.idempotency(&format!("chave {n}"), 1));
            NewMessage { idempotency, ..ground.new_message(channel, "551") }
        };
        let calls = [(call(), true), (call(), false), (call(), true), (call(), false)];
        let answers = calls.map(|(call, here)| async move {
            let id = call.id;
            let answer = if here { ground.store.enqueue(call).await } else { other.enqueue(call).await };
            (id, answer.expect("the store works"))
        });
        join_all(answers).await
    });
    for answers in join_all(rounds).await {
        let accepted: Vec<MessageId> =
            answers.iter().filter(|(_, answer)| *answer == Enqueued::Accepted).map(|(id, _)| *id).collect();
        assert_eq!(accepted.len(), 1, "{answers:?}");
        let rest = answers.iter().filter(|(_, answer)| *answer != Enqueued::Accepted);
        for (_, answer) in rest {
            assert_eq!(*answer, Enqueued::Replayed(accepted[0]));
        }
    }
    assert_eq!(ground.all(channel).await.len(), 300);
}

/// The messages of each caller to a recipient are sent in the order of acceptance, whichever node accepted them.
async fn every_recipient_gets_a_head(kind: ChannelType) {
    const CALLERS: usize = 6;
    const EACH: usize = 40;
    let (ground, other, _database) = nodes().await;
    let channel = ground.channel_of(kind, "loja").await;
    let (ground, other) = (&ground, &other);
    let callers = (0..CALLERS).map(|caller| async move {
        let mut accepted = Vec::new();
        for n in 0..EACH {
            let message = ground.new_message(channel, "551");
            accepted.push(message.id);
            let store = if (caller + n) % 2 == 0 { &ground.store } else { other };
            assert_eq!(store.enqueue(message).await.expect("the store works"), Enqueued::Accepted);
        }
        accepted
    });
    let sender = async {
        let mut claimed = Vec::new();
        while claimed.len() < CALLERS * EACH {
            let store = if claimed.len() % 2 == 0 { &ground.store } else { other };
            let claim = store.claim(ClaimRequest { limit: 8, ..request(channel) }).await.expect("the store works");
            assert!(claim.messages.len() <= 1, "each recipient has one queue: {claim:?}");
            for message in claim.messages {
                claimed.push(message.id);
                ground.settle(channel, message.seq, sent()).await;
            }
        }
        claimed
    };
    let sent_all = async { tokio::time::timeout(Duration::from_mins(1), sender).await };
    let (accepted, claimed) = join(join_all(callers), sent_all).await;
    let claimed = claimed.expect("all are claimed");
    let places: HashMap<_, _> = claimed.iter().enumerate().map(|(place, id)| (*id, place)).collect();
    assert_eq!(places.len(), CALLERS * EACH, "each once");
    for own in accepted {
        let places: Vec<_> = own.iter().map(|id| places[id]).collect();
        assert!(places.is_sorted(), "{places:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipients_messages_of_both_go_in_order() {
    every_recipient_gets_a_head(ChannelType::CloudApi).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channels_messages_of_both_go_in_order() {
    every_recipient_gets_a_head(ChannelType::Sandbox).await;
}

#[tokio::test]
async fn a_message_that_is_committed_late_becomes_head() {
    let (ground, _, database) = nodes().await;
    let channel = ground.channel_by_recipient("loja").await;
    let first = ground.accept(channel, "551").await;
    let seq = ground.message(channel, first).await.seq;
    hide(&database, seq);
    let second = ground.accept(channel, "551").await;
    // Elects the second message as head.
    ground.claim(ClaimRequest { limit: 0, ..request(channel) }).await;
    hide(&database, seq);
    let all = ClaimRequest { limit: 9, ..request(channel) };
    assert_eq!(ids(&ground.claim(all.clone()).await), [first]);
    ground.settle(channel, seq, sent()).await;
    assert_eq!(ids(&ground.claim(all).await), [second]);
}

#[tokio::test]
async fn waiting_messages_are_passed_once_none_can_appear_before_them() {
    let (ground, _, database) = nodes().await;
    let channel = ground.channel_of(ChannelType::WhatsAppWeb, "loja").await;
    ground.store.restrict_channel(channel, NOW + DAY, String::new(), NOW).await.expect("stored");
    ground.store.note_chat(channel, Party::of_number("77")).await.expect("stored");
    let known = ground.accept(channel, "77").await;
    let seq = ground.message(channel, known).await.seq;
    hide(&database, seq);
    for recipient in ["551", "552"] {
        ground.accept(channel, recipient).await;
    }
    let cursor = || number(database.url(), &format!("SELECT front_before FROM channels WHERE key = {channel}"));
    assert_eq!(claim_at(&ground, channel, NOW + 14_999).await.messages, []);
    assert_eq!(cursor(), 0, "one may come before them");
    hide(&database, seq);
    let claim = claim_at(&ground, channel, NOW + 14_999).await;
    assert_eq!(ids(&claim), [known]);
    ground.settle(channel, seq, sent()).await;
    assert_eq!(claim_at(&ground, channel, NOW + 15_000).await.messages, []);
    assert_eq!(cursor(), seq + 3, "they are not scanned again");
}

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

/// A due message is queued once, by any node, even if the node that accepted it has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_message_is_queued_once_by_any_node() {
    const MESSAGES: usize = 1_200;
    let (ground, other, database) = nodes().await;
    let channels = [ground.channel("loja").await, ground.channel("outra").await, ground.channel("mais").await];
    let scheduled = (0..MESSAGES).map(|n| {
        let message = ground.new_message(channels[n % channels.len()], "551");
        ground.enqueue_id(NewMessage { send_at: Some(NOW), ..message })
    });
    join_all(scheduled).await;
    ground.store.close().await;
    let third = database.open().await;
    let all = |store: Arc<dyn Store>| async move {
        let mut queued = 0;
        loop {
            let promoted = store.promote(NOW).await.expect("the store works");
            queued += promoted.messages;
            if promoted.next_at.is_none() {
                return queued;
            }
        }
    };
    let (here, there) = join(all(other.clone()), all(third)).await;
    assert_eq!(here + there, MESSAGES);
    for channel in channels {
        let page = other.messages(MessageQuery::of(channel, MESSAGES)).await.expect("read").expect("no cursor");
        assert!(page.messages.iter().all(|message| message.seq > 0 && message.status == MessageStatus::Queued));
    }
}

#[tokio::test]
async fn messages_are_due_by_the_clock_of_the_database() {
    let (_, other, database) = nodes().await;
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    let before = number(database.direct_url(), sql);
    let now = other.clock().await.expect("read").expect("the database has one");
    assert!((before..=number(database.direct_url(), sql)).contains(&now), "{before}, {now}");
}

/// The other node asks for the channel's state, then the channel is deleted, then the other node stores the message.
#[tokio::test]
async fn a_message_that_is_scheduled_beside_a_deletion_is_cancelled() {
    let (ground, other, database) = nodes().await;
    let channel = ground.channel("loja").await;
    let message = NewMessage { send_at: Some(NOW + DAY), ..ground.new_message(channel, "551") };
    let id = ground.enqueue_id(message).await;
    ground.delete_channel(channel, NOW).await;
    // As if the deletion had not seen the message.
    run(database.direct_url(), &format!("UPDATE schedule SET due_at = {}", NOW + DAY));
    assert_eq!(other.promote(NOW).await.expect("the store works"), Promoted { messages: 1, next_at: None });
    assert_eq!(ground.status(channel, id).await, MessageStatus::Cancelled);
}

#[tokio::test]
async fn a_channel_of_a_newer_version_delays_no_message_of_others() {
    let (ground, _, database) = nodes().await;
    let (newer, known) = (ground.channel("loja").await, ground.channel("outra").await);
    for channel in [newer, known] {
        ground.enqueue_id(NewMessage { send_at: Some(NOW), ..ground.new_message(channel, "551") }).await;
    }
    run(database.direct_url(), &format!("UPDATE channels SET type = 'OF_A_NEWER_VERSION' WHERE key = {newer}"));
    let left = Promoted { messages: 1, next_at: Some(NOW) };
    assert_eq!(ground.store.promote(NOW).await.expect("the store works"), left);
    assert_eq!(ground.store.promote(NOW).await.expect("nor is it an error alone"), Promoted { messages: 0, ..left });
    assert_eq!(ground.store.open_channels().await.expect("read"), [known]);
}

/// The first messages of new people arrive on two nodes and two channels at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_person_on_two_nodes_is_one_contact_with_one_conversation() {
    const PEOPLE: usize = 12;
    const EACH: usize = 6;
    let (ground, other, _database) = nodes().await;
    let channels = [ground.channel("um").await, ground.channel("dois").await];
    let calls = (0..PEOPLE * EACH * 2).map(|n| {
        let (person, place) = (n % PEOPLE, n / PEOPLE);
        let ids = SenderIds {
            phone: Some(format!("55119888877{person:02}")),
            lid: Some(format!("9000{person}")),
            ..SenderIds::default()
        };
        // Each message comes twice, once to each node.
        let message = text(&format!("A{person}-{}", place / 2), ids, "Oi");
        let store = if place % 2 == 0 { &ground.store } else { &other };
        store.receive(batch(channels[place / 2 % 2], vec![message]), NOW)
    });
    for received in join_all(calls).await {
        received.expect("stored");
    }
    assert_eq!(contacts(&ground).await.len(), PEOPLE);
    assert_eq!(conversations(&ground).await.len(), 2 * PEOPLE, "one on each channel");
    let mut all = delivered(&ground, channels[0]).await;
    all.extend(delivered(&ground, channels[1]).await);
    assert_eq!(all.len(), PEOPLE * EACH);
    let unread: u32 = conversations(&ground).await.iter().map(|conversation| conversation.unread).sum();
    assert_eq!(unread, u32::try_from(PEOPLE * EACH).expect("few"));
}

/// The purge of one node deletes a conversation while another node stores a message that belongs to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_beside_an_arrival_loses_no_message() {
    const PEOPLE: usize = 40;
    let (ground, other, _database) = nodes().await;
    record(&ground).await;
    let channel = ground.channel("um").await;
    let says = |id: &str, n: usize| {
        let person = SenderIds::of_phone(&format!("55119888877{n:02}"));
        batch(channel, vec![text(&format!("{id}{n}"), person, "Oi")])
    };
    let old = PurgeRequest { now: NOW, finished_before: NOW - DAY, used_before: 0, events_before: 0, after: 0 };
    for n in 0..PEOPLE {
        ground.store.receive(says("velha", n), NOW - 90 * DAY).await.expect("stored");
        let purge = async {
            tokio::time::sleep(Duration::from_micros(300 * u64::try_from(n % 10).expect("few"))).await;
            other.purge(old).await.expect("purged");
        };
        let (received, ()) = join(ground.store.receive(says("nova", n), NOW), purge).await;
        assert!(received.expect("stored")[0].message.is_some());
    }
    other.purge(old).await.expect("purged");
    let there = delivered(&ground, channel).await;
    let found = there.iter().filter(|message| message.network_id.starts_with("nova")).count();
    assert_eq!((found, there.len()), (PEOPLE, PEOPLE));
    let read = ground.events(ground.event_query()).await;
    let announced = read.iter().filter(|event| event.data.contains("\"networkId\":\"nova")).count();
    assert_eq!(announced, PEOPLE);
}
