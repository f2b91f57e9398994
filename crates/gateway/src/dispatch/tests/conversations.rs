//! Sent messages in their conversations.

use super::*;

const ANA: &str = "5511988887777";

#[tokio::test]
async fn a_message_joins_its_conversation_before_its_outcome_is_stored() {
    let harness = DispatcherHarness::new(Network::side_by_side(4)).await;
    // The first attempts to join fail, and are repeated.
    harness.store.fail([Fault::JoinFails, Fault::JoinFails]);
    let mut all = Vec::new();
    for n in 0..10 {
        all.push(harness.accept(&format!("551198888777{}", n % 5)).await);
    }
    harness.store.until_settled(10).await;
    let mut conversations = HashSet::new();
    for id in &all {
        let message = harness.ground.message(harness.channel, *id).await;
        assert_eq!(message.status, MessageStatus::Sent);
        conversations.insert(message.conversation.expect("a conversation"));
    }
    assert_eq!(conversations.len(), 5, "one for each recipient");
}

#[tokio::test]
async fn a_second_attempt_stays_in_the_conversation_of_the_first() {
    let harness = DispatcherHarness::new(Network::side_by_side(1)).await;
    harness.network.act(ANA, [temporary_failure()]);
    let id = harness.accept(ANA).await;
    harness.store.until_settled(1).await;
    let first = harness.ground.message(harness.channel, id).await.conversation;
    assert!(first.is_some());
    harness.advance(DAY / 24);
    harness.store.until_settled(2).await;
    let message = harness.ground.message(harness.channel, id).await;
    assert_eq!((message.status, message.conversation), (MessageStatus::Sent, first));
}

