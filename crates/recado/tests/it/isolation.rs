//! Unauthorised calls: every route × an invalid key, a key of another institution, of the other environment, without the
//! scope.
//!
//! One table of routes feeds all loops, so a new route is one new line here. After the refusals nothing has changed.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::disconnect;
use crate::harness::{Answer, Home, Server, agent, call, wait_for};
use crate::receiver::Receiver;
use crate::v1::media::NO_MEDIA;

const UNAUTHORIZED: &str = r#"{"message":"Token de autenticacao invalido ou ausente.","code":"UNAUTHORIZED"}"#;
const FORBIDDEN: &str = r#"{"message":"Permissao insuficiente para esta operacao.","code":"FORBIDDEN"}"#;
const NO_CHANNEL: &str = r#"{"message":"Canal nao encontrado.","code":"CHANNEL_NOT_FOUND"}"#;
const NO_MESSAGE: &str = r#"{"message":"Mensagem nao encontrada.","code":"MESSAGE_NOT_FOUND"}"#;

const NO_CONVERSATION: &str = r#"{"message":"Conversa nao encontrada.","code":"CONVERSATION_NOT_FOUND"}"#;
const NO_CONTACT: &str = r#"{"message":"Contato nao encontrado.","code":"CONTACT_NOT_FOUND"}"#;

const CARD: &str = r#"{"to":"5511999998888","name":"Guarded Card","phone":"5511988887777"}"#;
const NEW_CHANNEL: &str = r#"{"name":"one more","type":"SANDBOX"}"#;
const NEW_NAME: &str = r#"{"name":"guarded as before"}"#;
const TEXT: &str = r#"{"to":"5511999998888","content":"Ola"}"#;
const LOCATION: &str = r#"{"to":"5511999998888","latitude":-23.5,"longitude":-46.6}"#;
const ANY: &str = r#"{"type":"text","to":"5511999998888","content":"Ola"}"#;
const EVENT_LOG: &str = r#"{"eventLog":["message.failed"]}"#;
/// No server has this name, and Recado resolves it only in a test.
const NEW_WEBHOOK: &str = r#"{"url":"https://hooks.invalid/","events":["*"]}"#;
const SIMULATION: &str = r#"{"from":"5511977776666","type":"text","content":{"text":"Oi"}}"#;
const ASSIGNMENT: &str = r#"{"attendantId":"bia"}"#;
const TRANSFER: &str = r#"{"departmentId":"suporte"}"#;
const NEW_CONTACT: &str = r#"{"name":"one more","phone":"5511955554444"}"#;
const NAMED: &str = r#"{"name":"one more"}"#;
const CONTACT: &str = r#"{"name":"Guarded as before"}"#;
const NEW_KEY: &str = r#"{"name":"one more","permissions":["messages.read"]}"#;

