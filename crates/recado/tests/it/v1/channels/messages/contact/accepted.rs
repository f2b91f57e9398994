//! The 202: its bytes, its headers, and the stored message.

use std::collections::HashSet;

use serde_json::json;

use crate::harness::Answer;
use crate::v1::{CARD, JSON, Stage, contact_path, location, wire};

const ACCEPTED: &str = r#"{"success":true,"message":"Mensagem enfileirada para envio"}"#;

#[test]
fn a_card_is_accepted_with_these_bytes_and_headers() {
    let stage = Stage::set();
    let answer = stage.send_with(&stage.home.test_key, "sandbox", &[], CARD);
    assert_eq!((answer.status, answer.text()), (202, ACCEPTED));
    assert_eq!(answer.header("Content-Type"), Some("application/json; charset=utf-8"));
    let id = answer.header("X-Message-Id").expect("X-Message-Id");
    assert_eq!(location(&answer), format!("/v1/channels/sandbox/messages/{id}"));
    assert_eq!(stage.data(&location(&answer))["id"], id);
    // A new key with 60 calls a minute: one call is used, and is available again within a second.
    let limits = ["RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"].map(|name| answer.header(name));
    assert_eq!(limits, [Some("60"), Some("59"), Some("1")]);
    for absent in ["Idempotent-Replayed", "Preference-Applied", "X-Ignored-Fields", "Retry-After", "Allow"] {
        assert_eq!(answer.header(absent), None, "{absent}");
    }
    let unlimited = stage.send("sandbox", &[], CARD).expect(202);
    assert!(!unlimited.headers.keys().any(|name| name.as_str().starts_with("ratelimit")), "{:?}", unlimited.headers);
}

