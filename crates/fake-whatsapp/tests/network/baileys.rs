//! The network as Baileys understands it, beside a client of whatsapp-rust: a card each way.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use fake_whatsapp::{FakeWhatsApp, control};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use wacore::types::events::Event;

use crate::harness::{ACCOUNT, Line, network};

const SCRIPTS: [&str; 3] = ["control.mjs", "driver.mjs", "mem.mjs"];

/// Ends Node when the test does.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Node looks for packages beside the script, so the scripts are put where the packages are shown.
fn with_packages() -> tempfile::TempDir {
    let installed = std::env::var("RECADO_TEST_BAILEYS").unwrap_or_else(|_| {
        panic!(
            "RECADO_TEST_BAILEYS is not set. It names a folder with Baileys in node_modules: `./dev test` installs it, \
             crates/fake-whatsapp/clients/baileys/README.md says how"
        )
    });
    let packages = PathBuf::from(installed).join("node_modules");
    assert!(packages.join("baileys").is_dir(), "no Baileys in {}", packages.display());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/baileys");
    for script in SCRIPTS {
        std::fs::copy(scripts.join(script), folder.path().join(script)).expect("a script is copied");
    }
    std::os::unix::fs::symlink(packages, folder.path().join("node_modules")).expect("a link");
    folder
}

/// The control port; it ends with the test's runtime.
async fn control_port(whatsapp: &Arc<FakeWhatsApp>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let address = listener.local_addr().expect("an address");
    let router = control::router(whatsapp.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// Runs a script, and gives what it prints, line by line.
fn run(folder: &Path, arguments: &[&str]) -> (Node, UnboundedReceiver<Value>) {
    let mut node = Command::new("node");
    node.current_dir(folder).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut node = Node(node.spawn().expect("node is installed"));
    let out = node.0.stdout.take().expect("piped");
    let (tell, said) = unbounded_channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines() {
            let line = line.expect("what node prints is text");
            let value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
            let _ = tell.send(value);
        }
    });
    (node, said)
}

#[tokio::test]
async fn baileys_agrees() {
    let folder = with_packages();
    let whatsapp = Arc::new(network());
    let mut line = Line::up(&whatsapp).await;
    let control = control_port(&whatsapp).await;
    let (_node, mut said) = run(folder.path(), &["driver.mjs", &control, ACCOUNT]);
    let mut checks = Vec::new();
    while let Some(check) = said.recv().await {
        assert_eq!(check["ok"], true, "{check:#}");
        if check["check"] == "ready" {
            let to = check["account"].as_str().expect("an account");
            line.send(to, "3EB0RUST000000000001").await;
            assert_eq!(line.ack("3EB0RUST000000000001").await, None);
            delivered_to_both_devices(&mut line, to).await;
            let name = line.until("a card from Baileys", |event| {
                event.messages().find_map(|item| item.message.contact_message.display_name.clone())
            });
            assert_eq!(name.await, "Zé");
        }
        checks.push(check["check"].as_str().expect("a name").to_owned());
    }
    // The last of all, so that none before it was left out.
    assert_eq!(checks.last().map(String::as_str), Some("every signature was good"));
    assert_eq!(checks.len(), 13);
    line.stop().await;
}

/// The phone confirms it, and the Baileys that is linked to it.
async fn delivered_to_both_devices(line: &mut Line, to: &str) {
    let mut by = std::collections::BTreeSet::new();
    line.until("both receipts", |event| {
        if let Event::Receipt(receipt) = event
            && receipt.message_ids.iter().any(|id| id == "3EB0RUST000000000001")
            && receipt.source.sender.user == to
        {
            by.insert(receipt.source.sender.device);
        }
        (by.len() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn its_memory_is_measured() {
    let folder = with_packages();
    let whatsapp = Arc::new(network());
    let control = control_port(&whatsapp).await;
    let (_node, mut said) = run(folder.path(), &["--expose-gc", "mem.mjs", &control, "2"]);
    let measured = said.recv().await.expect("a measurement");
    let sockets: Vec<_> = measured["measured"].as_array().expect("a list").iter().map(|m| &m["sockets"]).collect();
    assert_eq!(sockets, [0, 1, 2]);
    assert!(measured["each_further_kib"].is_i64() && measured["forced_gc"] == true, "{measured}");
    assert_eq!(whatsapp.inbox().len(), 2);
}
