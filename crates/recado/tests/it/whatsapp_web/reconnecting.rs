//! The rate of reconnects, and what a session that does not reconnect must not affect.

use std::thread;
use std::time::{Duration, Instant};

use fake_whatsapp::{Account, ConnectFailure};
use serde_json::{Value, json};

use super::{MARIA, OWNER, Stage};
use crate::harness::{PATIENCE, wait_for};
use crate::load::setting;

/// A different phone for each number.
fn phone(number: usize) -> Account {
    Account::new(&format!("55114000{number:04}"), &format!("90000000001{number:04}"))
}

fn connections(stage: &Stage) -> u64 {
    stage.whatsapp.counters().connections
}

/// Requests a code that is typed on this phone.
fn code_for(stage: &Stage, channel: &str, phone: &str) -> crate::harness::Answer {
    stage.server.post(&format!("/v1/channels/{channel}/connect"), &stage.key, &json!({ "phone": phone }))
}

#[test]
fn a_session_reopens_only_after_the_end_of_a_ban() {
    let stage = Stage::linked();
    stage.whatsapp.faults(|faults| faults.connect_failure = Some(ConnectFailure::ban_for(0)));
    stage.whatsapp.drop_connections(OWNER);
    let channel = stage.until_state("vendas", "RESTRICTED");
    let banned = connections(&stage);
    let until: jiff::Timestamp = channel["restrictedUntil"].as_str().expect("a time").parse().expect("a time");
    assert!(until.as_second() - super::unix_seconds() >= 45, "a ban has a least time: {channel}");
    thread::sleep(Duration::from_secs(3));
    let stage = stage.crash();
    thread::sleep(Duration::from_secs(1));
    for action in ["disconnect", "connect"] {
        stage.act("vendas", action).expect(200);
        thread::sleep(Duration::from_millis(300));
    }
    let channel = stage.channel("vendas");
    assert_eq!((&channel["state"], connections(&stage)), (&json!("RESTRICTED"), banned), "{channel}");
    assert!(channel["stateReason"].as_str().expect("a reason").contains("suspendeu"), "{channel}");
    let id = stage.accept("vendas", MARIA);

    // The ban ends: its stored times are set back.
    stage.whatsapp.faults(|faults| faults.connect_failure = None);
    let nodes = stage.nodes();
    let stage = stage.crash_and(|home| {
        let ends = "UPDATE links SET banned_until = 1; UPDATE channels SET restricted_until = 1, next_send_at = 1";
        if let Some(url) = &home.database {
            // A running node would wait for the end that it has read.
            drop((nodes > 1).then(|| home.held.remove(0)));
            test_postgres::run(url, ends);
        } else {
            let store = rusqlite::Connection::open(home.dir.join("recado.db")).expect("the store");
            store.execute_batch(ends).expect("set back");
        }
    });
    stage.until("vendas", &id, "READ");
    stage.until_state("vendas", "CONNECTED");
}

#[test]
fn sessions_that_were_cut_together_reconnect_one_after_another() {
    let stage = Stage::set();
    for n in 0..12 {
        stage.link(&format!("c{n}"), &phone(n));
    }
    let before = usize::try_from(connections(&stage)).expect("few");
    for n in 0..12 {
        stage.whatsapp.drop_connections(&phone(n).phone);
    }
    wait_for("every session to reconnect", || (0..12).all(|n| stage.whatsapp.is_online(&phone(n).phone)));
    let times = stage.whatsapp.connected_at().split_off(before);
    let (first, last) = (times.first().expect("some"), times.last().expect("some"));
    // Twenty a second and node: eleven waits of 50 ms, or those of each node's share.
    let nodes = setting("RECADO_TEST_NODES").unwrap_or(1).max(1);
    assert!(*last - *first >= Duration::from_millis(500 / nodes), "{:?}", *last - *first);
}

