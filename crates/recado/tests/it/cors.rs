//! Calls from pages of other origins, as a browser makes them.

use crate::harness::Answer;
use crate::v1::{CARD, JSON, NO_METHOD, Stage, UNAUTHORIZED, assert_refused, contact_path};

const APP: &str = "https://app.example.com";

/// The preflight request of a browser before a page's call.
fn preflight(stage: &Stage, path: &str, origin: &str) -> Answer {
    let asks = [
        ("Origin", origin),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization,content-type,idempotency-key"),
    ];
    stage.server.call("OPTIONS", path, None, &asks, None)
}

fn allowed(answer: &Answer) -> Option<&str> {
    answer.header("Access-Control-Allow-Origin")
}

#[test]
fn no_page_of_another_origin_may_call_by_default() {
    let stage = Stage::set();
    let answer = preflight(&stage, &contact_path("sandbox"), APP);
    assert_refused("preflight", &answer, NO_METHOD);
    let called = stage.server.call(
        "POST",
        &contact_path("sandbox"),
        Some(&stage.key),
        &[JSON, ("Origin", APP)],
        Some(CARD.as_bytes()),
    );
    for answer in [answer, called.expect(202)] {
        assert_eq!((allowed(&answer), answer.header("Vary")), (None, None));
    }
}

#[test]
fn a_page_of_a_named_origin_may_call() {
    let stage = Stage::with(&["--cors-origin", &format!("http://localhost:3000,{APP}:443")]);
    let path = contact_path("sandbox");
    // For any path, without a key: a browser sends the preflight without one.
    for path in [&*path, "/v1/channels", "/health/live", "/v1/none"] {
        let answer = preflight(&stage, path, APP).expect(204);
        assert_eq!((allowed(&answer), answer.header("Vary"), answer.text()), (Some(APP), Some("Origin"), ""));
        let list = |name: &str| answer.header(name).unwrap_or_default().to_ascii_lowercase();
        for method in ["get", "post", "put", "patch", "delete"] {
            assert!(list("Access-Control-Allow-Methods").split(", ").any(|allowed| allowed == method), "{method}");
        }
        for header in ["authorization", "content-type", "idempotency-key", "last-event-id", "prefer", "x-request-id"] {
            assert!(list("Access-Control-Allow-Headers").split(", ").any(|allowed| allowed == header), "{header}");
        }
        assert!(answer.header("X-Request-Id").is_some() && answer.header("Access-Control-Max-Age").is_some());
    }
    let of_app = [JSON, ("Origin", APP), ("Idempotency-Key", "k")];
    let send = || stage.server.call("POST", &path, Some(&stage.key), &of_app, Some(CARD.as_bytes())).expect(202);
    send();
    let answer = send();
    assert_eq!((allowed(&answer), answer.header("Idempotent-Replayed")), (Some(APP), Some("true")));
    // With the key in a header, nothing is to be sent by itself.
    assert_eq!(answer.header("Access-Control-Allow-Credentials"), None);
    let exposed = answer.header("Access-Control-Expose-Headers").expect("headers").to_ascii_lowercase();
    for header in
        ["retry-after", "idempotent-replayed", "x-request-id", "x-message-id", "location", "ratelimit-remaining"]
    {
        assert!(exposed.split(", ").any(|exposed| exposed == header), "{header}");
    }
    // A refusal can be read, too.
    let refused = stage.server.call("POST", &path, None, &of_app, Some(CARD.as_bytes()));
    assert_refused("no key", &refused, UNAUTHORIZED);
    assert_eq!(allowed(&refused), Some(APP));
    assert_eq!(allowed(&stage.server.call("GET", "/v1/none", None, &of_app, None).expect(404)), Some(APP));
}

#[test]
fn pages_of_other_origins_get_no_permission() {
    let stage = Stage::with(&["--cors-origin", APP]);
    for origin in
        ["https://app.example.com.evil.example", "http://app.example.com", "https://app.example.com:8443", "null", "*"]
    {
        let answer = preflight(&stage, &contact_path("sandbox"), origin);
        assert_refused(origin, &answer, NO_METHOD);
        let called =
            stage.server.call("GET", "/v1/channels", Some(&stage.key), &[("Origin", origin)], None).expect(200);
        for answer in [answer, called] {
            // A cache between must not show it to the named one.
            assert_eq!((allowed(&answer), answer.header("Vary")), (None, Some("Origin")), "{origin}");
        }
    }
    // Requests without an origin are answered as before.
    assert_refused("no origin", &stage.server.call("OPTIONS", "/v1/channels", None, &[], None), NO_METHOD);
}
