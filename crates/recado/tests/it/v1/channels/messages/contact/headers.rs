//! Invalid headers: a 400 whose field is the header's name.

use super::assert_stored;
use crate::harness::Answer;
use crate::v1::{CARD, Stage, assert_faults, contact_path, wire};

const KEY: (&str, &str) = ("Idempotency-Key", "A Idempotency-Key deve ter de 1 a 255 caracteres ASCII visiveis.");
const SCENARIO: (&str, &str) = ("X-Ogmma-Sandbox-Scenario", "Cenario de sandbox desconhecido.");
const LIVE: (&str, &str) = ("X-Ogmma-Sandbox-Scenario", "O cenario de sandbox exige uma chave de teste.");

/// The contact call with headers of any bytes.
fn send(stage: &Stage, key: &str, more: &[(&str, &[u8])], body: &str) -> Answer {
    let key = format!("Bearer {key}");
    let own = [("Authorization", key.as_bytes()), ("Content-Type", b"application/json".as_slice())];
    wire(&stage.server, &format!("POST {}", contact_path("sandbox")), &[&own, more].concat(), body.as_bytes())
}

#[test]
fn an_idempotency_key_is_visible_ascii() {
    let stage = Stage::set();
    let (longest, too_long) = ("x".repeat(255), "x".repeat(256));
    let all: String = ('!'..='~').collect();
    for good in ["a", &longest, &all, "8e03978e-40d5-43dd-bc93-6894a57f9324", "a,b", "\"quoted\""] {
        send(&stage, &stage.key, &[("Idempotency-Key", good.as_bytes())], CARD).expect(202);
    }
    for bad in ["", " ", "a b", "a\tb", "ação", "🙂", "a\u{a0}", &too_long] {
        let answer = send(&stage, &stage.key, &[("Idempotency-Key", bad.as_bytes())], CARD);
        assert_faults(&format!("{bad:?}"), &answer, &[KEY]);
    }
    let not_utf8 = send(&stage, &stage.key, &[("Idempotency-Key", b"a\xff")], CARD);
    assert_faults("a byte that is no UTF-8", &not_utf8, &[KEY]);
    for (first, second) in [("a1", "a1"), ("a2", "b2"), ("a3", "")] {
        let two = [("Idempotency-Key", first.as_bytes()), ("idempotency-key", second.as_bytes())];
        assert_faults("two keys", &send(&stage, &stage.key, &two, CARD), &[KEY]);
    }
    assert_stored(&stage, "sandbox", 6);
}

#[test]
fn only_scenarios_for_messages_are_accepted() {
    let stage = Stage::set();
    for bad in ["media_too_large", "", "TIMEOUT", "timeout,rate_limit", "no_such", "5511900000001", "ação"] {
        let answer = send(&stage, &stage.key, &[("X-Ogmma-Sandbox-Scenario", bad.as_bytes())], CARD);
        assert_faults(bad, &answer, &[SCENARIO]);
    }
    let two = [("X-Ogmma-Sandbox-Scenario", b"timeout".as_slice()), ("X-Ogmma-Sandbox-Scenario", b"timeout")];
    assert_faults("two scenarios", &send(&stage, &stage.key, &two, CARD), &[SCENARIO]);
    for named in ["timeout", "media_too_large", ""] {
        let answer = send(&stage, &stage.home.live_key, &[("X-Ogmma-Sandbox-Scenario", named.as_bytes())], CARD);
        assert_faults("a live key", &answer, &[LIVE]);
    }
    assert_stored(&stage, "sandbox", 0);
}

#[test]
fn errors_of_headers_and_body_are_in_one_answer() {
    let stage = Stage::set();
    let (key, scenario) = (("Idempotency-Key", b"".as_slice()), ("X-Ogmma-Sandbox-Scenario", b"x".as_slice()));
    let name = ("name", "O nome do contato e obrigatorio.");
    let nameless = r#"{"to":"5511999998888","phone":"5511988887777"}"#;
    for (headers, body, expected) in [
        (&[scenario, key][..], CARD, &[KEY, SCENARIO][..]),
        (&[key], nameless, &[KEY, name]),
        (&[scenario, key], nameless, &[KEY, SCENARIO, name]),
        (&[scenario], "[]", &[SCENARIO, ("body", "JSON invalido.")]),
    ] {
        assert_faults(body, &send(&stage, &stage.key, headers, body), expected);
    }
    assert_stored(&stage, "sandbox", 0);
}
