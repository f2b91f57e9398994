//! Dead receivers delay no other.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::receiver::{Dead, Receiver, Reply};
use super::{LOOPBACK, send};
use crate::harness::{Home, Server, agent, call};
use crate::v1::ALL_SCOPES;

/// Institutions, and the webhooks of each: 1,000 in all.
const INSTITUTIONS: usize = 20;
const WEBHOOKS: usize = 50;
/// Messages that the healthy webhook is measured with, and the pause between two.
const MESSAGES: usize = 100;
const PAUSE: Duration = Duration::from_millis(200);
/// The pause between two messages of another institution.
const OTHERS: Duration = Duration::from_secs(5);

/// The delay that all but one of a hundred events keep. A build for debugging is several times slower than a release.
const MOST: Duration = Duration::from_secs(if cfg!(debug_assertions) { 3 } else { 1 });

/// A key of a new institution.
fn new_institution(home: &Home) -> String {
    let made = home.cli(&["institutions", "create", "--name", "another"]);
    key_of(home, made["id"].as_str().expect("an id"))
}

fn key_of(home: &Home, institution: &str) -> String {
    let args = ["keys", "create", "--institution", institution, "--name", "tests", "--environment", "test"];
    let made = home.cli(&[&args[..], &["--scopes", ALL_SCOPES, "--rate-limit", "unlimited"]].concat());
    made["key"].as_str().expect("a key").to_owned()
}

/// Sends messages with all keys. Gives when each message of the first key was sent.
fn load(server: &Server, keys: &[String]) -> HashMap<String, Instant> {
    let stop = AtomicBool::new(false);
    scope(|scope| {
        for key in &keys[1..] {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Relaxed) {
                    send(server, key, "5511999998888");
                    sleep(OTHERS);
                }
            });
        }
        let sent = (0..MESSAGES).map(|number| {
            let begin = Instant::now();
            let id = send(server, &keys[0], &format!("551199{number:07}"));
            sleep(PAUSE);
            (id, begin)
        });
        let sent = sent.collect();
        stop.store(true, Relaxed);
        sent
    })
}

#[test]
fn a_thousand_dead_webhooks_do_not_delay_a_healthy_one() {
    let home = Home::init();
    let mut keys = vec![key_of(&home, &home.institution)];
    keys.extend((1..INSTITUTIONS).map(|_| new_institution(&home)));
    let server = home.serve_sealing(&LOOPBACK);
    let (healthy, silent) = (Receiver::start(), Dead::start());
    let failing = Receiver::answering(|_, _| Reply::Status(500, ""));
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        format!("http://{}/", listener.local_addr().expect("an address"))
    };
    // Most receive connections and never answer: these hold a slot for the longest time.
    let dead = |number: usize| match number % 10 {
        0 => closed.clone(),
        1 => failing.url("/"),
        _ => silent.url("/"),
    };
    let agent = agent();
    let hook = |key: &str, url: &str| {
        let body = json!({"url": url, "events": ["message.sent"]}).to_string();
        let json = [("Content-Type", "application/json")];
        call(&agent, &server.url("/v1/webhooks"), "POST", Some(key), &json, Some(body.as_bytes()))
            .expect("an answer")
            .expect(201);
    };
    for (institution, key) in keys.iter().enumerate() {
        (0..WEBHOOKS).filter(|number| institution + number > 0).for_each(|number| hook(key, &dead(number)));
    }
    hook(&keys[0], &healthy.url("/"));
    let sent = load(&server, &keys);
    let arrivals = healthy.until(MESSAGES);
    let mut delays: Vec<Duration> = arrivals
        .iter()
        .map(|arrival| {
            let body: Value = arrival.json();
            arrival.at - sent[body["data"]["messageId"].as_str().expect("an id")]
        })
        .collect();
    delays.sort_unstable();
    let at = |percent: usize| delays[(delays.len() * percent).div_ceil(100) - 1];
    println!(
        "delays with {} dead webhooks: p50 {:?}, p99 {:?}, longest {:?}",
        WEBHOOKS * INSTITUTIONS - 1,
        at(50),
        at(99),
        at(100)
    );
    assert!(at(99) <= MOST, "{delays:?}");
}
