//! The `Idempotency-Key`: repeated calls make one message, whatever happens between them.

use std::sync::Barrier;
use std::thread::scope;

use serde_json::json;

use super::assert_stored;
use crate::harness::{Answer, wait_for};
use crate::v1::{
    ALL_SCOPES, CARD, KEY_REUSED, NOT_CONNECTED, QUEUE_FULL, Stage, TOO_MANY, assert_faults, assert_refused, card,
    create_key, location, text,
};

const ONCE: (&str, &str) = ("Idempotency-Key", "once");

fn is_replay(answer: &Answer) -> bool {
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert!(matches!(answer.header("Idempotent-Replayed"), None | Some("true")), "{:?}", answer.headers);
    answer.header("Idempotent-Replayed").is_some()
}

/// The answer is the first one's, and is marked as a replay.
#[track_caller]
fn assert_replays(what: &str, answer: &Answer, first: &Answer) {
    assert!(is_replay(answer), "{what}: a second message");
    assert_eq!(answer.body, first.body, "{what}");
    for header in ["Location", "X-Message-Id", "Content-Type"] {
        assert_eq!(answer.header(header), first.header(header), "{what}: {header}");
    }
}

#[test]
fn a_repeat_gets_the_first_answer_and_makes_no_message() {
    let stage = Stage::set();
    let first = stage.send("sandbox", &[ONCE], CARD).expect(202);
    assert!(!is_replay(&first));
    for _ in 0..3 {
        assert_replays("at once", &stage.send("sandbox", &[ONCE], CARD), &first);
    }
    stage.until(&location(&first), "READ");
    assert_replays("after it was read", &stage.send("sandbox", &[ONCE], CARD), &first);
    assert_stored(&stage, "sandbox", 1);
    let shown = stage.phone("5511999998888");
    assert_eq!((shown.len(), &shown[0]["arrivals"]), (1, &json!(1)));
    // Without a key, or with another one, each call makes a message.
    assert!(!is_replay(&stage.send("sandbox", &[("Idempotency-Key", "ONCE")], CARD)));
    assert!(!is_replay(&stage.send("sandbox", &[], CARD)));
    assert_stored(&stage, "sandbox", 3);
}

#[test]
fn calls_that_mean_the_same_are_the_same() {
    let stage = Stage::set();
    let first = stage.send("sandbox", &[ONCE], CARD).expect(202);
    for body in [
        r#"{"phone":"5511988887777","name":"Maria Silva - Suporte","to":"5511999998888"}"#,
        r#"{ "to" : "+55 (11) 99999-8888", "name" : "Maria Silva - Suporte", "phone" : "5511988887777" }"#,
        r#"{"to":"5511999998888","name":"  Maria Silva - Suporte\t","phone":"+55 11 98888.7777"}"#,
        r#"{"to":"5511999998888","name":"\u004daria Silva - Suporte","phone":"5511988887777","email":null}"#,
        r#"{"to":"5511999998888","name":"Maria Silva - Suporte","phone":"5511988887777","email":"","organization":" "}"#,
    ] {
        assert_replays(body, &stage.send("sandbox", &[ONCE], body), &first);
    }
    let other_path = stage.send("%73andbox", &[ONCE], CARD);
    assert_replays("the channel's id in another spelling", &other_path, &first);
    assert_stored(&stage, "sandbox", 1);
}

#[test]
fn another_content_under_the_same_key_is_refused() {
    let stage = Stage::set();
    stage.open("second", &["connect"]);
    let first = stage.send("sandbox", &[ONCE], CARD).expect(202);
    for body in [
        r#"{"to":"5511999998889","name":"Maria Silva - Suporte","phone":"5511988887777"}"#,
        r#"{"to":"5511999998888","name":"maria Silva - Suporte","phone":"5511988887777"}"#,
        r#"{"to":"5511999998888","name":"Maria Silva - Suporte","phone":"5511988887778"}"#,
        r#"{"to":"5511988887777","name":"Maria Silva - Suporte","phone":"5511999998888"}"#,
        r#"{"to":"5511999998888","name":"Maria Silva - Suporte","phone":"5511988887777","email":"a@b.co"}"#,
        r#"{"to":"5511999998888","name":"Maria Silva - Suporte","phone":"5511988887777","organization":"a@b.co"}"#,
    ] {
        assert_refused(body, &stage.send("sandbox", &[ONCE], body), KEY_REUSED);
    }
    let scenario = [ONCE, ("X-Ogmma-Sandbox-Scenario", "lost_answer")];
    assert_refused("a scenario", &stage.send("sandbox", &scenario, CARD), KEY_REUSED);
    assert_refused("another channel", &stage.send("second", &[ONCE], CARD), KEY_REUSED);
    assert_replays("the first content", &stage.send("sandbox", &[ONCE], CARD), &first);
    assert_stored(&stage, "sandbox", 1);
    assert_stored(&stage, "second", 0);
}

#[test]
fn another_institution_has_its_own_keys() {
    let stage = Stage::set();
    let other = stage.home.cli(&["institutions", "create", "--name", "Another"]);
    let other = text(&other, "testKey");
    let first = stage.send("sandbox", &[ONCE], CARD).expect(202);
    let theirs = stage.send_with(other, "sandbox", &[ONCE], CARD);
    assert!(!is_replay(&theirs));
    assert_ne!(location(&theirs), location(&first));
    assert_replays("theirs", &stage.send_with(other, "sandbox", &[ONCE], CARD), &theirs);
    // Two API keys of one institution share the idempotency keys.
    let second = create_key(&stage.home, "test", ALL_SCOPES, "unlimited");
    assert_replays("another key of ours", &stage.send_with(&second, "sandbox", &[ONCE], CARD), &first);
}

