//! The sandbox's scenarios, by header and by number: the outcome of each, which affects only its own message.

use std::thread::scope;

use serde_json::{Value, json};

use super::assert_stored;
use crate::v1::{CARD, Stage, card, millis, text};

struct Row {
    scenario: &'static str,
    number: &'static str,
    status: &'static str,
    error: Option<&'static str>,
    attempts: u32,
    /// The number of arrivals; the phone shows the message once, or not at all.
    arrivals: u32,
    /// The shortest and the longest time until the message has its outcome, in milliseconds.
    takes: (i64, i64),
}

const ROWS: [Row; 5] = [
    Row {
        scenario: "number_not_on_whatsapp",
        number: "5511900000001",
        status: "FAILED",
        error: Some("NUMBER_NOT_ON_WHATSAPP"),
        attempts: 1,
        arrivals: 0,
        takes: (0, 5_000),
    },
    Row {
        scenario: "channel_disconnected",
        number: "5511900000002",
        status: "READ",
        error: None,
        attempts: 2,
        arrivals: 1,
        takes: (5_000, 15_000),
    },
    Row {
        scenario: "rate_limit",
        number: "5511900000003",
        status: "READ",
        error: None,
        attempts: 3,
        arrivals: 1,
        takes: (1, 15_000),
    },
    Row {
        scenario: "timeout",
        number: "5511900000004",
        status: "FAILED",
        error: Some("TIMEOUT"),
        attempts: 4,
        arrivals: 0,
        // Retried after 1, 5 and 15 s.
        takes: (21_000, 35_000),
    },
    Row {
        scenario: "lost_answer",
        number: "5511900000005",
        status: "READ",
        error: None,
        attempts: 2,
        arrivals: 2,
        takes: (1_000, 10_000),
    },
];

#[test]
fn every_scenario_ends_as_the_table_says_by_header_and_by_number() {
    let stage = &Stage::set();
    scope(|scope| {
        for (index, row) in ROWS.iter().enumerate() {
            let header = [("X-Ogmma-Sandbox-Scenario", row.scenario)];
            let plain = format!("551199999400{index}");
            scope.spawn(move || plays(stage, row, &format!("header-{index}"), &header, &plain));
            scope.spawn(move || plays(stage, row, &format!("number-{index}"), &[], row.number));
        }
        scope.spawn(|| others_are_not_affected(stage));
    });
}

/// Plays one scenario on its own channel, with a plain card before it and one behind it.
fn plays(stage: &Stage, row: &Row, channel: &str, headers: &[(&str, &str)], to: &str) {
    stage.open(channel, &["connect", "pause"]);
    let before = stage.accept(channel, &[], CARD);
    let played = stage.accept(channel, headers, &card(to, "Played"));
    let behind = stage.accept(channel, &[], CARD);
    stage.act(channel, "resume");
    let (before, played, behind) =
        (stage.until(&before, "READ"), stage.until(&played, row.status), stage.until(&behind, "READ"));
    let what = format!("{channel} {}", row.scenario);
    for plain in [&before, &behind] {
        assert_eq!((&plain["attempts"], &plain["error"]), (&json!(1), &Value::Null), "{what}: {plain}");
    }
    assert_eq!(played["attempts"], row.attempts, "{what}: {played}");
    let error = row.error.map(|code| (code, !text(&played["error"], "message").is_empty()));
    assert_eq!(played["error"]["code"].as_str().map(|code| (code, true)), error, "{what}: {played}");
    let end = millis(&played, if row.error.is_some() { "failedAt" } else { "sentAt" });
    let took = end - millis(&before, "sentAt");
    assert!((row.takes.0..=row.takes.1).contains(&took), "{what} took {took} ms");
    // The queue keeps its order: the message behind waits until this one is settled.
    assert!(millis(&before, "sentAt") <= millis(&played, "sendingAt"), "{what} overtook");
    assert!(millis(&behind, "sendingAt") >= end, "{what} was overtaken");
    on_the_phone(stage, row, channel, to, &played);
}

fn on_the_phone(stage: &Stage, row: &Row, channel: &str, to: &str, played: &Value) {
    let shown = stage.phone(to);
    let arrivals: Vec<_> =
        shown.iter().filter(|shown| shown["channelId"] == channel).map(|one| &one["arrivals"]).collect();
    let expected = if row.arrivals == 0 { vec![] } else { vec![row.arrivals] };
    assert_eq!(json!(arrivals), json!(expected), "{channel} {}", row.scenario);
    assert!(shown.iter().all(|shown| shown["networkId"] == played["networkId"]), "{shown:?}");
    assert_stored(stage, channel, 3);
}

/// During all these faults a plain channel works as ever.
fn others_are_not_affected(stage: &Stage) {
    stage.open("plain", &["connect"]);
    let trouble =
        stage.accept("sandbox", &[("X-Ogmma-Sandbox-Scenario", "timeout")], &card("5511999997000", "Trouble"));
    let fastest = (0..10)
        .map(|_| {
            let message = stage.until(&stage.accept("plain", &[], CARD), "READ");
            assert_eq!(message["attempts"], 1);
            millis(&message, "readAt") - millis(&message, "queuedAt")
        })
        .min();
    // "Within 1 s": the fastest of several, because this machine is busy with other tests.
    assert!(fastest.is_some_and(|took| took <= 1_000), "{fastest:?} ms until it was read");
    let trouble = stage.data(&trouble);
    assert!(matches!(text(&trouble, "status"), "QUEUED" | "SENDING"), "the plain channel waited for {trouble}");
}

/// A header names the scenario of one call, and has precedence over the number.
#[test]
fn a_header_wins_over_the_number() {
    let stage = Stage::set();
    let header = [("X-Ogmma-Sandbox-Scenario", "number_not_on_whatsapp")];
    let message = stage.until(&stage.accept("sandbox", &header, &card("5511900000005", "Both")), "FAILED");
    assert_eq!((&message["attempts"], &message["error"]["code"]), (&json!(1), &json!("NUMBER_NOT_ON_WHATSAPP")));
    // The number with punctuation is the same number.
    let message = stage.until(&stage.accept("sandbox", &[], &card("+55 (11) 90000-0001", "Signs")), "FAILED");
    assert_eq!(message["error"]["code"], "NUMBER_NOT_ON_WHATSAPP");
}
