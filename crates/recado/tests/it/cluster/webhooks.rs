//! Nodes share the deliveries of webhooks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fake_graph::{Behaviour, Delivery, FakeGraph, Number, Person, Said, Status};
use serde_json::json;

use super::Place;
use super::cloud::link;
use crate::cloud_api::{ANOTHER_KEY, NUMBER, SECRET_KEY};
use crate::harness::{Server, wait_for};
use crate::v1::{ALL_SCOPES, create_key, every_scope};
use crate::webhooks::receiver::{Receiver, Reply};
use crate::webhooks::{LOOPBACK, send};

/// Messages that a call sends, and messages that people write, before the kill and after it.
const MESSAGES: usize = 40;
const AFTER: usize = 10;

/// The messages of the events that arrived, each with the ids of its events.
fn reached(receiver: &Receiver, name: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut reached = BTreeMap::<_, BTreeSet<_>>::new();
    for arrival in receiver.arrivals().iter().filter(|arrival| arrival.event() == name) {
        let data = arrival.json()["data"].take();
        let message = data["message"]["networkId"].as_str().or(data["messageId"].as_str()).expect("a message");
        reached.entry(message.to_owned()).or_default().insert(arrival.id().to_owned());
    }
    reached
}

/// People write to the number of the channel. Returns the network ids.
fn write(graph: &FakeGraph, numbers: std::ops::Range<usize>) -> BTreeSet<String> {
    let said = numbers.map(|number| {
        let said = Said::text("Oi").with_id(&format!("wamid.{number}"));
        let person = Person::with_phone(&format!("5511977{:06}", number % 7), "Ana");
        // The network repeats every second callback.
        graph.deliver(NUMBER, &Delivery::new().message(&person, &said).times(1 + u32::from(number % 2 == 0)));
        said.id().to_owned()
    });
    said.collect()
}

#[test]
fn deliveries_continue_when_a_node_of_three_is_killed() {
    let (place, graph) = (Place::new(), FakeGraph::start());
    let key = create_key(&place.home, "live", ALL_SCOPES, "unlimited");
    graph.add_number(Number::example(NUMBER));
    // The status settles a message whose answer the killed node did not get.
    graph.behave(|_| Behaviour::accept().calling_back([Status::Sent]));
    let [first, second, third] = ["first", "second", "third"].map(|name| place.cloud_node(name, &graph, &LOOPBACK));
    link(&first, &key, "vendas", NUMBER);
    // Slow, so that requests of the node are in flight when it is killed.
    let receiver = Receiver::answering(|_, _| Reply::Late(Duration::from_millis(500)));
    let body = json!({"url": receiver.url("/"), "events": ["message.sent", "message.received"]});
    let hook = first.post("/v1/webhooks", &key, &body).expect(201).json()["data"].take();
    let path = format!("/v1/webhooks/{}", hook["id"].as_str().expect("an id"));
    // The node that is killed accepts the messages and takes the callbacks, and so creates the deliveries or their events.
    graph.send_callbacks_to(Some(first.url("/v1/callbacks/meta")));
    let send = |node: &Server, number: usize| {
        let body = json!({"to": format!("5511988{number:06}"), "content": "Ola"});
        let answer = node.post("/v1/channels/vendas/messages/text", &key, &body).expect(202);
        answer.header("X-Message-Id").expect("an id").to_owned()
    };
    let mut accepted: BTreeSet<_> = (0..MESSAGES).map(|number| send(&first, number)).collect();
    let mut written = write(&graph, 0..MESSAGES);
    receiver.until(MESSAGES / 4);
    graph.send_callbacks_to(None);
    first.kill();
    // The other nodes take what follows, and what the network repeats because the first node did not acknowledge it.
    graph.send_callbacks_to(Some(second.url("/v1/callbacks/meta")));
    written.extend(write(&graph, MESSAGES..MESSAGES + AFTER));
    accepted.extend((MESSAGES..MESSAGES + AFTER).map(|number| send(&third, number)));
    let messages = |name| reached(&receiver, name).into_keys().collect::<BTreeSet<_>>();
    wait_for("an event of every message that was written", || messages("message.received") == written);
    wait_for("an event of every message that was sent", || messages("message.sent") == accepted);
    for name in ["message.received", "message.sent"] {
        assert!(reached(&receiver, name).values().all(|ids| ids.len() == 1), "one event for each message");
    }
    let pending = || third.get(&format!("{path}/logs?status=PENDING"), Some(&key)).expect(200).json()["data"].take();
    wait_for("every delivery to be settled", || pending() == json!([]));
    assert_eq!(place.number("SELECT count(*) FROM incoming"), i64::try_from(written.len()).expect("few"));
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

#[test]
fn a_node_without_the_newest_key_leaves_webhooks_to_the_others() {
    // Less than the lease of a delivery, which is 30 seconds.
    const SOON: Duration = Duration::from_secs(20);
    let (place, graph) = (Place::new(), FakeGraph::start());
    let key = every_scope(&place.home);
    let first = place.cloud_node("first", &graph, &LOOPBACK);
    let second = place.node_with_keys("second", &graph, &format!("{ANOTHER_KEY},{SECRET_KEY}"), &LOOPBACK);
    let receiver = Receiver::start();
    let body = json!({"url": receiver.url("/"), "events": ["message.sent"]});
    // Sealed with the newest key, which the first node does not have.
    second.post("/v1/webhooks", &key, &body).expect(201);
    let began = Instant::now();
    let ids: BTreeSet<_> = (0..MESSAGES).map(|number| send(&first, &key, &format!("5511988{number:06}"))).collect();
    wait_for("an event of every message", || {
        reached(&receiver, "message.sent").into_keys().collect::<BTreeSet<_>>() == ids
    });
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert!(
        receiver.arrivals().iter().all(|arrival| arrival.header("webhook-attempt").is_none()),
        "no attempt was lost"
    );
}

#[test]
fn a_node_that_stops_leaves_the_fan_out_to_another_at_once() {
    // Less than the lease of the fan-out, which is 6 seconds, and more than the second after which a node asks for it.
    const SOON: Duration = Duration::from_secs(4);
    let place = Place::new();
    let key = every_scope(&place.home);
    let receiver = Receiver::start();
    let body = json!({"url": receiver.url("/"), "events": ["message.queued", "message.sent"]});
    // The only node leads the fan-out.
    let first = place.start_with_webhooks("first");
    first.post("/v1/webhooks", &key, &body).expect(201);
    send(&first, &key, "5511999998888");
    receiver.until(2);
    let second = place.start_with_webhooks("second");
    first.terminate();
    assert_eq!(first.wait().code(), Some(0));
    let began = Instant::now();
    send(&second, &key, "5511999998888");
    receiver.until(3);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}
