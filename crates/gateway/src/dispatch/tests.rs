//! The dispatcher over a real store, between a network that follows a script and a clock that a test moves.

mod network;
mod shaky;
mod troubles;

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
use network::{Act, Network, channel_trouble, no_answer, try_again};
use shaky::{Done, Shaky, Trouble};

/// Waits for something that must come, and says so when it does not.
async fn in_time<T>(something: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), something).await.expect("it comes in time")
}

/// Stands still until it is moved; one that runs goes on by itself as well.
struct Dial {
    at: AtomicI64,
    runs_since: Option<Instant>,
}

impl Clock for Dial {
    fn now(&self) -> Millis {
        let ran = self.runs_since.map_or(Duration::ZERO, |since| since.elapsed());
        self.at.load(Atomic::SeqCst) + Millis::try_from(ran.as_millis()).expect("a short test")
    }
}

/// A dispatcher at work.
struct Stand {
    ground: Ground,
    store: Arc<Shaky>,
    network: Arc<Network>,
    clock: Arc<Dial>,
    directory: Arc<Directory>,
    dispatcher: Dispatcher,
    channel: ChannelKey,
    _sandbox: TempDir,
}

impl Stand {
    async fn new(network: Network) -> Self {
        let ground = Ground::on(SqliteFile::new()).await;
        let channel = ground.channel_of(network.kind(), "loja").await;
        let stand = Self::over(ground, channel, network, None).await;
        stand.dispatcher.start().await.expect("the store works");
        stand
    }

    async fn over(ground: Ground, channel: ChannelKey, network: Network, runs_since: Option<Instant>) -> Self {
        let store = Arc::new(Shaky::new(ground.store.clone()));
        let network = Arc::new(network);
        let clock = Arc::new(Dial { at: AtomicI64::new(NOW), runs_since });
        let directory = Arc::new(Directory::new(vec![], &ground.store.channels().await.expect("read")));
        let dir = tempfile::tempdir().expect("a directory");
        let sandbox =
            Sandbox::open(&dir.path().join("sandbox.db"), Pacing::default(), clock.clone(), ground.store.clone())
                .expect("opens");
        let drivers = Drivers::new(Arc::new(sandbox)).with(network.kind(), network.clone());
        let queue: (Arc<dyn Queue>, _) = (store.clone(), ground.store.health());
        let chance: (Arc<dyn Clock>, Arc<dyn Entropy>) = (clock.clone(), Arc::new(SystemEntropy));
        let dispatcher = Dispatcher::new(queue, Arc::new(drivers), directory.clone(), chance, Leases::standalone());
        Self { ground, store, network, clock, directory, dispatcher, channel, _sandbox: dir }
    }

    async fn accept(&self, recipient: &str) -> MessageId {
        let id = self.ground.accept(self.channel, recipient).await;
        self.dispatcher.tell(self.channel, WakeReason::Accepted);
        id
    }

    /// Moves the clock, and has the channel look at it: its sleep is by the real one.
    fn pass(&self, time: Millis) {
        self.clock.at.fetch_add(time, Atomic::SeqCst);
        self.dispatcher.wake(self.channel);
    }

    async fn status(&self, id: MessageId) -> MessageStatus {
        self.ground.status(self.channel, id).await
    }

    /// The ids handed over so far, in order.
    fn sent(&self) -> Vec<MessageId> {
        ids(&self.network.sent())
    }

