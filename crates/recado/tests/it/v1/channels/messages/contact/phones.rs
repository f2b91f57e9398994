//! Phone numbers and e-mail addresses: which are accepted, which are refused, and their digits.

use serde_json::json;

use super::{assert_stored, body_with};
use crate::v1::{Stage, assert_faults, card};

/// Numbers as people type them, and their digits.
const GOOD: [(&str, &str); 36] = [
    ("5511999998888", "5511999998888"),
    ("+5511999998888", "5511999998888"),
    ("+55 (11) 99999-8888", "5511999998888"),
    ("55.11.99999.8888", "5511999998888"),
    ("  5511999998888\t", "5511999998888"),
    ("(55)(11)9-9-9-9-9 8888", "5511999998888"),
    ("- 5511999998888 -", "5511999998888"),
    ("(+55) 11 99999/8888", "5511999998888"),
    // Invisible characters, and dashes and white space of other kinds.
    ("\u{202a}+55 11 98888-7777\u{202c}", "5511988887777"),
    ("\u{feff}\u{200e}5511988887777\u{200b}", "5511988887777"),
    ("55\u{a0}11\u{2011}98888\u{2013}7777", "5511988887777"),
    ("\u{ff0b}5511988887777", "5511988887777"),
    // Brazil: mobiles of eight digits, landlines, toll-free numbers.
    ("551133334444", "551133334444"),
    ("551199998888", "551199998888"),
    ("559999999999", "559999999999"),
    ("5599912345678", "5599912345678"),
    ("5511900000000", "5511900000000"),
    ("+55 0800 777 1234", "558007771234"),
    ("+55 (0)11 98888-7777", "5511988887777"),
    ("12025550123", "12025550123"),
    ("+1 (202) 555-0123", "12025550123"),
    ("19995550123", "19995550123"),
    ("12222222222", "12222222222"),
    ("+33 6.12.34.56.00", "33612345600"),
    ("+32 2 555.12.00", "3225551200"),
    // A trunk zero is no part of a number, except in Italy.
    ("+44 (0)20 7946 0958", "442079460958"),
    ("+4402079460958", "442079460958"),
    ("+39 02 6630 7129", "390266307129"),
    ("5215512345678", "5215512345678"),
    ("525512345678", "525512345678"),
    ("5491155554444", "5491155554444"),
    ("541155554444", "541155554444"),
    ("56987654321", "56987654321"),
    ("351912345678", "351912345678"),
    ("7-912-345-67-89", "79123456789"),
    ("33 98888-7777", "33988887777"),
];

/// Texts that are no number, or a number of no country, as JSON writes them.
const BAD: [&str; 46] = [
    "+",
    "()",
    "-.-",
    "abc",
    "x5511999998888",
    "5511999998888x",
    "5511999998888 ext 2",
    "5511999998888;1",
    "5511999998888.",
    // Only one sign is accepted, at the front.
    "++5511999998888",
    "55+11999998888",
    "5511999998888+",
    // Other signs.
    "55_11_999998888",
    "55,11999998888",
    "tel:5511999998888",
    "55\\n11999998888",
    "55\\u0011999998888",
    "5511999998888\\u0000",
    "55\\ufe0f11999998888",
    // Digits outside ASCII.
    "\\uff15\\uff1511999998888",
    "\\u0665\\u066511999998888",
    "5511\\u00b9999998888",
    "\\ud83d\\udfd45511999998888",
    // Length.
    "4412345",
    "4912345678901234",
    "0",
    "33",
    "190",
    "+05511999998888",
    "235085806727321",
    "549351155556666",
    "999999999999999",
    "+44 (00)20 7946 0958",
    // Brazil: an existing area code, and a 9 before nine digits.
    "55",
    "5511",
    "55119999988889",
    "5511999998888999",
    "551099999888",
    "5510999998888",
    "5523988887777",
    "5511899998888",
    // North America: 11 digits, the second 2 to 9.
    "1",
    "120255501234",
    "+10025550123",
    "1202555",
    "1234567890123",
];

/// Numbers that could be numbers within some country.
const NATIONAL: [&str; 8] = [
    "4004-1234",
    "3003 1234",
    "21 98888-7777",
    "011 98888-7777",
    "0800 777 1234",
    "0044123456",
    "55119999988",
    "1202555012",
];

/// Numbers that a spreadsheet has converted.
const CONVERTED: [&str; 6] =
    ["551198887777.0", "447911123456.0", "5511988887777,00", "5,51199E+12", "5.51199e+12", "\\u200e551198887777.0"];

