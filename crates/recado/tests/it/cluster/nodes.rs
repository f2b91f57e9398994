//! Nodes join, leave, crash and freeze; accepted messages are sent once, in order.

use std::hash::{BuildHasher, RandomState};
use std::thread::{ScopedJoinHandle, scope, sleep};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{LOSS, Place, status};
use crate::harness::{Server, wait_for};
use crate::load::{
    Counted, Dice, LOST_ANSWER, Load, Sender, StopAtEnd, card, channel_id, check, check_that_messages_can_be_read,
    join, open_channel, phone, setting, wait_until_read,
};

const CHANNELS: usize = 200;
const NODES: usize = 3;
/// The default duration of the load; `RECADO_TEST_NODES_SECONDS` sets another one.
const SECONDS: u64 = 120;
/// Between two faults, in milliseconds.
const BETWEEN: (u64, u64) = (2_000, 5_000);
/// How long a node is frozen that keeps its lease or just loses it.
const FROZEN: (u64, u64) = (1_000, 11_000);
/// And how much longer than until other nodes own its channels.
const FROZEN_ON: (u64, u64) = (0, 4_000);
/// A sender's pause after a card, so that the check at the end stays small.
const PAUSE: Duration = Duration::from_secs(1);
/// The latency of the network, so that faults hit messages in flight. With 4 connections of each node to it, two nodes can
/// send the accepted messages.
const NETWORK: Duration = Duration::from_millis(30);

/// Puts a load on three nodes and applies `fault` to them, which returns how many sends it hit.
fn under_load(seconds: u64, mut fault: impl FnMut(&Load, &mut Dice, &mut Vec<Server>, &Place) -> i64) -> Counted {
    let seconds = setting("RECADO_TEST_NODES_SECONDS").unwrap_or(seconds);
    let seed = setting("RECADO_TEST_SEED").unwrap_or_else(|| RandomState::new().hash_one(seconds));
    println!("RECADO_TEST_SEED={seed} repeats these moments");
    let mut dice = Dice(seed);
    let place = Place::new();
    place.start_audit();
    place.slow_network(NETWORK);
    let mut nodes: Vec<_> = (0..NODES).map(|number| place.start(&format!("node{number}"), &[])).collect();
    let load = Load::new(place.home.unlimited_key(), PAUSE, some_answers_are_lost);
    (0..CHANNELS).for_each(|channel| open_channel(&nodes[channel % NODES], &load.key, &channel_id(channel)));
    place.wait_until_balanced(NODES);
    nodes.iter().for_each(|node| load.enter(node));
    let (faults, hit, senders) = scope(|scope| {
        let run = |channel| Sender::new(channel, &load).run();
        let threads: Vec<_> = (0..CHANNELS).map(|channel| scope.spawn(move || run(channel))).collect();
        let under_load = StopAtEnd(&load);
        let end = Instant::now() + Duration::from_secs(seconds);
        let (mut faults, mut hit) = (0, 0);
        // A sender that ended has failed: joining it reports the reason.
        while Instant::now() < end && !threads.iter().any(ScopedJoinHandle::is_finished) {
            sleep(dice.between(BETWEEN));
            hit += fault(&load, &mut dice, &mut nodes, &place);
            faults += 1;
        }
        drop(under_load);
        (faults, hit, threads.into_iter().map(join).collect::<Vec<_>>())
    });
    wait_until_read(&nodes[0], &load.key, &senders);
    let counted = check(faults, &senders, &phone(&nodes[0], &load.key));
    println!("{hit} sends were in flight on a node that was hit");
    assert!(hit > 0, "no fault hit a send: it proved little");
    check_that_messages_can_be_read(&nodes[0], &load.key, &senders);
    assert_eq!(place.non_owner_writes("wrote"), 0, "claims and settlements of a channel that was another's");
    counted
}

/// A card. One in eight is for the number whose network accepts the message and loses the answer, so that many messages with
/// an unknown outcome are in flight at any moment.
fn some_answers_are_lost(channel: usize, number: usize) -> String {
    let card = card(channel, number);
    if number % 8 == 3 { card.replacen(&format!("5511980000{channel:03}"), LOST_ANSWER, 1) } else { card }
}

fn one_of(dice: &mut Dice) -> usize {
    usize::try_from(dice.between((0, NODES as u64)).as_millis()).expect("small")
}

#[test]
fn nodes_killed_at_random_moments_lose_and_double_nothing() {
    let counted = under_load(SECONDS, |load, dice, nodes, place| {
        let number = one_of(dice);
        let name = format!("node{number}");
        let (node, id) = (nodes.remove(number), place.id_of(&name));
        load.leave(&node.address);
        node.kill();
        let hit = place.in_flight(id);
        sleep(dice.between((0, 3_000)));
        let node = place.start(&name, &[]);
        load.enter(&node);
        nodes.insert(number, node);
        hit
    });
    assert!(counted.repeated > 0, "no kill hit a call");
}

