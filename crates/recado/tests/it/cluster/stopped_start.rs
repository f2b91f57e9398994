//! A node that is told to stop while it starts.

use std::fs::{self, File};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Place;
use crate::harness::wait_for;

/// The lock under which a node migrates; see the store's migrations.
const LOCK: &str = "pg_advisory_lock(7201746394)";
/// How long a stop may take: below the time after which a supervisor kills.
const SOON: Duration = Duration::from_secs(6);

/// Killed when dropped.
struct Starting(Child);

impl Starting {
    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    fn ended_soon(&mut self) -> ExitStatus {
        let end = Instant::now() + SOON;
        loop {
            if let Some(status) = self.0.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < end, "the node did not end");
            sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        drop((self.0.kill(), self.0.wait()));
    }
}

#[test]
fn a_node_that_waits_for_the_migration_of_another_stops_at_once_and_does_not_join() {
    let place = Place::new();
    let url = place.database.url().to_owned();
    // Another node migrates: it holds the lock until its connection is ended.
    let holder = std::thread::spawn({
        let url = format!("{url}?application_name=holder");
        // It is ended by an error.
        move || std::panic::catch_unwind(|| test_postgres::run(&url, &format!("SELECT {LOCK}, pg_sleep(300)")))
    });
    let held = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                WHERE locktype = 'advisory' AND granted AND a.application_name = 'holder'
                  AND a.datname = current_database()";
    wait_for("the lock", || place.number(held) == 1);
    for (name, signal) in [("first", "TERM"), ("second", "INT")] {
        let mut home = place.home.node(name);
        home.database = Some(place.url_of(name));
        let path = home.dir.with_extension("log");
        let mut command = home.command(&["--node-name", name]);
        let output = File::create(&path).expect("a log file");
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("a second handle")).stderr(output);
        let mut node = Starting(command.spawn().expect("the node starts"));
        let log = || fs::read_to_string(&path).expect("a log");
        wait_for("the node to wait", || log().contains("another node migrates the tables; waiting"));
        node.signal(signal);
        assert_eq!(node.ended_soon().code(), Some(0), "{}", log());
        let log = log();
        assert!(log.contains("server stopped during its start"), "{log}");
        assert_eq!(log.matches("another node migrates").count(), 1, "{log}");
        for never in ["node joined", "channels acquired", "listens on"] {
            assert!(!log.contains(never), "{never}: {log}");
        }
    }
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE application_name = 'holder' AND datname = current_database()";
    assert_eq!(place.number(end), 1);
    drop(holder.join());
    // The next start serves.
    let node = place.start("first", &[]);
    assert!(place.id_of("first") > 0, "{}", node.log());
}