#[test]
fn numbers_are_accepted_in_common_notations() {
    let stage = Stage::set();
    stage.open("held", &["connect", "pause"]);
    for (typed, digits) in GOOD {
        let body = json!({"to": typed, "name": "Maria", "phone": typed}).to_string();
        let location = stage.accept("held", &[], &body);
        let message = stage.data(&location);
        // As given, without the white space around it; only the digits matter.
        assert_eq!((&message["to"], &message["contact"]["phone"]), (&json!(typed.trim()), &json!(typed.trim())));
        let vcard = stage.get(&format!("{location}/vcard")).expect(200);
        assert!(vcard.text().contains(&format!(";waid={digits}:+{digits}\r\n")), "{typed}: {}", vcard.text());
        let found = stage.rows(&format!("/v1/channels/held/messages?limit=100&to={digits}"));
        assert_eq!(found[0]["id"], message["id"], "{typed} is not found as {digits}");
    }
}

#[test]
fn an_invalid_number_is_refused_in_both_fields() {
    let stage = Stage::set();
    let own = [
        ("to", "O numero do destinatario deve estar no formato DDI+DDD+NUM."),
        ("phone", "O telefone do contato deve estar no formato DDI+DDD+NUM."),
    ];
    let both = |text| [("to", text), ("phone", text)];
    let country = both("Informe o numero com o codigo do pais (DDI+DDD+NUM).");
    let converted = both("O telefone parece ter sido convertido pela planilha.");
    let cases = [(BAD.as_slice(), own), (&NATIONAL, country), (&CONVERTED, converted)];
    for (bad, texts) in cases.iter().flat_map(|(all, texts)| all.iter().map(move |bad| (bad, texts))) {
        for fault in texts {
            let body = body_with(fault.0, &format!("\"{bad}\""));
            assert_faults(&body, &stage.send("sandbox", &[], &body), &[*fault]);
        }
    }
    assert_stored(&stage, "sandbox", 0);
}

/// Nothing of a refused number is stored.
#[test]
fn a_number_is_sent_to_by_its_digits() {
    let stage = Stage::set();
    let location = stage.accept("sandbox", &[], &card("+55 (11) 99999-0042", "Maria"));
    let message = stage.until(&location, "READ");
    assert_eq!(message["account"], "5511999990042");
    assert_eq!(stage.phone("5511999990042").len(), 1);
    assert_eq!(stage.phone("5511999990042")[0]["to"], "5511999990042");
}

/// The longest address: 254 characters, 64 of them before the `@`, 63 in a label.
fn longest_email() -> String {
    let (local, label) = ("l".repeat(64), "d".repeat(63));
    let email = format!("{local}@{label}.{label}.{}", "d".repeat(61));
    assert_eq!(email.len(), 254);
    email
}

#[test]
fn email_addresses_are_kept_as_they_were_given() {
    let stage = Stage::set();
    let longest = longest_email();
    let good = [
        "a@b.co",
        "maria.silva+tag@exemplo.com.br",
        "o'hara@x-y.example",
        "1@2.example",
        "jos\u{e9}@exemplo.com.br",
        "maria@caf\u{e9}.com.br",
        "用户@例子.公司",
        "!#$%&'*+-/=?^_`{|}~@example.org",
        &longest,
    ];
    for email in good {
        let message = stage.data(&stage.accept("sandbox", &[], &body_with("email", &json!(email).to_string())));
        assert_eq!(message["contact"]["email"], email);
    }
    let padded = stage.data(&stage.accept("sandbox", &[], &body_with("email", r#""\t a@b.co \n""#)));
    assert_eq!(padded["contact"]["email"], "a@b.co");
}

#[test]
fn an_invalid_email_address_is_refused() {
    let stage = Stage::set();
    let (too_long, long_local) = (format!("{}d", longest_email()), format!("{}@b.co", "l".repeat(65)));
    for email in [
        "a",
        "@",
        "a@",
        "@b.co",
        "a@b",
        "a@localhost",
        "a@b.",
        "a@.co",
        "a@b..co",
        "a@b.co.",
        "a..b@c.co",
        ".a@b.co",
        "a.@b.co",
        "a b@c.co",
        "a@b c.co",
        "a@b@c.co",
        "a@-b.co",
        "a@b-.co",
        "a,b@c.co",
        "a;b@c.co",
        "<a@b.co>",
        "Maria <a@b.co>",
        "Maria a@b.co",
        "mailto:a@b.co>",
        "a@[127.0.0.1]",
        "a@[IPv6:::1]",
        "a@b.co\nTEL:1",
        "a@b.co\0",
        "a\u{202e}@b.co",
        "a\u{200b}@b.co",
        "a@b\u{2028}.co",
        "a@b.co, c@d.co",
        &too_long,
        &long_local,
    ] {
        let body = body_with("email", &json!(email).to_string());
        let refused = [("email", "O email do contato e invalido.")];
        assert_faults(&body, &stage.send("sandbox", &[], &body), &refused);
    }
    assert_stored(&stage, "sandbox", 0);
}
