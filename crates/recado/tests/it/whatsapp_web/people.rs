//! Who somebody is: one person under both forms of a number and a hidden id, and nobody else.

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

/// Receipts that are not the recipient's: of strangers, of a group, of a status, and of our own account.
fn say_that_others_read(stage: &Stage, id: &str) {
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
    say_that_others_read(&stage, &network_id);
    // Receipts are taken in their order: what comes after those shows what they did.
    let delivered = MadeUpReceipt::new(&format!("{KNOWN}@s.whatsapp.net"), &network_id, "");
    stage.whatsapp.receipt(OWNER, &MadeUpReceipt { at: Some(4_000_000_000), ..delivered });
    let message = stage.until("vendas", &id, "DELIVERED");
    assert_eq!(message["readAt"], Value::Null, "{message}");
    assert!(millis(&message, "deliveredAt") <= (unix_seconds() + 1) * 1_000, "{message}");
    // By the hidden id, and by a clock that stands in 1970.
    let read = read_by(&format!("{KNOWN_LID}@lid"), &network_id);
    stage.whatsapp.receipt(OWNER, &MadeUpReceipt { at: Some(1), ..read });
    let message = stage.until("vendas", &id, "READ");
    assert!(millis(&message, "readAt") >= millis(&message, "sendingAt"), "{message}");
}

/// A stranger's word on a message that waits for its answer is no answer.
#[test]
fn a_strangers_receipt_answers_no_message() {
    let stage = Stage::linked();
    stage.whatsapp.faults(|faults| (faults.no_receipts, faults.swallow_acks, faults.take_unacked) = (true, 1, true));
    let id = stage.accept("vendas", TYPED);
    wait_for("the card to arrive", || !stage.whatsapp.inbox().is_empty());
    let network_id = stage.message("vendas", &id)["networkId"].as_str().expect("an id").to_owned();
    say_that_others_read(&stage, &network_id);
    let waiting = stage.accept("vendas", MARIA);
    stage.whatsapp.receipt(OWNER, &MadeUpReceipt::new(&format!("{KNOWN}@s.whatsapp.net"), &network_id, ""));
    let message = stage.until("vendas", &id, "DELIVERED");
    assert_eq!((&message["readAt"], &message["attempts"]), (&Value::Null, &1.into()), "{message}");
    // The recipient's own word was the answer.
    stage.until("vendas", &waiting, "SENT");
}

/// Somebody, asked for by the first number, known by the second; and their hidden id.
const ANA: [&str; 3] = ["5511977776666", "551177776666", "900000000000007"];

/// A channel that may open no chats, and where cards for these wait. Messages to anybody but [`JOAO`] are taken.
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
    // One that is known goes past those who wait, and shows that they were passed.
    wait_for("keys to write with", || stage.whatsapp.one_time_keys(OWNER) != [0]);
    stage.whatsapp.say(MARIA, OWNER, "oi").expect("said");
    let known = stage.accept("vendas", MARIA);
    stage.until("vendas", &known, "READ");
    for id in &waiting {
        assert_eq!(stage.message("vendas", id)["status"], "QUEUED");
    }
    (stage, waiting)
}

#[test]
fn who_writes_releases_what_waits_for_either_form_of_their_number() {
    let (stage, waiting) = restricted(&[ANA[0], ANA[1]]);
    assert_eq!(stage.whatsapp.lookups().get(ANA[0]), None, "nobody has asked whose number it is");
    stage.whatsapp.say(ANA[1], OWNER, "oi").expect("said");
    for id in &waiting {
        stage.until("vendas", id, "READ");
    }
    assert_eq!(stage.channel("vendas")["state"], "RESTRICTED");
}

#[test]
fn a_number_that_is_looked_up_releases_what_waits_for_it() {
    // Another number of hers, which no rule leads to.
    let other = "5511955554444";
    let (stage, waiting) = restricted(&[other]);
    stage.whatsapp.add_alias(other, ANA[1]);
    stage.whatsapp.say(ANA[1], OWNER, "oi").expect("said");
    // Behind hers: what she wrote has been noted when this one goes.
    stage.whatsapp.add_contact("553199990008", "900000000000008");
    let fence = stage.accept("vendas", "553199990008");
    stage.whatsapp.say("553199990008", OWNER, "oi").expect("said");
    stage.until("vendas", &fence, "READ");
    assert_eq!(stage.message("vendas", &waiting[0])["status"], "QUEUED");
    stage.get(&format!("/v1/channels/vendas/accounts/{other}")).expect(200);
    stage.until("vendas", &waiting[0], "READ");
}

