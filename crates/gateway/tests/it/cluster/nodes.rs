//! Nodes come, go, die and freeze; what they accepted is sent once, in order.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::Ordering::SeqCst;
use std::thread::{ScopedJoinHandle, scope, sleep};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{LOSS, Place, status};
use crate::harness::{Server, wait_for};
use crate::load::{
    Dice, Load, Sender, card, channel_id, check, join, open_channel, phone, setting, the_fate_can_be_asked_for,
    wait_until_read,
};

const CHANNELS: usize = 200;
const NODES: usize = 3;
/// How long the load lies on the nodes, unless `RECADO_TEST_NODES_SECONDS` says how long.
const SECONDS: u64 = 120;
/// Between two blows, in milliseconds.
const BETWEEN: (u64, u64) = (2_000, 5_000);
/// How long a node is frozen: past its lease, or not.
const FROZEN: (u64, u64) = (4_000, 16_000);
/// A sender's rest after a card, so that the check at the end stays small.
const PAUSE: Duration = Duration::from_millis(1_000);

/// The sandbox's number for it.
const LOST_ANSWER: &str = "5511900000005";

/// Puts a load on three nodes and lets `blow` loose on them.
fn under_load(seconds: u64, mut blow: impl FnMut(&Load, &mut Dice, &mut Vec<Server>, &Place)) {
    let seconds = setting("RECADO_TEST_NODES_SECONDS").unwrap_or(seconds);
    let seed = setting("RECADO_TEST_SEED").unwrap_or_else(|| RandomState::new().hash_one(seconds));
    println!("RECADO_TEST_SEED={seed} repeats these moments");
    let mut dice = Dice(seed);
    let place = Place::new();
    let mut nodes: Vec<_> = (0..NODES).map(|number| place.start(&format!("node{number}"), &[])).collect();
    let load = Load::new(place.home.unlimited_key(), PAUSE, some_answers_are_lost);
    (0..CHANNELS).for_each(|channel| open_channel(&nodes[channel % NODES], &load.key, &channel_id(channel)));
    place.wait_until_fair(NODES);
    nodes.iter().for_each(|node| load.enter(node));
    let (blows, senders) = scope(|scope| {
        let run = |channel| Sender::new(channel, &load).run();
        let threads: Vec<_> = (0..CHANNELS).map(|channel| scope.spawn(move || run(channel))).collect();
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut blows = 0;
        // A sender that ended has failed: its reason follows when it is joined.
        while Instant::now() < end && !threads.iter().any(ScopedJoinHandle::is_finished) {
            sleep(dice.between(BETWEEN));
            blow(&load, &mut dice, &mut nodes, &place);
            blows += 1;
        }
        load.stop.store(true, SeqCst);
        (blows, threads.into_iter().map(join).collect::<Vec<_>>())
    });
    wait_until_read(&nodes[0], &load.key, &senders);
    let resent = check(blows, &senders, &phone(&nodes[0], &load.key));
    assert!(resent > 0, "nothing was sent again: it proved little");
    the_fate_can_be_asked_for(&nodes[0], &load.key, &senders);
}

/// A card; one in eight for the number whose network takes it and loses the answer, so that many are on their way at every
/// moment of which nobody knows whether they arrived.
fn some_answers_are_lost(channel: usize, number: usize) -> String {
    let card = card(channel, number);
    if number % 8 == 3 { card.replacen(&format!("5511980000{channel:03}"), LOST_ANSWER, 1) } else { card }
}

fn one_of(dice: &mut Dice) -> usize {
    usize::try_from(dice.between((0, NODES as u64)).as_millis()).expect("small")
}

#[test]
fn killed_at_random_moments_they_lose_and_double_nothing() {
    under_load(SECONDS, |load, dice, nodes, place| {
        let number = one_of(dice);
        let node = nodes.remove(number);
        load.leave(&node.address);
        node.kill();
        sleep(dice.between((0, 3_000)));
        let node = place.start(&format!("node{number}"), &[]);
        load.enter(&node);
        nodes.insert(number, node);
    });
}

#[test]
fn frozen_past_their_lease_they_neither_send_nor_settle_what_is_anothers() {
    under_load(SECONDS / 2, |load, dice, nodes, _| {
        let node = &nodes[one_of(dice)];
        // Calls to it would only wait.
        load.leave(&node.address);
        node.signal("STOP");
        sleep(dice.between(FROZEN));
        node.signal("CONT");
        load.enter(node);
    });
}

