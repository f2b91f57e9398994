use serde_json::{Value, json};

use super::{Delivery, Person, Said};
use crate::body::{schema, schema_faults};
use crate::{Number, Signed};

fn ana() -> Person {
    Person::with_phone("5511977776666", "Ana")
}

fn referral() -> Value {
    json!({
        "source_url": "https://fb.me/3cr4Wqqkv", "source_id": "120226305854810726", "source_type": "ad",
        "body": "Summer succulents are here!", "headline": "Chat with us", "media_type": "image",
        "image_url": "https://scontent.xx.fbcdn.net/v/t45.1", "ctwa_clid": "Aff-n8ZTODiE79d22KtAwQKj9e",
    })
}

/// The message as the callback has it.
fn element(said: &Said) -> Value {
    let body = Delivery::new().message(&ana(), said).body(&Number::example("1055"));
    body["entry"][0]["changes"][0]["value"]["messages"][0].clone()
}

#[test]
fn messages_match_meta_s_description() {
    let contact = json!([{
        "name": {"formatted_name": "Lúcia Gómez", "first_name": "Lúcia"},
        "phones": [{"phone": "+1 (983) 555-2319", "wa_id": "19835552319", "type": "WORK"}],
    }]);
    let base = schema("BaseMessageProperties_1");
    for (said, description) in [
        (Said::text("Oi").from_ad(referral()), "TextMessage_2"),
        (Said::image("1003", Some("Olha")), "ImageMessage_1"),
        (Said::video("1003", None), "VideoMessage_1"),
        (Said::audio("1003", true), "AudioMessage_1"),
        (Said::document("1003", "nota.pdf", Some("A nota")), "DocumentMessage_1"),
        (Said::sticker("1003", true), "StickerMessage_1"),
        (Said::location(-23.5, -46.6, "Mercado", "Rua A, 1", "https://example.com/"), "LocationMessage_1"),
        (Said::contacts(contact), "ContactSharingMessage"),
        (Said::button("wamid.1", "sair", "Sair"), "ButtonMessage"),
        (Said::button_reply("wamid.1", "a", "Sim"), "InteractiveMessageReply"),
        (Said::list_reply("wamid.1", "a", "Sim", "Hoje"), "InteractiveMessageReply"),
        (Said::order("194836987003835", &[("di9ozbzfi4", 2, 30.0)]), "OrderMessage"),
        (Said::reaction("wamid.1", Some("👍")), "ReactionMessage_1"),
        (Said::changed_number("Ana", "5511977776666", "5521977776666"), "SystemMessage"),
    ] {
        let element = element(&said);
        assert_eq!(schema_faults(&base, description, &element), [""; 0]);
        let content = schema(&format!("{description}/allOf/1"));
        assert_eq!(schema_faults(&content, description, &element), [""; 0], "{element}");
    }
    let reply = element(&Said::button_reply("wamid.1", "a", "Sim"))["interactive"].clone();
    assert_eq!(schema_faults(&schema("InteractiveButtonReplyContent"), "reply", &reply), [""; 0]);
    let reply = element(&Said::list_reply("wamid.1", "a", "Sim", "Hoje"))["interactive"].clone();
    assert_eq!(schema_faults(&schema("InteractiveListReplyContent"), "reply", &reply), [""; 0]);
    // The schema of `errors` in Meta's file is that of another API. The one that the file's own example has is unused.
    for kind in ["unsupported", "unknown"] {
        let error = element(&Said::unsupported(kind))["errors"][0].clone();
        assert_eq!(schema_faults(&schema("ErrorObject_2"), "errors", &error), [""; 0]);
    }
}

#[test]
fn a_callback_names_each_person_once() {
    let bia = Person::with_username("BR.13491208655302741918", "@bia", "Bia");
    let number = Number::example("1055");
    let delivery = Delivery::new()
        .message(&ana(), &Said::text("1").with_id("w1").at(1_700_000_000))
        .message(&bia, &Said::text("2").with_id("w2").at(1_700_000_000))
        .message(&ana(), &Said::text("3").with_id("w3").at(1_700_000_000));
    let value = delivery.body(&number)["entry"][0]["changes"][0]["value"].clone();
    let contacts = json!([
        {"profile": {"name": "Ana"}, "wa_id": "5511977776666"},
        {"profile": {"name": "Bia", "username": "@bia"}, "user_id": "BR.13491208655302741918"},
    ]);
    assert_eq!(value["contacts"], contacts);
    let faults = schema_faults(&schema("ContactProfile"), "contact", &contacts[1]);
    assert_eq!(faults, [""; 0]);
    let second = json!({"from_user_id": "BR.13491208655302741918", "id": "w2", "timestamp": "1700000000", "type": "text",
                        "text": {"body": "2"}});
    assert_eq!(value["messages"][1], second);
}

#[test]
fn messages_from_the_phone_have_their_own_field() {
    let number = Number::example("1055");
    let body = Delivery::new().echo(&ana(), &Said::text("Oi").with_id("w1").at(7)).body(&number);
    let change = &body["entry"][0]["changes"][0];
    let echo = json!({"from": "551140000000", "to": "5511977776666", "id": "w1", "timestamp": "7", "type": "text",
                      "text": {"body": "Oi"}});
    assert_eq!((&change["field"], &change["value"]["message_echoes"]), (&json!("smb_message_echoes"), &json!([echo])));
    assert_eq!(Delivery::new().signed(Signed::Not).signed, Signed::Not);
}
