//! The error answers. Status, code, text and headers are those of [`ApiError`].

use std::collections::BTreeMap;

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::api::error::ApiError;

/// An error.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is asked for; the answers are written by `ErrorBody`")]
pub struct Error {
    /// A text for people, in Portuguese.
    message: &'static str,
    /// A code for programs, which does not change.
    code: &'static str,
}

/// The errors of a call, one for every invalid field.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "as above")]
pub struct ValidationError {
    /// A text for people, in Portuguese.
    message: &'static str,
    /// A code for programs, which does not change.
    code: &'static str,
    /// One entry for each field.
    #[schemars(length(min = 1))]
    errors: Vec<FieldFault>,
}

/// An invalid field.
#[derive(JsonSchema)]
#[schemars(rename = "FieldError")]
#[expect(dead_code, reason = "as above")]
pub struct FieldFault {
    /// The field's name as the caller wrote it, a header's name, or `body`.
    field: String,
    /// A text for people, in Portuguese.
    message: String,
}

/// The shared parts of operations: schemas and error answers.
pub struct Components {
    pub schemas: SchemaGenerator,
    responses: BTreeMap<&'static str, Value>,
}

impl Components {
    /// The components with the answers to requests that match no operation.
    pub fn new(schemas: SchemaGenerator) -> Self {
        let mut components = Self { schemas, responses: BTreeMap::new() };
        components.by_status(&[ApiError::NotFound, ApiError::MethodNotAllowed]);
        components
    }

    /// The components as the document shows them.
    pub fn finish(mut self) -> Value {
        let mut schemas = self.schemas.take_definitions(true);
        schemas.sort_keys();
        let headers = COMMON_HEADERS.iter().chain(&LIMIT_HEADERS).map(|(name, header)| ((*name).to_owned(), header()));
        json!({"schemas": schemas, "responses": self.responses, "headers": headers.collect::<Map<_, _>>()})
    }

    /// One answer for each status. The errors of one status are its examples, and its schema lists their codes.
    pub fn by_status(&mut self, errors: &[ApiError]) -> BTreeMap<u16, Value> {
        let mut statuses: BTreeMap<u16, Vec<&ApiError>> = BTreeMap::new();
        for error in errors {
            statuses.entry(error.parts().0.as_u16()).or_default().push(error);
        }
        statuses.into_iter().map(|(status, errors)| (status, self.one_status(&errors))).collect()
    }

    fn one_status(&mut self, errors: &[&ApiError]) -> Value {
        let answer = answer(errors, &mut self.schemas);
        match errors {
            // The example belongs to one operation.
            [ApiError::Validation(_)] | [_, _, ..] => answer,
            [error, ..] => {
                let code = error.parts().1;
                self.responses.insert(code, answer);
                json!({"$ref": format!("#/components/responses/{code}")})
            }
            [] => Value::Null,
        }
    }
}

fn answer(errors: &[&ApiError], schemas: &mut SchemaGenerator) -> Value {
    // These are answered before the key and its limit are known.
    let keyless = [ApiError::Unauthorized, ApiError::NotFound, ApiError::MethodNotAllowed];
    let mut codes: Vec<&str> = errors.iter().map(|error| error.parts().1).collect();
    let places = codes.clone();
    codes.dedup();
    let schema = match errors {
        [ApiError::Validation(_)] => schemas.subschema_for::<ValidationError>(),
        _ => schemas.subschema_for::<Error>(),
    };
    let schema = json!({"allOf": [schema, {"properties": {"code": {"enum": codes}}}]});
    let examples = errors.iter().enumerate().map(|(place, error)| {
        // Two texts of one code are two examples.
        let before = places[..place].iter().filter(|code| **code == places[place]).count();
        let name = if before == 0 { places[place].to_owned() } else { format!("{}_{}", places[place], before + 1) };
        (name, json!({"summary": when(error), "value": error.body()}))
    });
    let mut headers = common_headers(!errors.iter().any(|error| keyless.contains(error)));
    for error in errors {
        for name in error.headers().keys() {
            let (name, header) = error_header(name.as_str());
            headers[name] = header;
        }
    }
    // The header names the scope, which depends on the call.
    if errors.iter().any(|error| matches!(error, ApiError::Forbidden | ApiError::MissingScopes(_))) {
        let about = "`Bearer error=\"insufficient_scope\", scope=\"…\"`, if the key lacks a scope.";
        headers["WWW-Authenticate"] = json!({"description": about, "schema": {"type": "string"}});
    }
    let conditions: Vec<&str> = errors.iter().map(|error| when(error)).collect();
    json!({
        "description": conditions.join(" "),
        "headers": headers,
        "content": {"application/json": {"schema": schema, "examples": examples.collect::<Map<_, _>>()}},
    })
}

