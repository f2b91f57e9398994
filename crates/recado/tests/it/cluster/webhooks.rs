//! Nodes share the deliveries of webhooks.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::Place;
use crate::harness::wait_for;
use crate::v1::every_scope;
use crate::webhooks::receiver::{Receiver, Reply};
use crate::webhooks::send;

const MESSAGES: usize = 40;

#[test]
fn deliveries_continue_when_a_node_is_killed() {
    let place = Place::new();
    let key = every_scope(&place.home);
    let (first, second) = (place.start_with_webhooks("first"), place.start_with_webhooks("second"));
    // Slow, so that requests of the node are in flight when it is killed.
    let receiver = Receiver::answering(|_, _| Reply::Late(Duration::from_millis(500)));
    let body = json!({"url": receiver.url("/"), "events": ["message.sent"]});
    let hook = first.post("/v1/webhooks", &key, &body).expect(201).json()["data"].take();
    let path = format!("/v1/webhooks/{}", hook["id"].as_str().expect("an id"));
    let ids: BTreeSet<String> =
        (0..MESSAGES).map(|number| send(&first, &key, &format!("5511988{number:06}"))).collect();
    receiver.until(MESSAGES / 4);
    first.kill();
    let reached = || {
        let message = |arrival: &crate::webhooks::receiver::Arrival| {
            arrival.json()["data"]["messageId"].as_str().map(str::to_owned)
        };
        receiver.arrivals().iter().filter_map(message).collect::<BTreeSet<_>>()
    };
    wait_for("an event of every message", || reached() == ids);
    let pending = || second.get(&format!("{path}/logs?status=PENDING"), Some(&key)).expect(200).json()["data"].take();
    wait_for("every delivery to be settled", || pending() == json!([]));
    let secret = hook["secret"].as_str().expect("a secret");
    assert!(receiver.arrivals().iter().all(|arrival| arrival.is_signed_with(secret)));
}

#[test]
fn another_node_sends_what_a_call_on_this_one_asks_for() {
    let place = Place::new();
    let key = every_scope(&place.home);
    let (first, second) = (place.start_with_webhooks("first"), place.start_with_webhooks("second"));
    let receiver = Receiver::start();
    let body = json!({"url": receiver.url("/"), "events": ["message.sent"]});
    let hook = first.post("/v1/webhooks", &key, &body).expect(201).json()["data"].take();
    let path = format!("/v1/webhooks/{}", hook["id"].as_str().expect("an id"));
    send(&second, &key, "5511999998888");
    receiver.until(1);
    // One webhook, whichever node shows it.
    let shown = second.get(&path, Some(&key)).expect(200).json()["data"].take();
    assert_eq!(shown["url"], hook["url"]);
    let delivered = || {
        let log = second.get(&format!("{path}/logs?status=DELIVERED"), Some(&key)).expect(200).json();
        log["data"][0]["id"].as_str().map(str::to_owned)
    };
    wait_for("the delivery", || delivered().is_some());
    let replay = format!("{path}/logs/{}/replay", delivered().expect("a delivery"));
    second.call("POST", &replay, Some(&key), &[], None).expect(202);
    assert_eq!(receiver.until(2)[1].header("webhook-replay"), Some("true"));
}