/// Method, path, the scope it needs, body. `{read}` and `{queued}` are messages, `{received}` is one that arrived in
/// `{conversation}` from `{contact}` with the file `{media}`, `{key}` is a key, `{event}` an event, `{webhook}` a webhook and `{delivery}` a
/// delivery of it, see [`Stage`].
///
/// The order matters only for the last loop: there every line succeeds, and none affects a later one.
pub const ROUTES: [Route; 57] = [
    route("POST", "/v1/channels/guarded-open/messages/contact", "messages.send", CARD),
    route("POST", "/v1/channels/guarded-open/messages/text", "messages.send", TEXT),
    route("POST", "/v1/channels/guarded-open/messages/location", "messages.send", LOCATION),
    route("POST", "/v1/channels/guarded-open/messages", "messages.send", ANY),
    route("GET", "/v1/channels/guarded-open/messages", "messages.read", ""),
    route("GET", "/v1/channels/guarded-open/messages/{read}", "messages.read", ""),
    route("GET", "/v1/channels/guarded-open/messages/{read}/vcard", "messages.read", ""),
    route("DELETE", "/v1/channels/guarded-held/messages/{queued}", "messages.send", ""),
    route("GET", "/v1/channels", "channels.read", ""),
    route("GET", "/v1/channels/guarded-open", "channels.read", ""),
    route("PUT", "/v1/channels/guarded-open", "channels.write", NEW_NAME),
    route("POST", "/v1/channels", "channels.write", NEW_CHANNEL),
    route("GET", "/v1/channels/guarded-open/events", "channels.read", ""),
    route("GET", "/v1/channels/guarded-open/pairing", "channels.write", ""),
    route("GET", "/v1/channels/guarded-open/accounts/5511999998888", "messages.send", ""),
    route("POST", "/v1/channels/guarded-fresh/connect", "channels.write", ""),
    route("POST", "/v1/channels/guarded-idle/disconnect", "channels.write", ""),
    route("POST", "/v1/channels/guarded-open/pause", "channels.write", ""),
    route("POST", "/v1/channels/guarded-held/resume", "channels.write", ""),
    route("DELETE", "/v1/channels/guarded-idle", "channels.write", ""),
    route("GET", "/v1/channels/guarded-open/messages/{received}", "messages.read", ""),
    route("GET", "/v1/media/{media}/content", "messages.read", ""),
    route("GET", "/v1/channels/guarded-open/conversations/{conversation}", "messages.read", ""),
    route("GET", "/v1/conversations", "conversations.read", ""),
    route("GET", "/v1/conversations/{conversation}", "conversations.read", ""),
    route("PATCH", "/v1/conversations/{conversation}/assign", "conversations.write", ASSIGNMENT),
    route("PATCH", "/v1/conversations/{conversation}/unassign", "conversations.write", ""),
    route("PATCH", "/v1/conversations/{conversation}/transfer", "conversations.write", TRANSFER),
    route("POST", "/v1/conversations/{conversation}/read", "conversations.write", ""),
    route("PATCH", "/v1/conversations/{conversation}/close", "conversations.write", ""),
    route("PATCH", "/v1/conversations/{conversation}/reopen", "conversations.write", ""),
    route("GET", "/v1/contacts", "contacts.read", ""),
    route("POST", "/v1/contacts", "contacts.write", NEW_CONTACT),
    route("GET", "/v1/contacts/{contact}", "contacts.read", ""),
    route("PUT", "/v1/contacts/{contact}", "contacts.write", CONTACT),
    route("PUT", "/v1/contacts/by-phone/5511955554444", "contacts.write", NAMED),
    route("DELETE", "/v1/contacts/{contact}", "contacts.write", ""),
    route("GET", "/v1/events", "events.read", ""),
    route("GET", "/v1/events/{event}", "events.read", ""),
    route("GET", "/v1/events/settings", "webhooks.read", ""),
    route("PUT", "/v1/events/settings", "webhooks.write", EVENT_LOG),
    route("GET", "/v1/webhooks", "webhooks.read", ""),
    route("GET", "/v1/webhooks/{webhook}", "webhooks.read", ""),
    route("GET", "/v1/webhooks/{webhook}/logs", "webhooks.read", ""),
    route("GET", "/v1/webhooks/{webhook}/logs/{delivery}", "webhooks.read", ""),
    route("POST", "/v1/webhooks", "webhooks.write", NEW_WEBHOOK),
    route("PUT", "/v1/webhooks/{webhook}", "webhooks.write", NEW_NAME),
    route("POST", "/v1/webhooks/{webhook}/test", "webhooks.write", ""),
    route("POST", "/v1/webhooks/{webhook}/logs/{delivery}/replay", "webhooks.write", ""),
    route("POST", "/v1/webhooks/{webhook}/replay", "webhooks.write", ""),
    route("DELETE", "/v1/webhooks/{webhook}", "webhooks.write", ""),
    route("GET", "/v1/sandbox/messages", "sandbox.read", ""),
    route("POST", "/v1/sandbox/simulate/incoming", "sandbox.write", SIMULATION),
    route("DELETE", "/v1/sandbox/data", "sandbox.write", ""),
    route("GET", "/v1/api-keys", "keys.read", ""),
    route("POST", "/v1/api-keys", "keys.write", NEW_KEY),
    route("DELETE", "/v1/api-keys/{key}", "keys.write", ""),
];

pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub scope: &'static str,
    body: &'static str,
}

const fn route(method: &'static str, path: &'static str, scope: &'static str, body: &'static str) -> Route {
    Route { method, path, scope, body }
}

impl Route {
    fn call(&self, server: &Server, stage: &Stage, authorization: Option<&str>) -> Answer {
        let body = (!self.body.is_empty()).then_some(self.body.as_bytes());
        let authorization = authorization.map(|value| ("Authorization", value));
        let headers: Vec<_> =
            authorization.into_iter().chain(body.map(|_| ("Content-Type", "application/json"))).collect();
        server.call(self.method, &stage.path(self.path), None, &headers, body)
    }

    fn call_with(&self, server: &Server, stage: &Stage, key: &str) -> Answer {
        self.call(server, stage, Some(&format!("Bearer {key}")))
    }
}

/// An institution with a channel in every state that a wrong call could change, and an object of every kind.
struct Stage {
    home: Home,
    /// A test key of the institution with every scope and no limit.
    owner: String,
    /// A message of `guarded-open`, finished.
    read: String,
    /// A message of `guarded-held`, which waits because its channel is paused: it could be cancelled.
    queued: String,
    /// A message that arrived at `guarded-open`, its conversation, and who wrote it.
    received: String,
    conversation: String,
    contact: String,
    /// Its file.
    media: String,
    /// The id of a key that could be revoked.
    key: String,
    /// The id of an event of `read`.
    event: String,
    /// The id of a webhook, and of its delivery of that event.
    webhook: String,
    delivery: String,
}

