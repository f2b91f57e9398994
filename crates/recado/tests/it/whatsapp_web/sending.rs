//! Cards through linked phones: what arrives, under which account, and the handling of refusals.

use std::time::Duration;

use fake_whatsapp::{ALL, Refusal};
use serde_json::{Value, json};

use super::{JOAO, KNOWN, MARIA, NOBODY, OWNER, Stage, TYPED, unix_seconds};
use crate::harness::wait_for;

/// The card of the published document, as its recipient's phone reads it.
fn card(account: &str, typed: &str) -> String {
    format!(
        "BEGIN:VCARD\nVERSION:3.0\nN:;Maria Silva - Suporte;;;\nFN:Maria Silva - Suporte\n\
         TEL;type=CELL;type=VOICE;waid={account}:+{typed}\nEND:VCARD"
    )
}

/// The next messages to these accounts are refused.
pub fn refuse(stage: &Stage, code: u16, times: u32, to: &[&str]) {
    let to = to.iter().map(|account| (*account).to_owned()).collect();
    stage.whatsapp.faults(|faults| faults.refusal = Some(Refusal { code, times, to }));
}

fn accept_all(stage: &Stage) {
    stage.whatsapp.faults(|faults| faults.refusal = None);
}

#[test]
fn the_seeds_card_arrives_with_the_account_of_its_phone() {
    let stage = Stage::linked();
    // Each state is reached before the next one.
    stage
        .whatsapp
        .faults(|faults| (faults.no_read, faults.receipt_delay) = (true, std::time::Duration::from_millis(300)));
    let id = stage.accept("vendas", MARIA);
    let sent = stage.until("vendas", &id, "SENT");
    assert_eq!((&sent["deliveredAt"], &sent["readAt"]), (&Value::Null, &Value::Null), "{sent}");
    let message = stage.until("vendas", &id, "DELIVERED");
    assert!(message["sentAt"].is_string() && message["deliveredAt"].is_string(), "{message}");
    let inbox = stage.whatsapp.inbox();
    let [received] = &inbox[..] else { panic!("{inbox:?}") };
    assert_eq!(received.id, message["networkId"]);
    assert_eq!(received.to, MARIA);
    assert!(received.own_phone_saw_it, "the owner sees on the phone what was sent");
    assert_eq!(received.display_name(), Some("Maria Silva - Suporte"));
    assert_eq!(received.vcard(), Some(&*card(KNOWN, TYPED)));
    assert_eq!(message["account"], MARIA);
    assert_eq!(message["card"], json!({"waid": KNOWN, "source": "NETWORK"}));

    stage.whatsapp.faults(|faults| faults.no_read = false);
    let id = stage.accept("vendas", MARIA);
    let message = stage.until("vendas", &id, "READ");
    // The delivery receipt may come after the read receipt, and changes nothing then.
    for reached in ["queuedAt", "sendingAt", "sentAt", "readAt"] {
        assert!(message[reached].is_string(), "{reached} of {message}");
    }
    assert_eq!((&message["attempts"], &message["error"]), (&json!(1), &Value::Null));
}

#[test]
fn a_number_is_looked_up_once_and_leads_to_its_account() {
    let stage = Stage::linked();
    let account = |phone: &str| stage.get(&format!("/v1/channels/vendas/accounts/{phone}"));
    let found = account(TYPED).expect(200).json()["data"].clone();
    assert_eq!((&found["phone"], &found["account"]), (&json!(TYPED), &json!(KNOWN)), "{found}");
    assert_eq!(found["onWhatsapp"], true);
    assert!(found["checkedAt"].is_string(), "{found}");
    let unknown = account(NOBODY).expect(200).json()["data"].clone();
    assert_eq!((&unknown["onWhatsapp"], &unknown["account"]), (&json!(false), &Value::Null), "{unknown}");
    account("12").expect(400);

    // With and without the ninth digit, typed with a plus and spaces: the same person's phone reads it.
    for to in [TYPED, KNOWN, "+55 11 98888-7777"] {
        let id = stage.accept("vendas", to);
        assert_eq!(stage.until("vendas", &id, "READ")["to"], to);
        // A receipt may be recorded before the answer.
        wait_for("the account", || stage.message("vendas", &id)["account"] == KNOWN);
        assert_eq!(stage.message("vendas", &id)["card"], json!({"waid": KNOWN, "source": "NETWORK"}));
    }
    assert!(stage.whatsapp.inbox().iter().all(|received| received.to == KNOWN));
    // Stored: for the route, for three recipients and three cards, and across a restart.
    let stage = stage.crash();
    stage.until_state("vendas", "CONNECTED");
    assert_eq!(stage.get(&format!("/v1/channels/vendas/accounts/{TYPED}")).expect(200).json()["data"], found);
    let lookups = stage.whatsapp.lookups();
    let asked: Vec<_> = [TYPED, KNOWN, NOBODY].iter().map(|number| lookups.get(*number).copied()).collect();
    assert_eq!(asked, [Some(1), Some(1), Some(1)], "{lookups:?}");
    // A disconnected session looks up nothing, but uses the stored account.
    stage.act("vendas", "disconnect").expect(200);
    stage.get(&format!("/v1/channels/vendas/accounts/{TYPED}")).expect(200);
    stage.get("/v1/channels/vendas/accounts/5531977776666").expect(409);
}

