//! `POST /v1/channels/{channelId}/connect`: which calls link a channel, and which do not.

use fake_graph::{FakeGraph, Number};
use serde_json::{Value, json};

use super::{NUMBER, Stage, credentials, serve};
use crate::harness::{Answer, Home, Server};
use crate::v1::{ALL_SCOPES, JSON, NO_CHANNEL, NO_JSON, NO_SECRET_KEY, assert_faults, assert_refused, create_key};

const TOKEN_REFUSED: (&str, &str) = ("accessToken", "A Meta recusou o accessToken.");
const NUMBER_REFUSED: (&str, &str) =
    ("phoneNumberId", "A Meta nao conhece o phoneNumberId, ou o accessToken nao o alcanca.");

/// A stage with the channel `vendas`, which was never connected.
fn stage() -> Stage {
    let stage = Stage::set();
    stage.create("vendas");
    stage
}

fn with(field: &str, value: Value) -> Value {
    let mut body = credentials(NUMBER);
    body[field] = value;
    body
}

fn connect_raw(stage: &Stage, body: &str) -> Answer {
    stage.server.call("POST", "/v1/channels/vendas/connect", Some(&stage.key), &[JSON], Some(body.as_bytes()))
}

fn connect_without_body(server: &Server, key: &str, channel: &str) -> Answer {
    server.call("POST", &format!("/v1/channels/{channel}/connect"), Some(key), &[], None)
}

/// The names of the fields that an answer refuses.
#[track_caller]
fn faulty(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 400, "{}", answer.text());
    let answer = answer.json();
    let errors = answer["errors"].as_array().expect("errors");
    errors.iter().map(|error| error["field"].as_str().expect("a field").to_owned()).collect()
}

#[test]
fn unknown_fields_for_meta_are_named() {
    let stage = stage();
    stage.graph.add_number(Number { access_token: "EAAGoutro".to_owned(), ..Number::example("2") });
    let before = stage.channel("vendas");
    for (body, fault) in [
        (with("accessToken", json!("EAAGerrado")), TOKEN_REFUSED),
        (with("phoneNumberId", json!("999")), NUMBER_REFUSED),
        // The token is valid, but for another number.
        (with("phoneNumberId", json!("2")), NUMBER_REFUSED),
    ] {
        assert_faults("connect", &stage.connect("vendas", &body), &[fault]);
        assert_eq!(stage.channel("vendas"), before);
    }
    assert_eq!((&before["state"], &before["link"]), (&json!("CREATED"), &Value::Null));
    // A failed call does not remove a link either.
    stage.connect("vendas", &credentials(NUMBER)).expect(200);
    let linked = stage.channel("vendas");
    assert_faults("again", &stage.connect("vendas", &with("accessToken", json!("EAAGerrado"))), &[TOKEN_REFUSED]);
    assert_eq!(stage.channel("vendas"), linked);
    let id = stage.accept("vendas", "5511999998888");
    stage.until("vendas", &id, "SENT");
}

