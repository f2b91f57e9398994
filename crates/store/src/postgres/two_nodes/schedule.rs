//! Scheduled messages, and arrivals of one person on two nodes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use recado_domain::incoming::SenderIds;
use recado_domain::message::{MessageQuery, NewMessage, Promoted};
use recado_domain::queue::PurgeRequest;
use recado_domain::status::MessageStatus;
use test_postgres::{number, run};

use super::nodes;
use crate::Store;
use crate::conformance::inbox::{batch, contacts, conversations, delivered, record, text};
use crate::fixtures::{DAY, Engine, NOW};

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
