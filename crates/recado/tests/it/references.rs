//! Signatures of real deliveries, verified by the reference libraries of Standard Webhooks: on crates.io, npm and `PyPI`.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::receiver::{Received, Receiver};
use crate::seed::{from_dev, tool};
use crate::webhooks::Stage;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDazfgqzGWoYk=";
const HEADERS: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];

const NODE: &str = r#"
const { Webhook } = require("standardwebhooks");
const { secret, headers, body } = JSON.parse(require("fs").readFileSync(0, "utf8"));
try {
    new Webhook(secret).verify(body, headers);
    console.log("verified");
} catch (error) {
    console.log(`refused: ${error.constructor.name}`);
}
"#;

const PYTHON: &str = r#"
import json, sys
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
given = json.load(sys.stdin)
try:
    Webhook(given["secret"]).verify(given["body"], given["headers"])
    print("verified")
except WebhookVerificationError as error:
    print("refused: WebhookVerificationError")
"#;

/// The first delivery of a webhook.
fn delivery() -> Received {
    let stage = Stage::set();
    let receiver = Receiver::start(&[("", "")]);
    stage.hook(&receiver.url, &["message.sent"], &json!({ "secret": SECRET }));
    stage.send("5511999998888");
    receiver.next()
}

fn given(received: &Received, secret: &str, headers: &[(&str, &str)], body: &str) -> Value {
    let mut all: Vec<_> = HEADERS.iter().map(|name| (*name, received.header(name))).collect();
    all.extend(headers);
    let all: serde_json::Map<_, _> = all.into_iter().map(|(name, text)| (name.to_owned(), text.into())).collect();
    json!({"secret": secret, "headers": all, "body": body})
}

/// The library verifies the delivery, and refuses each change of it.
fn holds(verify: impl Fn(&Value) -> String) {
    let received = delivery();
    let body = String::from_utf8(received.body.clone()).expect("UTF-8");
    assert_eq!(verify(&given(&received, SECRET, &[], &body)), "verified");
    let time: i64 = received.header("webhook-timestamp").parse().expect("seconds");
    let (later, old) = ((time + 1).to_string(), (time - 600).to_string());
    let refused = [
        given(&received, SECRET, &[], &body.replace("message.sent", "message.read")),
        given(&received, SECRET, &[], &format!("{body} ")),
        given(&received, SECRET, &[("webhook-id", "evt_0")], &body),
        given(&received, SECRET, &[("webhook-timestamp", &later)], &body),
        given(&received, SECRET, &[("webhook-timestamp", &old)], &body),
        given(&received, &SECRET.replace('C', "D"), &[], &body),
    ];
    for given in refused {
        assert_eq!(verify(&given), "refused: WebhookVerificationError", "{given}");
    }
}

#[test]
fn the_crate_verifies() {
    holds(|given| {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let mut headers = ureq::http::HeaderMap::new();
        for name in HEADERS {
            headers.insert(name, text(&given["headers"][name]).parse().expect("a header's value"));
        }
        let webhook = Webhook::new(&text(&given["secret"])).expect("a secret");
        match webhook.verify(text(&given["body"]).as_bytes(), &headers) {
            Ok(()) => "verified".to_owned(),
            Err(_) => "refused: WebhookVerificationError".to_owned(),
        }
    });
}

#[test]
fn the_package_of_npm_verifies() {
    holds(|given| {
        let mut node = tool("node");
        node.env("NODE_PATH", from_dev("RECADO_TEST_NODE_PATH")).args(["-e", NODE]);
        run(&mut node, given)
    });
}

#[test]
fn the_package_of_pypi_verifies() {
    holds(|given| {
        let mut python = tool(from_dev("RECADO_TEST_PYTHON"));
        python.args(["-c", PYTHON]);
        run(&mut python, given)
    });
}

/// Runs a program with the JSON on its standard input. Returns the line that it prints.
fn run(command: &mut Command, given: &Value) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts: run ./dev test");
    child.stdin.take().expect("piped").write_all(given.to_string().as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8(output.stdout).expect("UTF-8").trim_end().to_owned()
}