#[test]
fn prefer_adds_the_message() {
    let stage = Stage::set();
    stage.open("held", &["connect", "pause"]);
    let prefer = |headers: &[(&str, &str)]| stage.send("held", headers, CARD).expect(202);
    for asked in [
        &[("Prefer", "return=representation")][..],
        &[("prefer", "respond-async, return=representation")],
        &[("Prefer", "wait=5; x=y, Return=representation")],
        &[("Prefer", "wait=5"), ("Prefer", "return=representation")],
    ] {
        let answer = prefer(asked);
        assert_eq!(answer.header("Preference-Applied"), Some("return=representation"), "{asked:?}");
        let message = stage.get(&location(&answer)).expect(200);
        let data = message.text().strip_prefix(r#"{"data":"#).and_then(|text| text.strip_suffix('}'));
        let whole = format!("{},\"data\":{}}}", &ACCEPTED[..ACCEPTED.len() - 1], data.expect("one thing"));
        assert_eq!(answer.text(), whole, "{asked:?}");
    }
    for other in ["return=minimal", "respond-async", "returns=representation", ""] {
        let answer = prefer(&[("Prefer", other)]);
        assert_eq!((answer.text(), answer.header("Preference-Applied")), (ACCEPTED, None), "{other}");
    }
}

#[test]
fn a_replay_returns_the_message_if_the_call_prefers_it() {
    let stage = Stage::set();
    stage.open("held", &["connect", "pause"]);
    let key = ("Idempotency-Key", "preferred");
    let first = stage.send("held", &[key], CARD).expect(202);
    let again = stage.send("held", &[key, ("Prefer", "return=representation")], CARD).expect(202);
    assert_eq!(again.header("Idempotent-Replayed"), Some("true"));
    assert_eq!(again.json()["data"], stage.data(&location(&first)));
}

#[test]
fn a_request_id_is_kept_or_made() {
    let stage = Stage::set();
    let id = |answer: &Answer| answer.header("X-Request-Id").expect("an id").to_owned();
    let send = |value: &[u8]| {
        let key = format!("Bearer {}", stage.key);
        let headers =
            [("Authorization", key.as_bytes()), ("Content-Type", b"application/json"), ("X-Request-Id", value)];
        let answer = wire(&stage.server, &format!("POST {}", contact_path("sandbox")), &headers, CARD.as_bytes());
        id(&answer.expect(202))
    };
    let longest = "x".repeat(128);
    for own in ["a", "A.b_c-9", "550e8400-e29b-41d4-a716-446655440000", &longest] {
        assert_eq!(send(own.as_bytes()), own);
    }
    let too_long = "x".repeat(129);
    let mut made = HashSet::new();
    for bad in ["", "a b", "a/b", "a,b", "a\tb", "<script>", "ação", &too_long] {
        let id = send(bad.as_bytes());
        assert_ne!(id, bad);
        let plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        assert!((1..=128).contains(&id.len()) && plain, "{bad} gave {id}");
        assert!(made.insert(id), "an id was made twice");
    }
    // Refusals carry it as well, also for callers without a key and for paths that do not exist.
    for (method, path) in
        [("GET", "/nowhere"), ("PUT", "/v1/channels"), ("GET", "/v1/channels"), ("GET", "/health/live")]
    {
        let answer = stage.server.call(method, path, None, &[("X-Request-Id", "mine")], None);
        assert_eq!(id(&answer), "mine", "{method} {path}");
    }
}

#[test]
fn a_good_body_may_be_written_in_many_ways() {
    let stage = Stage::set();
    let largest = format!("{CARD}{}", " ".repeat((64 << 10) - CARD.len()));
    for body in [
        "\r\n\t {\n \"name\" : \"Maria Silva - Suporte\",\t\"phone\":\"5511988887777\" , \"to\":\"5511999998888\"}\n\n",
        r#"{"\u0074o":"5511999998888","n\u0061me":"Maria Silva \u002d Suporte","phone":"55\u00311988887777"}"#,
        r#"{"to":"+55 (11) 99999-8888","name":" Maria Silva - Suporte ","phone":"55.11.98888.7777","email":null}"#,
        &largest,
    ] {
        let message = stage.data(&stage.accept("sandbox", &[], body));
        assert_eq!(message["contact"]["name"], "Maria Silva - Suporte", "{body}");
        assert_eq!(message["card"]["waid"], "5511988887777", "{body}");
    }
    let key = format!("Bearer {}", stage.key);
    let headers = [
        ("Authorization", key.as_bytes()),
        ("Content-Type", JSON.1.as_bytes()),
        ("Transfer-Encoding", b"chunked".as_slice()),
    ];
    let (start, end) = CARD.split_at(20);
    let chunks = format!("{:x}\r\n{start}\r\n{:x}\r\n{end}\r\n0\r\n\r\n", start.len(), end.len());
    wire(&stage.server, &format!("POST {}", contact_path("sandbox")), &headers, chunks.as_bytes()).expect(202);
}

#[test]
fn the_scheme_is_read_without_case() {
    let stage = Stage::set();
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let key = format!("{scheme} {}", stage.key);
        let headers = [JSON, ("Authorization", &*key)];
        stage.server.call("POST", &contact_path("sandbox"), None, &headers, Some(CARD.as_bytes())).expect(202);
    }
}

#[test]
fn empty_optional_fields_count_as_missing() {
    let stage = Stage::set();
    for nothing in ["null", r#""""#, r#""   ""#, r#"" \t\r\n""#] {
        let body = format!(
            r#"{{"to":"5511999998888","name":"Maria","phone":"5511988887777","email":{nothing},"organization":{nothing}}}"#
        );
        let location = stage.accept("sandbox", &[], &body);
        let contact = json!({"name": "Maria", "phone": "5511988887777", "email": null, "organization": null});
        assert_eq!(stage.data(&location)["contact"], contact, "{nothing}");
        let vcard = stage.get(&format!("{location}/vcard")).expect(200);
        assert!(!vcard.text().contains("EMAIL") && !vcard.text().contains("ORG"), "{nothing}: {}", vcard.text());
    }
}
