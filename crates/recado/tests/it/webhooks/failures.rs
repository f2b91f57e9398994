//! Receivers that fail: each event arrives at least once, or is a dead letter with a reason.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};

use super::receiver::{Dead, Receiver, Reply};
use super::{Hook, LOOPBACK, Stage};
use crate::harness::{Server, wait_for};

/// No retry, so that one attempt decides.
fn once() -> Value {
    json!({"retryPolicy": {"maxRetries": 0}})
}

#[test]
fn a_failed_delivery_is_sent_again_with_the_same_bytes() {
    let receiver = Receiver::answering(|_, number| Reply::Status(if number == 0 { 500 } else { 200 }, ""));
    let stage = Stage::set();
    let more = json!({"retryPolicy": {"maxRetries": 2, "retryDelay": 5000}});
    let hook = stage.hook(&receiver.url("/"), &["message.sent"], &more);
    stage.send("5511999998888");
    receiver.until(1);
    wait_for("the failure to be stored", || stage.log(&hook).first().is_some_and(|one| one["statusCode"] == 500));
    let waiting = stage.log(&hook).remove(0);
    assert_eq!((&waiting["status"], &waiting["error"]), (&json!("PENDING"), &json!("HTTP_STATUS")));
    assert!(waiting["nextAttemptAt"].is_string(), "{waiting}");
    assert!(stage.data(&hook.path)["failingSince"].is_string());
    let [first, second] = &receiver.until(2)[..] else { panic!("two") };
    assert!(second.at - first.at >= Duration::from_secs(5), "{:?}", second.at - first.at);
    assert_eq!((second.id(), &second.body), (first.id(), &first.body));
    assert_eq!((first.header("webhook-attempt"), second.header("webhook-attempt")), (None, Some("2")));
    assert_ne!(first.header("webhook-timestamp"), second.header("webhook-timestamp"));
    assert!(first.is_signed_with(&hook.secret) && second.is_signed_with(&hook.secret));
    let delivered = stage.until(&hook, "DELIVERED");
    let one = stage.data(&format!("{}/logs/{}", hook.path, delivered["id"].as_str().expect("an id")));
    let attempts = one["attempts"].as_array().expect("attempts");
    let codes: Vec<_> = attempts.iter().map(|attempt| attempt["statusCode"].clone()).collect();
    assert_eq!((codes, &one["attempt"]), (vec![json!(500), json!(200)], &json!(2)));
    assert!(stage.data(&hook.path)["failingSince"].is_null());
}

#[test]
fn every_kind_of_failure_has_its_name_and_an_endless_body_is_a_success() {
    let target = Receiver::start();
    let redirect = target.url("/elsewhere");
    let receiver = Receiver::answering(move |arrival, _| match arrival.path.as_str() {
        "/redirect" => Reply::Redirect(redirect.clone()),
        "/hang" => Reply::Hang,
        "/trickle" => Reply::Trickle,
        "/endless" => Reply::Endless,
        "/late" => Reply::Late(Duration::from_secs(10)),
        _ => Reply::Status(404, ""),
    });
    let (stage, dead) = (Stage::set(), Dead::start());
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        format!("http://{}/", listener.local_addr().expect("an address"))
    };
    let at = |path| receiver.url(path);
    let table = [
        (at("/missing"), "FAILED", json!("HTTP_STATUS"), json!(404)),
        (at("/redirect"), "FAILED", json!("REDIRECT"), json!(302)),
        (at("/hang"), "FAILED", json!("TIMEOUT"), Value::Null),
        (at("/trickle"), "FAILED", json!("TIMEOUT"), Value::Null),
        (dead.url("/"), "FAILED", json!("TIMEOUT"), Value::Null),
        (closed, "FAILED", json!("CONNECT_FAILED"), Value::Null),
        (at("/endless"), "DELIVERED", Value::Null, json!(200)),
        (at("/late"), "DELIVERED", Value::Null, json!(200)),
    ];
    let hooks: Vec<Hook> = table.iter().map(|(url, ..)| stage.hook(url, &["message.sent"], &once())).collect();
    stage.send("5511999998888");
    for (hook, (url, status, error, code)) in hooks.iter().zip(&table) {
        let ended = stage.until(hook, status);
        assert_eq!((&ended["error"], &ended["statusCode"]), (error, code), "{url}");
        let time = ended["responseTime"].as_u64().expect("a time");
        assert!(time <= 17_000, "{url}: {time} ms");
        assert!(ended["nextAttemptAt"].is_null(), "{url}");
    }
    assert!(target.arrivals().is_empty(), "a redirect was followed");
}

