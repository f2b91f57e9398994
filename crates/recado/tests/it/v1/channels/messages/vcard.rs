//! `GET /v1/channels/{channelId}/messages/{messageId}/vcard`: the card, byte for byte as it is sent.

use std::io::{Seek, Write};

use serde_json::{Value, json};

use crate::seed::{from_dev, tool};
use crate::v1::{Stage, text};

/// Waits for the phone to show the card of a message. Returns that card.
fn on_the_phone(stage: &Stage, location: &str, to: &str) -> String {
    stage.until(location, "READ");
    let shown = stage.phone(to);
    assert_eq!(shown.len(), 1, "{shown:?}");
    text(&shown[0], "vcard").to_owned()
}

#[test]
fn the_card_is_the_contract_s_and_the_phone_s() {
    let stage = Stage::set();
    for (number, (given, expected)) in [
        (
            json!({"name": "Maria Silva - Suporte", "phone": "5511988887777"}),
            "BEGIN:VCARD\nVERSION:3.0\nN:;Maria Silva - Suporte;;;\nFN:Maria Silva - Suporte\n\
             TEL;type=CELL;type=VOICE;waid=5511988887777:+5511988887777\nEND:VCARD",
        ),
        (
            json!({"name": "a;b,c\\d\"e:f", "phone": "+1 (202) 555-0123", "email": "o'hara@b.co", "organization": "x,y;z\\"}),
            "BEGIN:VCARD\nVERSION:3.0\nN:;a\\;b\\,c\\\\d\"e:f;;;\nFN:a\\;b\\,c\\\\d\"e:f\nORG:x\\,y\\;z\\\\\n\
             EMAIL;type=INTERNET:o'hara@b.co\nTEL;type=CELL;type=VOICE;waid=12025550123:+12025550123\nEND:VCARD",
        ),
        (
            json!({"name": "  José 👩‍👩‍👧 מריה END:VCARD ", "phone": "551133334444", "email": "", "organization": "Ação"}),
            "BEGIN:VCARD\nVERSION:3.0\nN:;José 👩‍👩‍👧 מריה END:VCARD;;;\nFN:José 👩‍👩‍👧 מריה END:VCARD\nORG:Ação\n\
             TEL;type=CELL;type=VOICE;waid=551133334444:+551133334444\nEND:VCARD",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let to = format!("551199999600{number}");
        let mut body = given;
        body["to"] = json!(to);
        let location = stage.accept("sandbox", &[], &body.to_string());
        let before = stage.get(&format!("{location}/vcard")).expect(200);
        assert_eq!(on_the_phone(&stage, &location, &to), expected);
        let after = stage.get(&format!("{location}/vcard")).expect(200);
        // In the file, unlike in the message, each line ends with CR and LF (RFC 2426, 2.6).
        let file = format!("{}\r\n", expected.replace('\n', "\r\n"));
        assert_eq!((before.text(), after.text()), (&*file, &*file));
    }
}

/// A strict reader, which refuses lines that end with LF alone. It leaves the escapes of texts as they are.
#[test]
fn a_program_of_others_reads_the_file() {
    const READ: &str = "const card = new (require('vcf'))().parse(require('fs').readFileSync(0, 'utf8'));
        const text = (name) => card.get(name).valueOf();
        console.log(JSON.stringify(['version', 'n', 'fn', 'org', 'email', 'tel'].map(text).concat(card.get('tel').waid)));";
    let stage = Stage::set();
    let body = json!({
        "to": "5511999996020", "name": "José Silva 👩‍👩‍👧", "firstName": "José", "lastName": "Silva",
        "phone": "5511988887777", "email": "jose@exemplo.com.br", "organization": "Silva & Filhos",
    });
    let card = stage.get(&format!("{}/vcard", stage.accept("sandbox", &[], &body.to_string()))).expect(200);
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&card.body).and_then(|()| file.rewind()).expect("written");
    let mut node = tool("node");
    node.env("NODE_PATH", from_dev("RECADO_TEST_NODE_PATH")).args(["-e", READ]).stdin(file);
    let read = node.output().expect("node is installed: run ./dev test");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let read: Value = serde_json::from_slice(&read.stdout).expect("JSON");
    let expected = json!([
        "3.0",
        "Silva;José;;;",
        "José Silva 👩‍👩‍👧",
        "Silva & Filhos",
        "jose@exemplo.com.br",
        "+5511988887777",
        "5511988887777",
    ]);
    assert_eq!(read, expected);
}

/// Long lines are not folded: WhatsApp does not unfold them.
#[test]
fn long_lines_stay_whole() {
    let stage = Stage::set();
    let name = "😀".repeat(200);
    let body = json!({"to": "5511999996010", "name": name, "phone": "5511988887777", "organization": name});
    let card = on_the_phone(&stage, &stage.accept("sandbox", &[], &body.to_string()), "5511999996010");
    assert_eq!(card.lines().nth(3), Some(&*format!("FN:{name}")));
    assert_eq!(card.lines().nth(4), Some(&*format!("ORG:{name}")));
    assert_eq!(card.lines().count(), 7);
}

#[test]
fn the_vcard_is_served_as_a_file() {
    let stage = Stage::set();
    stage.open("deleted", &["connect"]);
    let body = json!({"to": "5511999996020", "name": "x\"; filename=\"evil.exe", "phone": "5511988887777"}).to_string();
    let location = stage.accept("deleted", &[], &body);
    let first = stage.get(&format!("{location}/vcard")).expect(200);
    assert_eq!(first.header("Content-Type"), Some("text/vcard; charset=utf-8"));
    let disposition = first.header("Content-Disposition").expect("Content-Disposition");
    assert!(disposition.starts_with("attachment") && disposition.ends_with(".vcf\""), "{disposition}");
    assert!(!disposition.contains("evil"), "{disposition}");
    assert!(first.header("X-Request-Id").is_some());
    stage.until(&location, "READ");
    stage.server.delete("/v1/channels/deleted", Some(&stage.key)).expect(200);
    let kept = stage.get(&format!("{location}/vcard")).expect(200);
    assert_eq!(kept.body, first.body);
}
