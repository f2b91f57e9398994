//! A node that is cut off from the database, and not from the network, in a network namespace of its own.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fake_graph::{Behaviour, FakeGraph, Number};
use serde_json::json;
use test_postgres::{Options, Server as Postgres};

use super::LOSS;
use crate::cloud_api::{NUMBER, command, credentials};
use crate::harness::{Home, Server, wait_for};
use crate::v1::create_key;

const MESSAGES: usize = 2_000;
/// How long the network takes for a message, so that the cut finds some on their way.
const SLOW: Duration = Duration::from_millis(200);
/// By when a node that does not hear of the database has stopped: its lease without the margin, and what was in hand.
const STOPPED: Duration = Duration::from_millis(8_500);

/// A namespace with a way to this one, deleted with it.
struct Namespace {
    name: String,
    /// This side's end of the way.
    end: String,
    here: String,
}

fn ip(args: &str) {
    let output = Command::new("ip").args(args.split(' ')).output().expect("iproute2 is there");
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Namespace {
    fn new() -> Self {
        let number = std::process::id();
        let (name, end) = (format!("recado-{number}"), format!("rc{number}"));
        let network = format!("10.{}.{}", 200 + number % 50, number / 50 % 250);
        let space = Self { name, end, here: format!("{network}.1") };
        let (name, end) = (&space.name, &space.end);
        ip(&format!("netns add {name}"));
        ip(&format!("link add {end} type veth peer name {end}b netns {name}"));
        ip(&format!("address add {network}.1/30 dev {end}"));
        ip(&format!("link set {end} up"));
        for command in
            ["link set lo up", &format!("address add {network}.2/30 dev {end}b"), &format!("link set {end}b up")]
        {
            ip(&format!("-n {name} {command}"));
        }
        space
    }

    /// A program in the namespace.
    fn run(&self, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.name]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    /// From now on nothing comes through, and nobody is told.
    fn cut(&self) {
        ip(&format!("link set {} down", self.end));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The way goes with it.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

/// A Graph API in the namespace, with what it was sent and when.
struct Inside {
    child: Child,
    url: String,
    sent: Arc<Mutex<Vec<(String, Instant)>>>,
}

impl Inside {
    fn start(space: &Namespace) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["--exact", "cluster::cut_off::a_graph_api", "--ignored", "--nocapture"]);
        let mut command = space.run(&command);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let url = lines.find_map(|line| line.strip_prefix("url ").map(ToOwned::to_owned)).expect("its address");
        let sent = Arc::new(Mutex::new(Vec::new()));
        let heard = sent.clone();
        std::thread::spawn(move || {
            for id in lines.filter_map(|line| line.strip_prefix("sent ").map(ToOwned::to_owned)) {
                heard.lock().expect("not poisoned").push((id, Instant::now()));
            }
        });
        Self { child, url, sent }
    }

    fn sent(&self) -> Vec<(String, Instant)> {
        self.sent.lock().expect("not poisoned").clone()
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn graph(mut told: impl FnMut(&str) + Send + 'static) -> FakeGraph {
    let graph = FakeGraph::start();
    graph.add_number(Number::example(NUMBER));
    graph.behave(move |attempt| {
        told(attempt.opaque_id.as_deref().expect("our id"));
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
    if !rustix::process::geteuid().is_root() {
        println!("not run: network namespaces need root");
        return;
    }
    let space = Namespace::new();
    let postgres = Postgres::start(&Options { addresses: vec![space.here.clone()], ..Options::default() });
    test_postgres::run(&postgres.url("postgres"), "create database recado");
    let home = Home::on_postgres(&postgres.url("recado"));
    let inside = Inside::start(&space);
    let sent = Arc::new(Mutex::new(Vec::new()));
    let heard = sent.clone();
    let outside = graph(move |id| heard.lock().expect("not poisoned").push((id.to_owned(), Instant::now())));

    let serve = |name: &str, roles: &str, graph: &str| {
        let node = home.node(name);
        let mut command = command(&node, &outside);
        command.env("RECADO_DATABASE_URL", postgres.url("recado")).env("RECADO_GRAPH_URL", graph);
        command.args(["serve", "--data-dir", node.dir(), "--listen", "127.0.0.1:0", "--roles", roles]);
        (command, node)
    };
    let key = create_key(&home, "live", "messages.send,messages.read,channels.read,channels.write", "unlimited");
    let (command, node) = serve("calls", "api", &outside.url());
    let calls = Server::start(command, &node);
    let body = json!({"name": "vendas", "type": "WHATSAPP_WABA", "id": "vendas"});
    calls.post("/v1/channels", &key, &body).expect(201);
    calls.post("/v1/channels/vendas/connect", &key, &credentials(NUMBER)).expect(200);

    let (mut command, _node) = serve("cut", "dispatch", &inside.url);
    let there = format!("postgres://recado@{}:{}/recado?sslmode=disable", space.here, postgres.port());
    command.env("RECADO_DATABASE_URL", there);
    let log = tempfile::tempfile().expect("a file");
    let mut cut = space.run(&command).stdout(Stdio::null()).stderr(log).spawn().expect("it starts");
    let number = |sql: &str| test_postgres::number(&postgres.url("recado"), sql);
    wait_for("the node in the namespace to hold the channel", || {
        number("select count(*) from channels where lease_node is not null and id = 'vendas'") == 1
    });
    let (command, node) = serve("heir", "dispatch", &outside.url());
    let _heir = Server::start(command, &node);

    for message in 0..MESSAGES {
        let body = json!({"to": format!("55119{message:08}"), "name": "Maria", "phone": "5511988887777"});
        calls.post("/v1/channels/vendas/messages/contact", &key, &body).expect(202);
    }
    wait_for("the node in the namespace to send", || inside.sent().len() > 50);
    space.cut();
    let cut_at = Instant::now();
    wait_for("nothing to wait any more", || number("select count(*) from messages where status <= 1") == 0);

    let (before, after) = (inside.sent(), sent.lock().expect("not poisoned").clone());
    let last = before.iter().map(|(_, at)| *at).max().expect("some");
    let first = after.iter().map(|(_, at)| *at).min().expect("some");
    println!(
        "cut off: {} sent before, the last {:?} after the cut; the heir's first {:?} after it, {} in all",
        before.len(),
        last.saturating_duration_since(cut_at),
        first - cut_at,
        after.len(),
    );
    assert!(last.saturating_duration_since(cut_at) < STOPPED && last < first);
    assert!(first - cut_at < LOSS, "{:?}", first - cut_at);
    // What it had in hand may have arrived: nobody sends it again.
    let ids: HashSet<_> = before.iter().chain(&after).map(|(id, _)| id).collect();
    assert_eq!(ids.len(), before.len() + after.len(), "a card was sent twice");
    let unknown = number("select count(*) from messages where status = 4");
    println!("{unknown} of them UNKNOWN");
    assert_eq!(number("select count(*) from messages where status not in (2, 4)"), 0);
    cut.kill().expect("it is our child");
    cut.wait().expect("it is our child");
}
