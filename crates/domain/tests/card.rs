//! Cards against golden bytes, and read back by an independent parser (`calcard`) under hostile names.

use calcard::vcard::{VCard, VCardProperty};
use proptest::prelude::*;
use recado_domain::json::Object;
use recado_domain::kinds::contact::{Card, CardAccount, file};
use recado_domain::kinds::{Call, Content, Context, Kind};
use serde_json::{Value, json};

fn cards(body: &Value) -> Option<Vec<Card>> {
    let (text, kind) = (body.to_string(), Kind::named("contact").expect("a kind"));
    let context = Context { country: None, now: 1_795_523_175_403, ignores_unknown: false, may_repeat: true };
    let call = Call::parse(kind, &Object::parse(&text).expect("JSON"), false, &context).ok()?;
    let Content::Contact(contact) = call.content else { panic!("another kind") };
    Some(contact.cards().expect("good numbers"))
}

fn card(name: &str, email: &str, organization: &str) -> Option<Card> {
    of_parts(name, email, organization, ["", ""])
}

fn of_parts(name: &str, email: &str, organization: &str, [first, last]: [&str; 2]) -> Option<Card> {
    let body = json!({
        "to": "5511999998888", "name": name, "phone": "+55 (11) 98888-7777", "email": email,
        "organization": organization, "firstName": first, "lastName": last,
    });
    Some(cards(&body)?.remove(0))
}

/// The card with this account for its one number.
fn render(card: &Card, account: &str) -> String {
    recado_domain::kinds::contact::render(card, &[CardAccount { digits: account.to_owned(), known: true }])
}

#[test]
fn golden_bytes_of_the_seeds_card() {
    let text = render(&card("Maria Silva - Suporte", "", "").unwrap(), "551188887777");
    assert_eq!(
        text,
        "BEGIN:VCARD\nVERSION:3.0\nN:;Maria Silva - Suporte;;;\nFN:Maria Silva - Suporte\n\
         TEL;type=CELL;type=VOICE;waid=551188887777:+5511988887777\nEND:VCARD"
    );
}

#[test]
fn golden_bytes_of_a_full_card_with_every_escape() {
    let text = render(&card(r"Silva; João, \o/", "joão@exemplo.com.br", "Ação; & Cia, Ltda").unwrap(), "5511988887777");
    assert_eq!(
        text,
        "BEGIN:VCARD\nVERSION:3.0\nN:;Silva\\; João\\, \\\\o/;;;\nFN:Silva\\; João\\, \\\\o/\nORG:Ação\\; & Cia\\, Ltda\n\
         EMAIL;type=INTERNET:joão@exemplo.com.br\nTEL;type=CELL;type=VOICE;waid=5511988887777:+5511988887777\nEND:VCARD"
    );
}

#[test]
fn golden_bytes_of_a_card_with_the_parts_of_the_name() {
    for (parts, line) in [
        (["Maria; José", "da Silva, Dra"], "N:da Silva\\, Dra;Maria\\; José;;;\n"),
        (["Maria", ""], "N:;Maria;;;\n"),
        (["", "Silva"], "N:Silva;;;;\n"),
    ] {
        let text = render(&of_parts("Dra. Maria Silva", "", "", parts).unwrap(), "5511988887777");
        assert_eq!(
            text,
            format!(
                "BEGIN:VCARD\nVERSION:3.0\n{line}FN:Dra. Maria Silva\n\
                 TEL;type=CELL;type=VOICE;waid=5511988887777:+5511988887777\nEND:VCARD"
            )
        );
    }
}

#[test]
fn the_file_ends_every_line_with_cr_and_lf() {
    let text = render(&card("Maria", "", "").unwrap(), "5511988887777");
    assert_eq!(
        file(&text),
        "BEGIN:VCARD\r\nVERSION:3.0\r\nN:;Maria;;;\r\nFN:Maria\r\n\
         TEL;type=CELL;type=VOICE;waid=5511988887777:+5511988887777\r\nEND:VCARD\r\n"
    );
    assert!(VCard::parse(file(&text)).is_ok(), "an independent parser reads it");
}

/// All values of a property, joined as a reader would show them.
fn read(vcard: &VCard, property: &VCardProperty) -> Option<Vec<String>> {
    let entry = vcard.entries.iter().find(|entry| entry.name == *property)?;
    Some(
        entry
            .values
            .iter()
            .flat_map(|value| match value {
                calcard::vcard::VCardValue::Component(parts) => parts.clone(),
                other => other.as_text().map(str::to_owned).into_iter().collect(),
            })
            .collect(),
    )
}

