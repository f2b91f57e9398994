//! What people write: each documented type is stored with every field, and nothing is lost or doubled.

use fake_graph::{Behaviour, Delivery, Number, Person, Said, Signed, Status, signature};
use serde_json::{Value, json};

use super::{NUMBER, Stage};
use crate::harness::wait_for;
use crate::v1::{JSON, TOO_LARGE, assert_refused, create_key};

const SHA256: &str = "49f22763";
const AT: u64 = 1_749_416_383;
const AT_TEXT: &str = "2025-06-08T20:59:43.000Z";
const PATH: &str = "/v1/callbacks/meta";

/// A stage whose events are read.
struct Inbox {
    stage: Stage,
    key: String,
    cursor: String,
}

impl Inbox {
    fn set() -> Self {
        let stage = Stage::linked();
        let scopes = "events.read,messages.read,conversations.read,contacts.read,channels.read,channels.write";
        let key = create_key(&stage.home, "live", scopes, "unlimited");
        let first = stage.server.get("/v1/events", Some(&key)).expect(200).json();
        let cursor = first["pagination"]["nextCursor"].as_str().expect("a cursor").to_owned();
        Self { stage, key, cursor }
    }

    /// Delivers, and waits until everything is acknowledged.
    fn deliver(&self, delivery: &Delivery) {
        self.stage.graph.deliver(NUMBER, delivery);
        wait_for("the acknowledgement", || self.stage.graph.callbacks_waiting() == 0);
        assert_eq!(self.stage.graph.refused_callbacks().len(), 0, "{:?}", self.stage.graph.refused_callbacks());
    }

    /// All events so far whose name begins with this.
    fn events(&self, name: &str) -> Vec<Value> {
        let (mut cursor, mut events) = (self.cursor.clone(), Vec::new());
        loop {
            let path = format!("/v1/events?limit=500&cursor={cursor}&chatKinds=DIRECT,GROUP");
            let page = self.stage.server.get(&path, Some(&self.key)).expect(200).json();
            let found = page["data"].as_array().expect("events");
            if found.is_empty() {
                events.retain(|event: &Value| event["event"].as_str().is_some_and(|found| found.starts_with(name)));
                return events;
            }
            events.extend(found.iter().cloned());
            page["pagination"]["nextCursor"].as_str().expect("a cursor").clone_into(&mut cursor);
        }
    }

    /// The received messages, in the order of their events.
    fn received(&self) -> Vec<Value> {
        self.events("message.received").into_iter().map(|event| event["data"]["message"].clone()).collect()
    }

    fn set_settings(&self, settings: &Value) {
        let body = json!({"settings": settings}).to_string();
        let path = "/v1/channels/vendas";
        self.stage.server.call("PUT", path, Some(&self.key), &[JSON], Some(body.as_bytes())).expect(200);
    }
}

fn ana() -> Person {
    Person::with_phone("5511977776666", "Ana")
}

#[test]
fn meta_is_told_what_was_read() {
    let inbox = Inbox::set();
    let key = create_key(&inbox.stage.home, "live", "conversations.read,conversations.write", "unlimited");
    let (first, last) = (Said::text("Oi"), Said::text("Tudo bem?"));
    inbox.deliver(&Delivery::new().message(&ana(), &first).message(&ana(), &last));
    let conversation = inbox.received()[0]["conversationId"].as_str().expect("an id").to_owned();
    assert_eq!(inbox.stage.graph.reads(), [], "nobody has read it");
    // While Meta refuses the token, the call works all the same, and the signal waits.
    inbox.stage.graph.set_access_token(NUMBER, "another");
    let read = || {
        let path = format!("/v1/conversations/{conversation}/read");
        inbox.stage.server.call("POST", &path, Some(&key), &[], None).expect(200).json()["data"].take()
    };
    assert_eq!(read()["unreadCount"], 0);
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(inbox.stage.graph.reads(), []);
    inbox.stage.graph.set_access_token(NUMBER, &Number::example(NUMBER).access_token);
    wait_for("the read signal", || !inbox.stage.graph.reads().is_empty());
    read();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(inbox.stage.graph.reads(), [(NUMBER.to_owned(), last.id().to_owned())], "once, the newest");
}

