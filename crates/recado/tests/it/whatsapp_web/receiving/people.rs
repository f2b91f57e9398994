//! Who writes, and what the phone does: hidden numbers, late messages, echoes, reads, and messages that cannot be read.

use fake_whatsapp::{MadeUpReceipt, NodeBuilder, Said};
use serde_json::{Value, json};

use super::{GROUP, Inbox, assert_shows, of_network};
use crate::harness::wait_for;
use crate::whatsapp_web::{JOAO, MARIA, OWNER, unix_seconds};

const MARIA_LID: &str = "900000000000002";

/// Waits until the session has everything that was sent to it.
fn settle(inbox: &Inbox) {
    wait_for("all to be acknowledged", || inbox.stage.whatsapp.unconfirmed(OWNER) == 0);
}

#[test]
fn people_are_known_by_every_name_that_the_network_gives() {
    let inbox = Inbox::set();
    let whatsapp = &inbox.stage.whatsapp;
    let of = |named: &str| vec![named.to_owned()];
    // Only the hidden id, then the number beside it, then the number alone as sender: one person.
    whatsapp.faults(|faults| faults.hidden = of(MARIA));
    let hidden = whatsapp.say_as(MARIA, OWNER, Said::text("1").name("Maria")).expect("sent");
    inbox.until_received(1);
    whatsapp.faults(|faults| (faults.hidden, faults.by_lid) = (vec![], of(MARIA)));
    let both = whatsapp.say_as(MARIA, OWNER, Said::text("2").name("Maria")).expect("sent");
    inbox.until_received(2);
    whatsapp.faults(|faults| faults.by_lid = vec![]);
    let at = u64::try_from(unix_seconds() - 301).expect("a time");
    let late = whatsapp.say_as(MARIA, OWNER, Said::text("3").name("Maria S.").at(at)).expect("sent");
    let received = inbox.until_received(3);
    let address = format!("{MARIA_LID}@lid");
    let shows = json!({"from": null, "chat": {"kind": "DIRECT", "address": address}, "late": false, "text": {"truncated": false},
                       "sender": {"phone": null, "lid": MARIA_LID, "name": "Maria"}});
    assert_shows("hidden", of_network(&received, &hidden), &shows);
    let shows = json!({"from": MARIA, "chat": {"address": MARIA}, "sender": {"phone": MARIA, "lid": MARIA_LID}});
    assert_shows("both", of_network(&received, &both), &shows);
    let message = of_network(&received, &late);
    assert_shows("late", message, &json!({"from": MARIA, "late": true, "sender": {"name": "Maria S."}}));
    let sent_at: jiff::Timestamp = message["sentAt"].as_str().expect("a time").parse().expect("a time");
    assert_eq!(u64::try_from(sent_at.as_second()), Ok(at));
    assert!(received.iter().all(|message| message["conversationId"] == received[0]["conversationId"]), "{received:#?}");
    let contacts = inbox.get("/v1/contacts");
    assert_eq!(contacts["data"].as_array().map(Vec::len), Some(1), "{contacts}");
}

#[test]
fn what_the_owner_writes_on_the_phone_is_an_echo_and_what_it_reads_is_read() {
    let inbox = Inbox::set();
    let whatsapp = &inbox.stage.whatsapp;
    let maria = format!("{MARIA}@s.whatsapp.net");
    let asked = whatsapp.say(MARIA, OWNER, "Oi").expect("sent");
    inbox.until_received(1);
    let echo = whatsapp.say_as(OWNER, OWNER, Said::text("do celular").to(&maria)).expect("sent");
    let echoes = inbox.until("message.echo", 1);
    let shows = json!({"direction": "OUTBOUND", "status": "SENT", "content": "do celular", "networkId": echo, "from": OWNER,
                       "to": MARIA, "sender": {"isMe": true}, "chat": {"kind": "DIRECT", "address": MARIA}});
    assert_shows("echo", &echoes[0]["data"]["message"], &shows);
    // What calls sent is no echo.
    let ours = inbox.stage.accept("vendas", MARIA);
    inbox.stage.until("vendas", &ours, "READ");
    whatsapp.receipt(OWNER, &MadeUpReceipt::new(&maria, &asked, "read-self"));
    wait_for("the message to be read", || inbox.listed("vendas").iter().any(|message| message["status"] == "READ"));
    assert!(of_network(&inbox.listed("vendas"), &asked)["readAt"].is_string());
    settle(&inbox);
    assert_eq!((inbox.events("message.echo").len(), inbox.events("message.received").len()), (1, 1));
    // Off by choice.
    inbox.stage.settings("vendas", &json!({"ownDevice": "off"}));
    whatsapp.say_as(OWNER, OWNER, Said::text("de novo").to(&maria)).expect("sent");
    settle(&inbox);
    assert_eq!(inbox.events("message.echo").len(), 1);
}

