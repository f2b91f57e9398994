//! The secrets of a link are never stored in plain text. Without the key that encrypted them the channel waits.

use std::process::{Command, Output};

use fake_graph::{FakeGraph, Number};
use serde_json::{Value, json};

use super::{NUMBER, Stage, VERIFY_TOKEN, command, credentials};
use crate::harness::{Ended, Home, Server, wait_for};

/// The secrets of [`credentials`]. The tests give callers another token, so that none is part of another.
fn secrets() -> [String; 3] {
    let number = Number::example(NUMBER);
    [number.access_token, number.app_secret.expect("one"), VERIFY_TOKEN.to_owned()]
}

#[track_caller]
fn assert_has_no_secret(what: &str, bytes: &[u8]) {
    for secret in secrets() {
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{what} holds {secret}");
    }
}

/// Checks the files of a data directory, and the files that SQLite keeps beside them.
fn assert_files_have_no_secret(home: &Home) {
    let files: Vec<_> = std::fs::read_dir(&home.dir).expect("a directory").map(|entry| entry.expect("one")).collect();
    let mut read = Vec::new();
    for file in files.iter().filter(|file| file.file_type().expect("a type").is_file()) {
        let name = file.file_name().to_string_lossy().into_owned();
        assert_has_no_secret(&name, &std::fs::read(file.path()).expect("a file"));
        read.push(name);
    }
    assert!(read.iter().any(|name| name == "recado.db"), "{read:?}");
}

#[test]
fn no_secret_is_shown_logged_or_stored_in_clear() {
    look_for_secrets(FakeGraph::start());
    // Another protocol, whose library logs other things.
    look_for_secrets(FakeGraph::start_with_tls());
}

fn look_for_secrets(graph: FakeGraph) {
    graph.add_number(Number::example(NUMBER));
    let home = Home::init();
    let mut traced = command(&home, &graph);
    traced.env("RECADO_LOG", "trace").args(["serve", "--data-dir", home.dir(), "--listen", "127.0.0.1:0"]);
    let key =
        crate::v1::create_key(&home, "live", "messages.send,messages.read,channels.read,channels.write", "unlimited");
    let stage = Stage { server: Server::start(traced, &home), home, graph, key };
    stage.take_callbacks();
    stage.create("vendas");
    let body = credentials(NUMBER);
    let mut answers = vec![stage.connect("vendas", &body).expect(200).body];
    // The answer to a refused body does not repeat the body.
    for (field, bad) in [("phoneNumberId", json!("x")), ("accessToken", json!("a b")), ("strange", json!(VERIFY_TOKEN))]
    {
        let mut body = body.clone();
        body[field] = bad;
        answers.push(stage.connect("vendas", &body).expect(400).body);
    }
    let broken = body.to_string().replace('}', "");
    let headers = [("Content-Type", "application/json")];
    let path = "/v1/channels/vendas/connect";
    answers.push(stage.server.call("POST", path, Some(&stage.key), &headers, Some(broken.as_bytes())).expect(400).body);
    let id = stage.accept("vendas", "5511999998888");
    answers.push(stage.until("vendas", &id, "READ").to_string().into_bytes());
    answers.push(stage.server.get("/v1/channels", Some(&stage.key)).expect(200).body);
    // Meta's own check of the address has the verify token in its query.
    let query = format!("hub.mode=subscribe&hub.verify_token={VERIFY_TOKEN}&hub.challenge=1158201444");
    answers.push(stage.server.get(&format!("/v1/callbacks/meta?{query}"), None).expect(200).body);
    stage.graph.set_access_token(NUMBER, "EAAGnovo");
    let id = stage.accept("vendas", "5511999998888");
    wait_for("the channel to be paused", || stage.channel("vendas")["state"] == "PAUSED");
    answers.push(stage.message("vendas", &id).to_string().into_bytes());
    answers.push(stage.channel("vendas").to_string().into_bytes());
    answers.iter().for_each(|answer| assert_has_no_secret("an answer", answer));
    assert_files_have_no_secret(&stage.home);
    let log = stage.server.log();
    assert!(log.contains("TRACE") && log.contains("channel moved"), "{log}");
    assert_has_no_secret("the log", log.as_bytes());
    let Stage { home, server, .. } = stage;
    server.terminate();
    server.wait();
    assert_files_have_no_secret(&home);
}

