//! `recado secrets`, and the sources of the secret key.

use std::path::PathBuf;
use std::process::{Command, Output};

use recado_domain::channel::{Actor, ChannelKey, ChannelState, Link};
use recado_store::clock::SystemEntropy;
use recado_store::sealed::{KeyRing, Place};
use recado_store::sqlite::SqliteStore;
use recado_store::{Channels, Links, Store};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::assert_fails;
use crate::harness::{Ended, Home, Server, recado, wait_for};
use crate::v1::{every_scope, text};
use crate::webhooks::LOOPBACK;

pub(super) const OLD: &str = "0d1f0d1f0d1f0d1f0d1f0d1f0d1f0d1f0d1f0d1f0d1f0d1f0d1f0d1f0d1f0d1f";
pub(super) const NEW: &str = "4e574e574e574e574e574e574e574e574e574e574e574e574e574e574e574e57";
const TOKEN: &[u8] = b"EAAG-token";

fn ring(keys: &str) -> KeyRing {
    KeyRing::parse(keys).expect("keys")
}

pub(super) fn key_id(keys: &str) -> String {
    ring(keys).first().expect("a key").to_string()
}

fn on_store<T>(home: &Home, work: impl AsyncFnOnce(&SqliteStore) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = SqliteStore::open(&home.dir.join("recado.db")).expect("the store opens");
        let done = work(&store).await;
        store.close().await;
        done
    })
}

/// Creates channels with these ids, each with a link that these keys have encrypted.
pub(super) fn linked(home: &Home, channels: &[(&str, &str)]) -> Vec<ChannelKey> {
    for (id, _) in channels {
        home.cli(&["channels", "create", "--name", "x", "--type", "SANDBOX", "--id", id]);
    }
    on_store(home, async |store| {
        let mut keys = Vec::new();
        let all = store.channels().await.expect("read");
        for (id, sealing) in channels {
            let key = all.iter().find(|channel| channel.id.as_str() == *id).expect("it was made").key;
            let sealed = ring(sealing).seal(Place::Link(key), TOKEN, &SystemEntropy).expect("a key");
            write(store, Link { channel: key, details: "{}".to_owned(), sealed }, ChannelState::Created).await;
            keys.push(key);
        }
        keys
    })
}

async fn write(store: &SqliteStore, link: Link, expected: ChannelState) {
    assert!(store.link_channel(link, expected, Actor::Operator, 1).await.expect("stored"));
}

fn links(home: &Home) -> Vec<Link> {
    on_store(home, async |store| store.links().await.expect("read"))
}

/// Fails if the output contains a key or a secret.
#[track_caller]
fn assert_shows_no_key(printed: &[u8]) {
    let printed = String::from_utf8_lossy(printed);
    // Parts of a key are refused too.
    for hidden in [&OLD[..12], &NEW[..12], "EAAG"] {
        assert!(!printed.contains(hidden), "{printed}");
    }
}

/// Runs a command with these keys in its environment, and checks that it prints none.
fn run_with(home: &Home, keys: Option<&str>, args: &[&str]) -> Output {
    let mut command = recado();
    command.args(args).args(["--data-dir", home.dir()]).envs(keys.map(|keys| ("RECADO_SECRET_KEY", keys)));
    run(command)
}

fn run(mut command: Command) -> Output {
    let output = command.ended();
    assert_shows_no_key(&output.stdout);
    assert_shows_no_key(&output.stderr);
    output
}