#[test]
fn an_address_that_a_name_has_now_may_be_refused() {
    let (stage, receiver) = (Stage::set(), Receiver::start());
    // The name leads to loopback, which only plain addresses of 127.0.0.0/8 are allowed for; ::1 is not.
    let url = format!("https://[::1]:{}/", receiver.port);
    let refused = stage.server.post("/v1/webhooks", &stage.key, &json!({"url": url, "events": ["*"]})).expect(400);
    assert_eq!(refused.json()["errors"][0]["message"], "O endereco do webhook nao e permitido.");
    let hook = stage.hook(&format!("https://localhost:{}/", receiver.port), &["message.sent"], &once());
    stage.send("5511999998888");
    let ended = stage.until(&hook, "FAILED");
    // By the addresses that this machine has for the name.
    let error = ended["error"].as_str().expect("an error");
    assert!(["ADDRESS_REFUSED", "TLS_FAILED"].contains(&error) && receiver.arrivals().is_empty(), "{error}");
}

#[test]
fn a_gone_address_disables_its_webhook_and_the_others_hear_of_it() {
    let receiver = Receiver::answering(|arrival, number| match arrival.path.as_str() {
        "/gone" if number < 3 => Reply::Status(410, ""),
        _ => Reply::Status(204, ""),
    });
    let stage = Stage::set();
    let witness = Receiver::start();
    stage.hook(&witness.url("/"), &["webhook.disabled"], &json!({}));
    let hook = stage.hook(&receiver.url("/gone"), &["message.sent"], &json!({"name": "o que sumiu"}));
    stage.send("5511999998888");
    wait_for("the webhook to be disabled", || stage.data(&hook.path)["active"] == false);
    let shown = stage.data(&hook.path);
    assert!(shown["disabledAt"].is_string() && shown["failingSince"].is_string(), "{shown}");
    let heard = witness.until(1).remove(0).json();
    assert_eq!(heard["event"], "webhook.disabled");
    let told = json!({"id": hook.id, "name": "o que sumiu", "url": receiver.url("/gone")});
    assert_eq!((&heard["data"]["webhook"], &heard["channelId"]), (&told, &Value::Null));
    assert_eq!(stage.until(&hook, "FAILED")["statusCode"], 410);
    // Nothing more is sent until it is enabled.
    stage.send("5511999998888");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(receiver.arrivals().len(), 1);
    let enabled = stage.put(&hook.path, &json!({"active": true, "url": receiver.url("/back")})).expect(200).json();
    assert!(enabled["data"]["disabledAt"].is_null() && enabled["data"]["failingSince"].is_null(), "{enabled}");
    stage.send("5511999998888");
    assert_eq!(receiver.until(2)[1].path, "/back");
}

#[test]
fn a_receiver_may_ask_for_a_longer_wait() {
    let receiver = Receiver::answering(|_, number| match number {
        0 => Reply::Status(503, "Retry-After: 3600\r\n"),
        _ => Reply::Status(204, ""),
    });
    let stage = Stage::set();
    stage.hook(&receiver.url("/"), &["message.sent"], &json!({"retryPolicy": {"retryDelay": 5000}}));
    stage.send("5511999998888");
    let [first, second] = &receiver.until(2)[..] else { panic!("two") };
    let wait = second.at - first.at;
    assert!(wait >= Duration::from_secs(10) && wait < Duration::from_secs(14), "{wait:?}");
}

#[test]
fn a_new_secret_starts_a_webhook_whose_key_was_lost() {
    const OTHER_KEY: &str = "4e574e574e574e574e574e574e574e574e574e574e574e574e574e574e574e57";
    let receiver = Receiver::start();
    let stage = Stage::set();
    let hook = stage.hook(&receiver.url("/"), &["message.sent"], &json!({}));
    let Stage { server, key, home } = stage;
    server.kill();
    let mut command = home.command(&LOOPBACK);
    command.env("RECADO_SECRET_KEY", OTHER_KEY);
    let stage = Stage { server: Server::start(command, &home), key, home };
    let test = format!("{}/test", hook.path);
    assert_eq!(stage.post(&test).status, 501, "a request was signed with a secret that cannot be read");
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    stage.put(&hook.path, &json!({"secret": secret})).expect(200);
    stage.post(&test).expect(200);
    let [tested] = &receiver.until(1)[..] else { panic!("one") };
    assert!(tested.is_signed_with(secret) && !tested.is_signed_with(&hook.secret), "{tested:?}");
}
