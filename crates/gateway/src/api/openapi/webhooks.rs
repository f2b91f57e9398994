//! The section `webhooks` of the document: what this server sends, one entry and one schema for each event.

use recado_domain::conversation::ClosedBy;
use recado_domain::event::NOT_YET;
use recado_domain::incoming::GroupChange;
use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use super::schemas::{named, one_of, uuid};
use crate::api::events::EventView;
use crate::events::samples;

/// The entries, by the names of the events. Their schemas are added to the components.
pub fn section(generator: &mut SchemaGenerator) -> Value {
    let entries = samples::names().map(|event| (event.to_owned(), json!({"post": entry(event, generator)})));
    Value::Object(entries.collect::<Map<_, _>>())
}

fn entry(event: &str, generator: &mut SchemaGenerator) -> Value {
    let header = |name: &str, description: &str, schema: Value| json!({"name": name, "in": "header", "required": true, "description": description, "schema": schema});
    let signature = "`v1,` and the base64 of HMAC-SHA256 over `{webhook-id}.{webhook-timestamp}.{body}`; two with a space \
                     between them for 24 hours after the secret was replaced.";
    json!({
        "summary": summary(event),
        "tags": ["Webhooks"],
        "security": [],
        "parameters": [
            header("webhook-id", "The `id` of the event: the same on every attempt and replay.", json!({"type": "string"})),
            header("webhook-timestamp", "Unix seconds of this attempt.", json!({"type": "string", "pattern": "^[0-9]+$"})),
            header("webhook-signature", signature, json!({"type": "string"})),
        ],
        "requestBody": {
            "required": true,
            "content": {"application/json": {"schema": schema(event, generator), "example": example(event)}},
        },
        "responses": {
            "2XX": {"description": "Received. Any other status, a redirect, and no answer within 15 seconds are failures."},
            "410": {"description": "Disables the webhook."},
        },
    })
}

/// The example of an event, as a body.
fn example(event: &str) -> Value {
    json!({
        "id": "evt_01a2085f07eb0000000000070a5c1f22",
        "event": event,
        "version": "1",
        "createdAt": "2026-11-23T12:26:15.403Z",
        "environment": "live",
        "channelId": samples::channel_of(event),
        "test": event == samples::TEST_EVENT,
        "data": samples::data(event),
    })
}

/// The name of the schema: `message.poll_vote` is `MessagePollVoteEvent`.
fn schema_name(event: &str) -> String {
    let words = event.split(['.', '_']).map(|word| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_uppercase() + rest
    });
    words.chain(["Event".to_owned()]).collect()
}

fn schema(event: &str, generator: &mut SchemaGenerator) -> Value {
    let base = generator.subschema_for::<EventView<'_>>();
    let schema = json!({"allOf": [base, {"properties": {"event": {"const": event}, "data": data(event, generator)}}]});
    named(&schema_name(event), schema, generator)
}

fn summary(event: &str) -> String {
    let later = if NOT_YET.contains(&event) { ". Not sent by this version" } else { "" };
    format!("{}{later}", about(event))
}

fn about(event: &str) -> &'static str {
    match event {
        "message.received" => "A person sent a message",
        "message.echo" => "A message was sent from the phone, or from another linked device",
        "message.queued" => "A message was accepted",
        "message.sent" => "The network has the message",
        "message.delivered" => "The message reached a device",
        "message.read" => "The message was read",
        "message.failed" => "The message was not sent, or not delivered",
        "message.cancelled" => "The message was cancelled before it was sent",
        "message.expired" => "The message was not sent in time",
        "message.unknown" => "It is not known whether the message was sent",
        "message.played" => "A voice message was played",
        "message.reaction" => "A person reacted to a message, or removed a reaction",
        "message.edited" => "A person edited a message",
        "message.revoked" => "A person deleted a message for everyone",
        "message.poll_vote" => "A person voted in a poll",
        "message.recovered" => "A message that could not be read before",
        "conversation.created" => "A conversation began",
        "conversation.assigned" => "A conversation was assigned, or its assignment removed",
        "conversation.closed" => "A conversation was closed",
        "contact.created" => "A contact was created",
        "contact.updated" => "A contact was changed, or merged with another",
        "channel.connected" => "A channel was connected",
        "channel.disconnected" => "A channel lost its connection, or was disconnected",
        "channel.restricted" => "The network restricts a channel for some time",
        "channel.paused" => "A channel was paused",
        "channel.logged_out" => "A channel was logged out on the phone",
        "channel.banned" => "The network banned a channel",
        "template.updated" => "Meta changed the state of a template",
        "bulk.completed" => "A bulk ended after each item was attempted",
        "bulk.failed" => "A bulk was ended by the server",
        "bulk.cancelled" => "A bulk was cancelled by a call",
        "group.updated" => "A group, or its participants, changed",
        "call.received" => "A person called",
        "webhook.disabled" => "Another webhook was disabled after five days of failures, or by a 410",
        _ => "A test by `POST /v1/webhooks/{webhookId}/test`",
    }
}

