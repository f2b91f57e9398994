//! `recado send`.

use recado_domain::kinds::KINDS;
use serde_json::json;

use super::{assert_fails, run_in};
use crate::harness::{Ended, Home, recado};
use crate::v1::Stage;

const CARD: [&str; 8] =
    ["send", "contact", "--name", "Maria Silva", "--phone", "5511988887777", "--channel", "sandbox"];

#[test]
fn a_card_is_sent_and_waited_for() {
    let stage = Stage::set();
    let send = |more: &[&str]| run_in(stage.home.dir(), &[&CARD, more].concat());
    let more = ["--to", "+55 (11) 99999-8888", "--email", "maria@exemplo.com.br", "--organization", "Exemplo"];
    let output = send(&[&more[..], &["--wait"]].concat());
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(printed.contains("QUEUED") && printed.contains("DELIVERED"), "{printed}");
    let id = printed.lines().next().expect("an id");
    let shown = stage.home.cli(&["messages", "show", id, "--channel", "sandbox"]);
    let contact = json!({"name": "Maria Silva", "phone": "5511988887777", "email": "maria@exemplo.com.br", "organization": "Exemplo"});
    assert_eq!(shown["contact"], contact);
    let failed = send(&["--to", "5511999998888", "--scenario", "number_not_on_whatsapp", "--wait", "--json"]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let failed: serde_json::Value = serde_json::from_slice(&failed.stdout).expect("one JSON object");
    assert_eq!(failed["error"]["code"], "NUMBER_NOT_ON_WHATSAPP");
    // The same key makes the same message.
    let twice = || stage.home.cli(&[&CARD[..], &["--to", "5511999998888", "--idempotency-key", "k1"]].concat());
    assert_eq!(twice()["id"], twice()["id"]);
}

#[test]
fn the_help_of_each_kind_begins_with_what_it_does() {
    for kind in KINDS {
        for flag in ["--help", "-h"] {
            let output = recado().args(["send", kind.name, flag]).ended();
            let printed = String::from_utf8_lossy(&output.stdout);
            assert!(printed.starts_with(kind.title.0), "{}: {printed}", kind.name);
        }
    }
}

#[test]
fn each_kind_is_sent_with_its_fields() {
    let stage = Stage::set();
    let common = ["--channel", "sandbox", "--to", "5511999998888", "--reference", "p1", "--ttl", "60"];
    let card = r#"[{"name":"Ana","phones":[{"phone":"5511988887777"}]}]"#;
    let contact =
        ["--name", "Ana", "--phone", "5511988887777", "--website", "https://a.co", "--birthday", "1990-08-18"];
    for (kind, args, field, value) in [
        ("text", &["--content", "Ola,\nMaria"][..], "/text/content", json!("Ola,\nMaria")),
        ("location", &["--latitude", "-23.5", "--longitude", "10"], "/location/latitude", json!(-23.5)),
        ("contact", &contact, "/contact/url", json!("https://a.co")),
        ("contact", &["--contacts", card], "/contacts/0/name", json!("Ana")),
    ] {
        let sent = stage.home.cli(&[&["send", kind], &common[..], args].concat());
        assert_eq!((&sent["type"], &sent["reference"]), (&json!(kind), &json!("p1")));
        assert_eq!(sent.pointer(field), Some(&value), "{sent}");
    }
    let refused = run_in(
        stage.home.dir(),
        &["send", "location", "--channel", "sandbox", "--to", "5511999998888", "--latitude", "x", "--longitude", "91"],
    );
    assert_fails(&refused, 1, &["latitude: The field latitude must be a number"]);
    let missing = run_in(stage.home.dir(), &["send", "text", "--channel", "sandbox", "--to", "5511999998888"]);
    assert_fails(&missing, 2, &["--content"]);
}

#[test]
fn a_file_of_texts_is_sent_line_by_line() {
    let stage = Stage::set();
    let file = std::path::Path::new(stage.home.dir()).join("texts.csv");
    let lines = "para,mensagem,reference,linkPreview\n5511999998888,\"a\nb\",p1,\n5511999998888,c,,true\n";
    std::fs::write(&file, lines).expect("a file");
    let args = ["send", "text", "--channel", "sandbox", "--csv", file.to_str().expect("UTF-8"), "--json"];
    let run = || {
        let output = run_in(stage.home.dir(), &args);
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    };
    let first = run();
    assert_eq!((&first["accepted"], &first["refused"]), (&json!(1), &json!(1)), "a preview is not offered: {first}");
    let results =
        std::fs::read_to_string(std::path::Path::new(stage.home.dir()).join("texts.results.csv")).expect("results");
    assert!(
        results
            .starts_with("line,status,messageId,code,reason,to,content,linkPreview,reference,account,idempotencyKey\n"),
        "{results}"
    );
    assert!(results.contains("NOT_SUPPORTED_BY_CHANNEL"), "{results}");
    assert_eq!(run()["alreadySent"], 1);
    let sent = stage.rows("/v1/channels/sandbox/messages");
    assert_eq!((sent.len(), &sent[0]["content"]), (1, &json!("a\nb")));
}

#[test]
fn a_refused_card_reports_the_reason() {
    let home = Home::init();
    let send = |args: &[&str]| run_in(home.dir(), &[&["send", "contact"], args].concat());
    let bad = send(&["--to", "99", "--name", "", "--phone", "1", "--channel", "sandbox"]);
    assert_fails(&bad, 1, &["to: The recipient's number", "name: The contact's name", "phone: The contact's phone"]);
    let scenario = ["--to", "5511999998888", "--name", "x", "--phone", "5511988887777", "--scenario", "x"];
    assert_fails(&send(&[&scenario[..], &["--channel", "sandbox"]].concat()), 1, &["Unknown scenario"]);
    assert_fails(&send(&[&scenario[..6], &["--channel", "none"]].concat()), 1, &["There is no such channel"]);
    let large = "x".repeat(70_000);
    let large = send(&["--to", "5511999998888", "--name", &large, "--phone", "1", "--channel", "sandbox"]);
    assert_fails(&large, 1, &["The body is too large"]);
    // Without a server a message is neither awaited nor accepted, so a repeated command sends one message.
    let output = send(&[&scenario[..6], &["--channel", "sandbox", "--wait"]].concat());
    assert_fails(&output, 4, &["recado serve"]);
    assert_eq!(home.cli(&["messages", "list", "--channel", "sandbox"]), json!([]));
}
