//! `recado messages` and `recado sandbox`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::{assert_fails, run_in};
use crate::harness::{Home, recado, wait_for};
use crate::v1::{Stage, card, contact_path, text};

const CHANNEL: [&str; 2] = ["--channel", "sandbox"];

fn ids(rows: &Value) -> Vec<&str> {
    rows.as_array().expect("a list").iter().map(|row| text(row, "id")).collect()
}

#[test]
fn messages_are_listed_shown_and_cancelled() {
    let stage = Stage::set();
    stage.act("sandbox", "pause");
    // More than the API gives on one page.
    for number in 0..103 {
        stage.accept("sandbox", &[], &card(if number == 7 { "5511900000777" } else { "5511999998888" }, "x"));
    }
    let cli = |args: &[&str]| stage.home.cli(&[&["messages"], args, &CHANNEL].concat());
    let all = cli(&["list", "--limit", "1000"]);
    assert_eq!(ids(&all).len(), 103);
    assert_eq!(ids(&cli(&["list", "--limit", "101"])), ids(&all)[..101]);
    assert_eq!(ids(&cli(&["list"])).len(), 20);
    let one = cli(&["list", "--to", "+55 11 90000-0777"]);
    assert_eq!((ids(&one).len(), &one[0]["to"]), (1, &json!("5511900000777")));
    let id = text(&one[0], "id").to_owned();
    assert_eq!(cli(&["show", &id]), one[0]);
    assert_eq!(cli(&["cancel", &id])["status"], "CANCELLED");
    assert_eq!(ids(&cli(&["list", "--status", "cancelled"])), [&*id]);

    let table = run_in(stage.home.dir(), &["messages", "list", "--channel", "sandbox", "--status", "CANCELLED"]);
    let table = String::from_utf8(table.stdout).expect("UTF-8");
    assert!(table.contains(&id) && table.contains("5511900000777") && table.lines().count() == 2, "{table}");
    let fails = |args: &[&str], words: &[&str]| assert_fails(&run_in(stage.home.dir(), args), 1, words);
    fails(&["messages", "cancel", &id, "--channel", "sandbox"], &["can no longer be cancelled"]);
    fails(&["messages", "show", "../x?", "--channel", "sandbox"], &["There is no such message"]);
    fails(&["messages", "list", "--channel", "no/such"], &["There is no such channel"]);
    fails(&["messages", "list", "--channel", "sandbox", "--to", "x"], &["to: The recipient's number"]);
    let wrong = run_in(stage.home.dir(), &["messages", "list", "--channel", "sandbox", "--status", "LOST"]);
    assert_fails(&wrong, 2, &["QUEUED"]);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let stage = Stage::set();
    for _ in 0..30 {
        stage.accept("sandbox", &[], &card("5511999998888", &"long ".repeat(30)));
    }
    let list = format!("messages list --channel sandbox --limit 1000 --json --data-dir {}", stage.home.dir());
    let script = format!("set -o pipefail; {} {list} | true; {0} {list} | head -c 1", env!("CARGO_BIN_EXE_recado"));
    let output = Command::new("bash").args(["-c", &script]).output().expect("bash runs");
    assert_eq!((output.status.code(), &*String::from_utf8_lossy(&output.stderr)), (Some(0), ""), "{output:?}");
}

/// A command that continues, and its output lines.
fn follow(home: &Home, args: &[&str]) -> (Child, std::io::Lines<BufReader<std::process::ChildStdout>>) {
    let mut command = recado();
    command.args(args).args(["--data-dir", home.dir(), "--json"]).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    (child, lines)
}

#[test]
fn a_message_is_watched_until_its_final_state() {
    let stage = Stage::set();
    for (to, ends, code) in [("5511999998888", &["DELIVERED", "READ"][..], 0), ("5511900000001", &["FAILED"], 1)] {
        let location = stage.accept("sandbox", &[], &card(to, "x"));
        let id = location.rsplit('/').next().expect("an id");
        let (mut child, lines) = follow(&stage.home, &["messages", "watch", id, "--channel", "sandbox"]);
        let changes: Vec<Value> =
            lines.map(|line| serde_json::from_str(&line.expect("a line")).expect("JSON")).collect();
        assert_eq!(child.wait().expect("it ends").code(), Some(code));
        let states: Vec<_> = changes.iter().map(|change| text(change, "status")).collect();
        assert!(states[0] == "QUEUED" && ends.contains(states.last().expect("a state")), "{states:?}");
        assert!(changes.iter().all(|change| change["id"] == id && change["at"].is_string()), "{changes:?}");
        assert_eq!(changes.last().expect("a change")["error"].is_null(), code == 0);
    }
}

