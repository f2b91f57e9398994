//! The receivers of webhooks under `docs/examples`: each verifies real deliveries, and refuses forged and old ones.

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use recado_domain::clock::Clock;
use recado_gateway::signature::{SigningKey, sign};
use recado_store::clock::SystemClock;
use serde_json::json;

use super::markdown::root;
use crate::harness::{PATIENCE, agent, call, wait_for};
use crate::seed::tool;
use crate::webhooks::Stage;

const SECRETS: [&str; 2] = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "a secret of another form"];
const BODY: &str = r#"{"id":"evt_1","event":"webhook.test","data":{"message":"Ação"}}"#;

fn example(name: &str) -> PathBuf {
    root().join("docs/examples/webhooks").join(name)
}

#[test]
fn the_node_receiver_verifies() {
    receives(|_| {
        let mut node = tool("node");
        node.arg(example("receiver.mjs"));
        node
    });
}

#[test]
fn the_python_receiver_verifies() {
    receives(|_| {
        let mut python = tool("python3");
        python.arg("-B").arg(example("receiver.py"));
        python
    });
}

#[test]
fn the_php_receiver_verifies() {
    receives(|port| {
        let mut php = tool("php");
        php.args(["-S", &format!("127.0.0.1:{port}")]).arg(example("receiver.php"));
        php
    });
}

#[test]
fn the_go_receiver_verifies() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let binary = folder.path().join("receiver");
    // Only the standard library is used, so nothing is fetched.
    let mut go = tool("go");
    go.args(["build", "-o"]).arg(&binary).arg(example("receiver.go")).env("GOTOOLCHAIN", "local").env("GOPROXY", "off");
    let built = go.current_dir(folder.path()).output().expect("go starts; if it is missing: run ./dev test");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    receives(|_| tool(&binary));
}

/// A running receiver.
struct Program {
    child: Child,
    url: String,
    lines: mpsc::Receiver<String>,
}

impl Program {
    fn start(command: impl Fn(u16) -> Command, secret: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        let mut command = command(port);
        command.env("PORT", port.to_string()).env("WEBHOOK_SECRET", secret);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}; if it is missing: run ./dev test"));
        let (sender, lines) = mpsc::channel();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
            });
        }
        wait_for("the receiver", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { child, url: format!("http://127.0.0.1:{port}/"), lines }
    }

    /// Waits for a line with this text.
    #[track_caller]
    fn prints(&self, text: &str) {
        let mut seen = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            if line.contains(text) {
                return;
            }
            seen.push(line);
        }
        panic!("no {text:?} in {seen:?}");
    }

    /// The status of the answer to a request with these headers.
    fn post(&self, headers: &[(&str, &str)], body: &str) -> u16 {
        call(&agent(), &self.url, "POST", None, headers, Some(body.as_bytes())).expect("an answer").status
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn receives(command: impl Fn(u16) -> Command) {
    for secret in SECRETS {
        let program = Program::start(&command, secret);
        delivers(&program, secret);
        refuses(&program, secret);
    }
}

/// Deliveries of a webhook are verified.
fn delivers(program: &Program, secret: &str) {
    let stage = Stage::set();
    let names = ["message.sent", "message.delivered", "message.read"];
    stage.hook(&program.url, &names, &json!({ "secret": secret }));
    stage.send("5511999998888");
    // The other two may be missing: a state that a receipt overtakes has no event.
    program.prints("verified message.read evt_");
}

/// Forged and old requests are refused.
fn refuses(program: &Program, secret: &str) {
    let now = SystemClock.now() / 1_000;
    let signed = |secret: &str, at: i64| sign(&[SigningKey::of_secret(secret)], "evt_1", at, BODY.as_bytes());
    let post = |id: &str, at: &str, signature: &str, body: &str| {
        program.post(&[("webhook-id", id), ("webhook-timestamp", at), ("webhook-signature", signature)], body)
    };
    let (at, good, other) = (now.to_string(), signed(secret, now), signed("another secret", now));
    assert_eq!(post("evt_1", &at, &good, BODY), 204);
    program.prints("verified webhook.test evt_1");
    // While a secret is replaced, there is one signature for each.
    assert_eq!(post("evt_1", &at, &format!("{other} {good}"), BODY), 204);
    let (old, early) = (now - 600, now + 600);
    let later = (now + 1).to_string();
    let refused = [
        ("another body", "evt_1", &*at, &*good, BODY.replace("evt_1", "evt_2")),
        ("another id", "evt_2", &at, &good, BODY.to_owned()),
        ("another time", "evt_1", &later, &good, BODY.to_owned()),
        ("another secret", "evt_1", &at, &other, BODY.to_owned()),
        ("an old request", "evt_1", &old.to_string(), &signed(secret, old), BODY.to_owned()),
        ("a request of the future", "evt_1", &early.to_string(), &signed(secret, early), BODY.to_owned()),
        ("no time", "evt_1", "now", &good, BODY.to_owned()),
        ("another version", "evt_1", &at, &good.replace("v1,", "v2,"), BODY.to_owned()),
        ("half a signature", "evt_1", &at, &good[..20], BODY.to_owned()),
        ("no signature", "evt_1", &at, "v1,", BODY.to_owned()),
    ];
    for (what, id, at, signature, body) in refused {
        assert_eq!(post(id, at, signature, &body), 401, "{what}");
        program.prints("refused");
    }
    assert_eq!(program.post(&[], BODY), 401, "no headers");
}