/// A field of an object by its path.
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, name| &value[name])
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table, one entry a type")]
fn every_documented_type_is_stored_with_every_field() {
    let inbox = Inbox::set();
    let contact =
        json!([{"name": {"formatted_name": "Lúcia Gómez"}, "phones": [{"phone": "+1 983", "wa_id": "1983"}]}]);
    let file = |mime: &str| json!({"mimeType": mime, "state": "REMOTE", "size": null});
    let choice =
        |kind: &str| json!({"messageId": null, "id": "a", "title": "Sim", "kind": kind, "matchedBy": "NETWORK"});
    let none = Value::Null;
    let table = [
        (Said::text("Oi\n*ção*"), "text", "Oi\n*ção*", json!({"truncated": false}), none.clone(), none.clone()),
        (
            Said::image("1003", Some("Olha")),
            "image",
            "Olha",
            json!({"caption": "Olha"}),
            file("image/jpeg"),
            none.clone(),
        ),
        (Said::video("1003", None), "video", "", json!({"caption": null}), file("video/mp4"), none.clone()),
        (Said::audio("1003", true), "audio", "", json!({"ptt": true}), file("audio/ogg; codecs=opus"), none.clone()),
        (
            Said::document("1003", "nota.pdf", Some("A nota")),
            "document",
            "A nota",
            json!({"caption": "A nota", "fileName": "nota.pdf"}),
            json!({"mimeType": "application/pdf", "fileName": "nota.pdf", "state": "REMOTE"}),
            none.clone(),
        ),
        (Said::sticker("1003", true), "sticker", "", json!({"animated": true}), file("image/webp"), none.clone()),
        (
            Said::location(-23.5, -46.6, "Mercado", "Rua A, 1", "https://example.com/"),
            "location",
            "",
            json!({"latitude": -23.5, "longitude": -46.6, "name": "Mercado", "address": "Rua A, 1", "url": "https://example.com/"}),
            none.clone(),
            none.clone(),
        ),
        (
            Said::contacts(contact),
            "contact",
            "Lúcia Gómez",
            json!({"contacts": [{"name": "Lúcia Gómez", "phones": [{"phone": "+1 983", "account": "1983"}]}]}),
            none.clone(),
            none.clone(),
        ),
        (
            Said::button("wamid.0", "a", "Sim"),
            "button",
            "Sim",
            json!({"id": "a", "title": "Sim"}),
            none.clone(),
            choice("TEMPLATE"),
        ),
        (
            Said::button_reply("wamid.0", "a", "Sim"),
            "button",
            "Sim",
            json!({"id": "a"}),
            none.clone(),
            choice("BUTTON"),
        ),
        (
            Said::list_reply("wamid.0", "a", "Sim", "Hoje"),
            "button",
            "Sim",
            json!({"id": "a", "title": "Sim", "description": "Hoje", "data": null}),
            none.clone(),
            choice("LIST"),
        ),
        (
            Said::form_reply("wamid.0", "flow", "Sent", &json!({"dia": "2026-12-01"})),
            "button",
            "Sent",
            json!({"id": "flow", "title": "Sent", "data": {"dia": "2026-12-01"}}),
            none.clone(),
            none.clone(),
        ),
        (
            Said::order("194", &[("p1", 2, 30.5)]),
            "order",
            "",
            json!({"catalogId": "194", "items": [{"productId": "p1", "name": null, "quantity": 2, "price": "30.5", "currency": "BRL"}]}),
            none.clone(),
            none.clone(),
        ),
        (Said::unsupported("unsupported"), "unsupported", "", json!({"reason": "NETWORK"}), none.clone(), none.clone()),
        (Said::unsupported("unknown"), "unsupported", "", json!({"reason": "NETWORK"}), none.clone(), none.clone()),
        (
            Said::of("event", json!({"body": "Festa"})),
            "other",
            "Festa",
            json!({"kind": "event", "text": "Festa"}),
            none.clone(),
            none,
        ),
    ];
    let delivery = table.iter().fold(Delivery::new(), |all, (said, ..)| all.message(&ana(), &said.clone().at(AT)));
    inbox.deliver(&delivery);
    let received = inbox.received();
    assert_eq!(received.len(), table.len());
    for ((said, kind, content, object, media, choice), message) in table.iter().zip(&received) {
        for (path, expected) in [
            ("networkId", json!(said.id())),
            ("channelId", json!("vendas")),
            ("type", json!(kind)),
            ("direction", json!("INBOUND")),
            ("status", json!("RECEIVED")),
            ("content", json!(content)),
            ("from", json!("5511977776666")),
            ("to", json!("551140000000")),
            ("sender.phone", json!("5511977776666")),
            ("sender.name", json!("Ana")),
            ("sender.isMe", json!(false)),
            ("chat.kind", json!("DIRECT")),
            ("chat.address", json!("5511977776666")),
            ("forwarded", json!(false)),
            ("late", json!(true)),
            ("sentAt", json!(AT_TEXT)),
            ("readAt", Value::Null),
        ] {
            assert_eq!(at(message, path), &expected, "{path} of {message}");
        }
        for (name, expected) in object.as_object().expect("an object") {
            assert_eq!(&message[*kind][name], expected, "{name} of {message}");
        }
        match media.as_object() {
            None => assert_eq!((&message["media"], &message["mediaUrl"]), (&Value::Null, &Value::Null)),
            Some(fields) => {
                fields.iter().for_each(|(name, expected)| assert_eq!(&message["media"][name], expected, "{message}"));
                assert!(message["media"]["sha256"].as_str().is_some_and(|hash| hash.starts_with(SHA256)), "{message}");
                let id = message["media"]["id"].as_str().expect("an id");
                assert_eq!(message["mediaUrl"], format!("/v1/media/{id}/content"));
            }
        }
        match choice {
            Value::Null => assert_eq!(message["choice"], Value::Null, "{message}"),
            choice => assert_eq!(&message["choice"], choice, "{message}"),
        }
    }
    // One person, one contact, one conversation.
    for path in ["conversationId", "sender.contactId"] {
        assert!(received.iter().all(|message| at(message, path) == at(&received[0], path)), "{path}");
    }
    assert_eq!(inbox.events("conversation.created").len(), 1);
    let contacts = inbox.events("contact.created");
    assert_eq!((contacts.len(), &contacts[0]["data"]["contact"]["source"]), (1, &json!("INBOUND")));
}

