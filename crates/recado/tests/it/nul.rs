//! Texts with a NUL, which PostgreSQL cannot store, in every field of the API that accepts a text.

use serde_json::{Value, json};

use crate::cluster::Place;
use crate::harness::{Answer, Home, Server};
use crate::load::open_channel;
use crate::openapi::{document, operations, resolved};

const CHANNEL: &str = "loja";

/// Every body that differs from this one in one text, which gets a NUL.
fn spoilt(body: &Value) -> Vec<Value> {
    match body {
        Value::String(text) => vec![json!(format!("{text}\0"))],
        Value::Array(items) => {
            let put = |n: usize, item| {
                let mut items = items.clone();
                items[n] = item;
                Value::Array(items)
            };
            items
                .iter()
                .enumerate()
                .flat_map(|(n, item)| spoilt(item).into_iter().map(move |item| put(n, item)))
                .collect()
        }
        Value::Object(fields) => {
            let put = |name: &str, value| {
                let mut fields = fields.clone();
                fields.insert(name.to_owned(), value);
                Value::Object(fields)
            };
            let each =
                fields.iter().flat_map(|(name, value)| spoilt(value).into_iter().map(move |value| put(name, value)));
            each.collect()
        }
        _ => Vec::new(),
    }
}

fn check(what: &str, answer: &Answer, refused: bool) {
    let fits = if refused { (400..500).contains(&answer.status) } else { answer.status < 500 };
    assert!(fits, "{what}: {} {}", answer.status, answer.text());
}

fn a_nul_in_a_text_causes_no_server_error(home: &Home, server: &Server) {
    let key = home.unlimited_key();
    open_channel(server, &key, CHANNEL);
    let (document, mut places) = (document(), 0);
    for (method, path, operation) in operations(&document) {
        let body = &operation["requestBody"]["content"]["application/json"]["example"];
        let send = |path: &str, body: &Value| {
            let body = (!body.is_null()).then(|| body.to_string().into_bytes());
            server.call(&method, path, Some(&key), &[("Content-Type", "application/json")], body.as_deref())
        };
        let plain = path.replace("{channelId}", CHANNEL);
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let parameter = resolved(&document, parameter);
            let name = parameter["name"].as_str().expect("a name");
            for text in ["%00", "a%00b"] {
                let place = match parameter["in"].as_str() {
                    Some("path") => path.replace(&format!("{{{name}}}"), text).replace("{channelId}", CHANNEL),
                    Some("query") => format!("{plain}?{name}={text}"),
                    _ => continue,
                };
                check(&format!("{method} {place}"), &send(&place, body), true);
                places += 1;
            }
        }
        for body in spoilt(body) {
            // A text that is accepted must be stored without the NUL.
            check(&format!("{method} {plain} {body}"), &send(&plain, &body), false);
            places += 1;
        }
    }
    assert!(places > 60, "only {places} places were looked at");
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[test]
fn no_nul_is_a_fault_on_sqlite() {
    let home = Home::init();
    a_nul_in_a_text_causes_no_server_error(&home, &home.serve());
}

#[test]
fn no_nul_is_a_fault_on_postgres() {
    let place = Place::new();
    a_nul_in_a_text_causes_no_server_error(&place.home, &place.start("one", &[]));
}
