//! An example of the data of every event: for the document of the API, and for tests of webhooks.

use recado_domain::event::EVENTS;
use serde_json::{Value, json};

/// The event that a test of a webhook sends if its caller names none. It is not recorded, and a webhook cannot name it.
pub const TEST_EVENT: &str = "webhook.test";

const AT: &str = "2026-11-23T12:26:15.403Z";
const MESSAGE: &str = "01a2085f-07eb-7913-a5da-c9ff5fe6d655";
const CONVERSATION: &str = "01a2085f-0b11-7c40-8a11-2f6d3c1b9e01";
const CONTACT: &str = "01a2085f-0d33-7b52-9c0e-7d1e5a4f8b02";
const NETWORK_ID: &str = "3EB0459984FC15DDAB10A5";
const CHANNEL: &str = "vendas";

/// All names for which there is an example: the events, and the event of a test.
pub fn names() -> impl Iterator<Item = &'static str> {
    EVENTS.iter().map(|(name, _)| *name).chain([TEST_EVENT])
}

/// The channel of the example; `None` for events that belong to no channel.
pub fn channel_of(event: &str) -> Option<&'static str> {
    let group = event.split('.').next().unwrap_or_default();
    (!["contact", "webhook"].contains(&group)).then_some(CHANNEL)
}

/// The `data` of an example of this event; `None` where there is no such event.
pub fn data(event: &str) -> Option<Value> {
    let (group, action) = event.split_once('.')?;
    match group {
        "message" => message(action),
        "conversation" => conversation_event(action),
        "contact" => Some(json!({"contact": contact(), "changes": changes(action)?, "mergedFrom": null})),
        "channel" => channel(action),
        "template" => Some(json!({
            "template": {"id": "1234567890", "name": "boas_vindas", "language": "pt_BR", "status": "APPROVED", "quality": "GREEN"},
            "reason": null,
        })),
        "bulk" => bulk(action),
        "group" => Some(json!({
            "chat": {"kind": "GROUP", "address": "120363021033254949@g.us", "name": "Vendas"},
            "action": "ADD",
            "participants": [sender()],
            "by": sender(),
        })),
        "call" => Some(json!({"sender": sender(), "callId": "7B3F0A", "video": false, "missed": true, "at": AT})),
        "webhook" => webhook(action),
        _ => None,
    }
}

fn message(action: &str) -> Option<Value> {
    let mut data = match action {
        "received" | "recovered" => return Some(arrived(inbound())),
        "echo" => return Some(arrived(echo())),
        "queued" | "cancelled" | "expired" | "unknown" | "played" => short(action),
        "sent" | "delivered" | "read" => {
            let mut data = short(action);
            data["pricing"] = Value::Null;
            data
        }
        "failed" => {
            let mut data = short(action);
            data["error"] = json!({"code": "131026", "message": "Mensagem nao entregue.", "networkCode": "131026"});
            data
        }
        "reaction" => json!({"from": "5511977776666", "sender": sender(), "emoji": "👍"}),
        "edited" => json!({"sender": sender(), "content": "Ola, tudo bem?", "previousContent": "Ola"}),
        "revoked" => json!({"sender": sender(), "by": "SENDER"}),
        "poll_vote" => {
            let results = json!([{"option": "Sim", "votes": 1}, {"option": "Nao", "votes": 0}]);
            let data = json!({"sender": sender(), "options": ["Sim"], "results": results});
            return Some(about(data, &[("messageId", MESSAGE), ("conversationId", CONVERSATION)]));
        }
        _ => return None,
    };
    if data.get("sender").is_some() {
        data = about(data, &[("messageId", MESSAGE), ("networkId", NETWORK_ID), ("conversationId", CONVERSATION)]);
    }
    Some(data)
}

