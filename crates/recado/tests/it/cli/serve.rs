//! `recado serve`: its start and its end, and the sources of its settings.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{assert_fails, run_in};
use crate::harness::{Ended, Home, PATIENCE, Server, agent, call, recado, wait_for};
use crate::v1::{CARD, JSON, QUEUE_FULL, Stage, assert_refused, contact_path, create_key};

#[test]
fn a_directory_has_one_server() {
    let stage = Stage::set();
    let second = run_in(stage.home.dir(), &["serve", "--listen", "127.0.0.1:0"]);
    assert_fails(&second, 1, &["another recado", stage.home.dir()]);
    // The first server is not disturbed, and still owns its socket.
    stage.until(&stage.accept("sandbox", &[], CARD), "READ");
    stage.home.cli(&["institutions", "list"]);
    // An address in use is reported as clearly.
    let home = Home::init();
    let output = run_in(home.dir(), &["serve", "--listen", &stage.server.address]);
    assert_fails(&output, 1, &["cannot listen", &stage.server.address]);
    home.cli(&["institutions", "list"]);
}

#[test]
fn sigterm_ends_a_server_in_good_order() {
    let stage = Stage::set();
    stage.accept("sandbox", &[], CARD);
    let Stage { server, home, key } = stage;
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    assert!(!home.dir.join("recado.sock").exists(), "the socket is left behind");
    let server = home.serve();
    assert_eq!(
        server.get("/v1/channels/sandbox/messages", Some(&key)).expect(200).json()["data"].as_array().map(Vec::len),
        Some(1)
    );
}

/// Idle connections of clients and half a request do not delay the end.
#[test]
fn sigterm_does_not_wait_for_idle_connections() {
    let home = Home::init();
    let database = test_postgres::Database::new();
    let on_postgres = Home::on_postgres(database.url());
    for home in [&home, &on_postgres] {
        let server = home.serve_with(&["--idle-timeout", "10m"]);
        let key = home.unlimited_key();
        let agents: Vec<_> = (0..30).map(|_| agent()).collect();
        for agent in &agents {
            let (path, headers) = (server.url(&contact_path("sandbox")), [JSON]);
            let sent = call(agent, &path, "POST", Some(&key), &headers, Some(CARD.as_bytes())).expect("an answer");
            assert_eq!(sent.expect(202).header("Keep-Alive"), Some("timeout=600"));
        }
        let fresh = TcpStream::connect(&server.address).expect("a connection");
        let mut half = TcpStream::connect(&server.address).expect("a connection");
        half.write_all(b"GET /health/live HTT").expect("the server reads");
        wait_for("the cards to be read", || {
            let read = server.get("/v1/channels/sandbox/messages?status=READ&limit=100", Some(&key)).expect(200);
            read.json()["data"].as_array().map(Vec::len) == Some(30)
        });
        let begun = Instant::now();
        server.terminate();
        assert_eq!(server.wait().code(), Some(0));
        println!("ended after {:?}", begun.elapsed());
        // A second on a quiet machine. A wait for clients would take ten seconds, or the thirty of the grace period.
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        drop((agents, fresh, half));
    }
}

/// For example a command that was stopped.
#[test]
fn sigterm_does_not_wait_for_a_command_that_reads_nothing() {
    let home = Home::init();
    let server = home.serve();
    let mut deaf = UnixStream::connect(home.dir.join("recado.sock")).expect("the server's socket");
    deaf.set_write_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    // Until the server cannot write, and so reads no more.
    let commands = "\"list_institutions\"\n".repeat(1_000);
    while deaf.write_all(commands.as_bytes()).is_ok() {}
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    let log = std::fs::read_to_string(home.dir.with_extension("log")).expect("the log");
    assert!(log.contains("shutdown started") && !log.contains("shutdown timed out"), "{log}");
    drop(deaf);
}

/// A purge of many rows takes minutes, and the next purge continues it.
#[test]
fn sigterm_does_not_wait_for_a_purge() {
    const OLD: i64 = 20_000;
    let home = Home::init();
    let path = home.dir.join("recado.db");
    let store = rusqlite::Connection::open(&path).expect("the store opens");
    let old = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
               INSERT INTO messages (id, channel_key, status, network_id, recipient, payload, card, card_account,
                                     card_account_known, expires_at, queued_at)
               SELECT randomblob(16), (SELECT min(key) FROM channels), 8, 'x', '551', '{}', '', '', 0, 1, 1 FROM n";
    store.execute(old, [OLD]).expect("old messages");
    drop(store);
    let left = || {
        let store = rusqlite::Connection::open(&path).expect("the store opens");
        store.busy_timeout(PATIENCE).expect("a timeout");
        store.query_row("SELECT count(*) FROM messages", [], |row| row.get::<_, i64>(0)).expect("a count")
    };
    let server = home.serve();
    wait_for("the purge to begin", || left() < OLD);
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    assert!(left() > 0, "it has waited for the whole purge");
}

/// A call that the server has begun to read when it must end.
fn begin(server: &Server, key: &str) -> TcpStream {
    let mut stream = TcpStream::connect(&server.address).expect("the server accepts connections");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        contact_path("sandbox"),
        CARD.len()
    );
    stream.write_all(head.as_bytes()).expect("the server reads");
    let mut go_on = [0; 25];
    // The server writes this when it reads the body: from here on the call is in flight.
    stream.read_exact(&mut go_on).expect("an answer");
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

