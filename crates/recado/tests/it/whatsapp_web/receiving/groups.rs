//! Groups: messages of calls reach them by their address, and they have names.

use fake_whatsapp::baileys::Sender;
use fake_whatsapp::{NodeBuilder, Refusal, Said};
use serde_json::{Value, json};

use super::{GROUP, Inbox, PEER, PEER_LID, assert_shows};
use crate::harness::wait_for;
use crate::whatsapp_web::{JOAO, MARIA, OWNER, unix_seconds};

/// A group whose members are named by their numbers.
const OLD_GROUP: &str = "551150003000-1400000000";

/// Sends a message of a kind; its id.
fn send(inbox: &Inbox, kind: &str, body: &Value) -> String {
    let path = format!("/v1/channels/vendas/messages/{kind}");
    let answer = inbox.stage.server.post(&path, &inbox.stage.key, body).expect(202);
    answer.header("X-Message-Id").expect("an id").to_owned()
}

#[test]
fn messages_of_calls_reach_groups_by_their_addresses() {
    let inbox = Inbox::set();
    let (stage, whatsapp) = (&inbox.stage, &inbox.stage.whatsapp);
    // A group is no new recipient.
    stage.settings("vendas", &json!({"groups": "on", "newRecipientsPerDay": 1}));
    whatsapp.add_group(GROUP, "Vendas", &[OWNER, PEER, MARIA], true);
    whatsapp.add_group(OLD_GROUP, "Antigo", &[OWNER, PEER], false);
    let mut baileys = Sender::link(whatsapp, PEER, PEER_LID);
    whatsapp.say_as(MARIA, OWNER, Said::text("Oi").group(&format!("{GROUP}@g.us"))).expect("sent");
    let received = inbox.until_received(1).remove(0);
    let address = received["chat"]["address"].as_str().expect("an address");
    let text = send(&inbox, "text", &json!({"to": address, "content": "Bom dia"}));
    let sent = stage.until("vendas", &text, "SENT");
    assert_eq!((&sent["to"], &sent["conversationId"]), (&json!(address), &received["conversationId"]));
    let place = json!({"to": address, "latitude": -23.5, "longitude": -46.6, "name": "Loja"});
    stage.until("vendas", &send(&inbox, "location", &place), "SENT");
    let card = json!({"conversationId": received["conversationId"], "name": "Maria", "phone": MARIA});
    stage.until("vendas", &send(&inbox, "contact", &card), "SENT");
    let answer = json!({"to": address, "content": "Isso", "replyTo": text});
    stage.until("vendas", &send(&inbox, "text", &answer), "SENT");
    let old = format!("{OLD_GROUP}@g.us");
    stage.until("vendas", &send(&inbox, "text", &json!({"to": old, "content": "Ola"})), "SENT");
    // The one new recipient of the day.
    stage.until("vendas", &stage.accept("vendas", JOAO), "READ");
    // The first one has keys of its own phone.
    let heard = baileys.heard(6);
    let heard: Vec<_> = heard.as_array().into_iter().flatten().filter(|one| one["key"]["fromMe"] == false).collect();
    assert_eq!(heard.len(), 5, "each once: {heard:#?}");
    let chats: Vec<_> = heard.iter().map(|message| message["key"]["remoteJid"].clone()).collect();
    assert_eq!(chats, [address, address, address, address, &old].map(|chat| json!(chat)));
    let body = |at: usize| &heard[at]["message"];
    assert_eq!(body(0)["conversation"], "Bom dia");
    assert_eq!(body(1)["locationMessage"]["name"], "Loja");
    assert_eq!(body(2)["contactMessage"]["displayName"], "Maria");
    let quote = &body(3)["extendedTextMessage"];
    assert_eq!((&quote["text"], &quote["contextInfo"]["stanzaId"]), (&json!("Isso"), &sent["networkId"]));
    assert_eq!(body(4)["conversation"], "Ola");
    let counters = whatsapp.counters();
    assert_eq!((counters.undecryptable, counters.malformed), (0, 0));
    // What calls sent is no echo, and the receipts of members are those of no single recipient.
    assert!(inbox.events("message.echo").is_empty());
    assert_eq!(stage.message("vendas", &text)["status"], "SENT");
}

