//! A connection that breaks, and a network that does not answer, answers late or twice: nothing is lost, and each card is
//! shown once.

use std::thread;
use std::time::{Duration, Instant};

use fake_whatsapp::{ConnectFailure, Faults};
use serde_json::{Value, json};

use super::{JOAO, MARIA, OWNER, Stage};
use crate::harness::wait_for;

/// The number of copies of the message that were read.
fn copies(stage: &Stage, message: &Value) -> usize {
    stage.whatsapp.copies(message["networkId"].as_str().expect("an id"))
}

/// The distinct ids that a phone read, in order.
fn shown(stage: &Stage) -> Vec<String> {
    let mut shown: Vec<String> = Vec::new();
    for received in stage.whatsapp.inbox() {
        if !shown.contains(&received.id) {
            shown.push(received.id);
        }
    }
    shown
}

fn network_ids(stage: &Stage, ids: &[String]) -> Vec<String> {
    let id = |id: &String| stage.message("vendas", id)["networkId"].as_str().expect("an id").to_owned();
    ids.iter().map(id).collect()
}

#[test]
fn a_missing_answer_leads_to_a_resend_with_the_same_id() {
    let stage = Stage::linked();
    stage.whatsapp.faults(|faults| (faults.swallow_acks, faults.deliver_unacked, faults.no_receipts) = (1, true, true));
    let begun = Instant::now();
    let (first, second) = (stage.accept("vendas", MARIA), stage.accept("vendas", MARIA));
    let message = stage.until("vendas", &first, "SENT");
    assert!(begun.elapsed() >= Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!((&message["attempts"], &message["error"]), (&json!(2), &Value::Null), "{message}");
    assert_eq!(copies(&stage, &message), 2, "the phone got it twice under one id, and shows it once");
    stage.until("vendas", &second, "SENT");
    assert_eq!(shown(&stage), network_ids(&stage, &[first, second]));
    assert_eq!(stage.whatsapp.counters().undecryptable, 0);
}

#[test]
fn a_receipt_is_an_answer_too() {
    let stage = Stage::linked();
    stage.whatsapp.faults(|faults| (faults.swallow_acks, faults.deliver_unacked) = (1, true));
    let begun = Instant::now();
    let (first, second) = (stage.accept("vendas", MARIA), stage.accept("vendas", MARIA));
    for id in [&first, &second] {
        let message = stage.until("vendas", id, "READ");
        assert_eq!((&message["attempts"], copies(&stage, &message)), (&json!(1), 1), "{message}");
        wait_for("what the answer adds", || stage.message("vendas", id)["account"] == MARIA);
        assert_eq!(stage.message("vendas", id)["card"]["source"], "NETWORK");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "the ack was waited for: {:?}", begun.elapsed());
}

#[test]
fn a_connection_lost_before_the_answer_sends_again_at_once() {
    for delivered in [false, true] {
        let stage = Stage::linked();
        stage.whatsapp.faults(|faults| (faults.hang_up_before_ack, faults.deliver_unacked) = (1, delivered));
        let begun = Instant::now();
        let ids = [stage.accept("vendas", MARIA), stage.accept("vendas", MARIA), stage.accept("vendas", JOAO)];
        for id in &ids {
            stage.until("vendas", id, "READ");
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        assert_eq!(shown(&stage), network_ids(&stage, &ids), "in order");
        let first = stage.message("vendas", &ids[0]);
        assert_eq!(first["error"], Value::Null, "{first}");
        assert!((1..=2).contains(&copies(&stage, &first)), "{first}");
        assert_eq!(stage.whatsapp.counters().undecryptable, 0);
        stage.until_state("vendas", "CONNECTED");
    }
}

#[test]
fn connections_that_break_repeatedly_fail_no_message() {
    let stage = Stage::linked();
    // More often than a message that is itself the cause would be tried.
    stage.whatsapp.faults(|faults| faults.hang_up_before_ack = 6);
    let id = stage.accept("vendas", MARIA);
    let message = stage.until("vendas", &id, "READ");
    assert_eq!((&message["error"], copies(&stage, &message)), (&Value::Null, 1), "{message}");
    assert_eq!(stage.whatsapp.counters().messages, 7);
}

/// Sends a card with these faults, and waits for this status.
fn with_faults(change: fn(&mut Faults), status: &str) -> (Stage, Value) {
    let stage = Stage::linked();
    stage.whatsapp.faults(change);
    let id = stage.accept("vendas", MARIA);
    let message = stage.until("vendas", &id, status);
    (stage, message)
}

#[test]
fn receipts_move_a_message_forward_only() {
    let (stage, message) = with_faults(|faults| faults.no_receipts = true, "SENT");
    stage.whatsapp.faults(|faults| faults.no_receipts = false);
    // A receipt of a later message changes nothing else.
    let later = stage.accept("vendas", MARIA);
    stage.until("vendas", &later, "READ");
    assert_eq!(stage.message("vendas", message["id"].as_str().expect("an id"))["status"], "SENT");

    let (stage, message) = with_faults(|faults| faults.extra_receipts = 3, "READ");
    // The last of them have arrived when those of a later message have.
    let later = stage.accept("vendas", MARIA);
    stage.until("vendas", &later, "READ");
    let now = stage.message("vendas", message["id"].as_str().expect("an id"));
    assert_eq!((&now["status"], &now["readAt"]), (&json!("READ"), &message["readAt"]), "{now}");

    // After the end of the connection: they come on the next one.
    let stage = Stage::linked();
    stage.whatsapp.faults(|faults| faults.receipt_delay = Duration::from_secs(1));
    let id = stage.accept("vendas", MARIA);
    stage.until("vendas", &id, "SENT");
    let stage = stage.crash();
    let message = stage.until("vendas", &id, "READ");
    assert_eq!(message["attempts"], 1, "{message}");

    // Before the answer.
    let (stage, message) = with_faults(|faults| faults.ack_delay = Duration::from_secs(1), "READ");
    let later = stage.accept("vendas", MARIA);
    stage.until("vendas", &later, "READ");
    let now = stage.message("vendas", message["id"].as_str().expect("an id"));
    assert_eq!(
        (&now["status"], &now["attempts"], &now["account"]),
        (&json!("READ"), &json!(1), &json!(MARIA)),
        "{now}"
    );
    assert_eq!(now["card"]["source"], "NETWORK", "{now}");
}

#[test]
fn a_lost_session_reconnects_by_itself_and_loses_nothing() {
    let stage = Stage::linked();
    stage.whatsapp.faults(|faults| faults.connect_failure = Some(ConnectFailure::new(503)));
    stage.whatsapp.drop_connections(OWNER);
    let channel = stage.until_state("vendas", "DISCONNECTED");
    assert!(channel["stateReason"].as_str().expect("a reason").contains("religando"), "{channel}");
    assert_eq!(channel["accepts"], true);
    let ids: Vec<_> = [MARIA, JOAO, MARIA].iter().map(|to| stage.accept("vendas", to)).collect();
    thread::sleep(Duration::from_millis(500));
    for id in &ids {
        let message = stage.message("vendas", id);
        assert_eq!((&message["status"], &message["attempts"]), (&json!("QUEUED"), &json!(0)), "{message}");
    }
    stage.whatsapp.faults(|faults| faults.connect_failure = None);
    for id in &ids {
        assert_eq!(stage.until("vendas", id, "READ")["attempts"], 1);
    }
    assert_eq!(shown(&stage), network_ids(&stage, &ids), "in order");
    assert_eq!(stage.until_state("vendas", "CONNECTED")["stateReason"], Value::Null);
}

#[test]
fn waiting_messages_are_sent_after_a_restart_without_another_code() {
    let stage = Stage::linked();
    stage.act("vendas", "pause").expect(200);
    let ids: Vec<_> = [MARIA, JOAO, MARIA].iter().map(|to| stage.accept("vendas", to)).collect();
    let stage = stage.crash();
    wait_for("the session to be connected", || stage.whatsapp.is_online(OWNER));
    assert_eq!(stage.channel("vendas")["state"], "PAUSED", "a pause outlasts a restart");
    assert_eq!(stage.message("vendas", &ids[0])["status"], "QUEUED");
    stage.act("vendas", "resume").expect(200);
    for id in &ids {
        stage.until("vendas", id, "READ");
    }
    assert_eq!(shown(&stage), network_ids(&stage, &ids), "in order");
    // A session that a person disconnected stays closed.
    stage.act("vendas", "disconnect").expect(200);
    let connections = stage.whatsapp.counters().connections;
    let stage = stage.crash();
    thread::sleep(Duration::from_millis(500));
    assert_eq!(stage.channel("vendas")["state"], "DISCONNECTED");
    assert_eq!(stage.whatsapp.counters().connections, connections);
}
