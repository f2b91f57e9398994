//! The identity of a person: one person under both forms of a number and a hidden id, and no other person.

use fake_whatsapp::{ALL, Account, MadeUpReceipt, Refusal};
use serde_json::Value;

use super::{JOAO, KNOWN, MARIA, NOBODY, OWNER, Stage, TYPED, unix_seconds};
use crate::harness::wait_for;

/// The hidden ids of the owner, of [`KNOWN`] and of [`JOAO`].
const OWNER_LID: &str = "900000000000001";
const KNOWN_LID: &str = "900000000000003";
const JOAO_LID: &str = "900000000000004";

fn read_by(from: &str, id: &str) -> MadeUpReceipt {
    MadeUpReceipt::new(from, id, "read")
}

fn millis(message: &Value, field: &str) -> i64 {
    let time = message[field].as_str().unwrap_or_else(|| panic!("{field} of {message}"));
    time.parse::<jiff::Timestamp>().expect("a time").as_millisecond()
}

/// Receipts that are not the recipient's: of other people, of a group, of a status, and of our own account.
fn send_receipts_of_others(stage: &Stage, id: &str) {
    let people = [JOAO, OWNER].map(|number| format!("{number}@s.whatsapp.net"));
    let hidden = [JOAO_LID, OWNER_LID, "999999999999999"].map(|lid| format!("{lid}@lid"));
    let elsewhere = ["status@broadcast", "120363000000000001@g.us"];
    for from in people.iter().chain(&hidden).map(String::as_str).chain(elsewhere) {
        stage.whatsapp.receipt(OWNER, &read_by(from, id));
        let in_a_group = MadeUpReceipt { participant: Some(format!("{KNOWN}@s.whatsapp.net")), ..read_by(from, id) };
        stage.whatsapp.receipt(OWNER, &in_a_group);
    }
}

#[test]
fn only_the_recipients_receipts_count_and_none_is_dated_before_its_message() {
    let stage = Stage::linked();
    stage.whatsapp.faults(|faults| faults.no_receipts = true);
    let id = stage.accept("vendas", TYPED);
    let network_id = stage.until("vendas", &id, "SENT")["networkId"].as_str().expect("an id").to_owned();
    send_receipts_of_others(&stage, &network_id);
    // Receipts are handled in order, so a later one shows the effect of these.
    let delivered = MadeUpReceipt::new(&format!("{KNOWN}@s.whatsapp.net"), &network_id, "");
    stage.whatsapp.receipt(OWNER, &MadeUpReceipt { at: Some(4_000_000_000), ..delivered });
    let message = stage.until("vendas", &id, "DELIVERED");
    assert_eq!(message["readAt"], Value::Null, "{message}");
    assert!(millis(&message, "deliveredAt") <= (unix_seconds() + 1) * 1_000, "{message}");
    // With the hidden id, and a clock that shows 1970.
    let read = read_by(&format!("{KNOWN_LID}@lid"), &network_id);
    stage.whatsapp.receipt(OWNER, &MadeUpReceipt { at: Some(1), ..read });
    let message = stage.until("vendas", &id, "READ");
    assert!(millis(&message, "readAt") >= millis(&message, "sendingAt"), "{message}");
}

/// A chat with a person whose number the network hides is answered by the hidden id.
#[test]
fn a_message_reaches_a_hidden_id() {
    let stage = Stage::linked();
    stage.whatsapp.faults(|faults| faults.no_receipts = true);
    let to = format!("{KNOWN_LID}@lid");
    let id = stage.accept("vendas", &to);
    let message = stage.until("vendas", &id, "SENT");
    assert_eq!((&message["to"], &message["account"]), (&Value::from(&*to), &Value::Null));
    let network_id = message["networkId"].as_str().expect("an id").to_owned();
    let inbox = stage.whatsapp.inbox();
    assert_eq!((inbox.len(), &*inbox[0].to, &*inbox[0].id), (1, KNOWN, &*network_id));
    let asked = stage.whatsapp.lookups();
    assert!(!asked.keys().any(|number| number.contains(KNOWN_LID)), "a hidden id is no number: {asked:?}");
    // Receipts count from the person who has the hidden id, and from no other.
    stage.whatsapp.receipt(OWNER, &read_by(&format!("{JOAO_LID}@lid"), &network_id));
    stage.whatsapp.receipt(OWNER, &MadeUpReceipt::new(&to, &network_id, ""));
    let message = stage.until("vendas", &id, "DELIVERED");
    assert_eq!(message["readAt"], Value::Null, "{message}");
    stage.whatsapp.receipt(OWNER, &read_by(&to, &network_id));
    stage.until("vendas", &id, "READ");
}