#[test]
fn questions_have_a_limit_for_the_channel() {
    let stage = Stage::linked();
    let account = |number: usize| stage.get(&format!("/v1/channels/vendas/accounts/55319000{number:05}"));
    let answers: Vec<_> = (0..40).map(account).collect();
    let (found, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    // One more is permitted every two seconds.
    assert!((30..=35).contains(&found.len()), "{} of 40", found.len());
    assert_eq!(stage.whatsapp.lookups().len(), found.len());
    for answer in refused {
        let answer = answer.expect(429);
        assert!(answer.header("Retry-After").is_some_and(|seconds| seconds.parse::<u32>().is_ok()), "{answer:?}");
        assert_eq!(answer.json()["code"], "RATE_LIMIT_EXCEEDED");
    }
    // A message to a number that must be looked up waits for the rate limit, and counts no failure.
    let id = stage.accept("vendas", MARIA);
    let message = stage.until("vendas", &id, "READ");
    assert_eq!(message["error"], Value::Null, "{message}");
}

#[test]
fn a_number_without_an_account_gets_nothing_and_its_card_keeps_its_digits() {
    let stage = Stage::linked();
    let id = stage.accept("vendas", NOBODY);
    let message = stage.until("vendas", &id, "FAILED");
    assert_eq!(message["error"]["code"], "NUMBER_NOT_ON_WHATSAPP", "{message}");
    assert_eq!((&message["attempts"], &message["account"]), (&json!(1), &Value::Null), "{message}");
    assert_eq!(stage.whatsapp.counters().messages, 0);

    let id = stage.accept_card("vendas", MARIA, NOBODY);
    let message = stage.until("vendas", &id, "READ");
    assert_eq!(message["card"], json!({"waid": NOBODY, "source": "TYPED"}), "{message}");
    assert_eq!(stage.whatsapp.inbox()[0].vcard(), Some(&*card(NOBODY, NOBODY)));
}

#[test]
fn a_refused_message_fails_with_its_code_and_delays_no_other() {
    let stage = Stage::linked();
    refuse(&stage, 479, 1, &[]);
    let (refused, next) = (stage.accept("vendas", MARIA), stage.accept("vendas", MARIA));
    let message = stage.until("vendas", &refused, "FAILED");
    assert_eq!(message["error"]["code"], "WHATSAPP_REFUSED", "{message}");
    assert!(message["error"]["message"].as_str().expect("a text").contains("479"), "{message}");
    assert_eq!(message["attempts"], 1);
    stage.until("vendas", &next, "READ");
    assert_eq!(stage.whatsapp.copies(message["networkId"].as_str().expect("an id")), 0);
    assert_eq!(stage.channel("vendas")["state"], "CONNECTED");
}

#[test]
fn a_restricted_account_continues_with_known_recipients() {
    let stage = Stage::linked();
    let ana = "553199990003";
    stage.whatsapp.add_contact(ana, "900000000000005");
    let first = stage.accept("vendas", MARIA);
    stage.until("vendas", &first, "READ");
    // On PostgreSQL the restarted server waits for the lease of the previous one.
    let until = unix_seconds() + if stage.home.database.is_some() { 30 } else { 10 };
    stage.whatsapp.restrict(Some(until));
    refuse(&stage, 463, ALL, &[JOAO, ana]);

    let joao = stage.accept("vendas", JOAO);
    let channel = stage.until_state("vendas", "RESTRICTED");
    let shown: jiff::Timestamp = channel["restrictedUntil"].as_str().expect("a time").parse().expect("a time");
    assert_eq!(shown.as_second(), until, "as the network says: {channel}");
    assert!(channel["stateReason"].as_str().expect("a reason").contains("463"), "{channel}");
    assert_eq!(channel["accepts"], true);
    let refused = stage.whatsapp.counters().messages;
    let other = stage.accept("vendas", ana);
    let maria = stage.accept("vendas", MARIA);
    // Behind both, and in flight before them.
    stage.until("vendas", &maria, "READ");
    assert_eq!(stage.whatsapp.counters().messages, refused + 1, "no other chat was tried");
    // A restart keeps the restriction.
    let stage = stage.crash();
    wait_for("the session to be connected", || stage.whatsapp.is_online(OWNER));
    assert_eq!(stage.channel("vendas")["restrictedUntil"], channel["restrictedUntil"]);
    let maria = stage.accept("vendas", MARIA);
    stage.until("vendas", &maria, "READ");
    for waiting in [&joao, &other] {
        let message = stage.message("vendas", waiting);
        assert_eq!((&message["status"], &message["error"]), (&json!("QUEUED"), &Value::Null), "{message}");
    }
    assert!(unix_seconds() < until, "the machine is too slow for this test");

    stage.whatsapp.restrict(None);
    accept_all(&stage);
    for waiting in [&joao, &other] {
        stage.until("vendas", waiting, "READ");
    }
    assert!(unix_seconds() >= until, "before its time");
    let channel = stage.until_state("vendas", "CONNECTED");
    assert_eq!((&channel["restrictedUntil"], &channel["stateReason"]), (&Value::Null, &Value::Null), "{channel}");
    assert_eq!(stage.whatsapp.copies(stage.message("vendas", &joao)["networkId"].as_str().expect("an id")), 1);
}

#[test]
fn a_person_who_wrote_first_is_no_new_recipient() {
    let stage = Stage::linked();
    stage.whatsapp.restrict(Some(unix_seconds() + 600));
    refuse(&stage, 463, 1, &[]);
    let maria = stage.accept("vendas", MARIA);
    stage.until_state("vendas", "RESTRICTED");
    stage.whatsapp.say(JOAO, OWNER, "oi").expect("a message");
    wait_for("the message to be read", || stage.whatsapp.unconfirmed(OWNER) == 0);
    let joao = stage.accept("vendas", JOAO);
    stage.until("vendas", &joao, "READ");
    // The waiting message is released once the recipient has written.
    assert_eq!(stage.message("vendas", &maria)["status"], "QUEUED");
    stage.whatsapp.say(MARIA, OWNER, "oi").expect("a message");
    stage.until("vendas", &maria, "READ");
    let channel = stage.channel("vendas");
    assert_eq!(channel["state"], "RESTRICTED");
    // A session that is disconnected and connected again is as restricted as before, and shows it.
    stage.act("vendas", "disconnect").expect(200);
    stage.act("vendas", "connect").expect(200);
    let again = stage.until_state("vendas", "RESTRICTED");
    assert_eq!(again["restrictedUntil"], channel["restrictedUntil"]);
    assert!(again["stateReason"].is_string(), "{again}");
}

#[test]
fn an_account_that_writes_too_much_rests() {
    let stage = Stage::linked();
    refuse(&stage, 429, 1, &[]);
    let (first, second) = (stage.accept("vendas", MARIA), stage.accept("vendas", MARIA));
    let channel = stage.until_state("vendas", "RESTRICTED");
    assert!(channel["stateReason"].as_str().expect("a reason").contains("429"), "{channel}");
    let until: jiff::Timestamp = channel["restrictedUntil"].as_str().expect("a time").parse().expect("a time");
    assert!((850..=900).contains(&(until.as_second() - unix_seconds())), "{channel}");
    // The outcome is stored a moment later than it is visible.
    stage.until("vendas", &first, "QUEUED");
    // A restart keeps it, and nothing is sent meanwhile.
    let stage = stage.crash();
    wait_for("the session to be connected", || stage.whatsapp.is_online(OWNER));
    std::thread::sleep(std::time::Duration::from_secs(1));
    for id in [&first, &second] {
        assert_eq!(stage.message("vendas", id)["status"], "QUEUED");
    }
    assert_eq!(stage.whatsapp.counters().messages, 1);
    // The message can be cancelled.
    stage.server.delete(&format!("/v1/channels/vendas/messages/{first}"), Some(&stage.key)).expect(200);
}

/// The network refuses keys for a while: nothing was sent, and the message waits, however often it is tried.
#[test]
fn refused_keys_make_no_message_unknown() {
    let stage = Stage::linked();
    stage.whatsapp.faults(|faults| faults.keys_error = Some(429));
    let id = stage.accept("vendas", MARIA);
    // One more than the attempts of a message with an unknown outcome.
    wait_for("five tries", || stage.message("vendas", &id)["attempts"].as_i64() >= Some(5));
    stage.until("vendas", &id, "QUEUED");
    assert!(
        !stage.owns_session("vendas")
            || stage.server.log().contains("message not sent: recipient devices or keys unknown")
    );
    stage.whatsapp.faults(|faults| faults.keys_error = None);
    let read = stage.until("vendas", &id, "READ");
    assert!(read["unknownAt"].is_null(), "{read}");
}

/// Keys that are never given hold the cards for their owner, and no others.
#[test]
fn a_recipient_without_keys_delays_no_other() {
    let stage = Stage::linked();
    stage.whatsapp.faults(|faults| faults.withheld_keys = vec![JOAO.to_owned()]);
    let (first, second) = (stage.accept("vendas", JOAO), stage.accept("vendas", JOAO));
    for _ in 0..2 {
        let other = stage.accept("vendas", MARIA);
        stage.until("vendas", &other, "READ");
    }
    wait_for("three tries", || stage.message("vendas", &first)["attempts"].as_i64() >= Some(3));
    for (id, tried) in [(&first, true), (&second, false)] {
        let message = stage.until("vendas", id, "QUEUED");
        assert_eq!((message["attempts"] != 0, &message["error"]), (tried, &Value::Null), "{message}");
    }
    stage.whatsapp.faults(|faults| faults.withheld_keys.clear());
    for id in [&first, &second] {
        let message = stage.until("vendas", id, "READ");
        assert!(message["unknownAt"].is_null(), "{message}");
    }
    let to_joao = stage.whatsapp.inbox().into_iter().filter(|card| card.to == JOAO).map(|card| card.id);
    let ids = [&first, &second].map(|id| stage.message("vendas", id)["networkId"].as_str().expect("an id").to_owned());
    assert_eq!(to_joao.collect::<Vec<_>>(), ids, "in order");
}

/// A card to an account without devices goes only to the sender's own phone. The network's acknowledgement of that proves
/// nothing.
#[test]
fn a_card_that_reaches_no_device_is_never_sent() {
    let stage = Stage::linked();
    stage.whatsapp.faults(|faults| {
        faults.no_devices = vec![JOAO.to_owned()];
        faults.ack_delay = Duration::from_millis(1_700);
    });
    stage.settings("vendas", &json!({"typing": true}));
    let id = stage.accept("vendas", JOAO);
    // If the answer to the first attempt counted for the second one, there would be no third.
    let tried = |seen: &Value| seen["attempts"].as_i64() >= Some(3);
    let tried = super::wait_to_see("a third attempt", || stage.message("vendas", &id), tried);
    assert_ne!(tried["status"], "SENT");
}

/// The phone on a card is not the recipient.
#[test]
fn a_card_without_a_known_account_keeps_its_typed_number() {
    let stage = Stage::linked();
    stage.whatsapp.faults(|faults| faults.withheld_accounts = vec![TYPED.to_owned()]);
    let id = stage.accept("vendas", MARIA);
    let message = stage.until("vendas", &id, "READ");
    assert_eq!(message["attempts"], 1, "{message}");
    let inbox = stage.whatsapp.inbox();
    let card = inbox[0].vcard().expect("a card");
    assert!(card.contains(&format!("waid={TYPED}")), "{card}");
}
