//! The life of a queued message: its order, its expiry, and its interval to the message before.

use serde_json::{Value, json};

use super::assert_stored;
use crate::harness::wait_for;
use crate::trace::Strace;
use crate::v1::{CARD, NOT_CANCELLABLE, Stage, assert_refused, card, millis};

#[test]
fn a_channel_keeps_the_order_of_its_calls() {
    const CARDS: usize = 40;
    let stage = &Stage::set();
    std::thread::scope(|scope| {
        for number in 0..3 {
            scope.spawn(move || {
                let (channel, to) = (format!("queue-{number}"), format!("551199999500{number}"));
                stage.open(&channel, &["connect"]);
                let send = |card_number: usize| stage.accept(&channel, &[], &card(&to, &card_number.to_string()));
                let all: Vec<_> = (0..CARDS).map(send).collect();
                stage.until(&all[CARDS - 1], "READ");
                let shown = stage.phone(&to);
                let names: Vec<_> = shown.iter().rev().map(|shown| shown["contact"]["name"].clone()).collect();
                let in_order: Vec<_> = (0..CARDS).map(|number| Value::from(number.to_string())).collect();
                assert_eq!(names, in_order);
            });
        }
    });
}

#[test]
fn a_message_that_waits_too_long_expires() {
    let stage = Stage::with(&["--message-ttl", "2s"]);
    stage.open("held", &["connect", "pause"]);
    stage.open("down", &["connect", "disconnect"]);
    for channel in ["held", "down"] {
        let location = stage.accept(channel, &[], CARD);
        let message = stage.data(&location);
        assert_eq!(message["status"], "QUEUED");
        assert_eq!(millis(&message, "expiresAt") - millis(&message, "queuedAt"), 2_000);
        let expired = stage.until(&location, "EXPIRED");
        assert_eq!((&expired["error"], &expired["attempts"]), (&Value::Null, &json!(0)));
        assert!(millis(&expired, "expiredAt") >= millis(&message, "expiresAt"), "{expired}");
        for unreached in ["sendingAt", "sentAt", "deliveredAt", "readAt", "failedAt", "cancelledAt", "unknownAt"] {
            assert_eq!(expired[unreached], Value::Null, "{unreached}");
        }
        assert_refused("too late", &stage.server.delete(&location, Some(&stage.key)), NOT_CANCELLABLE);
        stage.act(channel, "connect");
        stage.until(&stage.accept(channel, &[], &card("5511999996001", "Later")), "READ");
        assert_eq!(stage.data(&location)["status"], "EXPIRED");
    }
    assert_eq!(stage.phone("5511999998888"), Vec::<Value>::new());
}

/// The time to live ends a message that is retried, and one that expires while the server is down.
#[test]
fn a_message_that_is_retried_too_long_ends_and_a_crash_does_not_extend_its_time() {
    const FLAGS: [&str; 2] = ["--message-ttl", "3s"];
    let stage = Stage::with(&FLAGS);
    stage.open("held", &["connect", "pause"]);
    let held = stage.accept("held", &[], CARD);
    let retried = stage.accept("sandbox", &[("X-Ogmma-Sandbox-Scenario", "timeout")], CARD);
    // Tried at once and after a second; the next attempt would follow five seconds later. Neither attempt was answered, so
    // the message may have been sent.
    assert_eq!(stage.until(&retried, "UNKNOWN")["attempts"], 2);
    let ended = millis(&stage.data(&held), "expiresAt");
    let stage = stage.crash(&FLAGS);
    let expired = stage.until(&held, "EXPIRED");
    assert_eq!(millis(&expired, "expiresAt"), ended);
    stage.act("held", "resume");
    stage.until(&stage.accept("held", &[], &card("5511999996002", "Later")), "READ");
    assert_eq!(stage.phone("5511999998888"), Vec::<Value>::new());
}

fn arrivals(stage: &Stage, to: &str) -> Vec<i64> {
    stage.phone(to).iter().rev().map(|shown| millis(shown, "receivedAt")).collect()
}

#[test]
fn a_channel_waits_the_send_interval_between_two_sends() {
    let stage = Stage::with(&["--sandbox-delay-min", "300ms", "--sandbox-delay-max", "500ms"]);
    stage.open("other", &["connect"]);
    let cards: Vec<_> =
        (0..4).map(|number| stage.accept("sandbox", &[], &card("5511999997001", &number.to_string()))).collect();
    let other = stage.accept("other", &[], &card("5511999997002", "Other"));
    stage.until(&cards[3], "READ");
    stage.until(&other, "READ");
    let times = arrivals(&stage, "5511999997001");
    assert_eq!(times.len(), 4);
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| *gap >= 300), "{gaps:?} ms");
    // Each channel has its own interval.
    assert!(arrivals(&stage, "5511999997002")[0] < times[3], "a channel waited for another");
}

/// A slow disk must not bring two sends closer together: the interval is between sends, whatever is written between them.
#[test]
fn a_slow_commit_shortens_no_rest() {
    let stage = Stage::with(&["--sandbox-delay-min", "300ms", "--sandbox-delay-max", "300ms"]);
    stage.open("held", &["connect", "pause"]);
    let cards: Vec<_> =
        (0..12).map(|number| stage.accept("held", &[], &card("5511999997004", &number.to_string()))).collect();
    // Each fifth sync of a thread takes 200 ms more.
    let slow = ["-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:delay_exit=200000:when=1+5"];
    let strace = Strace::attach(&stage.server, &[&slow[..], &["-o", "/dev/null"]].concat());
    stage.act("held", "resume");
    stage.until(&cards[11], "READ");
    strace.detach();
    let times = arrivals(&stage, "5511999997004");
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.len() == 11 && gaps.iter().all(|gap| *gap >= 300), "{gaps:?} ms");
}

#[test]
fn a_crash_does_not_end_the_rest() {
    const FLAGS: [&str; 4] = ["--sandbox-delay-min", "4s", "--sandbox-delay-max", "4s"];
    let stage = Stage::with(&FLAGS);
    for name in ["first", "second"] {
        stage.accept("sandbox", &[], &card("5511999997003", name));
    }
    wait_for("the first card to arrive", || !stage.phone("5511999997003").is_empty());
    let stage = stage.crash(&FLAGS);
    wait_for("the second card to arrive", || stage.phone("5511999997003").len() == 2);
    let times = arrivals(&stage, "5511999997003");
    assert!(times[1] - times[0] >= 4_000, "{} ms", times[1] - times[0]);
    assert_stored(&stage, "sandbox", 2);
}
