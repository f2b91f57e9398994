//! `POST /v1/sandbox/simulate/incoming`: what a person does arrives as from a real network.

use serde_json::{Value, json};

use crate::harness::{Answer, Home, Server, wait_for};
use crate::v1::{
    FORBIDDEN, JSON, NO_CHANNEL, NO_MESSAGE, NOT_CONNECTED, assert_faults, assert_refused, every_scope, location,
    on_both_engines, simulate, text,
};

const SIMULATE: &str = "/v1/sandbox/simulate/incoming";
const LIST: &str = "/v1/sandbox/messages";

struct Stage {
    home: Home,
    server: Server,
    key: String,
    cursor: String,
}

impl Stage {
    fn set() -> Self {
        let home = Home::init();
        let server = home.serve();
        let key = every_scope(&home);
        let first = server.get("/v1/events", Some(&key)).expect(200).json();
        let cursor = first["pagination"]["nextCursor"].as_str().expect("a cursor").to_owned();
        Self { home, server, key, cursor }
    }

    fn call(&self, body: &Value) -> Answer {
        self.server.post(SIMULATE, &self.key, body)
    }

    /// Simulates what Ana does. Returns the ids.
    #[expect(clippy::needless_pass_by_value, reason = "callers give literals")]
    fn ana(&self, kind: &str, content: Value, more: Value) -> Value {
        let mut body = json!({"from": "5511977776666", "name": "Ana", "type": kind, "content": content});
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let answer = self.call(&body).expect(202).json();
        assert_eq!((&answer["success"], &answer["message"]), (&json!(true), &json!("Mensagem simulada.")));
        answer["data"].clone()
    }

    fn events(&self, name: &str) -> Vec<Value> {
        let path = format!("/v1/events?limit=500&chatKinds=DIRECT,GROUP&cursor={}", self.cursor);
        let page = self.server.get(&path, Some(&self.key)).expect(200).json();
        let mut events = page["data"].as_array().expect("events").clone();
        events.retain(|event| event["event"].as_str().is_some_and(|found| found.starts_with(name)));
        events
    }

    fn received(&self) -> Vec<Value> {
        self.events("message.received").into_iter().map(|event| event["data"]["message"].clone()).collect()
    }

    fn shown(&self, query: &str) -> Vec<Value> {
        let list = self.server.get(&format!("{LIST}{query}"), Some(&self.key)).expect(200).json();
        list["data"].as_array().expect("a list").clone()
    }
}

fn none() -> Value {
    json!({})
}

#[test]
fn every_type_arrives_with_its_fields() {
    let stage = Stage::set();
    let table = [
        ("text", json!({"text": "Qual o prazo?"}), "Qual o prazo?", json!({"truncated": false})),
        ("image", json!({"url": "https://example.com/a.jpg", "caption": "Olha"}), "Olha", json!({"caption": "Olha"})),
        ("video", json!({"url": "https://example.com/a"}), "", json!({"caption": null})),
        ("audio", json!({"url": "https://example.com/a", "ptt": true}), "", json!({"ptt": true})),
        ("document", json!({"url": "https://example.com/a", "fileName": "a.pdf"}), "", json!({"fileName": "a.pdf"})),
        ("sticker", json!({"url": "https://example.com/a", "animated": true}), "", json!({"animated": true})),
        ("location", json!({"latitude": -23.5, "longitude": 0}), "", json!({"latitude": -23.5, "longitude": 0.0})),
        (
            "contact",
            json!({"name": "Maria", "phone": "5511988887777"}),
            "Maria",
            json!({"contacts": [{"name": "Maria", "phones": [{"phone": "5511988887777", "type": "CELL"}]}]}),
        ),
        ("button", json!({"title": "Sim", "id": "a"}), "Sim", json!({"id": "a", "title": "Sim"})),
        (
            "poll",
            json!({"question": "Vai?", "options": ["Sim", "Nao"]}),
            "Vai?",
            json!({"question": "Vai?", "options": ["Sim", "Nao"], "maxSelections": 1}),
        ),
        ("unsupported", json!({"reason": "VIEW_ONCE"}), "", json!({"reason": "VIEW_ONCE"})),
    ];
    for (kind, content, text, object) in &table {
        let ids = stage.ana(kind, content.clone(), none());
        let message = stage.received().pop().expect("a message");
        for (name, expected) in [
            ("id", ids["messageId"].clone()),
            ("networkId", ids["networkId"].clone()),
            ("conversationId", ids["conversationId"].clone()),
            ("channelId", json!("sandbox")),
            ("type", json!(kind)),
            ("content", json!(text)),
            ("from", json!("5511977776666")),
            ("late", json!(false)),
        ] {
            assert_eq!(message[name], expected, "{name} of {message}");
        }
        for (name, expected) in object.as_object().expect("an object") {
            assert_eq!(&message[*kind][name], expected, "{name} of {message}");
        }
        assert_eq!(message["sender"]["name"], "Ana");
        assert_eq!(message["media"].is_object(), content.get("url").is_some(), "{message}");
    }
    assert_eq!(stage.events("conversation.created").len(), 1);
    let kinds: Vec<_> = stage.shown("?direction=INBOUND").iter().map(|row| row["type"].clone()).collect();
    assert_eq!(kinds, table.iter().rev().map(|(kind, ..)| json!(kind)).collect::<Vec<_>>());
}