#[test]
fn nodes_frozen_past_their_lease_neither_settle_nor_claim_for_others() {
    let mut for_long = false;
    under_load(SECONDS / 2, |load, dice, nodes, place| {
        let number = one_of(dice);
        let (node, id) = (&nodes[number], place.id_of(&format!("node{number}")));
        // Calls to it would only wait.
        load.leave(&node.address);
        for_long = !for_long;
        if for_long {
            wait_for("something in flight", || place.in_flight(id) > 0);
        }
        node.signal("STOP");
        let hit = place.in_flight(id);
        if for_long {
            let held = format!("SELECT count(*) FROM channels WHERE lease_node = {id}");
            wait_for("others to hold what it held", || place.number(&held) == 0);
            sleep(dice.between(FROZEN_ON));
        } else {
            sleep(dice.between(FROZEN));
        }
        node.signal("CONT");
        load.enter(node);
        hit
    });
}

#[test]
fn each_node_gets_its_quota_and_a_channel_moves_at_most_once() {
    let place = Place::new();
    let (key, first) = (place.home.unlimited_key(), place.start("first", &[]));
    (0..30).for_each(|channel| open_channel(&first, &key, &channel_id(channel)));
    place.wait_until_balanced(1);
    // An epoch ends with the release of a channel, and the next one begins with its acquisition.
    let moves = || place.number("SELECT coalesce(sum(lease_epoch), 0)::bigint / 2 FROM channels");
    let before = moves();
    let second = place.start("second", &[]);
    place.wait_until_balanced(2);
    // 31 with the institution's own: 15 went.
    assert_eq!(moves() - before, 15);
    let third = place.start("third", &[]);
    place.wait_until_balanced(3);
    let moved_once = moves() - before;
    assert!((24..=26).contains(&moved_once), "{moved_once}: 15 for the second node, some 10 for the third");
    // A stopping node releases all its channels at once.
    let ended = Instant::now();
    second.terminate();
    assert_eq!(second.wait().code(), Some(0));
    place.wait_until_balanced(2);
    println!("released and acquired {:?} after SIGTERM", ended.elapsed());
    let after = moves() - before - moved_once;
    assert!((9..=11).contains(&after), "{after}: what the second node held");
    // And a node that crashes within the time of its lease.
    let died = Instant::now();
    third.kill();
    wait_for("the first node to hold all", || place.held() == [31]);
    println!("acquired {:?} after the crash", died.elapsed());
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
    // A node without the role `api` answers only health checks.
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
        let sql = "SELECT max(sending_at - queued_at) FROM messages WHERE seq = (SELECT max(seq) FROM messages)";
        waits.push(place.number(sql));
    }
    waits.sort_unstable();
    println!("accept to claim on another node: p50 {} ms, longest {} ms", waits[25], waits[49]);
    // About 5 ms on an idle machine. By polls alone a node would take seconds.
    assert!(waits[25] <= 250, "{waits:?}");
}

#[test]
fn a_frozen_node_neither_claims_nor_settles_nor_sends_for_channels_of_another_node() {
    const CARDS: i64 = 60;
    const PACE: [&str; 4] = ["--sandbox-delay-min", "200ms", "--sandbox-delay-max", "300ms"];
    let place = Place::new();
    place.start_audit();
    let key = place.home.unlimited_key();
    let first = place.start("first", &PACE);
    open_channel(&first, &key, "c000");
    place.wait_until_balanced(1);
    let body = |number| serde_json::from_str(&card(0, number)).expect("JSON");
    for number in 0..CARDS {
        let number = usize::try_from(number).expect("few");
        first.post("/v1/channels/c000/messages/contact", &key, &body(number)).expect(202);
    }
    wait_for("the first node to send", || place.writes_of("first") > 5);
    first.signal("STOP");
    let second = place.start("second", &PACE);
    wait_for("the new owner to send", || place.writes_of("second") > 5);
    let of_the_first = place.writes_of("first");
    first.signal("CONT");
    wait_for("the late node to find that its lease expired", || first.log().contains("node lease expired"));
    // The new owner releases the institution's own channel, which has no work.
    place.wait_until_balanced(2);
    wait_for("all to be READ", || place.number("SELECT count(*) FROM messages WHERE status <> 5") == 0);
    assert_eq!(place.writes_of("first"), of_the_first, "it did nothing more");
    assert_eq!((place.non_owner_writes("wrote"), place.non_owner_writes("sent")), (0, 0));
    let owned = "SELECT count(*) FROM channels c JOIN nodes n ON n.id = lease_node";
    assert_eq!(place.number(&format!("{owned} where c.id = 'c000' and n.name = 'second'")), 1);
    let arrivals = place.number("SELECT count(*) FROM sandbox_arrivals");
    println!("{arrivals} arrivals of {CARDS} cards");
    assert!((CARDS..=CARDS + 1).contains(&arrivals), "what was in flight, and nothing else, may arrive again");
    assert_eq!(place.number("SELECT count(*) FROM sandbox_phone"), CARDS);
    drop(second);
}