#[test]
fn a_refused_call_does_not_use_its_key_up() {
    let stage = Stage::with(&["--backlog-cap", "1"]);
    stage.open("held", &["connect", "pause"]);
    let (limited, other) = (create_key(&stage.home, "test", ALL_SCOPES, "1"), card("5511999990000", "Other"));
    let blocking = stage.accept("held", &[], CARD);
    assert_refused("503", &stage.send("held", &[ONCE], &other), QUEUE_FULL);
    let name = [("name", "O nome do contato e obrigatorio.")];
    assert_faults("400", &stage.send("held", &[ONCE], r#"{"to":"5511999998888","phone":"5511988887777"}"#), &name);
    stage.send("nowhere", &[ONCE], &other).expect(404);
    stage.send_with("oapi_sk_test_bad", "held", &[ONCE], &other).expect(401);
    stage.send_with(&limited, "nowhere", &[], &other).expect(404);
    assert_refused("429", &stage.send_with(&limited, "held", &[ONCE], &other), TOO_MANY);
    stage.open("new", &[]);
    assert_refused("409", &stage.send("new", &[ONCE], &other), NOT_CONNECTED);

    stage.server.delete(&blocking, Some(&stage.key)).expect(200);
    // If one of them had stored the key, this would be a replay or a 422.
    assert!(!is_replay(&stage.send("held", &[ONCE], CARD)));
    assert_stored(&stage, "held", 2);
}

#[test]
fn a_replay_does_not_depend_on_the_state_of_channel_or_message() {
    let stage = Stage::set();
    stage.open("moving", &["connect", "pause"]);
    let first = stage.send("moving", &[ONCE], CARD).expect(202);
    assert_replays("paused", &stage.send("moving", &[ONCE], CARD), &first);
    stage.act("moving", "disconnect");
    assert_replays("disconnected", &stage.send("moving", &[ONCE], CARD), &first);
    stage.server.delete(&location(&first), Some(&stage.key)).expect(200);
    assert_replays("cancelled", &stage.send("moving", &[ONCE], CARD), &first);
    stage.act("moving", "connect");
    assert_replays("connected", &stage.send("moving", &[ONCE], CARD), &first);
    stage.until(&stage.accept("moving", &[], &card("5511999990001", "Behind it")), "READ");
    assert_eq!(stage.phone("5511999998888").len(), 0, "a cancelled message was sent by its replay");
    assert_stored(&stage, "moving", 2);
}

#[test]
fn concurrent_equal_calls_make_one_message() {
    const TWINS: usize = 20;
    let stage = Stage::set();
    for round in 0..5 {
        let (key, start) = (format!("twins-{round}"), Barrier::new(TWINS));
        let body = card(&format!("551199999100{round}"), "Twin");
        let twin = || {
            start.wait();
            stage.send("sandbox", &[("Idempotency-Key", &key)], &body)
        };
        let answers: Vec<Answer> = scope(|scope| {
            let twins: Vec<_> = (0..TWINS).map(|_| scope.spawn(twin)).collect();
            twins.into_iter().map(|twin| twin.join().expect("an answer")).collect()
        });
        assert!(answers.iter().all(|answer| location(answer) == location(&answers[0])), "two messages");
        assert_eq!(answers.iter().filter(|answer| is_replay(answer)).count(), TWINS - 1);
        stage.until(&location(&answers[0]), "READ");
        let shown = stage.phone(&format!("551199999100{round}"));
        assert_eq!((shown.len(), &shown[0]["arrivals"]), (1, &json!(1)));
        assert_stored(&stage, "sandbox", round + 1);
    }
}

#[test]
fn rivals_at_the_same_moment_have_one_winner() {
    const RIVALS: usize = 12;
    let stage = Stage::set();
    let start = Barrier::new(RIVALS);
    let rival = |number: usize| {
        start.wait();
        stage.send("sandbox", &[ONCE], &card(&format!("55119999920{number:02}"), "Rival"))
    };
    let answers: Vec<Answer> = scope(|scope| {
        let rivals: Vec<_> = (0..RIVALS).map(|number| scope.spawn(move || rival(number))).collect();
        rivals.into_iter().map(|rival| rival.join().expect("an answer")).collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 202);
    assert_eq!((won.len(), won[0].header("Idempotent-Replayed")), (1, None));
    lost.iter().for_each(|answer| assert_refused("a rival", answer, KEY_REUSED));
    assert_stored(&stage, "sandbox", 1);
}

#[test]
fn keys_survive_a_crash() {
    let stage = Stage::set();
    let first = stage.send("sandbox", &[ONCE], CARD).expect(202);
    let stage = stage.crash(&[]);
    assert_replays("after a crash", &stage.send("sandbox", &[ONCE], CARD), &first);
    let other = card("5511999990002", "Other");
    assert_refused("after a crash", &stage.send("sandbox", &[ONCE], &other), KEY_REUSED);
    assert_stored(&stage, "sandbox", 1);
}

#[test]
fn keys_are_forgotten_in_time() {
    let stage = Stage::with(&["--keep-idempotency", "2s"]);
    let first = stage.send("sandbox", &[ONCE], CARD).expect(202);
    let (mut replayed, mut last) = (0, first);
    let first = location(&last);
    wait_for("the key to be forgotten", || {
        last = stage.send("sandbox", &[ONCE], CARD).expect(202);
        replayed += usize::from(is_replay(&last));
        location(&last) != first
    });
    assert!(replayed > 0, "it was forgotten at once");
    // From now on the key belongs to the new message.
    assert_replays("the new message", &stage.send("sandbox", &[ONCE], CARD), &last);
    assert_stored(&stage, "sandbox", 2);
}
