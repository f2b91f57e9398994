//! The pacing that makes a linked phone look human: intervals, typing, and few new recipients a day.

use std::thread;
use std::time::{Duration, Instant};

use fake_whatsapp::Typing;
use serde_json::json;

use super::{JOAO, MARIA, OWNER, Stage};
use crate::harness::wait_for;

/// The time at which each of so many messages was read.
fn times(stage: &Stage, count: usize) -> Vec<Instant> {
    let mut times = Vec::new();
    wait_for("every message to be read", || {
        let read = stage.whatsapp.inbox().len();
        times.resize(read, Instant::now());
        read == count
    });
    times
}

#[test]
fn a_channel_rests_between_two_messages() {
    let stage = Stage::linked();
    stage.settings("vendas", &json!({"delayMinSeconds": 1, "delayMaxSeconds": 2}));
    let ids: Vec<_> = [MARIA, JOAO, MARIA].iter().map(|to| stage.accept("vendas", to)).collect();
    for pair in times(&stage, 3).windows(2) {
        let rest = pair[1] - pair[0];
        // The messages are polled every 10 ms.
        assert!(rest >= Duration::from_millis(980), "{rest:?}");
    }
    // A kill does not shorten the interval.
    stage.until("vendas", &ids[2], "READ");
    stage.settings("vendas", &json!({"delayMinSeconds": 4, "delayMaxSeconds": 4}));
    let id = stage.accept("vendas", MARIA);
    let begun = times(&stage, 4)[3];
    stage.until("vendas", &id, "READ");
    let stage = stage.crash();
    stage.accept("vendas", MARIA);
    times(&stage, 5);
    assert!(begun.elapsed() >= Duration::from_millis(3_980), "{:?}", begun.elapsed());
}

#[test]
fn the_recipient_sees_typing() {
    let stage = Stage::linked();
    let id = stage.accept("vendas", MARIA);
    stage.until("vendas", &id, "READ");
    assert_eq!(stage.whatsapp.typing(), [], "off, unless it is asked for");
    stage.settings("vendas", &json!({"typing": true}));
    let begun = Instant::now();
    let id = stage.accept("vendas", MARIA);
    stage.until("vendas", &id, "READ");
    assert!(begun.elapsed() >= Duration::from_millis(800), "{:?}", begun.elapsed());
    let sign = |on| Typing { from: OWNER.to_owned(), to: MARIA.to_owned(), on };
    assert_eq!(stage.whatsapp.typing(), [sign(true), sign(false)]);
}

#[test]
fn new_recipients_have_a_limit_a_day() {
    let stage = Stage::linked();
    stage.settings("vendas", &json!({"newRecipientsPerDay": 1}));
    let maria = stage.accept("vendas", MARIA);
    let joao = stage.accept("vendas", JOAO);
    let again = stage.accept("vendas", MARIA);
    for id in [&maria, &again] {
        stage.until("vendas", id, "READ");
    }
    // Neither a wait nor a restart permits another new chat.
    let stage = stage.crash();
    stage.until_state("vendas", "CONNECTED");
    let again = stage.accept("vendas", MARIA);
    stage.until("vendas", &again, "READ");
    thread::sleep(Duration::from_millis(300));
    let message = stage.message("vendas", &joao);
    assert_eq!((&message["status"], &message["attempts"]), (&json!("QUEUED"), &json!(0)), "{message}");
    stage.settings("vendas", &json!({"newRecipientsPerDay": 2}));
    stage.until("vendas", &joao, "READ");
}