#[test]
fn statuses_newsletters_and_groups_that_are_off_are_nothing() {
    let inbox = Inbox::set();
    let whatsapp = &inbox.stage.whatsapp;
    whatsapp.add_group(GROUP, "Vendas", &[OWNER, MARIA, JOAO], true);
    let group = format!("{GROUP}@g.us");
    let newsletter = NodeBuilder::new("message")
        .attr("from", "120363000000000009@newsletter")
        .attr("id", "NEWS1")
        .attr("server_id", "100")
        .attr("type", "text")
        .attr("t", unix_seconds().to_string())
        .children([NodeBuilder::new("plaintext").bytes(vec![10, 2, b'o', b'i']).build()]);
    whatsapp.send_stanza(OWNER, &newsletter.build());
    whatsapp.say_as(MARIA, OWNER, Said::text("status").group("status@broadcast")).expect("sent");
    whatsapp.say_as(MARIA, OWNER, Said::text("no grupo").group(&group)).expect("sent");
    let last = whatsapp.say(MARIA, OWNER, "Oi").expect("sent");
    let received = inbox.until_received(1);
    settle(&inbox);
    assert_eq!((inbox.listed("vendas").len(), &received[0]["networkId"]), (1, &json!(last)));
    inbox.stage.settings("vendas", &json!({"groups": "on"}));
    for by in [MARIA, JOAO] {
        whatsapp.say_as(by, OWNER, Said::text("no grupo").group(&group)).expect("sent");
    }
    let received = inbox.until_received(3);
    for (message, from) in received[1..].iter().zip([MARIA, JOAO]) {
        let shows = json!({"from": from, "chat": {"kind": "GROUP", "address": group}, "sender": {"phone": from}});
        assert_shows("in the group", message, &shows);
    }
    assert_eq!(received[1]["conversationId"], received[2]["conversationId"]);
    assert_ne!(received[1]["conversationId"], received[0]["conversationId"]);
}

/// Most messages that cannot be decrypted come again at once: no person sees anything of it.
#[test]
fn what_cannot_be_decrypted_and_comes_again_is_a_message() {
    let inbox = Inbox::set();
    let whatsapp = &inbox.stage.whatsapp;
    for (before, by) in [MARIA, JOAO].into_iter().enumerate() {
        whatsapp.faults(|faults| faults.garbled = 1);
        let id = whatsapp.say(by, OWNER, &format!("de {by}")).expect("sent");
        wait_for("the request for it", || whatsapp.receipts(OWNER).contains(&(id.clone(), "retry".to_owned())));
        inbox.until_received(before + 1);
    }
    let received = inbox.until_received(2);
    let contents: Vec<_> = received.iter().map(|message| (&message["type"], message["content"].clone())).collect();
    assert_eq!(contents, [MARIA, JOAO].map(|by| (&received[0]["type"], json!(format!("de {by}")))));
    assert_eq!(received[0]["type"], "text");
    // What may be seen once is for the phone alone.
    let once = NodeBuilder::new("message")
        .attr("from", format!("{MARIA}@s.whatsapp.net"))
        .attr("sender_lid", format!("{MARIA_LID}@lid"))
        .attr("id", "ONCE1")
        .attr("type", "media")
        .attr("t", unix_seconds().to_string())
        .children([NodeBuilder::new("unavailable").attr("type", "view_once").build()]);
    whatsapp.send_stanza(OWNER, &once.build());
    let shows =
        json!({"type": "unsupported", "unsupported": {"reason": "VIEW_ONCE"}, "from": MARIA, "networkId": "ONCE1"});
    assert_shows("once", &inbox.until_received(3)[2], &shows);
    settle(&inbox);
}

/// `RECADO_TEST_SLOW=1`: it waits longer than a minute.
#[test]
fn what_never_comes_again_is_unsupported_and_recovered_later() {
    if crate::load::setting("RECADO_TEST_SLOW").is_none() {
        return;
    }
    let inbox = Inbox::set();
    let whatsapp = &inbox.stage.whatsapp;
    whatsapp.faults(|faults| (faults.garbled, faults.no_retries) = (1, true));
    let id = whatsapp.say(MARIA, OWNER, "tarde").expect("sent");
    for _ in 0..4 {
        if !inbox.events("message.received").is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_secs(20));
    }
    let shows =
        json!({"type": "unsupported", "unsupported": {"reason": "UNDECRYPTABLE"}, "networkId": id, "from": MARIA});
    let message = inbox.until_received(1).remove(0);
    assert_shows("unreadable", &message, &shows);
    whatsapp.faults(|faults| faults.no_retries = false);
    whatsapp.say_as(MARIA, OWNER, Said::text("tarde").id(&id)).expect("sent");
    let recovered = inbox.until("message.recovered", 1);
    let shows = json!({"id": message["id"], "type": "text", "content": "tarde", "networkId": id});
    assert_shows("recovered", &recovered[0]["data"]["message"], &shows);
    assert_eq!(inbox.events("message.received").len(), 1);
    assert_eq!(inbox.listed("vendas").iter().map(|message| message["type"].clone()).collect::<Vec<Value>>(), ["text"]);
}
