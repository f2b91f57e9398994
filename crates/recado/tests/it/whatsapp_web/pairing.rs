//! The pairing of a phone with a channel: codes to scan and to type, as events and in the terminal, and its end without a
//! link.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::{MARIA, OWNER, Stage, command, owner, serve};
use crate::harness::{PATIENCE, Server, recado, wait_for};

/// Follows a channel's pairing by events, until the server ends them.
fn follow(stage: &Stage, id: &str) -> Receiver<Value> {
    let (url, key) = (stage.server.url(&format!("/v1/channels/{id}/pairing")), stage.key.clone());
    let (sender, events) = channel();
    thread::spawn(move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).build().into();
        let call =
            agent.get(url).header("Authorization", format!("Bearer {key}")).header("Accept", "text/event-stream");
        let answer = call.call().expect("an answer");
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        // A killed server ends in the middle of a line.
        for line in BufReader::new(answer.into_body().into_reader()).lines().map_while(Result::ok) {
            if let Some(data) = line.strip_prefix("data: ") {
                sender.send(serde_json::from_str(data).expect("JSON")).expect("the test listens");
            }
        }
    });
    events
}

/// The next event; the second code comes a minute after the first.
#[track_caller]
fn next(events: &Receiver<Value>) -> Value {
    events.recv_timeout(2 * PATIENCE).expect("an event")
}

#[track_caller]
fn assert_over(events: &Receiver<Value>) {
    let after = events.recv_timeout(PATIENCE).err();
    assert_eq!(after, Some(std::sync::mpsc::RecvTimeoutError::Disconnected), "the events end");
}

fn code(pairing: &Value) -> &str {
    pairing["code"].as_str().unwrap_or_else(|| panic!("no code in {pairing}"))
}

#[test]
fn a_subscriber_gets_each_change_until_the_linking_is_over() {
    let stage = Stage::set();
    stage.create("vendas");
    // Without a call of `connect` there is only one event.
    let events = follow(&stage, "vendas");
    assert_eq!(next(&events)["status"], "IDLE");
    assert_over(&events);

    let pairing = stage.connect("vendas");
    let (one, two) = (follow(&stage, "vendas"), follow(&stage, "vendas"));
    for events in [&one, &two] {
        assert_eq!(next(events), pairing);
    }
    stage.whatsapp.scan(code(&pairing), &owner()).expect("it can be scanned");
    for events in [&one, &two] {
        assert_eq!(next(events)["status"], "LINKED");
        assert_over(events);
    }
}

#[test]
fn a_server_that_stops_ends_the_events() {
    let stage = Stage::set();
    stage.create("vendas");
    stage.connect("vendas");
    let events = follow(&stage, "vendas");
    assert_eq!(next(&events)["status"], "QR_CODE");
    stage.server.terminate();
    assert_over(&events);
    let Stage { home, server, whatsapp, key } = stage;
    assert_eq!(server.wait().code(), Some(0));
    // The pairing has ended, and the channel shows it.
    let server = serve(&home, &whatsapp);
    let stage = Stage { home, server, whatsapp, key };
    let channel = stage.channel("vendas");
    assert_eq!((&channel["state"], &channel["accepts"]), (&json!("CREATED"), &json!(false)), "{channel}");
    let pairing = stage.pairing("vendas");
    assert_eq!((&pairing["status"], &pairing["reason"]), (&json!("ENDED"), &channel["stateReason"]));
}

#[test]
fn unscanned_codes_are_replaced_and_then_expire() {
    let stage = Stage::set();
    stage.whatsapp.faults(|faults| faults.codes = Some(2));
    stage.create("vendas");
    let first = stage.connect("vendas");
    let events = follow(&stage, "vendas");
    assert_eq!(next(&events), first);
    let second = next(&events);
    assert_eq!(second["status"], "QR_CODE");
    assert_ne!(code(&second), code(&first));
    assert_eq!(stage.pairing("vendas"), second);
    let end = next(&events);
    assert_eq!(end["status"], "ENDED");
    let reason = end["reason"].as_str().expect("a reason");
    assert_over(&events);
    let channel = stage.until_state("vendas", "CREATED");
    assert_eq!(channel["stateReason"], reason);
    // Another call starts a new pairing.
    let pairing = stage.connect("vendas");
    stage.whatsapp.scan(code(&pairing), &owner()).expect("it can be scanned");
    stage.until_state("vendas", "CONNECTED");
}

