//! The reports to systemd, which a test receives in its place.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::thread::scope;
use std::time::{Duration, Instant};

use crate::harness::{Home, PATIENCE, Server};
use crate::trace::Strace;
use crate::v1::CARD;

/// The time of the watchdog, in which several reports must arrive.
const WATCHDOG: Duration = Duration::from_secs(1);

struct Reports {
    socket: UnixDatagram,
}

impl Reports {
    /// The next report within this time.
    fn next(&self, within: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(within)).expect("a time");
        let mut report = [0; 256];
        match self.socket.recv(&mut report) {
            Ok(length) => Some(String::from_utf8(report[..length].to_vec()).expect("UTF-8")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    #[track_caller]
    fn expect(&self, report: &str) {
        let end = Instant::now() + PATIENCE;
        while self.next(PATIENCE).expect("a report") != report {
            assert!(Instant::now() < end, "no {report}");
        }
    }
}

fn start(home: &Home) -> (Server, Reports) {
    let path = home.dir.with_extension("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let mut command = home.command(&[]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    (Server::start(command, home), Reports { socket })
}

#[test]
fn systemd_gets_to_know_the_start_the_progress_and_the_stop() {
    let home = Home::init();
    let (server, reports) = start(&home);
    assert_eq!(reports.next(PATIENCE).as_deref(), Some("READY=1"));
    for _ in 0..3 {
        assert_eq!(reports.next(WATCHDOG * 5).as_deref(), Some("WATCHDOG=1"));
    }
    server.terminate();
    reports.expect("STOPPING=1");
    assert_eq!(server.wait().code(), Some(0));
}

/// A sync that does not end stops the thread that writes. The rest of the server still answers.
#[test]
fn a_writing_thread_that_is_stuck_starves_the_watchdog() {
    let home = Home::init();
    let (server, reports) = start(&home);
    reports.expect("WATCHDOG=1");
    let delay = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:delay_enter=6000000", "-o", "/dev/null"];
    let strace = Strace::attach(&server, &delay);
    let server = &server;
    scope(|scope| {
        let path = "/v1/channels/sandbox/messages/contact";
        let key = Some(&*home.test_key);
        let json = [("Content-Type", "application/json")];
        let call = scope.spawn(move || server.call("POST", path, key, &json, Some(CARD.as_bytes())));
        std::thread::sleep(WATCHDOG / 2);
        while reports.next(Duration::from_millis(1)).is_some() {}
        assert_eq!(reports.next(WATCHDOG * 3), None, "fed, although nothing can be stored");
        server.get("/health/live", None).expect(200);
        strace.detach();
        call.join().expect("no panic").expect(202);
    });
    reports.expect("WATCHDOG=1");
}
