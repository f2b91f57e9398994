//! `DELETE /v1/channels/{channelId}/messages/{messageId}`: cancels a message that is still queued.

use serde_json::{Value, json};

use crate::harness::wait_for;
use crate::v1::{CARD, NOT_CANCELLABLE, Stage, assert_refused, card};

#[test]
fn a_cancelled_message_is_never_sent() {
    let stage = Stage::set();
    stage.open("held", &["connect", "pause"]);
    let all: Vec<_> =
        (0..3).map(|number| stage.accept("held", &[], &card("5511999996101", &number.to_string()))).collect();
    let answer = stage.server.delete(&all[1], Some(&stage.key)).expect(200);
    let message = answer.json()["data"].clone();
    assert_eq!(
        (&message["status"], &message["error"], &message["attempts"]),
        (&json!("CANCELLED"), &Value::Null, &json!(0))
    );
    assert!(message["cancelledAt"].is_string(), "{message}");
    assert_eq!(stage.data(&all[1]), message);
    assert_refused("twice", &stage.server.delete(&all[1], Some(&stage.key)), NOT_CANCELLABLE);
    stage.act("held", "resume");
    stage.until(&all[2], "READ");
    let names: Vec<_> = stage.phone("5511999996101").iter().map(|shown| shown["contact"]["name"].clone()).collect();
    assert_eq!(names, ["2", "0"]);
    assert_eq!(stage.data(&all[1]), message);
}

#[test]
fn sent_messages_stay_sent() {
    let stage = Stage::set();
    let read = stage.accept("sandbox", &[], CARD);
    stage.until(&read, "READ");
    let failed = stage.accept("sandbox", &[], &card("5511900000001", "Nobody"));
    stage.until(&failed, "FAILED");
    for location in [read, failed] {
        let before = stage.data(&location);
        assert_refused(&location, &stage.server.delete(&location, Some(&stage.key)), NOT_CANCELLABLE);
        assert_eq!(stage.data(&location), before);
    }
}

/// A message is queued between two attempts. If the network certainly did not accept it, it can be cancelled.
#[test]
fn a_message_between_two_attempts_can_be_cancelled() {
    let stage = Stage::set();
    let scenario = [("X-Ogmma-Sandbox-Scenario", "channel_disconnected")];
    let location = stage.accept("sandbox", &scenario, CARD);
    let behind = stage.accept("sandbox", &[], &card("5511999996102", "Behind"));
    // The network is down for five seconds.
    wait_for("the first attempt to fail", || {
        let message = stage.data(&location);
        message["attempts"] == 1 && message["status"] == "QUEUED"
    });
    stage.server.delete(&location, Some(&stage.key)).expect(200);
    stage.until(&behind, "READ");
    let message = stage.data(&location);
    assert_eq!((&message["status"], &message["attempts"]), (&json!("CANCELLED"), &json!(1)));
    assert_eq!(stage.phone("5511999998888"), Vec::<Value>::new());
}

#[test]
fn a_cancel_survives_a_crash() {
    let stage = Stage::set();
    stage.open("held", &["connect", "pause"]);
    let location = stage.accept("held", &[], CARD);
    stage.server.delete(&location, Some(&stage.key)).expect(200);
    let stage = stage.crash(&[]);
    stage.act("held", "resume");
    stage.until(&stage.accept("held", &[], &card("5511999996103", "Later")), "READ");
    assert_eq!(stage.data(&location)["status"], "CANCELLED");
    assert_eq!(stage.phone("5511999998888"), Vec::<Value>::new());
}

/// The card is on the phone already, and the gateway cannot know it: `CANCELLED` would be false.
#[test]
fn a_message_without_an_answer_cannot_be_cancelled() {
    let stage = Stage::set();
    let lost = stage.accept("sandbox", &[("X-Ogmma-Sandbox-Scenario", "lost_answer")], &card("5511999996109", "Lost"));
    wait_for("the first arrival", || stage.phone("5511999996109").len() == 1);
    wait_for("the lost answer", || stage.data(&lost)["status"] == "QUEUED" || stage.data(&lost)["attempts"] == 2);
    assert_refused(&lost, &stage.server.delete(&lost, Some(&stage.key)), NOT_CANCELLABLE);
    stage.until(&lost, "READ");
    assert_eq!(stage.phone("5511999996109")[0]["arrivals"], 2);
}
