//! The table of all routes.

use super::stage::Stage;
use crate::harness::{Answer, Server};

pub const CARD: &str = r#"{"to":"5511999998888","name":"Guarded Card","phone":"5511988887777"}"#;
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
pub const NEW_KEY: &str = r#"{"name":"one more","permissions":["messages.read"]}"#;

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
    pub body: &'static str,
}

const fn route(method: &'static str, path: &'static str, scope: &'static str, body: &'static str) -> Route {
    Route { method, path, scope, body }
}

impl Route {
    pub fn call(&self, server: &Server, stage: &Stage, authorization: Option<&str>) -> Answer {
        let body = (!self.body.is_empty()).then_some(self.body.as_bytes());
        let authorization = authorization.map(|value| ("Authorization", value));
        let headers: Vec<_> =
            authorization.into_iter().chain(body.map(|_| ("Content-Type", "application/json"))).collect();
        server.call(self.method, &stage.path(self.path), None, &headers, body)
    }

    pub fn call_with(&self, server: &Server, stage: &Stage, key: &str) -> Answer {
        self.call(server, stage, Some(&format!("Bearer {key}")))
    }
}