/// The data with these ids before its fields, and the time after its fields.
fn about(data: Value, ids: &[(&str, &str)]) -> Value {
    let Value::Object(fields) = data else { return data };
    let ids = ids.iter().map(|(name, id)| ((*name).to_owned(), json!(id)));
    Value::Object(ids.chain(fields).chain([("at".to_owned(), json!(AT))]).collect())
}

/// The short form of an outbound message.
fn short(action: &str) -> Value {
    json!({
        "messageId": MESSAGE,
        "networkId": NETWORK_ID,
        "conversationId": CONVERSATION,
        "reference": "pedido-4711",
        "type": "text",
        "to": "5511977776666",
        "account": "5511977776666",
        "status": match action {
            "played" => "READ".to_owned(),
            other => other.to_uppercase(),
        },
        "at": AT,
    })
}

fn arrived(message: Value) -> Value {
    let mut data = json!({
        "message": null,
        "conversation": {"id": CONVERSATION, "status": "PENDING", "isNew": true},
        "contact": {"id": CONTACT, "name": "Ana", "phone": "5511977776666", "tags": [], "isNew": true},
    });
    data["message"] = message;
    data
}

/// A text that a person sent.
pub fn inbound() -> Value {
    json!({
        "id": MESSAGE,
        "conversationId": CONVERSATION,
        "channelId": CHANNEL,
        "type": "text",
        "direction": "INBOUND",
        "status": "RECEIVED",
        "content": "Ola",
        "mediaUrl": null,
        "from": "5511977776666",
        "to": "551140000000",
        "sender": sender(),
        "chat": {"kind": "DIRECT", "address": "5511977776666", "name": null},
        "networkId": NETWORK_ID,
        "replyTo": null,
        "mentions": [],
        "forwarded": false,
        "choice": null,
        "referral": null,
        "text": {"truncated": false},
        "media": null,
        "reactions": [],
        "editedAt": null,
        "revokedAt": null,
        "expiresInSeconds": null,
        "late": false,
        "sentAt": "2026-11-23T12:26:14.000Z",
        "receivedAt": AT,
        "readAt": null,
        "createdAt": AT,
        "updatedAt": AT,
    })
}

fn echo() -> Value {
    let mut message = inbound();
    message["direction"] = "OUTBOUND".into();
    message["status"] = "SENT".into();
    message["from"] = "551140000000".into();
    message["to"] = "5511977776666".into();
    message["sender"] = json!({
        "contactId": null,
        "phone": "551140000000",
        "userId": null,
        "lid": null,
        "username": null,
        "name": null,
        "isMe": true,
    });
    message
}

fn sender() -> Value {
    json!({
        "contactId": CONTACT,
        "phone": "5511977776666",
        "userId": null,
        "lid": "103899771998284",
        "username": null,
        "name": "Ana",
        "isMe": false,
    })
}

fn conversation_event(action: &str) -> Option<Value> {
    let mut conversation = json!({
        "id": CONVERSATION,
        "channelId": CHANNEL,
        "kind": "DIRECT",
        "contact": {"id": CONTACT, "name": "Ana", "phone": "5511977776666"},
        "assignedTo": null,
        "departmentId": null,
        "status": "PENDING",
        "lastMessage": {"id": MESSAGE, "type": "text", "direction": "INBOUND", "content": "Ola", "createdAt": AT},
        "unreadCount": 1,
        "window": {"state": "NONE", "openUntil": null},
        "createdAt": AT,
        "updatedAt": AT,
        "closedAt": null,
        "chat": {"kind": "DIRECT", "address": "5511977776666", "name": null},
        "closeReason": null,
    });
    match action {
        "created" => Some(json!({"conversation": conversation})),
        "assigned" => {
            conversation["status"] = "OPEN".into();
            conversation["assignedTo"] = json!({"id": "u-7", "name": "Maria"});
            Some(json!({"conversation": conversation, "previous": {"assignedTo": null, "departmentId": null}}))
        }
        "closed" => {
            conversation["status"] = "CLOSED".into();
            conversation["closedAt"] = AT.into();
            conversation["closeReason"] = "Resolvido".into();
            Some(json!({"conversation": conversation, "by": "API", "reason": "Resolvido"}))
        }
        _ => None,
    }
}

