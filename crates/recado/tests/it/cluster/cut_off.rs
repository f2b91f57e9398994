//! A node loses the database but keeps the network, in its own network namespace.

mod namespace;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fake_graph::{Behaviour, FakeGraph, Number};
use serde_json::json;
use test_postgres::{Options, Server as Postgres};

use self::namespace::{Namespace, Running};
use super::LOSS;
use crate::cloud_api::{NUMBER, command, credentials};
use crate::harness::{Home, Server, wait_for};
use crate::v1::create_key;

const MESSAGES: usize = 2_000;
/// The duration of a send, so that some sends are in flight at the cut.
const SLOW: Duration = Duration::from_millis(200);
/// The time after which a node without the database has stopped: its lease without the margin, and the sends in flight.
const STOPPED: Duration = Duration::from_millis(8_500);

/// The sent ids, with their times.
type Sent = Arc<Mutex<Vec<(String, Instant)>>>;

/// A Graph API in the namespace, with the ids that it received and their times.
struct Inside {
    _running: Running,
    url: String,
    sent: Sent,
}

impl Inside {
    fn start(space: &Namespace) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["--exact", "cluster::cut_off::a_graph_api", "--ignored", "--nocapture"]);
        let mut command = space.command(&command);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let url = lines.find_map(|line| line.strip_prefix("url ").map(ToOwned::to_owned)).expect("its address");
        let sent = Sent::default();
        let received = sent.clone();
        std::thread::spawn(move || {
            for id in lines.filter_map(|line| line.strip_prefix("sent ").map(ToOwned::to_owned)) {
                received.lock().expect("not poisoned").push((id, Instant::now()));
            }
        });
        Self { _running: Running(child), url, sent }
    }

    fn sent(&self) -> Vec<(String, Instant)> {
        self.sent.lock().expect("not poisoned").clone()
    }
}

fn graph(mut on_send: impl FnMut(&str) + Send + 'static) -> FakeGraph {
    let graph = FakeGraph::start();
    graph.add_number(Number::example(NUMBER));
    graph.behave(move |attempt| {
        on_send(attempt.opaque_id.as_deref().expect("our id"));
        Behaviour::accept().after(SLOW)
    });
    graph
}

#[test]
#[ignore = "a part of the test below, run by it in a namespace of its own"]
fn a_graph_api() {
    let graph = graph(|id| println!("sent {id}"));
    println!("url {}", graph.url());
    // Until the test has ended.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

#[test]
fn a_node_cut_off_from_the_database_stops_before_its_lease_ends() {
    namespace::run_in_one("cluster::cut_off::in_networks_of_its_own");
}

#[test]
#[ignore = "the test above, run by it in a network of its own"]
fn in_networks_of_its_own() {
    let space = Namespace::new();
    let postgres = Postgres::start(&Options { addresses: vec![Namespace::HERE.to_owned()], ..Options::default() });
    test_postgres::run(&postgres.url("postgres"), "create database recado");
    let home = Home::on_postgres(&postgres.url("recado"));
    let inside = Inside::start(&space);
    let sent = Sent::default();
    let received = sent.clone();
    let outside = graph(move |id| received.lock().expect("not poisoned").push((id.to_owned(), Instant::now())));
    let number = |sql: &str| test_postgres::number(&postgres.url("recado"), sql);

    let serve = |name: &str, roles: &str| {
        let node = home.node(name);
        let mut command = command(&node, &outside);
        command.env("RECADO_DATABASE_URL", postgres.url("recado"));
        command.args(["serve", "--data-dir", node.dir(), "--listen", "127.0.0.1:0", "--roles", roles]);
        (command, node)
    };
    let start = |(command, node): (Command, Home)| Server::start(command, &node);
    let key = create_key(&home, "live", "messages.send,messages.read,channels.read,channels.write", "unlimited");
    let calls = start(serve("calls", "api"));
    let body = json!({"name": "vendas", "type": "WHATSAPP_WABA", "id": "vendas"});
    calls.post("/v1/channels", &key, &body).expect(201);
    calls.post("/v1/channels/vendas/connect", &key, &credentials(NUMBER)).expect(200);

    let (mut command, node) = serve("cut", "dispatch");
    let there = format!("postgres://recado@{}:{}/recado?sslmode=disable", Namespace::HERE, postgres.port());
    command.env("RECADO_DATABASE_URL", there).env("RECADO_GRAPH_URL", &inside.url);
    let log = std::fs::File::create(node.dir.with_extension("log")).expect("a file");
    let mut command = space.command(&command);
    let _cut = Running(command.stdout(Stdio::null()).stderr(log).spawn().expect("it starts"));
    wait_for("the node in the other network to hold the channel", || {
        number("SELECT count(*) FROM channels WHERE lease_node IS NOT NULL AND id = 'vendas'") == 1
    });
    let _new_owner = start(serve("new-owner", "dispatch"));

    for message in 0..MESSAGES {
        let body = json!({"to": format!("55119{message:08}"), "name": "Maria", "phone": "5511988887777"});
        calls.post("/v1/channels/vendas/messages/contact", &key, &body).expect(202);
    }
    wait_for("the node in the other network to send", || inside.sent().len() > 50);
    space.cut();
    let cut_at = Instant::now();
    wait_for("nothing to wait any more", || number("SELECT count(*) FROM messages WHERE status <= 1") == 0);
    check(&inside.sent(), &sent.lock().expect("not poisoned"), cut_at);
    println!("{} of them UNKNOWN", number("SELECT count(*) FROM messages WHERE status = 4"));
    assert_eq!(number("SELECT count(*) FROM messages WHERE status NOT IN (2, 4)"), 0);
}

/// Compares the ids that the node sent with the ids that the new owner sent.
fn check(before: &[(String, Instant)], after: &[(String, Instant)], cut_at: Instant) {
    let last = before.iter().map(|(_, at)| *at).max().expect("some");
    let first = after.iter().map(|(_, at)| *at).min().expect("some");
    println!(
        "cut off: {} sent before, the last {:?} after the cut; the new owner's first {:?} after it, {} in all",
        before.len(),
        last.saturating_duration_since(cut_at),
        first - cut_at,
        after.len(),
    );
    assert!(last.saturating_duration_since(cut_at) < STOPPED && last < first);
    assert!(first - cut_at < LOSS, "{:?}", first - cut_at);
    // The messages in flight may have arrived: no node sends them again.
    let ids: HashSet<_> = before.iter().chain(after).map(|(id, _)| id).collect();
    assert_eq!(ids.len(), before.len() + after.len(), "a card was sent twice");
}