/// An object with these properties, all of them present.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let names = fields.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let names = json!(names);
    let properties = fields.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect::<Map<_, _>>();
    json!({"type": "object", "required": names, "properties": properties})
}

/// The same value, or `null`.
fn or_null(schema: Value) -> Value {
    let either = vec![schema, json!({"type": "null"})];
    json!({"anyOf": either})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn maybe_text() -> Value {
    json!({"type": ["string", "null"]})
}

fn flag() -> Value {
    json!({"type": "boolean"})
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

fn any_object() -> Value {
    json!({"type": "object"})
}

/// An object of the API, of which a webhook without content gets less.
fn like(schema: &str) -> Value {
    let about = format!("As `{schema}`. A webhook without content gets `null` in place of texts, names and numbers.");
    json!({"type": "object", "description": about})
}

/// The schema of `data`. A webhook without content gets `null` in place of texts, names and numbers.
fn data(event: &str, generator: &mut SchemaGenerator) -> Value {
    let (group, action) = event.split_once('.').unwrap_or_default();
    match (group, action) {
        ("message", "received" | "echo" | "recovered") => object([
            ("message", like("ReceivedMessage")),
            ("conversation", object([("id", uuid()), ("status", text()), ("isNew", flag())])),
            ("contact", or_null(short_contact(generator))),
        ]),
        (
            "message",
            "queued" | "sent" | "delivered" | "read" | "failed" | "cancelled" | "expired" | "unknown" | "played",
        ) => outbound(action, generator),
        ("message", _) => about_message(action, generator),
        ("conversation", _) => of_conversation(action),
        ("contact", _) => object([
            ("contact", like("ContactOfPerson")),
            ("changes", json!({"type": "array", "items": text()})),
            ("mergedFrom", or_null(uuid())),
        ]),
        ("channel", _) => {
            let channel = object([
                ("id", text()),
                ("type", maybe_text()),
                ("state", maybe_text()),
                ("stateReason", maybe_text()),
                ("restrictedUntil", or_null(time())),
            ]);
            object([("channel", named("EventChannel", channel, generator)), ("previousState", maybe_text())])
        }
        ("template", _) => object([("template", any_object()), ("reason", maybe_text())]),
        ("bulk", _) => object([("batch", any_object())]),
        ("group", _) => object([
            ("chat", any_object()),
            ("action", one_of(GroupChange::ALL.map(GroupChange::name))),
            ("participants", json!({"type": "array", "items": sender(generator)})),
            ("by", or_null(sender(generator))),
        ]),
        ("call", _) => object([
            ("sender", sender(generator)),
            ("callId", maybe_text()),
            ("video", json!({"type": ["boolean", "null"]})),
            ("missed", json!({"type": ["boolean", "null"]})),
            ("at", time()),
        ]),
        ("webhook", "disabled") => object([
            ("webhook", object([("id", uuid()), ("name", maybe_text()), ("url", maybe_text())])),
            ("failingSince", or_null(time())),
        ]),
        _ => object([("message", maybe_text())]),
    }
}

/// The contact of a message that arrived.
fn short_contact(generator: &mut SchemaGenerator) -> Value {
    let contact = object([
        ("id", uuid()),
        ("name", maybe_text()),
        ("phone", maybe_text()),
        ("tags", json!({"type": "array", "items": text()})),
        ("isNew", flag()),
    ]);
    named("EventContact", contact, generator)
}

fn of_conversation(action: &str) -> Value {
    let conversation = ("conversation", like("Conversation"));
    match action {
        "created" => object([conversation]),
        "closed" => {
            let closed = object([conversation, ("by", one_of(ClosedBy::ALL.map(ClosedBy::name)))]);
            also(closed, "reason", "The `reason` of the call that closed it, if it gave one.")
        }
        _ => {
            let attendant = object([("id", text()), ("name", maybe_text())]);
            let previous = object([("assignedTo", or_null(attendant)), ("departmentId", maybe_text())]);
            also(object([conversation, ("previous", previous)]), "note", "The `note` of the call, if it gave one.")
        }
    }
}

/// The object with a text that may be left out.
fn also(mut object: Value, name: &str, description: &str) -> Value {
    object["properties"][name] = json!({"type": ["string", "null"], "description": description});
    object
}

/// The short form of an outbound message, and what its event adds.
fn outbound(action: &str, generator: &mut SchemaGenerator) -> Value {
    let short = object([
        ("messageId", uuid()),
        ("networkId", maybe_text()),
        ("conversationId", or_null(uuid())),
        ("reference", maybe_text()),
        ("type", text()),
        ("to", maybe_text()),
        ("account", maybe_text()),
        ("status", text()),
        ("at", time()),
    ]);
    let short = named("EventMessage", short, generator);
    let added = match action {
        "sent" | "delivered" | "read" => object([("pricing", json!({"type": ["object", "null"]}))]),
        "failed" => {
            let error = object([("code", text()), ("message", maybe_text()), ("networkCode", maybe_text())]);
            object([("error", or_null(error))])
        }
        _ => return short,
    };
    json!({"allOf": [short, added]})
}

/// What happened to a message that is named by its ids.
fn about_message(action: &str, generator: &mut SchemaGenerator) -> Value {
    let ids = object([
        ("messageId", uuid()),
        ("conversationId", or_null(uuid())),
        ("sender", sender(generator)),
        ("at", time()),
    ]);
    let added = match action {
        "reaction" => object([("networkId", maybe_text()), ("from", maybe_text()), ("emoji", emoji())]),
        "edited" => object([("networkId", maybe_text()), ("content", maybe_text()), ("previousContent", maybe_text())]),
        "revoked" => object([("networkId", maybe_text()), ("by", one_of(["SENDER", "ADMIN"]))]),
        _ => object([("options", json!({"type": "array", "items": text()})), ("results", json!({"type": "array"}))]),
    };
    json!({"allOf": [ids, added]})
}

fn emoji() -> Value {
    let about = "`null`: the person removed the reaction. A webhook without content always gets `null`.";
    json!({"type": ["string", "null"], "description": about})
}

fn sender(generator: &mut SchemaGenerator) -> Value {
    let sender = object([
        ("contactId", or_null(uuid())),
        ("phone", maybe_text()),
        ("userId", maybe_text()),
        ("lid", maybe_text()),
        ("username", maybe_text()),
        ("name", maybe_text()),
        ("isMe", flag()),
    ]);
    named("EventSender", sender, generator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_an_example_is_in_its_schema() {
        let mut generator = SchemaGenerator::default();
        for event in [
            "message.received",
            "conversation.created",
            "conversation.assigned",
            "conversation.closed",
            "contact.updated",
        ] {
            let (schema, example) = (data(event, &mut generator), samples::data(event).expect("an example"));
            for name in example.as_object().expect("an object").keys() {
                assert!(schema["properties"][name].is_object(), "{event} has no {name}");
            }
        }
    }

    #[test]
    fn names_of_schemas_are_words() {
        assert_eq!(schema_name("message.poll_vote"), "MessagePollVoteEvent");
        assert_eq!(schema_name("channel.logged_out"), "ChannelLoggedOutEvent");
    }
}