    /// Has the channel look, and waits until it has; what it took.
    async fn look(&self) -> Claim {
        let claims = |done: &[Done]| {
            let claim = |done: &Done| if let Done::Claimed(claim) = done { Some(claim.clone()) } else { None };
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

/// Each channel's task asks the store on its own; all at once they would fill its queue.
#[tokio::test]
async fn many_channels_that_start_together_take_turns() {
    let ground = Ground::on(SqliteFile::new()).await;
    let mut last = 0;
    for n in 0..TURNS + 100 {
        last = ground.channel(&format!("loja-{n}")).await;
        ground.accept(last, "551").await;
    }
    let stand = Stand::over(ground, last, Network::one_by_one(), None).await;
    stand.dispatcher.start().await.expect("the store works");
    stand.store.until_settled(TURNS + 100).await;
    assert!(stand.store.most_claiming() <= TURNS, "{} at a time", stand.store.most_claiming());
}

#[tokio::test]
async fn a_line_is_sent_in_the_order_of_acceptance() {
    let stand = Stand::new(Network::one_by_one()).await;
    let mut accepted = Vec::new();
    for n in 0..100 {
        accepted.push(stand.accept(&format!("55{}", n % 3)).await);
    }
    assert_eq!(ids(&stand.network.until_sent(100).await), accepted);
    stand.store.until_settled(100).await;
    let stored = stand.ground.all(stand.channel).await;
    assert!(stored.iter().all(|message| (message.status, message.attempts) == (MessageStatus::Sent, 1)));
    assert_eq!(stand.network.most_in_flight(), 1);
}

#[tokio::test]
async fn all_hands_are_used_and_no_more() {
    let stand = Stand::new(Network::side_by_side(3)).await;
    stand.network.answer(false);
    let mut accepted = Vec::new();
    for n in 0..20 {
        accepted.push(stand.ground.accept(stand.channel, &format!("55{}", n % 5)).await);
    }
    stand.dispatcher.wake(stand.channel);
    let first = stand.network.until_sent(3).await;
    assert_eq!(ids(&first), accepted[..3], "three recipients at once");
    assert_eq!(stand.network.in_flight(), 3);
    stand.network.answer(true);
    let sent = stand.network.until_sent(20).await;
    stand.store.until_settled(20).await;
    assert_eq!(stand.network.most_in_flight(), 3);
    for recipient in 0..5 {
        let own = sent.iter().filter(|message| message.recipient == format!("55{recipient}"));
        let expected = accepted.iter().skip(recipient).step_by(5).copied();
        assert_eq!(own.map(|message| message.id).collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "in order");
    }
}

#[tokio::test]
async fn a_retry_keeps_its_place() {
    let stand = Stand::new(Network::one_by_one()).await;
    stand.network.act("551", [try_again()]);
    let (first, second) = (stand.accept("551").await, stand.accept("552").await);
    stand.store.until_waiting(NOW + 1_000).await;
    assert_eq!(stand.sent(), [first], "the line waits");
    stand.pass(999);
    stand.store.until_waiting(NOW + 1_000).await;
    assert_eq!(stand.look().await.messages, []);
    stand.pass(1);
    stand.store.until_settled(3).await;
    let sent = stand.network.sent();
    assert_eq!(ids(&sent), [first, first, second]);
    assert_eq!(sent[0].network_id, sent[1].network_id);
    assert_eq!((sent[1].attempts, sent[1].failures), (2, 1));
    assert_eq!(stand.status(first).await, MessageStatus::Sent);
}

#[tokio::test]
async fn after_three_waits_a_message_fails_and_the_line_moves_on() {
    let stand = Stand::new(Network::one_by_one()).await;
    stand.network.act("551", [try_again(), try_again(), try_again(), try_again()]);
    let (first, second) = (stand.accept("551").await, stand.accept("552").await);
    for (wait, at) in [(1_000, 1_000), (5_000, 6_000), (15_000, 21_000)] {
        stand.store.until_waiting(NOW + at).await;
        stand.pass(wait);
    }
    stand.store.until_settled(5).await;
    assert_eq!(stand.sent(), [first, first, first, first, second]);
    let failed = stand.ground.message(stand.channel, first).await;
    assert_eq!((failed.status, failed.attempts), (MessageStatus::Failed, 4));
    assert_eq!(failed.error, Some(("SLOW_DOWN".to_owned(), "Devagar.".to_owned())));
    assert_eq!(stand.status(second).await, MessageStatus::Sent);
}

#[tokio::test]
async fn a_refused_message_is_not_tried_again() {
    let stand = Stand::new(Network::one_by_one()).await;
    let refused = SendOutcome::PermanentFailure { code: "NUMBER_NOT_ON_WHATSAPP", message: "Nao esta.".to_owned() };
    stand.network.act("551", [Act::Answer(refused)]);
    let (first, second) = (stand.accept("551").await, stand.accept("551").await);
    stand.store.until_settled(2).await;
    assert_eq!(stand.sent(), [first, second]);
    let error = stand.ground.message(stand.channel, first).await.error;
    assert_eq!(error, Some(("NUMBER_NOT_ON_WHATSAPP".to_owned(), "Nao esta.".to_owned())));
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_where_resends_are_recognised() {
    let stand = Stand::new(Network::one_by_one()).await;
    stand.network.act("551", [no_answer(), no_answer(), no_answer(), no_answer()]);
    let id = stand.accept("551").await;
    for (wait, at) in [(1_000, 1_000), (5_000, 6_000), (15_000, 21_000)] {
        stand.store.until_waiting(NOW + at).await;
        stand.pass(wait);
    }
    stand.store.until_settled(4).await;
    let network_ids: HashSet<_> = stand.network.sent().into_iter().map(|message| message.network_id).collect();
    assert_eq!(network_ids.len(), 1);
    let failed = stand.ground.message(stand.channel, id).await;
    assert_eq!((failed.status, failed.attempts), (MessageStatus::Failed, 4));
    assert_eq!(failed.error.map(|(code, _)| code).as_deref(), Some("TIMEOUT"));
}

#[tokio::test]
async fn a_lost_answer_is_unknown_where_resends_double() {
    let stand = Stand::new(Network::side_by_side(1)).await;
    stand.network.act("551", [no_answer()]);
    let (first, second) = (stand.accept("551").await, stand.accept("551").await);
    stand.store.until_settled(2).await;
    assert_eq!(stand.sent(), [first, second], "each once");
    assert_eq!(stand.status(first).await, MessageStatus::Unknown);
    assert_eq!(stand.status(second).await, MessageStatus::Sent);
}

#[tokio::test]
async fn a_panic_in_a_send_is_a_lost_answer() {
    for (network, expected) in
        [(Network::side_by_side(1), MessageStatus::Unknown), (Network::one_by_one(), MessageStatus::Queued)]
    {
        let stand = Stand::new(network).await;
        stand.network.act("551", [Act::Panic]);
        let first = stand.accept("551").await;
        stand.store.until_settled(1).await;
        assert_eq!(stand.status(first).await, expected);
        stand.pass(1_000);
        let second = stand.accept("552").await;
        stand.network.until_handed(second).await;
        stand.dispatcher.stop().await;
        assert_eq!(stand.status(second).await, MessageStatus::Sent, "the channel works on");
    }
}

#[tokio::test]
async fn trouble_of_the_channel_holds_its_lines() {
    let stand = Stand::new(Network::side_by_side(3)).await;
    stand.network.act("551", [channel_trouble(Duration::from_secs(5))]);
    let first = stand.accept("551").await;
    stand.store.until_waiting(NOW + 5_000).await;
    let second = stand.accept("552").await;
    assert_eq!(stand.look().await.messages, []);
    stand.pass(4_999);
    assert_eq!(stand.look().await.messages, []);
    assert_eq!(stand.sent(), [first], "other recipients wait as well");
    stand.pass(1);
    stand.store.until_settled(3).await;
    assert_eq!(stand.sent(), [first, first, second]);
    let message = stand.ground.message(stand.channel, first).await;
    assert_eq!((message.status, message.attempts), (MessageStatus::Sent, 2));
    assert_eq!(stand.network.sent()[1].failures, 0, "not its fault");
}

/// By the real clock: nobody wakes the channel.
#[tokio::test]
async fn a_wait_ends_by_itself() {
    let ground = Ground::on(SqliteFile::new()).await;
    let channel = ground.channel("loja").await;
    let stand = Stand::over(ground, channel, Network::one_by_one(), Some(Instant::now())).await;
    stand.dispatcher.start().await.expect("the store works");
    stand.network.act("551", [channel_trouble(Duration::from_millis(50))]);
    let id = stand.accept("551").await;
    stand.store.until_settled(2).await;
    assert_eq!(stand.status(id).await, MessageStatus::Sent);
}

#[tokio::test]
async fn sends_rest_but_do_not_wait_for_each_other() {
    let stand = Stand::new(Network::side_by_side(2).resting(Duration::from_secs(1))).await;
    stand.network.answer(false);
    let (first, second) = (stand.accept("551").await, stand.accept("552").await);
    stand.store.until_waiting(NOW + 1_000).await;
    assert_eq!(stand.sent(), [first]);
    stand.pass(1_000);
    stand.network.until_sent(2).await;
    assert_eq!((stand.sent(), stand.network.in_flight()), (vec![first, second], 2));
    stand.network.answer(true);
    stand.store.until_settled(2).await;
}

#[tokio::test]
async fn what_is_too_old_is_not_sent() {
    let stand = Stand::new(Network::one_by_one()).await;
    stand.network.act("551", [try_again()]);
    let message = NewMessage { expires_at: NOW + 500, ..stand.ground.new_message(stand.channel, "551") };
    let old = message.id;
    assert_eq!(stand.ground.enqueue(message).await, Enqueued::Accepted);
    let young = stand.accept("552").await;
    stand.store.until_waiting(NOW + 500).await;
    stand.pass(500);
    stand.store.until_settled(2).await;
    assert_eq!(stand.sent(), [old, young]);
    assert_eq!(stand.status(old).await, MessageStatus::Expired);
}

#[tokio::test]
async fn a_paused_channel_sends_when_it_is_resumed() {
    let stand = Stand::new(Network::one_by_one()).await;
    stand.ground.move_channel(stand.channel, ChannelState::Connected, ChannelState::Paused).await;
    let id = stand.accept("551").await;
    stand.store.until_waiting(NOW + DAY).await;
    stand.ground.move_channel(stand.channel, ChannelState::Paused, ChannelState::Connected).await;
    stand.dispatcher.wake(stand.channel);
    stand.store.until_settled(1).await;
    assert_eq!(stand.sent(), [id]);
}

/// Else a caller who goes on would have the store look at a paused channel all the time.
#[tokio::test]
async fn of_what_comes_behind_one_that_waits_the_channel_need_not_hear() {
    let stand = Stand::new(Network::one_by_one()).await;
    stand.ground.move_channel(stand.channel, ChannelState::Connected, ChannelState::Paused).await;
    let mut accepted = vec![stand.accept("551").await];
    let signal = stand.dispatcher.shared.lines.lock().expect("no panic")[&stand.channel].signal.clone();
    let waits = async {
        while !signal.holds_all.load(Ordering::Acquire) {
            tokio::task::yield_now().await;
        }
    };
    in_time(waits).await;
    for _ in 0..3 {
        accepted.push(stand.accept("551").await);
    }
    assert!(!signal.news.load(Ordering::Acquire), "it is woken for nothing");
    stand.ground.move_channel(stand.channel, ChannelState::Paused, ChannelState::Connected).await;
    stand.dispatcher.wake(stand.channel);
    assert!(signal.news.load(Ordering::Acquire));
    stand.store.until_settled(4).await;
    assert_eq!(stand.sent(), accepted);
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
    let stand = Arc::new(Stand::over(ground, channels[0], Network::one_by_one(), None).await);
    stand.dispatcher.start().await.expect("the store works");
    let callers = (0..TASKS).map(|task| {
        let (stand, channel) = (stand.clone(), channels[task % 4]);
        tokio::spawn(async move {
            for _ in 0..EACH {
                let id = stand.ground.accept(channel, "551").await;
                stand.dispatcher.tell(channel, WakeReason::Accepted);
                // So that lines run empty, and tasks end, over and over.
                stand.network.until_handed(id).await;
            }
        })
    });
    in_time(join_all(callers)).await.into_iter().for_each(|done| done.expect("each was delivered"));
    stand.store.until_settled(TASKS * EACH).await;
    let sent = stand.sent();
    assert_eq!(sent.iter().collect::<HashSet<_>>().len(), TASKS * EACH);
    assert_eq!(sent.len(), TASKS * EACH, "each once");
    stand.dispatcher.shared.tasks.close();
    in_time(stand.dispatcher.shared.tasks.wait()).await;
    assert!(stand.dispatcher.shared.lines.lock().expect("no panic").is_empty(), "an idle channel has no task");
}

/// The notice comes when the line was found empty, and its task is about to end.
#[tokio::test]
async fn a_notice_in_the_last_moment_is_heard() {
    let stand = Arc::new(Stand::new(Network::one_by_one()).await);
    let first = stand.accept("551").await;
    let late = stand.clone();
    stand.store.when_found_empty(async move {
        late.accept("551").await;
    });
    stand.store.until_settled(2).await;
    assert_eq!(stand.sent().len(), 2);
    assert_eq!(stand.sent()[0], first);
}

#[tokio::test]
async fn a_stop_waits_for_what_is_in_hand() {
    let stand = Stand::new(Network::one_by_one()).await;
    stand.network.answer(false);
    let (first, second) = (stand.accept("551").await, stand.accept("551").await);
    stand.network.until_sent(1).await;
    let mut stop = Box::pin(stand.dispatcher.stop());
    assert_eq!(poll_immediate(&mut stop).await, None, "it is in flight");
    stand.network.answer(true);
    in_time(stop).await;
    assert_eq!(stand.status(first).await, MessageStatus::Sent, "and recorded");
    assert_eq!(stand.status(second).await, MessageStatus::Queued, "nothing more is begun");
    stand.dispatcher.wake(stand.channel);
    assert_eq!(stand.sent(), [first]);
}

#[tokio::test]
async fn an_outcome_is_kept_until_the_store_takes_it() {
    for network in [Network::side_by_side(1), Network::one_by_one()] {
        let stand = Stand::new(network).await;
        stand.store.trouble([Trouble::SettleFails, Trouble::SettleFails, Trouble::SettleUntold]);
        let (first, second) = (stand.accept("551").await, stand.accept("551").await);
        stand.network.until_sent(1).await;
        stand.store.until_settled(2).await;
        assert_eq!(stand.store.troubles_left(), 0);
        assert_eq!(stand.sent(), [first, second], "sent once, and nothing before it was recorded");
        for id in [first, second] {
            let message = stand.ground.message(stand.channel, id).await;
            assert_eq!((message.status, message.attempts), (MessageStatus::Sent, 1));
        }
    }
}

#[tokio::test]
async fn a_stop_waits_for_the_outcome_to_be_taken() {
    let stand = Stand::new(Network::side_by_side(1)).await;
    stand.store.trouble([Trouble::SettleFails]);
    let id = stand.accept("551").await;
    stand.network.until_sent(1).await;
    in_time(stand.dispatcher.stop()).await;
    assert_eq!(stand.status(id).await, MessageStatus::Sent);
}

/// What was claimed without our knowing was not sent; on a network where re-sends double it goes out all the same.
#[tokio::test]
async fn a_claim_that_nobody_heard_of_is_made_again() {
    let stand = Stand::new(Network::side_by_side(3)).await;
    // The first claim of a task cannot tell such messages from those of an earlier run: let one pass.
    stand.network.answer(false);
    let first = stand.accept("550").await;
    stand.network.until_sent(1).await;
    stand.store.trouble([Trouble::ClaimUntold, Trouble::ClaimFails, Trouble::ClaimUntold]);
    let mut accepted = vec![first];
    for recipient in ["551", "552", "553"] {
        accepted.push(stand.accept(recipient).await);
    }
    stand.network.answer(true);
    stand.store.until_settled(4).await;
    assert_eq!(stand.store.troubles_left(), 0);
    assert_eq!(stand.sent(), accepted, "each once, in order");
    for id in accepted {
        assert_eq!(stand.status(id).await, MessageStatus::Sent);
    }
}

#[tokio::test]
async fn a_start_takes_up_what_an_earlier_run_left() {
    for (network, after_crash, sends) in
        [(Network::one_by_one(), MessageStatus::Sent, 2), (Network::side_by_side(1), MessageStatus::Unknown, 1)]
    {
        let mut ground = Ground::on(SqliteFile::new()).await;
        let channel = ground.channel_of(network.kind(), "loja").await;
        let (in_hand, waiting) = (ground.accept(channel, "551").await, ground.accept(channel, "551").await);
        assert_eq!(ground.claim(request(channel)).await.messages.len(), 1);
        ground.reopen().await;
        let stand = Stand::over(ground, channel, network, None).await;
        assert_eq!(stand.sent(), [], "nothing before it is started");
        stand.dispatcher.wake(channel);
        stand.dispatcher.start().await.expect("the store works");
        stand.store.until_settled(sends).await;
        assert_eq!(stand.status(in_hand).await, after_crash);
        assert_eq!(stand.status(waiting).await, MessageStatus::Sent);
        assert_eq!(stand.sent().len(), sends);
    }
}

/// A new channel takes up the place of a deleted one while a send of the old one is still in flight.
#[tokio::test]
async fn a_channel_made_anew_loses_nothing_to_its_former_life() {
    let stand = Stand::new(Network::one_by_one()).await;
    stand.network.answer(false);
    let (in_flight, waiting) = (stand.accept("551").await, stand.accept("551").await);
    stand.network.until_sent(1).await;

    stand.ground.store.delete_channel(stand.channel, Actor::Operator, NOW).await.expect("stored");
    stand.directory.delete_channel(&stand.directory.channel(stand.channel).expect("known"));
    while stand.ground.store.cancel_former(stand.channel, 500, NOW).await.expect("stored") > 0 {}
    stand.dispatcher.wake(stand.channel);
    let anew = stand.ground.store.create_channel(stand.ground.new_channel("loja", ChannelState::Connected)).await;
    stand.directory.add_channel(&anew.expect("stored").expect("free again"));
    let new = [stand.accept("551").await, stand.accept("551").await];

    stand.network.answer(true);
    stand.store.until_settled(3).await;
    assert_eq!(stand.sent(), [in_flight, new[0], new[1]]);
    for id in stand.sent() {
        assert_eq!(stand.status(id).await, MessageStatus::Sent);
    }
    assert_eq!(stand.status(waiting).await, MessageStatus::Cancelled);
}

#[tokio::test]
async fn a_deleted_channel_sends_nothing_more() {
    let stand = Stand::new(Network::one_by_one()).await;
    stand.network.answer(false);
    let in_flight = stand.accept("551").await;
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(stand.accept("551").await);
    }
    stand.network.until_sent(1).await;
    // The caller broke off before it cancelled what waits.
    stand.ground.store.delete_channel(stand.channel, Actor::Operator, NOW).await.expect("stored");
    stand.directory.delete_channel(&stand.directory.channel(stand.channel).expect("known"));
    stand.network.answer(true);
    let settled = |done: &Done| matches!(done, Done::Settled(outcomes) if outcomes[0].1 == sent());
    stand.store.until(|done| done.iter().any(settled)).await;
    in_time(stand.dispatcher.stop()).await;
    assert_eq!(stand.status(in_flight).await, MessageStatus::Sent);
    for id in waiting {
        assert_eq!(stand.status(id).await, MessageStatus::Cancelled);
    }
    assert_eq!(stand.sent(), [in_flight]);
}