/// New messages and changes appear, also across a restart of the server. Ctrl-C ends it with 130.
#[test]
fn a_channel_is_watched_until_ctrl_c() {
    let stage = Stage::set();
    stage.until(&stage.accept("sandbox", &[], &card("5511999998888", "before")), "READ");
    let (mut child, mut lines) = follow(&stage.home, &["messages", "watch", "--channel", "sandbox"]);
    let mut next = |to: &str| -> Value {
        let line = lines.next().unwrap_or_else(|| panic!("no line for {to}")).expect("a line");
        serde_json::from_str(&line).expect("JSON")
    };
    // Long enough for a poll: messages from before are not printed.
    std::thread::sleep(std::time::Duration::from_millis(600));
    let first = stage.accept("sandbox", &[], &card("5511999998888", "after"));
    for state in ["QUEUED", "SENDING", "SENT", "DELIVERED", "READ"] {
        let change = next(state);
        assert_eq!(change["status"], state);
        assert!(first.ends_with(text(&change, "id")), "{change}");
    }
    let stage = stage.crash(&[]);
    stage.accept("sandbox", &[], &card("5511999998888", "later"));
    assert_eq!(next("after a restart")["status"], "QUEUED");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
}

/// Without a server every query works, but nothing is sent.
#[test]
fn messages_work_without_a_server() {
    let stage = Stage::set();
    stage.act("sandbox", "pause");
    stage
        .server
        .post(
            &contact_path("sandbox"),
            &stage.key,
            &json!({"to": "5511999998888", "name": "x", "phone": "5511988887777"}),
        )
        .expect(202);
    let Stage { server, home, .. } = stage;
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    let rows = home.cli(&["messages", "list", "--channel", "sandbox"]);
    let id = ids(&rows)[0].to_owned();
    let watched = run_in(home.dir(), &["messages", "watch", &id, "--channel", "sandbox"]);
    assert_eq!(watched.status.code(), Some(4), "{watched:?}");
    assert!(String::from_utf8_lossy(&watched.stderr).contains("no server runs"), "{watched:?}");
    assert_eq!(home.cli(&["messages", "cancel", &id, "--channel", "sandbox"])["status"], "CANCELLED");
    assert_eq!(home.cli(&["sandbox", "messages"]), json!([]));
}

#[test]
fn a_table_shows_what_each_kind_of_message_says() {
    let stage = Stage::set();
    let send = |kind: &str, body: &Value| {
        stage.server.post(&format!("/v1/channels/sandbox/messages/{kind}"), &stage.key, body).expect(202)
    };
    let to = "5511999998888";
    let text = "Seu pedido saiu para a entrega e chega hoje.\nAte logo";
    let last = [
        send("contact", &json!({"to": to, "name": "Maria", "phone": "5511988887777"})),
        send("text", &json!({"to": to, "content": text})),
        send("location", &json!({"to": to, "latitude": -23.5, "longitude": -46.6})),
        send("location", &json!({"to": to, "latitude": 0, "longitude": 0, "name": "Mercado"})),
    ];
    for answer in &last {
        stage.until(&crate::v1::location(answer), "READ");
    }
    for list in [&["messages", "list", "--channel", "sandbox"][..], &["sandbox", "messages"]] {
        let table = run_in(stage.home.dir(), list);
        let table = String::from_utf8(table.stdout).expect("UTF-8");
        for row in [
            "contact   Maria 5511988887777",
            "text      Seu pedido saiu para a entrega e chega …",
            "location  -23.5, -46.6",
            "location  Mercado",
        ] {
            assert!(table.contains(row), "{row}: {table}");
        }
    }
}

#[test]
fn the_sandbox_phone_is_shown_and_emptied() {
    let stage = Stage::set();
    for to in ["5511999998888", "5511999997777"] {
        stage.until(&stage.accept("sandbox", &[], &card(to, to)), "READ");
    }
    let cli = |args: &[&str]| stage.home.cli(&[&["sandbox"], args].concat());
    assert_eq!(cli(&["messages"]).as_array().map(Vec::len), Some(2));
    assert_eq!(cli(&["messages", "--limit", "1"])[0]["to"], "5511999997777");
    assert_eq!(cli(&["messages", "--to", "5511999998888"])[0]["contact"]["name"], "5511999998888");
    assert_eq!(cli(&["clear"])["success"], true);
    assert_eq!(cli(&["messages"]), json!([]));
    let live = run_in(stage.home.dir(), &["sandbox", "messages", "--environment", "live"]);
    assert_fails(&live, 1, &["lacks the scope"]);
    // With two institutions, one must be named.
    stage.home.cli(&["institutions", "create", "--name", "Second"]);
    assert_fails(&run_in(stage.home.dir(), &["sandbox", "messages"]), 1, &["--institution"]);
    wait_for("the first one's phone", || cli(&["messages", "--institution", &stage.home.institution]) == json!([]));
}