#[tokio::test]
async fn a_message_that_a_crash_left_in_flight_has_a_conversation() {
    let ground = Ground::on(SqliteFile::new()).await;
    // A second attempt could arrive twice, so there is none.
    let network = Network::side_by_side(1);
    let channel = ground.channel_of(network.kind(), "loja").await;
    let id = ground.accept(channel, ANA).await;
    ground.claim_one(channel).await;
    let harness = DispatcherHarness::over(ground, channel, network, None).await;
    harness.dispatcher.start().await.expect("the store works");
    within_timeout(async {
        while harness.status(id).await != MessageStatus::Unknown {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(harness.ground.message(channel, id).await.conversation.is_some());
    assert_eq!(harness.sent(), []);
}

#[tokio::test]
async fn a_message_that_a_crash_left_in_flight_joins_although_the_store_fails_at_first() {
    let ground = Ground::on(SqliteFile::new()).await;
    let network = Network::side_by_side(1);
    let channel = ground.channel_of(network.kind(), "loja").await;
    let id = ground.accept(channel, ANA).await;
    ground.claim_one(channel).await;
    let harness = DispatcherHarness::over(ground, channel, network, None).await;
    harness.store.fail([Fault::LeftFails, Fault::JoinFails]);
    harness.dispatcher.start().await.expect("the store works");
    within_timeout(async {
        while harness.status(id).await != MessageStatus::Unknown {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(harness.ground.message(channel, id).await.conversation.is_some());
    assert_eq!(harness.store.troubles_left(), 0);
}

#[tokio::test]
async fn a_busy_store_delays_no_message_that_is_sent_again_after_a_crash() {
    let ground = Ground::on(SqliteFile::new()).await;
    // The network recognises a second attempt.
    let network = Network::one_by_one();
    let channel = ground.channel_of(network.kind(), "loja").await;
    let id = ground.accept(channel, ANA).await;
    ground.claim_one(channel).await;
    let harness = DispatcherHarness::over(ground, channel, network, None).await;
    harness.store.fail([Fault::LeftOverloaded; 2]);
    harness.dispatcher.start().await.expect("the store works");
    harness.store.until_settled(1).await;
    let message = harness.ground.message(channel, id).await;
    assert_eq!(message.status, MessageStatus::Sent);
    assert!(message.conversation.is_some(), "it joined with its second attempt");
    assert_eq!(harness.store.troubles_left(), 1, "the store was asked once");
}

#[tokio::test]
async fn a_busy_store_is_waited_for_if_no_second_attempt_follows_a_crash() {
    let ground = Ground::on(SqliteFile::new()).await;
    let network = Network::side_by_side(1);
    let channel = ground.channel_of(network.kind(), "loja").await;
    let id = ground.accept(channel, ANA).await;
    ground.claim_one(channel).await;
    let harness = DispatcherHarness::over(ground, channel, network, None).await;
    harness.store.fail([Fault::LeftOverloaded; 2]);
    harness.dispatcher.start().await.expect("the store works");
    within_timeout(async {
        while harness.status(id).await != MessageStatus::Unknown {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(harness.ground.message(channel, id).await.conversation.is_some());
}

/// Waits until every message has a conversation.
async fn until_joined(harness: &DispatcherHarness, all: &[MessageId]) {
    within_timeout(async {
        loop {
            let mut missing = 0;
            for id in all {
                missing += usize::from(harness.ground.message(harness.channel, *id).await.conversation.is_none());
            }
            if missing == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_inbox_that_is_busy_delays_no_other_owner() {
    let ground = Ground::on(SqliteFile::new()).await;
    let network = Network::side_by_side(4);
    let busy = ground.channel_of(network.kind(), "loja").await;
    let new = recado_domain::channel::NewChannel {
        kind: network.kind(),
        environment: recado_domain::api_key::Environment::Test,
        ..ground.new_channel("teste", ChannelState::Connected)
    };
    let other = ground.store.create_channel(new).await.expect("stored").expect("a free id").key;
    let owner = (ground.institution, recado_domain::api_key::Environment::Live);
    let harness = DispatcherHarness::over(ground, busy, network, None).await;
    harness.store.hinder(Hindrance::Hangs(owner));
    harness.dispatcher.start().await.expect("the store works");
    let slow = harness.accept(ANA).await;
    // It has begun to wait.
    harness.network.until_sent(1).await;
    let begun = Instant::now();
    let mut all = Vec::new();
    for n in 0..4 {
        all.push(harness.ground.accept(other, &format!("551198888777{n}")).await);
        harness.dispatcher.notify(other, WakeReason::Accepted);
    }
    harness.store.until_settled(4).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    for id in all {
        assert!(harness.ground.message(other, id).await.conversation.is_some());
    }
    // The outcome of the busy owner does not wait for ever.
    assert_eq!(harness.status(slow).await, MessageStatus::Sending);
    harness.store.until_settled(5).await;
    assert_eq!(harness.ground.message(busy, slow).await.conversation, None);
}

#[tokio::test]
async fn a_message_that_is_refused_keeps_no_other_from_its_conversation() {
    let harness = DispatcherHarness::new(Network::side_by_side(16)).await;
    harness.store.hinder(Hindrance::Refuses("5511988887773".to_owned()));
    let mut all = Vec::new();
    for n in 0..16 {
        all.push(harness.accept(&format!("55119888877{n:02}")).await);
    }
    let refused = harness.accept("5511988887773").await;
    harness.store.until_settled(17).await;
    for id in all {
        assert!(harness.ground.message(harness.channel, id).await.conversation.is_some());
    }
    assert_eq!(harness.ground.message(harness.channel, refused).await.conversation, None);
}

#[tokio::test]
async fn fewer_messages_join_at_once_if_many_take_too_long() {
    let harness = DispatcherHarness::new(Network::side_by_side(16)).await;
    harness.store.hinder(Hindrance::TooMany(3));
    let mut all = Vec::new();
    for n in 0..16 {
        all.push(harness.accept(&format!("55119888877{n:02}")).await);
    }
    until_joined(&harness, &all).await;
}
