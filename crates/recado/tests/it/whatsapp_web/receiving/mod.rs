//! What people write to a linked channel: each kind is stored with every field, once, however the network delivers it and
//! whatever happens to the server.

mod calls;
mod disk;
mod groups;
mod kill;
mod kinds;
mod people;
mod repeated;
mod typing;

use serde_json::{Value, json};

use super::{Stage, owner};
use crate::harness::wait_for;
use crate::v1::create_key;

/// The account of the person who writes with Baileys.
const PEER: &str = "551150003000";
const PEER_LID: &str = "900000000000030";
const GROUP: &str = "120363000000000001";

const SCOPES: &str = "events.read,messages.read,conversations.read,contacts.read,channels.read,channels.write,\
                      webhooks.read,webhooks.write";

/// A stage with the linked channel `vendas`, whose events are read.
struct Inbox {
    stage: Stage,
    key: String,
    cursor: String,
}

impl Inbox {
    fn set() -> Self {
        Self::of(Stage::linked())
    }

    fn on_postgres() -> Self {
        let stage = Stage::set_on(1);
        stage.link("vendas", &owner());
        Self::of(stage)
    }

    fn of(stage: Stage) -> Self {
        let key = create_key(&stage.home, "live", SCOPES, "unlimited");
        let first = stage.server.get("/v1/events", Some(&key)).expect(200).json();
        let cursor = first["pagination"]["nextCursor"].as_str().expect("a cursor").to_owned();
        let inbox = Self { stage, key, cursor };
        let account = super::OWNER;
        wait_for("keys to write with", || inbox.stage.whatsapp.one_time_keys(account).iter().all(|left| *left > 0));
        inbox
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        self.stage.server.get(path, Some(&self.key)).expect(200).json()
    }

    /// All events so far whose name begins with this.
    fn events(&self, name: &str) -> Vec<Value> {
        let (mut cursor, mut events) = (self.cursor.clone(), Vec::new());
        loop {
            let page = self.get(&format!("/v1/events?limit=500&cursor={cursor}&chatKinds=DIRECT,GROUP"));
            let found = page["data"].as_array().expect("events");
            if found.is_empty() {
                events.retain(|event: &Value| event["event"].as_str().is_some_and(|found| found.starts_with(name)));
                return events;
            }
            events.extend(found.iter().cloned());
            page["pagination"]["nextCursor"].as_str().expect("a cursor").clone_into(&mut cursor);
        }
    }

    /// Waits until there are so many events of this name; all of them.
    #[track_caller]
    fn until(&self, name: &str, count: usize) -> Vec<Value> {
        super::wait_to_see(&format!("{count} {name}"), || self.events(name), |events| events.len() >= count)
    }

    /// Waits for so many messages; all of them, in the order of their events.
    #[track_caller]
    fn until_received(&self, count: usize) -> Vec<Value> {
        let events = self.until("message.received", count);
        events.into_iter().map(|event| event["data"]["message"].clone()).collect()
    }

    /// Every message of the channel that the network delivered, newest first, as the API lists them now.
    fn listed(&self, channel: &str) -> Vec<Value> {
        let (mut messages, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/channels/{channel}/messages?direction=INBOUND&limit=100{cursor}");
            let page = self.get(&path);
            messages.extend(page["data"].as_array().expect("a list").iter().cloned());
            let Some(next) = page["pagination"]["nextCursor"].as_str() else { return messages };
            cursor = format!("&cursor={next}");
        }
    }

    fn hook(&self, url: &str) {
        let body = json!({"url": url, "events": ["message.*"], "chatKinds": ["DIRECT", "GROUP"]});
        self.stage.server.post("/v1/webhooks", &self.key, &body).expect(201);
    }
}

/// The message with this network id.
#[track_caller]
fn of_network<'a>(messages: &'a [Value], id: &str) -> &'a Value {
    let found: Vec<_> = messages.iter().filter(|message| message["networkId"] == id).collect();
    assert_eq!(found.len(), 1, "messages with the id {id}");
    found[0]
}

/// Checks that `shown` has everything that `expected` has, at any depth.
#[track_caller]
fn assert_shows(what: &str, shown: &Value, expected: &Value) {
    if let Some((path, shown, expected)) = difference(shown, expected, String::new()) {
        panic!("{what}{path} is {shown}, not {expected}");
    }
}

fn difference<'a>(shown: &'a Value, expected: &'a Value, path: String) -> Option<(String, &'a Value, &'a Value)> {
    match expected {
        Value::Object(fields) => {
            fields.iter().find_map(|(name, expected)| difference(&shown[name], expected, format!("{path}/{name}")))
        }
        Value::Array(items) if shown.as_array().is_some_and(|shown| shown.len() == items.len()) => {
            let mut each = items.iter().enumerate();
            each.find_map(|(at, expected)| difference(&shown[at], expected, format!("{path}/{at}")))
        }
        _ => (shown != expected).then_some((path, shown, expected)),
    }
}
