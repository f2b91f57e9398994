//! Paths, methods and channels that do not exist.

use super::assert_stored;
use crate::v1::{CARD, JSON, NO_CHANNEL, NO_METHOD, NO_PATH, Stage, assert_refused, contact_path};

#[test]
fn a_path_that_does_not_exist() {
    let stage = Stage::set();
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v2/channels",
        "/V1/channels",
        "/v1/channels/",
        "//v1/channels",
        "/v1/Channels",
        "/v1/channels/sandbox/messages/contact/",
        "/v1/channels/sandbox/messages/contact/x",
        "/v1/channels/sandbox/x/y",
        "/v1/channels/a/b/messages/contact",
        "/channels/sandbox/messages/contact",
        "/v1/channels/sandbox/contact/messages",
        "/health",
        "/favicon.ico",
        "/v1/channels/../../health/live",
    ] {
        for method in ["GET", "POST", "PUT"] {
            let answer = stage.server.call(method, path, Some(&stage.key), &[JSON], Some(CARD.as_bytes()));
            assert_refused(&format!("{method} {path}"), &answer, NO_PATH);
        }
    }
    assert_stored(&stage, "sandbox", 0);
}

#[test]
fn a_method_that_the_path_does_not_know() {
    let stage = Stage::set();
    for (path, allowed) in [
        ("/v1/channels/sandbox/messages/contact", &["POST"][..]),
        ("/v1/channels/sandbox/messages/text", &["POST"]),
        ("/v1/channels/sandbox/messages", &["GET", "HEAD", "POST"]),
        ("/v1/channels/sandbox/messages/x", &["DELETE", "GET", "HEAD"]),
        ("/v1/channels/sandbox/messages/x/vcard", &["GET", "HEAD"]),
        ("/v1/channels", &["GET", "HEAD", "POST"]),
        ("/v1/channels/sandbox", &["DELETE", "GET", "HEAD", "PUT"]),
        ("/v1/channels/sandbox/connect", &["POST"]),
        ("/v1/channels/sandbox/disconnect", &["POST"]),
        ("/v1/channels/sandbox/pause", &["POST"]),
        ("/v1/channels/sandbox/resume", &["POST"]),
        ("/v1/api-keys", &["GET", "HEAD", "POST"]),
        ("/v1/api-keys/x", &["DELETE"]),
        ("/v1/sandbox/messages", &["GET", "HEAD"]),
        ("/v1/sandbox/data", &["DELETE"]),
        ("/v1/callbacks/meta", &["GET", "HEAD", "POST"]),
        ("/v1/callbacks/meta/x", &["GET", "HEAD", "POST"]),
        ("/health/live", &["GET", "HEAD"]),
        ("/health/ready", &["GET", "HEAD"]),
    ] {
        let others = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"];
        for method in others.iter().filter(|method| !allowed.contains(method)) {
            for key in [None, Some("oapi_sk_test_no"), Some(&*stage.key)] {
                let answer = stage.server.call(method, path, key, &[], None);
                assert_refused(&format!("{method} {path}"), &answer, NO_METHOD);
                let mut allow: Vec<_> = answer.header("Allow").unwrap_or_default().split(',').map(str::trim).collect();
                allow.sort_unstable();
                assert_eq!(allow, allowed, "{method} {path}");
            }
        }
    }
    assert_stored(&stage, "sandbox", 0);
}

#[test]
fn a_channel_that_does_not_exist() {
    let stage = Stage::set();
    let (longest, too_long) = ("x".repeat(64), "x".repeat(65));
    for channel in [
        "nowhere",
        "",
        "Sandbox",
        "sandbox%20",
        "%20sandbox",
        "sandbox%00",
        "san%2Fdbox",
        "..",
        "%2e%2e",
        "a.b",
        "%C3%A7",
        "*",
        "%27%20or%201%3D1--",
        "sandbox;x=1",
        &longest,
        &too_long,
    ] {
        assert_refused(channel, &stage.send(channel, &[], CARD), NO_CHANNEL);
    }
    // A live key sees no sandbox, and no channel of a test key.
    assert_refused("live", &stage.send_with(&stage.home.live_key, "sandbox", &[], CARD), NO_CHANNEL);
    stage.open("deleted", &["connect"]);
    stage.server.delete("/v1/channels/deleted", Some(&stage.key)).expect(200);
    assert_refused("deleted", &stage.send("deleted", &[], CARD), NO_CHANNEL);
    // The same path in another spelling, and with an unknown query.
    for path in ["/v1/channels/%73andbox/messages/contact", "/v1/channels/sandbox/messages/contact?x=1"] {
        let answer = stage.server.call("POST", path, Some(&stage.key), &[JSON], Some(CARD.as_bytes())).expect(202);
        assert!(answer.header("Location").is_some_and(|path| path.starts_with("/v1/channels/sandbox/messages/")));
    }
}

/// Bytes that are no text are no channel id either; the answer has the shape of all others.
#[test]
fn a_channel_id_that_is_no_text() {
    let stage = Stage::set();
    for id in ["%FF", "a%C3", "%ED%A0%80"] {
        assert_refused(id, &stage.send(id, &[], CARD), NO_CHANNEL);
        assert_refused(id, &stage.get(&format!("/v1/channels/{id}")), NO_CHANNEL);
        assert_refused(id, &stage.get(&format!("/v1/channels/{id}/messages")), NO_CHANNEL);
        let by_id = stage.get(&format!("/v1/channels/sandbox/messages/{id}"));
        assert_refused(id, &by_id, crate::v1::NO_MESSAGE);
    }
    // Without a key an answer does not show which paths exist.
    let answer = stage.server.call("POST", &contact_path("%FF"), None, &[JSON], Some(CARD.as_bytes()));
    assert_refused("without a key", &answer, crate::v1::UNAUTHORIZED);
}
