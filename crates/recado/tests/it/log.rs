//! Whatever standard error is connected to, the server serves, and ends with 0. Lost log lines are counted.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Read};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Instant;

use crate::harness::{Home, PATIENCE, Server, agent, call, recado, wait_for};
use crate::v1::{CARD, Stage};

/// A server that logs each request to this standard error.
fn stage(stderr: impl Into<Stdio>) -> Stage {
    let home = Home::init();
    let key = home.unlimited_key();
    let mut command = recado();
    command.args(["serve", "--data-dir", home.dir(), "--listen", "127.0.0.1:0", "--log", "debug"]);
    let server = Server::start_logging_to(command, &home, stderr);
    Stage { server, key, home }
}

/// The server logs, serves and ends with 0.
fn assert_serves_and_ends(stage: Stage) {
    for action in ["pause", "resume"] {
        stage.server.call("POST", &format!("/v1/channels/sandbox/{action}"), Some(&stage.key), &[], None).expect(200);
    }
    stage.until(&stage.accept("sandbox", &[], CARD), "READ");
    stage.server.get("/health/live", None).expect(200);
    stage.server.terminate();
    assert_eq!(stage.server.wait().code(), Some(0));
}

#[test]
fn a_log_on_a_full_disk_stops_nothing() {
    assert_serves_and_ends(stage(File::options().write(true).open("/dev/full").expect("/dev/full")));
}

#[test]
fn an_unread_log_does_not_block_the_server() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    assert_serves_and_ends(stage(writer));
    let (reader, writer) = UnixStream::pair().expect("sockets");
    drop(reader);
    assert_serves_and_ends(stage(std::os::fd::OwnedFd::from(writer)));
}

/// Calls until the pipe and the queue are full: from then on log lines are lost.
pub fn fill(server: &Server) {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let (agent, url, id) = (agent(), server.url("/health/live"), "i".repeat(128));
                for _ in 0..800 {
                    let answer = call(&agent, &url, "GET", None, &[("X-Request-Id", &id)], None);
                    assert_eq!(answer.expect("an answer").status, 200);
                }
            });
        }
    });
}

/// Reads whole lines until one reports lost lines.
fn read_until_lost(log: &mut BufReader<PipeReader>) {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(log.read_line(&mut line).expect("the log is text") > 0, "the log ended without a report of lost lines");
        let whole = line.starts_with("20") && line.ends_with('\n') && line.matches("Z DEBUG").count() <= 1;
        assert!(whole, "no whole line: {line:?}");
        if line.contains("ERROR recado_gateway::log: log lines lost lines=") {
            return;
        }
    }
}

#[test]
fn a_stalled_log_reader_does_not_block_the_server() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let stage = stage(writer);
    fill(&stage.server);
    stage.until(&stage.accept("sandbox", &[], CARD), "READ");
    // The reader continues.
    let mut log = BufReader::new(reader);
    read_until_lost(&mut log);
    // The reader stops again, and the end of the server does not wait for it.
    fill(&stage.server);
    let begun = Instant::now();
    assert_serves_and_ends(stage);
    assert!(begun.elapsed() < PATIENCE / 4, "{:?}", begun.elapsed());
    log.read_to_end(&mut Vec::new()).expect("what was written");
}

/// A terminal or another program that shares the pipe may have made it non-blocking.
#[test]
fn a_pipe_that_does_not_block_loses_nothing_that_fits() {
    let (mut reader, writer) = UnixStream::pair().expect("sockets");
    writer.set_nonblocking(true).expect("a socket that does not block");
    let stage = stage(std::os::fd::OwnedFd::from(writer));
    fill(&stage.server);
    let log = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    assert_serves_and_ends(stage);
    let log = log.join().expect("no panic").expect("text");
    assert!(log.lines().all(|line| line.starts_with("20")), "a line is torn");
    assert!(log.contains("log lines lost"), "{}", log.len());
    assert!(log.trim_end().lines().any(|line| line.contains("shutdown started")), "the last lines are missing");
}

/// Without a limit this failure alone writes twenty lines a second.
#[test]
fn a_warning_that_repeats_is_written_less_and_less_often() {
    let home = Home::init();
    let server = home.serve();
    let line = "connection accept failed; retrying";
    let limit = std::process::Command::new("prlimit").args(["--nofile=8", "--pid", &server.pid().to_string()]).status();
    assert!(limit.expect("prlimit runs").success());
    let waiting: Vec<_> = (0..50).map(|_| std::net::TcpStream::connect(&server.address)).collect();
    wait_for("a line that reports repeats", || {
        server.log().lines().any(|l| l.contains(line) && l.contains("repeated="))
    });
    assert!(server.log().matches(line).count() <= 3, "{}", server.log());
    drop(waiting);
}

#[test]
fn signals_that_reload_other_programs_end_nothing() {
    let stage = Stage::set();
    for name in ["HUP", "USR1", "USR2", "ALRM"] {
        stage.server.signal(name);
        let line = format!("signal ignored signal=\"SIG{name}\"");
        wait_for(&line, || stage.server.log().contains(&line));
    }
    assert_serves_and_ends(stage);
}
