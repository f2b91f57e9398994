//! The secrets of a session: encryption, re-encryption, a missing key. And no number of a person in a log.

use std::process::Command;

use serde_json::{Value, json};

use super::{KNOWN, MARIA, OWNER, SECRET_KEY, Stage, TYPED, command, owner};
use crate::harness::{Ended, Server, wait_for};

const ANOTHER_KEY: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

/// Restarts the server with these keys and the most detailed log.
fn restarted(stage: Stage, keys: &str) -> Stage {
    let Stage { home, server, whatsapp, key } = stage;
    server.terminate();
    server.wait();
    let mut next = command(&whatsapp);
    next.env("RECADO_SECRET_KEY", keys).env("RECADO_LOG", "trace");
    next.args(["serve", "--data-dir", home.dir(), "--listen", "127.0.0.1:0"]);
    Stage { server: Server::start(next, &home), home, whatsapp, key }
}

fn printed(mut command: Command) -> Value {
    let output = command.ended();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn sessions_are_re_encrypted_with_a_new_key() {
    let stage = Stage::linked();
    let Stage { home, server, whatsapp, key } = stage;
    server.terminate();
    server.wait();
    let keys = format!("{ANOTHER_KEY},{SECRET_KEY}");
    let rotate = || {
        let mut rotate = command(&whatsapp);
        rotate.env("RECADO_SECRET_KEY", &keys);
        rotate.args(["secrets", "rotate", "--data-dir", home.dir(), "--json"]);
        printed(rotate)
    };
    let done = rotate();
    // The link, and the rows of the session with hundreds of one-time keys.
    assert!(done["sealedAnew"].as_u64().expect("a number") > 10, "{done}");
    assert_eq!((&done["already"], &done["failed"]), (&json!(0), &json!([])));
    let again = rotate();
    assert_eq!((&again["sealedAnew"], &again["already"]), (&json!(0), &done["sealedAnew"]));
    let mut next = command(&whatsapp);
    next.env("RECADO_SECRET_KEY", ANOTHER_KEY).args(["serve", "--data-dir", home.dir(), "--listen", "127.0.0.1:0"]);
    let stage = Stage { server: Server::start(next, &home), home, whatsapp, key };
    stage.until_state("vendas", "CONNECTED");
    let id = stage.accept("vendas", MARIA);
    stage.until("vendas", &id, "READ");
}

#[test]
fn a_session_waits_without_its_key_and_reconnects_with_it() {
    let stage = restarted(Stage::linked(), ANOTHER_KEY);
    wait_for("the reason", || {
        stage.channel("vendas")["stateReason"].as_str().unwrap_or_default().contains("nao pode ser aberta")
    });
    let channel = stage.channel("vendas");
    assert_eq!((&channel["state"], &channel["accepts"]), (&json!("DISCONNECTED"), &json!(true)));
    let waits = stage.accept("vendas", MARIA);
    let stage = restarted(stage, SECRET_KEY);
    stage.until("vendas", &waits, "READ");
}

#[test]
fn no_number_and_no_code_is_logged() {
    let stage = restarted(Stage::set(), SECRET_KEY);
    stage.create("vendas");
    let code = stage.connect("vendas")["code"].as_str().expect("a code").to_owned();
    stage.whatsapp.scan(&code, &owner()).expect("it can be scanned");
    stage.until_state("vendas", "CONNECTED");
    let id = stage.accept("vendas", MARIA);
    stage.until("vendas", &id, "READ");
    let unknown = stage.accept("vendas", "5511900000009");
    stage.until("vendas", &unknown, "FAILED");
    stage.whatsapp.drop_connections(OWNER);
    stage.until_state("vendas", "DISCONNECTED");
    stage.until_state("vendas", "CONNECTED");
    let log = stage.server.log();
    assert!(log.contains("DEBUG") && log.contains("channel moved"), "{log}");
    for secret in [OWNER, MARIA, TYPED, KNOWN, "5511900000009", &code, "Maria Silva"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}
