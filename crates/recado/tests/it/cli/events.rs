//! `recado events` and `recado listen`.

use std::io::{BufRead, BufReader, Lines};
use std::net::TcpListener;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use recado_gateway::signature::{SigningKey, sign};
use serde_json::{Value, json};

use super::{assert_fails, run_in};
use crate::harness::{Ended, recado, wait_for};
use crate::receiver::{Received, Receiver};
use crate::v1::{Stage, card, create_key, text};

/// A command that runs until it is stopped.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    notes: Lines<BufReader<ChildStderr>>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let notes = BufReader::new(child.stderr.take().expect("piped")).lines();
        Self { child, lines, notes }
    }

    fn on(stage: &Stage, args: &[&str]) -> Self {
        let mut command = recado();
        command.args(args).args(["--data-dir", stage.home.dir()]);
        Self::start(command)
    }

    fn at(url: &str, key: &str, args: &[&str]) -> Self {
        let mut command = recado();
        command.args(args).args(["--url", url]).env("RECADO_API_KEY", key);
        Self::start(command)
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("a line").expect("UTF-8")
    }

    fn json(&mut self) -> Value {
        serde_json::from_str(&self.line()).expect("JSON")
    }

    /// The rest of the note that begins so.
    fn note(&mut self, begin: &str) -> String {
        let note = self.notes.find_map(|note| note.expect("UTF-8").strip_prefix(begin).map(str::to_owned));
        note.unwrap_or_else(|| panic!("no note {begin:?}"))
    }

    /// Ends the command by Ctrl-C. Returns the cursor that it prints.
    fn interrupt(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
        assert_eq!(self.child.wait().expect("it ends").code(), Some(130));
        self.note("recado: to continue here: --cursor ")
    }

    fn kill(&mut self) {
        self.child.kill().and_then(|()| self.child.wait().map(drop)).expect("it ends");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(stage: &Stage) -> String {
    let location = stage.accept("sandbox", &[], &card("5511999998888", "x"));
    location.rsplit('/').next().expect("an id").to_owned()
}

/// The cursor at the end of what happened until now. The first call begins to record events.
fn cursor(stage: &Stage) -> String {
    text(&stage.get("/v1/events").expect(200).json()["pagination"], "nextCursor").to_owned()
}

const READ: [&str; 3] = ["message.sent", "message.delivered", "message.read"];

#[track_caller]
fn assert_is_read(running: &mut Running, id: &str) {
    for name in READ {
        let event = running.json();
        assert_eq!((&event["event"], &event["data"]["messageId"]), (&json!(name), &json!(id)));
    }
}

/// Each event is printed once, also across `kill -9` of the server and a restart of the command.
#[test]
fn events_are_followed_across_a_crash_of_the_server() {
    let stage = Stage::set();
    let begin = cursor(&stage);
    let mut running = Running::on(&stage, &["events", "follow", "--json", "--events", "message.*", "--cursor", &begin]);
    assert_is_read(&mut running, &send(&stage));
    let stage = stage.crash(&[]);
    running.note("recado: the server gave no answer");
    assert_is_read(&mut running, &send(&stage));
    running.note("recado: the server answers again");
    // It prints the cursor behind the events that it printed.
    let cursor = running.interrupt();
    let unseen = send(&stage);
    let mut running =
        Running::on(&stage, &["events", "follow", "--json", "--events", "message.*", "--cursor", &cursor]);
    assert_is_read(&mut running, &unseen);
}

#[test]
fn events_are_followed_by_http_with_a_key_and_filters() {
    let stage = Stage::set();
    let begin = cursor(&stage);
    let follow = ["events", "follow", "--events", "message.read", "--channel", "sandbox", "--cursor", &begin];
    let mut running = Running::at(&stage.server.url(""), &stage.key, &follow);
    let id = send(&stage);
    let line = running.line();
    assert!(line.ends_with(&format!("message.read            sandbox  {id}  5511999998888")), "{line}");
    let refused = |key: &str, args: &[&str], words: &[&str]| {
        let mut command = recado();
        command.args(["events", "follow"]).args(args).args(["--url", &stage.server.url("")]);
        assert_fails(&command.env("RECADO_API_KEY", key).ended(), 1, words);
    };
    refused(&create_key(&stage.home, "test", "messages.read", "60"), &[], &["lacks the scope"]);
    refused(&stage.key, &["--events", "message.none"], &["events: Unknown event: message.none."]);
    refused(&stage.key, &["--from", "never"], &["from: The field from must be now, oldest or a date"]);
    // A place in another store.
    let other = cursor(&Stage::set());
    refused(&stage.key, &["--cursor", &other], &["the cursor has expired", "--cursor "]);
    let mut command = recado();
    command.args(["events", "follow", "--cursor", &other, "--url", &stage.server.url("")]);
    let said = command.env("RECADO_API_KEY", &stage.key).ended().stderr;
    assert!(!String::from_utf8_lossy(&said).contains("to continue here"), "nothing continues at an expired cursor");
}

/// A page that was lost is asked for again from the same place, and the command says so.
#[test]
fn a_lost_connection_loses_no_position() {
    let stage = Stage::set();
    let page = |cursor: &str, id: &str| {
        format!(
            r#"{{"data":[{{"id":"{id}","event":"message.sent","n":1.0}}],"pagination":{{"nextCursor":"{cursor}"}}}}"#
        )
    };
    let (first, second) = (page("c1", "e1"), page("c2", "e2"));
    let limited = ("429 Too Many Requests\r\nRetry-After: 1", r#"{"message":"x"}"#);
    let server =
        Receiver::start(&[("", &first), ("502 Bad Gateway", "<html>"), limited, ("", &second), ("503 x", "{}")]);
    let follow = ["events", "follow", "--json", "--from", "oldest", "--patience", "1s"];
    let mut running = Running::at(&server.url, &stage.key, &follow);
    // The bytes are the server's.
    assert_eq!(running.line(), r#"{"id":"e1","event":"message.sent","n":1.0}"#);
    assert_eq!(running.json()["id"], "e2");
    assert_eq!(running.child.wait().expect("it ends").code(), Some(4));
    running.note("recado: to continue here: --cursor c2");
    let asked: Vec<_> = (0..5).map(|_| server.next().line).collect();
    let path = |place: &str, wait: u32| format!("GET /v1/events?limit=100&wait={wait}&{place}");
    let again = path("cursor=c1", 20);
    assert_eq!(asked, [path("from=oldest", 0), again.clone(), again.clone(), again, path("cursor=c2", 20)]);
}

#[test]
fn a_server_that_was_never_there_is_reported_at_once() {
    let stage = Stage::set();
    let mut command = recado();
    command.args(["events", "follow", "--url", "http://127.0.0.1:1"]).env("RECADO_API_KEY", &stage.key);
    assert_fails(&command.ended(), 4, &["no server answers"]);
    let Stage { server, home, .. } = stage;
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    assert_fails(&run_in(home.dir(), &["events", "follow"]), 4, &["no server runs"]);
}

#[test]
fn recorded_events_are_listed_and_shown_with_and_without_a_server() {
    let stage = Stage::set();
    cursor(&stage);
    let ids = [send(&stage), send(&stage)];
    let cli = |args: &[&str]| stage.home.cli(&[&["events"], args].concat());
    // Three of each message, and one of the conversation.
    wait_for("the events", || cli(&["list"]).as_array().expect("a list").len() == 7);
    let all = cli(&["list"]);
    assert_eq!(all, stage.get("/v1/events?from=oldest").json()["data"]);
    assert_eq!(cli(&["list", "--limit", "2"]).as_array().expect("a list")[..], all.as_array().expect("a list")[..2]);
    assert_eq!(cli(&["list", "--events", "message.read"]).as_array().expect("a list").len(), 2);
    assert_eq!(cli(&["list", "--events", "channel.*"]), json!([]));
    assert_eq!(cli(&["show", text(&all[3], "id")]), all[3]);
    let Stage { server, home, .. } = stage;
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(home.cli(&["events", "list"]), all);
    let printed = run_in(home.dir(), &["events", "list"]).stdout;
    let printed = String::from_utf8(printed).expect("UTF-8");
    assert!(printed.lines().count() == 7 && ids.iter().all(|id| printed.contains(id)), "{printed}");
    assert_fails(&run_in(home.dir(), &["events", "show", "x"]), 1, &["There is no such event"]);
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Checks the request of an event, and returns the event.
#[track_caller]
fn assert_signed(received: &Received, secret: &str, attempt: u8) -> Value {
    let (id, time) = (received.header("webhook-id"), received.header("webhook-timestamp"));
    let expected = sign(&[SigningKey::of_secret(secret)], id, time.parse().expect("seconds"), &received.body);
    assert_eq!(received.header("webhook-signature"), expected);
    let shown = ["content-type", "user-agent"].map(|name| received.header(name));
    assert_eq!(shown, ["application/json", "Recado-Webhooks/1"]);
    // As a webhook does: from the second attempt on.
    assert_eq!(received.has("webhook-attempt"), attempt > 1);
    assert!(attempt == 1 || received.header("webhook-attempt") == attempt.to_string(), "{received:?}");
    let event = received.json();
    assert_eq!((&*received.line, &event["id"]), ("POST /hook?a=b", &json!(id)));
    event
}

#[test]
fn events_are_forwarded_and_signed() {
    let stage = Stage::set();
    let begin = cursor(&stage);
    let receiver = Receiver::start(&[("204 No Content", "")]);
    let to = format!("{}/hook?a=b", receiver.url);
    let listen = ["listen", "--events", "message.*", "--forward-to", &to, "--cursor", &begin];
    let mut running = Running::at(&stage.server.url(""), &stage.key, &listen);
    running.note(&format!("recado: events are forwarded to {to}"));
    let secret = running.note("recado: secret: ");
    send(&stage);
    for name in READ {
        let arrived = receiver.next();
        let event = assert_signed(&arrived, &secret, 1);
        assert_eq!(event["event"], name);
        let id = text(&event, "id");
        // The same bytes as in every other place.
        let shown = stage.get(&format!("/v1/events/{id}")).expect(200);
        assert_eq!(format!("{{\"data\":{}}}", String::from_utf8_lossy(&arrived.body)), shown.text());
        let line = running.line();
        assert!(line.contains("  204  ") && line.ends_with(&format!(" ms  {name}  {id}")), "{line}");
    }
}

/// An event is posted until the receiver accepts it, and is given up after the last attempt. The next one is posted all the same.
#[test]
fn attempts_are_repeated_and_bounded() {
    let stage = Stage::set();
    let begin = cursor(&stage);
    let moved = ("302 Found\r\nLocation: /elsewhere", "");
    let receiver = Receiver::start(&[("500 x", ""), ("", ""), moved, ("400 x", ""), ("", "")]);
    let to = format!("{}/hook?a=b", receiver.url);
    let listen =
        ["listen", "--events", "message.*", "--forward-to", &to, "--attempts", "2", "--json", "--cursor", &begin];
    let mut command = recado();
    command.args(listen).args(["--data-dir", stage.home.dir()]).env("RECADO_LISTEN_SECRET", SECRET);
    let mut running = Running::start(command);
    running.note("recado: secret: the given one");
    send(&stage);
    let expected = [
        (READ[0], 1, json!(500), json!("HTTP_STATUS"), json!(1)),
        (READ[0], 2, json!(200), Value::Null, Value::Null),
        (READ[1], 1, json!(302), json!("REDIRECT"), json!(1)),
        (READ[1], 2, json!(400), json!("HTTP_STATUS"), Value::Null),
        (READ[2], 1, json!(200), Value::Null, Value::Null),
    ];
    let mut last = None;
    for (name, attempt, status, error, retry) in expected {
        let event = assert_signed(&receiver.next(), SECRET, attempt);
        assert_eq!(event["event"], name);
        // An attempt carries the same event.
        assert!(attempt == 1 || last.as_ref() == Some(&event), "{event}");
        let printed = running.json();
        let shown = ["event", "attempt", "statusCode", "error", "retryInSeconds", "eventId"].map(|key| &printed[key]);
        assert_eq!(shown, [&json!(name), &json!(attempt), &status, &error, &retry, &event["id"]]);
        last = Some(event);
    }
    running.interrupt();
    assert!(receiver.is_quiet());
}

/// With a file for its cursor, a killed command continues with what the receiver has not accepted.
#[test]
fn a_killed_listener_continues_by_its_file() {
    let stage = Stage::set();
    let begin = cursor(&stage);
    let file = stage.home.dir.join("cursor");
    std::fs::write(&file, format!("{begin}\n")).expect("a file");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let dead = format!("http://127.0.0.1:{port}/hook?a=b");
    let listen = |to: &str| {
        let file = file.to_str().expect("UTF-8");
        let listen = ["listen", "--events", "message.*", "--forward-to", to, "--cursor-file", file];
        Running::on(&stage, &[&listen[..], &["--secret", SECRET, "--json"]].concat())
    };
    let id = send(&stage);
    let mut running = listen(&dead);
    let printed = running.json();
    assert_eq!((&printed["statusCode"], &printed["error"]), (&Value::Null, &json!("CONNECT_FAILED")));
    running.kill();
    let receiver = Receiver::start(&[("", "")]);
    let mut running = listen(&format!("{}/hook?a=b", receiver.url));
    for name in READ {
        let event = assert_signed(&receiver.next(), SECRET, 1);
        assert_eq!((&event["event"], &event["data"]["messageId"]), (&json!(name), &json!(id)));
    }
    let moved = || std::fs::read_to_string(&file).expect("a file").trim() == cursor(&stage);
    wait_for("the cursor behind the last event", moved);
    running.kill();
}

#[test]
fn a_listener_refuses_what_it_cannot_use() {
    let stage = Stage::set();
    let listen = |args: &[&str]| run_in(stage.home.dir(), &[&["listen"], args].concat());
    assert_fails(&listen(&[]), 2, &["--forward-to"]);
    assert_fails(&listen(&["--forward-to", "localhost:3000"]), 2, &["http://localhost:3000"]);
    let to = ["--forward-to", "http://localhost:3000"];
    assert_fails(&listen(&[&to[..], &["--secret", "short"]].concat()), 2, &["16 to 256"]);
    assert_fails(
        &listen(&[&to[..], &["--cursor-file", "/no/such/cursor", "--cursor", "x"]].concat()),
        2,
        &["--cursor"],
    );
    assert_fails(&listen(&[&to[..], &["--cursor", "x"]].concat()), 1, &["cursor"]);
}
