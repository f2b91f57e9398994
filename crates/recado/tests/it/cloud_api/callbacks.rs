//! `/v1/callbacks/meta` and `/v1/callbacks/meta/{channelId}`: which callbacks are accepted, and their effects.

use std::io::{Read, Write};
use std::net::TcpStream;

use fake_graph::{
    Answer as Reply, Behaviour, Callback, Delivery, FakeGraph, GraphError, Number, Person, Said, Status, signature,
};
use recado_providers::cloud_api::APPS_OF_ONE;
use serde_json::{Value, json};

use super::{NUMBER, Stage, VERIFY_TOKEN, command, credentials};
use crate::harness::{Answer, Home, Server, wait_for};
use crate::v1::{FORBIDDEN, JSON, NO_JSON, TOO_LARGE, TOO_MANY, assert_faults, assert_refused, create_key, wire};

const APP: &str = "/v1/callbacks/meta";
const CHANNEL: &str = "/v1/callbacks/meta/vendas";
const HEADER: &str = "X-Hub-Signature-256";
const INVALID_JSON: (&str, &str) = ("body", "JSON invalido.");

fn secret() -> String {
    Number::example(NUMBER).app_secret.expect("one")
}

/// The body that Meta posts for these statuses.
fn payload(number: &str, statuses: &[Value]) -> Vec<u8> {
    let value = json!({"messaging_product": "whatsapp", "metadata": {"phone_number_id": number}, "statuses": statuses});
    let entry = json!([{"id": "1", "changes": [{"value": value, "field": "messages"}]}]);
    json!({"object": "whatsapp_business_account", "entry": entry}).to_string().into_bytes()
}

fn status(status: &str, remote_id: &str, ours: &str) -> Value {
    json!({"id": remote_id, "status": status, "timestamp": "1790000000", "recipient_id": "5511999998888",
           "biz_opaque_callback_data": ours})
}

fn post(stage: &Stage, path: &str, signature: &str, body: &[u8]) -> Answer {
    stage.server.call("POST", path, None, &[JSON, (HEADER, signature)], Some(body))
}

/// Posts a body as Meta does, signed by the app of [`NUMBER`].
fn post_signed(stage: &Stage, path: &str, body: &[u8]) -> Answer {
    post(stage, path, &signature(&secret(), body), body)
}

/// A channel `vendas` with a sent message whose status was not reported yet.
fn sent() -> (Stage, String) {
    let stage = Stage::linked();
    stage.graph.behave(|_| Behaviour::accept().calling_back([] as [Status; 0]));
    let id = stage.accept("vendas", "5511999998888");
    stage.until("vendas", &id, "SENT");
    (stage, id)
}

#[test]
fn metas_check_of_the_address_is_answered() {
    let stage = Stage::linked();
    let asked = |path: &str, mode: &str, token: &str, challenge: &str| {
        let query = format!("hub.mode={mode}&hub.challenge={challenge}&hub.verify_token={token}");
        stage.server.get(&format!("{path}?{query}"), None)
    };
    for path in [APP, CHANNEL] {
        let answer = asked(path, "subscribe", VERIFY_TOKEN, "1158201444").expect(200);
        assert_eq!((answer.text(), answer.header("Content-Type")), ("1158201444", Some("text/plain; charset=utf-8")));
        for (mode, token, challenge) in [
            ("subscribe", "outra", "1"),
            ("subscribe", "", "1"),
            ("subscribe", "uma-senha-noss", "1"),
            ("unsubscribe", VERIFY_TOKEN, "1"),
            ("", VERIFY_TOKEN, "1"),
            ("subscribe", VERIFY_TOKEN, ""),
            ("subscribe", VERIFY_TOKEN, "%3Cscript%3E%20"),
            ("subscribe", VERIFY_TOKEN, &"1".repeat(300)),
        ] {
            assert_refused(token, &asked(path, mode, token, challenge), FORBIDDEN);
        }
        assert_refused("nothing", &stage.server.get(path, None), FORBIDDEN);
    }
    for path in ["/v1/callbacks/meta/nada", "/v1/callbacks/meta/sandbox", "/v1/callbacks/meta/%FF"] {
        assert_refused(path, &asked(path, "subscribe", VERIFY_TOKEN, "1"), FORBIDDEN);
    }
    // Without the app's secret no callback can be verified, so the address refuses its verification.
    let mut body = credentials(NUMBER);
    body["appSecret"] = Value::Null;
    stage.connect("vendas", &body).expect(200);
    let statuses = payload(NUMBER, &[]);
    for path in [APP, CHANNEL] {
        assert_refused(path, &asked(path, "subscribe", VERIFY_TOKEN, "1"), FORBIDDEN);
        assert_refused(path, &post_signed(&stage, path, &statuses), FORBIDDEN);
        assert_refused(path, &post(&stage, path, &signature("", &statuses), &statuses), FORBIDDEN);
    }
}

