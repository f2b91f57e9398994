//! `connect`, `GET …/pairing`, and the events that end a link.

use fake_whatsapp::{Account, ConnectFailure};
use serde_json::json;

use super::{JOAO, MARIA, OWNER, Stage, owner};
use crate::harness::wait_for;

#[test]
fn a_scan_links_the_channel_and_a_restart_needs_no_other() {
    let stage = Stage::set();
    stage.create("vendas");
    assert_eq!(stage.channel("vendas")["state"], "CREATED");
    assert_eq!(stage.pairing("vendas")["status"], "IDLE");

    let pairing = stage.connect("vendas");
    assert_eq!(pairing["status"], "QR_CODE");
    assert!(pairing["qrCode"].as_str().expect("an image").starts_with("data:image/svg+xml;base64,"), "{pairing}");
    assert!(pairing["expiresAt"].is_string(), "{pairing}");
    assert_eq!(stage.channel("vendas")["state"], "CONNECTING");
    assert_eq!(stage.channel("vendas")["accepts"], false, "it never was up");
    // A second call returns the same code.
    assert_eq!(stage.connect("vendas")["code"], pairing["code"]);

    stage.whatsapp.scan(pairing["code"].as_str().expect("a code"), &owner()).expect("it can be scanned");
    let channel = stage.until_state("vendas", "CONNECTED");
    assert_eq!(channel["link"]["phone"], OWNER);
    assert_eq!(stage.pairing("vendas")["status"], "LINKED");

    // If another node owns the session, this call does not affect it.
    let shown = if stage.owns_session("vendas") { json!("IDLE") } else { json!("LINKED") };
    let stage = stage.crash();
    wait_for("the session to be back", || stage.channel("vendas")["state"] == "CONNECTED");
    assert_eq!(stage.pairing("vendas")["status"], shown, "no code was asked for");
    let again = stage.connect("vendas")["status"].clone();
    assert_eq!(again, if shown == "IDLE" { serde_json::Value::Null } else { shown }, "and none is now");
}

#[test]
fn a_phone_that_logs_out_leaves_a_channel_that_can_be_linked_again() {
    let stage = Stage::linked();
    stage.whatsapp.log_out(OWNER);
    let channel = stage.until_state("vendas", "LOGGED_OUT");
    assert!(channel["stateReason"].as_str().expect("a reason").contains("QR code"), "{channel}");
    assert_eq!(channel["accepts"], false);

    let pairing = stage.connect("vendas");
    stage.whatsapp.scan(pairing["code"].as_str().expect("a code"), &owner().at(2)).expect("it can be scanned");
    stage.until_state("vendas", "CONNECTED");
}

#[test]
fn a_message_that_one_phone_may_have_sent_is_not_sent_by_the_next() {
    let stage = Stage::linked();
    // The card arrives, but not its answer and receipts: the phone unlinks the device in that moment.
    stage.whatsapp.faults(|faults| {
        (faults.hang_up_before_ack, faults.deliver_unacked, faults.no_receipts) = (1, true, true);
        faults.connect_failure = Some(ConnectFailure::new(401));
    });
    let (in_flight, waits) = (stage.accept("vendas", MARIA), stage.accept("vendas", JOAO));
    stage.until_state("vendas", "LOGGED_OUT");
    assert_eq!(stage.message("vendas", &in_flight)["status"], "QUEUED", "the same phone may link again");
    stage.whatsapp.faults(|faults| faults.connect_failure = None);

    let another = Account::new("551140007777", "900000000000007");
    let pairing = stage.connect("vendas");
    stage.whatsapp.scan(pairing["code"].as_str().expect("a code"), &another).expect("it can be scanned");
    stage.until("vendas", &waits, "SENT");
    let message = stage.message("vendas", &in_flight);
    assert_eq!((&message["status"], message["unknownAt"].is_string()), (&json!("UNKNOWN"), true), "{message}");
    let from: Vec<_> = stage.whatsapp.inbox().into_iter().map(|card| (card.to, card.from)).collect();
    assert_eq!(from, [(MARIA.to_owned(), OWNER.to_owned()), (JOAO.to_owned(), another.phone)], "each card once");
}

