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