/// The receipt of another person is no answer for a message that waits for one.
#[test]
fn the_receipt_of_another_person_answers_no_message() {
    let stage = Stage::linked();
    stage.whatsapp.faults(|faults| (faults.no_receipts, faults.swallow_acks, faults.deliver_unacked) = (true, 1, true));
    let id = stage.accept("vendas", TYPED);
    wait_for("the card to arrive", || !stage.whatsapp.inbox().is_empty());
    let network_id = stage.message("vendas", &id)["networkId"].as_str().expect("an id").to_owned();
    send_receipts_of_others(&stage, &network_id);
    let waiting = stage.accept("vendas", MARIA);
    stage.whatsapp.receipt(OWNER, &MadeUpReceipt::new(&format!("{KNOWN}@s.whatsapp.net"), &network_id, ""));
    let message = stage.until("vendas", &id, "DELIVERED");
    assert_eq!((&message["readAt"], &message["attempts"]), (&Value::Null, &1.into()), "{message}");
    // The recipient's own receipt was the answer.
    stage.until("vendas", &waiting, "SENT");
}

/// A person, looked up by the first number, known by the second; and the hidden id.
const ANA: [&str; 3] = ["5511977776666", "551177776666", "900000000000007"];

/// A channel that may open no chats, with cards waiting for these numbers. Other messages are accepted, except to [`JOAO`].
fn restricted(waiting_for: &[&str]) -> (Stage, Vec<String>) {
    let stage = Stage::linked();
    stage.whatsapp.add_contact(ANA[1], ANA[2]);
    stage.whatsapp.add_alias(ANA[0], ANA[1]);
    stage.whatsapp.restrict(Some(unix_seconds() + 3_600));
    let to = vec![JOAO.to_owned()];
    stage.whatsapp.faults(|faults| faults.refusal = Some(Refusal { code: 463, times: ALL, to }));
    stage.accept("vendas", JOAO);
    stage.until_state("vendas", "RESTRICTED");
    let waiting: Vec<_> = waiting_for.iter().map(|to| stage.accept("vendas", to)).collect();
    // A message to a known recipient overtakes those that wait, and shows that they were skipped.
    wait_for("keys to write with", || stage.whatsapp.one_time_keys(OWNER) != [0]);
    stage.whatsapp.say(MARIA, OWNER, "oi").expect("sent");
    let known = stage.accept("vendas", MARIA);
    stage.until("vendas", &known, "READ");
    for id in &waiting {
        assert_eq!(stage.message("vendas", id)["status"], "QUEUED");
    }
    (stage, waiting)
}

#[test]
fn a_sender_releases_messages_to_either_form_of_the_number() {
    let (stage, waiting) = restricted(&[ANA[0], ANA[1]]);
    assert_eq!(stage.whatsapp.lookups().get(ANA[0]), None, "the number was not queried");
    stage.whatsapp.say(ANA[1], OWNER, "oi").expect("sent");
    for id in &waiting {
        stage.until("vendas", id, "READ");
    }
    assert_eq!(stage.channel("vendas")["state"], "RESTRICTED");
}

#[test]
fn a_looked_up_number_releases_the_messages_that_wait_for_it() {
    // Another number of the same person, which no rule derives.
    let other = "5511955554444";
    let (stage, waiting) = restricted(&[other]);
    stage.whatsapp.add_alias(other, ANA[1]);
    stage.whatsapp.say(ANA[1], OWNER, "oi").expect("sent");
    // Behind hers: her message has been handled when this one is released.
    stage.whatsapp.add_contact("553199990008", "900000000000008");
    let fence = stage.accept("vendas", "553199990008");
    stage.whatsapp.say("553199990008", OWNER, "oi").expect("sent");
    stage.until("vendas", &fence, "READ");
    assert_eq!(stage.message("vendas", &waiting[0])["status"], "QUEUED");
    stage.get(&format!("/v1/channels/vendas/accounts/{other}")).expect(200);
    stage.until("vendas", &waiting[0], "READ");
}

