//! Settings: where they come from, and what is said about wrong ones.

use serde_json::Value;

use super::{assert_fails, run_in};
use crate::harness::{Ended, Home, SECRET_KEY, Server, recado, wait_for};

/// What `recado config` prints about a setting: its value and its origin.
fn shown(settings: &Value, variable: &str) -> (Value, Value) {
    let all = settings.as_array().expect("a list");
    let one = all.iter().find(|one| one["variable"] == variable).unwrap_or_else(|| panic!("no {variable}"));
    (one["value"].clone(), one["origin"].clone())
}

#[test]
fn settings_are_shown_with_their_origins_and_without_secrets() {
    let mut command = recado();
    command.args(["config", "--json", "--message-ttl", "2h", "--listen", "localhost:8080"]);
    command.env("RECADO_MESSAGE_TTL", "3h").env("RECADO_BACKLOG_CAP", "7").env("RECADO_SECRET_KEY", SECRET_KEY);
    command.env("RECADO_DATABASE_URL", "postgres://recado:s3cret@db/recado");
    let output = command.ended();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(!text.contains("s3cret") && !text.contains(SECRET_KEY), "{text}");
    let settings: Value = serde_json::from_str(&text).expect("JSON");
    for (variable, value, origin) in [
        ("RECADO_MESSAGE_TTL", "2h", "flag"),
        ("RECADO_LISTEN", "localhost:8080", "flag"),
        ("RECADO_BACKLOG_CAP", "7", "variable"),
        ("RECADO_IDLE_TIMEOUT", "75s", "default"),
        ("RECADO_ROLES", "api,dispatch", "default"),
        ("RECADO_DATABASE_URL", "postgres://recado:***@db/recado", "variable"),
        ("RECADO_SECRET_KEY", "***", "variable"),
    ] {
        assert_eq!(shown(&settings, variable), (value.into(), origin.into()), "{variable}");
    }
    assert_eq!(shown(&settings, "RECADO_NODE_URL"), (Value::Null, "default".into()));
}

#[test]
fn an_unknown_variable_is_an_error() {
    let home = Home::init();
    for args in [&["serve", "--listen", "127.0.0.1:0"][..], &["channels", "list"], &["config"]] {
        let mut command = recado();
        command.args(args).args(["--data-dir", home.dir()]).env("RECADO_LSTEN", "127.0.0.1:1").env("RECADO_X", "1");
        assert_fails(&command.ended(), 2, &["unknown variable RECADO_LSTEN, RECADO_X"]);
    }
    let mut command = recado();
    command.args(["channels", "list", "--data-dir", home.dir()]);
    command.env("RECADO_TEST_SEED", "1").env("RECADO_UPDATE_DOCS", "1");
    assert!(command.ended().status.success());
}

