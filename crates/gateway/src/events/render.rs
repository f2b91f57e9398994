//! Events as the stream and webhooks send them. The JSON of an event is the same each time it is rendered, because it
//! is made of recorded data and of fields that never change.

use recado_domain::channel::{ChannelState, ChannelType, Recorded};
use recado_domain::clock::Millis;
use recado_domain::event::{Event, EventId, EventMessage, Owner};
use recado_domain::ids::ConversationId;
use recado_domain::message::{Pricing, StatusChange};
use recado_store::clock::rfc3339;
use recado_store::views;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// The version of the meaning of fields.
const VERSION: &str = "1";

/// An event, in the contract's order of keys.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Body<'a> {
    id: String,
    event: &'a str,
    version: &'static str,
    created_at: String,
    environment: &'static str,
    channel_id: Option<&'a str>,
    test: bool,
    data: Box<RawValue>,
}

/// The short form of a message.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Short<'a> {
    message_id: String,
    network_id: Option<&'a str>,
    conversation_id: Option<String>,
    reference: Option<&'a str>,
    #[serde(rename = "type")]
    kind: &'a str,
    to: Option<&'a str>,
    account: Option<&'a str>,
    status: &'static str,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pricing: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure<'a> {
    code: &'a str,
    message: Option<&'a str>,
    /// The number that the network gave the error.
    network_code: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChannelMoved<'a> {
    channel: Channel<'a>,
    previous_state: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Channel<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: Option<&'static str>,
    state: Option<&'static str>,
    state_reason: Option<&'a str>,
    restricted_until: Option<String>,
}

impl<'a> Body<'a> {
    /// An event. Without content it has ids, states and times, and no data of a person. `base` is put before the path of a
    /// file.
    pub fn new(event: &'a Event, content: bool, base: &str) -> Self {
        Self {
            id: event.id().to_string(),
            event: &event.kind,
            version: VERSION,
            created_at: rfc3339(event.at),
            environment: event.owner.1.name(),
            channel_id: event.channel.as_ref().map(|channel| &*channel.id),
            test: false,
            data: data(event, content, base),
        }
    }

    /// An example of an event with this data, marked as a test. Its id is that of no recorded event.
    pub fn example(
        event: &'a str,
        channel: Option<&'a str>,
        owner: Owner,
        at: Millis,
        data: Value,
        content: bool,
    ) -> Self {
        Self {
            id: EventId::new(0, at, owner).to_string(),
            event,
            version: VERSION,
            created_at: rfc3339(at),
            environment: owner.1.name(),
            channel_id: channel,
            test: true,
            data: raw(&if content { data } else { without_content(data) }),
        }
    }

