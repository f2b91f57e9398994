//! The server is killed at random moments under load: no accepted message is lost, doubled or out of order.
//!
//! `RECADO_TEST_KILLS` sets how often (20), `RECADO_TEST_SEED` repeats the moments of an earlier run.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{ScopedJoinHandle, scope, sleep};
use std::time::Duration;

use crate::harness::{Home, PATIENCE, Server, wait_for};
use crate::load::{
    ACCEPTED, Dice, Load, Sender, card, card_name, channel_id, check, check_that_messages_can_be_read, join,
    open_channel, phone, setting, wait_until_read,
};

const CHANNELS: usize = 20;
/// The duration of the load before a kill, in milliseconds: at least and at most.
const LOAD: (u64, u64) = (200, 900);
/// The kills that every run of the tests makes.
const KILLS: u64 = 20;

#[test]
fn killed_at_random_moments_it_loses_and_doubles_nothing() {
    let kills = setting("RECADO_TEST_KILLS").unwrap_or(KILLS);
    let seed = setting("RECADO_TEST_SEED").unwrap_or_else(|| RandomState::new().hash_one(kills));
    println!("RECADO_TEST_SEED={seed} repeats the moments of these {kills} kills");
    let mut dice = Dice(seed);
    let home = Home::init();
    let load = Load::new(home.unlimited_key(), pause(kills), card);
    let mut server = home.serve();
    (0..CHANNELS).for_each(|channel| open_channel(&server, &load.key, &channel_id(channel)));
    load.enter(&server);
    let (server, senders) = scope(|scope| {
        let run = |channel| Sender::new(channel, &load).run();
        let threads: Vec<_> = (0..CHANNELS).map(|channel| scope.spawn(move || run(channel))).collect();
        for _ in 0..kills {
            sleep(dice.between(LOAD));
            load.leave(&server.address);
            server.kill();
            server = home.serve();
            load.enter(&server);
            // A sender that ended has failed: joining it reports the reason.
            if threads.iter().any(ScopedJoinHandle::is_finished) {
                break;
            }
        }
        load.stop.store(true, SeqCst);
        (server, threads.into_iter().map(join).collect::<Vec<_>>())
    });
    wait_until_read(&server, &load.key, &senders);
    let counted = check(kills, &senders, &phone(&server, &load.key));
    assert!(counted.repeated > 0, "no kill hit a call");
    // In a short run, no kill need fall between a send and its record.
    assert!(kills < KILLS || counted.resent > 0, "nothing was sent again: the kills proved little");
    check_that_messages_can_be_read(&server, &load.key, &senders);
}

/// How long a sender pauses after a card, so that the check at the end stays small on any machine: about 20,000 cards in
/// all, and in a run of very many kills at least 200 between two kills.
fn pause(kills: u64) -> Duration {
    let cards = 20_000.max(200 * kills);
    Duration::from_millis(kills * u64::midpoint(LOAD.0, LOAD.1) * CHANNELS as u64 / cards)
}

#[test]
fn a_stop_breaks_no_call_and_forgets_no_202() {
    let home = Home::init();
    let key = home.unlimited_key();
    let server = home.serve();
    (0..CHANNELS).for_each(|channel| open_channel(&server, &key, &channel_id(channel)));
    // Certainly in flight: the server asked for the body, and gets it only after it stopped accepting connections.
    let held: Vec<_> = (0..5).map(|number| (number, hold(&server, &key, number))).collect();
    // An idle connection must not delay the end.
    let _idle = TcpStream::connect(&server.address).expect("a connection");
    let stopping = AtomicBool::new(false);
    let mut accepted = scope(|scope| {
        let hammer = |channel| call_until_refused(&server, &key, channel, &stopping);
        let threads: Vec<_> = (1..CHANNELS).map(|channel| scope.spawn(move || hammer(channel))).collect();
        sleep(Duration::from_millis(300));
        stopping.store(true, SeqCst);
        server.terminate();
        threads.into_iter().flat_map(join).collect::<HashSet<_>>()
    });
    wait_for("the door to be closed", || TcpStream::connect(&server.address).is_err());
    for (number, mut stream) in held {
        stream.write_all(card(0, number).as_bytes()).expect("the server listens to a call in flight");
        let status = answer(stream).expect("an answer to a call in flight");
        accepted.extend((status == 202).then(|| card_name(0, number)));
    }
    assert_eq!(server.wait().code(), Some(0));
    assert_ne!(accepted.len(), 0);
    let server = home.serve();
    let mut shown = Vec::new();
    wait_for("every accepted card on the phone", || {
        shown = phone(&server, &key).into_iter().map(|card| card.name).collect();
        accepted.iter().all(|name| shown.contains(name))
    });
    let distinct: HashSet<_> = shown.iter().collect();
    assert_eq!(distinct.len(), shown.len(), "a card is on the phone more than once");
}

/// The head of a call, on a new connection.
fn head(server: &Server, key: &str, channel: usize, length: usize, more: &str) -> String {
    format!(
        "POST /v1/channels/c{channel:03}/messages/contact HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
         Authorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{more}\r\n",
        server.address
    )
}

/// Begins a call, and waits until the server asks for its body.
fn hold(server: &Server, key: &str, number: usize) -> TcpStream {
    let mut stream = TcpStream::connect(&server.address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let head = head(server, key, 0, card(0, number).len(), "Expect: 100-continue\r\n");
    stream.write_all(head.as_bytes()).expect("the head is read");
    let mut go_on = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut go_on).expect("the server wants the body");
    assert!(go_on.starts_with(b"HTTP/1.1 100 "), "{}", String::from_utf8_lossy(&go_on));
    stream
}

/// Calls, each time on a new connection, until the server is gone. Returns the names of the accepted cards.
fn call_until_refused(server: &Server, key: &str, channel: usize, stopping: &AtomicBool) -> Vec<String> {
    let mut accepted = Vec::new();
    for number in 0.. {
        let card = card(channel, number);
        let status = TcpStream::connect(&server.address).ok().and_then(|mut stream| {
            let head = head(server, key, channel, card.len(), "");
            let _ = stream.write_all(format!("{head}{card}").as_bytes());
            answer(stream)
        });
        match status {
            Some(202) => accepted.push(card_name(channel, number)),
            Some(_) => {}
            // Refused, or accepted by the system and never by the server.
            None => break,
        }
    }
    assert!(stopping.load(SeqCst), "a call had no answer before the stop");
    accepted
}

/// The status of a complete answer; `None` if there is not one byte of it. A broken answer fails the test.
fn answer(mut stream: TcpStream) -> Option<u16> {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut bytes = Vec::new();
    // After a reset, what was read before it is still there.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).expect("UTF-8");
    if text.is_empty() {
        return None;
    }
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("half a head: {text:?}"));
    let length = format!("content-length: {}", body.len());
    assert!(head.lines().any(|line| line.eq_ignore_ascii_case(&length)), "half a body: {text:?}");
    match head.split(' ').nth(1) {
        Some("202") => assert_eq!(body, ACCEPTED),
        status => assert_eq!(status, Some("503"), "{text}"),
    }
    head.split(' ').nth(1)?.parse().ok()
}
