//! `recado status`, with and without a running server, on both engines.

use serde_json::{Value, json};
use test_postgres::Database;

use super::{assert_fails, run_in};
use crate::harness::{Ended, Home, Server, recado, wait_for};
use crate::v1::{CARD, JSON};

/// A server with two messages on a paused channel.
fn held(home: &Home) -> Server {
    let key = home.unlimited_key();
    home.cli(&["channels", "create", "--name", "x", "--type", "SANDBOX", "--id", "parado"]);
    home.cli(&["channels", "connect", "parado"]);
    home.cli(&["channels", "pause", "parado"]);
    let server = home.serve();
    for _ in 0..2 {
        let path = "/v1/channels/parado/messages/contact";
        server.call("POST", path, Some(&key), &[JSON], Some(CARD.as_bytes())).expect(202);
    }
    server
}

#[test]
fn status_shows_the_state_of_a_server_and_of_a_store() {
    let database = Database::new();
    for home in [Home::init(), Home::on_postgres(database.url())] {
        let engine = if home.database.is_some() { "postgresql" } else { "sqlite" };
        let server = held(&home);
        let node = || home.cli(&["status"])["nodes"][0]["channels"] == 2;
        wait_for("the node to own the channels", || engine == "sqlite" || node());
        wait_for("the messages to become older", || {
            home.cli(&["status"])["waiting"]["oldestAgeSeconds"].as_u64().is_some_and(|age| age > 0)
        });
        let status = home.cli(&["status"]);
        for (field, value) in [
            ("engine", json!(engine)),
            ("served", json!(true)),
            ("ready", json!(true)),
            ("secretKeyOk", json!(true)),
            ("channels", json!({"CONNECTED": 1, "PAUSED": 1})),
            ("sessions", json!({"linked": 0, "openHere": 0})),
            ("webhooks", json!({"count": 0, "oldestAgeSeconds": null, "disabled": 0})),
            ("lastBackup", Value::Null),
        ] {
            assert_eq!(status[field], value, "{field}: {status}");
        }
        assert_eq!(status["waiting"]["count"], 2, "{status}");
        let queue = &status["queues"][0];
        assert_eq!(
            (&queue["channel"], &queue["state"], &queue["waiting"]),
            (&json!("parado"), &json!("PAUSED"), &json!(2))
        );
        assert!(status["disk"]["free"].as_u64().is_some_and(|free| free > 0), "{status}");
        assert_eq!(status["disk"]["store"].is_null(), engine == "postgresql", "{status}");
        let nodes = status["nodes"].as_array().expect("a list");
        if engine == "postgresql" {
            let node = &nodes[0];
            assert!(node["leaseLeftSeconds"].as_i64().is_some_and(|left| left > 0), "{node}");
            assert!(node["sendsFor"].as_array().is_some_and(|types| types.contains(&json!("SANDBOX"))), "{node}");
        } else {
            assert!(nodes.is_empty(), "{status}");
        }
        server.kill();
        let status = home.cli(&["status"]);
        let shown = (&status["served"], &status["ready"], &status["secretKeyOk"], &status["waiting"]["count"]);
        assert_eq!(shown, (&json!(false), &json!(false), &Value::Null, &json!(2)), "{status}");
    }
}

#[test]
fn status_is_text_for_people_with_the_last_backup() {
    let home = Home::init();
    let _server = held(&home);
    let backup = home.dir.with_extension("backup");
    home.cli(&["backup", "--to", backup.to_str().expect("UTF-8")]);
    let output = run_in(home.dir(), &["status"]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    for words in [
        "a server runs, and is ready",
        "secret key    opens what channels need",
        "channels      1 CONNECTED, 1 PAUSED",
        "messages      2 wait, the oldest for ",
        "webhooks      none waits; 0 disabled",
        "queue         parado (SANDBOX, PAUSED): 2 wait",
        &format!("ago, to {}", backup.display()),
    ] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    let last = &home.cli(&["status"])["lastBackup"];
    assert_eq!(last["to"], backup.display().to_string());
    // Nobody knows when the last backup was: that is not "never".
    std::fs::write(home.dir.join("last-backup.json"), "{\"at\":").expect("written");
    let last = &home.cli(&["status"])["lastBackup"];
    assert!(last["error"].as_str().is_some_and(|text| text.contains("last-backup.json")), "{last}");
    let text = String::from_utf8(run_in(home.dir(), &["status"]).stdout).expect("UTF-8");
    assert!(text.contains("last backup   UNKNOWN: last-backup.json cannot be read"), "{text}");
    std::fs::remove_dir_all(backup).expect("removed");
}

#[test]
fn a_command_for_a_database_is_not_answered_by_the_server_of_a_file() {
    let (home, database) = (Home::init(), Database::new());
    let _server = home.serve();
    let create = ["keys", "create", "--name", "crm", "--environment", "test", "--scopes", "messages.send"];
    for command in [&["status"][..], &["institutions", "list"], &create] {
        let mut run = recado();
        run.args(command).args(["--data-dir", home.dir()]).env("RECADO_DATABASE_URL", database.url());
        assert_fails(&run.ended(), 1, &["RECADO_DATABASE_URL", "its own file", home.dir()]);
    }
    // Without the variable it answers.
    home.cli(&["institutions", "list"]);
}