#[test]
fn a_code_typed_on_the_phone_links_the_channel() {
    let stage = Stage::set();
    stage.create("vendas");
    let connect = |body: Value| stage.server.post("/v1/channels/vendas/connect", &stage.key, &body);
    for phone in [json!("12"), json!("telefone"), json!(5511)] {
        let answer = connect(json!({ "phone": phone })).expect(400).json();
        assert_eq!(answer["errors"][0]["field"], "phone", "{phone}");
    }
    assert_eq!(stage.channel("vendas")["state"], "CREATED");
    assert_eq!(connect(json!({ "phone": null })).expect(200).json()["data"]["pairing"]["status"], "QR_CODE");
    // A code to type is given on request, also while a code to scan is shown.
    let answer = connect(json!({ "phone": OWNER })).expect(200).json();
    let pairing = &answer["data"]["pairing"];
    assert_eq!((&pairing["status"], &pairing["qrCode"]), (&json!("PHONE_CODE"), &Value::Null), "{answer}");
    assert!(pairing["expiresAt"].is_string(), "{answer}");
    assert_eq!(stage.connect("vendas")["code"], pairing["code"], "asked twice");
    stage.whatsapp.type_code(code(pairing), &owner()).expect("it can be typed");
    let channel = stage.until_state("vendas", "CONNECTED");
    assert_eq!(channel["link"]["phone"], OWNER);
}

/// The phone of [`OWNER`], as its owner writes it.
const NATIONAL: &str = "(11) 4000-1000";

#[test]
fn the_phone_of_a_code_is_read_by_the_default_country_of_the_institution() {
    let stage = Stage::set();
    stage.create("vendas");
    let connect = || stage.server.post("/v1/channels/vendas/connect", &stage.key, &json!({ "phone": NATIONAL }));
    let refused = connect().expect(400).json();
    let text = "Informe o numero com o codigo do pais (DDI+DDD+NUM).";
    assert_eq!(refused["errors"], json!([{ "field": "phone", "message": text }]));
    stage.home.cli(&["institutions", "update", "--default-country", "BR"]);
    let answer = connect().expect(200).json();
    // The code works only on the phone of this number.
    stage.whatsapp.type_code(code(&answer["data"]["pairing"]), &owner()).expect("it can be typed");
    stage.until_state("vendas", "CONNECTED");
}

#[test]
fn a_phone_without_a_code_gets_an_error_and_can_try_again() {
    let stage = Stage::set();
    stage.whatsapp.faults(|faults| faults.phone_code_error = Some(400));
    stage.create("vendas");
    let connect = |body: Value| stage.server.post("/v1/channels/vendas/connect", &stage.key, &body);
    let answer = connect(json!({ "phone": OWNER })).expect(200).json();
    assert_eq!(answer["data"]["pairing"]["status"], "ENDED", "{answer}");
    let channel = stage.until_state("vendas", "CREATED");
    assert_eq!(channel["stateReason"], answer["data"]["pairing"]["reason"]);
    assert_eq!(stage.connect("vendas")["status"], "QR_CODE");
}