/// A sender who is named only by the hidden id is found among the recipients of waiting messages.
#[test]
fn a_sender_known_only_by_a_hidden_id_releases_waiting_messages() {
    let (stranger, other) = ("553199990008", "5511955554444");
    let (stage, waiting) = restricted(&[stranger, NOBODY, other, stranger]);
    stage.whatsapp.add_contact(stranger, "900000000000008");
    stage.whatsapp.add_alias(other, ANA[1]);
    stage.whatsapp.faults(|faults| faults.hidden = vec![ANA[1].to_owned()]);
    stage.whatsapp.say(ANA[1], OWNER, "oi").expect("sent");
    stage.until("vendas", &waiting[2], "READ");
    let asked = || [stranger, NOBODY, other].map(|number| stage.whatsapp.lookups().get(number).copied());
    assert_eq!(asked(), [Some(1); 3], "each was asked for once");
    // A sender who was found, or who is no recipient, causes no further lookups.
    let further = ["5511944443333", "5511933332222"].map(|number| stage.accept("vendas", number));
    for _ in 0..2 {
        stage.whatsapp.say(ANA[1], OWNER, "oi").expect("sent");
    }
    let again = stage.accept("vendas", other);
    stage.until("vendas", &again, "READ");
    assert_eq!(stage.whatsapp.lookups().get("5511944443333"), None);
    for id in waiting.iter().take(2).chain(&waiting[3..]).chain(&further) {
        assert_eq!(stage.message("vendas", id)["status"], "QUEUED");
    }
}

/// The message arrives before the session is connected again.
#[test]
fn a_sender_known_only_by_a_hidden_id_is_found_after_a_reconnect() {
    let other = "5511955554444";
    let (stage, waiting) = restricted(&[other]);
    stage.whatsapp.add_alias(other, ANA[1]);
    stage.whatsapp.faults(|faults| faults.hidden = vec![ANA[1].to_owned()]);
    let whatsapp = stage.whatsapp.clone();
    let stage = stage.crash_and(|_| drop(whatsapp.say(ANA[1], OWNER, "oi").expect("sent")));
    stage.until("vendas", &waiting[0], "READ");
}

/// Many messages of a sender cause no second lookup.
#[test]
fn many_messages_of_an_unknown_sender_cost_one_search() {
    let (stranger, withheld) = ("553199990008", ["5511955554444", "5511944443333"]);
    let (stage, waiting) = restricted(&[ANA[0], withheld[0], withheld[1]]);
    stage.whatsapp.add_contact(stranger, "900000000000008");
    let withheld_accounts = withheld.map(str::to_owned).to_vec();
    stage.whatsapp.faults(|faults| {
        (faults.hidden, faults.withheld_accounts) = (vec![stranger.to_owned()], withheld_accounts);
    });
    let asked = || withheld.map(|number| stage.whatsapp.lookups().get(number).copied());
    for _ in 0..16 {
        stage.whatsapp.say(stranger, OWNER, "oi").expect("sent");
    }
    wait_for("the search", || asked() == [Some(1); 2]);
    // Behind theirs: their messages have been handled when this one is released.
    stage.whatsapp.say(ANA[1], OWNER, "oi").expect("sent");
    stage.until("vendas", &waiting[0], "READ");
    assert_eq!(asked(), [Some(1); 2]);
}

/// Looks up the account of a number; then that account is removed, and the number leads to another one.
fn moved(stage: &Stage) -> u64 {
    let [typed, kept, lid] = ANA;
    stage.whatsapp.add_contact(kept, lid);
    stage.whatsapp.add_alias(typed, kept);
    let found = stage.get(&format!("/v1/channels/vendas/accounts/{typed}")).expect(200);
    assert_eq!(found.json()["data"]["account"], kept);
    let first = stage.accept("vendas", typed);
    stage.until("vendas", &first, "READ");
    stage.whatsapp.remove_contact(kept);
    stage.whatsapp.add_contact(typed, "900000000000009");
    stage.whatsapp.add_alias(typed, typed);
    stage.whatsapp.lookups()[typed]
}

