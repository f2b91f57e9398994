//! `GET /v1/channels/{channelId}/messages/{messageId}`: the status of a message.

use serde_json::{Value, json};

use crate::v1::{CARD, NO_CHANNEL, NO_MESSAGE, Stage, assert_refused, card, create_key, millis, text};

const REACHED: [&str; 9] =
    ["queuedAt", "sendingAt", "sentAt", "deliveredAt", "unknownAt", "readAt", "failedAt", "expiredAt", "cancelledAt"];

/// `2026-01-31T12:00:00.000Z`
fn is_time(value: &Value) -> bool {
    let form = |(byte, pattern): (u8, u8)| if pattern == b'0' { byte.is_ascii_digit() } else { byte == pattern };
    value.as_str().is_some_and(|text| text.len() == 24 && text.bytes().zip(*b"0000-00-00T00:00:00.000Z").all(form))
}

#[test]
fn a_message_that_waits() {
    let stage = Stage::set();
    stage.open("held", &["connect", "pause"]);
    let body = json!({
        "to": "+55 (11) 99999-8888", "name": " José; \"Zé\" 🙂 ", "phone": "55 11 98888.7777",
        "email": "ze@exemplo.com.br", "organization": "Ação & Cia",
    });
    let location = stage.accept("held", &[], &body.to_string());
    let message = stage.data(&location);
    let id = text(&message, "id");
    assert_eq!(location, format!("/v1/channels/held/messages/{id}"));
    let contact = json!({
        "name": "José; \"Zé\" 🙂", "phone": "55 11 98888.7777", "email": "ze@exemplo.com.br",
        "organization": "Ação & Cia",
    });
    let fixed = json!({
        "channelId": "held", "type": "contact", "direction": "OUTBOUND", "status": "QUEUED",
        "to": "+55 (11) 99999-8888", "account": null, "contact": contact, "attempts": 0, "error": null,
        "card": {"waid": "5511988887777", "source": "NETWORK"},
    });
    for (field, value) in fixed.as_object().expect("an object") {
        assert_eq!(message[field], *value, "{field}");
    }
    for field in REACHED {
        let reached = is_time(&message[field]);
        assert!(if field == "queuedAt" { reached } else { message[field].is_null() }, "{field}: {message}");
    }
    assert!(is_time(&message["expiresAt"]) && text(&message, "networkId").len() > 8, "{message}");
    let day = millis(&message, "expiresAt") - millis(&message, "queuedAt");
    assert_eq!(day, 24 * 60 * 60 * 1_000);
}

#[test]
fn a_message_that_was_read() {
    let stage = Stage::set();
    let location = stage.accept("sandbox", &[], &card("+55 11 99999-8888", "Maria"));
    let message = stage.until(&location, "READ");
    assert_eq!((&message["attempts"], &message["error"]), (&json!(1), &Value::Null));
    assert_eq!((&message["to"], &message["account"]), (&json!("+55 11 99999-8888"), &json!("5511999998888")));
    let times = ["queuedAt", "sendingAt", "sentAt", "deliveredAt", "readAt"].map(|field| millis(&message, field));
    assert!(times.is_sorted(), "{message}");
    for field in REACHED {
        let passed = !["unknownAt", "failedAt", "expiredAt", "cancelledAt"].contains(&field);
        assert_eq!(is_time(&message[field]), passed, "{field}: {message}");
    }
    assert_eq!(stage.phone("5511999998888")[0]["networkId"], message["networkId"]);
}

#[test]
fn a_failed_message_shows_the_reason() {
    let stage = Stage::set();
    let message = stage.until(&stage.accept("sandbox", &[], &card("5511900000001", "Nobody")), "FAILED");
    let error = message["error"].as_object().expect("an error");
    assert_eq!(error.keys().collect::<Vec<_>>(), ["code", "message"]);
    assert_eq!(error["code"], "NUMBER_NOT_ON_WHATSAPP");
    assert!(is_time(&message["failedAt"]) && message["sentAt"].is_null(), "{message}");
}

/// A card whose phone is unknown to the network is sent with the typed digits, and the message shows that.
#[test]
fn the_account_on_the_card_says_where_it_is_from() {
    let stage = Stage::set();
    let body = json!({"to": "5511999998888", "name": "Nobody", "phone": "5511900000001"}).to_string();
    let message = stage.until(&stage.accept("sandbox", &[], &body), "READ");
    assert_eq!(message["card"], json!({"waid": "5511900000001", "source": "TYPED"}));
}

#[test]
fn a_message_that_does_not_exist() {
    let stage = Stage::set();
    stage.open("other", &["connect"]);
    let location = stage.accept("sandbox", &[], CARD);
    let id = location.rsplit('/').next().expect("an id");
    for (path, refused) in [
        (format!("/v1/channels/other/messages/{id}"), NO_MESSAGE),
        (format!("/v1/channels/nowhere/messages/{id}"), NO_CHANNEL),
        ("/v1/channels/nowhere/messages/x".to_owned(), NO_CHANNEL),
        ("/v1/channels/sandbox/messages/x".to_owned(), NO_MESSAGE),
        ("/v1/channels/sandbox/messages/00000000-0000-0000-0000-000000000000".to_owned(), NO_MESSAGE),
        (format!("/v1/channels/sandbox/messages/{}", id.to_uppercase()), NO_MESSAGE),
        (format!("/v1/channels/sandbox/messages/{id}%00"), NO_MESSAGE),
    ] {
        if path == location {
            // An id of digits alone has no other case.
            continue;
        }
        for path in [path.clone(), format!("{path}/vcard")] {
            assert_refused(&path, &stage.get(&path), refused);
        }
        assert_refused(&path, &stage.server.delete(&path, Some(&stage.key)), refused);
    }
    // Only a key of the same institution and environment sees it.
    let live = create_key(&stage.home, "live", "messages.read", "unlimited");
    assert_refused("live", &stage.server.get(&location, Some(&live)), NO_CHANNEL);
}
