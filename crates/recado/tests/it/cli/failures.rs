//! What commands say when something is wrong: the cause, once, and nothing that would do harm.

use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::Value;
use test_postgres::Database;

use super::{assert_fails, run_in};
use crate::harness::{Ended, Home, recado};

fn sql(file: &std::path::Path, text: &str) {
    let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute(sys.argv[2])\nc.commit()";
    let status = Command::new("python3").args(["-c", script]).arg(file).arg(text).status().expect("python runs");
    assert!(status.success(), "{text}");
}

/// The check of this name in the report of `doctor`.
fn check(home: &Home, name: &str) -> Value {
    let mut command = recado();
    command.envs(home.database.as_ref().map(|url| ("RECADO_DATABASE_URL", url)));
    let output = command.args(["doctor", "--json", "--listen", "127.0.0.1:0", "--data-dir", home.dir()]).ended();
    let report: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    report.into_iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}: {output:?}"))
}

#[test]
fn doctor_fails_a_database_that_a_server_would_refuse() {
    let database = Database::new();
    let home = Home::on_postgres(database.url());
    assert_eq!(check(&home, "tables")["status"], "ok");
    test_postgres::run(database.url(), "CREATE TABLE recado_import (name text)");
    assert_eq!(check(&home, "tables")["toDo"], "let `recado migrate-store` end first");
    test_postgres::run(database.url(), "DROP TABLE recado_import");
    test_postgres::run(database.url(), "INSERT INTO recado_migrations (number, works_from) VALUES (9999, 9999)");
    let tables = check(&home, "tables");
    assert!(tables["status"] == "fail" && tables["found"].as_str().expect("a text").contains("newer"), "{tables}");
}

#[test]
fn a_sandbox_of_a_newer_version_is_named() {
    let home = Home::init();
    let server = home.serve();
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    let sandbox = home.dir.join("sandbox.db");
    sql(&sandbox, "PRAGMA user_version = 42");
    let found = check(&home, "sandbox");
    assert!(found["status"] == "fail" && found["toDo"].as_str().expect("a text").contains("move this file"), "{found}");
    // The advice helps.
    std::fs::rename(&sandbox, home.dir.join("aside")).expect("moved");
    home.serve();
}

/// The SQL of a migration is a page long.
#[test]
fn a_migration_that_fails_does_not_print_its_sql() {
    for version in [0, 4] {
        let home = Home::init();
        sql(&home.dir.join("recado.db"), &format!("PRAGMA user_version = {version}"));
        let output = run_in(home.dir(), &["serve", "--listen", "127.0.0.1:0"]);
        assert_fails(&output, 1, &["cannot open the store"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let printed = stderr.split_once("recado: ").expect("the reason").1;
        assert!(printed.lines().count() == 1 && !printed.to_lowercase().contains("create table"), "{stderr}");
    }
}

#[test]
fn a_store_that_cannot_be_read_is_not_missing() {
    let home = Home::init();
    let store = home.dir.join("recado.db");
    std::fs::rename(&store, home.dir.join("aside")).expect("moved");
    symlink(&store, &store).expect("a link to itself");
    let found = check(&home, "store");
    assert!(found["found"].as_str().expect("a text").contains("cannot be read"), "{found}");
    let to = home.dir.with_extension("copy");
    let to = to.to_str().expect("UTF-8");
    for args in [&["serve", "--listen", "127.0.0.1:0"][..], &["backup", "--to", to], &["channels", "list"]] {
        let output = run_in(home.dir(), args);
        assert_fails(&output, 1, &["recado.db", "cannot be read"]);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("recado init"), "{output:?}");
    }
}

#[test]
fn a_database_that_does_not_answer_is_worth_a_repetition() {
    let home = Home::init();
    let url = "postgres://nobody@127.0.0.1:1/nothing";
    let mut command = recado();
    command.env("RECADO_DATABASE_URL", url).args(["channels", "list", "--data-dir", home.dir()]);
    let output = command.ended();
    assert_fails(&output, 4, &["cannot open the database", "Connection refused"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text.matches("error connecting to server").count(), 1, "{text}");
    assert!(!text.contains("new object"), "{text}");
}

#[test]
fn a_backup_says_why_it_cannot_be_made() {
    let home = Home::init();
    let inside = home.dir.join("copy");
    let output = run_in(home.dir(), &["backup", "--to", inside.to_str().expect("UTF-8")]);
    assert_fails(&output, 1, &["in the data directory"]);
    assert!(!inside.exists());
    let to = home.dir.with_extension("copy");
    std::fs::create_dir_all(to.join("recado.db.unfinished")).expect("a directory");
    let to = to.to_str().expect("UTF-8");
    assert_fails(&run_in(home.dir(), &["backup", "--to", to]), 1, &["killed", "remove it"]);
    let mut command = recado();
    command.env("RECADO_DATABASE_URL", "postgres://x@127.0.0.1:1/x");
    assert_fails(&command.args(["backup", "--to", to, "--data-dir", home.dir()]).ended(), 1, &["pg_dump"]);
}

#[test]
fn a_wrong_value_is_answered_with_a_right_one() {
    let home = Home::init();
    let dir = home.dir.with_extension("series");
    let to = dir.to_str().expect("UTF-8");
    home.cli(&["backup", "--to", to, "--keep", "2"]);
    // The lock of the series is beside the backup.
    let mut entries = std::fs::read_dir(&dir).expect("a directory").map(|entry| entry.expect("one").path());
    let newest = entries.find(|path| path.is_dir()).expect("a backup");
    let newest = newest.to_str().expect("UTF-8");
    assert_fails(&run_in(home.dir(), &["backup", "--verify", to]), 1, &["name one of them", newest]);
    assert_fails(&run_in(home.dir(), &["backup", "--verify", "/nowhere"]), 1, &["there is no /nowhere"]);
    assert_fails(&run_in(home.dir(), &["backup", "--to", to, "--keep", "0"]), 2, &["--keep", "a number from 1 on"]);
    for wrong in ["abc", "5", "1x"] {
        let output = run_in(home.dir(), &["serve", "--check", "--message-ttl", wrong]);
        assert_fails(&output, 2, &["--message-ttl", "a time with its unit, such as 500ms, 90s, 15m or 24h"]);
    }
    std::fs::remove_dir_all(dir).expect("removed");
}
