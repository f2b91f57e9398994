//! The database crashes or hangs: accepted messages are on its standby.

use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use serde_json::json;
use test_postgres::{Options, Server as Postgres};

use crate::harness::{Home, Server, wait_for};
use crate::load::{
    Load, Sender, StopAtEnd, card, channel_id, check, check_that_messages_can_be_read, join, open_channel, phone,
    wait_until_read,
};

const CHANNELS: usize = 20;

/// Its connections are refused.
#[test]
fn a_primary_killed_under_load_loses_no_accepted_message() {
    a_standby_replaces_the_primary(Postgres::kill);
}

/// The system accepts its connections, and nothing answers on them, as with a machine that hangs or is cut off.
#[test]
fn a_primary_that_hangs_under_load_loses_no_accepted_message() {
    a_standby_replaces_the_primary(|primary| primary.freeze());
}

fn a_standby_replaces_the_primary(fault: impl FnOnce(&mut Postgres)) {
    let mut primary = Postgres::start(&Options::durable());
    test_postgres::run(&primary.url("postgres"), "create database recado");
    let standby = Postgres::standby_of(&primary);
    let url = format!("postgres://recado@127.0.0.1:{},127.0.0.1:{}/recado", primary.port(), standby.port());
    let home = Home::on_postgres(&url);
    let nodes: Vec<_> = (0..2).map(|number| home.node(&format!("node{number}")).serve()).collect();
    let load = Load::new(home.unlimited_key(), Duration::from_millis(20), card);
    (0..CHANNELS).for_each(|channel| open_channel(&nodes[channel % 2], &load.key, &channel_id(channel)));
    nodes.iter().for_each(|node| load.enter(node));
    let senders = scope(|scope| {
        let run = |channel| Sender::new(channel, &load).run();
        let threads: Vec<_> = (0..CHANNELS).map(|channel| scope.spawn(move || run(channel))).collect();
        let under_load = StopAtEnd(&load);
        sleep(Duration::from_secs(5));
        let died = Instant::now();
        fault(&mut primary);
        standby.promote();
        println!("the standby is the primary {:?} after the fault", died.elapsed());
        nodes.iter().for_each(|node| wait_for("calls to go through again", || writes(node, &load.key)));
        println!("calls go through again {:?} after the fault", died.elapsed());
        sleep(Duration::from_secs(3));
        drop(under_load);
        threads.into_iter().map(join).collect::<Vec<_>>()
    });
    wait_until_read(&nodes[0], &load.key, &senders);
    let counted = check(1, &senders, &phone(&nodes[0], &load.key));
    // Calls in flight may all get answers in the end. Then the fault has hit sends.
    let hit_sends = nodes.iter().any(|node| node.log().contains("store unavailable; channel waits"));
    assert!(counted.repeated > 0 || hit_sends, "the fault hit nothing");
    check_that_messages_can_be_read(&nodes[1], &load.key, &senders);
}

/// Only the standby is unreachable for the primary: what the primary commits could be lost with it.
#[test]
fn nothing_is_accepted_that_the_standby_does_not_have() {
    const CALLS: usize = 8;
    let mut primary = Postgres::start(&Options::durable());
    test_postgres::run(&primary.url("postgres"), "create database recado");
    let standby = Postgres::standby_of(&primary);
    let url = format!("postgres://recado@127.0.0.1:{},127.0.0.1:{}/recado", primary.port(), standby.port());
    let home = Home::on_postgres(&url);
    let node = home.serve();
    let key = home.unlimited_key();
    open_channel(&node, &key, "c000");
    let call = |number: usize| {
        let idempotency_key = format!("call-{number}");
        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", idempotency_key.as_str())];
        let body = card(0, number);
        node.call("POST", "/v1/channels/c000/messages/contact", Some(&key), &headers, Some(body.as_bytes()))
    };
    call(0).expect(202);
    standby.freeze();
    let all = |numbers: std::ops::Range<usize>| {
        let call = &call;
        scope(|scope| {
            let threads: Vec<_> = numbers.map(|number| scope.spawn(move || call(number).status)).collect();
            threads.into_iter().map(join).collect::<Vec<_>>()
        })
    };
    let frozen = Instant::now();
    assert_eq!(all(1..CALLS), [503; CALLS - 1], "the first calls");
    println!("calls in flight were answered {:?} after the cut", frozen.elapsed());
    wait_for("the node to find that nothing is kept", || node.get("/health/ready", None).status == 503);
    println!("the node was not ready {:?} after the cut", frozen.elapsed());
    assert_eq!(all(1..CALLS), [503; CALLS - 1], "repeated");
    // A client that reads partly replicated data would report messages that could be lost.
    assert_eq!(node.get("/v1/channels/c000/messages?limit=9", Some(&key)).status, 503);

    primary.kill();
    standby.thaw();
    standby.promote();
    wait_for("calls to go through again", || call(0).status == 202);
    assert_eq!(all(1..CALLS), [202; CALLS - 1], "repeated where all is kept");
    let messages = test_postgres::number(&standby.url("recado"), "SELECT count(*) FROM messages");
    assert_eq!(messages, i64::try_from(CALLS).expect("few"), "each once");
}

/// Whether the node can write.
fn writes(node: &Server, key: &str) -> bool {
    let body = json!({"name": "Vendas", "type": "SANDBOX", "id": format!("node-{}", node.pid())});
    let status = node.post("/v1/channels", key, &body).status;
    assert!([201, 409, 503].contains(&status), "{status}");
    // It exists already if the answer to an earlier call was lost.
    status != 503
}