#[test]
fn every_faulty_field_is_named() {
    let stage = stage();
    let required = ["phoneNumberId", "businessAccountId", "accessToken", "verifyToken"];
    assert_eq!(faulty(&stage.connect("vendas", &json!({}))), required);
    assert_eq!(faulty(&connect_without_body(&stage.server, &stage.key, "vendas")), required);
    for field in required {
        for bad in [json!(null), json!(""), json!(7), json!(["1"]), json!({}), json!(true), json!("a b"), json!("ção")]
        {
            assert_eq!(faulty(&stage.connect("vendas", &with(field, bad.clone()))), [field], "{field}: {bad}");
        }
        let long = "1".repeat(5_000);
        assert_eq!(faulty(&stage.connect("vendas", &with(field, json!(long)))), [field]);
        let twice = credentials(NUMBER).to_string().replacen('{', &format!("{{\"{field}\":\"1\","), 1);
        assert_eq!(faulty(&connect_raw(&stage, &twice)), [field], "twice");
    }
    for bad in [json!(7), json!(["a"]), json!("a b"), json!("ç")] {
        assert_eq!(faulty(&stage.connect("vendas", &with("appSecret", bad.clone()))), ["appSecret"], "{bad}");
    }
    for bad in ["../../me", "1/messages", "1?fields=id", "1\r\nHost: x", "０"] {
        assert_eq!(faulty(&stage.connect("vendas", &with("phoneNumberId", json!(bad)))), ["phoneNumberId"], "{bad}");
    }
    assert_eq!(faulty(&stage.connect("vendas", &with("token", json!("x")))), ["token"]);
    assert_eq!(faulty(&stage.connect("vendas", &json!({"x": 1}))), [&required[..], &["x"]].concat());
    for bad in ["[]", "{", "null", "\"a\"", "{}{}"] {
        assert_eq!(faulty(&connect_raw(&stage, bad)), ["body"], "{bad}");
    }
    let body = credentials(NUMBER).to_string();
    let plain = stage.server.call(
        "POST",
        "/v1/channels/vendas/connect",
        Some(&stage.key),
        &[("Content-Type", "text/plain")],
        Some(body.as_bytes()),
    );
    assert_refused("text/plain", &plain, NO_JSON);
    assert!(stage.graph.attempts().is_empty());
    assert_eq!(stage.channel("vendas")["state"], "CREATED");
}

/// When Meta gives no answer, nothing is changed.
#[test]
fn without_meta_a_channel_stays_as_it_was() {
    let stage = stage();
    stage.link("balcao", NUMBER);
    let (created, linked) = (stage.channel("vendas"), stage.channel("balcao"));
    let Stage { home: _home, server, graph, key } = stage;
    drop(graph);
    for channel in ["vendas", "balcao"] {
        let answer = server.post(&format!("/v1/channels/{channel}/connect"), &key, &credentials(NUMBER)).expect(503);
        assert_eq!(answer.json()["code"], "SERVICE_UNAVAILABLE");
        assert!(answer.header("Retry-After").is_some());
    }
    let show = |channel: &str| server.get(&format!("/v1/channels/{channel}"), Some(&key)).json()["data"].clone();
    assert_eq!((show("vendas"), show("balcao")), (created, linked));
}

#[test]
fn without_a_secret_key_such_channels_are_refused() {
    let graph = FakeGraph::start();
    graph.add_number(Number::example(NUMBER));
    let home = Home::init();
    let key = create_key(&home, "live", "channels.read,channels.write", "unlimited");
    let unsealed = || home.serve_with(&["--graph-url", &graph.url()]);
    let server = unsealed();
    let new = json!({"name": "x", "type": "WHATSAPP_WABA", "id": "x"});
    assert_refused("create", &server.post("/v1/channels", &key, &new), NO_SECRET_KEY);
    server.terminate();
    server.wait();
    // The channel was created while there was a key.
    let server = serve(&home, &graph);
    server.post("/v1/channels", &key, &new).expect(201);
    server.terminate();
    server.wait();
    let server = unsealed();
    let path = "/v1/channels/x/connect";
    assert_refused("connect", &server.post(path, &key, &credentials(NUMBER)), NO_SECRET_KEY);
    let state = server.get("/v1/channels/x", Some(&key)).expect(200).json()["data"]["state"].clone();
    assert_eq!(state, "CREATED");
}

#[test]
fn a_sandbox_channel_accepts_no_credentials() {
    let home = Home::init();
    let server = home.serve();
    let key = home.unlimited_key();
    let path = "/v1/channels/x/connect";
    server.post("/v1/channels", &key, &json!({"name": "x", "type": "SANDBOX", "id": "x"})).expect(201);
    let fields: Vec<_> = credentials(NUMBER).as_object().expect("fields").keys().cloned().collect();
    assert_eq!(faulty(&server.post(path, &key, &credentials(NUMBER))).len(), fields.len());
    connect_without_body(&server, &key, "x").expect(200);
    let channel = server.post(path, &key, &json!({})).expect(200).json()["data"].clone();
    assert_eq!((&channel["state"], &channel["link"]), (&json!("CONNECTED"), &Value::Null));
}