/// The answer to an unverified body must not show which channels exist.
#[test]
fn the_answer_to_an_unauthenticated_body_reveals_nothing() {
    let stage = Stage::linked();
    for path in [APP, CHANNEL, "/v1/callbacks/meta/nada"] {
        let forged = signature("unknown", b"{}");
        assert_refused(path, &post(&stage, path, &forged, b"{}"), FORBIDDEN);
        assert_refused(path, &post(&stage, path, "sha256=00", b"{}"), FORBIDDEN);
        let large = vec![b' '; (3 << 20) + 1];
        let answer = wire(&stage.server, &format!("POST {path}"), &[(HEADER, forged.as_bytes())], &large);
        assert_refused(path, &answer, TOO_LARGE);
    }
}

/// One callback must not keep other callers from the store.
#[test]
fn a_callback_of_very_many_statuses_is_refused() {
    let stage = Stage::linked();
    let many = |count: usize| {
        let statuses: Vec<_> = (0..count).map(|n| json!({"id": format!("w{n}"), "status": "sent"})).collect();
        post_signed(&stage, APP, &payload(NUMBER, &statuses))
    };
    many(10_000).expect(200);
    assert_refused("too many", &many(10_001), TOO_LARGE);
}

#[test]
fn only_bodies_signed_by_the_app_are_accepted() {
    let (stage, id) = sent();
    let body = payload(NUMBER, &[status("read", "wamid.x", &id)]);
    let right = signature(&secret(), &body);
    let mut altered = body.clone();
    *altered.last_mut().expect("a byte") = b' ';
    for path in [APP, CHANNEL] {
        for (what, given) in [
            ("another app's", signature("outro", &body)),
            ("no scheme", right.trim_start_matches("sha256=").to_owned()),
            ("SHA-1", right.replace("sha256=", "sha1=")),
            ("cut", right[..right.len() - 2].to_owned()),
            ("longer", format!("{right}00")),
            ("empty", String::new()),
            ("no digits", format!("sha256={}", "g".repeat(64))),
            ("of another body", signature(&secret(), b"{}")),
        ] {
            assert_refused(what, &post(&stage, path, &given, &body), FORBIDDEN);
        }
        assert_refused("altered", &post(&stage, path, &right, &altered), FORBIDDEN);
        assert_refused("none", &stage.server.call("POST", path, None, &[JSON], Some(&body)), FORBIDDEN);
        let two = [JSON, (HEADER, "sha256=00"), (HEADER, &*right)];
        assert_refused("two", &stage.server.call("POST", path, None, &two, Some(&body)), FORBIDDEN);
        // A key does not prove that the caller is Meta.
        assert_refused("a key", &stage.server.call("POST", path, Some(&stage.key), &[JSON], Some(&body)), FORBIDDEN);
    }
    assert_refused("no such channel", &post(&stage, "/v1/callbacks/meta/nada", &right, &body), FORBIDDEN);
    assert_eq!(stage.message("vendas", &id)["status"], "SENT");
    // Hexadecimal digits are the same in either case.
    let upper = format!("sha256={}", right.trim_start_matches("sha256=").to_uppercase());
    post(&stage, CHANNEL, &upper, &body).expect(200);
    assert_eq!(stage.message("vendas", &id)["status"], "READ");
}

