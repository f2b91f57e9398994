//! Runs the scripts of `clients/baileys` in Node against a network of this process: a second implementation of the protocol,
//! for tests of clients of that network.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::{FakeWhatsApp, control};

/// The environment variable with the folder of Baileys.
const INSTALLED: &str = "RECADO_TEST_BAILEYS";
/// The scripts and their texts. The texts are part of the binary, so it runs wherever the source was when it was compiled.
const SCRIPTS: [(&str, &str); 4] = [
    ("control.mjs", include_str!("../clients/baileys/control.mjs")),
    ("driver.mjs", include_str!("../clients/baileys/driver.mjs")),
    ("mem.mjs", include_str!("../clients/baileys/mem.mjs")),
    ("sender.mjs", include_str!("../clients/baileys/sender.mjs")),
];

/// A running script; it ends when this is dropped.
pub struct Baileys {
    node: Child,
    commands: ChildStdin,
    /// The script's output lines.
    pub output: UnboundedReceiver<Value>,
    _folder: TempDir,
}

impl Baileys {
    /// Runs a script against the network. `flags` are for Node, and `arguments` follow the network's address.
    pub fn run(whatsapp: &Arc<FakeWhatsApp>, flags: &[&str], script: &str, arguments: &[&str]) -> Self {
        let folder = with_packages();
        let mut node = Command::new("node");
        node.current_dir(folder.path()).args(flags).arg(script).arg(control_port(whatsapp)).args(arguments);
        let mut node = node.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node is installed");
        let (commands, out) = (node.stdin.take().expect("piped"), node.stdout.take().expect("piped"));
        let (lines, output) = unbounded_channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines() {
                let line = line.expect("what node prints is text");
                let value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
                drop(lines.send(value));
            }
        });
        Self { node, commands, output, _folder: folder }
    }
}

/// Baileys on an account, which sends what a test asks for.
pub struct Sender {
    script: Baileys,
    /// The account, as digits.
    pub account: String,
}

impl Sender {
    /// Links Baileys to an account of the network, and waits until it is connected.
    pub fn link(whatsapp: &Arc<FakeWhatsApp>, account: &str, lid: &str) -> Self {
        let mut script = Baileys::run(whatsapp, &[], "sender.mjs", &[account, lid]);
        assert_eq!(script.output.blocking_recv().expect("it starts")["ready"], true);
        Self { script, account: account.to_owned() }
    }

    /// Sends content in the form of Baileys, and returns `{"id", "message"}` after the network's ack. Bytes are
    /// `{"base64": …}`.
    #[track_caller]
    pub fn send(&mut self, to: &str, content: &Value, options: &Value) -> Value {
        self.ask(&json!({ "send": to, "content": content, "options": options }))
    }

    /// Sends a message in the form of the protocol. The same id in `options` (`messageId`) sends it again, newly encrypted.
    #[track_caller]
    pub fn relay(&mut self, to: &str, message: &Value, options: &Value) -> Value {
        self.ask(&json!({ "relay": to, "message": message, "options": options }))
    }

    /// Encrypts a change of a message with the secret of that message: `Message Edit`, `Poll Vote` or `Enc Reaction`. `of` is
    /// `{"id", "author", "by", "secret"}` with the addresses of the message's author and of the person that changes it.
    /// The payload of a vote is `{"options": [NAME…]}`.
    #[track_caller]
    pub fn addon(&mut self, use_case: &str, of: &Value, payload: &Value) -> Value {
        self.ask(&json!({ "addon": use_case, "of": of, "payload": payload }))
    }

    /// Waits for so many messages of others, and returns all.
    #[track_caller]
    pub fn heard(&mut self, count: usize) -> Value {
        self.ask(&json!({ "heard": count }))["messages"].clone()
    }

    #[track_caller]
    fn ask(&mut self, command: &Value) -> Value {
        writeln!(self.script.commands, "{command}").expect("the script runs");
        let answer = self.script.output.blocking_recv().expect("the script runs");
        assert!(answer["error"].is_null(), "{command}: {}", answer["error"]);
        answer
    }
}

impl Drop for Baileys {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.node.kill();
        let _ = self.node.wait();
    }
}

/// Node looks for packages beside the script, so the scripts are written beside the packages.
fn with_packages() -> TempDir {
    let installed = std::env::var(INSTALLED).unwrap_or_else(|_| {
        panic!(
            "{INSTALLED} is not set. It names a folder with Baileys in node_modules: `./dev test` installs it, \
             crates/fake-whatsapp/clients/baileys/README.md says how"
        )
    });
    let packages = PathBuf::from(installed).join("node_modules");
    assert!(packages.join("baileys").is_dir(), "no Baileys in {}", packages.display());
    let folder = tempfile::tempdir().expect("a temporary directory");
    for (name, text) in SCRIPTS {
        std::fs::write(folder.path().join(name), text).expect("a script is written");
    }
    std::os::unix::fs::symlink(packages, folder.path().join("node_modules")).expect("a link");
    folder
}

/// Serves the control port of a network in its own thread, until the process ends.
fn control_port(whatsapp: &Arc<FakeWhatsApp>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("an address");
    let router = control::router(whatsapp.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            axum::serve(listener, router).await.expect("it serves");
        });
    });
    format!("http://{address}")
}
