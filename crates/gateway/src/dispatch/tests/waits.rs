//! What a channel waits for, and what wakes it.

use futures_util::future::join_all;
use recado_domain::message::{Enqueued, NewMessage};

use super::*;

#[tokio::test]
async fn a_failure_of_the_channel_holds_all_its_queues() {
    let harness = DispatcherHarness::new(Network::side_by_side(3)).await;
    harness.network.act("551", [channel_failure(Duration::from_secs(5))]);
    let first = harness.accept("551").await;
    harness.store.until_waiting(NOW + 5_000).await;
    let second = harness.accept("552").await;
    assert_eq!(harness.poll().await.messages, []);
    harness.advance(4_999);
    assert_eq!(harness.poll().await.messages, []);
    assert_eq!(harness.sent(), [first], "other recipients wait as well");
    harness.advance(1);
    harness.store.until_settled(3).await;
    assert_eq!(harness.sent(), [first, first, second]);
    let message = harness.ground.message(harness.channel, first).await;
    assert_eq!((message.status, message.attempts), (MessageStatus::Sent, 2));
    assert_eq!(harness.network.sent()[1].failures, 0, "not its fault");
}

/// With the real clock, because nothing wakes the channel.
#[tokio::test]
async fn a_wait_ends_by_itself() {
    let ground = Ground::on(SqliteFile::new()).await;
    let channel = ground.channel("loja").await;
    let harness = DispatcherHarness::over(ground, channel, Network::one_by_one(), Some(Instant::now())).await;
    harness.dispatcher.start().await.expect("the store works");
    harness.network.act("551", [channel_failure(Duration::from_millis(50))]);
    let id = harness.accept("551").await;
    harness.store.until_settled(2).await;
    assert_eq!(harness.status(id).await, MessageStatus::Sent);
}

#[tokio::test]
async fn sends_keep_the_interval_but_do_not_wait_for_each_other() {
    let harness = DispatcherHarness::new(Network::side_by_side(2).with_interval(Duration::from_secs(1))).await;
    harness.network.answer(false);
    let (first, second) = (harness.accept("551").await, harness.accept("552").await);
    harness.store.until_waiting(NOW + 1_000).await;
    assert_eq!(harness.sent(), [first]);
    harness.advance(1_000);
    harness.network.until_sent(2).await;
    assert_eq!((harness.sent(), harness.network.in_flight()), (vec![first, second], 2));
    harness.network.answer(true);
    harness.store.until_settled(2).await;
}

#[tokio::test]
async fn an_expired_message_is_not_sent() {
    let harness = DispatcherHarness::new(Network::one_by_one()).await;
    harness.network.act("551", [temporary_failure()]);
    let message = NewMessage { expires_at: NOW + 500, ..harness.ground.new_message(harness.channel, "551") };
    let old = message.id;
    assert_eq!(harness.ground.enqueue(message).await, Enqueued::Accepted);
    let young = harness.accept("552").await;
    harness.store.until_waiting(NOW + 500).await;
    harness.advance(500);
    harness.store.until_settled(2).await;
    assert_eq!(harness.sent(), [old, young]);
    assert_eq!(harness.status(old).await, MessageStatus::Expired);
}

#[tokio::test]
async fn a_paused_channel_sends_when_it_is_resumed() {
    let harness = DispatcherHarness::new(Network::one_by_one()).await;
    harness.ground.move_channel(harness.channel, ChannelState::Connected, ChannelState::Paused).await;
    let id = harness.accept("551").await;
    harness.store.until_waiting(NOW + DAY).await;
    harness.ground.move_channel(harness.channel, ChannelState::Paused, ChannelState::Connected).await;
    harness.dispatcher.wake(harness.channel);
    harness.store.until_settled(1).await;
    assert_eq!(harness.sent(), [id]);
}

/// Otherwise a caller who continues to send would make the store poll a paused channel without a pause.
#[tokio::test]
async fn messages_behind_a_blocking_one_do_not_wake_the_channel() {
    let harness = DispatcherHarness::new(Network::one_by_one()).await;
    harness.ground.move_channel(harness.channel, ChannelState::Connected, ChannelState::Paused).await;
    let mut accepted = vec![harness.accept("551").await];
    let signal = harness.dispatcher.shared.channel_tasks.lock().expect("no panic")[&harness.channel].signal.clone();
    let waits = async {
        while !signal.holds_all.load(Ordering::Acquire) {
            tokio::task::yield_now().await;
        }
    };
    within_timeout(waits).await;
    for _ in 0..3 {
        accepted.push(harness.accept("551").await);
    }
    assert!(!signal.pending.load(Ordering::Acquire), "it is woken for nothing");
    harness.ground.move_channel(harness.channel, ChannelState::Paused, ChannelState::Connected).await;
    harness.dispatcher.wake(harness.channel);
    assert!(signal.pending.load(Ordering::Acquire));
    harness.store.until_settled(4).await;
    assert_eq!(harness.sent(), accepted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_notice_is_lost() {
    const TASKS: usize = 40;
    const EACH: usize = 25;
    let ground = Ground::on(SqliteFile::new()).await;
    let mut channels = Vec::new();
    for n in 0..4 {
        channels.push(ground.channel(&format!("canal-{n}")).await);
    }
    let harness = Arc::new(DispatcherHarness::over(ground, channels[0], Network::one_by_one(), None).await);
    harness.dispatcher.start().await.expect("the store works");
    let callers = (0..TASKS).map(|task| {
        let (harness, channel) = (harness.clone(), channels[task % 4]);
        tokio::spawn(async move {
            for _ in 0..EACH {
                let id = harness.ground.accept(channel, "551").await;
                harness.dispatcher.notify(channel, WakeReason::Accepted);
                // Queues become empty, and tasks end, over and over.
                harness.network.until_submitted(id).await;
            }
        })
    });
    within_timeout(join_all(callers)).await.into_iter().for_each(|done| done.expect("each was delivered"));
    harness.store.until_settled(TASKS * EACH).await;
    let sent = harness.sent();
    assert_eq!(sent.iter().collect::<HashSet<_>>().len(), TASKS * EACH);
    assert_eq!(sent.len(), TASKS * EACH, "each once");
    harness.dispatcher.shared.tasks.close();
    within_timeout(harness.dispatcher.shared.tasks.wait()).await;
    assert!(
        harness.dispatcher.shared.channel_tasks.lock().expect("no panic").is_empty(),
        "an idle channel has no task"
    );
}

/// The wake-up comes after the queue was found empty, and before its task ends.
#[tokio::test]
async fn a_notification_in_the_last_moment_is_handled() {
    let harness = Arc::new(DispatcherHarness::new(Network::one_by_one()).await);
    let first = harness.accept("551").await;
    let late = harness.clone();
    harness.store.when_found_empty(async move {
        late.accept("551").await;
    });
    harness.store.until_settled(2).await;
    assert_eq!(harness.sent().len(), 2);
    assert_eq!(harness.sent()[0], first);
}