/// The only attempt reaches the new account, after one more lookup.
fn reaches_the_live_account(stage: &Stage, asked: u64) {
    let id = stage.accept("vendas", ANA[0]);
    let message = stage.until("vendas", &id, "READ");
    assert_eq!(message["attempts"], 1, "{message}");
    // A receipt may be recorded before the answer.
    wait_for("the account", || stage.message("vendas", &id)["account"] == ANA[0]);
    let inbox = stage.whatsapp.inbox();
    let copies: Vec<_> = inbox.iter().filter(|received| message["networkId"] == *received.id).collect();
    assert_eq!(copies.iter().map(|received| &*received.to).collect::<Vec<_>>(), [ANA[0]]);
    assert_eq!(stage.whatsapp.lookups()[ANA[0]], asked + 1);
}

fn refuse_as_unknown(stage: &Stage, to: &str, times: u32) {
    let to = vec![to.to_owned()];
    stage.whatsapp.faults(|faults| faults.refusal = Some(Refusal { code: 404, times, to }));
}

#[test]
fn an_account_that_no_longer_exists_is_looked_up_again() {
    let stage = Stage::linked();
    let asked = moved(&stage);
    refuse_as_unknown(&stage, ANA[1], ALL);
    reaches_the_live_account(&stage, asked);
}

#[test]
fn an_account_without_devices_is_looked_up_again() {
    let stage = Stage::linked();
    let [typed, kept, lid] = ANA;
    stage.whatsapp.add_contact(kept, lid);
    stage.whatsapp.add_alias(typed, kept);
    stage.get(&format!("/v1/channels/vendas/accounts/{typed}")).expect(200);
    stage.whatsapp.remove_contact(kept);
    stage.whatsapp.add_contact(typed, "900000000000009");
    stage.whatsapp.add_alias(typed, typed);
    reaches_the_live_account(&stage, 1);
}

#[test]
fn a_missing_recipient_fails_only_after_the_network_confirms_it() {
    let stage = Stage::linked();
    let first = stage.accept("vendas", JOAO);
    stage.until("vendas", &first, "READ");
    // The network names the same account again: it is tried again.
    refuse_as_unknown(&stage, JOAO, 1);
    let second = stage.accept("vendas", JOAO);
    let message = stage.until("vendas", &second, "READ");
    assert_eq!((&message["attempts"], stage.whatsapp.lookups()[JOAO]), (&2.into(), 2), "{message}");
    // Now the network names none.
    stage.whatsapp.remove_contact(JOAO);
    refuse_as_unknown(&stage, JOAO, ALL);
    let third = stage.accept("vendas", JOAO);
    let message = stage.until("vendas", &third, "FAILED");
    assert_eq!(message["error"]["code"], "NUMBER_NOT_ON_WHATSAPP", "{message}");
    assert_eq!((&message["attempts"], stage.whatsapp.lookups()[JOAO]), (&1.into(), 3), "{message}");
}

#[test]
fn a_device_named_by_the_ack_gets_one_copy() {
    let stage = Stage::linked();
    let first = stage.accept("vendas", MARIA);
    stage.until("vendas", &first, "READ");
    // A device of the recipient, which is also ours, but the first channel is not notified of it.
    stage.link("dela", &Account::new(MARIA, "900000000000002"));
    wait_for("keys of the new device", || stage.whatsapp.one_time_keys(MARIA) != [0]);
    let copies = || {
        let id = stage.accept("vendas", MARIA);
        let message = stage.until("vendas", &id, "READ");
        wait_for("the end of the attempt", || stage.message("vendas", &id)["account"] == MARIA);
        assert_eq!(message["attempts"], 1, "{message}");
        stage.whatsapp.copies(message["networkId"].as_str().expect("an id"))
    };
    assert_eq!((copies(), copies()), (2, 1), "sent again once, and then the device is known");
    assert_eq!(stage.whatsapp.counters().undecryptable, 0);
}