#[test]
fn channels_are_shared_fairly_and_move_at_most_once() {
    let place = Place::new();
    let (key, first) = (place.home.unlimited_key(), place.start("first", &[]));
    (0..30).for_each(|channel| open_channel(&first, &key, &channel_id(channel)));
    place.wait_until_fair(1);
    let epochs = "select coalesce(sum(lease_epoch), 0)::bigint from channels";
    let before = place.number(epochs);
    let second = place.start("second", &[]);
    place.wait_until_fair(2);
    // 31 with the institution's own: 15 went.
    assert_eq!(place.number(epochs) - before, 15);
    let third = place.start("third", &[]);
    place.wait_until_fair(3);
    let moved_once = place.number(epochs) - before;
    assert!((24..=26).contains(&moved_once), "{moved_once}: 15 for the second node, some 10 for the third");
    // One that ends gives all back at once.
    let ended = Instant::now();
    second.terminate();
    assert_eq!(second.wait().code(), Some(0));
    place.wait_until_fair(2);
    println!("given back and taken {:?} after SIGTERM", ended.elapsed());
    let after = place.number(epochs) - before - moved_once;
    assert!((9..=11).contains(&after), "{after}: what the second node held");
    // And one that dies within the time of its lease.
    let died = Instant::now();
    third.kill();
    wait_for("the first node to hold all", || place.held() == [31]);
    println!("taken {:?} after the death", died.elapsed());
    assert!(died.elapsed() < LOSS, "{:?}", died.elapsed());
}

#[test]
fn a_message_for_another_nodes_channel_is_sent_at_once() {
    let place = Place::new();
    let key = place.home.unlimited_key();
    let calls = place.start("calls", &["--roles", "api"]);
    let sends = place.start("sends", &["--roles", "dispatch"]);
    open_channel(&calls, &key, "c000");
    wait_for("the one that sends to hold all", || place.held() == [0, 2]);
    // A node that answers no calls says only whether it is well.
    sends.get("/v1/channels", Some(&key)).expect(404);
    let mut waits = Vec::new();
    for number in 0..50 {
        let accepted = calls.post(
            "/v1/channels/c000/messages/contact",
            &key,
            &serde_json::from_str(&card(0, number)).expect("JSON"),
        );
        let id = accepted.expect(202).header("X-Message-Id").expect("an id").to_owned();
        wait_for("the card to be sent", || status(&calls, &key, "c000", &id) != json!("QUEUED"));
        let sql = "select max(sending_at - queued_at) from messages where seq = (select max(seq) from messages)";
        waits.push(place.number(sql));
    }
    waits.sort_unstable();
    println!("accept to claim on another node: p50 {} ms, longest {} ms", waits[25], waits[49]);
    assert!(waits[25] <= 1_000, "the poll alone would take seconds: {waits:?}");
}

#[test]
fn a_frozen_node_settles_nothing_and_what_it_held_goes_out_under_the_same_id() {
    let place = Place::new();
    let key = place.home.unlimited_key();
    let first = place.start("first", &["--sandbox-delay-min", "100ms", "--sandbox-delay-max", "200ms"]);
    open_channel(&first, &key, "c000");
    place.wait_until_fair(1);
    let body = |number| serde_json::from_str(&card(0, number)).expect("JSON");
    let accepted: Vec<_> = (0..60)
        .map(|number| {
            let answer = first.post("/v1/channels/c000/messages/contact", &key, &body(number)).expect(202);
            answer.header("X-Message-Id").expect("an id").to_owned()
        })
        .collect();
    first.signal("STOP");
    let second = place.start("second", &[]);
    wait_for("the heir to send the last one", || {
        accepted.last().is_some_and(|id| status(&second, &key, "c000", id) == json!("READ"))
    });
    let held = place.number("select lease_node from channels where id = 'c000'");
    first.signal("CONT");
    wait_for("the late node to find that it was taken for dead", || first.log().contains("taken for dead"));
    wait_for("the late node to be back among the others", || place.held().len() == 2);
    assert_eq!(place.number("select count(*) from sandbox_phone"), 60);
    assert_eq!(place.number("select count(*) from messages where status <> 5"), 0, "all READ");
    assert_ne!(held, 0);
}