fn printed(output: &Output, code: i32) -> Value {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn rotate(home: &Home, keys: Option<&str>, code: i32) -> Value {
    printed(&run_with(home, keys, &["secrets", "rotate", "--json"]), code)
}

/// The result of `doctor` about the key: the status and the text.
fn doctor(home: &Home, keys: Option<&str>) -> (String, String) {
    key_check(&run_with(home, keys, &["doctor", "--json", "--listen", "127.0.0.1:0"]))
}

fn key_check(output: &Output) -> (String, String) {
    let checks: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let checks = checks.as_array().expect("a list");
    let check = checks.iter().find(|check| check["name"] == "secret key").expect("its result");
    assert_eq!(output.status.code() == Some(1), check["status"] == "fail", "{output:?}");
    (text(check, "status").to_owned(), format!("{} {}", text(check, "found"), check["toDo"]))
}

#[track_caller]
fn assert_reported((status, words): (String, String), expected: &str, word: &str) {
    assert!(status == expected && words.contains(word), "{status} {words}");
}

fn serve(home: &Home, keys: &str) -> Server {
    let mut command = recado();
    command.args(["serve", "--data-dir", home.dir(), "--listen", "127.0.0.1:0", "--log", "trace"]);
    command.env("RECADO_SECRET_KEY", keys);
    Server::start(command, home)
}

#[test]
fn a_new_key_is_printed_alone_and_is_one() {
    let made = || recado().args(["secrets", "new-key"]).ended();
    let [one, two] = [made(), made()];
    assert!(one.status.success() && one.stderr.is_empty(), "{one:?}");
    assert_ne!(one.stdout, two.stdout);
    let key = String::from_utf8(one.stdout.clone()).expect("UTF-8");
    assert!(key.len() == 65 && key.trim_end().bytes().all(|digit| digit.is_ascii_hexdigit()), "{key:?}");
    // The output is a valid key file.
    let home = Home::init();
    let file = home.dir.with_extension("key");
    std::fs::write(&file, &one.stdout).expect("a file");
    let mut command = recado();
    command.args(["secrets", "rotate", "--json", "--data-dir", home.dir()]).env("RECADO_SECRET_KEY_FILE", &file);
    assert_eq!(printed(&run(command), 0)["keyId"], key_id(&key));
}

/// The steps of the operations page: new and old key, restart, rotate, new key alone, restart. The first state is also that
/// of an interrupted rotation: some rows have the new key already.
#[test]
fn keys_are_rotated_beside_a_server() {
    let home = Home::init();
    linked(&home, &[("a", OLD), ("b", NEW), ("c", OLD)]);
    let both = format!("{NEW},{OLD}");
    assert_reported(doctor(&home, Some(&both)), "warn", "2 of 3 secrets are encrypted with an older key");

    let server = serve(&home, &both);
    let expected = |rotated: u8, already: u8| json!({"keyId": key_id(NEW), "sealedAnew": rotated, "already": already, "failed": []});
    // The server has the keys; a command that calls it needs none.
    assert_eq!(rotate(&home, None, 0), expected(2, 1));
    assert_eq!(rotate(&home, None, 0), expected(0, 3));
    let people = run_with(&home, None, &["secrets", "rotate"]);
    let stdout = String::from_utf8_lossy(&people.stdout);
    assert!(stdout.contains("0 re-encrypted, 3 were current") && stdout.contains("no older key"), "{stdout}");
    assert_shows_no_key(server.log().as_bytes());
    server.kill();

    for link in links(&home) {
        let plain = ring(NEW).open(Place::Link(link.channel), &link.sealed).expect("the new key alone opens it");
        assert_eq!(plain.expose_secret(), TOKEN);
    }
    assert_reported(doctor(&home, Some(NEW)), "ok", &format!("{} decrypts all secrets (3)", key_id(NEW)));
    let server = serve(&home, NEW);
    assert_eq!(rotate(&home, None, 0), expected(0, 3));
    assert_shows_no_key(server.log().as_bytes());
}

#[test]
fn unreadable_secrets_are_reported_and_unchanged() {
    let home = Home::init();
    let keys = linked(&home, &[("lost", OLD), ("kept", NEW), ("moved", NEW)]);
    on_store(&home, async |store| {
        let mut links = store.links().await.expect("read");
        links[2].sealed = links[1].sealed.clone();
        write(store, links.remove(2), ChannelState::Connected).await;
    });
    let before = links(&home);
    let done = rotate(&home, Some(NEW), 1);
    assert_eq!((&done["sealedAnew"], &done["already"]), (&json!(0), &json!(1)));
    let failed = done["failed"].as_array().expect("a list");
    let named: Vec<_> = failed.iter().map(|one| (text(one, "channelId"), text(one, "institutionId"))).collect();
    assert_eq!(named, [("lost", &*home.institution), ("moved", &home.institution)]);
    assert!(text(&failed[0], "error").contains(&key_id(OLD)), "{done}");
    assert!(text(&failed[1], "error").contains("belongs to another place"), "{done}");
    let people = run_with(&home, Some(NEW), &["secrets", "rotate"]);
    let stdout = String::from_utf8_lossy(&people.stdout);
    assert!(stdout.contains("not opened: channel lost: ") && !stdout.contains("no older key"), "{stdout}");

    // The other key decrypts one of the two.
    let done = rotate(&home, Some(&format!("{NEW} {OLD}")), 1);
    assert_eq!((&done["sealedAnew"], &done["already"]), (&json!(1), &json!(1)));
    let after = links(&home);
    assert_eq!(after[1..], before[1..]);
    assert!(ring(NEW).open(Place::Link(keys[0]), &after[0].sealed).is_ok());
}

#[test]
fn doctor_tries_the_key() {
    let home = Home::init();
    assert_reported(doctor(&home, None), "ok", "none, and nothing is encrypted");
    assert_reported(doctor(&home, Some(NEW)), "ok", &key_id(NEW));
    linked(&home, &[("a", OLD), ("b", NEW)]);
    assert_reported(doctor(&home, None), "fail", "2 of 2 secrets cannot be opened: there is no secret key");
    assert_reported(
        doctor(&home, Some(NEW)),
        "fail",
        &format!("1 of 2 secrets cannot be opened: the secret key with the id {}", key_id(OLD)),
    );
    assert_reported(doctor(&home, Some("x")), "fail", "no secret key can be read from RECADO_SECRET_KEY");
    home.cli(&["channels", "delete", "a"]);
    assert_reported(doctor(&home, Some(NEW)), "ok", "decrypts all secrets (1)");

    let file = home.dir.with_extension("key");
    std::fs::write(&file, NEW).expect("a file");
    for (mode, status) in [(0o644, "warn"), (0o640, "ok")] {
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("a mode");
        let mut command = recado();
        command.args(["doctor", "--json", "--listen", "127.0.0.1:0", "--data-dir", home.dir()]);
        command.arg("--secret-key-file").arg(&file);
        assert_reported(key_check(&run(command)), status, &key_id(NEW));
    }
}

#[test]
fn an_unreadable_secret_key_is_reported_and_not_shown() {
    let home = Home::init();
    let file = home.dir.with_extension("key");
    let broken = format!("{NEW}\n{}", &OLD[1..]);
    std::fs::write(&file, &broken).expect("a file");
    let empty = home.dir.with_extension("empty");
    std::fs::write(&empty, "\n").expect("a file");
    let nowhere = home.dir.with_extension("nowhere");
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    let list = ["institutions", "list"];
    for (args, key, file, words) in [
        (&serve[..], Some(&*broken), None, &["RECADO_SECRET_KEY", "number 2", "new-key"][..]),
        (&list, Some(&broken), None, &["RECADO_SECRET_KEY", "number 2", "new-key"]),
        (&serve, Some(""), None, &["RECADO_SECRET_KEY", "holds no key"]),
        (&serve, None, Some(&file), &[".key", "number 2"]),
        (&list, None, Some(&empty), &[".empty", "holds no key"]),
        (&serve, None, Some(&nowhere), &["cannot read the secret key", ".nowhere", "No such file"]),
        (&list, None, Some(&home.dir), &["cannot read the secret key", "directory"]),
        (&serve, Some(NEW), Some(&file), &["both given"]),
    ] {
        let mut command = recado();
        command.args(args).args(["--data-dir", home.dir()]);
        command.envs(key.map(|key| ("RECADO_SECRET_KEY", key)));
        command.envs(file.map(|file: &PathBuf| ("RECADO_SECRET_KEY_FILE", file)));
        assert_fails(&run(command), 1, words);
    }
    // The flag of the server is the same setting.
    let mut command = recado();
    command.args(serve).args(["--data-dir", home.dir(), "--secret-key-file"]).arg(&file);
    assert_fails(&run(command), 1, &[".key", "number 2"]);
    for args in [&["serve", "--help"][..], &["secrets", "--help"], &["doctor", "--help"]] {
        let mut command = recado();
        command.args(args).env("RECADO_SECRET_KEY", NEW);
        assert!(run(command).status.success());
    }
}

#[test]
fn without_a_key_nothing_is_sealed() {
    let home = Home::init();
    assert_fails(&run_with(&home, None, &["secrets", "rotate"]), 1, &["RECADO_SECRET_KEY"]);
    let create = ["channels", "create", "--name", "x", "--type", "WHATSAPP_WABA"];
    assert_fails(&run_with(&home, None, &create), 1, &["RECADO_SECRET_KEY"]);
    assert!(run_with(&home, Some(NEW), &create).status.success());
}

#[test]
fn a_key_that_is_missing_for_a_webhook_is_noticed() {
    let home = Home::init();
    let start = |keys: &str| {
        let mut command = home.command(&LOOPBACK);
        command.env("RECADO_SECRET_KEY", keys);
        Server::start(command, &home)
    };
    let ready = |server: &Server| server.get("/health/ready", None).expect(200).json();
    let wrong = json!({"status": "ok", "warnings": ["secret_key"]});
    let stop = |server: Server| {
        server.terminate();
        assert_eq!(server.wait().code(), Some(0));
    };
    let server = start(OLD);
    let hook = json!({"url": "http://127.0.0.1:1024/", "events": ["message.*"]});
    server.post("/v1/webhooks", &every_scope(&home), &hook).expect(201);
    stop(server);
    // No channel needs the key, and the webhook does.
    let server = start(NEW);
    wait_for("the warning", || ready(&server) == wrong);
    assert_eq!(home.cli(&["status"])["secretKeyOk"], false);
    let log = server.log();
    assert!(log.contains("stored secrets not readable") && log.contains("kind=\"webhooks\""), "{log}");
    assert!(log.contains(&key_id(OLD)), "{log}");
    stop(server);

    let store = || rusqlite::Connection::open(home.dir.join("recado.db")).expect("the store");
    let secret = || store().query_row("SELECT secret FROM webhooks", [], |row| row.get::<_, Vec<u8>>(0)).expect("one");
    let of_old = secret();
    let server = start(&format!("{NEW},{OLD}"));
    home.cli(&["secrets", "rotate"]);
    assert_ne!(secret(), of_old);
    stop(server);
    let server = start(NEW);
    assert_eq!(home.cli(&["status"])["secretKeyOk"], true);
    // As if another node, with another key, had sealed it. A rotation is a reason to look again, and so is an hour.
    let of_new = secret();
    store().execute("UPDATE webhooks SET secret = ?1", [&of_old]).expect("changed");
    let done = rotate(&home, None, 1);
    assert!(text(&done["failed"][0], "error").contains(&key_id(OLD)), "{done}");
    wait_for("the warning", || ready(&server) == wrong);
    store().execute("UPDATE webhooks SET secret = ?1", [&of_new]).expect("changed");
    rotate(&home, None, 0);
    wait_for("the end of the warning", || ready(&server) == json!({"status": "ok"}));
    // A message that the store has refused waits for its key, too.
    let keep = "INSERT INTO refused_arrivals (channel_key, id, names, sealed, since, tries, next_at)
                VALUES (1, x'00', ' ', ?1, 0, 0, 9223372036854775807)";
    store().execute(keep, [&of_old]).expect("inserted");
    rotate(&home, None, 1);
    wait_for("the warning", || ready(&server) == wrong);
    wait_for("the line in the log", || server.log().contains("kind=\"refused\""));
}
