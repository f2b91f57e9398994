//! Phone numbers and e-mail addresses: what is taken, what is not, and what they mean.

use serde_json::json;

use super::{assert_stored, body_with};
use crate::v1::{Stage, assert_faults, card};

/// As a person types them, and the digits they mean.
const GOOD: [(&str, &str); 36] = [
    ("5511999998888", "5511999998888"),
    ("+5511999998888", "5511999998888"),
    ("+55 (11) 99999-8888", "5511999998888"),
    ("55.11.99999.8888", "5511999998888"),
    ("  5511999998888\t", "5511999998888"),
    ("(55)(11)9-9-9-9-9 8888", "5511999998888"),
    ("- 5511999998888 -", "5511999998888"),
    ("(+55) 11 99999/8888", "5511999998888"),
    // What does not show, dashes and white space of other kinds.
    ("\u{202a}+55 11 98888-7777\u{202c}", "5511988887777"),
    ("\u{feff}\u{200e}5511988887777\u{200b}", "5511988887777"),
    ("55\u{a0}11\u{2011}98888\u{2013}7777", "5511988887777"),
    ("\u{ff0b}5511988887777", "5511988887777"),
    // Brazil: mobiles of eight digits, landlines, free calls.
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
    // A trunk zero is no part of a number, but for Italy's.
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

/// What is no number, or one of no country; as it stands in a JSON string.
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
    // One sign, and in front.
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
    // Other digits than ASCII's.
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
    // Brazil: an area code that exists, a 9 in front of nine.
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

/// What could be a number within some country.
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

/// What a spreadsheet made of numbers.
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
        // As given, but for white space around it; the digits are what counts.
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

/// Whatever a number looks like, nothing of it is kept that was not asked for.
#[test]
fn a_number_is_sent_to_by_its_digits() {
    let stage = Stage::set();
    let location = stage.accept("sandbox", &[], &card("+55 (11) 99999-0042", "Maria"));
    let message = stage.until(&location, "READ");
    assert_eq!(message["account"], "5511999990042");
    assert_eq!(stage.phone("5511999990042").len(), 1);
    assert_eq!(stage.phone("5511999990042")[0]["to"], "5511999990042");
}

/// The longest address: 254 characters, 64 of them in front of the `@`, 63 in a label.
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