#[test]
fn what_people_wrote_is_quoted_with_its_author_and_its_content() {
    let inbox = Inbox::set();
    let whatsapp = &inbox.stage.whatsapp;
    inbox.stage.settings("vendas", &json!({"groups": "on"}));
    whatsapp.add_group(GROUP, "Vendas", &[OWNER, PEER, MARIA], true);
    whatsapp.add_group(OLD_GROUP, "Antigo", &[OWNER, PEER, MARIA], false);
    let mut baileys = Sender::link(whatsapp, PEER, PEER_LID);
    whatsapp.say(MARIA, OWNER, "Qual o prazo?").expect("sent");
    for group in [GROUP, OLD_GROUP] {
        let said = Said::text("Alguem sabe?").group(&format!("{group}@g.us"));
        whatsapp.say_as(MARIA, OWNER, said).expect("sent");
    }
    let received = inbox.until_received(3);
    let quote = |said: &Value, name: &str, status: &str| {
        let body = json!({"to": said["chat"]["address"], "content": "Amanha", "replyTo": said[name]});
        inbox.stage.until("vendas", &send(&inbox, "text", &body), status)
    };
    let direct = received.iter().find(|said| said["chat"]["kind"] == "DIRECT").expect("a message");
    for name in ["id", "networkId"] {
        let sent = quote(direct, name, "READ");
        assert_eq!(sent["replyTo"], direct["id"]);
        let mut read = whatsapp.inbox().into_iter();
        let read = read.find(|read| sent["networkId"] == *read.id).expect("it was read");
        let quote = read.quote().expect("a quote");
        assert_eq!(
            (quote.id, quote.from),
            (direct["networkId"].as_str().expect("an id"), &*format!("{MARIA}@s.whatsapp.net"))
        );
        let message = quote.message.expect("the content");
        assert_eq!(message.conversation.as_deref(), Some("Qual o prazo?"));
        assert!(message.message_context_info.is_unset(), "no secret of the message: {message:?}");
    }
    let (hiding, showing) = (format!("{GROUP}@g.us"), format!("{OLD_GROUP}@g.us"));
    for address in [&hiding, &showing] {
        quote(received.iter().find(|said| said["chat"]["address"] == **address).expect("a message"), "id", "SENT");
    }
    let context_in = |heard: &Value, address: &str| {
        let of_chat = heard.as_array().into_iter().flatten().filter(|heard| heard["key"]["remoteJid"] == address);
        let mut contexts = of_chat.map(|heard| heard["message"]["extendedTextMessage"]["contextInfo"].clone());
        contexts.find(Value::is_object)
    };
    let mut heard = Value::Null;
    wait_for("both quotes", || {
        heard = baileys.heard(2);
        [&hiding, &showing].into_iter().all(|address| context_in(&heard, address).is_some())
    });
    for (address, by_number) in [(hiding, false), (showing, true)] {
        let context = context_in(&heard, &address).expect("the quote");
        assert_eq!(context["quotedMessage"]["conversation"], "Alguem sabe?", "{context}");
        let author = context["participant"].as_str().expect("an author");
        assert_eq!(author.ends_with("@s.whatsapp.net"), by_number, "{author}");
        assert_eq!(author.ends_with("@lid"), !by_number, "{author}");
    }
}

#[test]
fn a_group_that_cannot_be_written_to_stops_only_its_own_messages() {
    let inbox = Inbox::set();
    let stage = &inbox.stage;
    let lost = send(&inbox, "text", &json!({"to": "120363000000000099@g.us", "content": "Oi"}));
    let next = stage.accept("vendas", JOAO);
    let failed = stage.until("vendas", &lost, "FAILED");
    assert_eq!(failed["error"]["code"], "RECIPIENT_UNREACHABLE", "{failed}");
    stage.until("vendas", &next, "READ");
    stage.whatsapp.add_group(GROUP, "Vendas", &[OWNER, MARIA], true);
    stage.whatsapp.faults(|faults| faults.refusal = Some(Refusal { code: 463, times: 1, to: vec![] }));
    let refused = send(&inbox, "text", &json!({"to": format!("{GROUP}@g.us"), "content": "Oi"}));
    assert_eq!(stage.until("vendas", &refused, "FAILED")["error"]["code"], "WHATSAPP_REFUSED");
    assert_eq!(stage.channel("vendas")["state"], "CONNECTED", "a group is no new chat");
}