/// The condition of an error.
#[expect(clippy::too_many_lines, reason = "one arm for each error")]
fn when(error: &ApiError) -> &'static str {
    match error {
        ApiError::Validation(_) => "A field, a header or a parameter is at fault; `errors` names each.",
        ApiError::NotSupported(_) => {
            "Channels of this type do not offer the kind, or an option; `errors` names each. Nothing was stored."
        }
        ApiError::Unauthorized => "No key, or a malformed, unknown, expired or revoked one.",
        ApiError::Forbidden | ApiError::MissingScopes(_) => {
            "The key may not do this: a scope is missing, or it is of the wrong environment. A callback is not Meta's."
        }
        ApiError::ChannelNotFound => "No such channel for this key.",
        ApiError::MessageNotFound => "No such message on this channel.",
        ApiError::CardNotFound => "The message is no contact.",
        ApiError::ApiKeyNotFound => "No such key for this key, or it is revoked.",
        ApiError::InstitutionNotFound => "No such institution. On the command line only.",
        ApiError::EventNotFound => "No such event for this key, or it is not kept any more.",
        ApiError::ConversationNotFound => "No such conversation for this key.",
        ApiError::ContactNotFound => "No such contact for this key.",
        ApiError::MediaNotFound => "No such file for this key.",
        ApiError::MediaExpired => "The network has no copy any more.",
        ApiError::MediaTooLarge => "The file has more than 100 MiB.",
        ApiError::MediaRefused => "The file is at an address that this server does not call.",
        ApiError::MediaUnavailable => {
            "The network did not begin within 15 seconds, or it delivered something else than it had announced."
        }
        ApiError::TooManyReaders => "16 connections of the institution, or 256 of the process, read the event stream.",
        ApiError::MediaStoreFull => "The disk has no room for the file.",
        ApiError::RangeNotSatisfiable(_) => "The file has no such part.",
        ApiError::WindowClosed => {
            "The setting `windowGuard` of the channel is `refuse`, and the window of the chat is closed."
        }
        ApiError::ConversationClosed => "The conversation is closed.",
        ApiError::ConversationChanged => {
            "Another attendant has the conversation, or a newer conversation of the chat is active."
        }
        ApiError::ContactExists(_) => "Another contact has the number; `Location` names it.",
        ApiError::CursorExpired(_) => {
            "Events after the cursor may be deleted, or the cursor is of another store. Continue at `data.oldest`."
        }
        ApiError::WebhookNotFound => "No such webhook for this key.",
        ApiError::DeliveryNotFound => "No such delivery of this webhook, or it is not kept any more.",
        ApiError::NotFound => "No such path.",
        ApiError::MethodNotAllowed => "The path has no such method.",
        ApiError::ChannelNotConnected => "The channel's state does not allow it.",
        ApiError::ChannelExists => "The id is in use, or was used by a channel of another type.",
        ApiError::ChannelReserved => "The channel `sandbox` stays.",
        ApiError::TooManyKeys => "The institution has 500 valid keys in this environment.",
        ApiError::TooManyWebhooks => "The institution has 50 webhooks in this environment.",
        ApiError::WebhookInactive => "The webhook is not active, or its former deliveries are still being ended.",
        ApiError::MessageNotCancellable => "The message is not queued any more, or it may have arrived.",
        ApiError::PayloadTooLarge => {
            "The body is over 64 KiB; that of a callback over 3 MiB, or with more than 10,000 receipts in it."
        }
        ApiError::UnsupportedMediaType => "The body is not announced as plain JSON in UTF-8.",
        ApiError::UnsupportedContentEncoding => "The body is compressed.",
        ApiError::IdempotencyKeyReused => "The `Idempotency-Key` was used for another call.",
        ApiError::RateLimited(_) => "Too many calls by this key, or too many failed ones from this address.",
        ApiError::NotImplemented => "This build cannot serve the channel type.",
        ApiError::WhatsAppWebMissing => "This server was built without WhatsApp Web.",
        ApiError::SecretKeyMissing => "The server has no key to encrypt the secrets of such a channel with.",
        ApiError::WebhookKeyMissing => {
            "The server has no key to encrypt the secrets of webhooks with, or to open them."
        }
        ApiError::QueueFull => "Too many messages wait on the channel.",
        ApiError::UpgradeInProgress => {
            "A node of the previous version is there still, which could not send the message."
        }
        ApiError::Unavailable | ApiError::TooSlow => {
            "The store cannot answer now. The outcome of the call is not known: repeat it with its `Idempotency-Key`."
        }
        ApiError::SandboxNotErased => {
            "All was erased except on the sandbox's phone, which cannot be used, and the contact."
        }
        ApiError::Internal => "A fault of the server.",
    }
}

