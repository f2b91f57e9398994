//! `recado data`: a person's rights.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{assert_fails, mode, run_in};
use crate::harness::{Ended, Home, recado, wait_for};
use crate::receiver::Receiver;
use crate::v1::{Stage, card, simulate, text};

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

/// The files of a data directory, and of the directories in it, that contain these bytes.
fn files_with(home: &Home, bytes: &str) -> Vec<String> {
    let media = std::fs::read_dir(home.dir.join("media")).into_iter().flatten();
    let entries = std::fs::read_dir(&home.dir).expect("a directory").chain(media);
    let entries = entries.map(|entry| entry.expect("an entry"));
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

const LID: &str = "103899771998284";

/// A person writes to the sandbox.
fn writes(stage: &Stage, from: &Value, what: &Value) -> String {
    let mut body = what.clone();
    body.as_object_mut().expect("an object").extend(from.as_object().expect("an object").clone());
    text(&simulate(stage, &body), "messageId").to_owned()
}

/// The document about a person, from a store of either engine.
fn document(stage: &Stage, name: &str) -> Value {
    let mut command = recado();
    command.envs(stage.home.database.as_ref().map(|url| ("RECADO_DATABASE_URL", url)));
    command.args(["data", "export", "--recipient", name, "--data-dir", stage.home.dir()]);
    let output = command.ended();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// How many rows of all tables of the database contain this text, also as bytes.
fn rows_with(url: &str, text: &str) -> i64 {
    let digits = text.bytes().flat_map(|byte| [byte >> 4, byte & 15]);
    let hex: String = digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect();
    let sql = format!(
        "SELECT coalesce(sum((xpath('/row/n/text()', query_to_xml(format(
             'SELECT count(*) AS n FROM %I.%I AS t WHERE t::text LIKE %L OR t::text LIKE %L',
             schemaname, relname, '%{text}%', '%{hex}%'), false, true, '')))[1]::text::bigint), 0)::bigint
         FROM pg_stat_user_tables"
    );
    test_postgres::number(url, &sql)
}

/// A server that may fetch files of this machine.
fn stage_with_files(home: Home) -> Stage {
    Stage::of(home, &["--allow-networks", "127.0.0.0/8"])
}

/// People who wrote, one of them without a number: a dialogue, a file, a reaction, a quote and events.
fn fill_inbox(stage: &Stage) {
    stage.get("/v1/events").expect(200);
    let say = |words: &str| json!({"type": "text", "content": {"text": words}, "name": "Maria Segredo"});
    for (from, twin) in [(json!({"from": MARIA}), json!({"from": TWIN})), (json!({"lid": LID}), json!({"lid": LID}))] {
        for n in 0..5 {
            writes(stage, &from, &say(&format!("segredo {n}")));
        }
        writes(stage, &twin, &say("segredo de novo"));
        let host = Receiver::start(&[("", "um segredo de bytes")]);
        let file =
            json!({"type": "document", "content": {"url": host.url, "caption": "segredo"}, "name": "Maria Segredo"});
        let file = stage.data(&format!("/v1/channels/sandbox/messages/{}", writes(stage, &from, &file)));
        assert_eq!(stage.get(text(&file, "mediaUrl")).expect(200).text(), "um segredo de bytes");
    }
    let other =
        writes(stage, &json!({"from": OTHER}), &json!({"type": "text", "content": {"text": "Oi"}, "name": "Bruno"}));
    let group =
        json!({"type": "text", "content": {"text": "segredo no grupo"}, "group": "Amigos", "name": "Maria Segredo"});
    let in_group = writes(stage, &json!({"from": MARIA}), &group);
    let quote = json!({"type": "text", "content": {"text": "Bem dito"}, "group": "Amigos", "name": "Bruno", "replyTo": in_group});
    let quoting = writes(stage, &json!({"from": OTHER}), &quote);
    let reaction = json!({"type": "reaction", "content": {"messageId": quoting, "emoji": "👍"}, "group": "Amigos"});
    stage
        .server
        .post("/v1/sandbox/simulate/incoming", &stage.key, &{
            let mut body = reaction;
            body["from"] = json!(MARIA);
            body
        })
        .expect(202);
    assert_eq!(stage.data(&format!("/v1/channels/sandbox/messages/{other}"))["content"], "Oi");
}