impl Stage {
    fn set() -> (Self, Server) {
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

    fn path(&self, path: &str) -> String {
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
    fn state(&self, server: &Server) -> Value {
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
fn scopes() -> impl Iterator<Item = &'static str> {
    "messages.send messages.read channels.read channels.write keys.read keys.write \
     webhooks.read webhooks.write sandbox.read sandbox.write events.read \
     conversations.read conversations.write contacts.read contacts.write"
        .split(' ')
}

fn create_key(home: &Home, institution: &str, environment: &str, scopes: impl Iterator<Item = &'static str>) -> String {
    let scopes = scopes.collect::<Vec<_>>().join(",");
    let args = ["keys", "create", "--institution", institution, "--name", "tests", "--environment", environment];
    let printed = home.cli(&[&args[..], &["--scopes", &scopes, "--rate-limit", "unlimited"]].concat());
    printed["key"].as_str().expect("a key").to_owned()
}

/// A key of another institution.
fn key_of_another_institution(home: &Home) -> String {
    let institution = home.cli(&["institutions", "create", "--name", "Another"]);
    create_key(home, institution["id"].as_str().expect("an id"), "test", scopes())
}

fn open_channel(server: &Server, key: &str, id: &str, moves: &[&str]) {
    let body = json!({"name": id, "type": "SANDBOX", "id": id});
    assert_eq!(field(&server.post("/v1/channels", key, &body).expect(201), "state"), "CREATED");
    for step in moves {
        server.call("POST", &format!("/v1/channels/{id}/{step}"), Some(key), &[], None).expect(200);
    }
}

fn send(server: &Server, key: &str, channel: &str) -> String {
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

fn field(answer: &Answer, name: &str) -> String {
    answer.json()["data"][name].as_str().unwrap_or_else(|| panic!("no {name}: {}", answer.text())).to_owned()
}

/// A time this many seconds from now, in the API's form.
#[expect(clippy::disallowed_methods, reason = "the server under test lives in real time, and so does its caller")]
fn in_seconds(seconds: i64) -> String {
    (Timestamp::now() + SignedDuration::from_secs(seconds)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[track_caller]
fn assert_refused(what: &str, answer: &Answer, status: u16, body: &str) {
    assert_eq!((answer.status, answer.text()), (status, body), "{what}");
}

#[track_caller]
fn assert_let_in(what: &str, answer: &Answer) {
    assert!((200..300).contains(&answer.status), "{what}: {} {}", answer.status, answer.text());
}

fn expired_key(server: &Server, owner: &str) -> String {
    let end = in_seconds(3);
    let body = json!({"name": "brief", "permissions": ["channels.read"], "rateLimit": 1000, "expiresAt": end});
    let key = field(&server.post("/v1/api-keys", owner, &body).expect(201), "key");
    server.get("/v1/channels", Some(&key)).expect(200);
    wait_for("the key to expire", || server.get("/v1/channels", Some(&key)).status == 401);
    key
}

fn revoked_key(server: &Server, owner: &str) -> String {
    let answer = server.post("/v1/api-keys", owner, &serde_json::from_str(NEW_KEY).expect("JSON")).expect(201);
    server.delete(&format!("/v1/api-keys/{}", field(&answer, "id")), Some(owner)).expect(200);
    field(&answer, "key")
}

/// Everything a caller may send instead of a valid key.
fn bad_authorizations(stage: &Stage, server: &Server) -> Vec<(&'static str, Option<String>)> {
    let owner = &stage.owner;
    let (start, last) = owner.split_at(owner.len() - 1);
    let typo = format!("{start}{}", if last == "a" { "b" } else { "a" });
    let bearer = |key: &str| Some(format!("Bearer {key}"));
    vec![
        ("no key", None),
        ("another scheme", Some(format!("Basic {owner}"))),
        ("no key after the scheme", Some("Bearer".to_owned())),
        ("malformed", bearer("oapi_sk_test_short")),
        ("a typo", bearer(&typo)),
        ("the wrong environment written on it", bearer(&owner.replace("_test_", "_live_"))),
        // Well formed, with a correct checksum, but a key of another installation.
        ("unknown", bearer(&Home::init().test_key)),
        ("revoked", bearer(&revoked_key(server, owner))),
        ("expired", bearer(&expired_key(server, owner))),
    ]
}

#[test]
fn a_bad_key_opens_no_route() {
    let (stage, server) = Stage::set();
    let bad = bad_authorizations(&stage, &server);
    let before = stage.state(&server);
    drop(server);
    for (kind, authorization) in bad {
        // Failed authentications are limited by address, and a restarted server has not counted those of the last kind.
        let server = stage.home.serve_sealing(&[]);
        for route in &ROUTES {
            let what = format!("{} {} with {kind}", route.method, route.path);
            let answer = route.call(&server, &stage, authorization.as_deref());
            assert_refused(&what, &answer, 401, UNAUTHORIZED);
            assert_eq!(answer.header("WWW-Authenticate"), Some("Bearer"), "{what}");
        }
    }
    let server = stage.home.serve_sealing(&[]);
    assert_eq!(stage.state(&server), before);
}

/// The command line calls the API without a key, by the control socket. Its headers open nothing on the network.
#[test]
fn nothing_on_the_wire_makes_an_operator() {
    let (stage, server) = Stage::set();
    let before = stage.state(&server);
    let whose = json!({"institution": stage.home.institution, "environment": "test"}).to_string();
    let grant = json!({"institution": stage.home.institution, "grant": {"environment": "test"}}).to_string();
    let smuggled = [
        ("AuthContext", &*grant),
        ("X-AuthContext", &grant),
        ("Whose", &whose),
        ("X-Institution", &stage.home.institution),
        ("X-Environment", "test"),
        ("X-Operator", "true"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("Proxy-Authorization", "Bearer operator"),
    ];
    for route in &ROUTES {
        let what = format!("{} {} with smuggled headers", route.method, route.path);
        let body = (!route.body.is_empty()).then_some(route.body.as_bytes());
        let headers = [&smuggled[..], &[("Content-Type", "application/json")]].concat();
        assert_refused(
            &what,
            &server.call(route.method, &stage.path(route.path), None, &headers, body),
            401,
            UNAUTHORIZED,
        );
    }
    // A command in the form of the socket is no call of the API.
    let call = json!({"call": {"whose": {}, "method": "GET", "path": "/v1/channels", "headers": [], "body": ""}});
    server.call("POST", "/", None, &[], Some(call.to_string().as_bytes())).expect(404);
    assert_eq!(stage.state(&server), before);
}

#[test]
fn another_institution_finds_nothing() {
    let (stage, server) = Stage::set();
    finds_nothing(&stage, &server, &key_of_another_institution(&stage.home), |_| None);
}

#[test]
fn the_other_environment_finds_nothing() {
    let (stage, server) = Stage::set();
    let live = create_key(&stage.home, &stage.home.institution, "live", scopes());
    finds_nothing(&stage, &server, &live, |route| match route.path {
        "/v1/sandbox/messages" | "/v1/sandbox/data" | "/v1/sandbox/simulate/incoming" => Some(403..=403),
        // A sandbox channel is refused for live keys. The tests of that route check the status.
        "/v1/channels" if route.method == "POST" => Some(400..=499),
        _ => None,
    });
    // The reserved name is no way in either.
    assert_refused("the reserved name", &server.get("/v1/channels/sandbox", Some(&live)), 404, NO_CHANNEL);
}

/// Every route with a valid key to which these objects do not belong. `refusal` returns the status of a route that such a
/// key may not use at all. What remains is its own: its lists, its new channel and key, its sandbox.
fn finds_nothing(stage: &Stage, server: &Server, key: &str, refusal: impl Fn(&Route) -> Option<RangeInclusive<u16>>) {
    let before = stage.state(server);
    for route in &ROUTES {
        let what = format!("{} {} with a key from elsewhere", route.method, route.path);
        let answer = route.call_with(server, stage, key);
        let ids = [&stage.read, &stage.queued, &stage.received, &stage.conversation, &stage.contact, &stage.key];
        let others = [&stage.event, &stage.webhook, &stage.delivery];
        for mark in ["guarded"].into_iter().chain(ids.into_iter().chain(others).map(String::as_str)) {
            assert!(!answer.text().to_lowercase().contains(&mark.to_lowercase()), "{what} shows {mark}");
        }
        if route.path.starts_with("/v1/channels/") {
            assert_refused(&what, &answer, 404, NO_CHANNEL);
        } else if route.path.contains("{key}") {
            assert_eq!((answer.status, &answer.json()["code"]), (404, &json!("API_KEY_NOT_FOUND")), "{what}");
        } else if route.path.contains("{conversation}") {
            assert_refused(&what, &answer, 404, NO_CONVERSATION);
        } else if route.path.contains("{contact}") {
            assert_refused(&what, &answer, 404, NO_CONTACT);
        } else if route.path.contains("{media}") {
            assert_refused(&what, &answer, NO_MEDIA.0, NO_MEDIA.1);
        } else if route.path.contains("{event}") {
            assert_eq!((answer.status, &answer.json()["code"]), (404, &json!("EVENT_NOT_FOUND")), "{what}");
        } else if route.path.contains("{webhook}") {
            assert_eq!((answer.status, &answer.json()["code"]), (404, &json!("WEBHOOK_NOT_FOUND")), "{what}");
        } else if let Some(statuses) = refusal(route) {
            assert!(statuses.contains(&answer.status), "{what}: {} {}", answer.status, answer.text());
            assert!(answer.status != 403 || answer.text() == FORBIDDEN, "{what}: {}", answer.text());
        } else {
            assert_let_in(&what, &answer);
        }
    }
    assert_eq!(stage.state(server), before);
}

#[test]
fn a_channel_id_used_twice_joins_nothing() {
    let (stage, server) = Stage::set();
    let stranger = key_of_another_institution(&stage.home);
    open_channel(&server, &stranger, "guarded-open", &["connect"]);
    open_channel(&server, &stranger, "guarded-held", &["connect"]);
    let before = stage.state(&server);
    for route in ROUTES.iter().filter(|route| route.path.contains("{read}") || route.path.contains("{queued}")) {
        let what = format!("{} {}", route.method, route.path);
        assert_refused(&what, &route.call_with(&server, &stage, &stranger), 404, NO_MESSAGE);
    }
    let its = stage.path("/v1/channels/guarded-open/conversations/{conversation}");
    assert_refused("its conversation", &server.get(&its, Some(&stranger)), 404, NO_CONVERSATION);
    let its = stage.path("/v1/channels/guarded-open/messages/{received}");
    assert_refused("its received message", &server.get(&its, Some(&stranger)), 404, NO_MESSAGE);
    for query in ["", "?direction=INBOUND"] {
        let list = server.get(&format!("/v1/channels/guarded-open/messages{query}"), Some(&stranger)).expect(200);
        assert_eq!(list.json()["data"], json!([]), "{query}");
    }
    send(&server, &stranger, "guarded-open");
    for path in ["/v1/channels/guarded-open", "/v1/channels/guarded-held", "/v1/sandbox/data"] {
        server.delete(path, Some(&stranger)).expect(200);
    }
    assert_eq!(stage.state(&server), before);
}

#[test]
fn without_its_scope_a_key_is_refused_and_with_it_alone_let_in() {
    let (stage, server) = Stage::set();
    let key = |with: &dyn Fn(&str) -> bool| {
        create_key(&stage.home, &stage.home.institution, "test", scopes().filter(|scope| with(scope)))
    };
    // A key must have `messages.read` to grant it, as its route does here, to read an event of a message, and to
    // change a webhook that receives one.
    let alone = |scope: &str, other: &str| {
        scope == other || other == "messages.read" && ["keys.write", "events.read", "webhooks.write"].contains(&scope)
    };
    let pair = |scope| (key(&|other| other != scope), key(&|other| alone(scope, other)));
    let keys: HashMap<_, _> = scopes().map(|scope| (scope, pair(scope))).collect();
    let before = stage.state(&server);
    for route in &ROUTES {
        let what = format!("{} {} without {}", route.method, route.path, route.scope);
        assert_refused(&what, &route.call_with(&server, &stage, &keys[route.scope].0), 403, FORBIDDEN);
    }
    assert_eq!(stage.state(&server), before);
    // Last, because these calls have effects: the refusals above were only because of the scope.
    for route in &ROUTES {
        let answer = route.call_with(&server, &stage, &keys[route.scope].1);
        assert_let_in(&format!("{} {} with {} alone", route.method, route.path, route.scope), &answer);
    }
    assert_ne!(stage.state(&server), before, "the state that was compared does not show changes");
}

/// The table has every route, including each new one.
#[test]
fn a_call_is_executed_although_its_client_has_gone() {
    let (stage, server) = Stage::set();
    drop(server);
    let server = stage.home.serve_sealing(&["--log", "debug"]);
    let carried_out = |route: &Route| {
        // The line is written when the call has ended, by the task that executed it.
        let is_of = |line: &&str| {
            line.contains(&format!("method={}", route.method)) && line.contains(" request") && line.contains("status=2")
        };
        server.log().lines().filter(is_of).count()
    };
    for route in ROUTES.iter().filter(|route| route.method != "GET") {
        let before = carried_out(route);
        drop(disconnect::request(&server, route.method, &stage.path(route.path), &stage.owner, Some(route.body)));
        wait_for(&format!("{} {} to be carried out", route.method, route.path), || carried_out(route) > before);
    }
    let after = stage.state(&server);
    drop(server);
    assert_eq!(stage.state(&stage.home.serve_sealing(&[])), after, "memory and store did not agree");
}

#[test]
fn a_key_grants_no_more_than_it_has() {
    let (stage, server) = Stage::set();
    let (its_end, later) = (in_seconds(3600), in_seconds(7200));
    let own = ["keys.write", "messages.send"];
    let good = json!({"name": "granted", "permissions": own, "rateLimit": 30, "expiresAt": its_end});
    let giver = field(&server.post("/v1/api-keys", &stage.owner, &good).expect(201), "key");
    let before = stage.state(&server);
    for (name, more) in [
        ("permissions", json!(["messages.read"])),
        ("permissions", json!(["messages.send", "channels.write"])),
        ("environment", json!("live")),
        ("rateLimit", json!(31)),
        ("expiresAt", json!(later)),
    ] {
        let mut body = good.clone();
        body[name] = more;
        assert_refused(&body.to_string(), &server.post("/v1/api-keys", &giver, &body), 403, FORBIDDEN);
    }
    assert_eq!(stage.state(&server)["keys"], before["keys"]);
    let granted = field(&server.post("/v1/api-keys", &giver, &good).expect(201), "key");
    send(&server, &granted, "guarded-open");
    server.get("/v1/api-keys", Some(&granted)).expect(403);
    // An omitted property must not exceed the creator's: it is refused, or reduced.
    let answer = server.post("/v1/api-keys", &giver, &json!({"name": "defaults", "permissions": own}));
    if answer.status == 403 {
        return;
    }
    let data = answer.expect(201).json()["data"].clone();
    assert!(data["rateLimit"].as_u64().is_some_and(|rate| rate <= 30), "{data}");
    let end = data["expiresAt"].as_str().and_then(|end| end.parse::<Timestamp>().ok()).expect("an end");
    assert!(end <= its_end.parse().expect("a time"), "{data}");
}

#[test]
fn a_revoked_key_is_refused_at_the_next_call() {
    let (stage, server) = Stage::set();
    // One persistent connection: what the server remembers of it must not outlive the key.
    let (agent, url) = (agent(), server.url("/v1/channels"));
    for round in 0..8 {
        let body = json!({"name": format!("round {round}"), "permissions": ["channels.read", "keys.write"]});
        let answer = server.post("/v1/api-keys", &stage.owner, &body).expect(201);
        let (id, key) = (field(&answer, "id"), field(&answer, "key"));
        call(&agent, &url, "GET", Some(&key), &[], None).expect("an answer").expect(200);
        // Every other key revokes itself.
        let by = if round % 2 == 0 { &stage.owner } else { &key };
        server.delete(&format!("/v1/api-keys/{id}"), Some(by)).expect(200);
        let answer = call(&agent, &url, "GET", Some(&key), &[], None).expect("an answer");
        assert_refused("a revoked key", &answer, 401, UNAUTHORIZED);
    }
}

#[test]
fn a_key_is_shown_once_and_kept_nowhere() {
    let (stage, server) = Stage::set();
    let body = json!({"name": "shown once", "permissions": ["channels.read"]});
    let answer = server.post("/v1/api-keys", &stage.owner, &body).expect(201);
    let (id, key) = (field(&answer, "id"), field(&answer, "key"));
    assert!(key.starts_with("oapi_sk_test_") && key.len() == 48, "{key}");
    let list = server.get("/v1/api-keys?limit=100", Some(&stage.owner)).expect(200);
    assert!(list.text().contains(&id), "the list lacks the new key: {}", list.text());
    for secret in [&key, &stage.owner, &stage.home.test_key] {
        assert!(!list.text().contains(&secret["oapi_sk_test_".len() + 8..]), "the list shows a key: {}", list.text());
    }
    // A SHA-256 has 64 hexadecimal digits and 43 characters in base 64. Nothing else in the list is one long word.
    let in_word = |letter: char| letter.is_ascii_alphanumeric() || "+/_=".contains(letter);
    let longest = list.text().split(|letter| !in_word(letter)).max_by_key(|word| word.len()).unwrap_or_default();
    assert!(longest.len() < 43, "the list shows what may be a hash: {longest}");
    // The files contain only its hash. (The socket among them is not a file that can be read.)
    let grep = ["-r", "-l", "-a", "-F", "--devices=skip", &key, stage.home.dir()];
    let found = Command::new("grep").args(grep).output().expect("grep runs");
    assert_eq!((found.status.code(), found.stdout.as_slice()), (Some(1), &b""[..]), "files that hold the key");
}
