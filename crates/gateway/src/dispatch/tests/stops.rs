//! Stops, starts, lost answers of the store, and deleted channels.

use futures_util::future::poll_immediate;
use recado_domain::channel::Actor;
use recado_store::fixtures::request;

use super::*;

#[tokio::test]
async fn a_stop_waits_for_messages_in_flight() {
    let harness = DispatcherHarness::new(Network::one_by_one()).await;
    harness.network.answer(false);
    let (first, second) = (harness.accept("551").await, harness.accept("551").await);
    harness.network.until_sent(1).await;
    let mut stop = Box::pin(harness.dispatcher.stop());
    assert_eq!(poll_immediate(&mut stop).await, None, "it is in flight");
    harness.network.answer(true);
    within_timeout(stop).await;
    assert_eq!(harness.status(first).await, MessageStatus::Sent, "and recorded");
    assert_eq!(harness.status(second).await, MessageStatus::Queued, "nothing more is begun");
    harness.dispatcher.wake(harness.channel);
    assert_eq!(harness.sent(), [first]);
}

#[tokio::test]
async fn an_outcome_is_kept_until_the_store_records_it() {
    for network in [Network::side_by_side(1), Network::one_by_one()] {
        let harness = DispatcherHarness::new(network).await;
        harness.store.fail([Fault::SettleFails, Fault::SettleFails, Fault::SettleAnswerLost]);
        let (first, second) = (harness.accept("551").await, harness.accept("551").await);
        harness.network.until_sent(1).await;
        harness.store.until_settled(2).await;
        assert_eq!(harness.store.troubles_left(), 0);
        assert_eq!(harness.sent(), [first, second], "sent once, and nothing before it was recorded");
        for id in [first, second] {
            let message = harness.ground.message(harness.channel, id).await;
            assert_eq!((message.status, message.attempts), (MessageStatus::Sent, 1));
        }
    }
}

#[tokio::test]
async fn a_stop_waits_until_the_outcome_is_recorded() {
    let harness = DispatcherHarness::new(Network::side_by_side(1)).await;
    harness.store.fail([Fault::SettleFails]);
    let id = harness.accept("551").await;
    harness.network.until_sent(1).await;
    within_timeout(harness.dispatcher.stop()).await;
    assert_eq!(harness.status(id).await, MessageStatus::Sent);
}

/// A claim whose answer was lost was not sent. The message is sent all the same, even on a network where a re-send arrives
/// twice.
#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_repeated() {
    let harness = DispatcherHarness::new(Network::side_by_side(3)).await;
    // To the first claim of a task such messages look like those of an earlier run. Skip it.
    harness.network.answer(false);
    let first = harness.accept("550").await;
    harness.network.until_sent(1).await;
    harness.store.fail([Fault::ClaimAnswerLost, Fault::ClaimFails, Fault::ClaimAnswerLost]);
    let mut accepted = vec![first];
    for recipient in ["551", "552", "553"] {
        accepted.push(harness.accept(recipient).await);
    }
    harness.network.answer(true);
    harness.store.until_settled(4).await;
    assert_eq!(harness.store.troubles_left(), 0);
    assert_eq!(harness.sent(), accepted, "each once, in order");
    for id in accepted {
        assert_eq!(harness.status(id).await, MessageStatus::Sent);
    }
}

#[tokio::test]
async fn a_start_resumes_the_messages_of_an_earlier_run() {
    for (network, after_crash, sends) in
        [(Network::one_by_one(), MessageStatus::Sent, 2), (Network::side_by_side(1), MessageStatus::Unknown, 1)]
    {
        let mut ground = Ground::on(SqliteFile::new()).await;
        let channel = ground.channel_of(network.kind(), "loja").await;
        let (in_flight, waiting) = (ground.accept(channel, "551").await, ground.accept(channel, "551").await);
        assert_eq!(ground.claim(request(channel)).await.messages.len(), 1);
        ground.reopen().await;
        let harness = DispatcherHarness::over(ground, channel, network, None).await;
        assert_eq!(harness.sent(), [], "nothing before it is started");
        harness.dispatcher.wake(channel);
        harness.dispatcher.start().await.expect("the store works");
        harness.store.until_settled(sends).await;
        assert_eq!(harness.status(in_flight).await, after_crash);
        assert_eq!(harness.status(waiting).await, MessageStatus::Sent);
        assert_eq!(harness.sent().len(), sends);
    }
}

/// A new channel replaces a deleted one while a send of the deleted one is still in flight.
#[tokio::test]
async fn a_recreated_channel_is_not_affected_by_the_deleted_one() {
    let harness = DispatcherHarness::new(Network::one_by_one()).await;
    harness.network.answer(false);
    let (in_flight, waiting) = (harness.accept("551").await, harness.accept("551").await);
    harness.network.until_sent(1).await;

    harness.ground.store.delete_channel(harness.channel, Actor::Operator, NOW).await.expect("stored");
    harness.directory.delete_channel(&harness.directory.channel(harness.channel).expect("known"));
    while harness.ground.store.cancel_former(harness.channel, 500, NOW).await.expect("stored") > 0 {}
    harness.dispatcher.wake(harness.channel);
    let new = harness.ground.store.create_channel(harness.ground.new_channel("loja", ChannelState::Connected)).await;
    harness.directory.add_channel(&new.expect("stored").expect("free again"));
    let new = [harness.accept("551").await, harness.accept("551").await];

    harness.network.answer(true);
    harness.store.until_settled(3).await;
    assert_eq!(harness.sent(), [in_flight, new[0], new[1]]);
    for id in harness.sent() {
        assert_eq!(harness.status(id).await, MessageStatus::Sent);
    }
    assert_eq!(harness.status(waiting).await, MessageStatus::Cancelled);
}

#[tokio::test]
async fn a_deleted_channel_sends_nothing_more() {
    let harness = DispatcherHarness::new(Network::one_by_one()).await;
    harness.network.answer(false);
    let in_flight = harness.accept("551").await;
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(harness.accept("551").await);
    }
    harness.network.until_sent(1).await;
    // The caller was interrupted before it cancelled the waiting messages.
    harness.ground.store.delete_channel(harness.channel, Actor::Operator, NOW).await.expect("stored");
    harness.directory.delete_channel(&harness.directory.channel(harness.channel).expect("known"));
    harness.network.answer(true);
    let settled = |done: &Operation| matches!(done, Operation::Settled(outcomes) if outcomes[0].1 == sent());
    harness.store.until(|done| done.iter().any(settled)).await;
    within_timeout(harness.dispatcher.stop()).await;
    assert_eq!(harness.status(in_flight).await, MessageStatus::Sent);
    for id in waiting {
        assert_eq!(harness.status(id).await, MessageStatus::Cancelled);
    }
    assert_eq!(harness.sent(), [in_flight]);
}
