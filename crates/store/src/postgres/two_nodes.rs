//! Two stores on one database, like two nodes: what they do concurrently.

mod leases;
mod schedule;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use recado_domain::channel::{ChannelKey, ChannelType};
use recado_domain::clock::Millis;
use recado_domain::ids::MessageId;
use recado_domain::message::{Enqueued, NewMessage};
use recado_domain::party::Party;
use recado_domain::queue::{Claim, ClaimRequest};
use test_postgres::{number, run};

use crate::Store;
use crate::fixtures::{DAY, Engine, Ground, MINUTE, NOW, PgDatabase, ids, request, sent};

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
