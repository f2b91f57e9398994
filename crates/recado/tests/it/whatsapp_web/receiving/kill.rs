//! The server is killed at random moments between the network's bytes and the delivered webhook: each message is stored
//! once, reported once, and reaches the receiver.
//!
//! `RECADO_TEST_KILLS` sets the number of kills (12), `RECADO_TEST_REPEATS` how often the network repeats each message (1),
//! `RECADO_TEST_SEED` repeats the moments of an earlier run.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{scope, sleep};
use std::time::Duration;

use fake_whatsapp::{FakeWhatsApp, Said};
use serde_json::Value;

use super::Inbox;
use crate::harness::{Home, Server, wait_for};
use crate::load::{Dice, join, setting};
use crate::webhooks::receiver::Receiver;
use crate::whatsapp_web::{JOAO, MARIA, OWNER, Stage, nodes, owner, serve};

/// The kills of every run of the tests.
const KILLS: u64 = 12;
/// The shortest and the longest time from the start of the server to a kill, in milliseconds. The shortest ends before the
/// session is connected.
const MOMENTS: (u64, u64) = (100, 1_500);
/// How often the network repeats each message, with the same cipher text.
const REPEATS: u32 = 1;
/// The pause of a person between two messages.
const PAUSE: Duration = Duration::from_millis(100);

/// A person writes until it is stopped. Returns the ids.
fn write(whatsapp: &FakeWhatsApp, by: &str, stop: &AtomicBool) -> Vec<String> {
    let mut sent = Vec::new();
    while !stop.load(SeqCst) {
        let text = format!("{by} {}", sent.len());
        sent.push(whatsapp.say_as(by, OWNER, Said::text(&text)).expect("sent"));
        sleep(PAUSE);
    }
    sent
}

/// Stops the people when it is dropped.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Runs `disturb` while people write. Returns the ids of what they wrote, and what `disturb` returned.
fn while_people_write<T>(whatsapp: &FakeWhatsApp, disturb: impl FnOnce() -> T) -> (Vec<Vec<String>>, T) {
    let repeats = setting("RECADO_TEST_REPEATS").map_or(REPEATS, |repeats| u32::try_from(repeats).expect("a few"));
    whatsapp.faults(|faults| (faults.by_lid, faults.extra_messages) = (vec![JOAO.to_owned()], repeats));
    let stop = &AtomicBool::new(false);
    scope(|scope| {
        let writers = [MARIA, JOAO].map(|by| scope.spawn(move || write(whatsapp, by, stop)));
        // They stop also if the test fails meanwhile.
        let stopping = Stopping(stop);
        let disturbed = disturb();
        drop(stopping);
        (writers.into_iter().map(join).collect(), disturbed)
    })
}

