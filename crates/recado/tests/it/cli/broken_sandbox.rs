//! A sandbox whose file is broken.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::run_in;
use crate::harness::{Home, wait_for};
use crate::v1::{CARD, JSON, Stage, every_scope, text};

fn stopped() -> Home {
    let home = Home::init();
    let server = home.serve();
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    home
}

/// What the log must say, and what is done to the file.
type Break<'a> = (&'a str, &'a dyn Fn(&Path));

#[test]
fn a_broken_sandbox_stops_only_the_sandbox() {
    let breaks: [Break<'_>; 3] = [
        ("not a database", &|file| {
            let mut bytes = fs::read(file).expect("a file");
            bytes[..8].fill(0x55);
            fs::write(file, bytes).expect("a file");
        }),
        ("newer version", &|file| {
            let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute('PRAGMA user_version = 42')";
            assert!(Command::new("python3").args(["-c", script]).arg(file).status().expect("python runs").success());
        }),
        ("unable to open", &|file| {
            fs::remove_file(file).expect("it is there");
            fs::create_dir(file).expect("a directory");
        }),
    ];
    for (why, spoil) in breaks {
        let home = stopped();
        let file = home.dir.join("sandbox.db");
        spoil(&file);
        let doctor = run_in(home.dir(), &["doctor", "--listen", "127.0.0.1:0"]);
        let printed = String::from_utf8_lossy(&doctor.stdout);
        assert!(printed.contains("move this file away") && !printed.contains("restore a back-up"), "{why}: {printed}");
        // It starts, is ready, and accepts; the file is named.
        let stage = Stage::of(home, &[]);
        let message = stage.accept("sandbox", &[], CARD);
        let log = stage.server.log();
        assert!(log.contains("sandbox not opened") && log.contains("sandbox.db") && log.contains(why), "{why}: {log}");
        let place = tempfile::tempdir().expect("a directory");
        let to = place.path().join("copy");
        let made = stage.home.cli(&["backup", "--to", to.to_str().expect("UTF-8")]);
        assert!(made["recado.db"].as_u64() > Some(0), "{why}: {made}");
        std::thread::sleep(std::time::Duration::from_millis(300));
        let status = text(&stage.data(&message), "status").to_owned();
        assert!(["QUEUED", "SENDING"].contains(&&*status), "{why}: {status}");
        // Once the file is away the sandbox goes on by itself.
        fs::rename(&file, stage.home.dir.join("broken")).expect("moved");
        wait_for("the sandbox", || text(&stage.data(&message), "status") == "READ");
    }
}

/// An erasure does what it can, says what is left, and can be repeated.
#[test]
fn a_broken_sandbox_does_not_stop_an_erasure() {
    let home = Home::init();
    let key = every_scope(&home);
    let phone = "5511999998888";
    let server = home.serve();
    let sent = server.call("POST", "/v1/channels/sandbox/messages/contact", Some(&key), &[JSON], Some(CARD.as_bytes()));
    let message = sent.expect(202).header("X-Message-Id").expect("an id").to_owned();
    let message = format!("/v1/channels/sandbox/messages/{message}");
    wait_for("the message", || server.get(&message, Some(&key)).json()["data"]["status"] == "READ");
    let contact = server.post("/v1/contacts", &key, &json!({"name": "Maria", "phone": phone})).expect(201).json();
    let contact = format!("/v1/contacts/{}", text(&contact["data"], "id"));
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    let file = home.dir.join("sandbox.db");
    let mut bytes = fs::read(&file).expect("a file");
    bytes[..8].fill(0x55);
    fs::write(&file, bytes).expect("a file");

    let server = home.serve();
    let erase = || server.delete(&format!("{contact}?erase=true"), Some(&key));
    let refused = erase().expect(503);
    assert_eq!(refused.json()["code"], "SANDBOX_NOT_ERASED", "{}", refused.text());
    assert!(refused.header("Retry-After").is_some(), "{refused:?}");
    server.get(&message, Some(&key)).expect(404);
    server.get(&contact, Some(&key)).expect(200);
    fs::rename(&file, home.dir.join("broken")).expect("moved");
    wait_for("the rest to be erased", || erase().status == 200);
    server.get(&contact, Some(&key)).expect(404);
}