/// Who is named by their hidden id alone is found among those for whom messages wait.
#[test]
fn who_is_known_by_a_hidden_id_alone_releases_what_waits_for_them() {
    let (stranger, other) = ("553199990008", "5511955554444");
    let (stage, waiting) = restricted(&[stranger, NOBODY, other, stranger]);
    stage.whatsapp.add_contact(stranger, "900000000000008");
    stage.whatsapp.add_alias(other, ANA[1]);
    stage.whatsapp.faults(|faults| faults.hidden = vec![ANA[1].to_owned()]);
    stage.whatsapp.say(ANA[1], OWNER, "oi").expect("said");
    stage.until("vendas", &waiting[2], "READ");
    let asked = || [stranger, NOBODY, other].map(|number| stage.whatsapp.lookups().get(number).copied());
    assert_eq!(asked(), [Some(1); 3], "each was asked for once");
    // Who has been found, and who is nobody's recipient, cost no further questions.
    let further = ["5511944443333", "5511933332222"].map(|number| stage.accept("vendas", number));
    for _ in 0..2 {
        stage.whatsapp.say(ANA[1], OWNER, "oi").expect("said");
    }
    let again = stage.accept("vendas", other);
    stage.until("vendas", &again, "READ");
    assert_eq!(stage.whatsapp.lookups().get("5511944443333"), None);
    for id in waiting.iter().take(2).chain(&waiting[3..]).chain(&further) {
        assert_eq!(stage.message("vendas", id)["status"], "QUEUED");
    }
}

/// What they wrote comes before the line is up again.
#[test]
fn who_is_known_by_a_hidden_id_alone_is_found_when_the_line_is_up_again() {
    let other = "5511955554444";
    let (stage, waiting) = restricted(&[other]);
    stage.whatsapp.add_alias(other, ANA[1]);
    stage.whatsapp.faults(|faults| faults.hidden = vec![ANA[1].to_owned()]);
    let whatsapp = stage.whatsapp.clone();
    let stage = stage.crash_and(|_| drop(whatsapp.say(ANA[1], OWNER, "oi").expect("said")));
    stage.until("vendas", &waiting[0], "READ");
}

/// However much somebody writes, nobody is asked for twice because of it.
#[test]
fn many_messages_of_a_stranger_cost_one_search() {
    let (stranger, untold) = ("553199990008", ["5511955554444", "5511944443333"]);
    let (stage, waiting) = restricted(&[ANA[0], untold[0], untold[1]]);
    stage.whatsapp.add_contact(stranger, "900000000000008");
    let untold_accounts = untold.map(str::to_owned).to_vec();
    stage.whatsapp.faults(|faults| {
        (faults.hidden, faults.untold_accounts) = (vec![stranger.to_owned()], untold_accounts);
    });
    let asked = || untold.map(|number| stage.whatsapp.lookups().get(number).copied());
    for _ in 0..16 {
        stage.whatsapp.say(stranger, OWNER, "oi").expect("said");
    }
    wait_for("the search", || asked() == [Some(1); 2]);
    // Behind theirs: what they wrote has been noted when this one goes.
    stage.whatsapp.say(ANA[1], OWNER, "oi").expect("said");
    stage.until("vendas", &waiting[0], "READ");
    assert_eq!(asked(), [Some(1); 2]);
}

/// Asks whose account a number is; then that account is gone, and the number leads to another one.
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

/// The one try reaches the live account, by one more question.
fn reaches_the_live_account(stage: &Stage, asked: u64) {
    let id = stage.accept("vendas", ANA[0]);
    let message = stage.until("vendas", &id, "READ");
    assert_eq!(message["attempts"], 1, "{message}");
    // A receipt may be faster than the note of the answer.
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
fn an_account_that_the_network_knows_no_more_is_asked_for_again() {
    let stage = Stage::linked();
    let asked = moved(&stage);
    refuse_as_unknown(&stage, ANA[1], ALL);
    reaches_the_live_account(&stage, asked);
}

#[test]
fn an_account_without_devices_is_asked_for_again() {
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
fn who_is_gone_fails_only_when_the_network_confirms_it() {
    let stage = Stage::linked();
    let first = stage.accept("vendas", JOAO);
    stage.until("vendas", &first, "READ");
    // The network names the same account again: it is tried again.
    refuse_as_unknown(&stage, JOAO, 1);
    let second = stage.accept("vendas", JOAO);
    let message = stage.until("vendas", &second, "READ");
    assert_eq!((&message["attempts"], stage.whatsapp.lookups()[JOAO]), (&2.into(), 2), "{message}");
    // And here it names none.
    stage.whatsapp.remove_contact(JOAO);
    refuse_as_unknown(&stage, JOAO, ALL);
    let third = stage.accept("vendas", JOAO);
    let message = stage.until("vendas", &third, "FAILED");
    assert_eq!(message["error"]["code"], "NUMBER_NOT_ON_WHATSAPP", "{message}");
    assert_eq!((&message["attempts"], stage.whatsapp.lookups()[JOAO]), (&1.into(), 3), "{message}");
}

#[test]
fn a_device_that_the_ack_tells_of_gets_its_copy_once() {
    let stage = Stage::linked();
    let first = stage.accept("vendas", MARIA);
    stage.until("vendas", &first, "READ");
    // A device of the recipient's: it is ours, too, but nothing tells the first channel of it.
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
