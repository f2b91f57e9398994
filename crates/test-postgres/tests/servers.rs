//! The properties of test servers that the gateway's tests rely on.

use std::process::Command;
use std::time::{Duration, Instant};

use test_postgres::{Database, Options, Pooler, Server, number, run};

const PROGRAM: &str = env!("CARGO_BIN_EXE_test-postgres");

#[test]
fn databases_are_apart_and_go_with_their_tests() {
    let (one, other) = (Database::new(), Database::new());
    run(one.url(), "CREATE TABLE cards (id bigint)");
    run(other.url(), "CREATE TABLE cards (id bigint)");

    let name = one.url().rsplit_once('/').expect("a database").1.to_owned();
    drop(one);
    let there = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(number(other.url(), &there), 0);
}

#[test]
fn what_was_made_once_is_copied() {
    let made = || {
        Database::made_by("a text of this test's own", async |url| {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("it connects");
            tokio::spawn(connection);
            let random = "CREATE TABLE mark AS SELECT (random() * 1e15)::bigint AS mark";
            client.batch_execute(random).await.expect("it is made");
        })
    };
    let (one, other) = std::thread::scope(|scope| {
        let one = scope.spawn(made);
        (one.join().expect("made"), made())
    });
    let mark = |database: &Database| number(database.url(), "SELECT mark FROM mark");
    assert_eq!(mark(&one), mark(&other));
    run(one.url(), "UPDATE mark SET mark = -1");
    assert_ne!(mark(&other), -1);
}

#[test]
fn a_durable_server_keeps_commits_after_a_crash() {
    let mut server = Server::start(&Options::durable());
    let url = server.url("postgres");
    run(&url, "CREATE TABLE cards (id bigint); INSERT INTO cards VALUES (1)");
    server.kill();
    server.restart();
    assert_eq!(number(&url, "SELECT count(*) FROM cards"), 1);
    server.restart();
    assert_eq!(number(&url, "SELECT count(*) FROM cards"), 1);
}

#[test]
fn a_standby_has_the_commits_of_the_primary() {
    let mut primary = Server::start(&Options::durable());
    run(&primary.url("postgres"), "CREATE TABLE cards (id bigint)");
    let standby = Server::standby_of(&primary);
    run(&primary.url("postgres"), "INSERT INTO cards VALUES (1)");
    primary.kill();
    standby.promote();
    run(&standby.url("postgres"), "INSERT INTO cards VALUES (2)");
    assert_eq!(number(&standby.url("postgres"), "SELECT count(*) FROM cards"), 2);
}

#[test]
fn a_standby_can_replace_a_hanging_primary() {
    let primary = Server::start(&Options::durable());
    run(&primary.url("postgres"), "CREATE TABLE cards (id bigint)");
    let standby = Server::standby_of(&primary);
    run(&primary.url("postgres"), "INSERT INTO cards VALUES (1)");
    primary.freeze();
    standby.promote();
    run(&standby.url("postgres"), "INSERT INTO cards VALUES (2)");
    assert_eq!(number(&standby.url("postgres"), "SELECT count(*) FROM cards"), 2);
    let folder = primary.folder().to_owned();
    let in_it = || {
        let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
        let at = processes.filter_map(|process| std::fs::read_link(process.path().join("cwd")).ok());
        at.filter(|at| at.starts_with(&folder)).count()
    };
    assert_ne!(in_it(), 0);
    drop(primary);
    let until = Instant::now() + Duration::from_secs(30);
    while in_it() > 0 {
        assert!(Instant::now() < until, "some of its processes are still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_program_gives_the_exit_code_of_its_command() {
    let url = r#"case "$RECADO_TEST_POSTGRES" in postgres://recado@127.0.0.1:*/postgres) exit 7; esac"#;
    let status = Command::new(PROGRAM).args(["run", "sh", "-c", url]).status().expect("it starts");
    assert_eq!(status.code(), Some(7));
}

#[test]
fn a_server_ends_with_the_process_that_started_it() {
    let folder = tempfile::tempdir().expect("a folder");
    // The starting process is killed, so its own code cannot clean up.
    let kill = r#"kill -KILL "$PPID""#;
    let status = Command::new(PROGRAM).args(["run", "sh", "-c", kill]).env("TMPDIR", shared(folder.path())).status();
    assert!(!status.expect("it starts").success());
    let until = Instant::now() + Duration::from_secs(30);
    while std::fs::read_dir(folder.path()).expect("it is there").next().is_some() {
        assert!(Instant::now() < until, "the server's folder is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
    let name = folder.path().to_str().expect("text").to_owned();
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let lines = processes.filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok());
    assert_eq!(lines.filter(|line| line.starts_with('/') && line.contains(&name)).collect::<Vec<_>>(), [""; 0]);
}

/// A folder that the server's user can enter.
fn shared(folder: &std::path::Path) -> &std::path::Path {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711)).expect("it is ours");
    folder
}

#[test]
fn a_pooler_forwards_to_its_database() {
    let database = Database::new();
    run(database.url(), "CREATE TABLE cards (id bigint)");
    let pooler = Pooler::before(database.url());
    run(pooler.url(), "INSERT INTO cards VALUES (1)");
    assert_eq!(number(database.url(), "SELECT count(*) FROM cards"), 1);
}
