//! `recado webhooks`.

use serde_json::{Value, json};

use super::{assert_fails, run_in};
use crate::harness::{Ended, recado, wait_for};
use crate::receiver::Receiver;
use crate::v1::text;
use crate::webhooks::Stage;

fn cli(stage: &Stage, args: &[&str]) -> Value {
    stage.home.cli(&[&["webhooks"], args].concat())
}

#[test]
fn a_webhook_is_created_changed_and_deleted() {
    let stage = Stage::set();
    let home = &stage.home;
    let (secret, headers) = (home.dir.join("secret"), home.dir.join("headers"));
    std::fs::write(&secret, "0123456789abcdef\n").expect("a file");
    std::fs::write(&headers, "Authorization: Bearer x:y\n\nX-Tenant: 7\n").expect("a file");
    let [secret, headers] = [&secret, &headers].map(|file| file.to_str().expect("UTF-8"));
    let made =
        cli(&stage, &["create", "--receiver", "https://crm.example.com/hook", "--events", "message.read,channel.*"]);
    assert!(text(&made, "secret").starts_with("whsec_"), "{made}");
    let id = text(&made, "id");
    let shown = cli(&stage, &["get", id]);
    assert_eq!((&shown["name"], &shown["events"]), (&json!("crm.example.com"), &json!(["message.read", "channel.*"])));
    assert!(shown.get("secret").is_none(), "{shown}");

    let flags =
        ["--name", "CRM", "--active", "false", "--max-retries", "3", "--retry-delay", "10s", "--order", "conversation"];
    let more = ["--channels", "sandbox", "--chat-kinds", "DIRECT,GROUP", "--content", "false"];
    let files = ["--headers-file", headers, "--secret-file", secret];
    let changed = cli(&stage, &[&["update", id][..], &flags, &more, &files].concat());
    let expected = json!({
        "name": "CRM", "active": false, "retryPolicy": {"maxRetries": 3, "retryDelay": 10_000}, "order": "conversation",
        "channelIds": ["sandbox"], "chatKinds": ["DIRECT", "GROUP"], "content": false,
        "url": "https://crm.example.com/hook", "events": ["message.read", "channel.*"],
    });
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&changed[name], value, "{name}");
    }
    assert_eq!(changed["headers"], json!(["Authorization", "X-Tenant"]));
    assert!(!changed.to_string().contains("x:y"), "{changed}");
    let reset = cli(&stage, &["update", id, "--long-schedule", "--all-channels", "--no-headers", "--new-secret"]);
    assert_eq!(
        (&reset["retryPolicy"], &reset["channelIds"], &reset["headers"]),
        (&Value::Null, &Value::Null, &json!([]))
    );
    assert!(text(&reset, "secret").starts_with("whsec_") && reset["secret"] != made["secret"], "{reset}");

    let listed = cli(&stage, &["list"]);
    assert_eq!((listed.as_array().map(Vec::len), &listed[0]["id"]), (Some(1), &json!(id)));
    let table = String::from_utf8(run_in(home.dir(), &["webhooks", "list"]).stdout).expect("UTF-8");
    assert!(table.contains("message.read,channel.*") && table.lines().count() == 2, "{table}");
    cli(&stage, &["delete", id]);
    assert_eq!(cli(&stage, &["list"]), json!([]));
    assert_fails(&run_in(home.dir(), &["webhooks", "get", id]), 1, &["There is no such webhook"]);
}

#[test]
fn deliveries_are_tested_logged_and_replayed() {
    let stage = Stage::set();
    let receiver = Receiver::start(&[("204 No Content", ""), ("500 x", ""), ("500 x", ""), ("", "")]);
    let create = [
        "create",
        "--receiver",
        &receiver.url,
        "--events",
        "message.read",
        "--max-retries",
        "0",
        "--retry-delay",
        "5s",
    ];
    let made = cli(&stage, &create);
    let id = text(&made, "id");
    let tested = cli(&stage, &["test", id]);
    assert_eq!(
        (&tested["status"], &tested["statusCode"], &tested["error"]),
        (&json!("DELIVERED"), &json!(204), &Value::Null)
    );
    assert_eq!(receiver.next().json()["event"], "webhook.test");
    // By the exit code a script sees that the receiver refused it.
    let refused = run_in(stage.home.dir(), &["webhooks", "test", id, "--event", "message.failed", "--json"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let refused: Value = serde_json::from_slice(&refused.stdout).expect("JSON");
    assert_eq!((&refused["statusCode"], &refused["error"]), (&json!(500), &json!("HTTP_STATUS")));
    assert_eq!(receiver.next().json()["event"], "message.failed");

    stage.send("5511999998888");
    let first = receiver.next();
    let failed = || cli(&stage, &["logs", id, "--status", "failed", "--event", "message.read"]);
    wait_for("the dead letter", || failed().as_array().map(Vec::len) == Some(1));
    let log = &failed()[0];
    assert_eq!((&log["statusCode"], &log["error"], &log["attempt"]), (&json!(500), &json!("HTTP_STATUS"), &json!(1)));
    let delivery = text(log, "id");
    let one = cli(&stage, &["logs", id, "--delivery", delivery]);
    assert_eq!(one["eventId"], json!(first.header("webhook-id")));
    assert_eq!(one["attempts"].as_array().map(Vec::len), Some(1), "{one}");
    cli(&stage, &["replay", id, "--delivery", delivery]);
    let again = receiver.next();
    assert_eq!((again.header("webhook-replay"), &again.body), ("true", &first.body));
    assert_eq!(again.header("webhook-id"), first.header("webhook-id"));
    wait_for("the delivery", || cli(&stage, &["logs", id, "--status", "DELIVERED"])[0]["id"] == json!(delivery));
    let range = cli(&stage, &["replay", id, "--from", "2026-01-01T00:00:00Z", "--status", "all"]);
    assert_eq!(range["count"], 1);
    assert_eq!(receiver.next().body, first.body);
}

#[test]
fn webhooks_work_by_http_and_refuse_what_is_wrong() {
    let stage = Stage::set();
    let remote = |args: &[&str]| {
        let mut command = recado();
        command.args(["webhooks"]).args(args).args(["--url", &stage.server.url("")]).env("RECADO_API_KEY", &stage.key);
        command.ended()
    };
    assert_eq!(remote(&["list"]).status.code(), Some(0));
    let here = |args: &[&str]| run_in(stage.home.dir(), &[&["webhooks"], args].concat());
    assert_fails(
        &here(&["create", "--receiver", "ftp://x", "--events", "*"]),
        1,
        &["url: The field url must be an https URL"],
    );
    assert_fails(
        &here(&["create", "--receiver", "https://x.example.com", "--events", "message.none"]),
        1,
        &["events: Unknown event: message.none."],
    );
    assert_fails(&here(&["update", "x"]), 2, &["nothing to change"]);
    assert_fails(&here(&["replay", "x"]), 2, &["--from"]);
    assert_fails(
        &here(&["create", "--receiver", "https://x.example.com", "--events", "*", "--max-retries", "3"]),
        2,
        &["--retry-delay"],
    );
    let empty = stage.home.dir.join("empty");
    std::fs::write(&empty, "\n").expect("a file");
    let empty = empty.to_str().expect("UTF-8");
    assert_fails(&here(&["update", "x", "--secret-file", empty]), 1, &["is empty"]);
    std::fs::write(empty, "X-Tenant\n").expect("a file");
    assert_fails(&here(&["update", "x", "--headers-file", empty]), 1, &["line 1 is no `Name: value`"]);
}