#[test]
fn context_and_origin_of_a_message_are_stored() {
    let inbox = Inbox::set();
    let first = Said::text("Qual o prazo?");
    inbox.deliver(&Delivery::new().message(&ana(), &first));
    let ad = json!({"source_url": "https://fb.me/3cr4Wqqkv", "source_type": "ad", "headline": "Chat with us"});
    let said = [
        Said::text("E o preço?").replying_to(first.id()),
        Said::text("Veja").forwarded(false),
        Said::text("Veja").forwarded(true),
        Said::text("Oi").from_ad(ad.clone()),
    ];
    inbox.deliver(&said.iter().fold(Delivery::new(), |all, said| all.message(&ana(), said)));
    let received = inbox.received();
    let quoted = &received[1]["replyTo"];
    assert_eq!((&quoted["messageId"], &quoted["networkId"]), (&received[0]["id"], &json!(first.id())));
    assert_eq!(quoted["content"], "Qual o prazo?");
    assert_eq!([2, 3].map(|n| received[n]["forwarded"].clone()), [json!(true), json!(true)]);
    assert_eq!(received[4]["referral"], ad);
    assert!(received.iter().all(|message| message["late"] == false), "sent now");
}

#[test]
fn people_without_a_number_and_groups_are_received() {
    let inbox = Inbox::set();
    let bia = Person::with_username("BR.13491208655302741918", "@bia", "Bia");
    let both = Person { user_id: Some("BR.7".to_owned()), ..ana() };
    inbox.deliver(&Delivery::new().message(&bia, &Said::text("Oi")).message(&both, &Said::text("Oi")));
    let received = inbox.received();
    let [hidden, shown] = &received[..] else { panic!("{received:?}") };
    assert_eq!((&hidden["from"], &hidden["chat"]["address"]), (&Value::Null, &json!("BR.13491208655302741918")));
    assert_eq!((&hidden["sender"]["username"], &hidden["sender"]["name"]), (&json!("@bia"), &json!("Bia")));
    assert_eq!((&shown["from"], &shown["sender"]["userId"]), (&json!("5511977776666"), &json!("BR.7")));
    // The same person later without the number: one contact.
    let later = Person { phone: None, ..both };
    inbox.deliver(&Delivery::new().message(&later, &Said::text("De novo")));
    assert_eq!(inbox.received()[2]["sender"]["contactId"], shown["sender"]["contactId"]);
    // The setting `groups` is off by default.
    let said = || Said::text("No grupo").in_group("Y2FwaV9ncm91cDo");
    inbox.deliver(&Delivery::new().message(&ana(), &said()));
    assert_eq!(inbox.received().len(), 3);
    inbox.set_settings(&json!({"groups": "on"}));
    inbox.deliver(&Delivery::new().message(&ana(), &said()));
    let group = inbox.received().pop().expect("a message");
    assert_eq!((&group["chat"]["kind"], &group["chat"]["address"]), (&json!("GROUP"), &json!("Y2FwaV9ncm91cDo")));
    assert_eq!(group["from"], "5511977776666");
    assert_ne!(group["conversationId"], shown["conversationId"]);
}

