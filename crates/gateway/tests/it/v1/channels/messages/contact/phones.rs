//! Phone numbers and e-mail addresses: what is taken, what is not, and what they mean.

use serde_json::json;

use super::{assert_stored, body_with};
use crate::v1::{Stage, assert_faults, card};

/// As a person types them, and the digits they mean.
const GOOD: [(&str, &str); 24] = [
    ("5511999998888", "5511999998888"),
    ("+5511999998888", "5511999998888"),
    ("+55 (11) 99999-8888", "5511999998888"),
    ("55.11.99999.8888", "5511999998888"),
    ("  5511999998888\t", "5511999998888"),
    ("(55)(11)9-9-9-9-9 8888", "5511999998888"),
    ("- 5511999998888 -", "5511999998888"),
    // Brazil's old form of eight digits, mobile and landline.
    ("551133334444", "551133334444"),
    ("551199998888", "551199998888"),
    ("559999999999", "559999999999"),
    ("5599912345678", "5599912345678"),
    ("5511900000000", "5511900000000"),
    ("12025550123", "12025550123"),
    ("+1 (202) 555-0123", "12025550123"),
    ("19995550123", "19995550123"),
    ("12222222222", "12222222222"),
    // Elsewhere the length alone counts: 8 to 15 digits.
    ("44123456", "44123456"),
    ("491234567890123", "491234567890123"),
    ("20000000", "20000000"),
    ("999999999999999", "999999999999999"),
    ("56987654321", "56987654321"),
    ("541112345678", "541112345678"),
    ("351912345678", "351912345678"),
    ("7-912-345-67-89", "79123456789"),
];

const BAD: [&str; 55] = [
    "+",
    "()",
    "-.-",
    "abc",
    "x5511999998888",
    "5511999998888x",
    "5511999998888 ext 2",
    "5511999998888;1",
    // One sign, and in front.
    "++5511999998888",
    "55+11999998888",
    "5511999998888+",
    "(+55)11999998888",
    // Other signs.
    "55/11/999998888",
    "55_11_999998888",
    "55,11999998888",
    "tel:5511999998888",
    "55\\u002011999998888\\t1",
    "55\\n11999998888",
    "55\\t11999998888",
    "55\\u0011999998888",
    "5511999998888\\u0000",
    "55\\u00a011999998888",
    "55\\u201011999998888",
    "\\u200e5511999998888",
    "\\u202d5511999998888",
    "\\uff0b5511999998888",
    // Other digits than ASCII's.
    "\\uff15\\uff1511999998888",
    "\\u0665\\u066511999998888",
    "5511\\u00b9999998888",
    "\\ud83d\\udfd45511999998888",
    // Length, and the first digit.
    "4412345",
    "4912345678901234",
    "0",
    "05511999998888",
    "0044123456",
    "00000000",
    "+05511999998888",
    // Brazil: 12 or 13 digits, no 0 in the DDD, a 9 in front of nine.
    "55",
    "5511",
    "55119999988",
    "55119999988889",
    "5511999998888999",
    "551099999888",
    "550199999888",
    "5510999998888",
    "5501999998888",
    "5511899998888",
    "5511099998888",
    // North America: 11 digits, the second 2 to 9.
    "1",
    "1202555012",
    "120255501234",
    "10025550123",
    "11025550123",
    "1202555",
    "1234567890123",
];

#[test]
fn numbers_are_taken_in_the_ways_people_write_them() {
    let stage = Stage::set();
    stage.open("held", &["connect", "pause"]);
    for (typed, digits) in GOOD {
        let body = json!({"to": typed, "name": "Maria", "phone": typed}).to_string();
        let location = stage.accept("held", &[], &body);
        let message = stage.data(&location);
        // As given, but for white space around it; the digits are what counts.
        assert_eq!((&message["to"], &message["contact"]["phone"]), (&json!(typed.trim()), &json!(typed.trim())));
        let vcard = stage.get(&format!("{location}/vcard")).expect(200);
        assert!(vcard.text().contains(&format!(";waid={digits}:+{digits}\n")), "{typed}: {}", vcard.text());
        let found = stage.rows(&format!("/v1/channels/held/messages?limit=100&to={digits}"));
        assert_eq!(found[0]["id"], message["id"], "{typed} is not found as {digits}");
    }
}

#[test]
fn what_is_no_number_is_refused_in_both_fields() {
    let stage = Stage::set();
    for bad in BAD {
        for (field, text) in [
            ("to", "O numero do destinatario deve estar no formato DDI+DDD+NUM."),
            ("phone", "O telefone do contato deve estar no formato DDI+DDD+NUM."),
        ] {
            let body = body_with(field, &format!("\"{bad}\""));
            assert_faults(&body, &stage.send("sandbox", &[], &body), &[(field, text)]);
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
fn what_is_no_email_address_is_refused() {
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
