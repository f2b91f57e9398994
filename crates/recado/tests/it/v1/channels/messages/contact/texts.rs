//! Names and organisations: any script and any emoji, but no character that breaks a card or deceives its reader.

use serde_json::json;

use super::{assert_stored, body_with};
use crate::v1::{Stage, assert_faults};

const FIELDS: [(&str, &str, &str); 2] = [
    ("name", "O nome do contato deve ter no maximo 200 caracteres.", "O nome do contato contem caracteres invalidos."),
    (
        "organization",
        "A organizacao do contato deve ter no maximo 200 caracteres.",
        "A organizacao do contato contem caracteres invalidos.",
    ),
];

#[test]
fn every_script_is_kept_as_it_was_given() {
    let stage = Stage::set();
    let texts = [
        "M",
        "João da Conceição",
        "Joa\u{303}o",
        "Łukasz Żółć",
        "Мария",
        "Μαρία",
        "山田 太郎",
        "김민수",
        "ماريا",
        "מריה",
        "मारिया",
        "มาเรีย",
        "O'Hara \"Bob\" <b>&amp;</b>",
        "a;b,c\\d:e",
        "{{name}} %s $1 `x`",
        "null",
        "0",
        "🙂",
        "👩‍👩‍👧‍👦",
        "👍🏽",
        "🇧🇷",
        "❤\u{fe0f}",
        "𝕸𝖆𝖗𝖎𝖆",
        "a\u{200d}b",
        "x\u{301}\u{302}\u{303}",
        "Al\u{a0}Pacino",
        "Al\u{3000}Pacino",
        // Marks and isolates that mixed scripts need; only the overrides deceive.
        "ABC \u{200e}מריה\u{200f} DEF",
        "\u{2068}Maria\u{2069}",
        "\u{202a}Maria\u{202c}",
        "\u{feff}Maria",
        "\u{e000} Maria",
        "END:VCARD",
        "\u{fffd}",
        "\u{10ffff} Maria",
    ];
    for text in texts {
        let body = json!({"to": "5511999998888", "phone": "5511988887777", "name": text, "organization": text});
        let contact = &stage.data(&stage.accept("sandbox", &[], &body.to_string()))["contact"];
        assert_eq!((&contact["name"], &contact["organization"]), (&json!(text), &json!(text)));
    }
    // The same texts with every character escaped, beyond the first plane as pairs.
    for text in texts {
        let escaped: Vec<_> = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        let location = stage.accept("sandbox", &[], &body_with("name", &format!("\"{}\"", escaped.concat())));
        assert_eq!(stage.data(&location)["contact"]["name"], text);
    }
}

#[test]
fn white_space_around_is_dropped() {
    let stage = Stage::set();
    let body = body_with("name", r#"" \t\r\n\u00a0\u3000Maria  Silva\u2003\n ""#);
    assert_eq!(stage.data(&stage.accept("sandbox", &[], &body))["contact"]["name"], "Maria  Silva");
}

#[test]
fn two_hundred_code_points_and_no_more() {
    let stage = Stage::set();
    // 7 code points a family, 2 a letter with its accent: the limit counts code points, not bytes or glyphs.
    let family = "👩\u{200d}👩\u{200d}👧\u{200d}👦";
    assert_eq!(family.chars().count(), 7);
    let fits = ["x".repeat(200), "😀".repeat(200), "e\u{301}".repeat(100), family.repeat(28), "x ".repeat(99) + "yz"];
    for (field, too_long, _) in FIELDS {
        for text in &fits {
            let padded = format!("  {text}\t");
            let message = stage.data(&stage.accept("sandbox", &[], &body_with(field, &json!(padded).to_string())));
            assert_eq!(message["contact"][field], **text);
            let over = format!("{text}{}", "y".repeat(201 - text.chars().count()));
            let answer = stage.send("sandbox", &[], &body_with(field, &json!(over).to_string()));
            assert_faults(&over, &answer, &[(field, too_long)]);
        }
    }
    assert_stored(&stage, "sandbox", 2 * fits.len());
}

#[test]
fn characters_that_break_or_deceive_are_refused() {
    let stage = Stage::set();
    let controls = (0..=0x1f).chain(0x7f..=0x9f);
    let others = [0x2028, 0x2029, 0x202d, 0x202e];
    for character in controls.chain(others).map(|code| char::from_u32(code).expect("a character")) {
        for (field, _, invalid) in FIELDS {
            let body = body_with(field, &json!(format!("Ma{character}ria")).to_string());
            assert_faults(&body, &stage.send("sandbox", &[], &body), &[(field, invalid)]);
        }
    }
    assert_stored(&stage, "sandbox", 0);
}

#[test]
fn something_must_show() {
    let stage = Stage::set();
    for text in [
        "\u{200b}",
        "\u{200c}\u{200d}",
        "\u{2060}",
        "\u{feff}",
        "\u{ad}",
        "\u{34f}",
        "\u{180e}",
        "\u{fe0f}",
        "\u{115f}",
        "\u{1160}",
        "\u{3164}",
        "\u{ffa0}",
        "\u{2800}",
        "\u{200e}\u{200f}",
        "\u{61c}",
        "\u{2066}\u{2069}",
        "\u{202a}\u{202c}",
        "\u{2061}\u{2064}",
        "\u{e0001}",
        "\u{e0061}\u{e007f}",
        "\u{e0100}",
        "\u{1d173}",
        "\u{200b} \u{200b}",
        "\u{200b}\u{a0}\u{200b}",
    ] {
        for (field, _, invalid) in FIELDS {
            let body = body_with(field, &json!(text).to_string());
            assert_faults(&format!("{text:?}"), &stage.send("sandbox", &[], &body), &[(field, invalid)]);
        }
    }
    assert_stored(&stage, "sandbox", 0);
}
