//! The limits of a caller: calls a minute, failed keys, messages in a channel's queue.

use crate::harness::{Answer, wait_for};
use crate::v1::{CARD, QUEUE_FULL, Stage, TOO_MANY, UNAUTHORIZED, assert_refused, card, create_key};

use super::assert_stored;

const SCOPES: &str = "messages.send,messages.read";

/// Limit, remaining and reset, from the headers of the answer.
fn limits_in(answer: &Answer) -> [u32; 3] {
    ["RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"].map(|name| {
        let value = answer.header(name).unwrap_or_else(|| panic!("no {name}: {:?}", answer.headers));
        value.parse().expect("a whole number")
    })
}

fn retry_after(answer: &Answer) -> u32 {
    answer.header("Retry-After").expect("Retry-After").parse().expect("whole seconds")
}

#[test]
fn a_key_has_so_many_calls_a_minute() {
    let stage = Stage::set();
    let key = create_key(&stage.home, "test", SCOPES, "3");
    let send = |channel: &str, body: &str| stage.send_with(&key, channel, &[], body);
    // Every call of a known key costs one, whatever its result is.
    for (left, channel, body, status) in
        [(2, "sandbox", CARD, 202), (1, "sandbox", "[", 400), (0, "nowhere", CARD, 404)]
    {
        let answer = send(channel, body).expect(status);
        let [limit, remaining, reset] = limits_in(&answer);
        assert_eq!((limit, remaining), (3, left));
        // One call is added every 20 s.
        let most = 20 * (3 - left);
        assert!((most - 15..=most).contains(&reset), "{reset} s until {left} of 3 are 3 again");
    }
    for _ in 0..2 {
        let answer = send("sandbox", CARD);
        assert_refused("one too many", &answer, TOO_MANY);
        assert_eq!(limits_in(&answer)[..2], [3, 0]);
        assert!((5..=20).contains(&retry_after(&answer)), "Retry-After: {}", retry_after(&answer));
    }
    assert_stored(&stage, "sandbox", 1);
    // Each key has its own limit.
    let neighbour = create_key(&stage.home, "test", SCOPES, "3");
    assert_eq!(limits_in(&stage.send_with(&neighbour, "sandbox", &[], CARD).expect(202))[1], 2);
}

#[test]
fn reads_and_sends_have_a_budget_each() {
    let stage = Stage::set();
    let key = create_key(&stage.home, "test", SCOPES, "2");
    let list = || stage.server.get("/v1/channels/sandbox/messages", Some(&key));
    for left in [1, 0] {
        assert_eq!(limits_in(&list().expect(200))[..2], [2, left]);
    }
    assert_refused("a read too many", &list(), TOO_MANY);
    for left in [1, 0] {
        assert_eq!(limits_in(&stage.send_with(&key, "sandbox", &[], CARD).expect(202))[..2], [2, left]);
    }
    assert_refused("a send too many", &stage.send_with(&key, "sandbox", &[], CARD), TOO_MANY);
}

#[test]
fn calls_are_repeated_as_configured() {
    let stage = Stage::set();
    let key = create_key(&stage.home, "test", SCOPES, "60");
    let mut refused = None;
    wait_for("the bucket to be empty", || {
        let answer = stage.send_with(&key, "sandbox", &[], CARD);
        refused = (answer.status == 429).then_some(answer);
        refused.is_some()
    });
    // With one call a second the next one is never further away than a second.
    assert_eq!(retry_after(&refused.expect("a 429")), 1);
    wait_for("a call to come back", || stage.send_with(&key, "sandbox", &[], CARD).status == 202);
}

#[test]
fn no_limit_and_no_key_have_nothing_to_tell() {
    let stage = Stage::set();
    let unlimited = stage.send("sandbox", &[], CARD).expect(202);
    let stranger = stage.send_with("oapi_sk_test_bad", "sandbox", &[], CARD).expect(401);
    let nowhere = stage.server.get("/v1/nowhere", Some(&stage.home.test_key)).expect(404);
    for answer in [unlimited, stranger, nowhere] {
        let present = answer.headers.keys().any(|name| name.as_str().starts_with("ratelimit"));
        assert!(!present, "{}: {:?}", answer.status, answer.headers);
    }
}

#[test]
fn failed_keys_are_limited_by_address_and_harm_no_good_one() {
    let stage = Stage::with(&["--auth-failures", "5"]);
    let guess = |number: usize| {
        let key = ["oapi_sk_test_bad", "", "oapi_sk_live_worse"][number % 3];
        stage.send_with(key, "sandbox", &[], CARD)
    };
    for number in 0..5 {
        assert_refused("a bad key", &guess(number), UNAUTHORIZED);
        stage.send("sandbox", &[], CARD).expect(202);
    }
    for number in 5..10 {
        let answer = guess(number);
        assert_refused("a bad key too many", &answer, TOO_MANY);
        assert!((1..=12).contains(&retry_after(&answer)), "Retry-After: {}", retry_after(&answer));
        assert!(answer.header("RateLimit-Limit").is_none(), "an unknown key has a limit");
        stage.send("sandbox", &[], CARD).expect(202);
    }
    assert_stored(&stage, "sandbox", 10);
}

#[test]
fn a_full_queue_accepts_nothing_until_a_message_leaves() {
    const FLAGS: [&str; 2] = ["--backlog-cap", "3"];
    let stage = Stage::with(&FLAGS);
    stage.open("held", &["connect", "pause"]);
    let waiting: Vec<_> =
        (0..3).map(|number| stage.accept("held", &[], &card("5511999993001", &number.to_string()))).collect();
    for _ in 0..3 {
        assert_refused("a fourth", &stage.send("held", &[], CARD), QUEUE_FULL);
    }
    stage.accept("sandbox", &[], CARD);
    stage.server.delete(&waiting[1], Some(&stage.key)).expect(200);
    let last = stage.accept("held", &[], &card("5511999993001", "last"));
    assert_refused("a fourth again", &stage.send("held", &[], CARD), QUEUE_FULL);
    // The queued messages are counted again after a crash.
    let stage = stage.crash(&FLAGS);
    assert_refused("a fourth after a crash", &stage.send("held", &[], CARD), QUEUE_FULL);
    stage.act("held", "resume");
    stage.until(&last, "READ");
    assert_eq!(stage.phone("5511999993001").len(), 3);
    for _ in 0..3 {
        stage.until(&stage.accept("held", &[], CARD), "READ");
    }
    assert_stored(&stage, "held", 7);
}
