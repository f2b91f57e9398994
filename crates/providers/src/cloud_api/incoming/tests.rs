use recado_domain::clock::Millis;
use recado_domain::incoming::{Arrival, Content, NewIncoming, RAW_LIMIT, SenderIds, What};
use serde_json::{Value, json};

use crate::cloud_api::callback;
use crate::cloud_api::incoming::OfNumber;

const NOW: Millis = 1_800_000_000_000;
const AT: Millis = 1_749_416_383_000;

/// A callback of one number with this value.
fn body(mut value: Value) -> String {
    value["metadata"] = json!({"display_phone_number": "+55 11 4000-0000", "phone_number_id": "106540352242922"});
    json!({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"value": value, "field": "x"}]}]})
        .to_string()
}

fn parsed(text: &str) -> OfNumber {
    let mut callback = callback::parse(text.as_bytes(), NOW).expect("JSON");
    assert_eq!((callback.received.len(), callback.skipped), (1, 0), "{callback:?}");
    callback.received.remove(0)
}

fn of(value: Value) -> OfNumber {
    parsed(&body(value))
}

/// A message of Ana with these fields.
fn element(fields: &Value) -> Value {
    let mut message = json!({"from": "5511977776666", "id": "wamid.1", "timestamp": "1749416383"});
    for (key, value) in fields.as_object().expect("an object") {
        message[key] = value.clone();
    }
    message
}

fn contacts() -> Value {
    json!([{"profile": {"name": "Ana"}, "wa_id": "5511977776666"}])
}

fn arrival(fields: &Value) -> Arrival {
    let mut read = of(json!({"contacts": contacts(), "messages": [element(fields)]}));
    assert_eq!((read.arrivals.len(), read.number.as_deref()), (1, Some("551140000000")));
    read.arrivals.remove(0)
}