#[test]
fn an_invalid_value_names_where_it_was_given() {
    let home = Home::init();
    for (variable, value, args, words) in [
        ("RECADO_MAX_CONNECTIONS", "x", &["serve"][..], &["'x'", "RECADO_MAX_CONNECTIONS"][..]),
        ("RECADO_DOCS", "maybe", &["serve"], &["'maybe'", "RECADO_DOCS", "on, off"]),
        ("RECADO_NODE_URL", "ftp://x", &["serve"], &["RECADO_NODE_URL", "https:// or http://"]),
        // A command without flags for it.
        ("RECADO_KEEP_EVENTS", "1ms", &["channels", "list"], &["RECADO_KEEP_EVENTS", "at least one second"]),
        ("RECADO_LISTEN", "127.0.0.1:0", &["serve", "--listen", "nowhere"], &["'nowhere'", "--listen"]),
    ] {
        let mut command = recado();
        command.args(args).args(["--data-dir", home.dir()]).env(variable, value);
        let output = command.ended();
        assert_fails(&output, 2, words);
        let names_flag = String::from_utf8_lossy(&output.stderr).contains("for '--");
        assert_eq!(names_flag, args.contains(&"--listen"), "{output:?}");
    }
    let mut command = recado();
    command.args(["serve", "--check", "--data-dir", home.dir()]);
    command.env("RECADO_DATABASE_URL", "postgres://recado:s3cret@127.0.0.1/recado?sslmode=bogus");
    let output = command.ended();
    assert_fails(&output, 1, &["sslmode must be disable, prefer or require"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("s3cret"), "{output:?}");
}

#[test]
fn a_check_says_whether_the_server_would_start_and_changes_nothing() {
    let home = Home::init();
    let before = std::fs::read(home.dir.join("recado.db")).expect("the store");
    let check = |more: &[&str]| run_in(home.dir(), &[&["serve", "--check"], more].concat());
    let good = check(&["--listen", "localhost:0"]);
    assert!(good.status.success(), "{good:?}");
    assert_eq!(String::from_utf8_lossy(&good.stdout), "the server would start with these settings\n");
    for (flags, words) in [
        (&["--sandbox-delay-min", "2s"][..], &["--sandbox-delay-max"][..]),
        (&["--graph-url", "http://graph.example.com"], &["RECADO_GRAPH_URL"]),
        (&["--secret-key-file", "/nowhere/key"], &["cannot read the secret key"]),
    ] {
        assert_fails(&check(flags), 1, words);
    }
    let nothing = tempfile::tempdir().expect("a directory");
    let empty = run_in(nothing.path().to_str().expect("UTF-8"), &["serve", "--check"]);
    assert_fails(&empty, 1, &["there is no store"]);
    assert_eq!(std::fs::read_dir(nothing.path()).expect("a directory").count(), 0);
    assert_eq!(std::fs::read(home.dir.join("recado.db")).expect("the store"), before);
    // Beside a running server, whose address is taken.
    let server = home.serve();
    assert!(check(&["--listen", &server.address]).status.success());
    let other = Home::init();
    let taken = run_in(other.dir(), &["serve", "--check", "--listen", &server.address]);
    assert_fails(&taken, 1, &["cannot listen", &server.address]);

    let database = test_postgres::Database::new();
    let checked = |home: &Home| {
        let mut command = recado();
        command.args(["serve", "--check", "--listen", "127.0.0.1:0", "--data-dir", home.dir()]);
        command.env("RECADO_DATABASE_URL", database.url()).ended()
    };
    assert_fails(&checked(&home), 1, &["no tables in the database"]);
    let on_postgres = Home::on_postgres(database.url());
    assert!(checked(&on_postgres).status.success());
    test_postgres::run(database.url(), "update recado_migrations set works_from = 9999");
    assert_fails(&checked(&on_postgres), 1, &["of a newer Recado"]);
}

#[test]
fn the_first_log_lines_say_what_starts() {
    let home = Home::init();
    let mut command = home.command(&["--backlog-cap", "7"]);
    command.env("RECADO_SECRET_KEY", SECRET_KEY).env("RECADO_KEEP_EVENTS", "3days");
    let server = Server::start(command, &home);
    let first = format!("server starting version=\"{}\"", env!("CARGO_PKG_VERSION"));
    wait_for("the first lines", || server.log().contains("RECADO_SECRET_KEY"));
    let log = server.log();
    assert!(log.lines().next().is_some_and(|line| line.contains(&first)), "{log}");
    for words in [
        "engine=\"sqlite\" roles=\"api,dispatch\"",
        "setting name=\"--backlog-cap\" value=\"7\" origin=\"flag\"",
        "setting name=\"--keep-events\" value=\"3days\" origin=\"variable\"",
        "setting name=\"RECADO_SECRET_KEY\" value=\"***\" origin=\"variable\"",
    ] {
        assert!(log.contains(words), "no {words} in {log}");
    }
    assert!(!log.contains(SECRET_KEY) && !log.contains("--idle-timeout") && !log.contains("clock behind"), "{log}");
}

#[test]
fn a_clock_far_behind_the_store_is_reported() {
    let home = Home::init();
    let store = rusqlite::Connection::open(home.dir.join("recado.db")).expect("the store");
    // As if the store had been made after the time that the clock shows.
    store.execute("UPDATE institutions SET created_at = created_at + 31536000000", []).expect("written");
    drop(store);
    let server = home.serve();
    wait_for("the warning", || server.log().contains("clock behind the store"));
}
