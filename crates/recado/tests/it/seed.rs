//! The document that this product implements, `tests/seed/send-contact.txt`: its three examples run unchanged, and the
//! answers are the ones that it prints.
//!
//! Examples and answers are extracted from the document here, so that the test runs the document itself. Only scheme and
//! host, key and channel are replaced.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Answer, Home, Server, wait_for};

const DOCUMENT: &str = include_str!("../seed/send-contact.txt");

/// The 400 of the document: its request without the name.
const NAMELESS: &str = r#"{"to":"5511999998888","phone":"5511988887777"}"#;

// --- The examples ---

#[test]
fn the_curl_example() {
    let settings = tempfile::tempdir().expect("a temporary directory");
    // The option is in the settings file, so that the command line stays the document's: curl prints the status besides.
    std::fs::write(settings.path().join(".curlrc"), "silent\nshow-error\nwrite-out = \"%{stderr}%{http_code}\\n\"\n")
        .expect("curl's settings");
    let mut shell = tool("sh");
    shell.env("CURL_HOME", settings.path());
    let printed = a_card_arrives(|server, home| {
        shell.args(["-c", &example("curl -X POST", "const axios", server, home)]);
        run(&mut shell)
    });
    assert_eq!(printed, response(202));
}

#[test]
fn the_node_example() {
    let mut node = tool("node");
    node.env("NODE_PATH", from_dev("RECADO_TEST_NODE_PATH"));
    let printed = a_card_arrives(|server, home| {
        let body = example("const axios", "import requests", server, home);
        let script = format!(
            "async function example() {{\n{body}\nconsole.error(String(response.status));\n}}\n\
             example().catch((error) => {{ console.error(String(error)); process.exit(1); }});"
        );
        node.args(["-e", &script]);
        run(&mut node)
    });
    assert_eq!(printed, "{ success: true, message: 'Mensagem enfileirada para envio' }\n");
}

#[test]
fn the_python_example() {
    let mut python = tool(from_dev("RECADO_TEST_PYTHON"));
    let printed = a_card_arrives(|server, home| {
        let script = example("import requests", "Response", server, home);
        python.args(["-c", &format!("{script}\nimport sys\nprint(response.status_code, file=sys.stderr)\n")]);
        run(&mut python)
    });
    assert_eq!(printed, "{'success': True, 'message': 'Mensagem enfileirada para envio'}\n");
}

/// Runs an example against its own server; waits for its card on the sandbox phone. Returns the output.
fn a_card_arrives(run_example: impl FnOnce(&Server, &Home) -> String) -> String {
    let home = Home::init();
    let key = home.unlimited_key();
    let server = home.serve();
    let printed = run_example(&server, &home);

    let mut shown = Vec::new();
    wait_for("the card to arrive", || {
        let answer = server.get("/v1/sandbox/messages", Some(&key)).expect(200).json();
        shown.clone_from(answer["data"].as_array().expect("a list"));
        !shown.is_empty()
    });
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert_card(&shown[0]);
    printed
}

/// The card of the examples, as the sandbox phone shows it.
fn assert_card(shown: &Value) {
    assert_eq!(shown["type"], "contact", "{shown}");
    assert_eq!(shown["arrivals"], 1, "{shown}");
    // The last eight digits: a network may know the account without Brazil's ninth digit.
    assert!(shown["to"].to_string().contains("99998888"), "{shown}");
    let card: Vec<&str> = shown["vcard"].as_str().expect("a vCard").split('\n').collect();
    let [begin, version, n, full_name, tel, end] = card[..] else { panic!("not six lines: {card:?}") };
    assert_eq!(
        [begin, version, n, full_name, end],
        ["BEGIN:VCARD", "VERSION:3.0", "N:;Maria Silva - Suporte;;;", "FN:Maria Silva - Suporte", "END:VCARD"]
    );
    assert!(tel.starts_with("TEL;type=CELL;type=VOICE;waid=55119"), "{tel}");
    assert!(tel.ends_with(":+5511988887777"), "{tel}");
}

// --- The refusals ---

#[test]
fn missing_name_is_the_documents_400() {
    let home = Home::init();
    let server = home.serve();
    let answer = send(&server, &home, Some(&home.test_key), NAMELESS);
    assert_eq!(answer.expect(400).text(), response(400));
}

#[test]
fn no_key_and_bad_keys_are_the_documents_401() {
    let home = Home::init();
    let server = home.serve();
    // A valid key of another installation, a key with a typing error in its last character, which the checksum detects, and
    // texts that never were keys.
    let foreign = Home::init().test_key.clone();
    let mut mistyped = home.test_key.clone();
    let last = mistyped.pop().expect("a key");
    mistyped.push(if last == 'a' { 'b' } else { 'a' });
    for key in [None, Some(&*foreign), Some(&*mistyped), Some("oapi_sk_test_x"), Some("{API_KEY}")] {
        let answer = send(&server, &home, key, &body());
        assert_eq!(answer.header("WWW-Authenticate"), Some("Bearer"), "{key:?}");
        assert_eq!(answer.expect(401).text(), response(401), "{key:?}");
    }
}

