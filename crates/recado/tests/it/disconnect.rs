//! Clients that do not wait for their answers. They disconnect right after the last byte, also while the disk stalls, or
//! they close only their own direction. The work of such a call runs to its end: every stored message is sent without
//! another call, and the state in memory agrees with the store.
//!
//! `RECADO_TEST_DISCONNECTS` sets how many calls there are (2,000), `RECADO_TEST_SEED` repeats their moments.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::{scope, sleep};
use std::time::Duration;

use serde_json::{Value, json};
use test_postgres::{Options, Server as Postgres};

use crate::harness::{Home, PATIENCE, Server, wait_for};
use crate::load::{ACCEPTED, Dice, card, channel_id, open_channel, phone, setting};
use crate::trace::Strace;

const CHANNELS: usize = 200;
const CALLS: u64 = 2_000;
const CLIENTS: usize = 16;
/// How long a client waits after the last byte, in milliseconds.
const WAIT: (u64, u64) = (0, 5);
/// How long the disk stalls.
const STALL: Duration = Duration::from_secs(4);

#[test]
fn calls_run_to_their_end_without_their_clients() {
    let home = Home::init();
    let output = home.dir.with_extension("trace");
    disconnect_from(&home, |server| {
        // The next sync of each thread.
        let fault = format!("inject=fdatasync,fsync:delay_enter={}:when=1", STALL.as_micros());
        let output = output.to_str().expect("UTF-8");
        let strace = Strace::attach(server, &["-e", "trace=fdatasync,fsync", "-e", &fault, "-o", output]);
        sleep(STALL);
        strace.detach();
    });
}

#[test]
fn calls_run_to_their_end_without_their_clients_on_postgres() {
    let postgres = Postgres::start(&Options::durable());
    test_postgres::run(&postgres.url("postgres"), "create database recado");
    let home = Home::on_postgres(&postgres.url("recado"));
    disconnect_from(&home, |_| {
        postgres.freeze();
        sleep(STALL);
        postgres.thaw();
    });
}

