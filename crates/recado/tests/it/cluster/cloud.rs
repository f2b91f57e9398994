//! Nodes whose network ignores our ids: a card that is sent twice arrives twice.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use fake_graph::{Behaviour, FakeGraph, Number};
use serde_json::json;

use super::Place;
use crate::cloud_api::{ANOTHER_KEY, NUMBER, SECRET_KEY, command, credentials};
use crate::harness::{Server, wait_for};
use crate::v1::create_key;

/// The duration of a send, so that a node always has sends in flight.
const SLOW: Duration = Duration::from_millis(200);
const MESSAGES: i64 = 1_000;

impl Place {
    /// Starts a node that reaches the given network.
    pub fn cloud_node(&self, name: &str, graph: &FakeGraph, flags: &[&str]) -> Server {
        self.node_with_keys(name, graph, SECRET_KEY, flags)
    }

    pub fn node_with_keys(&self, name: &str, graph: &FakeGraph, keys: &str, flags: &[&str]) -> Server {
        let node = self.home.node(name);
        let mut command = command(&node, graph);
        command.env("RECADO_DATABASE_URL", self.url_of(name)).env("RECADO_SECRET_KEY", keys);
        command.args(["serve", "--data-dir", node.dir(), "--listen", "127.0.0.1:0", "--node-name", name]).args(flags);
        Server::start(command, &node)
    }

    fn live_key(&self) -> String {
        create_key(&self.home, "live", "messages.send,messages.read,channels.read,channels.write", "unlimited")
    }
}

/// Creates a channel and links it to a number of the network.
pub fn link(node: &Server, key: &str, channel: &str, number: &str) {
    let body = json!({"name": channel, "type": "WHATSAPP_WABA", "id": channel});
    node.post("/v1/channels", key, &body).expect(201);
    node.post(&format!("/v1/channels/{channel}/connect"), key, &credentials(number)).expect(200);
}

fn accept(node: &Server, key: &str, channel: &str, number: i64) {
    let body = json!({"to": format!("55119{number:08}"), "name": "Maria", "phone": "5511988887777"});
    node.post(&format!("/v1/channels/{channel}/messages/contact"), key, &body).expect(202);
}

/// A network of one node: every message in it was sent by that node.
fn graph() -> FakeGraph {
    let graph = FakeGraph::start();
    graph.add_number(Number::example(NUMBER));
    graph.behave(|_| Behaviour::accept().after(SLOW));
    graph
}

fn sent(graph: &FakeGraph) -> Vec<String> {
    graph.attempts().into_iter().map(|attempt| attempt.opaque_id.expect("our id")).collect()
}

#[test]
fn a_node_frozen_during_a_send_doubles_no_message_of_the_new_owner() {
    let place = Place::new();
    place.start_audit();
    let (key, graphs) = (place.live_key(), [graph(), graph()]);
    let first = place.cloud_node("first", &graphs[0], &[]);
    link(&first, &key, "vendas", NUMBER);
    place.wait_until_balanced(1);
    let second = place.cloud_node("second", &graphs[1], &[]);
    wait_for("the second node to be there", || place.held().len() == 2);
    (0..MESSAGES).for_each(|number| accept(&second, &key, "vendas", number));
    wait_for("the first node to send", || sent(&graphs[0]).len() > 50);
    first.signal("STOP");
    wait_for("the new owner to send", || sent(&graphs[1]).len() > 50);
    let of_the_first = sent(&graphs[0]);
    let waiting = place.number("SELECT count(*) FROM messages WHERE status <= 1");
    first.signal("CONT");
    wait_for("the late node to find that its lease expired", || first.log().contains("node lease expired"));
    wait_for("the late node to be back among the others", || place.held().len() == 2);
    wait_for("nothing to wait any more", || place.number("SELECT count(*) FROM messages WHERE status <= 1") == 0);

    let of_the_heir = sent(&graphs[1]);
    let unknown = place.number("SELECT count(*) FROM messages WHERE status = 4");
    println!(
        "frozen: {} sent before, {} by the new owner, {waiting} waited when it went on, {unknown} UNKNOWN",
        of_the_first.len(),
        of_the_heir.len()
    );
    assert!(waiting > 100, "it went on when there was nothing left to double");
    assert!(unknown > 0, "the freeze hit no send");
    assert_eq!(sent(&graphs[0]).len(), of_the_first.len(), "the late node sent what another node owns");
    let ids: HashSet<_> = of_the_first.iter().chain(&of_the_heir).collect();
    assert_eq!(ids.len(), of_the_first.len() + of_the_heir.len(), "a card was sent twice");
    assert_eq!(place.number("SELECT count(*) FROM messages WHERE status = 2") + unknown, MESSAGES);
    assert_eq!(place.non_owner_writes("wrote"), 0, "claims and settlements of a channel that was another's");
    let owned = "SELECT count(*) FROM channels c JOIN nodes n ON n.id = lease_node";
    assert_eq!(place.number(&format!("{owned} where c.id = 'vendas' and n.name = 'second'")), 1);
}

