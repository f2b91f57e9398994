//! Deliveries that are sent again on request, and tests.

use serde_json::{Value, json};

use super::Stage;
use super::receiver::{Receiver, Reply};
use crate::harness::wait_for;

#[test]
fn a_delivery_is_sent_again_with_the_same_id_and_bytes() {
    let (stage, receiver) = (Stage::set(), Receiver::start());
    let hook = stage.hook(&receiver.url("/"), &["message.sent"], &json!({}));
    stage.send("5511999998888");
    let id = stage.until(&hook, "DELIVERED")["id"].as_str().expect("an id").to_owned();
    let path = format!("{}/logs/{id}", hook.path);
    let answer = stage.post(&format!("{path}/replay")).expect(202).json();
    assert_eq!(answer, json!({"success": true, "message": "Reenvio agendado."}));
    let [first, second] = &receiver.until(2)[..] else { panic!("two") };
    assert_eq!((second.id(), &second.body), (first.id(), &first.body));
    assert_eq!((first.header("webhook-replay"), second.header("webhook-replay")), (None, Some("true")));
    assert!(second.is_signed_with(&hook.secret));
    wait_for("both attempts in the log", || stage.data(&path)["attempts"].as_array().is_some_and(|all| all.len() == 2));
    let attempts = stage.data(&path)["attempts"].take();
    assert_eq!((&attempts[0]["replay"], &attempts[1]["replay"]), (&json!(false), &json!(true)));
    // What is not there.
    let none = format!("{}/logs/dlv_{}/replay", hook.path, "0".repeat(32));
    assert_eq!(stage.post(&none).expect(404).json()["code"], "DELIVERY_NOT_FOUND");
    stage.put(&hook.path, &json!({"active": false})).expect(200);
    assert_eq!(stage.post(&format!("{path}/replay")).expect(409).json()["code"], "WEBHOOK_INACTIVE");
}

#[test]
fn dead_letters_are_sent_again_by_range() {
    // All requests fail until the test lets them through.
    let receiver = Receiver::answering(|_, number| Reply::Status(if number < 6 { 500 } else { 204 }, ""));
    let stage = Stage::set();
    let once = json!({"retryPolicy": {"maxRetries": 0}});
    let hook = stage.hook(&receiver.url("/"), &["message.sent", "message.read"], &once);
    (0..3).for_each(|number| drop(stage.send(&format!("551199999888{number}"))));
    let dead = || stage.log(&hook).iter().filter(|one| one["status"] == "FAILED").count();
    wait_for("six dead letters", || dead() == 6);
    let replay = |body: Value| {
        let answer = stage.server.post(&format!("{}/replay", hook.path), &stage.key, &body).expect(202).json();
        assert_eq!(answer["message"], "Reenvio agendado.");
        answer["data"]["count"].as_u64().expect("a number")
    };
    assert_eq!(replay(json!({"to": "2020-01-01T00:00:00Z"})), 0);
    assert_eq!(replay(json!({"events": ["message.read"], "status": "FAILED"})), 3);
    let again = receiver.until(9).split_off(6);
    assert!(again.iter().all(|arrival| arrival.event() == "message.read"), "{again:?}");
    wait_for("three deliveries", || dead() == 3);
    assert_eq!(replay(json!({})), 3);
    wait_for("six deliveries", || stage.log(&hook).iter().filter(|one| one["status"] == "DELIVERED").count() == 6);
    assert_eq!(replay(json!({})), 0);
    assert_eq!(replay(json!({"status": "ALL"})), 6);
    receiver.until(18);
    for (body, field) in [
        (json!({"from": "ontem"}), "from"),
        (json!({"from": "2026-12-30T00:00:00Z", "to": "2026-11-29T00:00:00Z"}), "to"),
        (json!({"from": "2026-11-29T00:00:00Z", "to": "2026-11-29T00:00:00Z"}), "to"),
        (json!({"status": "PENDING"}), "status"),
        (json!({"events": []}), "events"),
        (json!({"events": ["message.none"]}), "events"),
        (json!({"x": 1}), "x"),
    ] {
        let refused = stage.server.post(&format!("{}/replay", hook.path), &stage.key, &body).expect(400).json();
        assert_eq!(refused["errors"][0]["field"], field, "{body}");
    }
}

#[test]
fn a_test_is_sent_once_and_at_once() {
    let receiver = Receiver::answering(|arrival, _| match arrival.path.as_str() {
        "/bad" => Reply::Status(500, ""),
        _ => Reply::Status(200, ""),
    });
    let stage = Stage::set();
    let hook = stage.hook(&receiver.url("/"), &["message.sent"], &json!({}));
    let tested = stage.post(&format!("{}/test", hook.path)).expect(200).json();
    let data = &tested["data"];
    assert_eq!(
        (&data["status"], &data["statusCode"], &data["error"]),
        (&json!("DELIVERED"), &json!(200), &Value::Null)
    );
    assert!(data["responseTime"].is_u64(), "{tested}");
    let arrival = receiver.until(1).remove(0);
    assert!(arrival.is_signed_with(&hook.secret));
    let body = arrival.json();
    assert_eq!((&body["event"], &body["test"]), (&json!("webhook.test"), &json!(true)));
    assert_eq!(body["data"], json!({"message": "Teste de webhook"}));
    // An example of any event; also of a webhook without content, or that is not active.
    let bare = json!({"active": false, "content": false});
    let bad = stage.hook(&receiver.url("/bad"), &["message.sent"], &bare);
    let event = json!({"event": "message.received"});
    let failed = stage.server.post(&format!("{}/test", bad.path), &stage.key, &event).expect(200).json();
    assert_eq!(failed["data"]["status"], "FAILED");
    assert_eq!((&failed["data"]["statusCode"], &failed["data"]["error"]), (&json!(500), &json!("HTTP_STATUS")));
    let example = receiver.until(2).remove(1).json();
    assert_eq!((&example["event"], &example["test"]), (&json!("message.received"), &json!(true)));
    assert!(
        example["data"]["message"]["content"].is_null() && example["data"]["message"]["id"].is_string(),
        "{example}"
    );
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(receiver.arrivals().len(), 2, "a test is not repeated");
    assert_eq!(stage.log(&bad), [Value::Null; 0], "the log does not show tests");
    let unknown = stage.server.post(&format!("{}/test", bad.path), &stage.key, &json!({"event": "x"})).expect(400);
    assert_eq!(unknown.json()["errors"][0]["field"], "event");
}

#[test]
fn tests_at_a_time_are_few() {
    let receiver = Receiver::answering(|_, _| Reply::Late(std::time::Duration::from_secs(3)));
    let stage = Stage::set();
    let hook = stage.hook(&receiver.url("/"), &["message.sent"], &json!({}));
    let path = format!("{}/test", hook.path);
    let statuses = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..6).map(|_| scope.spawn(|| stage.post(&path).status)).collect();
        calls.into_iter().map(|call| call.join().expect("an answer")).collect::<Vec<_>>()
    });
    let of = |status| statuses.iter().filter(|one| **one == status).count();
    assert_eq!((of(200), of(429)), (4, 2), "{statuses:?}");
    stage.post(&path).expect(200);
}
