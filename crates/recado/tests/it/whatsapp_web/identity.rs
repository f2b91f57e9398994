//! A channel that is recreated under the id of a deleted one has no phone before one scans its code.

use std::thread::{scope, sleep};
use std::time::Duration;

use fake_whatsapp::Account;
use serde_json::{Value, json};

use super::{MARIA, OWNER, Stage, owner};
use crate::disconnect::{leave, request};
use crate::harness::wait_for;

const PATH: &str = "/v1/channels/vendas";
/// How often each case is repeated, with other timings.
const ROUNDS: u16 = 4;

/// Creates the channel as soon as its id is free.
fn recreate(stage: &Stage) {
    let body = json!({"name": "Nova", "type": "WHATSAPP_BAILEYS", "id": "vendas"});
    wait_for("the id to be free", || stage.server.post("/v1/channels", &stage.key, &body).status == 201);
}

/// The channel has no phone, and shows a code; another phone scans it.
fn has_no_phone(stage: &Stage, round: u16) {
    let pairing = stage.connect("vendas");
    let channel = stage.channel("vendas");
    let seen = (&pairing["status"], &channel["state"], &channel["link"]);
    assert_eq!(seen, (&json!("QR_CODE"), &json!("CONNECTING"), &Value::Null), "{round}");
    wait_for("the former phone's device to be gone", || !stage.whatsapp.is_online(OWNER));
    // Late reports of the former session do not concern the channel.
    sleep(Duration::from_millis(100));
    assert_eq!(stage.channel("vendas")["state"], "CONNECTING", "{round}");
    assert_eq!(stage.connect("vendas")["code"], pairing["code"], "{round}");
    let other = Account::new(&format!("55114000700{round}"), &format!("90000000000007{round}"));
    stage.whatsapp.scan(pairing["code"].as_str().expect("a code"), &other).expect("it can be scanned");
    assert_eq!(stage.until_state("vendas", "CONNECTED")["link"]["phone"], other.phone.as_str(), "{round}");
    let id = stage.accept("vendas", MARIA);
    stage.until("vendas", &id, "READ");
    assert_eq!(stage.whatsapp.inbox().last().map(|card| card.from.clone()), Some(other.phone), "{round}");
}

/// Deletes, recreates and connects a channel at about the same time.
fn delete_recreate_and_connect_at_once(stage: &Stage) {
    for round in 1..=ROUNDS {
        // In the last round the former session takes long to end.
        stage.whatsapp.faults(|faults| faults.swallow_log_outs = u32::from(round == ROUNDS));
        stage.link("vendas", &owner().at(round));
        scope(|scope| {
            let deleting = scope.spawn(|| stage.server.delete(PATH, Some(&stage.key)).expect(200));
            scope.spawn(|| recreate(stage));
            // The one or the other.
            while !deleting.is_finished() {
                let seen = stage.act("vendas", "connect");
                assert!([200, 404, 409, 503].contains(&seen.status), "{round}: {}", seen.status);
            }
        });
        has_no_phone(stage, round);
        stage.server.delete(PATH, Some(&stage.key)).expect(200);
    }
}

#[test]
fn a_channel_deleted_recreated_and_connected_at_once_has_no_phone() {
    delete_recreate_and_connect_at_once(&Stage::set());
}

#[test]
fn a_channel_deleted_recreated_and_connected_at_once_has_no_phone_on_postgres() {
    delete_recreate_and_connect_at_once(&Stage::set_on(1));
}

/// The client that deletes the channel does not wait for the answer.
fn delete_and_disconnect(stage: &Stage) {
    for round in 1..=ROUNDS {
        stage.link("vendas", &owner().at(round));
        leave(request(&stage.server, "DELETE", PATH, &stage.key, None), Duration::from_millis(u64::from(round)), true);
        recreate(stage);
        has_no_phone(stage, round);
        stage.server.delete(PATH, Some(&stage.key)).expect(200);
    }
}

#[test]
fn a_channel_recreated_after_an_abandoned_deletion_has_no_phone() {
    delete_and_disconnect(&Stage::set());
}

#[test]
fn a_channel_recreated_after_an_abandoned_deletion_has_no_phone_on_postgres() {
    delete_and_disconnect(&Stage::set_on(1));
}

/// Calls of `connect` whose clients do not wait.
const CALLS: u32 = 40;

#[test]
fn a_connect_whose_client_has_gone_shows_its_code() {
    let stage = Stage::set();
    let id = |number: u32| format!("c{number}");
    (0..CALLS).for_each(|number| stage.create(&id(number)));
    for number in 0..CALLS {
        let path = format!("/v1/channels/{}/connect", id(number));
        let stream = request(&stage.server, "POST", &path, &stage.key, Some("{}"));
        leave(stream, Duration::from_millis(u64::from(number % 6)), number.is_multiple_of(2));
    }
    for number in 0..CALLS {
        wait_for("a code, or a channel that is not connected", || {
            let (shown, pairing) = (stage.channel(&id(number)), stage.pairing(&id(number)));
            shown["state"] == "CONNECTING" && pairing["status"] == "QR_CODE" || shown["state"] == "CREATED"
        });
    }
    let shown = (0..CALLS).filter(|number| stage.pairing(&id(*number))["status"] == "QR_CODE").count();
    assert!(shown > 0, "no call came through");
}
