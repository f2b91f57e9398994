//! What a key may give to another one, when it ends, and where it is kept.

use std::process::Command;

use jiff::Timestamp;
use serde_json::json;

use super::stage::{Stage, field, send};
use super::{FORBIDDEN, UNAUTHORIZED, assert_refused, in_seconds};
use crate::harness::{agent, call};

#[test]
fn a_key_grants_no_more_than_it_has() {
    let (stage, server) = Stage::set();
    let (its_end, later) = (in_seconds(3600), in_seconds(7200));
    let own = ["keys.write", "messages.send"];
    let good = json!({"name": "granted", "permissions": own, "rateLimit": 30, "expiresAt": its_end});
    let giver = field(&server.post("/v1/api-keys", &stage.owner, &good).expect(201), "key");
    let before = stage.state(&server);
    for (name, more) in [
        ("permissions", json!(["messages.read"])),
        ("permissions", json!(["messages.send", "channels.write"])),
        ("environment", json!("live")),
        ("rateLimit", json!(31)),
        ("expiresAt", json!(later)),
    ] {
        let mut body = good.clone();
        body[name] = more;
        assert_refused(&body.to_string(), &server.post("/v1/api-keys", &giver, &body), 403, FORBIDDEN);
    }
    assert_eq!(stage.state(&server)["keys"], before["keys"]);
    let granted = field(&server.post("/v1/api-keys", &giver, &good).expect(201), "key");
    send(&server, &granted, "guarded-open");
    server.get("/v1/api-keys", Some(&granted)).expect(403);
    // An omitted property must not exceed the creator's: it is refused, or reduced.
    let answer = server.post("/v1/api-keys", &giver, &json!({"name": "defaults", "permissions": own}));
    if answer.status == 403 {
        return;
    }
    let data = answer.expect(201).json()["data"].clone();
    assert!(data["rateLimit"].as_u64().is_some_and(|rate| rate <= 30), "{data}");
    let end = data["expiresAt"].as_str().and_then(|end| end.parse::<Timestamp>().ok()).expect("an end");
    assert!(end <= its_end.parse().expect("a time"), "{data}");
}

#[test]
fn a_revoked_key_is_refused_at_the_next_call() {
    let (stage, server) = Stage::set();
    // One persistent connection: what the server remembers of it must not outlive the key.
    let (agent, url) = (agent(), server.url("/v1/channels"));
    for round in 0..8 {
        let body = json!({"name": format!("round {round}"), "permissions": ["channels.read", "keys.write"]});
        let answer = server.post("/v1/api-keys", &stage.owner, &body).expect(201);
        let (id, key) = (field(&answer, "id"), field(&answer, "key"));
        call(&agent, &url, "GET", Some(&key), &[], None).expect("an answer").expect(200);
        // Every other key revokes itself.
        let by = if round % 2 == 0 { &stage.owner } else { &key };
        server.delete(&format!("/v1/api-keys/{id}"), Some(by)).expect(200);
        let answer = call(&agent, &url, "GET", Some(&key), &[], None).expect("an answer");
        assert_refused("a revoked key", &answer, 401, UNAUTHORIZED);
    }
}

#[test]
fn a_key_is_shown_once_and_kept_nowhere() {
    let (stage, server) = Stage::set();
    let body = json!({"name": "shown once", "permissions": ["channels.read"]});
    let answer = server.post("/v1/api-keys", &stage.owner, &body).expect(201);
    let (id, key) = (field(&answer, "id"), field(&answer, "key"));
    assert!(key.starts_with("oapi_sk_test_") && key.len() == 48, "{key}");
    let list = server.get("/v1/api-keys?limit=100", Some(&stage.owner)).expect(200);
    assert!(list.text().contains(&id), "the list lacks the new key: {}", list.text());
    for secret in [&key, &stage.owner, &stage.home.test_key] {
        assert!(!list.text().contains(&secret["oapi_sk_test_".len() + 8..]), "the list shows a key: {}", list.text());
    }
    // A SHA-256 has 64 hexadecimal digits and 43 characters in base 64. Nothing else in the list is one long word.
    let in_word = |letter: char| letter.is_ascii_alphanumeric() || "+/_=".contains(letter);
    let longest = list.text().split(|letter| !in_word(letter)).max_by_key(|word| word.len()).unwrap_or_default();
    assert!(longest.len() < 43, "the list shows what may be a hash: {longest}");
    // The files contain only its hash. (The socket among them is not a file that can be read.)
    let grep = ["-r", "-l", "-a", "-F", "--devices=skip", &key, stage.home.dir()];
    let found = Command::new("grep").args(grep).output().expect("grep runs");
    assert_eq!((found.status.code(), found.stdout.as_slice()), (Some(1), &b""[..]), "files that hold the key");
}
