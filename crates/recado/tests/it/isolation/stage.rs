//! The objects that a wrong call could read or change.

use serde_json::{Value, json};

use super::routes::CARD;
use crate::harness::{Answer, Home, Server, wait_for};
use crate::receiver::Receiver;

/// An institution with a channel in every state that a wrong call could change, and an object of every kind.
pub struct Stage {
    pub home: Home,
    /// A test key of the institution with every scope and no limit.
    pub owner: String,
    /// A message of `guarded-open`, finished.
    pub read: String,
    /// A message of `guarded-held`, which waits because its channel is paused: it could be cancelled.
    pub queued: String,
    /// A message that arrived at `guarded-open`, its conversation, and who wrote it.
    pub received: String,
    pub conversation: String,
    pub contact: String,
    /// Its file.
    pub media: String,
    /// The id of a key that could be revoked.
    pub key: String,
    /// The id of an event of `read`.
    pub event: String,
    /// The id of a webhook, and of its delivery of that event.
    pub webhook: String,
    pub delivery: String,
}

impl Stage {
    pub fn set() -> (Self, Server) {
        let home = Home::init();
        let owner = create_key(&home, &home.institution, "test", scopes());
        let server = home.serve_sealing(&["--allow-networks", "127.0.0.0/8"]);
        // Its first reader begins to record events.
        server.get("/v1/events", Some(&owner)).expect(200);
        open_channel(&server, &owner, "guarded-open", &["connect"]);
        open_channel(&server, &owner, "guarded-idle", &["connect"]);
        open_channel(&server, &owner, "guarded-held", &["connect", "pause"]);
        open_channel(&server, &owner, "guarded-fresh", &[]);
        let webhook = json!({"name": "guarded webhook", "url": "https://hooks.invalid/", "events": ["message.read"]});
        let webhook = field(&server.post("/v1/webhooks", &owner, &webhook).expect(201), "id");
        let read = send(&server, &owner, "guarded-open");
        let queued = send(&server, &owner, "guarded-held");
        let key = json!({"name": "guarded key", "permissions": ["messages.read"]});
        let key = field(&server.post("/v1/api-keys", &owner, &key).expect(201), "id");
        let [received, conversation, contact, media] = receive(&server, &owner);
        let (event, delivery) = (String::new(), String::new());
        #[rustfmt::skip]
        let mut stage = Self {
            home, owner, read, queued, received, conversation, contact, media, key, event, webhook, delivery,
        };
        let finished = stage.path("/v1/channels/guarded-open/messages/{read}");
        wait_for("the card to be read", || {
            server.get(&finished, Some(&stage.owner)).expect(200).json()["data"]["status"] == "READ"
        });
        wait_for("the event", || {
            let read = "/v1/events?from=oldest&events=message.read";
            let events = server.get(read, Some(&stage.owner)).expect(200).json();
            events["data"][0]["id"].as_str().unwrap_or_default().clone_into(&mut stage.event);
            !stage.event.is_empty()
        });
        let log = stage.path("/v1/webhooks/{webhook}/logs");
        wait_for("a delivery", || {
            let log = server.get(&log, Some(&stage.owner)).expect(200).json();
            log["data"][0]["id"].as_str().unwrap_or_default().clone_into(&mut stage.delivery);
            !stage.delivery.is_empty()
        });
        (stage, server)
    }

    pub fn path(&self, path: &str) -> String {
        path.replace("{read}", &self.read)
            .replace("{queued}", &self.queued)
            .replace("{received}", &self.received)
            .replace("{conversation}", &self.conversation)
            .replace("{contact}", &self.contact)
            .replace("{media}", &self.media)
            .replace("{key}", &self.key)
            .replace("{event}", &self.event)
            .replace("{webhook}", &self.webhook)
            .replace("{delivery}", &self.delivery)
    }

