//! `recado restore`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::secrets::{NEW, OLD, key_id, linked};
use super::{assert_fails, mode, run_in};
use crate::harness::{Ended, Home, recado, wait_for};
use crate::v1::{CARD, Stage, card, text};

/// A directory for a backup, and for what is restored from it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes a backup.
    fn back_up(&self, home: &Home, name: &str) -> PathBuf {
        let path = self.path(name);
        home.cli(&["backup", "--to", path.to_str().expect("UTF-8")]);
        path
    }
}

fn restore(from: &Path, to: &Path, flags: &[&str]) -> Output {
    recado().args(["restore", "--json"]).arg(from).arg("--data-dir").arg(to).args(flags).ended()
}

#[track_caller]
fn printed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

/// The same institution and keys in another directory.
fn at(home: Home, dir: PathBuf) -> Home {
    Home { temporary: None, dir, ..home }
}

#[test]
fn a_restored_store_sends_nothing_before_its_channels_are_resumed() {
    let (stage, place) = (Stage::set(), Place::new());
    let sent = stage.accept("sandbox", &[], CARD);
    stage.until(&sent, "READ");
    stage.open("held", &["connect", "pause"]);
    let waiting = stage.accept("held", &[], &card("5511999997777", "Waits"));
    stage.act("held", "disconnect");
    stage.open("made", &[]);
    let backup = place.back_up(&stage.home, "backup");
    let later = stage.accept("sandbox", &[], CARD);
    stage.server.kill();
    let report = restore(&backup, &place.path("restored"), &[]);
    let report = printed(&report);
    assert_eq!(
        report["sentAgain"],
        json!([{ "channel": "held", "environment": "test", "queued": 1, "sending": 0, "scheduled": 0, "unknown": 0 }])
    );
    let paused = |id: &str| json!({ "channel": id, "environment": "test", "state": "PAUSED" });
    let channels = report["channels"].as_array().expect("a list");
    assert!(channels.contains(&paused("sandbox")) && channels.contains(&paused("held")), "{report}");
    assert!(!channels.contains(&paused("made")), "a channel that was never connected: {report}");
    assert!(report["madeAt"].is_string() && report["missing"]["receivedFiles"] == 0, "{report}");

    let dir = place.path("restored");
    assert_eq!((mode(&dir), mode(&dir.join("recado.db"))), (0o700, 0o600));
    assert!(!dir.join("recado.restoring").exists());
    let home = at(stage.home, dir);
    let server = home.serve();
    let get = |path: &str| server.get(path, Some(&stage.key));
    let status = |path: &str| text(&get(path).expect(200).json()["data"], "status").to_owned();
    assert_eq!(status(&sent), "READ");
    get(&later).expect(404);
    let after = server.call(
        "POST",
        &crate::v1::contact_path("sandbox"),
        Some(&stage.key),
        &[crate::v1::JSON],
        Some(CARD.as_bytes()),
    );
    let after = crate::v1::location(&after.expect(202));
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!((status(&waiting), status(&after)), ("QUEUED".to_owned(), "QUEUED".to_owned()));
    for channel in ["held", "sandbox"] {
        server.call("POST", &format!("/v1/channels/{channel}/resume"), Some(&stage.key), &[], None).expect(200);
    }
    wait_for("what waited", || status(&waiting) == "READ" && status(&after) == "READ");
}

#[test]
fn channels_of_several_institutions_are_told_apart() {
    let (home, place) = (Home::init(), Place::new());
    let other = home.cli(&["institutions", "create", "--name", "Outra"]);
    let mut institutions = [home.institution.clone(), text(&other, "id").to_owned()];
    institutions.sort();
    let backup = place.back_up(&home, "backup");
    let report = printed(&restore(&backup, &place.path("restored"), &[]));
    let rows = report["channels"].as_array().expect("a list").iter();
    let mut found: Vec<_> = rows.map(|row| text(row, "institutionId").to_owned()).collect();
    found.sort();
    assert_eq!(found, institutions, "{report}");
    let mut command = recado();
    let output = command.arg("restore").arg(&backup).arg("--data-dir").arg(place.path("said")).ended();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for institution in institutions {
        assert!(said.contains(&format!("  sandbox (test) of {institution}: PAUSED")), "{said}");
    }
}

#[test]
fn channels_can_be_left_as_they_were() {
    let (home, place) = (Home::init(), Place::new());
    let backup = place.back_up(&home, "backup");
    let report = printed(&restore(&backup, &place.path("restored"), &["--no-pause"]));
    assert_eq!(report["channels"], json!([]));
    let home = at(home, place.path("restored"));
    assert_eq!(home.cli(&["channels", "show", "sandbox", "--environment", "test"])["state"], "CONNECTED");
    // For people.
    let dir = place.path("again");
    let output = run_in(dir.to_str().expect("UTF-8"), &["restore", backup.to_str().expect("UTF-8")]);
    let words = String::from_utf8_lossy(&output.stdout);
    assert!(words.contains("no message waits") && words.contains("sandbox (test): PAUSED"), "{output:?}");
}