fn disconnect_from(home: &Home, stall: impl Fn(&Server) + Sync) {
    let calls = usize::try_from(setting("RECADO_TEST_DISCONNECTS").unwrap_or(CALLS)).expect("a small number");
    let seed = setting("RECADO_TEST_SEED").unwrap_or_else(|| RandomState::new().hash_one(calls));
    println!("RECADO_TEST_SEED={seed} repeats the moments of these {calls} calls");
    let (key, keys) = (home.unlimited_key(), manager(home));
    let server = home.serve();
    (0..CHANNELS).for_each(|channel| open_channel(&server, &key, &channel_id(channel)));
    let (next, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let send_until = &|end: usize, client: usize| {
        let mut dice = Dice(seed.wrapping_add((end * CLIENTS + client) as u64));
        loop {
            let number = next.fetch_add(1, SeqCst);
            if number >= end {
                return;
            }
            let body = card(number % CHANNELS, number);
            let path = format!("/v1/channels/{}/messages/contact", channel_id(number % CHANNELS));
            let mut stream = request(&server, "POST", &path, &key, Some(&body));
            if number.is_multiple_of(10) {
                stream.shutdown(Shutdown::Write).expect("the stream is open");
                // In a stall the store may say that it is overloaded or away.
                let (status, body) = answer(&mut stream);
                assert!(status == 202 && body == ACCEPTED || status == 503, "{status} {body}");
                answered.fetch_add(usize::from(status == 202), SeqCst);
            } else {
                leave(stream, dice.between(WAIT), number.is_multiple_of(2));
            }
        }
    };
    let send_all = |from: usize, end: usize| {
        next.store(from, SeqCst);
        scope(|scope| (0..CLIENTS).for_each(|client| drop(scope.spawn(move || send_until(end, client)))));
    };
    send_all(0, calls / 2);
    scope(|scope| {
        let stalled = scope.spawn(|| stall(&server));
        sleep(Duration::from_millis(300));
        send_all(calls / 2, calls);
        stalled.join().expect("the stall ends");
    });
    wait_for("the server to be ready", || server.get("/health/ready", None).status == 200);
    assert_ne!(answered.load(SeqCst), 0, "no half-closed call was accepted");
    let changed = change_and_disconnect(&server, &keys, seed);
    all_are_read(&server, &key);
    let shown = phone(&server, &key);
    let distinct: HashSet<_> = shown.iter().map(|card| &card.name).collect();
    println!("calls={calls} half_closed_202={} on_the_phone={}", answered.load(SeqCst), shown.len());
    assert_eq!(distinct.len(), shown.len(), "a card is on the phone more than once");
    assert!(shown.len() >= answered.load(SeqCst), "a 202 is not on the phone");
    // A new process reads from the store what this one has in memory.
    let before = state(&server, &keys, &changed);
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    let server = home.serve();
    assert_eq!(before, state(&server, &keys, &changed), "memory and store disagree");
}

/// A key that may change keys and channels.
fn manager(home: &Home) -> String {
    let scopes = "channels.read,channels.write,keys.read,keys.write";
    let args = ["keys", "create", "--name", "tests", "--environment", "test", "--scopes", scopes, "--rate-limit"];
    home.cli(&[&args[..], &["unlimited"]].concat())["key"].as_str().expect("a key").to_owned()
}

/// Keys and channels that were changed by clients which did not wait.
struct Changed {
    /// The secrets of keys by their names.
    keys: HashMap<String, String>,
    channels: Vec<String>,
}

fn change_and_disconnect(server: &Server, manager: &str, seed: u64) -> Changed {
    let mut dice = Dice(seed);
    let mut changed = Changed { keys: HashMap::new(), channels: Vec::new() };
    let mut number = 0;
    let mut change = |method: &str, path: &str, body: Option<&Value>| {
        let body = body.map(Value::to_string);
        let stream = request(server, method, path, manager, body.as_deref());
        number += 1;
        leave(stream, dice.between(WAIT), number % 2 == 0);
    };
    for number in 0..30 {
        let (name, id) = (format!("key {number}"), format!("x{number:03}"));
        let new = json!({"name": name, "environment": "test", "permissions": ["channels.read"]});
        let made = server.post("/v1/api-keys", manager, &new).expect(201).json()["data"].clone();
        let text = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("{name}: {made}")).to_owned();
        changed.keys.insert(name, text("key"));
        change("DELETE", &format!("/v1/api-keys/{}", text("id")), None);
        change(
            "POST",
            "/v1/api-keys",
            Some(&json!({"name": format!("unseen {number}"), "environment": "test", "permissions": ["channels.read"]})),
        );
        change("POST", "/v1/channels", Some(&json!({"name": id, "type": "SANDBOX", "id": id})));
        change("POST", &format!("/v1/channels/{id}/connect"), None);
        change("PUT", &format!("/v1/channels/{id}"), Some(&json!({"name": format!("{id} anew")})));
        if number % 2 == 0 {
            change("DELETE", &format!("/v1/channels/{id}"), None);
        }
        changed.channels.push(id);
    }
    changed
}

/// The server's view of keys and channels. The list of keys, and whether a key or a channel is known, come from memory.
fn state(server: &Server, manager: &str, changed: &Changed) -> Value {
    let list = |path: &str| {
        let rows = server.get(path, Some(manager)).expect(200).json()["data"].clone();
        let rows = rows.as_array().expect("a list").iter().map(|row| json!([row["id"], row["name"], row["state"]]));
        rows.collect::<Vec<_>>()
    };
    let keys: HashMap<_, _> =
        changed.keys.iter().map(|(name, key)| (name, server.get("/v1/channels?limit=1", Some(key)).status)).collect();
    let channels: HashMap<_, _> = changed
        .channels
        .iter()
        .map(|id| (id, server.get(&format!("/v1/channels/{id}"), Some(manager)).status))
        .collect();
    json!({"list": list("/v1/api-keys"), "keys": keys, "channels": channels, "all": list("/v1/channels?limit=100")})
}

