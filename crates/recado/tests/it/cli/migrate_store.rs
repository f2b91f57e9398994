//! `recado migrate-store`: to PostgreSQL, also in several runs.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use test_postgres::Database;

use super::{assert_fails, run_in};
use crate::harness::{Ended, Home, recado, wait_for};
use crate::v1::{CARD, Stage};

fn command(from: &Path, url: &str) -> Command {
    let mut command = recado();
    command.arg("migrate-store").arg("--from").arg(from).env("RECADO_DATABASE_URL", url);
    command
}

fn migrate(from: &Path, url: &str) -> Output {
    command(from, url).arg("--json").ended()
}

/// Inserts so many messages directly into the store, which is faster.
fn add_messages(store: &Path, count: u32) {
    let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute('''insert into messages (id, channel_key, \
                  status, network_id, recipient, account, payload, card, card_account, card_account_known, attempts, \
                  expires_at, queued_at, sending_at, sent_at) with recursive k(n) as (select 1 union all select n+1 from k \
                  where n < ?) select randomblob(16), 1, 2, hex(randomblob(11)), '55119' || (10000000 + n % 5000), \
                  '55119' || (10000000 + n % 5000), '{\"to\":\"5511999998888\",\"type\":\"contact\",\"contact\":{\"name\":\"Maria \
                  Silva - Suporte\",\"phone\":\"5511988887777\",\"email\":null,\"organization\":null}}', hex(randomblob(110)), \
                  '5511988887777', 1, 1, 1800000000000, 1800000000000 + n, 1, 2 from k''', (int(sys.argv[2]),))\nc.commit()";
    let mut python = Command::new("python3");
    assert!(python.args(["-c", script]).arg(store).arg(count.to_string()).status().expect("python runs").success());
}

#[test]
fn a_store_is_moved_and_its_file_is_left() {
    let stage = Stage::set();
    stage.until(&stage.accept("sandbox", &[], CARD), "READ");
    stage.act("sandbox", "pause");
    for _ in 0..3 {
        stage.accept("sandbox", &[("Idempotency-Key", "x")], CARD);
    }
    let store = stage.home.dir.join("recado.db");
    let database = Database::new();
    assert_fails(&migrate(&store, database.url()), 1, &["stop it first"]);
    stage.server.kill();
    let files = || ["recado.db", "recado.db-wal"].map(|name| std::fs::read(stage.home.dir.join(name)).expect("a file"));
    let before = files();
    let output = migrate(&store, database.url());
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(
        (printed["tables"]["messages"].as_u64(), printed["tables"]["idempotency_keys"].as_u64()),
        (Some(2), Some(1))
    );
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("RECADO_DATABASE_URL") && !stderr.contains("postgres://"), "{stderr}");
    assert!(before == files(), "the store was changed");
    // Nothing opens the old store any more.
    let marked = ["was moved to the PostgreSQL database", "RECADO_DATABASE_URL", "recado.db.moved"];
    assert_fails(&migrate(&store, database.url()), 1, &marked);
    assert_fails(&run_in(stage.home.dir(), &["serve", "--listen", "127.0.0.1:0"]), 1, &marked);
    assert_fails(&run_in(stage.home.dir(), &["channels", "list"]), 1, &marked);
    let to = stage.home.dir.with_extension("copy");
    assert_fails(&run_in(stage.home.dir(), &["backup", "--to", to.to_str().expect("UTF-8")]), 1, &marked);
    let doctor = run_in(stage.home.dir(), &["doctor", "--listen", "127.0.0.1:0"]);
    assert!(String::from_utf8_lossy(&doctor.stdout).contains(marked[0]), "{doctor:?}");
    let mark = stage.home.dir.join("recado.db.moved");
    let text = std::fs::read_to_string(&mark).expect("a mark");
    // Killed before the last step, or after it.
    std::fs::write(&mark, text.replace("true", "false")).expect("a mark");
    assert_fails(&run_in(stage.home.dir(), &["channels", "list"]), 1, &["was interrupted", "migrate-store"]);
    assert_fails(&migrate(&store, database.url()), 1, &["holds a store already"]);
    assert_eq!(test_postgres::number(database.url(), "SELECT count(*) FROM messages WHERE status = 0"), 1);

    // Commands find the messages there, and a person's rights hold there too.
    let data = |what: &[&str]| {
        let mut command = recado();
        command
            .env("RECADO_DATABASE_URL", database.url())
            .args(["data"])
            .args(what)
            .args(["--recipient", "5511999998888"]);
        let output = command.args(["--data-dir", stage.home.dir()]).ended();
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    };
    assert_eq!(data(&["export"])["messages"].as_array().map(Vec::len), Some(2));
    let erased = data(&["erase", "--yes", "--json"]);
    assert_eq!(["messages", "cancelled", "idempotencyKeys"].map(|name| erased[name].as_u64()), [2, 1, 1].map(Some));
    assert_eq!(data(&["export"])["messages"].as_array().map(Vec::len), Some(0));
    assert_eq!(test_postgres::number(database.url(), "SELECT count(*) FROM messages"), 0);
    assert!(before == files(), "the store was changed");
    // The way back.
    std::fs::remove_file(&mark).expect("a mark");
    assert_eq!(stage.home.cli(&["messages", "list", "--channel", "sandbox"]).as_array().map(Vec::len), Some(2));
}

#[test]
fn a_password_is_shown_nowhere() {
    let home = Home::init();
    let store = home.dir.join("recado.db");
    // A valid URL with an unknown user, one with an unknown host, and an invalid one.
    for url in
        ["postgres://u:geheim@127.0.0.1:1/db", "postgres://u:geheim@nowhere.invalid/db", "postgres://u:geheim@:x:/"]
    {
        for output in
            [migrate(&store, url), recado().args(["migrate-store", "--to", url, "--from"]).arg(&store).ended()]
        {
            assert!(!output.status.success());
            let output = [output.stdout, output.stderr].concat();
            assert!(!String::from_utf8_lossy(&output).contains("geheim"), "{}", String::from_utf8_lossy(&output));
        }
    }
    assert_fails(&migrate(&home.dir.join("nothing.db"), "postgres://u@127.0.0.1:1/db"), 1, &["no store"]);
}

#[test]
fn a_killed_migration_continues() {
    let home = Home::init();
    let store = home.dir.join("recado.db");
    add_messages(&store, 150_000);
    let database = Database::new();
    let rows = || test_postgres::number(database.url(), "SELECT coalesce(sum(rows), 0)::bigint FROM recado_import");
    let begun = || {
        test_postgres::number(database.url(), "SELECT count(*) FROM pg_tables WHERE tablename = 'recado_import'") == 1
    };
    for least in [5_000, 60_000] {
        let mut child = command(&store, database.url()).stderr(Stdio::null()).spawn().expect("the binary starts");
        wait_for("some messages", || begun() && rows() > least);
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        assert!(begun(), "it was done before it was killed: this test shows nothing");
    }
    let there = rows();
    assert!(there < 150_000, "{there}");
    let output = migrate(&store, database.url());
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(printed["tables"]["messages"], 150_000);
    assert!(!begun());
    assert_eq!(test_postgres::number(database.url(), "SELECT count(*) FROM messages"), 150_000);
}