/// A header of an error, by its name in lower case.
fn error_header(name: &str) -> (&'static str, Value) {
    match name {
        "www-authenticate" => {
            ("WWW-Authenticate", json!({"required": true, "schema": {"type": "string", "const": "Bearer"}}))
        }
        "retry-after" => {
            let schema = json!({"type": "integer", "minimum": 1});
            ("Retry-After", json!({"description": "Seconds to wait.", "required": true, "schema": schema}))
        }
        "location" => {
            let schema = json!({"type": "string"});
            ("Location", json!({"description": "What has the number.", "required": true, "schema": schema}))
        }
        "content-range" => {
            let schema = json!({"type": "string"});
            ("Content-Range", json!({"description": "How many bytes there are.", "required": true, "schema": schema}))
        }
        unknown => panic!("the document does not know the header {unknown}"),
    }
}

type NamedHeader = (&'static str, fn() -> Value);

/// The headers of every answer.
const COMMON_HEADERS: [NamedHeader; 1] = [("X-Request-Id", || {
    let schema = json!({"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"});
    json!({"description": "The caller's own, or a new one.", "required": true, "schema": schema})
})];

/// The headers of answers to a key with a limit.
const LIMIT_HEADERS: [NamedHeader; 3] = [
    ("RateLimit-Limit", || {
        let schema = json!({"type": "integer", "minimum": 1});
        json!({"description": "Calls a minute that the key may make. Unlimited keys get none of these.", "schema": schema})
    }),
    (
        "RateLimit-Remaining",
        || json!({"description": "Calls that may follow at once.", "schema": {"type": "integer", "minimum": 0}}),
    ),
    (
        "RateLimit-Reset",
        || json!({"description": "Seconds until the key's bucket is full.", "schema": {"type": "integer", "minimum": 0}}),
    ),
];

/// The headers of any answer. `keyed`: to a call with a key.
pub fn common_headers(keyed: bool) -> Value {
    let limits = if keyed { &LIMIT_HEADERS[..] } else { &[] };
    let names = COMMON_HEADERS.iter().chain(limits).map(|(name, _)| name);
    let headers = names.map(|name| ((*name).to_owned(), json!({"$ref": format!("#/components/headers/{name}")})));
    Value::Object(headers.collect())
}
