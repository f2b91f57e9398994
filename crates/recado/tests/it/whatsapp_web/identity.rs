//! A channel that is made anew under the id of a deleted one has no phone before one scans its code.

use std::thread::{scope, sleep};
use std::time::Duration;

use fake_whatsapp::Account;
use serde_json::{Value, json};

use super::{MARIA, OWNER, Stage, owner};
use crate::disconnect::{leave, request};
use crate::harness::wait_for;

const PATH: &str = "/v1/channels/vendas";
/// How often each case is played, at other moments.
const ROUNDS: u16 = 4;

/// Makes the channel as soon as its id is free.
fn make_anew(stage: &Stage) {
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
    // What the former session may say late is not the channel's.
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

/// Deletes, makes anew and connects a channel at about the same time.
fn deleted_made_anew_and_connected_at_once(stage: &Stage) {
    for round in 1..=ROUNDS {
        // In the last one the former session takes its time to end.
        stage.whatsapp.faults(|faults| faults.swallow_log_outs = u32::from(round == ROUNDS));
        stage.link("vendas", &owner().at(round));
        scope(|scope| {
            let deleting = scope.spawn(|| stage.server.delete(PATH, Some(&stage.key)).expect(200));
            scope.spawn(|| make_anew(stage));
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
fn a_channel_deleted_made_anew_and_connected_at_once_has_no_phone() {
    deleted_made_anew_and_connected_at_once(&Stage::set());
}

#[test]
fn a_channel_deleted_made_anew_and_connected_at_once_has_no_phone_on_postgres() {
    deleted_made_anew_and_connected_at_once(&Stage::set_on(1));
}

/// Who deletes the channel does not wait for the answer.
fn deleted_by_who_disconnects(stage: &Stage) {
    for round in 1..=ROUNDS {
        stage.link("vendas", &owner().at(round));
        leave(request(&stage.server, "DELETE", PATH, &stage.key, None), Duration::from_millis(u64::from(round)), true);
        make_anew(stage);
        has_no_phone(stage, round);
        stage.server.delete(PATH, Some(&stage.key)).expect(200);
    }
}

#[test]
fn a_channel_whose_deletion_nobody_waited_for_has_no_phone_when_it_is_made_anew() {
    deleted_by_who_disconnects(&Stage::set());
}

#[test]
fn a_channel_whose_deletion_nobody_waited_for_has_no_phone_when_it_is_made_anew_on_postgres() {
    deleted_by_who_disconnects(&Stage::set_on(1));
}

/// Calls of `connect` that nobody waits for.
const CALLS: u32 = 40;

#[test]
fn a_connect_that_nobody_waits_for_shows_its_code() {
    let stage = Stage::set();
    let id = |number: u32| format!("c{number}");
    (0..CALLS).for_each(|number| stage.create(&id(number)));
    for number in 0..CALLS {
        let path = format!("/v1/channels/{}/connect", id(number));
        let stream = request(&stage.server, "POST", &path, &stage.key, Some("{}"));
        leave(stream, Duration::from_millis(u64::from(number % 6)), number.is_multiple_of(2));
    }
    for number in 0..CALLS {
        wait_for("a code, or a channel that nobody connects", || {
            let (shown, pairing) = (stage.channel(&id(number)), stage.pairing(&id(number)));
            shown["state"] == "CONNECTING" && pairing["status"] == "QR_CODE" || shown["state"] == "CREATED"
        });
    }
    let shown = (0..CALLS).filter(|number| stage.pairing(&id(*number))["status"] == "QR_CODE").count();
    assert!(shown > 0, "no call came through");
}
