use recado_domain::ids::MessageId;
use recado_domain::json::Object;
use recado_domain::kinds::{Call, Context, Kind};
use serde_json::{Value, json};

use recado_store::fixtures::rendition;

use crate::cloud_api::body::*;

fn claimed(values: [&str; 5], account: Option<&str>) -> Claimed {
    with_parts(values, ["", ""], account)
}

fn with_parts(
    [to, name, phone, email, organization]: [&str; 5],
    [first, last]: [&str; 2],
    account: Option<&str>,
) -> Claimed {
    let body = json!({
        "to": to, "name": name, "phone": phone, "email": email, "organization": organization, "firstName": first,
        "lastName": last,
    });
    let (body, context) =
        (body.to_string(), Context { country: None, now: 0, ignores_unknown: false, may_repeat: true });
    let kind = Kind::named("contact").expect("a kind");
    let call = Call::parse(kind, &Object::parse(&body).expect("JSON"), false, &context).expect("a good card");
    Claimed {
        payload: serde_json::to_string(&Stored::new(&call, None)).expect("JSON"),
        recipient: call.common.to.number.digits().to_owned(),
        rendition: Some(rendition(account.unwrap_or("55"), account.is_some())),
        ..recado_store::fixtures::claimed()
    }
}

fn body(values: [&str; 5], account: Option<&str>) -> Value {
    serde_json::from_slice(&of(&claimed(values, account)).expect("a body")).expect("JSON")
}

#[test]
fn the_least_card() {
    let body = body(["+55 (11) 99999-8888", "Maria Silva", "55 11 98888.7777", "", ""], None);
    let expected = json!({
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "5511999998888",
        "type": "contacts",
        "contacts": [{
            "name": {"formatted_name": "Maria Silva", "first_name": "Maria Silva"},
            "phones": [{"phone": "+5511988887777"}],
        }],
        "biz_opaque_callback_data": MessageId::new(1, [7; 10]).to_string(),
    });
    assert_eq!(body, expected);
}

#[test]
fn the_parts_of_the_name_are_meta_s_too() {
    let name = |parts| {
        let message = with_parts(["5511999998888", "Maria Silva", "5511988887777", "", ""], parts, None);
        let body: Value = serde_json::from_slice(&of(&message).expect("a body")).expect("JSON");
        body["contacts"][0]["name"].clone()
    };
    let whole = "Maria Silva";
    assert_eq!(name(["Maria", "Silva"]), json!({"formatted_name": whole, "first_name": "Maria", "last_name": "Silva"}));
    assert_eq!(name(["", "Silva"]), json!({"formatted_name": whole, "last_name": "Silva"}));
}

#[test]
fn the_fullest_card() {
    let values = ["5511999998888", "Maria \"Ma\" Ção 🎉", "5511988887777", "maria@exemplo.com.br", "Pães & Cia"];
    let contact = &body(values, Some("551188887777"))["contacts"][0];
    let expected = json!({
        "name": {"formatted_name": "Maria \"Ma\" Ção 🎉", "first_name": "Maria \"Ma\" Ção 🎉"},
        "phones": [{"phone": "+5511988887777", "wa_id": "551188887777"}],
        "emails": [{"email": "maria@exemplo.com.br"}],
        "org": {"company": "Pães & Cia"},
    });
    assert_eq!(contact, &expected);
}

#[test]
fn what_cannot_be_read_is_said_without_its_words() {
    let good = claimed(["5511999998888", "Maria", "5511988887777", "", ""], None);
    for payload in ["", "{}", r#"{"to":"1","type":"poll"}"#] {
        assert_eq!(of(&Claimed { payload: payload.to_owned(), ..good.clone() }), Err(Unreadable::Content));
    }
    let payload = good.payload.replace("5511988887777", "Maria");
    assert_eq!(of(&Claimed { payload, ..good }), Err(Unreadable::Phone));
}
