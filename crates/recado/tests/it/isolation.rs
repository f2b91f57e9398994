//! Unauthorised calls: every route × an invalid key, a key of another institution, of the other environment, without the
//! scope.
//!
//! One [table of routes](routes) feeds all loops, so a new route is one new line there. After the refusals nothing has changed.

mod keys;
mod routes;
mod stage;

use std::collections::HashMap;
use std::ops::RangeInclusive;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::disconnect;
use crate::harness::{Answer, Home, Server, wait_for};
use crate::v1::assert_faults;
use crate::v1::media::NO_MEDIA;

pub use self::routes::ROUTES;
use self::routes::{NEW_KEY, Route};
use self::stage::{Stage, create_key, field, key_of_another_institution, open_channel, scopes, send};

const UNAUTHORIZED: &str = r#"{"message":"Token de autenticacao invalido ou ausente.","code":"UNAUTHORIZED"}"#;
const FORBIDDEN: &str = r#"{"message":"Permissao insuficiente para esta operacao.","code":"FORBIDDEN"}"#;
const NO_CHANNEL: &str = r#"{"message":"Canal nao encontrado.","code":"CHANNEL_NOT_FOUND"}"#;
const NO_MESSAGE: &str = r#"{"message":"Mensagem nao encontrada.","code":"MESSAGE_NOT_FOUND"}"#;

const NO_CONVERSATION: &str = r#"{"message":"Conversa nao encontrada.","code":"CONVERSATION_NOT_FOUND"}"#;
const NO_CONTACT: &str = r#"{"message":"Contato nao encontrado.","code":"CONTACT_NOT_FOUND"}"#;

const UNKNOWN: &str = "Campo desconhecido.";

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

/// Whoever gives a field to a call that has none believes that it is obeyed.
#[test]
fn a_call_that_deletes_refuses_fields() {
    let (stage, server) = Stage::set();
    let before = stage.state(&server);
    for route in ROUTES.iter().filter(|route| route.method == "DELETE") {
        let what = format!("{} {}", route.method, route.path);
        let (path, headers) = (stage.path(route.path), [("Content-Type", "application/json")]);
        let call = |body: &str| server.call("DELETE", &path, Some(&stage.owner), &headers, Some(body.as_bytes()));
        assert_faults(&what, &call(r#"{"erase":true}"#), &[("erase", UNKNOWN)]);
        assert_eq!(call("{bad").status, 400, "{what}");
    }
    assert_eq!(stage.state(&server), before);
}

/// The same of parameters in the query string, and of all calls but those that send. Networks and balancers may add some to
/// calls without a key.
#[test]
fn a_call_refuses_parameters_that_it_does_not_have() {
    let (stage, server) = Stage::set();
    let before = stage.state(&server);
    let sends = |route: &&Route| route.method == "POST" && route.scope == "messages.send";
    for route in ROUTES.iter().filter(|route| !sends(route)) {
        let what = format!("{} {}", route.method, route.path);
        let body = (!route.body.is_empty()).then_some(route.body.as_bytes());
        let headers: Vec<_> = body.iter().map(|_| ("Content-Type", "application/json")).collect();
        let path = format!("{}?de%20fora=1", stage.path(route.path));
        let answer = server.call(route.method, &path, Some(&stage.owner), &headers, body);
        assert_faults(&what, &answer, &[("de fora", UNKNOWN)]);
    }
    assert_eq!(stage.state(&server), before);
    for path in ["/health/live?x=1", "/health/ready?x=1", "/v1/channels/guarded-open?", "/v1/channels/guarded-open?&"] {
        server.get(path, Some(&stage.owner)).expect(200);
    }
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