#[test]
fn a_test_key_neither_makes_nor_finds_such_a_channel() {
    let stage = Stage::linked();
    let key = create_key(&stage.home, "test", ALL_SCOPES, "unlimited");
    let new = json!({"name": "x", "type": "WHATSAPP_WABA", "id": "x"});
    assert_eq!(faulty(&stage.server.post("/v1/channels", &key, &new)), ["type"]);
    let answer = stage.server.post("/v1/channels/vendas/connect", &key, &credentials(NUMBER));
    assert_refused("connect", &answer, NO_CHANNEL);
}

#[test]
fn a_channel_shows_its_link() {
    let stage = stage();
    let answer = stage.connect("vendas", &credentials(NUMBER)).expect(200).json()["data"].clone();
    let mut link = json!({
        "phoneNumberId": NUMBER,
        "businessAccountId": "102290129340398",
        "phone": "+55 11 4000-0000",
        "name": "Recado",
        "receipts": "ON",
        "callbackPath": "/v1/callbacks/meta/vendas",
    });
    assert_eq!((&answer["link"], &answer["state"]), (&link, &json!("CONNECTED")));
    assert_eq!(stage.channel("vendas"), answer);
    let list = stage.server.get("/v1/channels", Some(&stage.key)).expect(200).json();
    assert_eq!(list["data"], json!([answer]));
    // A new token needs no other field; the app's secret is removed only by an explicit `null`.
    let token = json!({"accessToken": credentials(NUMBER)["accessToken"]});
    assert_eq!(stage.connect("vendas", &token).expect(200).json()["data"]["link"], link);
    link["receipts"] = "OFF".into();
    for nothing in [Value::Null, json!("")] {
        let answer = stage.connect("vendas", &with("appSecret", nothing)).expect(200).json();
        assert_eq!(answer["data"]["link"], link);
        stage.connect("vendas", &credentials(NUMBER)).expect(200);
    }
}

#[test]
fn a_link_outlives_a_disconnect_and_a_restart() {
    let stage = stage();
    stage.connect("vendas", &credentials(NUMBER)).expect(200);
    let act = |stage: &Stage, action: &str| {
        let path = format!("/v1/channels/vendas/{action}");
        stage.server.call("POST", &path, Some(&stage.key), &[], None).expect(200).json()["data"].clone()
    };
    let mut linked = stage.channel("vendas");
    let down = act(&stage, "disconnect");
    assert_eq!((&down["state"], &down["link"]), (&json!("DISCONNECTED"), &linked["link"]));
    let waits = stage.accept("vendas", "5511999998888");
    let up = act(&stage, "connect");
    linked["connectedAt"] = up["connectedAt"].clone();
    assert_eq!(up, linked);
    stage.until("vendas", &waits, "SENT");
    let stage = stage.crash();
    assert_eq!(stage.channel("vendas"), linked);
    let id = stage.accept("vendas", "5511999998888");
    stage.until("vendas", &id, "READ");
    // The stored token is checked like a new one.
    stage.graph.set_access_token(NUMBER, "EAAGnovo");
    assert_faults("stored", &connect_without_body(&stage.server, &stage.key, "vendas"), &[TOKEN_REFUSED]);
}

#[test]
fn a_channel_made_again_has_no_link() {
    let stage = Stage::linked();
    stage.server.delete("/v1/channels/vendas", Some(&stage.key)).expect(200);
    stage.create("vendas");
    let again = |stage: &Stage| {
        let channel = stage.channel("vendas");
        assert_eq!((&channel["link"], &channel["state"]), (&Value::Null, &json!("CREATED")));
        assert_eq!(faulty(&connect_without_body(&stage.server, &stage.key, "vendas")).len(), 4);
    };
    again(&stage);
    again(&stage.crash());
}