#[test]
fn what_the_business_writes_on_its_phone_is_an_echo() {
    let inbox = Inbox::set();
    inbox.deliver(&Delivery::new().echo(&ana(), &Said::text("Do celular").at(AT)));
    let echoes = inbox.events("message.echo");
    assert_eq!((echoes.len(), inbox.received().len()), (1, 0));
    let echo = &echoes[0]["data"]["message"];
    assert_eq!((&echo["direction"], &echo["sender"]["isMe"]), (&json!("OUTBOUND"), &json!(true)));
    assert_eq!((&echo["content"], &echo["chat"]["address"]), (&json!("Do celular"), &json!("5511977776666")));
    inbox.set_settings(&json!({"ownDevice": "off"}));
    inbox.deliver(&Delivery::new().echo(&ana(), &Said::text("Outra")));
    assert_eq!(inbox.events("message.echo").len(), 1);
}

#[test]
fn changes_are_events_of_their_message() {
    let inbox = Inbox::set();
    let said = Said::text("Antes");
    inbox.deliver(&Delivery::new().message(&ana(), &said));
    let id = inbox.received()[0]["id"].clone();
    for change in [
        Said::reaction(said.id(), Some("👍")),
        Said::reaction(said.id(), None),
        Said::edit(said.id(), &Said::text("Depois")),
        Said::revoke(said.id()),
    ] {
        inbox.deliver(&Delivery::new().message(&ana(), &change));
    }
    let all = inbox.events("message.");
    let names: Vec<_> = all.iter().map(|event| event["event"].as_str().expect("a name")).collect();
    let changes = ["message.reaction", "message.reaction", "message.edited", "message.revoked"];
    assert_eq!(names, [&["message.received"][..], &changes].concat());
    assert!(all[1..].iter().all(|event| event["data"]["messageId"] == id), "{all:?}");
    assert_eq!([1, 2].map(|n| all[n]["data"]["emoji"].clone()), [json!("👍"), Value::Null]);
    assert_eq!((&all[3]["data"]["content"], &all[3]["data"]["previousContent"]), (&json!("Depois"), &json!("Antes")));
    assert_eq!(all[4]["data"]["by"], "SENDER");
    // The person changes the number: the contact stays.
    let contact = inbox.received()[0]["sender"]["contactId"].clone();
    let moved = Said::changed_number("Ana", "5511977776666", "5521977776666");
    inbox.deliver(&Delivery::new().message(&ana(), &moved));
    inbox.deliver(&Delivery::new().message(&Person::with_phone("5521977776666", "Ana"), &Said::text("Novo numero")));
    assert_eq!(inbox.received()[1]["sender"]["contactId"], contact);
}