/// Restarts the server with another key.
fn with_another_key(stage: Stage) -> Stage {
    let Stage { home, server, graph, key } = stage;
    server.terminate();
    server.wait();
    let mut wrong = command(&home, &graph);
    wrong.env("RECADO_SECRET_KEY", super::ANOTHER_KEY).args([
        "serve",
        "--data-dir",
        home.dir(),
        "--listen",
        "127.0.0.1:0",
    ]);
    Stage { server: Server::start(wrong, &home), home, graph, key }
}

#[test]
fn a_wrong_secret_key_pauses_such_channels_and_no_other() {
    let stage = Stage::linked();
    let sandbox = stage.home.unlimited_key();
    let stage = with_another_key(stage);
    let channel = stage.channel("vendas");
    assert_eq!(channel["state"], "PAUSED");
    let reason = channel["stateReason"].as_str().expect("a reason");
    assert!(reason.contains("Falta a chave ") && reason.contains("RECADO_SECRET_KEY"), "{reason}");
    assert!(!reason.contains(super::ANOTHER_KEY) && !reason.contains(super::SECRET_KEY), "{reason}");
    let waits = stage.accept("vendas", "5511999998888");
    let card = json!({"to": "5511999998888", "name": "Maria", "phone": "5511988887777"});
    let other = stage.server.post("/v1/channels/sandbox/messages/contact", &sandbox, &card).expect(202);
    let path = format!("/v1/channels/sandbox/messages/{}", other.header("X-Message-Id").expect("an id"));
    wait_for("the sandbox to send", || stage.server.get(&path, Some(&sandbox)).json()["data"]["status"] == "READ");
    assert_eq!(stage.message("vendas", &waits)["status"], "QUEUED");
    // A resumed channel is paused again, and its queue still waits.
    stage.server.call("POST", "/v1/channels/vendas/resume", Some(&stage.key), &[], None).expect(200);
    wait_for("the channel to be paused again", || stage.channel("vendas")["state"] == "PAUSED");
    assert_eq!(stage.message("vendas", &waits)["status"], "QUEUED");
    // With the right key the channel continues by itself.
    let stage = stage.crash();
    stage.until("vendas", &waits, "READ");
    assert_eq!(stage.channel("vendas")["state"], "CONNECTED");
}

#[test]
fn a_persons_pause_outlives_a_missing_key() {
    let stage = Stage::linked();
    let stage = with_another_key(stage);
    stage.server.call("POST", "/v1/channels/vendas/pause", Some(&stage.key), &[], None).expect(200);
    assert_eq!(stage.channel("vendas")["stateReason"], "Pausado a pedido.");
    let stage = stage.crash();
    assert_eq!(stage.channel("vendas")["state"], "PAUSED");
}

/// Runs a command, and checks that it shows no secret.
fn run(mut command: Command, home: &Home, args: &[&str]) -> Output {
    let output = command.args(args).args(["--data-dir", home.dir(), "--json"]).ended();
    assert_has_no_secret("standard output", &output.stdout);
    assert_has_no_secret("standard error", &output.stderr);
    output
}