#[test]
fn a_send_that_hangs_keeps_no_other_channel_from_a_node_that_stops() {
    const HANGS: &str = "106540352242900";
    const GRACE: Duration = Duration::from_secs(6);
    const AT_ONCE: Duration = Duration::from_secs(2);
    let (place, graph) = (Place::new(), FakeGraph::start());
    let key = place.live_key();
    graph.behave(|attempt| match &*attempt.number_id {
        HANGS => Behaviour::accept().after(Duration::from_hours(1)),
        _ => Behaviour::accept(),
    });
    let numbers: Vec<_> = (1..10).map(|number| format!("1065403522429{number:02}")).collect();
    numbers.iter().map(String::as_str).chain([HANGS]).for_each(|number| graph.add_number(Number::example(number)));
    let first = place.cloud_node("first", &graph, &["--shutdown-grace", "6s"]);
    numbers.iter().for_each(|number| link(&first, &key, &format!("c{number}"), number));
    link(&first, &key, "presa", HANGS);
    place.wait_until_balanced(1);
    accept(&first, &key, "presa", 0);
    wait_for("the send that hangs", || graph.attempts().len() == 1);
    let second = place.cloud_node("second", &graph, &[]);
    place.wait_until_balanced(2);

    let id = place.id_of("first");
    // A node that ended has no row, and its channels are released.
    let held = format!("SELECT count(*) FROM channels JOIN nodes n ON n.id = lease_node WHERE n.id = {id}");
    assert!(place.number(&held) > 1);
    let asked = Instant::now();
    first.terminate();
    wait_for("its other channels to be free", || place.number(&format!("{held} and channels.id <> 'presa'")) == 0);
    let free = asked.elapsed();
    // The other node sends for them, although the first one still runs.
    numbers.iter().for_each(|number| accept(&second, &key, &format!("c{number}"), 1));
    wait_for("the other node to send for them", || graph.attempts().len() == 10);
    let sent = asked.elapsed();
    assert_eq!(place.number(&held), 1, "the send in flight has its grace");
    let status = first.wait();
    let ended = asked.elapsed();
    println!("free after {free:?}, sent for after {sent:?}, ended after {ended:?}");
    // Before the end of its lease, which is another 10 seconds away.
    assert_eq!(place.number(&format!("SELECT count(*) FROM nodes WHERE id = {id}")), 0, "it ended and did not leave");
    assert_eq!(status.code(), Some(0));
    assert!(free < AT_ONCE, "{free:?}");
    assert!(sent < AT_ONCE, "{sent:?}");
    assert!((GRACE..GRACE + AT_ONCE).contains(&ended), "{ended:?}");
    // The new owner continues behind the lost message, which no node sends again.
    accept(&second, &key, "presa", 1);
    wait_for("the new owner to send", || graph.attempts().len() == 11);
    assert_eq!(place.number("SELECT count(*) FROM messages WHERE status = 4"), 1);
}

#[test]
fn a_link_that_one_node_cannot_decrypt_pauses_nothing_and_its_former_link_is_not_used() {
    const ANOTHER: &str = "106540352242933";
    let (place, graph) = (Place::new(), FakeGraph::start());
    let key = place.live_key();
    [NUMBER, ANOTHER].into_iter().for_each(|number| graph.add_number(Number::example(number)));
    let first = place.cloud_node("first", &graph, &[]);
    link(&first, &key, "vendas", NUMBER);
    place.wait_until_balanced(1);
    // The second node has a new key, and not the key of the first node.
    let second = place.node_with_keys("second", &graph, &format!("{ANOTHER_KEY},{SECRET_KEY}"), &[]);
    place.id_of("second");
    let id = place.id_of("first");
    let of_the_first = format!("SELECT count(*) FROM channels WHERE id = 'vendas' AND lease_node = {id}");
    assert_eq!(place.number(&of_the_first), 1, "a channel that moved without need");
    second.post("/v1/channels/vendas/connect", &key, &credentials(ANOTHER)).expect(200);
    wait_for("the first node to report its key", || first.log().contains("every node needs the same secret key"));
    accept(&second, &key, "vendas", 1);
    wait_for("the first node to wait", || {
        place.number("SELECT count(*) FROM channels WHERE id = 'vendas' AND next_send_at > 0") == 1
    });
    assert_eq!(graph.attempts().len(), 0, "the former number is not the channel's any more");
    assert_eq!(place.number("SELECT count(*) FROM channels WHERE id = 'vendas' AND state = 'CONNECTED'"), 1);
    first.terminate();
    assert_eq!(first.wait().code(), Some(0));
    wait_for("the other node to send", || graph.attempts().len() == 1);
    assert_eq!(graph.attempts()[0].number_id, ANOTHER);
}
