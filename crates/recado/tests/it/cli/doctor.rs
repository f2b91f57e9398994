//! `recado doctor`.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output};

use serde_json::Value;

use super::run_in;
use crate::harness::Home;
use crate::v1::{CARD, Stage, text};

struct Report(Vec<Value>);

impl Report {
    fn of(output: &Output, code: i32) -> Self {
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        Self(serde_json::from_slice(&output.stdout).expect("JSON"))
    }

    #[track_caller]
    fn assert(&self, name: &str, status: &str, words: &str) {
        let check =
            self.0.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}: {:?}", self.0));
        let result = format!("{} {}", text(check, "found"), check["toDo"]);
        assert!(check["status"] == status && result.contains(words), "{check}");
        assert_eq!(check["toDo"].is_null(), status == "ok", "{check}");
    }
}

fn doctor(dir: &str, more: &[&str]) -> Output {
    run_in(dir, &[&["doctor", "--json"], more].concat())
}

#[test]
fn doctor_reports_a_healthy_directory_with_and_without_a_server() {
    let home = Home::init();
    let report = Report::of(&doctor(home.dir(), &["--listen", "127.0.0.1:0"]), 0);
    for name in ["server", "permissions", "fsync", "control socket", "store", "store version", "clock", "port"] {
        assert!(
            report.0.iter().any(|check| check["name"] == name && check["status"] != "fail"),
            "{name}: {:?}",
            report.0
        );
    }
    report.assert("server", "ok", "none runs");
    let stage = Stage::set();
    stage.until(&stage.accept("sandbox", &[], CARD), "READ");
    let report = Report::of(&doctor(stage.home.dir(), &["--listen", &stage.server.address]), 0);
    report.assert("server", "ok", "one runs");
    report.assert("port", "ok", "a Recado answers");
    report.assert("sandbox", "ok", "whole");
    // Nothing is left behind, and nothing was disturbed.
    let left = std::fs::read_dir(&stage.home.dir).expect("a directory").flatten();
    assert!(left.into_iter().all(|entry| !entry.file_name().to_string_lossy().contains("doctor")));
    stage.until(&stage.accept("sandbox", &[], CARD), "READ");
    let people = run_in(stage.home.dir(), &["doctor", "--listen", "127.0.0.1:0"]);
    assert!(String::from_utf8_lossy(&people.stdout).contains("fsync"), "{people:?}");
}

#[test]
fn doctor_reports_each_problem_with_what_to_do() {
    let home = Home::init();
    let report = |code, more: &[&str]| Report::of(&doctor(home.dir(), more), code);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let used = listener.local_addr().expect("an address").to_string();
    report(1, &["--listen", &used]).assert("port", "fail", "another program");
    let free = ["--listen", "127.0.0.1:0"];
    report(0, &[&free[..], &["--max-connections", "999999999"]].concat()).assert("open files", "warn", "LimitNOFILE");
    let other = Stage::set();
    report(1, &["--listen", &other.server.address]).assert("port", "fail", "another directory");

    let mode =
        |path: &std::path::Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("a mode");
    let store = home.dir.join("recado.db");
    mode(&store, 0o644);
    report(1, &free).assert("permissions", "fail", "chmod 600");
    mode(&store, 0o600);
    let socket = home.dir.join("recado.sock");
    let left = UnixListener::bind(&socket).expect("a socket");
    drop(left);
    mode(&socket, 0o777);
    report(1, &free).assert("permissions", "fail", "give commands");
    std::fs::remove_file(&socket).expect("it is there");
    mode(&home.dir, 0o755);
    report(0, &free).assert("permissions", "warn", "chmod 700");
    mode(&home.dir, 0o700);

    let sql = |text: &str| {
        let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute(sys.argv[2])\nc.commit()";
        assert!(
            Command::new("python3").args(["-c", script]).arg(&store).arg(text).status().expect("python runs").success()
        );
    };
    home.cli(&[
        "send",
        "contact",
        "--channel",
        "sandbox",
        "--to",
        "5511999998888",
        "--name",
        "x",
        "--phone",
        "5511988887777",
    ]);
    sql("UPDATE messages SET queued_at = queued_at + 3600000");
    report(1, &free).assert("store's clock", "fail", "set the clock");
    sql("UPDATE messages SET queued_at = queued_at - 3600000");
    sql("PRAGMA user_version = 99");
    report(1, &free).assert("store version", "fail", "newer Recado");
    sql("PRAGMA user_version = 1");
    let mut bytes = std::fs::read(&store).expect("a store");
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0x55);
    std::fs::write(&store, bytes).expect("a store");
    report(1, &free).assert("store", "fail", "back-up");
    std::fs::remove_file(&store).expect("it is there");
    report(1, &free).assert("store", "fail", "recado init");
    let long = home.dir.join("x".repeat(100));
    std::fs::create_dir(&long).expect("a directory");
    Report::of(&doctor(long.to_str().expect("UTF-8"), &free), 1).assert("control socket", "fail", "shorter path");
    let nowhere = home.dir.join("nowhere");
    Report::of(&doctor(nowhere.to_str().expect("UTF-8"), &free), 1).assert("data directory", "fail", "recado init");
}

#[test]
fn doctor_checks_a_database_instead_of_files() {
    let database = test_postgres::Database::new();
    let nowhere = tempfile::tempdir().expect("a directory");
    let report = |code, url: &str| {
        let dir = nowhere.path().join("data");
        let flags = ["doctor", "--json", "--listen", "127.0.0.1:0", "--database-url", url];
        Report::of(&run_in(dir.to_str().expect("UTF-8"), &flags), code)
    };
    report(1, database.url()).assert("tables", "fail", "recado init");
    let _home = Home::on_postgres(database.url());
    let made = report(1, database.url());
    made.assert("database", "ok", "accepts writes");
    made.assert("tables", "ok", "version");
    made.assert("connections", "ok", "1 such nodes");
    // The tests' server has no disk to wait for.
    made.assert("settings", "fail", "fsync is off");
    test_postgres::run(
        database.url(),
        "DELETE FROM recado_migrations WHERE number > 5; UPDATE recado_migrations SET number = 4",
    );
    report(1, database.url()).assert("tables", "warn", "recado serve");
    let (server, _) = database.url().rsplit_once('/').expect("a database");
    report(1, &format!("{server}/nothing")).assert("database", "fail", "does not exist");
}

/// Without its socket a server is there all the same, and on its own port.
#[test]
fn doctor_reports_a_server_without_its_socket() {
    let stage = Stage::set();
    std::fs::remove_file(stage.home.dir.join("recado.sock")).expect("it is there");
    let report = Report::of(&doctor(stage.home.dir(), &["--listen", &stage.server.address]), 1);
    report.assert("server", "fail", "no server answers on");
    report.assert("port", "ok", "a Recado answers");
}

/// `/dev/shm` is there on every Linux.
#[test]
fn a_file_system_in_memory_is_a_warning() {
    let place = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let home = Home::init_in(&place.path().join("data"));
    Report::of(&doctor(home.dir(), &["--listen", "127.0.0.1:0"]), 0).assert(
        "file system",
        "warn",
        "tmpfs lies in memory",
    );
}

#[test]
fn a_failure_stays_a_failure_if_the_reader_has_gone() {
    let home = Home::init();
    let nowhere = home.dir.join("nowhere");
    let run = format!("{} doctor --data-dir {}", env!("CARGO_BIN_EXE_recado"), nowhere.display());
    let output = Command::new("bash").args(["-c", &format!("set -o pipefail; {run} | true")]).output();
    assert_eq!(output.expect("bash runs").status.code(), Some(1));
}