#[test]
fn a_session_that_ended_without_unlinking_is_tried_first() {
    let stage = Stage::linked();
    // The network still knows the device.
    stage.whatsapp.expel(OWNER, "something_new");
    let channel = stage.until_state("vendas", "LOGGED_OUT");
    assert!(channel["stateReason"].as_str().expect("a reason").contains("sem dizer por que"), "{channel}");
    let stage = stage.crash();
    assert_eq!(stage.channel("vendas")["state"], "LOGGED_OUT", "a person must reconnect it");
    stage.connect("vendas");
    stage.until_state("vendas", "CONNECTED");
    let id = stage.accept("vendas", MARIA);
    stage.until("vendas", &id, "READ");

    // The network has forgotten the device: the call discovers that, and shows a code.
    stage.whatsapp.expel(OWNER, "something_new");
    stage.until_state("vendas", "LOGGED_OUT");
    stage.whatsapp.log_out(OWNER);
    let pairing = stage.connect("vendas");
    assert_eq!(pairing["status"], "QR_CODE", "{pairing}");
    assert_eq!(stage.channel("vendas")["state"], "CONNECTING");
    stage.whatsapp.scan(pairing["code"].as_str().expect("a code"), &owner().at(2)).expect("it can be scanned");
    stage.until_state("vendas", "CONNECTED");
    // A session that was opened in this way and is unlinked later shows no code without a call.
    stage.whatsapp.expel(OWNER, "something_new");
    stage.until_state("vendas", "LOGGED_OUT");
    stage.connect("vendas");
    stage.until_state("vendas", "CONNECTED");
    stage.whatsapp.log_out(OWNER);
    stage.until_state("vendas", "LOGGED_OUT");
    assert_eq!(stage.pairing("vendas")["status"], "IDLE");
}

#[test]
fn a_session_replaced_by_another_program_waits_for_a_person() {
    let stage = Stage::linked();
    stage.whatsapp.replace(OWNER);
    let channel = stage.until_state("vendas", "DISCONNECTED");
    wait_for("the reason", || {
        stage.channel("vendas")["stateReason"].as_str().unwrap_or_default().contains("Outro programa")
    });
    assert_eq!(channel["accepts"], true, "what is sent meanwhile waits");
    // The channel does not reconnect by itself, also not at the next start.
    let stage = stage.crash();
    assert_eq!(stage.channel("vendas")["state"], "DISCONNECTED");
    stage.act("vendas", "connect").expect(200);
    stage.until_state("vendas", "CONNECTED");
}

#[test]
fn a_ban_without_an_end_waits_for_a_person() {
    let stage = Stage::linked();
    stage.whatsapp.faults(|faults| faults.connect_failure = Some(ConnectFailure::new(403)));
    stage.whatsapp.drop_connections(OWNER);
    let channel = stage.until_state("vendas", "BANNED");
    assert_eq!(channel["accepts"], false);
    // The channel stays banned until a person reconnects it.
    stage.whatsapp.faults(|faults| faults.connect_failure = None);
    stage.act("vendas", "connect").expect(200);
    stage.until_state("vendas", "CONNECTED");
}

#[test]
fn an_outdated_version_waits_for_a_person() {
    let stage = Stage::linked();
    stage.whatsapp.faults(|faults| faults.connect_failure = Some(ConnectFailure::new(405)));
    stage.whatsapp.drop_connections(OWNER);
    wait_for("the reason", || {
        let channel = stage.channel("vendas");
        let reason = channel["stateReason"].as_str().unwrap_or_default();
        channel["state"] == "DISCONNECTED" && reason.contains("RECADO_WHATSAPP_WEB_VERSION")
    });
    stage.whatsapp.faults(|faults| faults.connect_failure = None);
    stage.act("vendas", "connect").expect(200);
    stage.until_state("vendas", "CONNECTED");
}