#[test]
fn an_exhausted_key_is_the_documents_429() {
    let home = Home::init();
    let scope = ["--environment", "test", "--scopes", "messages.send", "--rate-limit", "2"];
    let created = home.cli(&[&["keys", "create", "--name", "two"], &scope[..]].concat());
    let key = created["key"].as_str().expect("a key");
    let server = home.serve();
    for _ in 0..2 {
        assert_eq!(send(&server, &home, Some(key), &body()).expect(202).text(), response(202));
    }
    let answer = send(&server, &home, Some(key), &body()).expect(429);
    assert_eq!(answer.text(), response(429));
    let wait: u32 = answer.header("Retry-After").expect("Retry-After").parse().expect("whole seconds");
    // With two calls a minute the next one is due within 30 seconds.
    assert!((1..=30).contains(&wait), "Retry-After: {wait}");
}

fn send(server: &Server, home: &Home, key: Option<&str>, body: &str) -> Answer {
    let path = format!("/v1/channels/{}/messages/contact", home.sandbox_channel);
    server.call("POST", &path, key, &[("Content-Type", "application/json")], Some(body.as_bytes()))
}

// --- The document ---

/// The part of the document from the line that starts with `first` to the one before the line that starts with `next`.
fn section(first: &str, next: &str) -> String {
    let lines = DOCUMENT.lines().skip_while(|line| !line.starts_with(first));
    let lines: Vec<&str> = lines.take_while(|line| !line.starts_with(next)).collect();
    assert!(!lines.is_empty(), "the document has no line that starts with {first:?}");
    lines.join("\n")
}

/// An example as it is, with scheme and host, key and channel replaced.
fn example(first: &str, next: &str, server: &Server, home: &Home) -> String {
    let replaced = [
        ("https://oapi.ogmma.com.br", server.url("")),
        ("{channelId}", home.sandbox_channel.clone()),
        ("{API_KEY}", home.test_key.clone()),
    ];
    replaced.iter().fold(section(first, next), |example, (from, to)| {
        assert_eq!(example.matches(from).count(), 1, "{from} must occur once in the example: {example}");
        example.replace(from, to)
    })
}

/// The body that the curl example sends, minified.
fn body() -> String {
    let example = section("curl -X POST", "const axios");
    let (_, body) = example.split_once("-d '").expect("the example has a body");
    minified(body.trim_end().strip_suffix('\'').expect("the body ends the example"))
}

/// The document's answer with that status, minified.
fn response(status: u16) -> String {
    let title = format!("{status} - ");
    let lines = DOCUMENT.lines().skip_while(|line| !line.starts_with(&title)).skip(1);
    // The section ends at the next title: it starts with a digit, and no line of the document's JSON does.
    let json: String = lines.take_while(|line| !line.starts_with(|c: char| c.is_ascii_digit())).collect();
    assert!(json.starts_with('{'), "the document has no answer {status}");
    minified(&json)
}

/// The JSON without the spaces between its parts, and with its keys in their order.
fn minified(json: &str) -> String {
    let (mut quoted, mut escaped) = (false, false);
    let mut keep = |c: char| {
        let kept = quoted || !c.is_ascii_whitespace();
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        kept
    };
    json.chars().filter(|c| keep(*c)).collect()
}

#[test]
fn the_seed_document_is_parsed_unchanged() {
    assert_eq!(response(202), r#"{"success":true,"message":"Mensagem enfileirada para envio"}"#);
    let refusals = [response(400), response(401), response(429)];
    let codes = refusals.map(|json| serde_json::from_str::<Value>(&json).expect("JSON")["code"].clone());
    assert_eq!(codes, ["VALIDATION_ERROR", "UNAUTHORIZED", "RATE_LIMIT_EXCEEDED"]);
    assert_eq!(body(), r#"{"to":"5511999998888","name":"Maria Silva - Suporte","phone":"5511988887777"}"#);
    assert_eq!(minified(r#"{ "a b" : "c \" d" }"#), r#"{"a b":"c \" d"}"#);
}

// --- The programs ---

/// The value that `./dev test` passes to the tests about the machine.
pub fn from_dev(name: &str) -> PathBuf {
    std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: run ./dev test")).into()
}

/// A program of the machine, which connects to the server without a proxy.
pub fn tool(program: impl Into<PathBuf>) -> Command {
    let mut command = Command::new(program.into());
    command.env("no_proxy", "*").env("NO_PROXY", "*");
    command
}

/// Runs an example: it succeeds and prints the status 202 on standard error. Returns its standard output.
#[track_caller]
fn run(command: &mut Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().unwrap_or_else(|error| panic!("{program} does not start ({error}): run ./dev test"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} failed; if a tool or library is missing: run ./dev test\n{stderr}");
    // The status has its own line, because a new release of a library may print a warning there.
    assert!(stderr.lines().any(|line| line == "202"), "the status was not 202: {stderr}");
    String::from_utf8(output.stdout).expect("UTF-8")
}