#[test]
fn changes_name_a_message_by_either_id() {
    let stage = Stage::set();
    let said = stage.ana("text", json!({"text": "Antes"}), none());
    let by_id = |name: &str| json!({"messageId": said[name]});
    stage.ana("reaction", json!({"messageId": said["messageId"], "emoji": "👍"}), none());
    stage.ana("edit", json!({"messageId": said["networkId"], "text": "Depois"}), none());
    stage.ana("reaction", by_id("messageId"), none());
    let revoked = stage.ana("revoke", by_id("networkId"), none());
    assert_eq!(revoked["messageId"], said["messageId"]);
    let names: Vec<_> = stage.events("message.").iter().map(|event| event["event"].clone()).collect();
    assert_eq!(
        names,
        ["message.received", "message.reaction", "message.edited", "message.reaction", "message.revoked"]
    );
    let poll = stage.ana("poll", json!({"question": "Vai?", "options": ["Sim", "Nao"]}), none());
    stage.ana("poll_vote", json!({"messageId": poll["messageId"], "options": ["Sim"]}), none());
    let vote = &stage.events("message.poll_vote")[0]["data"];
    assert_eq!((&vote["options"], &vote["messageId"]), (&json!(["Sim"]), &poll["messageId"]));
    let path = format!("/v1/channels/sandbox/messages/{}", poll["messageId"].as_str().expect("an id"));
    let shown = stage.server.get(&path, Some(&stage.key)).expect(200).json();
    let results = json!([{"option": "Sim", "votes": 1}, {"option": "Nao", "votes": 0}]);
    assert_eq!((&shown["data"]["poll"]["results"], &vote["results"]), (&results, &results));
    // What is no poll has no votes. What is not here may be one.
    let sent = json!({"to": "5511977776666", "content": "Vai?"});
    let sent = stage.server.post("/v1/channels/sandbox/messages/text", &stage.key, &sent).expect(202);
    let words = stage.ana("text", json!({"text": "Vai?"}), none());
    let vote = |id: &Value| {
        let content = json!({"messageId": id, "options": ["Sim"]});
        stage.call(&json!({"from": "5511977776666", "type": "poll_vote", "content": content}))
    };
    let no_poll = [("content.messageId", "O campo content.messageId deve ser o id de uma enquete.")];
    for id in [&words["messageId"], &words["networkId"], &json!(sent.header("X-Message-Id"))] {
        assert_faults("no poll", &vote(id), &no_poll);
    }
    assert_eq!(vote(&json!("3EB0459984FC15DDAB10A5")).expect(202).json()["data"]["outcome"], "HELD");
    assert_eq!(stage.events("message.poll_vote").len(), 1);
    // A quote, also of a message that Recado sent.
    let sent = stage.server.post(
        "/v1/channels/sandbox/messages/text",
        &stage.key,
        &json!({"to": "5511977776666", "content": "Oi"}),
    );
    let sent = sent.expect(202).header("X-Message-Id").expect("an id").to_owned();
    wait_for("the sent message", || !stage.shown("?direction=OUTBOUND").is_empty());
    stage.ana("text", json!({"text": "Oi!"}), json!({"replyTo": sent}));
    assert_eq!(stage.received().pop().expect("a message")["replyTo"]["messageId"], sent);
    stage.ana("button", json!({"title": "Sim", "kind": "LIST"}), json!({"replyTo": sent}));
    let choice = stage.received().pop().expect("a message")["choice"].clone();
    assert_eq!((&choice["messageId"], &choice["kind"]), (&json!(sent), &json!("LIST")));
    // From the phone of the business.
    stage.ana("echo", json!({"text": "Do celular"}), none());
    assert_eq!(stage.events("message.echo")[0]["data"]["message"]["direction"], "OUTBOUND");
    // Another number, the same person.
    let contact = stage.received()[0]["sender"]["contactId"].clone();
    stage.ana("number_change", json!({"phone": "5521977776666"}), none());
    stage.ana("text", json!({"text": "Novo numero"}), json!({"from": "5521977776666"}));
    assert_eq!(stage.received().pop().expect("a message")["sender"]["contactId"], contact);
}