#[test]
fn what_a_person_wrote_is_exported_and_erased_from_every_table() {
    let database = test_postgres::Database::new();
    for home in [Home::init(), Home::on_postgres(database.url())] {
        let stage = &stage_with_files(home);
        fill_inbox(stage);
        assert_eq!(files_with(&stage.home, "um segredo de bytes").len(), 2);
        let about = document(stage, MARIA);
        // One contact, and one conversation.
        assert_eq!([rows(&about, "received").len(), rows(&about, "people").len()], [8, 2], "{about}");
        assert_eq!(rows(&about, "people")[0]["name"], "Maria Segredo");
        assert_eq!(rows(&about, "people")[1]["type"], "CONVERSATION");
        assert_eq!(rows(&about, "received")[0]["content"], "segredo 0");
        // A hidden id names the same person as the address of the chat.
        let hidden = format!("{LID}@lid");
        let about = document(stage, &hidden);
        assert_eq!([rows(&about, "received").len(), rows(&about, "people").len()], [7, 2], "{about}");

        for name in [MARIA, &hidden] {
            let erased = stage.home.cli(&["data", "erase", "--recipient", name, "--yes"]);
            assert!(erased["received"].as_u64().is_some_and(|count| count >= 6), "{erased}");
            assert_eq!((&erased["people"], &erased["conversations"]), (&json!(1), &json!(1)), "{erased}");
            let after = document(stage, name);
            for list in ["received", "people"] {
                assert!(rows(&after, list).is_empty(), "{after}");
            }
            let again = stage.home.cli(&["data", "erase", "--recipient", name, "--yes"]);
            assert!(again.as_object().expect("counts").values().all(|count| count == 0), "{again}");
        }
        assert_eq!(files_with(&stage.home, "um segredo de bytes"), Vec::<String>::new(), "bytes are left");
        if let Some(url) = &stage.home.database {
            for name in [MARIA, TWIN, LID, "segredo", "Segredo"] {
                assert_eq!(rows_with(url, name), 0, "{name} is left in a table");
            }
            assert!(rows_with(url, OTHER) > 0, "this test shows nothing");
        }
        // The others are as they were.
        let other = document(stage, OTHER);
        assert_eq!([rows(&other, "received").len(), rows(&other, "people").len()], [2, 2], "{other}");
        let quote =
            rows(&other, "received").iter().find(|message| message["content"] == "Bem dito").expect("the quote");
        assert_eq!((&quote["replyTo"]["content"], &quote["reactions"]), (&Value::Null, &json!([])), "{quote}");
        assert!(!stage.server.log().contains(MARIA) && !stage.server.log().contains(LID), "{}", stage.server.log());
    }
}

#[test]
fn what_a_person_wrote_is_in_no_file_afterwards() {
    let stage = stage_with_files(Home::init());
    fill_inbox(&stage);
    let Stage { server, home, .. } = stage;
    for name in [MARIA, LID, "segredo"] {
        assert!(!files_with(&home, name).is_empty(), "this test shows nothing");
    }
    drop(server);
    for name in [MARIA, &format!("{LID}@lid")] {
        home.cli(&["data", "erase", "--recipient", name, "--yes", "--compact"]);
    }
    for name in [MARIA, TWIN, LID, "segredo", "Segredo"] {
        assert_eq!(files_with(&home, name), Vec::<String>::new(), "{name} is left");
    }
    assert!(!files_with(&home, OTHER).is_empty(), "the others are left");
}

/// Her messages went to the number that she had before, which another person has now.
#[test]
fn what_went_to_a_former_number_is_erased_with_the_person() {
    const NEW: &str = "5521977776666";
    let database = test_postgres::Database::new();
    for home in [Home::init(), Home::on_postgres(database.url())] {
        let stage = &stage_with_files(home);
        let say = |words: &str| json!({"type": "text", "content": {"text": words}});
        writes(stage, &json!({"from": MARIA}), &say("Oi"));
        let to_maria = stage.accept("sandbox", &[], &card(MARIA, "Cartao da Maria"));
        stage.until(&to_maria, "READ");
        simulate(stage, &json!({"from": MARIA, "type": "number_change", "content": {"phone": NEW}}));
        writes(stage, &json!({"from": MARIA}), &say("Numero novo de Jose"));
        let to_jose = stage.accept("sandbox", &[], &card(MARIA, "Cartao do Jose"));
        stage.until(&to_jose, "READ");
        let erased = stage.home.cli(&["data", "erase", "--recipient", NEW, "--yes"]);
        assert_eq!((&erased["messages"], &erased["received"]), (&json!(1), &json!(1)), "{erased}");
        stage.get(&to_maria).expect(404);
        stage.get(&to_jose).expect(200);
        assert_eq!(rows(&document(stage, MARIA), "received").len(), 1);
    }
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