/// Waits until no channel has open messages, with reads only.
fn all_are_read(server: &Server, key: &str) {
    let any = |channel: usize, status: &str| {
        let path = format!("/v1/channels/{}/messages?status={status}&limit=1", channel_id(channel));
        server.get(&path, Some(key)).expect(200).json()["data"].as_array().is_some_and(|rows| !rows.is_empty())
    };
    for channel in 0..CHANNELS {
        for status in ["QUEUED", "SENDING", "SENT", "DELIVERED"] {
            wait_for(&format!("no message of channel {channel} to be {status}"), || !any(channel, status));
        }
    }
}

/// Writes a whole request on a new connection.
pub fn request(server: &Server, method: &str, path: &str, key: &str, body: Option<&str>) -> TcpStream {
    let mut stream = TcpStream::connect(&server.address).expect("a connection");
    stream.set_nodelay(true).expect("a flag");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let more = body.map(|body| format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {key}\r\n{}\r\n",
        server.address,
        more.unwrap_or_default()
    );
    stream.write_all(format!("{head}{}", body.unwrap_or_default()).as_bytes()).expect("the request is read");
    stream
}

/// Ends a connection: closes it after a while, or resets it, which hyper reports as an error during the call.
pub fn leave(stream: TcpStream, wait: Duration, reset: bool) {
    sleep(wait);
    if reset {
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("an option");
    }
    drop(stream);
}

/// Reads an answer until the server closes the connection.
fn answer(stream: &mut TcpStream) -> (u16, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no status: {head}")), body.to_owned())
}

/// Every operation of the document, which follows from the list of routes: its handler finishes although its client has
/// gone.
#[test]
fn every_route_runs_to_its_end_without_its_client() {
    const EACH: usize = 6;
    let home = Home::init();
    let server = home.serve_with(&["--log", "debug", "--log-format", "json"]);
    let document = server.get("/openapi.json", None).expect(200).json();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let methods = methods.as_object().expect("operations").keys();
        operations.extend(
            methods
                .filter(|name| ["get", "post", "put", "delete"].contains(&name.as_str()))
                .map(|method| (method.to_uppercase(), path.clone())),
        );
    }
    assert!(operations.len() > 20, "{operations:?}");
    // Calls that change something are still running when their client goes.
    let output = home.dir.with_extension("trace");
    let (fault, output) = ("inject=fdatasync,fsync:delay_enter=100000", output.to_str().expect("UTF-8"));
    let strace = Strace::attach(&server, &["-e", "trace=fdatasync,fsync", "-e", fault, "-o", output]);
    for (method, path) in &operations {
        let path =
            path.replace("{channelId}", "sandbox").replace("{messageId}", "018f0000-0000-7000-8000-000000000000");
        let path = path.replace("{keyId}", "018f0000-0000-7000-8000-000000000000").replace("{phone}", "5511999998888");
        let body = (method != "GET").then_some(r#"{"name":"Maria"}"#);
        for call in 0..EACH {
            // Long enough for the server to read the request, which a reset would discard.
            let wait = Duration::from_millis(10);
            leave(request(&server, method, &path, &home.test_key, body), wait, call % 2 == 0);
        }
    }
    strace.detach();
    // A handler that is dropped writes no line. A call that was reset may never have been read.
    let ended = || {
        let log = server.log();
        let mut ended: HashMap<(String, String), usize> = HashMap::new();
        for line in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let fields = &line["fields"];
            if let (Some(method), Some(route)) = (fields["method"].as_str(), fields["route"].as_str()) {
                *ended.entry((method.to_owned(), route.to_owned())).or_default() += 1;
            }
        }
        ended
    };
    for operation in &operations {
        wait_for(&format!("the calls of {operation:?} to end"), || ended().get(operation) >= Some(&(EACH - 1)));
    }
}