#[test]
fn people_groups_and_times_are_as_given() {
    let stage = Stage::set();
    let hidden = json!({"from": null, "lid": "103899771998284"});
    stage.ana("text", json!({"text": "Oi"}), hidden);
    stage.ana("text", json!({"text": "Oi"}), json!({"from": null, "userId": "BR.1349"}));
    stage.ana("text", json!({"text": "Oi"}), json!({"group": "Vendas", "sentAt": "2026-01-01T00:00:00Z"}));
    let received = stage.received();
    let address = |n: usize| received[n]["chat"]["address"].clone();
    assert_eq!((&received[0]["from"], address(0)), (&Value::Null, json!("103899771998284@lid")));
    assert_eq!((&received[1]["sender"]["userId"], address(1)), (&json!("BR.1349"), json!("BR.1349")));
    assert_eq!((&received[2]["chat"]["kind"], &received[2]["chat"]["name"]), (&json!("GROUP"), &json!("Vendas")));
    assert_eq!((&received[2]["late"], &received[2]["sentAt"]), (&json!(true), &json!("2026-01-01T00:00:00.000Z")));
    // The number of a person becomes known: one contact.
    stage.ana("text", json!({"text": "Sou eu"}), json!({"lid": "103899771998284"}));
    let merged = stage.received().pop().expect("a message");
    assert_eq!(merged["sender"]["phone"], "5511977776666");
    assert_eq!(
        stage.events("contact.created").len()
            - stage.events("contact.updated").iter().filter(|event| !event["data"]["mergedFrom"].is_null()).count(),
        2
    );
}

#[test]
fn deliveries_are_repeated_and_reordered() {
    let stage = Stage::set();
    let five = stage.ana("text", json!({"text": "cinco vezes"}), json!({"repeat": 5}));
    assert_eq!(stage.received().len(), 1);
    let held = stage.ana("text", json!({"text": "primeira"}), json!({"outOfOrder": true}));
    assert_eq!((&held["messageId"], &held["conversationId"]), (&Value::Null, &Value::Null));
    assert!(held["networkId"].is_string());
    let arrivals = |of: &Value| {
        let row = stage.shown("").into_iter().find(|row| row["networkId"] == of["networkId"]);
        row.expect("a row")["arrivals"].clone()
    };
    assert_eq!((arrivals(&five), arrivals(&held)), (json!(5), json!(0)));
    // A reaction to what has not arrived yet, too.
    stage.ana("reaction", json!({"messageId": held["networkId"], "emoji": "👍"}), json!({"outOfOrder": true}));
    assert_eq!(stage.received().len(), 1);
    stage.ana("text", json!({"text": "segunda"}), none());
    let texts: Vec<_> = stage.received().iter().map(|message| message["content"].clone()).collect();
    assert_eq!(texts, ["cinco vezes", "segunda", "primeira"]);
    assert_eq!(arrivals(&held), 1);
    assert_eq!(stage.events("message.reaction").len(), 1);
    assert_ne!(five["networkId"], held["networkId"]);
}

