//! Deliveries that arrive: their form, their signature, their order.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;

use super::receiver::{Receiver, Reply};
use super::{Hook, Stage};
use crate::harness::{Ended, SECRET_KEY, Server, recado, wait_for};

const SENT: [&str; 3] = ["message.sent", "message.delivered", "message.read"];

#[test]
fn an_event_is_posted_signed_and_logged() {
    let (stage, receiver) = (Stage::set(), Receiver::start());
    let hook = stage.hook(&receiver.url("/in?a=b"), &["message.*"], &json!({"headers": {"X-Gateway": "let me in"}}));
    assert!(hook.secret.starts_with("whsec_"), "{}", hook.secret);
    let message = stage.send("5511999998888");
    let arrivals = receiver.until(4);
    let names: Vec<_> = arrivals.iter().map(super::receiver::Arrival::event).collect();
    assert_eq!(names, [&["message.queued"][..], &SENT].concat());
    for arrival in &arrivals {
        assert!(arrival.is_signed_with(&hook.secret), "{arrival:?}");
        assert!(!arrival.is_signed_with("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
        let body = arrival.json();
        assert_eq!((arrival.path.as_str(), arrival.id()), ("/in?a=b", body["id"].as_str().expect("an id")));
        assert_eq!(body["data"]["messageId"], message);
        for (name, value) in [
            ("content-type", Some("application/json")),
            ("user-agent", Some("Recado-Webhooks/1")),
            ("x-gateway", Some("let me in")),
            ("webhook-attempt", None),
            ("webhook-replay", None),
        ] {
            assert_eq!(arrival.header(name), value, "{name}");
        }
        // The event is the same on every read.
        let read = stage.server.get(&format!("/v1/events/{}", arrival.id()), Some(&stage.key)).expect(200);
        assert_eq!(read.text(), format!("{{\"data\":{}}}", String::from_utf8_lossy(&arrival.body)));
    }
    wait_for("four delivered events", || {
        stage.log(&hook).iter().filter(|one| one["status"] == "DELIVERED").count() == 4
    });
    let newest = &stage.log(&hook)[0];
    assert_eq!((&newest["event"], &newest["eventId"]), (&json!("message.read"), &json!(arrivals[3].id())));
    assert_eq!(
        (&newest["webhookId"], &newest["statusCode"], &newest["attempt"]),
        (&json!(hook.id), &json!(204), &json!(1))
    );
    let one = stage.data(&format!("{}/logs/{}", hook.path, newest["id"].as_str().expect("an id")));
    assert_eq!(one["body"].as_str().map(str::as_bytes), Some(&*arrivals[3].body));
    assert_eq!(one["attempts"][0]["statusCode"], 204);
    let shown = stage.data(&hook.path);
    assert!(shown["lastDeliveredAt"].is_string() && shown["failingSince"].is_null(), "{shown}");
    assert!(!shown.to_string().contains("let me in") && !shown.to_string().contains(&hook.secret), "{shown}");
}

#[test]
fn a_webhook_receives_only_what_it_asks_for() {
    let (stage, receiver) = (Stage::set(), Receiver::start());
    stage.hook(&receiver.url("/read"), &["message.read"], &json!({}));
    stage.hook(&receiver.url("/bare"), &["message.sent"], &json!({"content": false}));
    let other = json!({"name": "other", "type": "SANDBOX", "id": "other"});
    stage.server.post("/v1/channels", &stage.key, &other).expect(201);
    stage.hook(&receiver.url("/other"), &["*"], &json!({"channelIds": ["other"]}));
    stage.hook(&receiver.url("/off"), &["*"], &json!({"active": false}));
    stage.send("5511999998888");
    let mut arrivals = receiver.until(2);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(receiver.arrivals().len(), 2, "{:?}", receiver.arrivals());
    arrivals.sort_by(|one, other| one.path.cmp(&other.path));
    let [bare, read] = &arrivals[..] else { panic!("two") };
    assert_eq!((bare.path.as_str(), bare.event().as_str()), ("/bare", "message.sent"));
    assert_eq!((read.path.as_str(), read.event().as_str()), ("/read", "message.read"));
    assert_eq!(read.json()["data"]["to"], "5511999998888");
    let data = &bare.json()["data"];
    assert!(data["to"].is_null() && data["networkId"].is_string() && data["messageId"].is_string(), "{data}");
    assert!(!String::from_utf8_lossy(&bare.body).contains("5511999998888"));
    // The other channel's events.
    stage.post("/v1/channels/other/connect").expect(200);
    let connected = &receiver.until(3)[2];
    assert_eq!((connected.path.as_str(), connected.event().as_str()), ("/other", "channel.connected"));
}

#[test]
fn a_replaced_secret_signs_beside_the_new_one() {
    let (stage, receiver) = (Stage::set(), Receiver::start());
    let hook = stage.hook(&receiver.url("/"), &["message.sent"], &json!({}));
    let new = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let changed = stage.put(&hook.path, &json!({"secret": new})).expect(200);
    assert!(!changed.text().contains(new) && !changed.text().contains("secret"), "{}", changed.text());
    // The same secret again is no other one.
    stage.put(&hook.path, &json!({"secret": new, "name": "outro nome"})).expect(200);
    stage.send("5511999998888");
    let arrival = &receiver.until(1)[0];
    let signatures = arrival.header("webhook-signature").expect("signatures");
    assert_eq!(signatures.split(' ').filter(|one| one.starts_with("v1,")).count(), 2, "{signatures}");
    assert!(arrival.is_signed_with(new) && arrival.is_signed_with(&hook.secret));
}

#[test]
fn events_of_a_message_wait_for_each_other_and_others_do_not() {
    // The first request fails: its message waits for the retry.
    let receiver = Receiver::answering(|arrival, _| {
        let first = arrival.json()["data"]["to"] == "5511999990001" && arrival.header("webhook-attempt").is_none();
        if first && arrival.event() == "message.sent" { Reply::Status(500, "") } else { Reply::Status(200, "") }
    });
    let stage = Stage::set();
    stage.hook(&receiver.url("/"), &SENT, &json!({"retryPolicy": {"retryDelay": 5000}}));
    let slow = stage.send("5511999990001");
    let others: Vec<_> = (2..10).map(|number| stage.send(&format!("551199999000{number}"))).collect();
    let arrivals = receiver.until(3 * 9 + 1);
    let mut by_message: HashMap<String, Vec<_>> = HashMap::new();
    for arrival in &arrivals {
        let data = arrival.json();
        let message = data["data"]["messageId"].as_str().expect("an id").to_owned();
        by_message.entry(message).or_default().push(arrival);
    }
    let names = |id: &str| by_message[id].iter().map(|arrival| arrival.event()).collect::<Vec<_>>();
    assert_eq!(names(&slow), [&["message.sent"][..], &SENT].concat());
    let retried = by_message[&slow][1].at;
    for other in &others {
        assert_eq!(names(other), SENT);
        assert!(by_message[other].iter().all(|arrival| arrival.at < retried), "another message waited");
    }
}

#[test]
fn deliveries_outlive_a_crash() {
    let receiver = Receiver::answering(|_, number| Reply::Status(if number == 0 { 500 } else { 204 }, ""));
    let stage = Stage::set();
    let hook = stage.hook(&receiver.url("/"), &["message.sent"], &json!({"retryPolicy": {"retryDelay": 5000}}));
    stage.send("5511999998888");
    receiver.until(1);
    wait_for("the failure to be stored", || stage.log(&hook).first().is_some_and(|one| one["statusCode"] == 500));
    let stage = stage.crash();
    let second = &receiver.until(2)[1];
    assert_eq!(second.header("webhook-attempt"), Some("2"));
    assert!(second.is_signed_with(&hook.secret));
    stage.until(&hook, "DELIVERED");
    // And a request that was in flight.
    let hanging = Receiver::answering(|_, number| if number == 0 { Reply::Hang } else { Reply::Status(204, "") });
    let other = stage.hook(&hanging.url("/"), &["message.sent"], &json!({}));
    stage.send("5511999998888");
    let first = hanging.until(1).remove(0);
    let stage = stage.crash();
    let again = hanging.until(2).remove(1);
    assert_eq!((again.id(), &again.body), (first.id(), &first.body));
    stage.until(&Hook { path: other.path, id: other.id, secret: other.secret }, "DELIVERED");
}

#[test]
fn a_new_key_of_the_server_seals_what_an_older_one_sealed() {
    const NEW: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";
    let receiver = Receiver::start();
    let stage = Stage::set();
    let hook = stage.hook(&receiver.url("/"), &["message.sent"], &json!({"headers": {"X-Gateway": "let me in"}}));
    let new = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    stage.put(&hook.path, &json!({"secret": new})).expect(200);
    let Stage { server, key, home } = stage;
    server.kill();
    let with = |keys: &str, args: &[&str]| {
        let mut command = recado();
        command.env("RECADO_SECRET_KEY", keys).args(args).args(["--data-dir", home.dir()]);
        command
    };
    // The secret, the one before, and the headers, of one webhook.
    let output = with(&format!("{NEW},{SECRET_KEY}"), &["secrets", "rotate", "--json"]).ended();
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&printed["sealedAnew"], &printed["failed"]), (&json!(1), &json!([])), "{printed}");
    let mut serve = with(NEW, &["serve", "--listen", "127.0.0.1:0"]);
    serve.args(super::LOOPBACK);
    let server = Server::start(serve, &home);
    super::send(&server, &key, "5511999998888");
    let arrival = receiver.until(1).remove(0);
    assert!(arrival.is_signed_with(new) && arrival.is_signed_with(&hook.secret));
    assert_eq!(arrival.header("x-gateway"), Some("let me in"));
}