#[test]
fn what_is_in_use_or_mixed_is_refused() {
    let (stage, other, place) = (Stage::set(), Home::init(), Place::new());
    stage.until(&stage.accept("sandbox", &[], CARD), "READ");
    let backup = place.back_up(&stage.home, "backup");
    assert_fails(&restore(&backup, &stage.home.dir, &[]), 1, &["stop it first"]);
    let before = fs::read(other.dir.join("recado.db")).expect("a store");
    assert_fails(&restore(&backup, &other.dir, &[]), 1, &["is not empty"]);
    assert_eq!(fs::read(other.dir.join("recado.db")).expect("a store"), before);
    assert_fails(&restore(&backup, &backup.join("data"), &[]), 1, &["is in the backup"]);
    let target = place.path("target");
    assert_fails(&restore(&place.path("nowhere"), &target, &[]), 1, &["there is no ", "nowhere"]);

    // The sandbox of another moment.
    stage.until(&stage.accept("sandbox", &[], CARD), "READ");
    let second = place.back_up(&stage.home, "second");
    fs::copy(second.join("sandbox.db"), backup.join("sandbox.db")).expect("a copy");
    assert_fails(&restore(&backup, &target, &[]), 1, &["sandbox.db is not the file that the backup made"]);
    // A copy of a stopped server's directory says nothing of what belongs together.
    let copied = place.path("copied");
    fs::create_dir(&copied).expect("a directory");
    fs::copy(second.join("recado.db"), copied.join("recado.db")).expect("a copy");
    assert_fails(&restore(&copied, &target, &[]), 1, &["has no backup.json"]);
    assert!(!target.exists(), "a refused restore has made something");
    let report = printed(&restore(&copied, &target, &["--ignore-manifest"]));
    assert_eq!(report["madeAt"], Value::Null);
    // It is not checked for its origin, and still for its health.
    let mut bytes = fs::read(copied.join("recado.db")).expect("a store");
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0x55);
    fs::write(copied.join("recado.db"), bytes).expect("a store");
    let output = restore(&copied, &place.path("damaged"), &["--ignore-manifest"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!place.path("damaged").join("recado.db").exists());
}

#[test]
fn the_secret_key_must_be_that_of_the_backup() {
    let (home, place) = (Home::init(), Place::new());
    linked(&home, &[("oficial", OLD)]);
    let backup = place.back_up(&home, "backup");
    let with = |key: &str, to: &str| {
        let mut command = recado();
        command.args(["restore", "--json"]).arg(&backup).arg("--data-dir").arg(place.path(to));
        command.env("RECADO_SECRET_KEY", key).ended()
    };
    assert_fails(&with(NEW, "wrong"), 1, &["1 secrets", &key_id(OLD)]);
    assert!(!place.path("wrong").join("recado.db").exists());
    assert_eq!(printed(&with(OLD, "right"))["missing"]["secretKeys"], json!([]));
    let report = printed(&restore(&backup, &place.path("without"), &[]));
    assert_eq!(report["missing"]["secretKeys"], json!([key_id(OLD)]));
    // Webhooks too stand still without it.
    let mut command = recado();
    let output = command.arg("restore").arg(&backup).arg("--data-dir").arg(place.path("said")).ended();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let missing = text.lines().find(|line| line.contains(&key_id(OLD))).unwrap_or_else(|| panic!("{text}"));
    assert!(missing.contains("webhooks deliver nothing until they get new secrets"), "{missing}");
}

#[test]
fn a_killed_restore_is_no_store_and_is_repeated() {
    let (home, place) = (Home::init(), Place::new());
    // The store has 200 MB, so that the copy takes a while.
    let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute('create table ballast (b blob)')\n\
                  c.execute('with recursive k(n) as (select 1 union all select n+1 from k where n<200) insert into ballast select randomblob(1000000) from k')\nc.commit()";
    let store = home.dir.join("recado.db");
    assert!(Command::new("python3").args(["-c", script]).arg(&store).status().expect("python runs").success());
    let (backup, target) = (place.back_up(&home, "backup"), place.path("target"));
    let mut command = recado();
    command.arg("restore").arg(&backup).arg("--data-dir").arg(&target).stdout(Stdio::null());
    let mut child = command.spawn().expect("the binary starts");
    wait_for("the copy to grow", || {
        target.join("recado.restoring/recado.db").metadata().is_ok_and(|file| file.len() > 0)
    });
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert!(!target.join("recado.db").exists(), "it was done before it was killed: this test shows nothing");
    let dir = target.to_str().expect("UTF-8");
    assert_fails(&run_in(dir, &["serve", "--listen", "127.0.0.1:0"]), 1, &["there is no store"]);
    // Killed between the two names.
    fs::write(target.join("sandbox.db"), "half").expect("a file");
    assert!(restore(&backup, &target, &[]).status.success());
    assert!(!target.join("recado.restoring").exists());
    assert_fails(&restore(&backup, &target, &[]), 1, &["is not empty"]);
    drop(at(home, target).serve());
}