#[test]
fn a_person_with_another_user_id_stays_the_same_contact() {
    let inbox = Inbox::set();
    let [before, after] = ["BR.1349", "BR.2718"].map(|id| Person::with_username(id, "@bia", "Bia"));
    inbox.deliver(&Delivery::new().message(&before, &Said::text("Oi")));
    inbox.deliver(&Delivery::new().message(&after, &Said::changed_user_id("Bia", "BR.1349", "BR.2718")));
    inbox.deliver(&Delivery::new().message(&after, &Said::text("Sou eu")));
    let received = inbox.received();
    let [first, second] = &received[..] else { panic!("the change is no message: {received:?}") };
    assert_eq!(second["sender"]["contactId"], first["sender"]["contactId"]);
    assert_eq!(second["conversationId"], first["conversationId"]);
    assert_eq!(second["chat"]["address"], "BR.2718");
    let path = format!("/v1/contacts/{}", first["sender"]["contactId"].as_str().expect("an id"));
    let contact = inbox.stage.server.get(&path, Some(&inbox.key)).expect(200).json()["data"].take();
    let identities = contact["identities"].as_array().expect("identities");
    let ids: Vec<_> = identities.iter().filter(|one| one["kind"] == "USER_ID").map(|one| &one["value"]).collect();
    assert_eq!(ids, ["BR.2718"], "{contact}");
    // Whoever has the former id from now on is somebody else.
    inbox.deliver(&Delivery::new().message(&before, &Said::text("Quem e?")));
    assert_ne!(inbox.received()[2]["sender"]["contactId"], first["sender"]["contactId"]);
}

#[test]
fn what_cannot_be_read_is_stored_and_the_rest_is_too() {
    let inbox = Inbox::set();
    let odd = [
        json!(7),
        json!({"type": "text"}),
        json!({"id": "wamid ção", "from": "x\u{0}", "type": "text", "text": {"body": 1}}),
    ];
    let delivery = odd.iter().fold(Delivery::new(), |all, odd| all.raw(odd.clone()));
    let delivery = delivery.message(&ana(), &Said::text("a\u{0}b\u{7}"));
    inbox.deliver(&delivery);
    let received = inbox.received();
    let kinds: Vec<_> = received.iter().map(|message| message["type"].as_str().expect("a type")).collect();
    assert_eq!(kinds, ["other", "other", "other", "text"]);
    assert_eq!(received[3]["content"], "ab\u{7}", "a database cannot hold NUL");
    // The same bytes again are the same messages.
    inbox.deliver(&delivery);
    assert_eq!(inbox.received().len(), 4);
}

#[test]
fn a_notice_of_the_network_is_no_message_of_the_person() {
    let inbox = Inbox::set();
    let conversation = || {
        let list = inbox.stage.server.get("/v1/conversations", Some(&inbox.key)).expect(200).json();
        (list["data"][0]["window"]["state"].clone(), list["data"][0]["unreadCount"].clone())
    };
    let notice = json!({"type": "user_identity_changed", "body": "Ana changed"});
    inbox.deliver(&Delivery::new().message(&ana(), &Said::of("system", notice)));
    assert_eq!(inbox.received()[0]["other"], json!({"kind": "system", "text": "Ana changed"}));
    assert_eq!(conversation(), (json!("UNKNOWN"), json!(0)));
    inbox.deliver(&Delivery::new().message(&ana(), &Said::text("Oi")));
    assert_eq!(conversation(), (json!("OPEN"), json!(1)));
}

#[test]
fn a_callback_is_stored_once_however_often_it_comes() {
    let inbox = Inbox::set();
    let said: Vec<_> = (0..3).map(|n| Said::text(&n.to_string())).collect();
    let delivery = said.iter().fold(Delivery::new(), |all, said| all.message(&ana(), said));
    inbox.deliver(&delivery.clone().times(3));
    // Also after a crash.
    let Inbox { stage, key, cursor } = inbox;
    let inbox = Inbox { stage: stage.crash(), key, cursor };
    inbox.deliver(&delivery.times(2));
    let texts: Vec<_> = inbox.received().iter().map(|message| message["content"].clone()).collect();
    assert_eq!(texts, ["0", "1", "2"]);
}

#[test]
fn statuses_and_messages_of_one_callback_are_stored() {
    let inbox = Inbox::set();
    inbox.stage.graph.behave(|_| Behaviour::accept().calling_back([] as [Status; 0]));
    let id = inbox.stage.accept("vendas", "5511977776666");
    inbox.stage.until("vendas", &id, "SENT");
    let attempt = inbox.stage.graph.attempts().remove(0);
    let answer = Said::text("Obrigado").replying_to(attempt.wamid.as_deref().expect("an id"));
    inbox.deliver(&Delivery::new().status(&attempt, &Status::Read).message(&ana(), &answer));
    assert_eq!(inbox.stage.message("vendas", &id)["status"], "READ");
    let received = inbox.received();
    assert_eq!(received[0]["replyTo"]["messageId"], id);
    // A message that was sent by the API is no echo.
    let sent = Said::text("x").with_id(attempt.wamid.as_deref().expect("an id"));
    inbox.deliver(&Delivery::new().echo(&ana(), &sent));
    assert_eq!(inbox.events("message.echo").len(), 0);
}

