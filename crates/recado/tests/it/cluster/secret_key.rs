//! A node without the right secret key: its channels wait, and every place where an operator looks says so.

use std::process::Output;

use fake_graph::{FakeGraph, Number};
use serde_json::{Value, json};
use test_postgres::Database;

use crate::cloud_api::{ANOTHER_KEY, NUMBER, SECRET_KEY, command, credentials};
use crate::harness::{Ended, Home, Server, recado, wait_for};
use crate::v1::create_key;

fn start(home: &Home, graph: &FakeGraph, key: &str) -> Server {
    let mut command = command(home, graph);
    command.args(["serve", "--data-dir", home.dir(), "--listen", "127.0.0.1:0"]).env("RECADO_SECRET_KEY", key);
    command.envs(home.database.as_ref().map(|url| ("RECADO_DATABASE_URL", url)));
    Server::start(command, home)
}

/// What `doctor` says about the key, and its exit code.
fn doctor(home: &Home, key: Option<&str>) -> (Option<i32>, Value) {
    let mut command = recado();
    command.args(["doctor", "--json", "--listen", "127.0.0.1:0", "--data-dir", home.dir()]);
    command.envs(home.database.as_ref().map(|url| ("RECADO_DATABASE_URL", url)));
    command.envs(key.map(|key| ("RECADO_SECRET_KEY", key)));
    let Output { status, stdout, .. } = command.ended();
    let checks: Value = serde_json::from_slice(&stdout).expect("JSON");
    let check = checks.as_array().expect("a list").iter().find(|check| check["name"] == "secret key");
    (status.code(), check.cloned().unwrap_or(Value::Null))
}

#[test]
fn a_wrong_secret_key_is_visible_wherever_an_operator_looks() {
    let database = Database::new();
    for home in [Home::init(), Home::on_postgres(database.url())] {
        let graph = FakeGraph::start();
        graph.add_number(Number::example(NUMBER));
        let key = create_key(&home, "live", "channels.read,channels.write", "unlimited");
        let server = start(&home, &graph, SECRET_KEY);
        let body = json!({"name": "a", "type": "WHATSAPP_WABA", "id": "vendas"});
        server.post("/v1/channels", &key, &body).expect(201);
        server.post("/v1/channels/vendas/connect", &key, &credentials(NUMBER)).expect(200);
        let ready = server.get("/health/ready", None).expect(200).json();
        assert_eq!(ready, json!({"status": "ok"}));
        assert_eq!(home.cli(&["status"])["secretKeyOk"], true);
        server.terminate();
        server.wait();
        // The database of the tests may fail other checks.
        let (_, check) = doctor(&home, Some(SECRET_KEY));
        assert_eq!(check["status"], "ok", "{check}");
        for wrong in [Some(ANOTHER_KEY), None] {
            let (code, check) = doctor(&home, wrong);
            assert_eq!((code, &check["status"]), (Some(1), &json!("fail")), "{check}");
        }

        let server = start(&home, &graph, ANOTHER_KEY);
        let ready = server.get("/health/ready", None).expect(200).json();
        assert_eq!(ready, json!({"status": "ok", "warnings": ["secret_key"]}));
        assert_eq!(home.cli(&["status"])["secretKeyOk"], false);
        let reason = if home.database.is_some() { "confira a chave secreta" } else { "RECADO_SECRET_KEY" };
        let channel = || server.get("/v1/channels/vendas", Some(&key)).expect(200).json()["data"].clone();
        let says = |channel: &Value| channel["stateReason"].as_str().is_some_and(|text| text.contains(reason));
        wait_for("the reason in the channel's state", || says(&channel()));
        let listed = server.get("/v1/channels", Some(&key)).expect(200).json()["data"][0].clone();
        assert!(says(&listed), "{listed}");
        assert!(says(&home.cli(&["channels", "show", "vendas"])));
        assert!(server.log().contains("channel credentials not readable"), "{}", server.log());
        assert!(server.log().contains("channel.id=vendas"), "{}", server.log());
        if home.database.is_some() {
            wait_for("the warning", || {
                server.log().contains("no node sends for a channel type kind=\"WHATSAPP_WABA\"")
            });
        }
        server.terminate();
        server.wait();

        // With the right key it goes on by itself.
        let server = start(&home, &graph, SECRET_KEY);
        wait_for("the channel to be served", || {
            let channel = server.get("/v1/channels/vendas", Some(&key)).expect(200).json()["data"].clone();
            (&channel["state"], &channel["stateReason"]) == (&json!("CONNECTED"), &Value::Null)
        });
    }
}
