use recado_domain::ids::MessageId;
use recado_domain::json::Object as Fields;
use recado_domain::kinds::{Call, Context as Rules, Kind};
use recado_store::fixtures::rendition;
use serde_json::{Value, json};

use crate::cloud_api::body::*;

/// A message in the form that is stored when this call is accepted.
fn stored(kind: &str, fields: &Value) -> Claimed {
    let (text, rules) = (
        fields.to_string(),
        Rules { country: None, now: 1_700_000_000_000, ignores_unknown: false, may_repeat: false },
    );
    let kind = Kind::named(kind).expect("a kind");
    let call = Call::parse(kind, &Fields::parse(&text).expect("JSON"), false, &rules).expect("a good call");
    Claimed {
        payload: serde_json::to_string(&Stored::new(&call, None)).expect("JSON"),
        recipient: call.common.to.as_ref().expect("a recipient").address.as_str().to_owned(),
        kind: kind.name.to_owned(),
        rendition: ContactRendition::stored(&call.content.cards(), &[]),
        ..recado_store::fixtures::claimed()
    }
}

fn written(message: &Claimed, quoted: Option<&str>) -> Value {
    let stored = read(message).expect("a stored message");
    serde_json::from_slice(&of(message, &stored.content, quoted).expect("a body")).expect("JSON")
}

fn claimed(values: [&str; 5], account: Option<&str>) -> Claimed {
    with_parts(values, ["", ""], account)
}

fn with_parts(
    [to, name, phone, email, organization]: [&str; 5],
    [first, last]: [&str; 2],
    account: Option<&str>,
) -> Claimed {
    let fields = json!({
        "to": to, "name": name, "phone": phone, "email": email, "organization": organization, "firstName": first,
        "lastName": last,
    });
    let rendition = Some(rendition(account.unwrap_or("55"), account.is_some()));
    Claimed { rendition, ..stored("contact", &fields) }
}