#[test]
fn the_answer_says_whether_something_happened() {
    let stage = Stage::set();
    let outcome = |data: Value| data["outcome"].as_str().expect("an outcome").to_owned();
    let said = stage.ana("text", json!({"text": "Oi"}), none());
    assert_eq!(outcome(said.clone()), "STORED");
    let react = |target: &Value| stage.ana("reaction", json!({"messageId": target, "emoji": "👍"}), none());
    assert_eq!(outcome(react(&said["messageId"])), "CHANGED");
    assert_eq!(outcome(react(&said["messageId"])), "IGNORED", "she reacts so already");
    assert_eq!(outcome(react(&json!("nada"))), "HELD", "there is no such message yet");
    assert_eq!(outcome(stage.ana("text", json!({"text": "Oi"}), json!({"outOfOrder": true}))), "HELD");
    // She edits what the business wrote.
    let body = json!({"to": "5511977776666", "content": "Ola"});
    let sent = stage.server.post("/v1/channels/sandbox/messages/text", &stage.key, &body).expect(202);
    let sent = sent.header("X-Message-Id").expect("an id").to_owned();
    wait_for("the sent message", || !stage.shown("?direction=OUTBOUND").is_empty());
    assert_eq!(outcome(stage.ana("edit", json!({"messageId": sent, "text": "Adeus"}), none())), "IGNORED");
}

#[test]
fn what_is_held_survives_a_crash() {
    let stage = Stage::set();
    stage.ana("text", json!({"text": "primeira"}), json!({"outOfOrder": true}));
    let Stage { home, server, key, cursor } = stage;
    server.kill();
    let server = home.serve();
    let stage = Stage { home, server, key, cursor };
    assert_eq!(stage.received().len(), 0);
    stage.ana("text", json!({"text": "segunda"}), none());
    assert_eq!(stage.received().len(), 2);
}

#[test]
fn both_directions_are_listed_and_cleared() {
    let stage = Stage::set();
    let ids = stage.ana("text", json!({"text": "Oi"}), none());
    let answer = stage.server.post(
        "/v1/channels/sandbox/messages/text",
        &stage.key,
        &json!({"to": "5511977776666", "content": "Ola"}),
    );
    answer.expect(202);
    wait_for("the answer to arrive", || stage.shown("").len() == 2);
    let rows = stage.shown("");
    let directions: Vec<_> = rows.iter().map(|row| row["direction"].clone()).collect();
    assert_eq!(directions, ["OUTBOUND", "INBOUND"]);
    let fields = [
        "id",
        "channelId",
        "networkId",
        "direction",
        "from",
        "type",
        "content",
        "sentAt",
        "receivedAt",
        "arrivals",
        "readAt",
    ];
    assert_eq!(rows[1].as_object().expect("an object").keys().collect::<Vec<_>>(), fields);
    for (name, expected) in [
        ("networkId", ids["networkId"].clone()),
        ("from", json!("5511977776666")),
        ("type", json!("text")),
        ("content", json!("Oi")),
        ("arrivals", json!(1)),
    ] {
        assert_eq!(rows[1][name], expected, "{name}");
    }
    assert_eq!(stage.shown("?limit=1").len(), 1);
    let cursor = rows[0]["networkId"].as_str().expect("an id");
    assert_eq!(stage.shown(&format!("?cursor={cursor}"))[0], rows[1]);
    stage.server.delete("/v1/sandbox/data", Some(&stage.key)).expect(200);
    assert_eq!(stage.shown("").len(), 0);
    // The person is unknown again, and the events of before are gone with the contact.
    let again = stage.ana("text", json!({"text": "De novo"}), none());
    assert_ne!(again["conversationId"], ids["conversationId"]);
    assert_eq!(stage.events("contact.created").len(), 1);
    assert_eq!(stage.events("message.received").last().expect("one")["data"]["contact"]["isNew"], true);
}

