//! The network as a separate process.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_fake-whatsapp"))
}

/// Returns status and body.
fn ask(control: &str, path: &str, asked: &Value) -> (u16, Value) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut answer = agent.post(format!("{control}{path}")).send(asked.to_string()).expect("an answer");
    let body = answer.body_mut().read_to_string().expect("a text");
    (answer.status().as_u16(), serde_json::from_str(&body).expect("JSON"))
}

#[test]
fn it_prints_its_addresses_and_accepts_commands() {
    let mut running = Program(program().stdout(Stdio::piped()).spawn().expect("the program starts"));
    let mut first = String::new();
    BufReader::new(running.0.stdout.take().expect("piped")).read_line(&mut first).expect("a line");
    let first: Value = serde_json::from_str(&first).expect("JSON");
    assert!(first["url"].as_str().is_some_and(|url| url.starts_with("ws://127.0.0.1:")), "{first}");
    let control = first["control"].as_str().expect("an address");

    let (status, info) = ask(control, "/info", &json!({}));
    assert_eq!((status, &info["noise_key"]), (200, &first["noise_key"]));
    // Only the named faults change.
    ask(control, "/faults", &json!({ "no_read": true, "ack_delay_ms": 250 }));
    let (_, faults) = ask(control, "/faults", &json!({ "refusal": { "code": 463, "times": 1 } }));
    assert_eq!((&faults["no_read"], &faults["ack_delay_ms"]), (&json!(true), &json!(250)));
    assert_eq!(faults["refusal"], json!({ "code": 463, "times": 1 }));

    for (path, asked, error) in [
        ("/faults", json!({ "no_reed": true }), "unknown field `no_reed`"),
        ("/contact", json!({ "phone": 1 }), "phone is missing, or not a text"),
        ("/scan", json!({ "qr": "x", "account": "1", "lid": "2" }), "QR"),
        ("/say", json!({ "contact": "1", "account": "2", "text": "oi" }), "no device is linked to 2"),
        ("/nowhere", json!({}), "no such path: /nowhere"),
    ] {
        let (status, answer) = ask(control, path, &asked);
        assert_eq!(status, 400, "{path}");
        assert!(answer["error"].as_str().is_some_and(|text| text.contains(error)), "{path}: {answer}");
    }
}

#[test]
fn it_binds_loopback_only() {
    for addresses in [&["0.0.0.0:0"][..], &["127.0.0.1:0", "0.0.0.0:0"]] {
        let started = program().args(addresses).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut refused = Program(started.expect("the program starts"));
        let (mut first, mut output) = (String::new(), String::new());
        BufReader::new(refused.0.stdout.take().expect("piped")).read_line(&mut first).expect("a text");
        assert_eq!(first, "");
        refused.0.stderr.take().expect("piped").read_to_string(&mut output).expect("a text");
        assert!(!refused.0.wait().expect("it ends").success());
        assert!(output.contains("not an address of loopback"), "{output}");
    }
}
