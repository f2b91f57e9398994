use super::*;
use crate::kinds::Content;
use crate::kinds::reader_tests::{assert_faults, parsed};

fn card(body: &str) -> Card {
    let call = parsed("contact", body);
    let Content::Contact(contact) = call.content else { panic!("{:?}", call.content) };
    contact.cards().unwrap().remove(0)
}

/// The seed's card with another field.
fn with(field: &str, value: &str) -> String {
    let body = json!({"to": "5511999998888", "name": "Maria Silva - Suporte", "phone": "5511988887777", field: value});
    body.to_string()
}

/// One card of the long form with another field.
fn long(field: &str, value: &Value) -> String {
    let mut card = json!({"name": "Maria", "phones": [{"phone": "5511988887777"}]});
    card[field] = value.clone();
    json!({"to": "5511999998888", "contacts": [card]}).to_string()
}

#[test]
fn the_seeds_card_is_read() {
    let card = card(r#"{"to":"5511999998888","name":"Maria Silva - Suporte","phone":"5511988887777"}"#);
    assert_eq!(card.name, "Maria Silva - Suporte");
    assert_eq!((card.emails, card.organization), (Vec::new(), None));
}

#[test]
fn all_errors_are_in_the_order_of_the_table() {
    let body = r#"{"lastName":"a","lastName":"b","firstName":[],"organization":"a","organization":"b","email":"x",
        "phone":"12","name":1}"#;
    assert_faults(
        "contact",
        body,
        &[
            ("to", "O numero do destinatario e obrigatorio."),
            ("name", "O campo name deve ser uma string."),
            ("phone", "O telefone do contato deve estar no formato DDI+DDD+NUM."),
            ("email", "O email do contato e invalido."),
            ("organization", "Campo repetido."),
            ("firstName", "O campo firstName deve ser uma string."),
            ("lastName", "Campo repetido."),
        ],
    );
}

#[test]
fn blank_text_is_missing() {
    for blank in ["", "   ", "\t\n", "\u{3000}"] {
        assert_faults("contact", &with("name", blank), &[("name", "O nome do contato e obrigatorio.")]);
        for optional in ["organization", "email", "title", "department", "url", "birthday", "photoMediaId"] {
            parsed("contact", &with(optional, blank));
        }
    }
}

