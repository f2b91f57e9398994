//! The order of sends, retries, and messages without an answer.

use super::*;

/// Each channel's task uses the store on its own. All of them at once would fill the store's queue.
#[tokio::test]
async fn many_channels_that_start_together_share_the_store() {
    let ground = Ground::on(SqliteFile::new()).await;
    let mut last = 0;
    for n in 0..MAX_CONCURRENT_CLAIMS + 100 {
        last = ground.channel(&format!("loja-{n}")).await;
        ground.accept(last, "551").await;
    }
    let harness = DispatcherHarness::over(ground, last, Network::one_by_one(), None).await;
    harness.dispatcher.start().await.expect("the store works");
    harness.store.until_settled(MAX_CONCURRENT_CLAIMS + 100).await;
    assert!(harness.store.most_claiming() <= MAX_CONCURRENT_CLAIMS, "{} at a time", harness.store.most_claiming());
}

#[tokio::test]
async fn a_queue_is_sent_in_the_order_of_acceptance() {
    let harness = DispatcherHarness::new(Network::one_by_one()).await;
    let mut accepted = Vec::new();
    for n in 0..100 {
        accepted.push(harness.accept(&format!("55{}", n % 3)).await);
    }
    assert_eq!(ids(&harness.network.until_sent(100).await), accepted);
    harness.store.until_settled(100).await;
    let stored = harness.ground.all(harness.channel).await;
    assert!(stored.iter().all(|message| (message.status, message.attempts) == (MessageStatus::Sent, 1)));
    assert_eq!(harness.network.most_in_flight(), 1);
}

#[tokio::test]
async fn all_send_slots_are_used_and_no_more() {
    let harness = DispatcherHarness::new(Network::side_by_side(3)).await;
    harness.network.answer(false);
    let mut accepted = Vec::new();
    for n in 0..20 {
        accepted.push(harness.ground.accept(harness.channel, &format!("55{}", n % 5)).await);
    }
    harness.dispatcher.wake(harness.channel);
    let first = harness.network.until_sent(3).await;
    assert_eq!(ids(&first), accepted[..3], "three recipients at once");
    assert_eq!(harness.network.in_flight(), 3);
    harness.network.answer(true);
    let sent = harness.network.until_sent(20).await;
    harness.store.until_settled(20).await;
    assert_eq!(harness.network.most_in_flight(), 3);
    for recipient in 0..5 {
        let own = sent.iter().filter(|message| message.recipient == format!("55{recipient}"));
        let expected = accepted.iter().skip(recipient).step_by(5).copied();
        assert_eq!(own.map(|message| message.id).collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "in order");
    }
}

#[tokio::test]
async fn a_retry_keeps_its_place() {
    let harness = DispatcherHarness::new(Network::one_by_one()).await;
    harness.network.act("551", [temporary_failure()]);
    let (first, second) = (harness.accept("551").await, harness.accept("552").await);
    harness.store.until_waiting(NOW + 1_000).await;
    assert_eq!(harness.sent(), [first], "the queue waits");
    harness.advance(999);
    harness.store.until_waiting(NOW + 1_000).await;
    assert_eq!(harness.poll().await.messages, []);
    harness.advance(1);
    harness.store.until_settled(3).await;
    let sent = harness.network.sent();
    assert_eq!(ids(&sent), [first, first, second]);
    assert_eq!(sent[0].network_id, sent[1].network_id);
    assert_eq!((sent[1].attempts, sent[1].failures), (2, 1));
    assert_eq!(harness.status(first).await, MessageStatus::Sent);
}

#[tokio::test]
async fn after_three_waits_a_message_fails_and_the_queue_continues() {
    let harness = DispatcherHarness::new(Network::one_by_one()).await;
    harness.network.act("551", [temporary_failure(), temporary_failure(), temporary_failure(), temporary_failure()]);
    let (first, second) = (harness.accept("551").await, harness.accept("552").await);
    for (wait, at) in [(1_000, 1_000), (5_000, 6_000), (15_000, 21_000)] {
        harness.store.until_waiting(NOW + at).await;
        harness.advance(wait);
    }
    harness.store.until_settled(5).await;
    assert_eq!(harness.sent(), [first, first, first, first, second]);
    let failed = harness.ground.message(harness.channel, first).await;
    assert_eq!((failed.status, failed.attempts), (MessageStatus::Failed, 4));
    assert_eq!(failed.error, Some(("SLOW_DOWN".to_owned(), "Devagar.".to_owned())));
    assert_eq!(harness.status(second).await, MessageStatus::Sent);
}

#[tokio::test]
async fn a_refused_message_is_not_tried_again() {
    let harness = DispatcherHarness::new(Network::one_by_one()).await;
    let refused = SendOutcome::PermanentFailure { code: "NUMBER_NOT_ON_WHATSAPP", message: "Nao esta.".to_owned() };
    harness.network.act("551", [Act::Answer(refused)]);
    let (first, second) = (harness.accept("551").await, harness.accept("551").await);
    harness.store.until_settled(2).await;
    assert_eq!(harness.sent(), [first, second]);
    let error = harness.ground.message(harness.channel, first).await.error;
    assert_eq!(error, Some(("NUMBER_NOT_ON_WHATSAPP".to_owned(), "Nao esta.".to_owned())));
}

#[tokio::test]
async fn a_message_without_an_answer_is_sent_again_if_resends_are_recognised() {
    let harness = DispatcherHarness::new(Network::one_by_one()).await;
    harness.network.act("551", [no_answer(), no_answer(), no_answer(), no_answer()]);
    let id = harness.accept("551").await;
    for (wait, at) in [(1_000, 1_000), (5_000, 6_000), (15_000, 21_000)] {
        harness.store.until_waiting(NOW + at).await;
        harness.advance(wait);
    }
    harness.store.until_settled(4).await;
    let network_ids: HashSet<_> = harness.network.sent().into_iter().map(|message| message.network_id).collect();
    assert_eq!(network_ids.len(), 1);
    let failed = harness.ground.message(harness.channel, id).await;
    assert_eq!((failed.status, failed.attempts), (MessageStatus::Failed, 4));
    assert_eq!(failed.error.map(|(code, _)| code).as_deref(), Some("TIMEOUT"));
}

#[tokio::test]
async fn a_message_without_an_answer_is_unknown_if_resends_arrive_twice() {
    let harness = DispatcherHarness::new(Network::side_by_side(1)).await;
    harness.network.act("551", [no_answer()]);
    let (first, second) = (harness.accept("551").await, harness.accept("551").await);
    harness.store.until_settled(2).await;
    assert_eq!(harness.sent(), [first, second], "each once");
    assert_eq!(harness.status(first).await, MessageStatus::Unknown);
    assert_eq!(harness.status(second).await, MessageStatus::Sent);
}

#[tokio::test]
async fn a_panic_in_a_send_is_a_lost_answer() {
    for (network, expected) in
        [(Network::side_by_side(1), MessageStatus::Unknown), (Network::one_by_one(), MessageStatus::Queued)]
    {
        let harness = DispatcherHarness::new(network).await;
        harness.network.act("551", [Act::Panic]);
        let first = harness.accept("551").await;
        harness.store.until_settled(1).await;
        assert_eq!(harness.status(first).await, expected);
        harness.advance(1_000);
        let second = harness.accept("552").await;
        harness.network.until_submitted(second).await;
        harness.dispatcher.stop().await;
        assert_eq!(harness.status(second).await, MessageStatus::Sent, "the channel works on");
    }
}