#[test]
fn malformed_callbacks_do_no_harm() {
    let (stage, id) = sent();
    for path in [APP, CHANNEL] {
        let large = vec![b' '; (3 << 20) + 1];
        let signature = signature(&secret(), &large);
        let answer = wire(&stage.server, &format!("POST {path}"), &[(HEADER, signature.as_bytes())], &large);
        assert_refused("large", &answer, TOO_LARGE);
        assert_faults("empty", &post_signed(&stage, path, b""), &[INVALID_JSON]);
        assert_faults("no JSON", &post_signed(&stage, path, b"<xml/>"), &[INVALID_JSON]);
        assert_faults("no text", &post_signed(&stage, path, b"\"\xff\""), &[INVALID_JSON]);
        assert_faults("deep", &post_signed(&stage, path, "[".repeat(10_000).as_bytes()), &[INVALID_JSON]);
        for body in [json!(null), json!([]), json!("x"), json!({}), json!({"entry": 7}), json!({"entry": [null, 7]})] {
            post_signed(&stage, path, body.to_string().as_bytes()).expect(200);
        }
        for statuses in [
            vec![],
            vec![json!(null), json!(7), json!({})],
            vec![status("warning", "wamid.x", &id), status("READ", "wamid.x", &id), status("", "wamid.x", &id)],
            vec![status("read", "", &id), status("read", &"x".repeat(300), &id), status("read", "wamid ção", &id)],
            vec![status("read", "wamid.x", "msg_0"), status("read", "wamid.x", "' or 1=1 --"), status("read", "w", "")],
        ] {
            post_signed(&stage, path, &payload(NUMBER, &statuses)).expect(200);
        }
    }
    assert_eq!(stage.message("vendas", &id)["status"], "SENT");
    // An invalid status among valid ones, in the largest body that is accepted.
    let invalid = json!({"id": 7, "status": {}, "strange": ["x"]});
    let mut delivered = status("delivered", "wamid.x", &id);
    delivered["timestamp"] = json!({"strange": true});
    let mut body = payload(NUMBER, &[invalid, delivered]);
    body.resize(3 << 20, b' ');
    post_signed(&stage, CHANNEL, &body).expect(200);
    assert_eq!(stage.message("vendas", &id)["status"], "DELIVERED");
    let plain = [("Content-Type", "text/plain"), (HEADER, "x")];
    let answer = stage.server.call("POST", CHANNEL, None, &plain, Some(b"{}"));
    assert!([FORBIDDEN, NO_JSON].contains(&(answer.status, answer.text())), "{}", answer.text());
}

#[test]
fn a_status_moves_only_messages_of_its_number() {
    let (stage, id) = sent();
    // A second number of the same app, as is usual.
    stage.graph.add_number(Number::example("2"));
    stage.link("balcao", "2");
    let other = "/v1/callbacks/meta/balcao";
    let (read, remote) = (json!("READ"), "wamid.x");
    for path in [APP, other] {
        post_signed(&stage, path, &payload("2", &[status("read", remote, &id)])).expect(200);
        post_signed(&stage, path, &payload("3", &[status("read", remote, &id)])).expect(200);
    }
    post_signed(&stage, other, &payload(NUMBER, &[status("read", remote, &id)])).expect(200);
    assert_eq!(stage.message("vendas", &id)["status"], "SENT");
    post_signed(&stage, APP, &payload(NUMBER, &[status("read", remote, &id)])).expect(200);
    assert_eq!(stage.message("vendas", &id)["status"], read);
}

/// A key of another institution, whose channel `vendas` is linked to the number "2" and has an app of its own.
fn another_institution(stage: &Stage) -> String {
    let home = &stage.home;
    let stranger = home.cli(&["institutions", "create", "--name", "Outra"])["id"].as_str().expect("an id").to_owned();
    let scopes = "messages.send,messages.read,channels.read,channels.write";
    let args = ["keys", "create", "--institution", &stranger, "--name", "tests", "--environment", "live"];
    let key = home.cli(&[&args[..], &["--rate-limit", "unlimited", "--scopes", scopes]].concat());
    let key = key["key"].as_str().expect("a key").to_owned();
    stage.graph.add_number(Number { app_secret: Some("outro-segredo".to_owned()), ..Number::example("2") });
    let new = json!({"name": "vendas", "type": "WHATSAPP_WABA", "id": "vendas"});
    stage.server.post("/v1/channels", &key, &new).expect(201);
    let mut link = credentials("2");
    link["appSecret"] = "outro-segredo".into();
    link["verifyToken"] = "outra-senha".into();
    stage.server.post("/v1/channels/vendas/connect", &key, &link).expect(200);
    key
}

/// A small callback that names no number, such as Meta's test, is tried on all apps, but on few of one institution.
#[test]
fn the_apps_of_one_institution_do_not_block_another() {
    let stage = Stage::linked();
    for n in 0..APPS_OF_ONE {
        let mut link = credentials(NUMBER);
        link["appSecret"] = format!("segredo-{n}").into();
        stage.create(&format!("c{n}"));
        stage.connect(&format!("c{n}"), &link).expect(200);
    }
    another_institution(&stage);
    let body = br#"{"object":"whatsapp_business_account","entry":[]}"#;
    post(&stage, APP, &signature("outro-segredo", body), body).expect(200);
    post_signed(&stage, APP, body).expect(200);
}

