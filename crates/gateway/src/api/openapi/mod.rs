//! The OpenAPI document, generated from the list of routes: paths and methods from the list, schemas from the types of
//! answers, refusals from [`ApiError`](super::error::ApiError). The rest is described beside each handler.
//!
//! A server does not run this code: it serves the committed `openapi.json`, and a test compares that file with the generated
//! document.

mod operation;
mod refusals;
pub mod schemas;
mod shared;
mod webhooks;
mod written;

pub use operation::{Describe, Operation};
use refusals::Components;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::route::{Access, Route};

const DESCRIPTION: &str = "\
A self-hosted WhatsApp gateway. A call is answered when its message is on disk; its status can be read at any time.

Texts in answers are Portuguese without accents, and do not change; programs look at `code`. A path that is not listed \
answers 404 `NOT_FOUND`, a method that is not listed 405 `METHOD_NOT_ALLOWED` with `Allow`. `HEAD` is answered as `GET`, \
without the body. A field that a call does not know, or that is given twice, is refused. Every answer carries \
`X-Request-Id`: the caller's own when it is 1 to 128 characters of `A-Z a-z 0-9 . _ -`, else a new one.";

const TAGS: [(&str, &str); 9] = [
    ("Messages", "Messages of every kind, and their status."),
    ("Channels", "The senders of messages: one number on one network each."),
    ("Conversations", "The messages of the chats of channels, and their attendants."),
    ("Contacts", "The people who wrote, or whom a caller added."),
    ("API keys", "Keys of the caller's institution and environment."),
    ("Events", "What happened, in its order: as pages, or as a stream."),
    ("Webhooks", "URLs that events are sent to."),
    ("Sandbox", "The simulated phone. For test keys."),
    ("Health", "For load balancers. Without a key."),
];

/// The document.
pub fn document(routes: &[Route]) -> Value {
    let mut document = whole(routes);
    shared::share(&mut document);
    document
}

/// The document with all its repetitions.
fn whole(routes: &[Route]) -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let settings = settings.with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut components = Components::new(settings.into_generator());
    let mut paths = Map::new();
    for route in routes.iter().filter(|route| route.access != Access::Page) {
        let methods = route.described.iter().map(|(method, describe)| {
            let operation = Operation::new(&route.path, route.access == Access::Keyed, &mut components);
            ((*method).to_owned(), describe(operation).finish())
        });
        paths.insert(route.path.clone().into_owned(), Value::Object(methods.collect()));
    }
    let webhooks = webhooks::section(&mut components.schemas);
    let mut components = components.finish();
    components["securitySchemes"] = json!({"apiKey": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "oapi_sk_{live|test}_…",
        "description": "An API key. Test keys reach the sandbox only, live keys everything else.",
    }});
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Recado",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The server that gave this document"}],
        "tags": TAGS.map(|(name, description)| json!({"name": name, "description": description})),
        "paths": paths,
        "webhooks": webhooks,
        "components": components,
    })
}

/// The document in the form of `openapi.json`.
pub fn text() -> String {
    written::written(&document(&super::routes()))
}

#[cfg(test)]
mod tests {
    use recado_domain::kinds::{KINDS, Kind};

    use super::*;
    use crate::api::api_keys::create as api_key;
    use crate::api::webhooks::request as webhook;
    use crate::operations::channels;

    #[test]
    fn the_document_is_small() {
        let text = text();
        assert!(text.len() < 600_000, "{} bytes", text.len());
    }

    #[test]
    fn a_body_schema_has_the_fields_that_are_parsed() {
        let schemas = document(&crate::api::routes())["components"]["schemas"].take();
        let of_kind = |kind: &Kind| (kind.body, kind.all_fields().map(|field| field.name).collect());
        let others = [
            ("NewChannel", channels::FIELDS.to_vec()),
            ("NewApiKey", api_key::FIELDS.to_vec()),
            ("NewWebhook", webhook::FIELDS.to_vec()),
            ("WebhookChange", webhook::FIELDS.to_vec()),
        ];
        for (body, fields) in KINDS.iter().map(of_kind).chain(others) {
            let properties = schemas[body]["properties"].as_object().expect("properties");
            assert_eq!(properties.keys().collect::<Vec<_>>(), fields, "{body}");
        }
    }
}