fn body(values: [&str; 5], account: Option<&str>) -> Value {
    written(&claimed(values, account), None)
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
fn a_user_id_is_never_in_the_field_of_numbers() {
    let body = written(&stored("text", &json!({"to": "BR.1502576394655843", "content": "Oi"})), None);
    assert_eq!((&body["to"], &body["recipient"]), (&Value::Null, &json!("BR.1502576394655843")));
    assert!(body.get("to").is_none(), "{body}");
    let body = written(&stored("text", &json!({"to": "5511999998888", "content": "Oi"})), None);
    assert!(body.get("recipient").is_none(), "{body}");
}

/// A version without kinds wrote the same bytes.
#[test]
fn a_card_has_the_same_bytes_as_in_earlier_versions() {
    let values = ["5511999998888", "Maria", "5511988887777", "maria@exemplo.com.br", "Pães & Cia"];
    let message = claimed(values, Some("551188887777"));
    let bytes = of(&message, &read(&message).expect("stored").content, None).expect("a body");
    let expected =
        r#"{"messaging_product":"whatsapp","recipient_type":"individual","to":"5511999998888","type":"contacts","#
            .to_owned()
            + r#""contacts":[{"name":{"formatted_name":"Maria","first_name":"Maria"},"#
            + r#""phones":[{"phone":"+5511988887777","wa_id":"551188887777"}],"emails":[{"email":"maria@exemplo.com.br"}],"#
            + r#""org":{"company":"Pães & Cia"}}],"biz_opaque_callback_data":""#
            + &format!("{}\"}}", message.id);
    assert_eq!(String::from_utf8(bytes).expect("text"), expected);
}

#[test]
fn the_parts_of_the_name_are_meta_s_too() {
    let name = |parts| {
        let message = with_parts(["5511999998888", "Maria Silva", "5511988887777", "", ""], parts, None);
        written(&message, None)["contacts"][0]["name"].clone()
    };
    let whole = "Maria Silva";
    assert_eq!(name(["Maria", "Silva"]), json!({"formatted_name": whole, "first_name": "Maria", "last_name": "Silva"}));
    assert_eq!(name(["", "Silva"]), json!({"formatted_name": whole, "last_name": "Silva"}));
}

#[test]
fn the_fullest_card_of_the_short_form() {
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
fn several_contacts_with_every_field() {
    let fields = json!({"to": "5511999998888", "contacts": [
        {
            "name": "Maria Silva", "firstName": "Maria", "lastName": "Silva", "organization": "Exemplo Ltda",
            "department": "Suporte", "title": "Gerente",
            "phones": [{"phone": "5511988887777", "type": "CELL"}, {"phone": "551140000000", "type": "WORK"}],
            "emails": [{"email": "maria@exemplo.com.br", "type": "HOME"}, {"email": "m@exemplo.com.br", "type": "CELL"}],
            "urls": [{"url": "https://exemplo.com.br"}], "birthday": "1990-08-18",
            "addresses": [{
                "street": "Rua A, 1", "city": "Sao Paulo", "state": "SP", "zip": "01000-000", "country": "Brasil",
                "countryCode": "BR", "type": "HOME",
            }, {"city": "Santos"}],
        },
        {"name": "Joao", "title": "Vendedor", "phones": [{"phone": "5531999990001"}]},
    ]});
    let mut message = stored("contact", &fields);
    let accepted = message.rendition.as_deref().and_then(ContactRendition::from_json).expect("a rendition");
    let mut named = accepted.all_named();
    named[0][1] = Some("551140000000".to_owned());
    named[1][0] = Some("553199990001".to_owned());
    message.rendition = ContactRendition::stored(&read(&message).expect("stored").content.cards(), &named);
    let expected = json!([
        {
            "name": {"formatted_name": "Maria Silva", "first_name": "Maria", "last_name": "Silva"},
            "phones": [{"phone": "+5511988887777"}, {"phone": "+551140000000", "wa_id": "551140000000", "type": "WORK"}],
            "emails": [{"email": "maria@exemplo.com.br", "type": "HOME"}, {"email": "m@exemplo.com.br"}],
            "org": {"company": "Exemplo Ltda", "department": "Suporte", "title": "Gerente"},
            "urls": [{"url": "https://exemplo.com.br", "type": "WORK"}],
            "birthday": "1990-08-18",
            "addresses": [{
                "street": "Rua A, 1", "city": "Sao Paulo", "state": "SP", "zip": "01000-000", "country": "Brasil",
                "country_code": "BR", "type": "HOME",
            }, {"city": "Santos", "type": "WORK"}],
        },
        {
            "name": {"formatted_name": "Joao", "first_name": "Joao"},
            "phones": [{"phone": "+5531999990001", "wa_id": "553199990001"}],
            "org": {"title": "Vendedor"},
        },
    ]);
    assert_eq!(written(&message, None)["contacts"], expected);
}

#[test]
fn texts_and_locations_have_an_object_of_their_own() {
    let to = "5511999998888";
    let text = written(&stored("text", &json!({"to": to, "content": " Ola,\n\"tudo\" bem? "})), None);
    assert_eq!(
        (&text["type"], &text["text"]),
        (&json!("text"), &json!({"body": "Ola,\n\"tudo\" bem?", "preview_url": false}))
    );
    let place = json!({"to": to, "latitude": -23.541_81, "longitude": 1e-7, "name": "Mercado", "address": "Rua A, 1"});
    let place = written(&stored("location", &place), None);
    let expected = json!({"latitude": "-23.54181", "longitude": "0.0000001", "name": "Mercado", "address": "Rua A, 1"});
    assert_eq!((&place["type"], &place["location"]), (&json!("location"), &expected));
    let place = written(&stored("location", &json!({"to": to, "latitude": 0, "longitude": 180})), None);
    assert_eq!(place["location"], json!({"latitude": "0", "longitude": "180"}));
}

#[test]
fn every_kind_can_carry_a_quote() {
    let place = json!({"to": "5511999998888", "latitude": 1, "longitude": 2});
    for message in [
        claimed(["5511999998888", "Maria", "5511988887777", "", ""], None),
        stored("text", &json!({"to": "5511999998888", "content": "sim"})),
        stored("location", &place),
    ] {
        assert_eq!(written(&message, Some("wamid.1"))["context"], json!({"message_id": "wamid.1"}));
        assert_eq!(written(&message, None).get("context"), None);
    }
}

#[test]
fn an_unreadable_message_is_reported_without_its_content() {
    let good = claimed(["5511999998888", "Maria", "5511988887777", "", ""], None);
    for payload in ["", "{}", r#"{"to":"1","type":"poll"}"#] {
        let unreadable = read(&Claimed { payload: payload.to_owned(), ..good.clone() });
        assert_eq!(unreadable, Err(Unreadable::Content));
    }
    let payload = good.payload.replace("5511988887777", "Maria");
    let message = Claimed { payload, ..good };
    assert_eq!(of(&message, &read(&message).expect("stored").content, None), Err(Unreadable::Phone));
}