#[test]
fn sigterm_lets_calls_in_flight_finish() {
    let Stage { server, home, key } = Stage::set();
    let mut calls: Vec<_> = (0..3).map(|_| begin(&server, &key)).collect();
    server.terminate();
    wait_for("new connections to be refused", || TcpStream::connect(&server.address).is_err());
    for call in &mut calls {
        call.write_all(CARD.as_bytes()).expect("the server reads");
        let mut answer = String::new();
        call.read_to_string(&mut answer).expect("an answer, and the end");
        assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    }
    assert_eq!(server.wait().code(), Some(0));
    let server = home.serve();
    wait_for("the cards to be read", || {
        let list = server.get("/v1/channels/sandbox/messages?status=READ", Some(&key)).expect(200).json();
        list["data"].as_array().map(Vec::len) == Some(3)
    });
}

#[test]
fn sigterm_does_not_wait_for_callers_for_ever() {
    let home = Home::init();
    let key = home.unlimited_key();
    let server = home.serve_with(&["--shutdown-grace", "1s"]);
    let call = begin(&server, &key);
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    drop(call);
    let list = home.serve().get("/v1/channels/sandbox/messages", Some(&key)).expect(200).json();
    assert_eq!(list["data"], json!([]));
}

/// Any setting may come from its variable; a flag has precedence.
#[test]
fn settings_are_read_from_variables_and_flags() {
    let home = Home::init();
    let key = create_key(&home, "test", "messages.send", "unlimited");
    let start = |flags: &[&str]| {
        let mut command = recado();
        command.env("RECADO_DATA_DIR", &home.dir).env("RECADO_LISTEN", "127.0.0.1:0").env("RECADO_BACKLOG_CAP", "0");
        command.arg("serve").args(flags);
        Server::start(command, &home)
    };
    let card: serde_json::Value = serde_json::from_str(CARD).expect("JSON");
    assert_refused("by variable", &start(&[]).post(&contact_path("sandbox"), &key, &card), QUEUE_FULL);
    start(&["--backlog-cap", "1"]).post(&contact_path("sandbox"), &key, &card).expect(202);
}

/// An emptied file and the wrong database contain no key: a server on them would look healthy and refuse every caller.
#[test]
fn an_empty_store_is_not_served() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let (dir, store) = (place.path().to_str().expect("UTF-8"), place.path().join("recado.db"));
    std::fs::write(&store, "").expect("an empty file");
    let serve = || run_in(dir, &["serve", "--listen", "127.0.0.1:0"]);
    assert_fails(&serve(), 1, &["recado.db is empty", "recado init"]);
    assert_fails(&run_in(dir, &["channels", "list"]), 1, &["recado.db is empty", "recado init"]);
    assert_eq!(store.metadata().expect("the file").len(), 0, "a store was made");
    assert_doctor_fails(&run_in(dir, &["doctor", "--json", "--listen", "127.0.0.1:0"]), "store", "is empty");
    // A killed `init` leaves tables and nothing else.
    let home = Home::init();
    let sql = "DELETE FROM events; DELETE FROM channels; DELETE FROM api_keys; DELETE FROM institutions";
    let emptied = rusqlite::Connection::open(home.dir.join("recado.db")).and_then(|store| store.execute_batch(sql));
    emptied.expect("a store without an institution");
    let serve = || run_in(home.dir(), &["serve", "--listen", "127.0.0.1:0"]);
    assert_fails(&serve(), 1, &["no institution", "recado init"]);
    assert_doctor_fails(
        &run_in(home.dir(), &["doctor", "--json", "--listen", "127.0.0.1:0"]),
        "institutions",
        "there are none",
    );
    // The error text is right for both: `init` makes a store of them.
    for dir in [dir, home.dir()] {
        assert!(run_in(dir, &["init"]).status.success());
        assert_fails(&run_in(dir, &["init"]), 1, &["already"]);
    }
    drop(home.serve());
}

#[test]
fn an_empty_database_is_not_served() {
    let database = test_postgres::Database::new();
    let place = tempfile::tempdir().expect("a temporary directory");
    let dir = place.path().to_str().expect("UTF-8");
    let run = |args: &[&str]| {
        let mut command = recado();
        command.env("RECADO_DATABASE_URL", database.url()).args(args).args(["--data-dir", dir]);
        command.ended()
    };
    let serve = || run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_fails(&serve(), 1, &["no tables", "recado init"]);
    assert_eq!(
        test_postgres::number(database.url(), "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"),
        0,
        "tables were made"
    );
    assert!(run(&["init"]).status.success());
    test_postgres::run(
        database.url(),
        "DELETE FROM events; DELETE FROM channels; DELETE FROM api_keys; DELETE FROM institutions",
    );
    assert_fails(&serve(), 1, &["no institution", "recado init"]);
    assert_doctor_fails(&run(&["doctor", "--json", "--listen", "127.0.0.1:0"]), "institutions", "there are none");
    assert!(run(&["init"]).status.success());
}

#[track_caller]
fn assert_doctor_fails(output: &std::process::Output, name: &str, words: &str) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let checks: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let check = checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}: {checks:?}"));
    assert!(check["status"] == "fail" && check["found"].to_string().contains(words), "{check}");
}

/// Only the address is for scripts.
#[test]
fn an_unwritable_standard_output_is_reported() {
    let home = Home::init();
    let full = || std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let output = recado().args(["channels", "list", "--data-dir", home.dir()]).stdout(full()).output();
    assert_fails(&output.expect("the binary starts"), 1, &["cannot write to standard output", "No space left"]);
}