#[test]
fn messages_of_others_are_not_stored() {
    let inbox = Inbox::set();
    let graph = &inbox.stage.graph;
    for signed in [Signed::Wrongly, Signed::Not] {
        graph.deliver(NUMBER, &Delivery::new().message(&ana(), &Said::text("Falso")).signed(signed));
    }
    wait_for("two refusals", || graph.refused_callbacks().len() == 2);
    assert!(graph.refused_callbacks().iter().all(|refused| refused.status == 403));
    let secret = Number::example(NUMBER).app_secret.expect("one");
    let post = |body: &[u8]| {
        let signature = signature(&secret, body);
        inbox.stage.server.call("POST", PATH, None, &[JSON, ("X-Hub-Signature-256", &signature)], Some(body))
    };
    // The app's other numbers are not linked here.
    let body = Delivery::new().message(&ana(), &Said::text("De outro")).body(&Number::example("3"));
    post(body.to_string().as_bytes()).expect(200);
    // Very many messages do not keep other callers from the store.
    let many = (0..10_001).fold(Delivery::new(), |all, n| all.raw(json!({"id": n.to_string()})));
    let body = many.body(&Number::example(NUMBER)).to_string();
    assert_refused("many", &post(body.as_bytes()), TOO_LARGE);
    assert_eq!(inbox.received().len(), 0);
}

/// Links a second number, changes the store, and delivers a message to each number in one callback: the store refuses the first
/// one. Returns the inbox after the answer.
fn refused_beside_another(change: &str, status: u16) -> Inbox {
    let inbox = Inbox::set();
    inbox.stage.graph.add_number(Number::example("2"));
    inbox.stage.link("outro", "2");
    let store = rusqlite::Connection::open(inbox.stage.home.dir.join("recado.db")).expect("the store");
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON incoming WHEN new.network_id = 'wamid.BAD'
                  BEGIN SELECT raise(ABORT, 'a bug'); END;";
    store.execute_batch(&format!("{refuse} {change}")).expect("written");
    let mut entries = Vec::new();
    for (number, said) in [(NUMBER, Said::text("Mau").with_id("wamid.BAD")), ("2", Said::text("Bom"))] {
        let mut body = Delivery::new().message(&ana(), &said).body(&Number::example(number));
        entries.append(body["entry"].as_array_mut().expect("a list"));
    }
    let body = json!({"object": "whatsapp_business_account", "entry": entries}).to_string();
    let signature = signature(&Number::example(NUMBER).app_secret.expect("one"), body.as_bytes());
    let headers = [JSON, ("X-Hub-Signature-256", &*signature)];
    inbox.stage.server.call("POST", PATH, None, &headers, Some(body.as_bytes())).expect(status);
    inbox
}

#[test]
fn a_channel_full_of_refused_messages_stops_no_other() {
    let full = "INSERT INTO refused_arrivals (channel_key, id, names, sealed, since, tries, next_at)
                WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
                SELECT (SELECT key FROM channels WHERE id = 'vendas'), CAST(i AS BLOB), ' ', x'00', 0, 1, 9000000000000000
                FROM n";
    let inbox = refused_beside_another(full, 503);
    assert_eq!(inbox.received().iter().map(|message| &message["content"]).collect::<Vec<_>>(), ["Bom"]);
}

#[test]
fn a_channel_whose_messages_cannot_be_kept_stops_no_other() {
    let not_kept = "CREATE TRIGGER keep BEFORE INSERT ON refused_arrivals BEGIN SELECT raise(ABORT, 'a bug'); END;";
    let inbox = refused_beside_another(not_kept, 500);
    assert_eq!(inbox.received().iter().map(|message| &message["content"]).collect::<Vec<_>>(), ["Bom"]);
}