fn message(fields: &Value) -> NewIncoming {
    let arrival = arrival(fields);
    assert_eq!((arrival.network_id.as_str(), arrival.sent_at, arrival.from_me), ("wamid.1", AT, false));
    let What::Message(new) = arrival.what else { panic!("no message: {:?}", arrival.what) };
    *new
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table, one entry a type")]
fn every_type_is_read_with_its_object() {
    let file = json!({"caption": null, "fileName": null});
    let table = [
        (
            json!({"type": "text", "text": {"body": "Oi\n*ção* \u{1f44d}"}}),
            "text",
            json!({"truncated": false}),
            "Oi\n*ção* 👍",
        ),
        (
            json!({"type": "image", "image": {"id": "1003", "mime_type": "image/jpeg", "caption": "Olha"}}),
            "image",
            json!({"caption": "Olha", "fileName": null}),
            "Olha",
        ),
        (json!({"type": "video", "video": {"id": "1003", "mime_type": "video/mp4"}}), "video", file.clone(), ""),
        (
            json!({"type": "audio", "audio": {"id": "1003", "mime_type": "audio/ogg; codecs=opus", "voice": true}}),
            "audio",
            json!({"caption": null, "fileName": null, "ptt": true}),
            "",
        ),
        (
            json!({"type": "document", "document": {"id": "1", "mime_type": "application/pdf", "filename": "nota.pdf"}}),
            "document",
            json!({"caption": null, "fileName": "nota.pdf"}),
            "",
        ),
        (
            json!({"type": "sticker", "sticker": {"id": "1", "mime_type": "image/webp", "animated": true}}),
            "sticker",
            json!({"caption": null, "fileName": null, "animated": true}),
            "",
        ),
        (
            json!({"type": "location", "location": {"latitude": -23.5, "longitude": "-46.6", "name": "Mercado"}}),
            "location",
            json!({"latitude": -23.5, "longitude": -46.6, "name": "Mercado", "address": null, "url": null}),
            "",
        ),
        (
            json!({"type": "button", "context": {"id": "wamid.0"}, "button": {"payload": "sair", "text": "Sair"}}),
            "button",
            json!({"id": "sair", "title": "Sair", "description": null, "data": null}),
            "Sair",
        ),
        (
            json!({"type": "interactive", "interactive": {"type": "button_reply", "button_reply": {"id": "a", "title": "Sim"}}}),
            "button",
            json!({"id": "a", "title": "Sim", "description": null, "data": null}),
            "Sim",
        ),
        (
            json!({"type": "interactive", "interactive": {"type": "list_reply",
                   "list_reply": {"id": "a", "title": "Sim", "description": "Hoje"}}}),
            "button",
            json!({"id": "a", "title": "Sim", "description": "Hoje", "data": null}),
            "Sim",
        ),
        (
            json!({"type": "interactive", "interactive": {"type": "nfm_reply",
                   "nfm_reply": {"name": "flow", "body": "Sent", "response_json": "{\"dia\":\"2026\\u0000-12-01\"}"}}}),
            "button",
            json!({"id": "flow", "title": "Sent", "description": null, "data": {"dia": "2026-12-01"}}),
            "Sent",
        ),
        (
            json!({"type": "order", "order": {"catalog_id": "194", "text": "", "product_items": [
                   {"product_retailer_id": "p1", "quantity": 2, "item_price": 30.10, "currency": "BRL"}]}}),
            "order",
            json!({"orderId": null, "catalogId": "194", "text": null, "items": [
                {"productId": "p1", "name": null, "quantity": 2, "price": "30.1", "currency": "BRL"}]}),
            "",
        ),
        (
            json!({"type": "unsupported", "errors": [{"code": 131_051}]}),
            "unsupported",
            json!({"reason": "NETWORK"}),
            "",
        ),
        (json!({"type": "unknown", "errors": []}), "unsupported", json!({"reason": "NETWORK"}), ""),
        (json!({"errors": [{"code": 131_051}]}), "unsupported", json!({"reason": "NETWORK"}), ""),
        (json!({"type": "request_welcome"}), "other", json!({"kind": "request_welcome", "text": null}), ""),
        (
            json!({"type": "event", "event": {"body": "Festa"}}),
            "other",
            json!({"kind": "event", "text": "Festa"}),
            "Festa",
        ),
        (
            json!({"type": "interactive", "interactive": {"type": "call_permission_reply", "call_permission_reply": {}}}),
            "other",
            json!({"kind": "interactive", "text": null}),
            "",
        ),
        (
            json!({"type": "system", "system": {"type": "user_identity_changed", "body": "Ana changed"}}),
            "other",
            json!({"kind": "system", "text": "Ana changed"}),
            "Ana changed",
        ),
    ];
    for (fields, kind, object, text) in table {
        let new = message(&fields);
        assert_eq!((new.content.name(), &new.content.object(), &*new.text), (kind, &object, text), "{fields}");
        assert_eq!(new.raw.is_some(), kind == "other", "{fields}");
    }
}

#[test]
fn files_are_described_without_their_bytes() {
    let hash = "SfInY0gGKTsJlUWbwxC1k+FAD0FZHvzwfpvO0zX0GUI=";
    let new = message(&json!({"type": "document", "document": {
        "id": "1003383421387256", "mime_type": "application/pdf", "sha256": hash, "filename": "nota\nfiscal.pdf",
        "caption": "A nota"}}));
    let media = new.media.expect("a file");
    assert_eq!((media.remote_id.as_deref(), &*media.mime_type), (Some("1003383421387256"), "application/pdf"));
    let digits = media.sha256.expect("a hash");
    assert_eq!((digits.len(), &digits[..12]), (64, "49f227634806"));
    assert_eq!((media.file_name.as_deref(), media.size), (Some("nota fiscal.pdf"), None));
    // What is odd beside the id is left out. Without an id the file could never be fetched.
    let odd =
        message(&json!({"type": "image", "image": {"id": "1", "mime_type": "\r\n", "sha256": "x", "caption": 7}}));
    let media = odd.media.expect("a file");
    assert_eq!((&*media.mime_type, media.sha256), ("application/octet-stream", None));
    for id in [json!(null), json!(7), json!(""), json!("../me"), json!("a?b"), json!("1".repeat(129))] {
        let new = message(&json!({"type": "image", "image": {"id": id, "mime_type": "image/png"}}));
        assert_eq!(new.content, Content::Other { kind: "image".to_owned(), text: None }, "{id}");
        assert!(new.raw.is_some());
    }
}

#[test]
fn contacts_are_shown_as_the_api_shows_cards() {
    let contact = json!({
        "name": {"formatted_name": "Lúcia Gómez", "first_name": "Lúcia", "last_name": "Gómez"},
        "org": {"company": "Exemplo", "department": "Suporte", "title": "Gerente"},
        "phones": [{"phone": "+1 (983) 555-2319", "wa_id": "19835552319", "type": "MOBILE"}, {"wa_id": "5511"}, 7],
        "emails": [{"email": "lu@example.com", "type": "WORK"}],
        "urls": [{"url": "https://example.com", "type": "WORK"}],
        "birthday": "1990-08-18",
        "addresses": [{"street": "Rua A, 1", "zip": "01000", "country_code": "BR", "type": "HOME"}],
        "vcard": "BEGIN:VCARD\nEND:VCARD",
    });
    let new = message(&json!({"type": "contacts", "contacts": [contact, {"name": {"first_name": "Zé"}}]}));
    assert_eq!(new.text, "Lúcia Gómez");
    let first = json!({
        "name": "Lúcia Gómez", "firstName": "Lúcia", "lastName": "Gómez", "organization": "Exemplo",
        "department": "Suporte", "title": "Gerente",
        "phones": [{"phone": "+1 (983) 555-2319", "account": "19835552319", "type": "MOBILE"},
                   {"phone": "5511", "account": "5511"}],
        "emails": [{"email": "lu@example.com", "type": "WORK"}],
        "urls": [{"url": "https://example.com", "type": "WORK"}],
        "birthday": "1990-08-18",
        "addresses": [{"street": "Rua A, 1", "zip": "01000", "countryCode": "BR", "type": "HOME"}],
    });
    assert_eq!(new.content.object(), json!({"contacts": [first, {"name": "Zé", "firstName": "Zé"}]}));
    let Content::Contact { vcards, .. } = new.content else { panic!("{:?}", new.content) };
    assert_eq!(vcards, ["BEGIN:VCARD\nEND:VCARD"]);
}

#[test]
fn quotes_forwards_ads_and_choices_are_kept() {
    let quoting =
        json!({"type": "text", "text": {"body": "x"}, "context": {"from": "+55 11 4000-0000", "id": "wamid.0"}});
    let new = message(&quoting);
    let quoted = new.reply_to.expect("a quote");
    assert_eq!((&*quoted.network_id, quoted.from.as_deref()), ("wamid.0", Some("551140000000")));
    assert!(!new.forwarded);
    for key in ["forwarded", "frequently_forwarded"] {
        let new = message(&json!({"type": "text", "text": {"body": "x"}, "context": {key: true}}));
        assert!(new.forwarded && new.reply_to.is_none(), "{key}");
    }
    let ad = json!({"source_url": "https://fb.me/3cr4Wqqkv", "source_type": "ad", "welcome_message": {"text": "Oi"}});
    let new = message(&json!({"type": "text", "text": {"body": "x"}, "referral": ad}));
    assert_eq!(new.referral, Some(ad));
    let product = json!({"catalog_id": "194", "product_retailer_id": "p1"});
    let context = json!({"from": "5511", "id": "wamid.0", "referred_product": product});
    let new = message(&json!({"type": "text", "text": {"body": "x"}, "context": context}));
    assert_eq!(new.referral, Some(json!({"referred_product": product})));
    for (kind, fields) in [
        ("TEMPLATE", json!({"type": "button", "button": {"payload": "a", "text": "Sim"}})),
        (
            "BUTTON",
            json!({"type": "interactive", "interactive": {"type": "button_reply", "button_reply": {"id": "a", "title": "Sim"}}}),
        ),
        (
            "LIST",
            json!({"type": "interactive", "interactive": {"type": "list_reply", "list_reply": {"id": "a", "title": "Sim"}}}),
        ),
    ] {
        let mut fields = fields;
        fields["context"] = json!({"from": "551140000000", "id": "wamid.0"});
        let choice = serde_json::to_value(message(&fields).choice.expect("a choice")).expect("JSON");
        let expected = json!({"messageId": null, "networkId": "wamid.0", "id": "a", "title": "Sim", "kind": kind, "matchedBy": "NETWORK"});
        assert_eq!(choice, expected);
    }
}

#[test]
fn a_message_has_its_author_however_it_is_named() {
    let person = |value: Value| of(value).arrivals.remove(0).person;
    let said = |names: Value| {
        let mut element = names;
        element["id"] = "wamid.1".into();
        element["type"] = "text".into();
        element["text"] = json!({"body": "x"});
        element
    };
    let user = "BR.13491208655302741918";
    let hidden = json!([{"profile": {"name": "Bia", "username": "@bia"}, "user_id": user}]);
    let bia = SenderIds {
        user_id: Some(user.to_owned()),
        username: Some("@bia".to_owned()),
        name: Some("Bia".to_owned()),
        ..SenderIds::default()
    };
    assert_eq!(person(json!({"contacts": hidden, "messages": [said(json!({"from_user_id": user}))]})), bia);
    // Without any name beside the message, the only person of the callback is the author.
    assert_eq!(person(json!({"contacts": hidden, "messages": [said(json!({}))]})), bia);
    // A number and an id together are one person.
    let both = json!([{"profile": {"name": "Ana"}, "wa_id": "5511977776666", "user_id": user}]);
    let ana = person(json!({"contacts": both, "messages": [said(json!({"from": "5511977776666"}))]}));
    assert_eq!((ana.phone.as_deref(), ana.user_id.as_deref()), (Some("5511977776666"), Some(user)));
    // Both forms of a Brazilian number are one person; another number is another person.
    let short = json!([{"profile": {"name": "Ana"}, "wa_id": "551177776666", "user_id": user}]);
    let ana = person(json!({"contacts": short, "messages": [said(json!({"from": "5511977776666"}))]}));
    assert_eq!((ana.phone.as_deref(), ana.user_id.as_deref()), (Some("5511977776666"), Some(user)));
    let other = person(json!({"contacts": both, "messages": [said(json!({"from": "5521966665555"}))]}));
    assert_eq!(other, SenderIds::of_phone("5521966665555"));
    // Businesses that share people have an id for all of them.
    let parent = "BR.ENT.11815799212886844830";
    let one = person(json!({"messages": [said(json!({"from_parent_user_id": parent}))]}));
    assert_eq!(one, SenderIds::of_user_id(parent));
    // A message without a sender is stored, too.
    assert!(person(json!({"messages": [said(json!({"from": "+x", "from_user_id": "a b"}))]})).is_nobody());
}

#[test]
fn messages_of_groups_and_of_the_phone_have_their_chat() {
    let said = arrival(&json!({"type": "text", "text": {"body": "x"}, "group_id": "Y2FwaV9ncm91cDo="}));
    assert_eq!(said.group.expect("a group").address, "Y2FwaV9ncm91cDo=");
    assert_eq!(said.person.phone.as_deref(), Some("5511977776666"));
    for odd in [json!(""), json!(7), json!("a b"), json!({"id": 1})] {
        let said = arrival(&json!({"type": "text", "text": {"body": "x"}, "group_id": odd}));
        assert!(said.group.expect("a group").address.starts_with("sha256."), "never a chat with the author");
    }
    let echo = json!({"from": "551140000000", "to": "5511977776666", "id": "wamid.1", "timestamp": "1749416383",
                      "type": "text", "text": {"body": "Do celular"}});
    let revoked = json!({"from": "551140000000", "to_user_id": "BR.1", "id": "wamid.2", "timestamp": "1749416383",
                         "type": "revoke", "revoke": {"original_message_id": "wamid.1"}});
    let read = of(json!({"message_echoes": [echo, revoked]}));
    assert!(read.arrivals.iter().all(|arrival| arrival.from_me));
    assert_eq!(read.arrivals[0].person, SenderIds::of_phone("5511977776666"));
    assert_eq!(read.arrivals[1].person, SenderIds::of_user_id("BR.1"));
    assert!(matches!(&read.arrivals[1].what, What::Revoke { target, .. } if target.as_str() == "wamid.1"));
}

#[test]
fn changes_name_their_message() {
    let reaction =
        |emoji: Value| arrival(&json!({"type": "reaction", "reaction": {"message_id": "wamid.0", "emoji": emoji}}));
    for (given, read) in [(json!("👍🏽"), Some("👍🏽")), (json!(""), None), (json!(null), None)] {
        let What::Reaction { target, emoji } = reaction(given).what else { panic!("no reaction") };
        assert_eq!((target.as_str(), emoji.as_deref()), ("wamid.0", read));
    }
    let text = json!({"context": {"id": "M0"}, "type": "text", "text": {"body": "Novo"}});
    let image = json!({"type": "image", "image": {"id": "1", "mime_type": "image/jpeg", "caption": "Nova"}});
    for (new, read) in [(text, "Novo"), (image, "Nova")] {
        let edit = json!({"type": "edit", "edit": {"original_message_id": "wamid.0", "message": new}});
        let What::Edit { target, content } = arrival(&edit).what else { panic!("no edit") };
        assert_eq!((target.as_str(), &*content), ("wamid.0", read));
    }
    let revoke = arrival(&json!({"type": "revoke", "revoke": {"original_message_id": "wamid.0"}}));
    assert!(matches!(revoke.what, What::Revoke { target, by_admin: false } if target.as_str() == "wamid.0"));
    // A change that names no message is kept as it is.
    for odd in [
        json!({"type": "reaction", "reaction": {"emoji": "👍"}}),
        json!({"type": "reaction", "reaction": {"message_id": "a b", "emoji": "👍"}}),
        json!({"type": "edit", "edit": {"original_message_id": "wamid.0"}}),
        json!({"type": "revoke"}),
    ] {
        let new = message(&odd);
        assert!(matches!(new.content, Content::Other { .. }) && new.raw.is_some(), "{odd}");
    }
}

#[test]
fn changed_numbers_and_ids_name_the_person_before_and_after() {
    let changed = |message: Value| {
        let arrival = of(json!({"messages": [message]})).arrivals.remove(0);
        let What::IdentityChanged { old } = arrival.what else { panic!("no change: {:?}", arrival.what) };
        (old, arrival.person)
    };
    let system = |system: Value, names: Value| {
        let mut message = names;
        message["id"] = "wamid.1".into();
        message["type"] = "system".into();
        message["system"] = system;
        message
    };
    let number =
        json!({"body": "User Ana changed from 1 to 2", "wa_id": "5521977776666", "type": "user_changed_number"});
    let (old, new) = changed(system(number, json!({"from": "5511977776666"})));
    assert_eq!((old, new), (SenderIds::of_phone("5511977776666"), SenderIds::of_phone("5521977776666")));
    let former = json!({"new_wa_id": "5521977776666", "type": "customer_changed_number"});
    let (_, new) = changed(system(former, json!({"from": "5511977776666"})));
    assert_eq!(new, SenderIds::of_phone("5521977776666"));
    let kind = "user_changed_user_id";
    for (fields, names) in [
        (json!({"user_id": "BR.2", "previous_user_id": "BR.1", "type": kind}), json!({})),
        (json!({"user_id": "BR.2", "type": kind}), json!({"from_user_id": "BR.1"})),
        (
            json!({"user_id": "BR.2", "type": kind, "body": "User Ana changed from BR.1 to BR.2"}),
            json!({"from_user_id": "BR.2"}),
        ),
    ] {
        let (old, new) = changed(system(fields, names));
        assert_eq!((old, new), (SenderIds::of_user_id("BR.1"), SenderIds::of_user_id("BR.2")));
    }
    // A change that does not say from what or to what is kept as it is.
    for odd in [json!({"type": kind, "user_id": "BR.2"}), json!({"type": "user_changed_number", "body": "?"})] {
        let arrival = of(json!({"messages": [system(odd.clone(), json!({"from": ""}))]})).arrivals.remove(0);
        assert!(matches!(arrival.what, What::Message(_)), "{odd}");
    }
}

#[test]
fn a_person_can_refuse_marketing() {
    let preference = |value: &str, category: &str| json!({"wa_id": "5511977776666", "detail": "x", "category": category, "value": value, "timestamp": 1_749_416_383});
    let list = [
        preference("stop", "marketing_messages"),
        preference("resume", "marketing_messages"),
        preference("stop", "other"),
        preference("?", "marketing_messages"),
    ];
    let read = of(json!({"contacts": contacts(), "user_preferences": list}));
    let found: Vec<_> = read.arrivals.iter().map(|one| (one.sent_at, matches!(one.what, What::OptOut(true)))).collect();
    assert_eq!(found, [(AT, true), (AT, false)]);
    assert_ne!(read.arrivals[0].network_id, read.arrivals[1].network_id);
    assert_eq!(read.arrivals[0].person.name.as_deref(), Some("Ana"));
}

#[test]
fn what_cannot_be_read_is_kept_with_its_json() {
    let odd = [
        json!(7),
        json!(null),
        json!([1]),
        json!({}),
        element(&json!({"type": "text"})),
        element(&json!({"type": "text", "text": {"body": 7}})),
        element(&json!({"type": 7, "text": {"body": "x"}})),
        element(&json!({"type": "location", "location": {"latitude": 91, "longitude": 0}})),
        element(&json!({"type": "\u{0}\n", "x": 1})),
    ];
    let good = element(&json!({"type": "text", "text": {"body": "x"}}));
    let list: Vec<_> = odd.iter().cloned().chain([good]).collect();
    let read = of(json!({"contacts": contacts(), "messages": list}));
    assert_eq!((read.arrivals.len(), read.unreadable), (10, 8), "the one with an unknown type can be read");
    for (arrival, given) in read.arrivals.iter().zip(&odd) {
        let What::Message(new) = &arrival.what else { panic!("{:?}", arrival.what) };
        assert!(matches!(new.content, Content::Other { .. }), "{given}");
        let raw: Value = serde_json::from_slice(new.raw.as_ref().expect("the JSON")).expect("JSON");
        assert_eq!(&raw, given);
    }
    assert!(matches!(&read.arrivals[9].what, What::Message(new) if new.text == "x"));
    // Half of a surrogate pair is no text. The rest of the message is.
    let half = body(json!({"messages": [element(&json!({"type": "text", "text": {"body": "HALF"}}))]}));
    let read = parsed(&half.replace("HALF", "\\ud83d"));
    assert_eq!((read.unreadable, read.arrivals[0].network_id.as_str()), (1, "wamid.1"));
    // A large one is cut, at a character.
    let large = element(&json!({"type": "x", "x": "é".repeat(RAW_LIMIT)}));
    let read = of(json!({"messages": [large]}));
    let What::Message(new) = &read.arrivals[0].what else { panic!("no message") };
    let raw = new.raw.as_ref().expect("the JSON");
    assert!((RAW_LIMIT - 3..=RAW_LIMIT).contains(&raw.len()) && std::str::from_utf8(raw).is_ok());
}

#[test]
fn ids_and_times_of_others_do_no_harm() {
    let said = |fields: Value| {
        let mut message = json!({"from": "5511977776666", "type": "text", "text": {"body": "x"}});
        for (key, value) in fields.as_object().expect("an object") {
            message[key] = value.clone();
        }
        of(json!({"messages": [message]})).arrivals.remove(0)
    };
    // An id that no database can hold is replaced by a hash: the same message is recognised again, another one is not.
    let hashed = |id: Value| said(json!({"id": id})).network_id;
    for id in [json!(null), json!(7), json!(""), json!("a\u{0}b"), json!("a b"), json!("é"), json!("x".repeat(256))] {
        assert!(hashed(id.clone()).starts_with("sha256."), "{id}");
        assert_eq!(hashed(id.clone()), hashed(id));
    }
    assert_ne!(hashed(json!("a b")), hashed(json!("a c")));
    for (timestamp, at) in [
        (json!("1749416383"), AT),
        (json!(1_749_416_383), AT),
        (json!("1900000000"), NOW),
        (json!("99999999999999999999"), NOW),
        (json!("9223372036854775807"), NOW),
        (json!("-5"), NOW),
        (json!("7"), NOW),
        (json!("soon"), NOW),
        (json!(null), NOW),
    ] {
        assert_eq!(said(json!({"id": "w", "timestamp": timestamp.clone()})).sent_at, at, "{timestamp}");
    }
}

#[test]
fn deep_and_long_json_costs_little() {
    let start = std::time::Instant::now();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let half = body(json!({"messages": [element(&json!({"type": "text", "text": {"body": "x"}, "deep": "DEEP"}))]}));
    let read = parsed(&half.replace("\"DEEP\"", &deep));
    assert_eq!(read.unreadable, 0);
    let referral =
        body(json!({"messages": [element(&json!({"type": "text", "text": {"body": "x"}, "referral": "DEEP"}))]}));
    let read = parsed(&referral.replace("\"DEEP\"", &format!("{{\"a\":{}1{}}}", "[".repeat(4_000), "]".repeat(4_000))));
    assert!(matches!(&read.arrivals[0].what, What::Message(new) if new.referral.is_none()));
    // A contact for each message: one look-up each.
    let people: Vec<_> =
        (0..20_000).map(|n| json!({"wa_id": format!("5511{n:09}"), "profile": {"name": "x"}})).collect();
    let said: Vec<_> = (0..10_000).map(|n| json!({"from": format!("5511{n:09}"), "id": format!("w{n}")})).collect();
    assert_eq!(of(json!({"contacts": people, "messages": said})).arrivals.len(), 10_000);
    // More than that is not read, however it is spread.
    let list = format!("[{}0]", "0,".repeat(20_000));
    let change = format!(r#"{{"value":{{"metadata":{{"phone_number_id":"1"}},"messages":{list}}}}}"#);
    let body = format!(r#"{{"entry":[{{"changes":[{change},{change}]}}]}}"#);
    let callback = callback::parse(body.as_bytes(), NOW).expect("JSON");
    let read: usize = callback.received.iter().map(|of| of.arrivals.len()).sum();
    assert_eq!((read, callback.is_too_large), (10_000, true));
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
}

/// What is stored has to be read back, by a parser that reads 128 levels.
#[test]
fn deep_answers_of_a_form_stay_a_text() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for (answers, is_text) in
        [(nested(32), false), (nested(33), true), (nested(126), true), ("\"[[\\\"[[\"".to_owned(), true)]
    {
        let reply = json!({"name": "flow", "body": "Sent", "response_json": answers});
        let new = message(&json!({"type": "interactive", "interactive": {"type": "nfm_reply", "nfm_reply": reply}}));
        assert_eq!(new.content.object()["data"].is_string(), is_text, "{answers}");
        let stored = serde_json::to_string(&new.content).expect("JSON");
        assert_eq!(serde_json::from_str::<Content>(&stored).expect("read back"), new.content);
    }
}

#[test]
fn a_value_that_cannot_be_read_is_counted() {
    let half = body(json!({"HALF": 1, "messages": [element(&json!({"type": "text", "text": {"body": "x"}}))]}));
    let callback = callback::parse(half.replace("HALF", "\\ud83d").as_bytes(), NOW).expect("JSON");
    assert_eq!((callback.received.len(), callback.skipped), (0, 1));
}

#[test]
fn other_parts_of_a_callback_bring_nothing() {
    for value in [
        json!({}),
        json!({"statuses": []}),
        json!({"messages": []}),
        json!({"contacts": contacts()}),
        json!({"errors": [{"code": 131_000}]}),
        json!({"history": [{"threads": [{"messages": [{"id": "w"}]}]}]}),
    ] {
        let callback = callback::parse(body(value.clone()).as_bytes(), NOW).expect("JSON");
        assert!(callback.received.is_empty() && callback.skipped == 0, "{value}");
    }
}