#[test]
fn texts_have_their_rules() {
    let long = |count: usize| "é".repeat(count);
    for (field, value, message) in [
        ("name", "\u{200b}".to_owned(), "O nome do contato contem caracteres invalidos."),
        ("name", long(201), "O nome do contato deve ter no maximo 200 caracteres."),
        ("organization", "A\u{202e}B".to_owned(), "A organizacao do contato contem caracteres invalidos."),
        ("firstName", long(101), "O primeiro nome do contato deve ter no maximo 100 caracteres."),
        ("lastName", long(101), "O sobrenome do contato deve ter no maximo 100 caracteres."),
        ("firstName", "\u{e000}".to_owned(), "O primeiro nome do contato contem caracteres invalidos."),
        ("lastName", "a\nb".to_owned(), "O sobrenome do contato contem caracteres invalidos."),
        ("title", long(201), "O campo title deve ter no maximo 200 caracteres."),
        ("department", "a\tb".to_owned(), "O campo department contem caracteres invalidos."),
        ("email", "maria".to_owned(), "O email do contato e invalido."),
        ("url", "ftp://exemplo.com".to_owned(), "O campo url deve ser uma URL publica http ou https."),
        ("url", format!("https://a.co/{}", "x".repeat(488)), "O campo url deve ser uma URL publica http ou https."),
        ("url", "https://a.co/\u{e7}".to_owned(), "O campo url deve ser uma URL publica http ou https."),
        ("url", "https:///x".to_owned(), "O campo url deve ser uma URL publica http ou https."),
        ("url", "https://a.co/\r\nTEL:1".to_owned(), "O campo url deve ser uma URL publica http ou https."),
        ("birthday", "1899-12-31".to_owned(), "O campo birthday deve ser uma data AAAA-MM-DD de 1900 ate hoje."),
        ("birthday", "2026-11-26".to_owned(), "O campo birthday deve ser uma data AAAA-MM-DD de 1900 ate hoje."),
        ("birthday", "1990-02-30".to_owned(), "O campo birthday deve ser uma data AAAA-MM-DD de 1900 ate hoje."),
    ] {
        assert_faults("contact", &with(field, &value), &[(field, message)]);
    }
    for (field, value) in [
        ("lastName", long(100)),
        ("email", "Jose\u{301}@Exemplo.com".to_owned()),
        ("url", format!("HTTPS://a.co/{}", "x".repeat(487))),
        ("birthday", "2026-11-24".to_owned()),
        ("birthday", "1900-01-01".to_owned()),
    ] {
        parsed("contact", &with(field, &value));
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table, one line a fault")]
fn the_long_form_names_the_path_of_every_error() {
    let phone = |phone: &str| json!({"phone": phone});
    let good = phone("5511988887777");
    for (field, value, path, message) in [
        ("name", json!(null), "name", "O nome do contato e obrigatorio."),
        ("phones", json!(null), "phones", "O campo contacts[0].phones e obrigatorio."),
        ("phones", json!([]), "phones", "O campo contacts[0].phones deve ter de 1 a 5 itens."),
        ("phones", json!(vec![good.clone(); 6]), "phones", "O campo contacts[0].phones deve ter de 1 a 5 itens."),
        ("phones", json!({}), "phones", "O campo contacts[0].phones deve ser uma lista."),
        ("phones", json!([good, "x"]), "phones[1]", "O campo contacts[0].phones[1] deve ser um objeto."),
        ("phones", json!([good, {}]), "phones[1].phone", "O telefone do contato e obrigatorio."),
        (
            "phones",
            json!([good, phone("1")]),
            "phones[1].phone",
            "O telefone do contato deve estar no formato DDI+DDD+NUM.",
        ),
        (
            "phones",
            json!([good, {"phone": "5511988887777", "type": "MAIN"}]),
            "phones[1].type",
            "O campo contacts[0].phones[1].type deve ser um destes: CELL, WORK, HOME.",
        ),
        (
            "phones",
            json!([{"phone": "5511988887777", "type": 1}]),
            "phones[0].type",
            "O campo contacts[0].phones[0].type deve ser uma string.",
        ),
        ("emails", json!([{"type": "WORK"}]), "emails[0].email", "O campo contacts[0].emails[0].email e obrigatorio."),
        ("emails", json!([{"email": "x"}]), "emails[0].email", "O email do contato e invalido."),
        (
            "emails",
            json!(vec![json!({"email": "a@b.co"}); 6]),
            "emails",
            "O campo contacts[0].emails deve ter de 0 a 5 itens.",
        ),
        (
            "urls",
            json!([{"url": "x"}]),
            "urls[0].url",
            "O campo contacts[0].urls[0].url deve ser uma URL publica http ou https.",
        ),
        (
            "urls",
            json!(vec![json!({"url": "http://b.co"}); 4]),
            "urls",
            "O campo contacts[0].urls deve ter de 0 a 3 itens.",
        ),
        ("addresses", json!([{}]), "addresses[0].street", "O campo contacts[0].addresses[0].street e obrigatorio."),
        (
            "addresses",
            json!([{"countryCode": "BR"}]),
            "addresses[0].street",
            "O campo contacts[0].addresses[0].street e obrigatorio.",
        ),
        (
            "addresses",
            json!([{"city": "x".repeat(101)}]),
            "addresses[0].city",
            "O campo contacts[0].addresses[0].city deve ter no maximo 100 caracteres.",
        ),
        (
            "addresses",
            json!(vec![json!({"city": "x"}); 3]),
            "addresses",
            "O campo contacts[0].addresses deve ter de 0 a 2 itens.",
        ),
        (
            "birthday",
            json!("x"),
            "birthday",
            "O campo contacts[0].birthday deve ser uma data AAAA-MM-DD de 1900 ate hoje.",
        ),
        ("phone", json!("5511988887777"), "phone", "Campo desconhecido."),
    ] {
        assert_faults("contact", &long(field, &value), &[(&format!("contacts[0].{path}"), message)]);
    }
}

#[test]
fn one_to_ten_cards_in_one_of_two_forms() {
    let card = json!({"name": "Maria", "phones": [{"phone": "5511988887777"}]});
    let of = |contacts: Value| json!({"to": "5511999998888", "contacts": contacts}).to_string();
    for count in [1, 10] {
        let call = parsed("contact", &of(json!(vec![card.clone(); count])));
        assert_eq!(call.features.is_empty(), count == 1, "{count}");
    }
    for (body, message) in [
        (of(json!([])), "O campo contacts deve ter de 1 a 10 itens."),
        (of(json!(vec![card.clone(); 11])), "O campo contacts deve ter de 1 a 10 itens."),
        (of(json!("x")), "O campo contacts deve ser uma lista."),
        (with("contacts", "x"), "Informe apenas um destes campos: name, contacts."),
    ] {
        assert_faults("contact", &body, &[("contacts", message)]);
    }
    // `null` is as good as nothing.
    let body = json!({"to": "5511999998888", "contacts": null, "name": "Maria", "phone": "5511988887777"});
    parsed("contact", &body.to_string());
    let body = json!({"to": "5511999998888", "contacts": [card], "title": null});
    parsed("contact", &body.to_string());
}

#[test]
fn a_photo_requests_a_feature_that_no_channel_offers() {
    let call = parsed("contact", &with("photoMediaId", "01a2085f-07eb-7913-a5da-c9ff5fe6d655"));
    assert_eq!(call.features, [(Feature::Photo, "photoMediaId".to_owned())]);
    let call = parsed("contact", &long("photoMediaId", &json!("x")));
    for channel in ChannelType::ALL {
        assert_eq!(call.not_supported(channel), ["contacts[0].photoMediaId"]);
    }
}

/// The hashes that the version before the registry of kinds stored: a key that was used there is recognised here.
#[test]
fn fingerprints_are_those_of_every_version() {
    let hash = |body: &str, scenario, composed| {
        let [first, ..] = *parsed("contact", body).fingerprint(7, scenario, composed).as_chunks::<8>().0 else {
            panic!()
        };
        u64::from_be_bytes(first)
    };
    let seed = r#"{"to":"+55 (11) 99999-8888","name":"Maria","phone":"5511988887777"}"#;
    let full = r#"{"to":"5511999998888","name":"Maria","phone":"5511988887777","email":"jose\u0301@exemplo.com",
        "organization":"A","firstName":"M"}"#;
    assert_eq!(hash(seed, None, true), SEED);
    assert_eq!(hash(full, Some("timeout"), true), COMPOSED);
    assert_eq!(hash(full, Some("timeout"), false), AS_GIVEN);
}

const SEED: u64 = 0xe784_d810_d1dc_9947;
const COMPOSED: u64 = 0x8de9_e36f_72d4_6545;
const AS_GIVEN: u64 = 0xf038_a826_232a_21bc;

#[test]
fn each_field_makes_another_message() {
    let mut seen = std::collections::HashSet::new();
    let title = json!({"to": "5511999998888", "name": "Maria Silva - Suporte", "phone": "5511988887777", "firstName": "title", "lastName": "x"});
    let mut bodies = vec![with("name", "M"), title.to_string(), long("name", &json!("M"))];
    for (field, value) in [
        ("email", "a@b.co"),
        ("organization", "x"),
        ("firstName", "x"),
        ("lastName", "x"),
        ("title", "x"),
        ("department", "x"),
        ("url", "https://x.co"),
        ("birthday", "1990-01-01"),
        ("reference", "x"),
    ] {
        bodies.push(with(field, value));
        if !["email", "url", "reference"].contains(&field) {
            bodies.push(long(field, &json!(value)));
        }
    }
    for body in &bodies {
        assert!(seen.insert(parsed("contact", body).fingerprint(1, None, true)), "{body}");
    }
}

#[test]
fn a_rendition_is_stored_with_the_accounts_that_the_network_named() {
    let body = r#"{"to":"1201555012300","contacts":[{"name":"M","phones":[{"phone":"5511988887777"},{"phone":"551140000000"}]}]}"#;
    let Content::Contact(contact) = parsed("contact", &body.replace("1201555012300", "12015550123")).content else {
        panic!()
    };
    let named = vec![vec![None, Some("551140000001".to_owned())]];
    let stored = ContactRendition::stored(&contact.cards().unwrap(), &named).unwrap();
    let rendition = ContactRendition::from_json(&stored).unwrap();
    assert_eq!(
        (rendition.named(0, 0), rendition.named(0, 1), rendition.named(1, 0)),
        (None, Some("551140000001"), None)
    );
    assert!(!rendition.is_complete());
    assert_eq!(rendition.all_named(), named);
    assert_eq!(ContactRendition::from_json(&rendition.to_json()), Some(rendition));
}

#[test]
fn the_rendition_of_one_card_is_stored_as_in_earlier_versions() {
    let account = CardAccount { digits: "5511988887777".to_owned(), known: true };
    let mut rendition = ContactRendition::of_one("BEGIN:VCARD\nEND:VCARD".to_owned(), account.clone());
    let text = r#"{"cards":[{"vcard":"BEGIN:VCARD\nEND:VCARD","accounts":[{"digits":"5511988887777","known":true}]}]}"#;
    assert_eq!(rendition.to_json(), text);
    assert_eq!(ContactRendition::from_json(text), Some(rendition.clone()));
    assert!(rendition.is_complete());
    assert_eq!((rendition.first_account(), ContactRendition::from_json("{}")), (Some(&account), None));
    rendition.cards.push(rendition.cards[0].clone());
    assert_eq!(rendition.text(), "BEGIN:VCARD\nEND:VCARD\nBEGIN:VCARD\nEND:VCARD");
}

#[test]
fn two_lists_of_cards_with_the_same_meaning_have_the_same_fingerprint() {
    let of = |phone: &str, place: &str, email: &str| {
        let body = format!(
            r#"{{"to":"5511999998888","contacts":[{{"name":"Maria","phones":[{{"phone":"{phone}"{place}}}],
                "emails":[{{"email":"{email}"}}]}}]}}"#
        );
        parsed("contact", &body).fingerprint(1, None, true)
    };
    let first = of("5511988887777", "", "jos\u{e9}@exemplo.com");
    assert_eq!(of("+55 11 98888-7777", r#","type":"CELL""#, "jose\u{301}@exemplo.com"), first);
    assert_ne!(of("5511988887777", r#","type":"HOME""#, "jos\u{e9}@exemplo.com"), first);
    assert_ne!(of("5511988887776", "", "jos\u{e9}@exemplo.com"), first);
}