    /// The state that a refused call must not have changed, as the owner sees it.
    pub fn state(&self, server: &Server) -> Value {
        let list = |path: &str, fields: [&str; 2]| {
            let answer = server.get(&format!("{path}?limit=100"), Some(&self.owner)).expect(200).json();
            assert!(answer["pagination"]["nextCursor"].is_null(), "{path} has a second page, the test sees only one");
            let pick = |row: &Value| fields.map(|field| row[field].clone());
            let rows = answer["data"].as_array().expect("a list").iter().map(pick).collect::<Vec<_>>();
            assert!(rows.iter().flatten().all(|value| !value.is_null()), "{path} lacks one of {fields:?}: {answer}");
            json!(rows)
        };
        // Gone with its webhook.
        let log = self.path("/v1/webhooks/{webhook}/logs");
        json!({
            "channels": list("/v1/channels", ["id", "state"]),
            "open": list("/v1/channels/guarded-open/messages", ["id", "status"]),
            "held": list("/v1/channels/guarded-held/messages", ["id", "status"]),
            "phone": list("/v1/sandbox/messages", ["id", "arrivals"]),
            "conversations": list("/v1/conversations", ["id", "status"]),
            "contacts": list("/v1/contacts", ["id", "name"]),
            "keys": list("/v1/api-keys", ["id", "name"]),
            "webhooks": list("/v1/webhooks", ["id", "updatedAt"]),
            "deliveries": if server.get(&log, Some(&self.owner)).status == 200 { list(&log, ["id", "event"]) } else { Value::Null },
        })
    }
}

/// Every scope there is.
pub fn scopes() -> impl Iterator<Item = &'static str> {
    "messages.send messages.read channels.read channels.write keys.read keys.write \
     webhooks.read webhooks.write sandbox.read sandbox.write events.read \
     conversations.read conversations.write contacts.read contacts.write"
        .split(' ')
}

pub fn create_key(
    home: &Home,
    institution: &str,
    environment: &str,
    scopes: impl Iterator<Item = &'static str>,
) -> String {
    let scopes = scopes.collect::<Vec<_>>().join(",");
    let args = ["keys", "create", "--institution", institution, "--name", "tests", "--environment", environment];
    let printed = home.cli(&[&args[..], &["--scopes", &scopes, "--rate-limit", "unlimited"]].concat());
    printed["key"].as_str().expect("a key").to_owned()
}

/// A key of another institution.
pub fn key_of_another_institution(home: &Home) -> String {
    let institution = home.cli(&["institutions", "create", "--name", "Another"]);
    create_key(home, institution["id"].as_str().expect("an id"), "test", scopes())
}

pub fn open_channel(server: &Server, key: &str, id: &str, moves: &[&str]) {
    let body = json!({"name": id, "type": "SANDBOX", "id": id});
    assert_eq!(field(&server.post("/v1/channels", key, &body).expect(201), "state"), "CREATED");
    for step in moves {
        server.call("POST", &format!("/v1/channels/{id}/{step}"), Some(key), &[], None).expect(200);
    }
}

pub fn send(server: &Server, key: &str, channel: &str) -> String {
    let card = serde_json::from_str(CARD).expect("JSON");
    let answer = server.post(&format!("/v1/channels/{channel}/messages/contact"), key, &card).expect(202);
    answer.header("X-Message-Id").expect("an id").to_owned()
}

/// A file arrives at `guarded-open`: the ids of its message, of the conversation, of its sender and of the file. It is fetched
/// now, from this machine, because servers without this setting fetch nothing from there.
fn receive(server: &Server, key: &str) -> [String; 4] {
    let host = Receiver::start(&[("", "bytes")]);
    let content = json!({"url": host.url, "caption": "guarded words"});
    let body = json!({
        "from": "5511966665555", "type": "document", "content": content, "channelId": "guarded-open", "name": "Guarded Person",
    });
    let answer = server.post("/v1/sandbox/simulate/incoming", key, &body).expect(202);
    let conversation = field(&answer, "conversationId");
    let shown = server.get(&format!("/v1/conversations/{conversation}"), Some(key)).expect(200).json();
    let contact = shown["data"]["contact"]["id"].as_str().expect("a contact").to_owned();
    let message = field(&answer, "messageId");
    let shown = server.get(&format!("/v1/channels/guarded-open/messages/{message}"), Some(key)).expect(200).json();
    let media = shown["data"]["media"]["id"].as_str().expect("a file").to_owned();
    server.get(&format!("/v1/media/{media}/content"), Some(key)).expect(200);
    [message, conversation, contact, media]
}

pub fn field(answer: &Answer, name: &str) -> String {
    answer.json()["data"][name].as_str().unwrap_or_else(|| panic!("no {name}: {}", answer.text())).to_owned()
}