/// Each message is stored once and reported once, in the order in which its author wrote it, and the receiver has it.
fn check(inbox: &Inbox, receiver: &Receiver, sent: &[Vec<String>]) {
    let whatsapp = &inbox.stage.whatsapp;
    let count: usize = sent.iter().map(Vec::len).sum();
    let mut left = usize::MAX;
    // The wait has no limit as long as the queue moves.
    while left > 0 {
        let before = left;
        wait_for(&format!("messages to be acknowledged: {before}"), || {
            left = whatsapp.unconfirmed(OWNER);
            left < before
        });
    }
    let events = inbox.until("message.received", count);
    let ids: Vec<_> = events.iter().map(|event| text(&event["data"]["message"]["networkId"])).collect();
    for (by, sent) in [MARIA, JOAO].iter().zip(sent) {
        let of_author: Vec<_> = ids.iter().filter(|id| sent.contains(id)).collect();
        let missing: Vec<_> = sent.iter().filter(|id| !ids.contains(id)).collect();
        assert!(missing.is_empty(), "{} of {} messages of {by} are missing: {missing:?}", missing.len(), sent.len());
        assert_eq!(of_author.len(), sent.len(), "events of messages of {by}");
    }
    let listed: Vec<_> = inbox.listed("vendas").iter().map(|message| text(&message["networkId"])).collect();
    assert_eq!((listed.len(), listed.iter().collect::<BTreeSet<_>>().len()), (count, count), "rows");
    assert!(events.iter().all(|event| event["data"]["message"]["type"] == "text"), "unreadable messages");
    wait_for("every event at the receiver", || {
        let arrived: BTreeSet<_> = receiver.arrivals().iter().map(|arrival| arrival.id().to_owned()).collect();
        events.iter().all(|event| arrived.contains(event["id"].as_str().expect("an id")))
    });
    // Deliveries may be repeated; each repeats the same event.
    let mut bodies: BTreeMap<String, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for arrival in receiver.arrivals() {
        bodies.entry(arrival.id().to_owned()).or_default().insert(arrival.body);
    }
    assert!(bodies.values().all(|bodies| bodies.len() == 1), "one event with two bodies");
    assert_eq!(bodies.len(), count, "events at the receiver");
    println!(
        "messages={count} deliveries={} connections={}",
        receiver.arrivals().len(),
        whatsapp.counters().connections
    );
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

#[test]
fn killed_at_random_moments_each_message_is_stored_and_reported_once() {
    let kills = setting("RECADO_TEST_KILLS").unwrap_or(KILLS);
    let seed = setting("RECADO_TEST_SEED").unwrap_or_else(|| RandomState::new().hash_one(kills));
    println!("RECADO_TEST_SEED={seed} repeats the moments of these {kills} kills");
    let mut dice = Dice(seed);
    let inbox = Inbox::set();
    let receiver = Receiver::start();
    inbox.hook(&receiver.url("/"));
    let Inbox { stage, key, cursor } = inbox;
    let Stage { home, server, whatsapp, key: sender } = stage;
    let (sent, server) = while_people_write(&whatsapp, || kill(server, kills, &mut dice, || serve(&home, &whatsapp)));
    let stage = Stage { home, server, whatsapp, key: sender };
    check(&Inbox { stage, key, cursor }, &receiver, &sent);
}

fn kill(mut server: Server, kills: u64, dice: &mut Dice, start: impl Fn() -> Server) -> Server {
    for _ in 0..kills {
        sleep(dice.between(MOMENTS));
        server.kill();
        server = start();
    }
    sleep(Duration::from_millis(500));
    server
}

/// A session that moves between two nodes, by an orderly end and by kills, neither loses nor repeats messages.
#[test]
fn a_session_that_moves_between_nodes_neither_loses_nor_repeats_messages() {
    let home = Home::in_own_database();
    let stage = Stage::set_in(home, 1);
    stage.link("vendas", &owner());
    let inbox = Inbox::of(stage);
    let receiver = Receiver::start();
    inbox.hook(&receiver.url("/"));
    let Inbox { stage, key, cursor } = inbox;
    let Stage { home, server: first, whatsapp, key: sender } = stage;
    let database = home.database.clone().expect("a database");
    let owned_by = |name: &str| {
        let sql = "SELECT count(*) FROM channels c JOIN nodes n ON n.id = c.lease_node WHERE n.name";
        test_postgres::number(&database, &format!("{sql} = '{name}'")) > 0
    };
    let moves = || {
        let second = nodes::start(&home, "second", &whatsapp);
        wait_for("the second node to be there", || test_postgres::number(&database, "SELECT count(*) FROM nodes") == 2);
        first.terminate();
        first.wait();
        wait_for("the second node to own the session", || owned_by("second"));
        sleep(Duration::from_millis(700));
        let third = nodes::start(&home, "third", &whatsapp);
        sleep(Duration::from_millis(700));
        second.kill();
        wait_for("the third node to own the session", || owned_by("third"));
        sleep(Duration::from_millis(700));
        third
    };
    let (sent, server) = while_people_write(&whatsapp, moves);
    let stage = Stage { home, server, whatsapp, key: sender };
    check(&Inbox { stage, key, cursor }, &receiver, &sent);
}
