//! The order of the checks: each pair of neighbours, with a call that both would refuse.

use super::{assert_stored, body_with};
use crate::harness::Answer;
use crate::v1::{
    CARD, FORBIDDEN, JSON, KEY_REUSED, NO_CHANNEL, NO_JSON, NO_METHOD, NO_PATH, NOT_CONNECTED, QUEUE_FULL, Stage,
    TOO_LARGE, TOO_MANY, UNAUTHORIZED, assert_faults, assert_refused, contact_path, create_key, location, wire,
};

const TEXT: (&str, &str) = ("Content-Type", "text/plain");

/// The contact call announces far too large a body and sends nothing of it. A caller that is refused before the body is read
/// gets an answer all the same.
fn huge(stage: &Stage, key: Option<&str>, content_type: &str) -> Answer {
    let key = key.map(|key| format!("Bearer {key}"));
    let mut headers = vec![("Content-Type", content_type.as_bytes()), ("Content-Length", b"1000000000")];
    headers.extend(key.as_ref().map(|key| ("Authorization", key.as_bytes())));
    wire(&stage.server, &format!("POST {}", contact_path("sandbox")), &headers, b"")
}

fn post(stage: &Stage, path: &str, key: Option<&str>, headers: &[(&str, &str)], body: &str) -> Answer {
    stage.server.call("POST", path, key, headers, Some(body.as_bytes()))
}

#[test]
fn path_method_and_key_come_before_anything_else() {
    let stage = Stage::set();
    for key in [None, Some("oapi_sk_test_bad"), Some(&*stage.key)] {
        let nowhere = post(&stage, "/v1/channels/sandbox/messages/contact/x", key, &[TEXT], "x");
        assert_refused("path before key", &nowhere, NO_PATH);
        let put = stage.server.call("PUT", &contact_path("sandbox"), key, &[TEXT], Some(b"x"));
        assert_refused("method before key", &put, NO_METHOD);
    }
    assert_refused("key before body", &huge(&stage, None, "application/json"), UNAUTHORIZED);
    assert_refused("key before type", &huge(&stage, Some("oapi_sk_test_bad"), "text/plain"), UNAUTHORIZED);
    let unknown = post(&stage, &contact_path("nowhere"), None, &[TEXT], "x");
    assert_refused("key before channel", &unknown, UNAUTHORIZED);
}

#[test]
fn the_rate_limit_is_checked_after_the_key_and_before_the_scope() {
    let stage = Stage::set();
    let key = create_key(&stage.home, "test", "messages.read", "1");
    let send = || post(&stage, &contact_path("sandbox"), Some(&key), &[TEXT], "x");
    assert_refused("scope before type", &send(), FORBIDDEN);
    assert_refused("limit before scope", &send(), TOO_MANY);
    assert_refused("limit before size", &huge(&stage, Some(&key), "application/json"), TOO_MANY);
    let keys = stage.rows("/v1/api-keys?limit=100");
    let id = keys.iter().find(|row| row["rateLimit"] == 1).expect("the key is listed")["id"].clone();
    stage.server.delete(&format!("/v1/api-keys/{}", id.as_str().expect("an id")), Some(&stage.key)).expect(200);
    assert_refused("key before limit", &send(), UNAUTHORIZED);
}

#[test]
fn scope_type_size_and_content() {
    let stage = Stage::set();
    let reader = create_key(&stage.home, "test", "messages.read", "unlimited");
    let at = |channel: &str, key: &str, headers: &[(&str, &str)], body: &str| {
        post(&stage, &contact_path(channel), Some(key), headers, body)
    };
    assert_refused("scope before type", &at("sandbox", &reader, &[TEXT], CARD), FORBIDDEN);
    assert_refused("scope before size", &huge(&stage, Some(&reader), "application/json"), FORBIDDEN);
    assert_refused("scope before content", &at("sandbox", &reader, &[JSON], "["), FORBIDDEN);
    assert_refused("scope before channel", &at("nowhere", &reader, &[JSON], CARD), FORBIDDEN);

    assert_refused("type before size", &huge(&stage, Some(&stage.key), "text/plain"), NO_JSON);
    assert_refused("type before content", &at("nowhere", &stage.key, &[TEXT], "["), NO_JSON);
    assert_refused("type before header", &at("nowhere", &stage.key, &[TEXT, ("Idempotency-Key", "")], "["), NO_JSON);

    let large = "[".repeat(70 << 10);
    assert_refused("size before content", &at("nowhere", &stage.key, &[JSON], &large), TOO_LARGE);
    let faulty = [JSON, ("Idempotency-Key", "")];
    assert_refused("size before header", &at("nowhere", &stage.key, &faulty, &large), TOO_LARGE);

    let name = [("name", "O nome do contato e obrigatorio.")];
    assert_faults("content before channel", &at("nowhere", &stage.key, &[JSON], &body_with("name", "null")), &name);
    assert_faults("JSON before channel", &at("nowhere", &stage.key, &[JSON], "["), &[("body", "JSON invalido.")]);
    let key = [("Idempotency-Key", "A Idempotency-Key deve ter de 1 a 255 caracteres ASCII visiveis.")];
    assert_faults("header before channel", &at("nowhere", &stage.key, &faulty, CARD), &key);
    assert_stored(&stage, "sandbox", 0);
}

#[test]
fn channel_before_idempotency_before_state() {
    let stage = Stage::set();
    let once = ("Idempotency-Key", "once");
    stage.open("moving", &["connect"]);
    let first = stage.send("moving", &[once], CARD).expect(202);
    stage.until(&location(&first), "READ");
    let other = CARD.replace("Maria", "Joana");

    assert_refused("channel before reuse", &stage.send("nowhere", &[once], &other), NO_CHANNEL);
    assert_refused("channel before replay", &stage.send("nowhere", &[once], CARD), NO_CHANNEL);
    stage.server.delete("/v1/channels/moving", Some(&stage.key)).expect(200);
    assert_refused("a deleted channel before replay", &stage.send("moving", &[once], CARD), NO_CHANNEL);
    // The same channel in a state that accepts no message.
    stage.open("moving", &[]);
    assert_refused("it accepts nothing", &stage.send("moving", &[], CARD), NOT_CONNECTED);
    let replay = stage.send("moving", &[once], CARD).expect(202);
    assert_eq!((replay.header("Idempotent-Replayed"), location(&replay)), (Some("true"), location(&first)));
    assert_refused("reuse before state", &stage.send("moving", &[once], &other), KEY_REUSED);
    assert_stored(&stage, "moving", 1);
}

#[test]
fn state_before_backlog() {
    let stage = Stage::with(&["--backlog-cap", "0"]);
    stage.open("new", &[]);
    assert_refused("a full backlog", &stage.send("sandbox", &[], CARD), QUEUE_FULL);
    assert_refused("state before backlog", &stage.send("new", &[], CARD), NOT_CONNECTED);
}

#[test]
fn idempotency_before_backlog() {
    let stage = Stage::with(&["--backlog-cap", "1"]);
    stage.open("held", &["connect", "pause"]);
    let once = ("Idempotency-Key", "once");
    let first = stage.accept("held", &[once], CARD);
    assert_refused("a full backlog", &stage.send("held", &[], CARD), QUEUE_FULL);
    let replay = stage.send("held", &[once], CARD).expect(202);
    assert_eq!((replay.header("Idempotent-Replayed"), location(&replay)), (Some("true"), first));
    let other = CARD.replace("Maria", "Joana");
    assert_refused("reuse before backlog", &stage.send("held", &[once], &other), KEY_REUSED);
    assert_stored(&stage, "held", 1);
}