#[test]
fn calls_are_checked() {
    let stage = Stage::set();
    let body = json!({"from": "5511977776666", "type": "text", "content": {"text": "Oi"}});
    assert_refused("live", &stage.server.post(SIMULATE, &stage.home.live_key, &body), FORBIDDEN);
    let mut other = body.clone();
    other["channelId"] = json!("nada");
    assert_refused("channel", &stage.call(&other), NO_CHANNEL);
    stage.server.post("/v1/channels", &stage.key, &json!({"name": "x", "type": "SANDBOX", "id": "novo"})).expect(201);
    other["channelId"] = json!("novo");
    assert_refused("never connected", &stage.call(&other), NOT_CONNECTED);
    stage.server.call("POST", "/v1/channels/novo/connect", Some(&stage.key), &[], None).expect(200);
    let mut unknown = body.clone();
    unknown["replyTo"] = json!("01a2085f-07eb-7913-a5da-c9ff5fe6d655");
    assert_refused("target", &stage.call(&unknown), NO_MESSAGE);
    let wrong = json!({"from": "x", "type": "text", "content": {"text": "\u{0}"}, "repeat": 9});
    assert_faults(
        "several",
        &stage.call(&wrong),
        &[
            ("from", "O numero do remetente deve estar no formato DDI+DDD+NUM."),
            ("content.text", "O campo content.text contem caracteres invalidos."),
            ("repeat", "O campo repeat deve estar entre 1 e 5."),
        ],
    );
    let long = json!({"from": "5511977776666", "type": "text", "content": {"text": "x".repeat(65_537)}}).to_string();
    let answer = stage.server.call("POST", SIMULATE, Some(&stage.key), &[JSON], Some(long.as_bytes()));
    assert_eq!(answer.status, 413);
    assert_eq!(stage.received().len(), 0);
    stage.call(&other).expect(202);
}

#[test]
fn reactions_to_a_sent_message_are_shown_with_it() {
    const GROUP: &str = "120363041234567890@g.us";
    on_both_engines(|stage| {
        let (ana, bia) = ("5511977776666", "5521966665555");
        for to in [ana, GROUP] {
            let body = json!({"to": to, "content": "Oi"});
            let path =
                location(&stage.server.post("/v1/channels/sandbox/messages/text", &stage.key, &body).expect(202));
            let sent = stage.until(&path, "READ");
            assert_eq!(sent["reactions"], json!([]), "{to}");
            let react = |from: &str, emoji: Value| {
                let mut body = json!({"from": from, "type": "reaction", "content": {"messageId": sent["id"]}});
                if to == GROUP {
                    body["group"] = to.into();
                }
                if emoji.is_string() {
                    body["content"]["emoji"] = emoji;
                }
                simulate(stage, &body);
            };
            let shown = || {
                let message = stage.data(&path);
                let of_chat = format!(
                    "/v1/channels/sandbox/conversations/{}",
                    message["conversationId"].as_str().expect("a conversation")
                );
                for list in [format!("/v1/channels/sandbox/messages?to={to}"), of_chat] {
                    let listed = stage.rows(&list);
                    let listed = listed.iter().find(|listed| listed["id"] == message["id"]).expect("it is listed");
                    assert_eq!(listed["reactions"], message["reactions"], "{list}");
                }
                let reactions = message["reactions"].as_array().expect("reactions").clone();
                reactions.iter().map(|one| (one["from"].clone(), one["emoji"].clone())).collect::<Vec<_>>()
            };
            react(ana, json!("👍"));
            assert_eq!(shown(), [(json!(ana), json!("👍"))], "{to}");
            react(ana, json!("😀"));
            assert_eq!(shown(), [(json!(ana), json!("😀"))], "the last one: {to}");
            if to == GROUP {
                react(bia, json!("👍"));
                assert_eq!(shown(), [(json!(ana), json!("😀")), (json!(bia), json!("👍"))]);
                react(bia, Value::Null);
            }
            react(ana, Value::Null);
            assert_eq!(shown(), [], "taken back: {to}");
            if to == ana {
                react(ana, json!("😀"));
                // Of a contact that is deleted only the emoji stays.
                let said = json!({"from": ana, "type": "text", "content": {"text": "Oi"}});
                let message = text(&simulate(stage, &said), "messageId").to_owned();
                react(ana, json!("👍"));
                assert_eq!(shown(), [(json!(ana), json!("👍"))]);
                let message = stage.data(&format!("/v1/channels/sandbox/messages/{message}"));
                let contact = text(&message["sender"], "contactId");
                stage.server.delete(&format!("/v1/contacts/{contact}"), Some(&stage.key)).expect(200);
                assert_eq!(shown(), [(Value::Null, json!("👍"))]);
            }
        }
    });
}
