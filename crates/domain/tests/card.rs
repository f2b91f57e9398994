//! Cards against golden bytes, and read back by an independent parser (`calcard`) under hostile names.

use calcard::vcard::{VCard, VCardProperty};
use proptest::prelude::*;
use recado_domain::contact::{ContactCard, ContactMessage};
use recado_domain::field_errors::Field;
use recado_domain::vcard::{file, render};

fn card(name: &str, email: &str, organization: &str) -> Option<ContactCard> {
    of_parts(name, email, organization, ["", ""])
}

fn of_parts(name: &str, email: &str, organization: &str, [first, last]: [&str; 2]) -> Option<ContactCard> {
    let phone = "+55 (11) 98888-7777";
    let values = ["5511999998888", name, phone, email, organization, first, last].map(Field::from);
    ContactMessage::parse(&values, None).ok().map(|message| message.card)
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
    fn what_is_accepted_reads_back_unchanged(name in hostile(), organization in hostile()) {
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
        prop_assert_eq!(read(&parsed, &VCardProperty::Email).map(|values| values.concat()), card.email);
    }

    #[test]
    fn parsing_never_panics(values in prop::array::uniform7(hostile())) {
        let fields = values.each_ref().map(|value| Field::from(value.as_str()));
        let _ = ContactMessage::parse(&fields, None);
    }
}