fn changes(action: &str) -> Option<Value> {
    match action {
        "created" => Some(json!([])),
        "updated" => Some(json!(["name"])),
        _ => None,
    }
}

fn contact() -> Value {
    json!({
        "id": CONTACT,
        "name": "Ana",
        "phone": "5511977776666",
        "email": null,
        "tags": ["vip"],
        "createdAt": AT,
        "updatedAt": AT,
        "metadata": {},
        "account": "551177776666",
        "optOut": false,
        "optOutAt": null,
        "optOutSource": null,
        "source": "INBOUND",
        "blockedOn": [],
        "identities": [{"kind": "PHONE", "value": "551177776666"}],
        "lastInboundAt": AT,
        "lastOutboundAt": null,
    })
}

fn channel(action: &str) -> Option<Value> {
    let (state, reason) = match action {
        "connected" => ("CONNECTED", None),
        "disconnected" => ("DISCONNECTED", None),
        "restricted" => ("RESTRICTED", Some("A rede limitou novas conversas.")),
        "paused" => ("PAUSED", None),
        "logged_out" => ("LOGGED_OUT", Some("O aparelho foi desconectado no telefone.")),
        "banned" => ("BANNED", Some("O numero foi banido.")),
        _ => return None,
    };
    let until = (action == "restricted").then_some("2026-11-24T12:26:15.403Z");
    let channel = json!({
        "id": CHANNEL,
        "type": "WHATSAPP_BAILEYS",
        "state": state,
        "stateReason": reason,
        "restrictedUntil": until,
    });
    let previous = if action == "connected" { "CONNECTING" } else { "CONNECTED" };
    Some(json!({"channel": channel, "previousState": previous}))
}

fn bulk(action: &str) -> Option<Value> {
    let status = match action {
        "completed" => "COMPLETED",
        "failed" => "FAILED",
        "cancelled" => "CANCELLED",
        _ => return None,
    };
    Some(json!({"batch": {
        "batchId": "bulk_01a2085f07eb7913a5dac9ff",
        "status": status,
        "name": "Promo",
        "totalRecipients": 1_000,
        "sent": 998,
        "failed": 2,
        "progress": 100,
        "createdAt": AT,
        "completedAt": (action == "completed").then_some(AT),
    }}))
}

fn webhook(action: &str) -> Option<Value> {
    match action {
        "disabled" => Some(json!({
            "webhook": {
                "id": "01a2085f-11aa-7d63-b1c2-3e4f5a6b7c03",
                "name": "CRM",
                "url": "https://crm.example.com/recado",
            },
            "failingSince": "2026-11-18T12:26:15.403Z",
        })),
        "test" => Some(json!({"message": "Teste de webhook"})),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_an_example_and_nothing_else_has() {
        for name in names() {
            assert!(data(name).is_some_and(|data| data.is_object()), "{name}");
        }
        for none in
            ["", "message", "message.", "message.typed", "channel.deleted", "contact.deleted", "webhook.created"]
        {
            assert_eq!(data(none), None, "{none}");
        }
        assert_eq!((channel_of("message.sent"), channel_of("contact.created")), (Some(CHANNEL), None));
    }

    #[test]
    fn an_event_about_a_message_begins_with_its_ids() {
        let keys = |name: &str| {
            let data = data(name).expect("an example");
            data.as_object().expect("an object").keys().cloned().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(keys("message.reaction"), "messageId networkId conversationId from sender emoji at");
        assert_eq!(keys("message.poll_vote"), "messageId conversationId sender options results at");
        assert_eq!(
            keys("message.failed"),
            "messageId networkId conversationId reference type to account status at error"
        );
    }
}