/// Channel ids are unique only within an institution, and the address names no institution.
#[test]
fn another_institution_moves_nothing() {
    let (stage, id) = sent();
    let key = &*another_institution(&stage);
    let card = json!({"to": "5511999998888", "name": "Maria", "phone": "5511988887777"});
    let theirs = stage.server.post("/v1/channels/vendas/messages/contact", key, &card).expect(202);
    let theirs = theirs.header("X-Message-Id").expect("an id").to_owned();
    let of_theirs = || {
        let path = format!("/v1/channels/vendas/messages/{theirs}");
        stage.server.get(&path, Some(key)).expect(200).json()["data"]["status"].clone()
    };
    wait_for("their message to be sent", || of_theirs() == "SENT");
    for path in [APP, CHANNEL] {
        // Their app reports our message and our number, our message and their number, and our number with their message.
        for (number, ours, app, answer) in [
            (NUMBER, &id, "outro-segredo", 403),
            ("2", &id, "outro-segredo", 200),
            ("2", &theirs, &secret(), 403),
            (NUMBER, &theirs, &secret(), 200),
        ] {
            let body = payload(number, &[status("read", "wamid.x", ours)]);
            post(&stage, path, &signature(app, &body), &body).expect(answer);
        }
        assert_eq!((stage.message("vendas", &id)["status"].as_str(), of_theirs()), (Some("SENT"), json!("SENT")));
        for token in [VERIFY_TOKEN, "outra-senha"] {
            let query = format!("hub.mode=subscribe&hub.verify_token={token}&hub.challenge=7");
            stage.server.get(&format!("{path}?{query}"), None).expect(200);
        }
    }
    let body = payload("2", &[status("delivered", "wamid.x", &theirs)]);
    post(&stage, CHANNEL, &signature("outro-segredo", &body), &body).expect(200);
    assert_eq!((stage.message("vendas", &id)["status"].as_str(), of_theirs()), (Some("SENT"), json!("DELIVERED")));
}

/// A body may name numbers of several apps. The app that signed it speaks for its own numbers alone.
#[test]
fn a_message_goes_to_the_numbers_of_the_app_that_signed_it() {
    let stage = Stage::linked();
    let key = another_institution(&stage);
    let received = |key: &str| {
        let path = "/v1/channels/vendas/messages?direction=INBOUND";
        let page = stage.server.get(path, Some(key)).expect(200).json();
        page["data"].as_array().expect("a list").iter().map(|message| message["content"].clone()).collect::<Vec<_>>()
    };
    for path in [APP, CHANNEL] {
        let mut both = Vec::new();
        for number in ["2", NUMBER] {
            let said = Delivery::new().message(&Person::with_phone("5511977776666", "Ana"), &Said::text(path));
            let mut body = said.body(&Number::example(number));
            both.append(body["entry"].as_array_mut().expect("a list"));
        }
        let body = json!({"object": "whatsapp_business_account", "entry": both}).to_string();
        post(&stage, path, &signature("outro-segredo", body.as_bytes()), body.as_bytes()).expect(200);
    }
    assert_eq!(received(&key).len(), 2);
    assert_eq!(received(&stage.key), [Value::Null; 0]);
}

#[test]
fn repeated_and_late_statuses_change_nothing() {
    let (stage, id) = sent();
    let remote = stage.message("vendas", &id)["networkId"].as_str().expect("an id").to_owned();
    let post = |what: &str| post_signed(&stage, APP, &payload(NUMBER, &[status(what, &remote, &id)])).expect(200);
    post("read");
    let read = stage.message("vendas", &id);
    assert_eq!(read["status"], "READ");
    for late in ["sent", "delivered", "read", "failed", "sent"] {
        post(late);
        assert_eq!(stage.message("vendas", &id), read, "{late}");
    }
    let all: Vec<_> = ["failed", "read", "delivered", "sent"].map(|what| status(what, &remote, &id)).to_vec();
    post_signed(&stage, CHANNEL, &payload(NUMBER, &all)).expect(200);
    assert_eq!(stage.message("vendas", &id), read);
}