#[test]
fn a_group_has_its_name_soon_after_it_is_used() {
    let inbox = Inbox::set();
    let whatsapp = &inbox.stage.whatsapp;
    inbox.stage.settings("vendas", &json!({"groups": "on"}));
    whatsapp.add_group(GROUP, "Vendas", &[OWNER, MARIA], true);
    whatsapp.add_group(OLD_GROUP, "Antigo", &[OWNER, MARIA], false);
    let group = format!("{GROUP}@g.us");
    whatsapp.say_as(MARIA, OWNER, Said::text("1").group(&group)).expect("sent");
    let first = inbox.until_received(1).remove(0);
    assert_shows("the first", &first, &json!({"chat": {"kind": "GROUP", "address": group}}));
    let named = |id: &Value| {
        let path = format!("/v1/conversations/{}", id.as_str().expect("an id"));
        let name = || inbox.get(&path)["data"]["chat"]["name"].clone();
        crate::whatsapp_web::wait_to_see("the name", name, Value::is_string)
    };
    assert_eq!(named(&first["conversationId"]), "Vendas");
    whatsapp.say_as(MARIA, OWNER, Said::text("2").group(&group)).expect("sent");
    assert_eq!(inbox.until_received(2)[1]["chat"]["name"], "Vendas");
    // A group to which only calls write.
    let ours = send(&inbox, "text", &json!({"to": format!("{OLD_GROUP}@g.us"), "content": "Ola"}));
    let sent = inbox.stage.until("vendas", &ours, "SENT");
    assert_eq!(named(&sent["conversationId"]), "Antigo");
}

#[test]
fn changes_of_groups_are_events_while_groups_are_on() {
    let inbox = Inbox::set();
    let whatsapp = &inbox.stage.whatsapp;
    let (group, number) = (format!("{GROUP}@g.us"), |digits: &str| format!("{digits}@s.whatsapp.net"));
    whatsapp.add_group(GROUP, "Vendas", &[OWNER, MARIA, JOAO], false);
    let change = |id: &str, action: NodeBuilder| {
        let notification = NodeBuilder::new("notification")
            .attr("from", group.as_str())
            .attr("id", id)
            .attr("type", "w:gp2")
            .attr("participant", number(MARIA))
            .attr("t", unix_seconds().to_string())
            .children([action.build()]);
        whatsapp.send_stanza(OWNER, &notification.build());
    };
    let of = |action: &'static str, members: &[&str]| {
        let member = |digits: &&str| NodeBuilder::new("participant").attr("jid", number(digits)).build();
        NodeBuilder::new(action).children(members.iter().map(member))
    };
    change("C0", of("promote", &[JOAO]));
    // What came before it is done.
    whatsapp.say(MARIA, OWNER, "Oi").expect("sent");
    inbox.until_received(1);
    inbox.stage.settings("vendas", &json!({"groups": "on"}));
    let say = || whatsapp.say_as(MARIA, OWNER, Said::text("Oi").group(&group)).expect("sent");
    say();
    wait_for("the name of the group", || {
        let all = inbox.get("/v1/conversations");
        all["data"].as_array().expect("a list").iter().any(|one| one["chat"]["name"] == "Vendas")
    });
    change("C1", of("add", &[JOAO, OWNER]));
    let added = inbox.until("group.updated", 1).remove(0);
    let participants = json!([{"phone": JOAO, "isMe": false}, {"phone": OWNER, "isMe": true}]);
    let data = json!({"chat": {"kind": "GROUP", "address": group, "name": "Vendas"}, "action": "ADD", "participants": participants,
                      "by": {"phone": MARIA, "isMe": false}});
    assert_shows("added", &added, &json!({"channelId": "vendas", "data": data}));
    assert!(added["data"]["by"]["contactId"].is_string(), "she wrote: {added}");
    change("C1", of("add", &[JOAO, OWNER]));
    change("C2", NodeBuilder::new("subject").attr("subject", "Vendas 2"));
    // The library handles two stanzas at the same time.
    inbox.until("group.updated", 2);
    change("C3", NodeBuilder::new("locked"));
    let events = inbox.until("group.updated", 3);
    let actions: Vec<_> = events.iter().map(|event| event["data"]["action"].clone()).collect();
    assert_eq!(actions, ["ADD", "SUBJECT", "SETTINGS"], "each once");
    assert_eq!(events[1]["data"]["chat"]["name"], "Vendas 2");
    say();
    assert_eq!(inbox.until_received(3)[2]["chat"]["name"], "Vendas 2", "it is not asked for again");
}
