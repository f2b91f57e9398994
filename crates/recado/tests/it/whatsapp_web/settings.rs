//! The settings of a channel that a phone links.

use serde_json::{Value, json};

use super::Stage;

fn put(stage: &Stage, settings: &Value) -> crate::harness::Answer {
    let body = json!({ "settings": settings }).to_string();
    let headers = [("Content-Type", "application/json")];
    stage.server.call("PUT", "/v1/channels/vendas", Some(&stage.key), &headers, Some(body.as_bytes()))
}

#[test]
fn settings_change_independently_and_invalid_ones_are_named() {
    let stage = Stage::set();
    let body = json!({"name": "vendas", "type": "WHATSAPP_BAILEYS", "id": "vendas"});
    let made = stage.server.post("/v1/channels", &stage.key, &body).expect(201).json();
    let mut settings = json!({
        "delayMinSeconds": 1, "delayMaxSeconds": 3, "typing": false, "newRecipientsPerDay": null,
        "groups": "off", "ownDevice": "on", "inboundMedia": "lazy",
        "windowGuard": "off", "closeAfterHours": null, "optOutWords": ["SAIR", "PARAR", "STOP"], "keepRevoked": false,
        "autoRead": "off", "keepText": true,
    });
    assert_eq!(made["data"]["settings"], settings);
    for (field, value) in [
        ("newRecipientsPerDay", json!(20)),
        ("typing", json!(true)),
        ("delayMaxSeconds", json!(600)),
        ("delayMinSeconds", json!(0)),
        ("newRecipientsPerDay", Value::Null),
    ] {
        settings[field] = value.clone();
        assert_eq!(put(&stage, &json!({ field: value })).expect(200).json()["data"]["settings"], settings);
    }
    for (bad, field) in [
        (json!({"delayMinSeconds": 601}), "settings.delayMinSeconds"),
        (json!({"delayMinSeconds": -1}), "settings.delayMinSeconds"),
        (json!({"delayMaxSeconds": "3"}), "settings.delayMaxSeconds"),
        (json!({"delayMinSeconds": 5, "delayMaxSeconds": 4}), "settings.delayMinSeconds"),
        (json!({"typing": 1}), "settings.typing"),
        (json!({"newRecipientsPerDay": 0}), "settings.newRecipientsPerDay"),
        (json!({"newRecipientsPerDay": 10_001}), "settings.newRecipientsPerDay"),
        (json!({"pipeline": 4}), "settings.pipeline"),
        (json!({"unknownPolicy": "leave"}), "settings.unknownPolicy"),
        (json!({"strange": 1}), "settings.strange"),
    ] {
        let refused = put(&stage, &bad).expect(400).json();
        assert_eq!(refused["errors"][0]["field"], field, "{bad}: {refused}");
    }
    assert_eq!(stage.channel("vendas")["settings"], settings, "a refused change changes nothing");
}