#[test]
fn logins_without_an_answer_delay_no_other() {
    let stage = Stage::set();
    for n in 0..10 {
        stage.link(&format!("c{n}"), &phone(n));
    }
    stage.whatsapp.faults(|faults| faults.stalled_logins = (0..9).map(|n| phone(n).phone).collect());
    let stage = stage.crash();
    let begun = Instant::now();
    wait_for("the session whose login is answered", || stage.whatsapp.is_online(&phone(9).phone));
    stage.create("nova");
    let pairing = stage.connect("nova");
    assert_eq!(pairing["status"], "QR_CODE", "{pairing}");
    // Less than the 20 seconds that each of them waits for its answer.
    assert!(begun.elapsed() < Duration::from_secs(18), "{:?}", begun.elapsed());
}

#[test]
fn a_login_that_only_the_network_ended_is_repeated() {
    let stage = Stage::linked();
    let before = connections(&stage);
    stage.whatsapp.stream_error(OWNER, 503);
    stage.until_state("vendas", "DISCONNECTED");
    assert_eq!(connections(&stage), before, "the connection lives");
    stage.until_state("vendas", "CONNECTED");
    let id = stage.accept("vendas", MARIA);
    stage.until("vendas", &id, "READ");
}

#[test]
fn a_refusal_ends_a_linking_with_its_reason() {
    let stage = Stage::set();
    stage.whatsapp.faults(|faults| faults.connect_failure = Some(ConnectFailure::new(409)));
    stage.create("vendas");
    code_for(&stage, "vendas", OWNER).expect(200);
    wait_for("the end of the linking", || stage.pairing("vendas")["status"] == "ENDED");
    let reason = stage.pairing("vendas")["reason"].clone();
    assert!(reason.as_str().expect("a reason").contains("409"), "{reason}");
    let channel = stage.channel("vendas");
    assert_eq!((&channel["state"], &channel["accepts"]), (&json!("CREATED"), &json!(false)), "{channel}");
    let before = connections(&stage);
    stage.whatsapp.faults(|faults| faults.connect_failure = None);
    thread::sleep(Duration::from_secs(1));
    assert_eq!((connections(&stage), &stage.pairing("vendas")["status"]), (before, &json!("ENDED")));
}

#[test]
fn a_refused_session_shows_the_reason_and_is_retried() {
    let stage = Stage::linked();
    stage.whatsapp.faults(|faults| faults.connect_failure = Some(ConnectFailure::new(415)));
    stage.whatsapp.drop_connections(OWNER);
    let named = |channel: &Value| channel["stateReason"].as_str().is_some_and(|reason| reason.contains("erro 415"));
    wait_for("the refusal", || named(&stage.channel("vendas")));
    assert_eq!(stage.channel("vendas")["state"], "DISCONNECTED");
    stage.whatsapp.faults(|faults| faults.connect_failure = None);
    stage.until_state("vendas", "CONNECTED");
}

#[test]
fn a_restricted_channel_stays_restricted_while_disconnected() {
    let stage = Stage::linked();
    stage.whatsapp.restrict(Some(super::unix_seconds() + 600));
    stage.whatsapp.faults(|faults| faults.refusal = Some(fake_whatsapp::Refusal { code: 463, times: 1, to: vec![] }));
    stage.accept("vendas", MARIA);
    let restricted = stage.until_state("vendas", "RESTRICTED");
    stage.whatsapp.faults(|faults| faults.connect_failure = Some(ConnectFailure::new(503)));
    let before = connections(&stage);
    stage.whatsapp.drop_connections(OWNER);
    wait_for("a login that fails", || connections(&stage) > before + 1);
    let channel = stage.channel("vendas");
    for field in ["state", "stateReason", "restrictedUntil"] {
        assert_eq!(channel[field], restricted[field], "{channel}");
    }
}

#[test]
fn codes_for_phones_have_a_limit() {
    let stage = Stage::set();
    stage.create("vendas");
    for n in 0..3 {
        code_for(&stage, "vendas", &phone(n).phone).expect(200);
    }
    let shown = stage.pairing("vendas");
    let refused = code_for(&stage, "vendas", &phone(3).phone);
    let wait: u64 = refused.header("Retry-After").expect("a time").parse().expect("seconds");
    assert!((3_000..=3_600).contains(&wait), "{wait}");
    refused.expect(429);
    assert_eq!(stage.pairing("vendas"), shown, "what is shown goes on");
    stage.create("outra");
    code_for(&stage, "outra", &phone(2).phone).expect(200);
    // Each node counts by itself: on another one the phone has three of its own, and so has the channel.
    let counted_together = stage.owns_session("vendas") == stage.owns_session("outra");
    let third = if counted_together { [(2, 429), (4, 200)] } else { [(2, 200), (4, 429)] };
    for (n, status) in [(2, 200)].into_iter().chain(third) {
        code_for(&stage, "outra", &phone(n).phone).expect(status);
    }
    // A code to scan causes no notification on a phone.
    stage.create("terceira");
    assert_eq!(stage.connect("terceira")["status"], "QR_CODE");
}