/// Text as a hostile caller would choose it: any character, and many of those that mean something in a card.
fn hostile() -> impl Strategy<Value = String> {
    let sign = prop_oneof![
        4 => any::<char>(),
        2 => prop::sample::select(vec!['\\', ';', ',', ':', '"', '=', '^', '\n', '\r', '\t', 'n', 'N', ' ', '\u{85}', '\u{2028}']),
        2 => prop::char::range('a', 'z'),
        1 => prop::sample::select(vec!['ç', 'ã', '🎉', '\u{200d}', '\u{fe0f}', '\u{301}', 'ß', '中', '\u{202b}']),
    ];
    prop::collection::vec(sign, 0..40).prop_map(|signs| signs.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_accepted_message_reads_back_unchanged(name in hostile(), organization in hostile()) {
        let Some(card) = card(&name, "", &organization) else { return Ok(()) };
        let text = render(&card, "5511988887777");
        let lines = text.split('\n').count();
        prop_assert_eq!(lines, 6 + usize::from(card.organization.is_some()), "a value wrote a line of its own: {}", text);
        let parsed = VCard::parse(&text).map_err(|entry| TestCaseError::fail(format!("{entry:?} in {text}")))?;
        prop_assert_eq!(read(&parsed, &VCardProperty::Fn).map(|values| values.concat()), Some(card.name.clone()));
        prop_assert_eq!(read(&parsed, &VCardProperty::N).map(|values| values[1].clone()), Some(card.name));
        prop_assert_eq!(read(&parsed, &VCardProperty::Org).map(|values| values.concat()), card.organization);
    }

    #[test]
    fn addresses_read_back_unchanged(local in "[a-zé.+\"\\\\,; ]{1,12}", domain in "[a-z]{1,8}\\.[a-z]{2,3}") {
        let email = format!("{local}@{domain}");
        let Some(card) = card("Maria", &email, "") else { return Ok(()) };
        let text = render(&card, "5511988887777");
        let parsed = VCard::parse(&text).map_err(|entry| TestCaseError::fail(format!("{entry:?} in {text}")))?;
        prop_assert_eq!(read(&parsed, &VCardProperty::Email).map(|values| values.concat()), card.emails.first().map(|email| email.email.clone()));
    }

    #[test]
    fn parsing_never_panics(values in prop::array::uniform7(hostile())) {
        let [to, name, phone, email, organization, first, last] = values;
        cards(&json!({
            "to": to, "name": name, "phone": phone, "email": email, "organization": organization, "firstName": first,
            "lastName": last,
        }));
    }

    #[test]
    fn no_field_of_the_long_form_injects_a_line(values in prop::array::uniform5(hostile()), url in "https://[a-z;,]{1,5}\\PC{0,5}") {
        let [text, department, title, street, city] = values;
        let body = json!({"to": "5511999998888", "contacts": [{
            "name": "Maria", "organization": text, "department": department, "title": title,
            "phones": [{"phone": "5511988887777"}, {"phone": "551140000000", "type": "HOME"}], "urls": [{"url": url}],
            "addresses": [{"street": street, "city": city, "country": "Brasil"}],
        }]});
        let Some(cards) = cards(&body) else { return Ok(()) };
        let text = render(&cards[0], "5511988887777");
        let optional = [cards[0].organization.is_some() || cards[0].department.is_some(), cards[0].title.is_some()];
        let lines = 9 + optional.into_iter().filter(|given| *given).count();
        prop_assert_eq!(text.split('\n').count(), lines, "{}", text);
        let parsed = VCard::parse(&text).map_err(|entry| TestCaseError::fail(format!("{entry:?} in {text}")))?;
        prop_assert_eq!(read(&parsed, &VCardProperty::Title).map(|values| values.concat()), cards[0].title.clone());
    }
}

#[test]
fn golden_bytes_of_the_long_form_with_every_field() {
    let body = json!({"to": "5511999998888", "contacts": [
        {
            "name": "Maria Silva", "firstName": "Maria", "lastName": "Silva", "organization": "Exemplo; Ltda",
            "department": "Suporte", "title": "Gerente, SP",
            "phones": [
                {"phone": "5511988887777", "type": "WORK"},
                {"phone": "551140000000", "type": "WORK"},
                {"phone": "12015550123"},
            ],
            "emails": [{"email": "maria@exemplo.com.br"}, {"email": "m@casa.com.br", "type": "HOME"}],
            "urls": [{"url": "https://exemplo.com.br/?a=1,2;3"}],
            "birthday": "1990-08-18",
            "addresses": [
                {"street": "Rua A, 1", "city": "Sao Paulo", "state": "SP", "zip": "01000-000", "country": "Brasil",
                 "countryCode": "BR"},
                {"city": "Santos", "type": "HOME"},
            ],
        },
        {"name": "Ana", "department": "Vendas", "phones": [{"phone": "5511977776666"}]},
    ]});
    let cards = cards(&body).expect("a good body");
    let accounts =
        ["551188887777", "551140000000"].map(|digits| CardAccount { digits: digits.to_owned(), known: true });
    assert_eq!(
        recado_domain::kinds::contact::render(&cards[0], &accounts),
        "BEGIN:VCARD\nVERSION:3.0\nN:Silva;Maria;;;\nFN:Maria Silva\nORG:Exemplo\\; Ltda;Suporte\nTITLE:Gerente\\, SP\n\
         EMAIL;type=INTERNET,type=WORK:maria@exemplo.com.br\nEMAIL;type=INTERNET,type=HOME:m@casa.com.br\n\
         URL:https://exemplo.com.br/?a=1,2;3\nBDAY:1990-08-18\n\
         ADR;type=WORK:;;Rua A\\, 1;Sao Paulo;SP;01000-000;Brasil\nADR;type=HOME:;;;Santos;;;\n\
         TEL;type=CELL;type=VOICE;waid=551188887777:+5511988887777\nTEL;type=WORK;waid=551140000000:+551140000000\n\
         TEL;type=CELL;waid=12015550123:+12015550123\nEND:VCARD"
    );
    let text = render(&cards[1], "5511977776666");
    assert!(text.contains("\nFN:Ana\nORG:;Vendas\nTEL;"), "{text}");
    for card in &cards {
        VCard::parse(render(card, "1")).expect("an independent parser reads it");
    }
}
