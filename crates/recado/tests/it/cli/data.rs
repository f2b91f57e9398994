//! `recado data`: a person's rights.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{assert_fails, mode, run_in};
use crate::harness::{Ended, Home, recado, wait_for};
use crate::v1::{Stage, card, text};

const MARIA: &str = "5531988887777";
const TWIN: &str = "553188887777";
const OTHER: &str = "5511977776666";

fn rows<'a>(document: &'a Value, list: &str) -> &'a [Value] {
    document[list].as_array().unwrap_or_else(|| panic!("no {list} in {document}"))
}

fn export(home: &Home, number: &str) -> Value {
    let output = run_in(home.dir(), &["data", "export", "--recipient", number]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The number of files of a data directory that contain these bytes.
fn files_with(home: &Home, bytes: &str) -> Vec<String> {
    let entries = std::fs::read_dir(&home.dir).expect("a directory").map(|entry| entry.expect("an entry"));
    let holds = |entry: &std::fs::DirEntry| {
        let file = std::fs::read(entry.path()).unwrap_or_default();
        file.windows(bytes.len()).any(|window| window == bytes.as_bytes())
    };
    entries.filter(holds).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Messages in every state, to one person by two numbers and to another person.
fn fill(stage: &Stage) -> String {
    stage.open("held", &["connect", "pause"]);
    let mut last = String::new();
    for to in [MARIA, OTHER, TWIN] {
        for n in 0..40 {
            last = stage.accept("sandbox", &[], &card(to, &format!("Card {n}")));
        }
        let key = format!("once-{to}");
        stage.accept("held", &[("Idempotency-Key", &key)], &card(to, "Waits"));
    }
    stage.until(&last, "READ");
    let failed = stage.accept("sandbox", &[("X-Ogmma-Sandbox-Scenario", "number_not_on_whatsapp")], &card(MARIA, "x"));
    stage.until(&failed, "FAILED");
    last
}

#[test]
fn a_person_is_exported_and_erased_beside_a_server() {
    let stage = Stage::set();
    let message = fill(&stage);
    let before = export(&stage.home, "+55 31 98888-7777");
    assert_eq!(before["numbers"], json!([MARIA, TWIN]));
    assert_eq!([rows(&before, "messages").len(), rows(&before, "sandbox").len()], [83, 80]);
    let keys: Vec<_> = rows(&before, "idempotencyKeys").iter().map(|key| text(key, "key")).collect();
    assert_eq!(keys, [format!("once-{MARIA}"), format!("once-{TWIN}")]);
    let first = &rows(&before, "messages")[0];
    assert_eq!((text(first, "recipient"), text(first, "status"), text(first, "channelId")), (MARIA, "READ", "sandbox"));
    assert_eq!(first["payload"]["contact"]["name"], "Card 0");
    assert!(text(first, "card").starts_with("BEGIN:VCARD") && first["queuedAt"].is_string(), "{first}");

    // Into a file that only its owner may read, and that must not exist yet.
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("maria.json");
    let path = file.to_str().expect("UTF-8");
    let args = ["data", "export", "--recipient", TWIN, "--output", path];
    assert!(run_in(stage.home.dir(), &args).status.success());
    let document: Value = serde_json::from_slice(&std::fs::read(&file).expect("a file")).expect("JSON");
    assert_eq!((rows(&document, "messages").len(), mode(&file)), (83, 0o600));
    let written = std::fs::read(&file).expect("a file");
    assert_fails(&run_in(stage.home.dir(), &args), 1, &["maria.json", "exists"]);
    assert_eq!(std::fs::read(&file).expect("a file"), written, "the file was touched");

    let erased = stage.home.cli(&["data", "erase", "--recipient", MARIA, "--yes"]);
    assert_eq!(
        ["messages", "cancelled", "idempotencyKeys", "sandbox", "sending"].map(|name| erased[name].as_u64()),
        [83, 2, 2, 80, 0].map(Some),
        "{erased}"
    );
    let after = export(&stage.home, MARIA);
    for list in ["messages", "idempotencyKeys", "contacts", "sandbox"] {
        assert!(rows(&after, list).is_empty(), "{after}");
    }
    stage.get(&message).expect(404);
    assert_eq!([stage.phone(MARIA).len(), stage.phone(OTHER).len()], [0, 40]);
    assert_eq!(rows(&export(&stage.home, OTHER), "messages").len(), 41);
    let again = stage.home.cli(&["data", "erase", "--recipient", TWIN, "--yes"]);
    assert!(again.as_object().expect("counts").values().all(|count| count == 0), "{again}");
    // The erased call is new again, and the messages to other people are still sent.
    let key = format!("once-{MARIA}");
    let answer = stage.send("held", &[("Idempotency-Key", &key)], &card(MARIA, "Waits")).expect(202);
    assert_eq!(answer.header("Idempotent-Replayed"), None);
    stage.act("held", "resume");
    wait_for("what waited for another", || stage.phone(OTHER).len() == 41);
    assert!(!stage.server.log().contains(MARIA) && !stage.server.log().contains(TWIN), "{}", stage.server.log());
}

#[test]
fn erased_data_is_in_no_file() {
    let stage = Stage::set();
    fill(&stage);
    assert!(files_with(&stage.home, MARIA).len() > 1, "this test shows nothing");
    stage.home.cli(&["data", "erase", "--recipient", MARIA, "--yes"]);
    // A page that was split may keep some bytes, so the files themselves are searched below.
    let logs = |number: &str| files_with(&stage.home, number).into_iter().filter(|name| name.ends_with("-wal")).count();
    assert_eq!([logs(MARIA), logs(TWIN)], [0, 0], "left in a log");
    let compact = ["data", "erase", "--recipient", MARIA, "--yes", "--compact"];
    assert_fails(&run_in(stage.home.dir(), &compact), 1, &["a server works on"]);
    drop(stage.server);
    assert_eq!(stage.home.cli(&compact)["messages"], 0);
    for number in [MARIA, TWIN] {
        assert_eq!(files_with(&stage.home, number), Vec::<String>::new(), "{number} is left");
    }
    let other = files_with(&stage.home, OTHER);
    assert!(other.len() == 2, "{other:?}");
    assert_eq!(stage.home.cli(&["data", "erase", "--recipient", OTHER, "--yes"])["messages"], 41);
}

#[test]
fn a_person_is_erased_without_a_server_and_by_institution() {
    let stage = Stage::set();
    fill(&stage);
    let other = stage.home.cli(&["institutions", "create", "--name", "Another"]);
    let id = text(&other, "id").to_owned();
    stage.send_with(text(&other, "testKey"), "sandbox", &[], &card(MARIA, "x")).expect(202);
    let Stage { server, home, .. } = stage;
    wait_for("the other institution's card", || rows(&export(&home, MARIA), "sandbox").len() == 81);
    drop(server);
    let erase = |args: &[&str]| home.cli(&[&["data", "erase", "--recipient", MARIA, "--yes"], args].concat());
    assert_eq!(erase(&["--institution", &id])["messages"], 1);
    assert_eq!(rows(&export(&home, MARIA), "messages").len(), 83);
    assert_eq!(erase(&[])["messages"], 83);
    assert!(rows(&export(&home, TWIN), "messages").is_empty());
    assert_fails(
        &run_in(home.dir(), &["data", "erase", "--recipient", MARIA, "--yes", "--institution", "x"]),
        1,
        &["no institution"],
    );
    assert_fails(&run_in(home.dir(), &["data", "export", "--recipient", "x"]), 1, &["DDI+DDD+NUM"]);
}

/// Without a terminal the confirmation must be given as a flag.
#[test]
fn erasing_needs_a_confirmation() {
    let home = Home::init();
    let mut command = recado();
    command.args(["data", "erase", "--recipient", MARIA, "--data-dir", home.dir()]).stdin(Stdio::null());
    assert_fails(&command.ended(), 2, &["--yes"]);
    // On a terminal the command asks, and only `yes` confirms.
    for (typed, code) in [("no", 1), ("yes", 0)] {
        let erase =
            format!("{} data erase --recipient {MARIA} --data-dir {}", env!("CARGO_BIN_EXE_recado"), home.dir());
        let script = format!("echo {typed} | script -qec '{erase}' /dev/null");
        let output = Command::new("bash").args(["-c", &script]).output().expect("bash runs");
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{stdout}");
        assert!(stdout.contains(MARIA) && stdout.contains(TWIN) && stdout.contains("Type yes"), "{stdout}");
    }
}