#[test]
fn a_session_is_closed_at_once_whatever_the_network_does() {
    let stage = Stage::set();
    stage.whatsapp.faults(|faults| {
        faults.swallow_phone_codes = fake_whatsapp::ALL;
        faults.stalled_logins = vec![phone(1).phone];
    });
    stage.create("vendas");
    let path = stage.server.url("/v1/channels/vendas/connect");
    let key = stage.key.clone();
    let asked = thread::spawn(move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).http_status_as_error(false).build().into();
        let call = agent.post(path).header("Authorization", format!("Bearer {key}"));
        call.content_type("application/json")
            .send(json!({ "phone": OWNER }).to_string())
            .map(|answer| answer.status().as_u16())
    });
    wait_for("the code to be asked for", || connections(&stage) > 0);
    thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    stage.act("vendas", "disconnect").expect(200);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(asked.join().expect("no panic").expect("an answer"), 200);
    assert_eq!(stage.channel("vendas")["state"], "CREATED");
    code_for(&stage, "vendas", OWNER);
    let begun = Instant::now();
    stage.server.delete("/v1/channels/vendas", Some(&stage.key)).expect(200);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    stage.create("outra");
    thread::scope(|threads| {
        threads.spawn(|| code_for(&stage, "outra", OWNER));
        wait_for("the code to be asked for", || connections(&stage) > 2);
    });
    let begun = Instant::now();
    stage.server.terminate();
    assert_eq!(stage.server.wait().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn a_connection_lost_while_typing_leaves_the_account_offline() {
    let stage = Stage::linked();
    stage.settings("vendas", &json!({"typing": true}));
    let id = stage.accept("vendas", MARIA);
    wait_for("the sign", || stage.whatsapp.typing().iter().any(|sign| sign.on));
    stage.whatsapp.drop_connections(OWNER);
    stage.settings("vendas", &json!({"typing": false}));
    stage.until("vendas", &id, "READ");
    for _ in 0..2 {
        let presences = stage.whatsapp.counters().presences;
        stage.whatsapp.drop_connections(OWNER);
        wait_for("the session to be disconnected", || !stage.whatsapp.is_online(OWNER));
        wait_for("the session to be connected", || stage.whatsapp.is_online(OWNER));
        wait_for("the library to show us online, and us to take it back", || {
            stage.whatsapp.counters().presences > presences && !stage.whatsapp.shows_online(OWNER)
        });
    }
}

/// The code is typed when no QR code is left.
#[test]
fn a_phone_that_was_linked_late_reconnects_too() {
    let stage = Stage::set();
    stage.whatsapp.faults(|faults| faults.codes = Some(1));
    stage.create("vendas");
    code_for(&stage, "vendas", OWNER).expect(200);
    wait_for("the code", || stage.pairing("vendas")["status"] == "PHONE_CODE");
    let pairing = stage.pairing("vendas");
    thread::sleep(Duration::from_secs(63));
    stage.whatsapp.type_code(pairing["code"].as_str().expect("a code"), &super::owner()).expect("it can be typed");
    stage.until_state("vendas", "CONNECTED");
    let before = connections(&stage);
    stage.whatsapp.faults(|faults| faults.connect_failure = Some(ConnectFailure::new(415)));
    stage.whatsapp.drop_connections(OWNER);
    wait_for("the refusal", || connections(&stage) > before);
    stage.whatsapp.faults(|faults| faults.connect_failure = None);
    let end = Instant::now() + 2 * PATIENCE;
    while stage.channel("vendas")["state"] != "CONNECTED" {
        assert!(Instant::now() < end, "it never came back: {}", stage.channel("vendas"));
        thread::sleep(Duration::from_millis(100));
    }
}
