//! Bodies that are no JSON object.

use super::{assert_stored, body_with};
use crate::v1::{CARD, Stage, assert_faults, assert_refused, contact_path, wire};
use crate::v1::{NO_JSON, TOO_LARGE};

/// Refused as no JSON object; the text may name the place.
#[track_caller]
fn assert_invalid(what: &str, answer: &crate::harness::Answer) {
    let text = answer.json()["errors"][0]["message"].as_str().unwrap_or_default().to_owned();
    assert!(text == "JSON invalido." || text.starts_with("JSON invalido (linha "), "{what}: {text}");
    assert_faults(what, answer, &[("body", &text)]);
}

const CODED: (u16, &str) = (415, r#"{"message":"Content-Encoding nao suportado.","code":"UNSUPPORTED_MEDIA_TYPE"}"#);

/// Sends bytes that a client library may refuse to send.
fn send_bytes(stage: &Stage, body: &[u8]) -> crate::harness::Answer {
    let key = format!("Bearer {}", stage.key);
    let headers = [("Authorization", key.as_bytes()), ("Content-Type", b"application/json".as_slice())];
    wire(&stage.server, &format!("POST {}", contact_path("sandbox")), &headers, body)
}

#[test]
fn a_body_that_is_not_a_json_object_is_refused() {
    let stage = Stage::set();
    let twice = format!("{CARD}{CARD}");
    let (comma, garbage) = (CARD.replace('}', ",}"), format!("{CARD} x"));
    let nul = format!("{CARD}\0");
    for body in [
        "",
        " ",
        "\n",
        "null",
        "true",
        "1",
        "\"x\"",
        "[]",
        "[{}]",
        &format!("[{CARD}]"),
        "{",
        "}",
        "{]",
        "{\"to\"}",
        "{\"to\":}",
        "{\"to\" \"x\"}",
        "{to:\"x\"}",
        "{'to':'x'}",
        "{\"to\":\"x}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":01}",
        "{\"a\":+1}",
        "{\"a\":.5}",
        "{\"a\":NaN}",
        "{\"a\":tru}",
        "{\"a\":1}//x",
        "/**/{}",
        "{,}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"line\nbreak\"}",
        "{\"a\":\"tab\tinside\"}",
        "{\"a\":\"nul\0\"}",
        &twice,
        &comma,
        &garbage,
        &nul,
        "to=5511999998888&name=Maria",
        "<card/>",
    ] {
        assert_invalid(&format!("{body:?}"), &send_bytes(&stage, body.as_bytes()));
    }
    assert_stored(&stage, "sandbox", 0);
}

#[test]
fn a_body_is_utf8() {
    let stage = Stage::set();
    let utf16: Vec<u8> = CARD.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let at = CARD.find("Maria").expect("the name");
    let with = |bytes: &[u8]| [&CARD.as_bytes()[..at], bytes, &CARD.as_bytes()[at..]].concat();
    for (what, body) in [
        ("Latin-1", with(b"\xe3")),
        ("half a character", with(b"\xf0\x9f\x98")),
        ("overlong", with(b"\xc0\xaf")),
        ("a surrogate in UTF-8", with(b"\xed\xa0\x80")),
        ("beyond Unicode", with(b"\xf4\x90\x80\x80")),
        ("a bad byte in an unknown field", [b"{\"x\":\"\xff\",", &CARD.as_bytes()[1..]].concat()),
        ("a bad byte behind the object", [CARD.as_bytes(), b"\xff"].concat()),
    ] {
        assert_faults(what, &send_bytes(&stage, &body), &[("body", "O corpo deve estar em UTF-8.")]);
    }
    // Without a mark it is UTF-8, too, with a NUL behind each character.
    assert_invalid("UTF-16", &send_bytes(&stage, &utf16));
    assert_stored(&stage, "sandbox", 0);
}

#[test]
fn a_byte_order_mark_before_a_body_is_ignored() {
    let stage = Stage::set();
    let marked = [b"\xef\xbb\xbf", CARD.as_bytes()].concat();
    assert_eq!(send_bytes(&stage, &marked).status, 202);
    assert_stored(&stage, "sandbox", 1);
    let broken = send_bytes(&stage, b"\xef\xbb\xbf{\"to\":\n  x}");
    assert_faults("a place", &broken, &[("body", "JSON invalido (linha 2, coluna 3).")]);
}