#[test]
fn the_terminal_draws_the_code_and_ends_when_it_is_scanned() {
    let stage = Stage::set();
    stage.create("vendas");
    let mut command = recado();
    command.args(["channels", "connect", "vendas", "--data-dir", stage.home.dir()]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    wait_for("a code", || stage.pairing("vendas")["status"] == "QR_CODE");
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut drawn = String::new();
    while !drawn.contains('\u{2588}') || !drawn.ends_with("\n\n") {
        assert_ne!(out.read_line(&mut drawn).expect("UTF-8"), 0, "it ended: {drawn}");
    }
    assert!(drawn.starts_with("On the phone: "), "{drawn}");
    stage.whatsapp.scan(code(&stage.pairing("vendas")), &owner()).expect("it can be scanned");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("UTF-8");
    assert!(rest.contains("CONNECTED") && rest.contains(OWNER), "{rest}");
}

#[test]
fn a_linking_that_is_given_up_leaves_the_channel_as_it_was() {
    let stage = Stage::set();
    stage.create("vendas");
    let pairing = stage.connect("vendas");
    stage.act("vendas", "disconnect").expect(200);
    let channel = stage.channel("vendas");
    assert_eq!((&channel["state"], &channel["accepts"]), (&json!("CREATED"), &json!(false)), "{channel}");
    assert_eq!(stage.pairing("vendas")["status"], "IDLE");
    wait_for("the code to be void", || stage.whatsapp.scan(code(&pairing), &owner()).is_err());
    // Such a channel cannot be paused either.
    stage.connect("vendas");
    stage.act("vendas", "pause").expect(409);

    // A channel was linked once, and is being linked again when the server is killed.
    stage.whatsapp.scan(code(&stage.pairing("vendas")), &owner()).expect("it can be scanned");
    stage.until_state("vendas", "CONNECTED");
    stage.whatsapp.log_out(OWNER);
    stage.until_state("vendas", "LOGGED_OUT");
    stage.connect("vendas");
    let stage = stage.crash();
    let channel = stage.channel("vendas");
    assert_eq!((&channel["state"], &channel["accepts"]), (&json!("LOGGED_OUT"), &json!(false)), "{channel}");
    assert_eq!(stage.pairing("vendas")["status"], "ENDED", "the code is not shown any more");
}

/// The build of these tests reaches loopback alone, and has no other address here.
#[test]
fn a_pairing_that_cannot_be_opened_says_why() {
    let stage = Stage::set();
    stage.create("vendas");
    let Stage { home, server, whatsapp, key } = stage;
    server.kill();
    let mut elsewhere = command(&whatsapp);
    elsewhere.env_remove("RECADO_WHATSAPP_WEB_URL");
    elsewhere.args(["serve", "--data-dir", home.dir(), "--listen", "127.0.0.1:0"]);
    let server = Server::start(elsewhere, &home);
    let stage = Stage { home, server, whatsapp, key };
    stage.act("vendas", "connect");
    let cause = "A sessao nao pode ser aberta: este programa e de testes e so alcanca a propria maquina.";
    let says = |reason: &Value| reason.as_str().is_some_and(|reason| reason.starts_with(cause));
    wait_for("the cause", || says(&stage.pairing("vendas")["reason"]));
    assert!(says(&stage.channel("vendas")["stateReason"]), "{}", stage.channel("vendas"));
    let log = stage.server.log();
    let line = log.lines().find(|line| line.contains("session for a pairing not opened")).expect("logged");
    assert!(line.contains("it reaches loopback addresses alone"), "{line}");
}

#[test]
fn a_server_without_a_key_for_its_secrets_links_nothing() {
    let stage = Stage::linked();
    stage.create("outro");
    let Stage { home, server, whatsapp, key } = stage;
    server.kill();
    let mut keyless = command(&whatsapp);
    keyless.env_remove("RECADO_SECRET_KEY").args(["serve", "--data-dir", home.dir(), "--listen", "127.0.0.1:0"]);
    let server = Server::start(keyless, &home);
    let stage = Stage { home, server, whatsapp, key };
    let refused = |answer: crate::harness::Answer| answer.expect(501).json()["code"].clone();
    assert_eq!(refused(stage.act("outro", "connect")), "SECRET_KEY_MISSING");
    let body = json!({"name": "novo", "type": "WHATSAPP_BAILEYS", "id": "novo"});
    assert_eq!(refused(stage.server.post("/v1/channels", &stage.key, &body)), "SECRET_KEY_MISSING");
    // The session of the linked channel stays closed, and the channel shows the reason.
    let channel = stage.until_state("vendas", "DISCONNECTED");
    wait_for("the reason", || {
        let reason = stage.channel("vendas")["stateReason"].clone();
        reason.as_str().unwrap_or_default().contains("nao pode ser aberta")
    });
    assert_eq!(channel["accepts"], true);
    let Stage { home, server, whatsapp, key } = stage;
    server.kill();
    let server = serve(&home, &whatsapp);
    let stage = Stage { home, server, whatsapp, key };
    stage.until_state("vendas", "CONNECTED");
}

/// The time for which a test watches for something that must not happen.
const A_WHILE: Duration = Duration::from_millis(500);

#[test]
fn a_disconnected_session_reconnects_without_a_code() {
    let stage = Stage::linked();
    let connections = || stage.whatsapp.counters().connections;
    stage.act("vendas", "disconnect").expect(200);
    wait_for("the session to be disconnected", || !stage.whatsapp.is_online(OWNER));
    let before = connections();
    thread::sleep(A_WHILE);
    assert_eq!(connections(), before, "it does not come back by itself");
    assert_eq!(stage.channel("vendas")["state"], "DISCONNECTED");
    // A pause and its end open no session, and claim none.
    stage.act("vendas", "pause").expect(200);
    let resumed = stage.act("vendas", "resume").expect(200).json()["data"].clone();
    assert_eq!(resumed["state"], "DISCONNECTED", "{resumed}");
    let reason = resumed["stateReason"].as_str().expect("a reason");
    assert!(!reason.contains("religando"), "{reason}");
    assert_eq!(stage.connect("vendas"), Value::Null, "no code");
    stage.until_state("vendas", "CONNECTED");
    wait_for("the session to be connected", || stage.whatsapp.is_online(OWNER));

    stage.act("vendas", "pause").expect(200);
    assert!(stage.whatsapp.is_online(OWNER), "a pause holds messages, not the session");
    let id = stage.accept("vendas", MARIA);
    thread::sleep(A_WHILE);
    assert_eq!(stage.message("vendas", &id)["status"], "QUEUED");
    stage.act("vendas", "resume").expect(200);
    stage.until("vendas", &id, "READ");
    assert_eq!(stage.channel("vendas")["state"], "CONNECTED");
}

#[test]
fn a_deleted_channel_is_unlinked_on_the_phone() {
    let stage = Stage::linked();
    assert_eq!(stage.whatsapp.one_time_keys(OWNER).len(), 1, "one linked device");
    stage.server.delete("/v1/channels/vendas", Some(&stage.key)).expect(200);
    assert_eq!(stage.whatsapp.one_time_keys(OWNER).len(), 0, "none");
    stage.get("/v1/channels/vendas").expect(404);
    // The name is free for another phone, and nothing remains of the former link.
    stage.link("vendas", &owner().at(2));
    assert_eq!(stage.channel("vendas")["link"]["phone"], OWNER);
}
