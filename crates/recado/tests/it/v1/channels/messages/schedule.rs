//! `sendAt`: a message waits for its time, whatever happens to the server meanwhile.

use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

use crate::v1::{CARD, Stage};

const LIST: &str = "/v1/channels/sandbox/messages";

#[expect(clippy::disallowed_methods, reason = "the server under test has the machine's clock")]
fn now() -> Timestamp {
    Timestamp::now()
}

fn scheduled(at: Timestamp, reference: &str) -> String {
    let mut body: Value = serde_json::from_str(CARD).expect("JSON");
    body["sendAt"] = at.to_string().into();
    body["reference"] = reference.into();
    body.to_string()
}

#[test]
fn a_scheduled_message_is_sent_when_it_is_due() {
    let stage = Stage::set();
    // The first message makes the dispatcher wait for long; the next one wakes it.
    let later = stage.accept("sandbox", &[], &scheduled(now() + 48.hours(), "amanha"));
    let due = now() + Duration::from_millis(5_500);
    let soon = stage.accept("sandbox", &[], &scheduled(due, "logo"));
    let at_once = stage.accept("sandbox", &[], CARD);
    // A quote cannot be sent before the message that it quotes.
    let mut quote: Value = serde_json::from_str(CARD).expect("JSON");
    quote["replyTo"] = stage.data(&later)["id"].clone();
    stage.server.post(&format!("{LIST}/contact"), &stage.key, &quote).expect(400);
    stage.until(&at_once, "READ");
    let waiting = stage.data(&soon);
    assert_eq!((&waiting["status"], &waiting["attempts"]), (&json!("QUEUED"), &json!(0)), "{waiting}");
    let shown: Timestamp = waiting["sendAt"].as_str().expect("a time").parse().expect("RFC 3339");
    assert_eq!(shown.as_millisecond(), due.as_millisecond());
    assert_eq!(stage.rows(&format!("{LIST}?scheduled=true")).len(), 2);
    assert_eq!(stage.rows(&format!("{LIST}?reference=logo")), [waiting]);
    assert_eq!(stage.rows(&format!("{LIST}?type=contact")).len(), 3);
    stage.until(&soon, "READ");
    let sent: Timestamp = stage.data(&soon)["sendingAt"].as_str().expect("a time").parse().expect("RFC 3339");
    assert!(sent.as_millisecond() >= due.as_millisecond(), "sent {sent}, due {due}");
    let left = stage.rows(&format!("{LIST}?scheduled=true"));
    assert_eq!(left.len(), 1, "{left:?}");
    stage.server.delete(&later, Some(&stage.key)).expect(200);
    assert_eq!(stage.rows(&format!("{LIST}?scheduled=true")), [] as [Value; 0]);
}