#[test]
fn a_failure_that_overtakes_the_answer_is_recorded() {
    let stage = Stage::linked();
    let window = GraphError::new(0, 131_047, "Re-engagement message");
    let failed = Callback::from(Status::Failed(vec![window])).without_opaque_id();
    stage.graph.behave(move |_| Behaviour::accept().calling_back([failed.clone()]).callbacks_first());
    let id = stage.accept("vendas", "5511999998888");
    let message = stage.until("vendas", &id, "FAILED");
    assert_eq!(message["error"]["code"], "WINDOW_CLOSED");
    assert!(message["error"]["message"].as_str().expect("a text").contains("131047"), "{message}");
    assert_eq!(message["networkId"], json!(stage.graph.attempts()[0].wamid));
}

#[test]
fn a_status_resolves_an_unknown_message() {
    let stage = Stage::linked();
    stage.graph.behave(|_| Behaviour::accept().answering(Reply::Lost).calling_back([] as [Status; 0]));
    for (reported, state) in [("sent", "SENT"), ("delivered", "DELIVERED"), ("read", "READ"), ("failed", "FAILED")] {
        let id = stage.accept("vendas", "5511999998888");
        stage.until("vendas", &id, "UNKNOWN");
        post_signed(&stage, APP, &payload(NUMBER, &[status(reported, "wamid.x", &id)])).expect(200);
        let message = stage.message("vendas", &id);
        assert_eq!((&message["status"], &message["networkId"]), (&json!(state), &json!("wamid.x")));
    }
    assert_eq!(stage.graph.attempts().len(), 4);
}

/// With a channel `vendas`, and five failures a minute.
fn strict() -> Stage {
    let graph = FakeGraph::start();
    graph.add_number(Number::example(NUMBER));
    let home = Home::init();
    let mut strict = command(&home, &graph);
    strict.args(["serve", "--data-dir", home.dir(), "--listen", "127.0.0.1:0", "--auth-failures", "5"]);
    let key = create_key(&home, "live", "messages.send,messages.read,channels.read,channels.write", "unlimited");
    let stage = Stage { server: Server::start(strict, &home), home, graph, key };
    stage.link("vendas", NUMBER);
    stage
}

fn fail_until_refused(stage: &Stage, body: &[u8]) {
    for n in 0..5 {
        let path = [APP, CHANNEL, "/v1/callbacks/meta/nada"][n % 3];
        assert_refused(path, &post(stage, path, "sha256=00", body), FORBIDDEN);
    }
    for path in [APP, CHANNEL, "/v1/callbacks/meta/nada"] {
        assert_refused(path, &post(stage, path, "sha256=00", body), TOO_MANY);
        assert_refused(path, &stage.server.get(&format!("{path}?hub.mode=subscribe"), None), TOO_MANY);
    }
}

/// Over the limit no token is checked and no large body is read. A small body that names one of our numbers is checked:
/// failing callers may share their address with Meta, and do not keep Meta out.
#[test]
fn unauthenticated_callers_over_the_limit_cost_little_and_do_not_block_meta() {
    let stage = strict();
    let body = payload(NUMBER, &[]);
    fail_until_refused(&stage, &body);
    let of_unknown = payload("106540352249999", &[]);
    assert_refused("a signed body of an unknown number", &post_signed(&stage, APP, &of_unknown), TOO_MANY);
    let right = format!("{APP}?hub.mode=subscribe&hub.challenge=1&hub.verify_token={VERIFY_TOKEN}");
    assert_refused("the right token", &stage.server.get(&right, None), TOO_MANY);
    let mut socket = TcpStream::connect(&stage.server.address).expect("a connection");
    let signature = signature(&secret(), &body);
    let head = format!("POST {APP} HTTP/1.1\r\nHost: x\r\n{HEADER}: {signature}\r\nContent-Length: 60000\r\n\r\n");
    socket.write_all(head.as_bytes()).expect("written");
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).expect("an answer without the body");
    assert_eq!(std::str::from_utf8(&answer), Ok("HTTP/1.1 429"));
    // Callers with a key continue from the same address, and so does Meta.
    stage.channel("vendas");
    post_signed(&stage, APP, &body).expect(200);
}

/// Meta and unknown callers share the address of a proxy: the unknown callers do not lock Meta out.
#[test]
fn an_address_with_signed_callbacks_is_not_locked_out() {
    let stage = strict();
    let body = payload(NUMBER, &[]);
    post_signed(&stage, APP, &body).expect(200);
    fail_until_refused(&stage, &body);
    post_signed(&stage, APP, &body).expect(200);
    post_signed(&stage, CHANNEL, &body).expect(200);
}