#[test]
fn half_a_surrogate_pair_is_no_text() {
    let stage = Stage::set();
    for field in ["to", "name", "phone", "email", "organization"] {
        for half in [r"\ud83d", r"a\ud83db", r"\ude00", r"\ude00\ud83d", r"\ud83d\ud83d", r"\ud83d\u0041", r"\uD800"] {
            let body = body_with(field, &format!("\"{half}\""));
            assert_invalid(&body, &stage.send("sandbox", &[], &body));
        }
    }
    let name = format!(r#"{},"\ud83d":1}}"#, &CARD[..CARD.len() - 1]);
    assert_invalid(&name, &stage.send("sandbox", &[], &name));
    assert_stored(&stage, "sandbox", 0);
}

/// Deep nesting must neither overflow a stack nor be read as a string.
#[test]
fn deep_nesting_is_refused() {
    let stage = Stage::set();
    for depth in [3, 100, 127, 128, 1_000, 30_000] {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            if depth * (open.len() + close.len()) > 60 << 10 {
                continue;
            }
            let nested = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            for body in [&nested, &body_with("name", &nested), &body_with("x", &nested)] {
                let answer = stage.send("sandbox", &[], body).expect(400);
                let field = &answer.json()["errors"][0]["field"];
                assert!(["body", "name", "x", "to", "a"].iter().any(|known| field == known), "{}", answer.text());
            }
        }
    }
    for unclosed in ["[", r#"{"a":"#, r#"{"name":["#] {
        let body = unclosed.repeat((60 << 10) / unclosed.len());
        assert_invalid(unclosed, &stage.send("sandbox", &[], &body));
    }
    assert_stored(&stage, "sandbox", 0);
    stage.accept("sandbox", &[], CARD);
}

#[test]
fn sixty_four_kibibytes_and_no_more() {
    let stage = Stage::set();
    let padded = |size: usize| format!("{CARD}{}", " ".repeat(size - CARD.len()));
    stage.accept("sandbox", &[], &padded(64 << 10));
    assert_refused("a byte more", &stage.send("sandbox", &[], &padded((64 << 10) + 1)), TOO_LARGE);
    let key = format!("Bearer {}", stage.key);
    let line = format!("POST {}", contact_path("sandbox"));
    let json = ("Content-Type", b"application/json".as_slice());
    let announced = [("Authorization", key.as_bytes()), json, ("Content-Length", b"10485760")];
    assert_refused("announced", &wire(&stage.server, &line, &announced, b""), TOO_LARGE);
    let chunked = [("Authorization", key.as_bytes()), json, ("Transfer-Encoding", b"chunked")];
    let chunk = format!("{:x}\r\n{}\r\n", 40 << 10, " ".repeat(40 << 10));
    let body = format!("{chunk}{chunk}0\r\n\r\n");
    assert_refused("in chunks", &wire(&stage.server, &line, &chunked, body.as_bytes()), TOO_LARGE);
    assert_stored(&stage, "sandbox", 1);
}

#[test]
fn only_uncompressed_json_is_accepted() {
    let stage = Stage::set();
    let send = |headers: &[(&str, &str)]| {
        stage.server.call("POST", &contact_path("sandbox"), Some(&stage.key), headers, Some(CARD.as_bytes()))
    };
    let json = ["application/json", "APPLICATION/json", "application/json; charset=utf-8"];
    for good in json.into_iter().chain(["application/json;charset=UTF-8", r#"application/json ; charset="utf-8""#]) {
        send(&[("Content-Type", good)]).expect(202);
    }
    assert_refused("none", &send(&[]), NO_JSON);
    for bad in [
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "json",
        "application/jsonp",
        "application/json5",
        "application/vnd.api+json",
        "application/*",
        "*/*",
        "application/json, text/plain",
        "application/json; charset=latin1",
        "application/json; charset=iso-8859-1",
        "application/json; charset=utf-16",
        "application/json; charset=",
        "application/json;charset=utf-8;charset=utf-16",
    ] {
        assert_refused(bad, &send(&[("Content-Type", bad)]), NO_JSON);
    }
    assert_refused("two", &send(&[("Content-Type", json[0]), ("Content-Type", "text/plain")]), NO_JSON);
    for coding in ["gzip", "br", "deflate", "zstd", "x", "gzip, identity"] {
        assert_refused(coding, &send(&[("Content-Type", json[0]), ("Content-Encoding", coding)]), CODED);
    }
    for plain in ["", "identity", "utf-8", "UTF-8"] {
        assert_eq!(send(&[("Content-Type", json[0]), ("Content-Encoding", plain)]).status, 202, "{plain}");
    }
    assert_stored(&stage, "sandbox", 9);
}
