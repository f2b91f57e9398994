//! A channel is deleted while another is created under its id: the new one sends nothing of the deleted one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::scope;

use serde_json::json;

use crate::cluster::Place;
use crate::harness::{Home, Server, agent, call, wait_for};
use crate::load::{open_channel, setting};

/// The default number of queued messages (`RECADO_TEST_QUEUED`): several times what a deletion cancels at once.
const QUEUED: u64 = 1_600;
const CALLERS: usize = 8;
const CHANNEL: &str = "loja";

/// Queues messages on a channel that is paused.
fn queue(server: &Server, key: &str) -> usize {
    let queued = usize::try_from(setting("RECADO_TEST_QUEUED").unwrap_or(QUEUED)).expect("few");
    let next = AtomicUsize::new(0);
    let card = json!({"to": "5511999996310", "name": "Former", "phone": "5511988887777"}).to_string();
    let url = server.url(&format!("/v1/channels/{CHANNEL}/messages/contact"));
    scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                let agent = agent();
                while next.fetch_add(1, Ordering::Relaxed) < queued {
                    let headers = [("Content-Type", "application/json")];
                    call(&agent, &url, "POST", Some(key), &headers, Some(card.as_bytes()))
                        .expect("an answer")
                        .expect(202);
                }
            });
        }
    });
    queued
}

/// How many of the channel's messages have this status, of the first hundred.
fn with_status(server: &Server, key: &str, status: &str) -> usize {
    let path = format!("/v1/channels/{CHANNEL}/messages?limit=100&status={status}");
    server.get(&path, Some(key)).expect(200).json()["data"].as_array().expect("a list").len()
}

fn nothing_of_the_deleted_channel_is_sent(deletes: &Server, creates: &Server, key: &str) {
    let path = format!("/v1/channels/{CHANNEL}");
    open_channel(creates, key, CHANNEL);
    wait_for("the other node to know it", || deletes.get(&path, Some(key)).status == 200);
    creates.call("POST", &format!("{path}/pause"), Some(key), &[], None).expect(200);
    queue(creates, key);
    scope(|scope| {
        scope.spawn(|| deletes.delete(&path, Some(key)).expect(200));
        let new = json!({"name": "Nova", "type": "SANDBOX", "id": CHANNEL});
        wait_for("its id to be free", || creates.post("/v1/channels", key, &new).status == 201);
        creates.call("POST", &format!("{path}/connect"), Some(key), &[], None).expect(200);
    });
    let card = json!({"to": "5511999996311", "name": "New", "phone": "5511988887777"});
    creates.post(&format!("{path}/messages/contact"), key, &card).expect(202);
    for status in ["QUEUED", "SENDING", "SENT", "DELIVERED"] {
        wait_for("an end for each message", || with_status(creates, key, status) == 0);
    }
    assert_eq!(with_status(creates, key, "READ"), 1, "the new channel's own");
    let phone = creates.get("/v1/sandbox/messages?limit=100", Some(key)).expect(200).json();
    let shown: Vec<_> = phone["data"].as_array().expect("a list").iter().map(|row| &row["contact"]["name"]).collect();
    assert_eq!(shown, ["New"]);
}

#[test]
fn nothing_of_a_deleted_channel_is_sent_by_the_recreated_one() {
    let home = Home::init();
    let server = home.serve();
    nothing_of_the_deleted_channel_is_sent(&server, &server, &home.unlimited_key());
}

#[test]
fn nothing_of_a_deleted_channel_is_sent_if_another_node_recreates_it() {
    let place = Place::new();
    let nodes = ["one", "two"].map(|name| place.start(name, &[]));
    nothing_of_the_deleted_channel_is_sent(&nodes[0], &nodes[1], &place.home.unlimited_key());
}