    /// The id of the event.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The JSON in one line.
    pub fn text(&self) -> String {
        // These types can always be serialized.
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn data(event: &Event, content: bool, base: &str) -> Box<RawValue> {
    if event.complete {
        return if content {
            RawValue::from_string(views::with_base(&event.data, base).into_owned())
                .unwrap_or_else(|_| raw(&Value::Null))
        } else {
            raw(&without_content(serde_json::from_str(&event.data).unwrap_or_default()))
        };
    }
    if let (Some(message), Some(change)) = (&event.message, StatusChange::from_json(&event.data)) {
        return raw(&short(event, message, &change, content));
    }
    match (&event.channel, Recorded::from_json(&event.data)) {
        (Some(channel), Some(moved)) => raw(&ChannelMoved {
            channel: Channel {
                id: &channel.id,
                kind: channel.kind.map(ChannelType::name),
                state: moved.to.map(ChannelState::name),
                state_reason: moved.reason.as_deref().filter(|_| content),
                restricted_until: moved.until.map(rfc3339),
            },
            previous_state: moved.from.map(ChannelState::name),
        }),
        _ => raw(&Value::Null),
    }
}

fn short<'a>(event: &Event, message: &'a EventMessage, change: &'a StatusChange, content: bool) -> Short<'a> {
    let priced = ["SENT", "DELIVERED", "READ"].contains(&change.to.name());
    let error = change.error.as_deref().filter(|_| change.to.name() == "FAILED").map(|code| Failure {
        code,
        message: message.error.as_deref().filter(|_| content),
        network_code: Some(code).filter(|code| code.bytes().all(|byte| byte.is_ascii_digit())),
    });
    Short {
        message_id: message.id.to_string(),
        network_id: Some(&*message.network_id).filter(|id| content || names_nobody(id)),
        conversation_id: event.conversation.map(|id| ConversationId::from_bytes(id).to_string()),
        reference: message.reference.as_deref(),
        kind: message.kind.as_deref().unwrap_or("contact"),
        to: Some(&*message.recipient).filter(|_| content),
        account: message.account.as_deref().filter(|_| content),
        status: change.to.name(),
        at: rfc3339(event.at),
        pricing: priced.then(|| {
            let shown = |pricing: &Pricing| {
                json!({"billable": pricing.billable, "model": pricing.model, "category": pricing.category})
            };
            change.pricing.as_ref().map_or(Value::Null, shown)
        }),
        error,
    }
}

/// A part of an event, as JSON.
fn raw(value: &impl Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap_or_default()
}

/// Keys whose values contain no data of a person: ids of Recado and of calls, states, times.
const NEUTRAL: [&str; 35] = [
    "id",
    "messageId",
    "conversationId",
    "channelId",
    "contactId",
    "departmentId",
    "batchId",
    "templateId",
    "reference",
    "type",
    "kind",
    "direction",
    "status",
    "state",
    "previousState",
    "window",
    "action",
    "by",
    "at",
    "isNew",
    "isMe",
    "late",
    "forwarded",
    "changes",
    "mergedFrom",
    "optOut",
    "optOutSource",
    "source",
    "unreadCount",
    "openUntil",
    "failingSince",
    "code",
    "callId",
    "video",
    "missed",
];

/// Whether an id of a network contains no data of a person. Those of Meta contain the number of the recipient.
fn names_nobody(network_id: &str) -> bool {
    !network_id.starts_with("wamid.")
}

/// The data without texts, names and numbers. Under a key that is not known to be neutral, only objects are kept, and
/// the same rule applies inside these objects.
fn without_content(value: Value) -> Value {
    let Value::Object(fields) = value else { return Value::Null };
    let field = |(key, value): (String, Value)| {
        let is_open_id = key == "networkId" && value.as_str().is_some_and(names_nobody);
        let neutral = NEUTRAL.contains(&&*key) || key.ends_with("At") || is_open_id;
        let value = match value {
            Value::Object(_) => without_content(value),
            Value::Array(items) if items.iter().any(Value::is_object) => {
                items.into_iter().map(without_content).collect()
            }
            Value::Array(_) if !neutral => Value::Array(Vec::new()),
            _ if !neutral => Value::Null,
            value => value,
        };
        (key, value)
    };
    Value::Object(fields.into_iter().map(field).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use recado_domain::api_key::Environment;
    use recado_domain::channel::Actor;
    use recado_domain::event::{ChatKind, EventChannel};
    use recado_domain::ids::{InstitutionId, MessageId};
    use recado_domain::status::MessageStatus;

    use super::*;

    fn event(kind: &str, data: String) -> Event {
        Event {
            seq: 7,
            owner: (InstitutionId::new(1, [0; 10]), Environment::Live),
            channel: Some(EventChannel { key: 1, id: "vendas".to_owned(), kind: Some(ChannelType::Sandbox) }),
            message: None,
            kind: kind.to_owned(),
            at: 1_763_900_000_123,
            data,
            complete: false,
            subject: None,
            conversation: None,
            chat: ChatKind::Direct,
            node: None,
        }
    }

    fn of_message(to: MessageStatus, error: Option<&str>) -> Event {
        let pricing = (to == MessageStatus::Delivered).then(|| Pricing {
            billable: Some(true),
            model: Some("PMP".to_owned()),
            category: Some("utility".to_owned()),
        });
        let error = error.map(str::to_owned);
        let change = StatusChange { from: Some(MessageStatus::Sending), to, error, pricing };
        let message = EventMessage {
            id: MessageId::new(1, [7; 10]),
            network_id: "3EB0".to_owned(),
            reference: Some("pedido-1".to_owned()),
            kind: None,
            recipient: "5511999998888".to_owned(),
            account: None,
            error: Some("Numero 5511999998888 sem WhatsApp.".to_owned()),
        };
        Event { message: Some(message), ..event(change.kind(), change.to_json()) }
    }

    const HEAD: &str = r#""version":"1","createdAt":"2025-11-23T12:13:20.123Z","environment":"live","channelId":"vendas","test":false,"#;

    #[test]
    fn the_text_of_an_event_is_fixed() {
        let id = event("x", String::new()).id();
        let message = MessageId::new(1, [7; 10]);
        let sent = format!(
            r#"{{"id":"{id}","event":"message.sent",{HEAD}"data":{{"messageId":"{message}","networkId":"3EB0","conversationId":null,"reference":"pedido-1","type":"contact","to":"5511999998888","account":null,"status":"SENT","at":"2025-11-23T12:13:20.123Z","pricing":null}}}}"#
        );
        assert_eq!(Body::new(&of_message(MessageStatus::Sent, None), true, "").text(), sent);
        let conversation = Some(*message.as_bytes());
        let delivered = Event { conversation, ..of_message(MessageStatus::Delivered, None) };
        let priced = format!(
            r#"{{"id":"{id}","event":"message.delivered",{HEAD}"data":{{"messageId":"{message}","networkId":"3EB0","conversationId":"{message}","reference":"pedido-1","type":"contact","to":null,"account":null,"status":"DELIVERED","at":"2025-11-23T12:13:20.123Z","pricing":{{"billable":true,"model":"PMP","category":"utility"}}}}}}"#
        );
        assert_eq!(Body::new(&delivered, false, "").text(), priced);
        let mut of_meta = of_message(MessageStatus::Failed, Some("131026"));
        of_meta.message.as_mut().expect("a message").network_id = "wamid.HBgN".to_owned();
        let failed = format!(
            r#"{{"id":"{id}","event":"message.failed",{HEAD}"data":{{"messageId":"{message}","networkId":null,"conversationId":null,"reference":"pedido-1","type":"contact","to":null,"account":null,"status":"FAILED","at":"2025-11-23T12:13:20.123Z","error":{{"code":"131026","message":null,"networkCode":"131026"}}}}}}"#
        );
        assert_eq!(Body::new(&of_meta, false, "").text(), failed);
        let moved = Recorded {
            from: Some(ChannelState::Connected),
            to: Some(ChannelState::Restricted),
            reason: Some("Devagar.".to_owned()),
            by: Actor::Network,
            until: Some(1_763_900_000_123),
        };
        let restricted = format!(
            r#"{{"id":"{id}","event":"channel.restricted",{HEAD}"data":{{"channel":{{"id":"vendas","type":"SANDBOX","state":"RESTRICTED","stateReason":"Devagar.","restrictedUntil":"2025-11-23T12:13:20.123Z"}},"previousState":"CONNECTED"}}}}"#
        );
        assert_eq!(Body::new(&event("channel.restricted", moved.to_json()), true, "").text(), restricted);
    }

    #[test]
    fn an_example_is_marked_as_a_test() {
        let owner = (InstitutionId::new(1, [0; 10]), Environment::Test);
        let at = 1_763_900_000_123;
        let data = || serde_json::json!({"contact": {"id": "1", "name": "Ana"}});
        let id = EventId::new(0, at, owner);
        let text = |content| Body::example("contact.created", None, owner, at, data(), content).text();
        let head = format!(
            r#"{{"id":"{id}","event":"contact.created","version":"1","createdAt":"2025-11-23T12:13:20.123Z","environment":"test","channelId":null,"test":true,"data":"#
        );
        assert_eq!(text(true), format!(r#"{head}{{"contact":{{"id":"1","name":"Ana"}}}}}}"#));
        assert_eq!(text(false), format!(r#"{head}{{"contact":{{"id":"1","name":null}}}}}}"#));
    }

    #[test]
    fn complete_data_is_given_as_it_was_recorded() {
        let data = r#"{"message":{"id":"1","content":"Oi","from":"55","receivedAt":"x","sender":{"name":"Ana","isMe":false},"mentions":["55"],"contacts":[{"id":"2","phone":"55"}]}}"#;
        let received = Event { complete: true, ..event("message.received", data.to_owned()) };
        assert!(Body::new(&received, true, "").text().ends_with(&format!("\"data\":{data}}}")));
        let bare = r#"{"message":{"id":"1","content":null,"from":null,"receivedAt":"x","sender":{"name":null,"isMe":false},"mentions":[],"contacts":[{"id":"2","phone":null}]}}"#;
        assert!(Body::new(&received, false, "").text().ends_with(&format!("\"data\":{bare}}}")));
    }

    #[test]
    fn without_content_ids_and_states_stay() {
        let contact = json!({
            "id": "1", "name": "Ana", "phone": "55", "tags": ["vip"], "optOut": true, "optOutAt": "x",
            "optOutSource": "KEYWORD", "source": "INBOUND", "identities": [{"kind": "PHONE", "value": "55"}],
        });
        let data = json!({"contact": contact, "changes": ["optOut"], "networkId": "3EB0", "departmentId": "vendas"});
        let bare = json!({
            "id": "1", "name": null, "phone": null, "tags": [], "optOut": true, "optOutAt": "x",
            "optOutSource": "KEYWORD", "source": "INBOUND", "identities": [{"kind": "PHONE", "value": null}],
        });
        let expected = json!({"contact": bare, "changes": ["optOut"], "networkId": "3EB0", "departmentId": "vendas"});
        assert_eq!(without_content(data), expected);
        assert_eq!(without_content(json!({"networkId": "wamid.HBgN"})), json!({"networkId": null}));
        let call = |phone: Option<&str>| json!({"sender": {"phone": phone, "isMe": false}, "callId": "7B3F0A", "video": false, "missed": true, "at": "x"});
        assert_eq!(without_content(call(Some("55"))), call(None));
    }
}
