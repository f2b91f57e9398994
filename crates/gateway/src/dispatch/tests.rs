//! The dispatcher with a real store, a scripted network and a clock that the test controls.

mod conversations;
mod failures;
mod faulty_store;
mod network;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering as Atomic};
use std::time::{Duration, Instant};

use futures_util::future::{join_all, poll_immediate};
use recado_domain::channel::{Actor, ChannelState};
use recado_domain::clock::{Millis, millis};
use recado_domain::ids::MessageId;
use recado_domain::message::{Enqueued, NewMessage};
use recado_domain::pacing::Pacing;
use recado_domain::queue::{Claim, Claimed};
use recado_domain::status::MessageStatus;
use recado_providers::SendOutcome;
use recado_providers::sandbox::Sandbox;
use recado_store::clock::SystemEntropy;
use recado_store::fixtures::{DAY, Ground, NOW, SqliteFile, request, sent};
use tempfile::TempDir;

use super::*;
use faulty_store::{Fault, FaultyStore, Hindrance, Operation};
use network::{Act, Network, channel_failure, no_answer, temporary_failure};

/// Waits for a result that must come, and fails clearly when it does not.
async fn within_timeout<T>(something: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), something).await.expect("it comes in time")
}

/// A clock that a test moves, and that can also run by itself.
struct ManualClock {
    at: AtomicI64,
    runs_since: Option<Instant>,
}

impl Clock for ManualClock {
    fn now(&self) -> Millis {
        let ran = self.runs_since.map_or(Duration::ZERO, |since| since.elapsed());
        self.at.load(Atomic::SeqCst) + Millis::try_from(ran.as_millis()).expect("a short test")
    }
}

/// A running dispatcher.
struct DispatcherHarness {
    ground: Ground,
    store: Arc<FaultyStore>,
    network: Arc<Network>,
    clock: Arc<ManualClock>,
    directory: Arc<Directory>,
    dispatcher: Dispatcher,
    channel: ChannelKey,
    _sandbox: TempDir,
}

impl DispatcherHarness {
    async fn new(network: Network) -> Self {
        let ground = Ground::on(SqliteFile::new()).await;
        let channel = ground.channel_of(network.kind(), "loja").await;
        let harness = Self::over(ground, channel, network, None).await;
        harness.dispatcher.start().await.expect("the store works");
        harness
    }

    async fn over(ground: Ground, channel: ChannelKey, network: Network, runs_since: Option<Instant>) -> Self {
        let store = Arc::new(FaultyStore::new(ground.store.clone()));
        let network = Arc::new(network);
        let clock = Arc::new(ManualClock { at: AtomicI64::new(NOW), runs_since });
        let directory = Arc::new(Directory::new(vec![], &ground.store.channels().await.expect("read")));
        let dir = tempfile::tempdir().expect("a directory");
        let sandbox =
            Sandbox::open(&dir.path().join("sandbox.db"), Pacing::default(), clock.clone(), ground.store.clone());
        let drivers = Drivers::new(Arc::new(sandbox)).with(network.kind(), network.clone());
        let queue: (Arc<dyn Queue>, _) = (store.clone(), ground.store.health());
        let chance: (Arc<dyn Clock>, Arc<dyn Entropy>) = (clock.clone(), Arc::new(SystemEntropy));
        let dispatcher = Dispatcher::new(queue, Arc::new(drivers), directory.clone(), chance, Leases::standalone());
        Self { ground, store, network, clock, directory, dispatcher, channel, _sandbox: dir }
    }

    async fn accept(&self, recipient: &str) -> MessageId {
        let id = self.ground.accept(self.channel, recipient).await;
        self.dispatcher.notify(self.channel, WakeReason::Accepted);
        id
    }

    /// Moves the clock, and wakes the channel, whose sleep uses the real clock.
    fn advance(&self, time: Millis) {
        self.clock.at.fetch_add(time, Atomic::SeqCst);
        self.dispatcher.wake(self.channel);
    }

    async fn status(&self, id: MessageId) -> MessageStatus {
        self.ground.status(self.channel, id).await
    }

    /// The ids of the sent messages, in order.
    fn sent(&self) -> Vec<MessageId> {
        ids(&self.network.sent())
    }

    /// Wakes the channel, and waits for its claim. Returns the claim.
    async fn poll(&self) -> Claim {
        let claims = |done: &[Operation]| {
            let claim =
                |done: &Operation| if let Operation::Claimed(claim) = done { Some(claim.clone()) } else { None };
            done.iter().filter_map(claim).collect::<Vec<_>>()
        };
        let before = claims(&self.store.done()).len();
        self.dispatcher.wake(self.channel);
        self.store.until(|done| claims(done).len() > before).await;
        claims(&self.store.done()).swap_remove(before)
    }
}

fn ids(sent: &[Claimed]) -> Vec<MessageId> {
    sent.iter().map(|message| message.id).collect()
}

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