#[track_caller]
fn printed(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Writes the secrets to files, with a line break at the end, as usual. Returns the flags.
fn secret_files(home: &Home) -> Vec<String> {
    let flags = ["--access-token-file", "--app-secret-file", "--verify-token-file"];
    let file = |(flag, secret): (&str, String)| {
        let path = home.dir.with_extension(flag.trim_start_matches('-'));
        std::fs::write(&path, format!("{secret}\n")).expect("a file");
        [flag.to_owned(), path.to_str().expect("UTF-8").to_owned()]
    };
    flags.into_iter().zip(secrets()).flat_map(file).collect()
}

const IDS: [&str; 7] =
    ["channels", "connect", "vendas", "--phone-number-id", NUMBER, "--business-account-id", "102290129340398"];

#[test]
fn the_command_line_connects_beside_a_server_and_without_one() {
    let stage = Stage::set();
    let files = secret_files(&stage.home);
    let args: Vec<&str> = IDS.into_iter().chain(files.iter().map(String::as_str)).collect();
    let beside = run(command(&stage.home, &stage.graph), &stage.home, &args);
    assert!(!beside.status.success(), "there is no such channel");
    stage.create("vendas");
    let shown = printed(&run(command(&stage.home, &stage.graph), &stage.home, &args));
    assert_eq!((&shown["state"], &shown["link"]["receipts"]), (&json!("CONNECTED"), &json!("ON")));
    assert_eq!(stage.channel("vendas"), shown);
    let id = stage.accept("vendas", "5511999998888");
    stage.until("vendas", &id, "SENT");
    // Without a server, by the variables.
    let Stage { home, server, graph, key } = stage;
    server.terminate();
    server.wait();
    let [token, secret, verify] = secrets();
    printed(&run(command(&home, &graph), &home, &["channels", "disconnect", "vendas"]));
    graph.set_access_token(NUMBER, "EAAGnovo");
    let refused = run(command(&home, &graph), &home, &IDS[..3]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("accessToken"), "{refused:?}");
    // A new token needs no other field.
    let mut renewed = command(&home, &graph);
    renewed.env("RECADO_ACCESS_TOKEN", "EAAGnovo");
    let shown = printed(&run(renewed, &home, &IDS[..3]));
    assert_eq!((&shown["state"], &shown["link"]["receipts"]), (&json!("CONNECTED"), &json!("ON")));
    let empty = home.dir.with_extension("empty");
    std::fs::write(&empty, "\n").expect("a file");
    let empty = empty.to_str().expect("UTF-8");
    let refused = run(command(&home, &graph), &home, &[&IDS[..3], &["--app-secret-file", empty]].concat());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is empty"), "{refused:?}");
    graph.set_access_token(NUMBER, &token);
    let mut whole = command(&home, &graph);
    whole.env("RECADO_ACCESS_TOKEN", &token).env("RECADO_APP_SECRET", &secret).env("RECADO_VERIFY_TOKEN", &verify);
    assert_eq!(printed(&run(whole, &home, &IDS))["state"], "CONNECTED");
    let server = super::serve(&home, &graph);
    let stage = Stage { home, server, graph, key };
    stage.take_callbacks();
    let id = stage.accept("vendas", "5511999998888");
    stage.until("vendas", &id, "READ");
}

#[test]
fn the_command_line_changes_settings() {
    let stage = Stage::linked();
    let update = |args: &[&str]| {
        let args = [&["channels", "update", "vendas"], args].concat();
        run(command(&stage.home, &stage.graph), &stage.home, &args)
    };
    let before = stage.channel("vendas");
    let mut expected = json!({
        "pipeline": 16, "unknownPolicy": "leave", "unknownWaitSeconds": 600, "groups": "off", "ownDevice": "on",
        "inboundMedia": "lazy",
        "windowGuard": "off", "closeAfterHours": null, "optOutWords": ["SAIR", "PARAR", "STOP"], "keepRevoked": false,
        "autoRead": "off", "keepText": true,
    });
    assert_eq!(before["settings"], expected);
    let shown = printed(&update(&["--pipeline", "4", "--unknown-policy", "resend", "--unknown-wait", "5s"]));
    expected["pipeline"] = json!(4);
    expected["unknownPolicy"] = json!("resend");
    expected["unknownWaitSeconds"] = json!(5);
    assert_eq!(shown["settings"], expected);
    let shown = printed(&update(&[
        "--opt-out-words",
        "chega, nao quero",
        "--close-after",
        "48",
        "--window-guard",
        "refuse",
        "--keep-revoked",
        "true",
    ]));
    for (name, value) in [
        ("optOutWords", json!(["chega", "nao quero"])),
        ("closeAfterHours", json!(48)),
        ("windowGuard", json!("refuse")),
        ("keepRevoked", json!(true)),
    ] {
        expected[name] = value;
    }
    assert_eq!(shown["settings"], expected);
    let none = printed(&update(&["--opt-out-words", "", "--close-after", "unlimited"]));
    assert_eq!((&none["settings"]["optOutWords"], &none["settings"]["closeAfterHours"]), (&json!([]), &json!(null)));
    let shown = none;
    assert_eq!(stage.channel("vendas"), shown);
    for bad in [["--pipeline", "0"], ["--pipeline", "257"], ["--unknown-wait", "4s"], ["--unknown-policy", "maybe"]] {
        assert!(!update(&bad).status.success(), "{bad:?}");
    }
    assert_eq!(stage.channel("vendas"), shown);
    assert_eq!(printed(&update(&["--name", "Balcao"]))["settings"], shown["settings"]);
}
