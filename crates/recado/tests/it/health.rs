//! `/health/live`, `/health/ready`, and what a server does that has nothing to do.

use std::time::{Duration, Instant};

use crate::harness::{Server, wait_for};
use crate::v1::{CARD, Stage};

#[test]
fn health_needs_no_key() {
    let stage = Stage::set();
    for path in ["/health/live", "/health/ready"] {
        for key in [None, Some("oapi_sk_test_bad"), Some(&*stage.key)] {
            let answer = stage.server.get(path, key).expect(200);
            assert_eq!(answer.text(), r#"{"status":"ok"}"#, "{path}");
            assert_eq!(answer.header("Content-Type"), Some("application/json; charset=utf-8"), "{path}");
            assert!(answer.header("X-Request-Id").is_some(), "{path}");
        }
    }
}

/// Clock ticks that the process has used, all its threads together.
fn cpu_ticks(server: &Server) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("the process is there");
    // The name in parentheses may hold spaces; behind it, state is the third field, utime and stime are 14th and 15th.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let fields: Vec<_> = fields.split_whitespace().collect();
    fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
}

/// The time in which an idle server is watched; a tick is 10 ms, so 2 ticks are 0.4 %.
const WATCHED: Duration = Duration::from_secs(5);

#[test]
fn an_idle_server_uses_no_cpu() {
    let stage = Stage::set();
    stage.open("held", &["connect", "pause"]);
    for _ in 0..5 {
        stage.until(&stage.accept("sandbox", &[], CARD), "READ");
        // The messages of a paused channel must not cause polling either.
        stage.accept("held", &[], CARD);
    }
    // The work after a busy time ends: for example, uses of keys are written together after some seconds. From then on the
    // server is idle.
    let (mut since, mut ticks) = (Instant::now(), cpu_ticks(&stage.server));
    wait_for("five quiet seconds", || {
        let now = cpu_ticks(&stage.server);
        if now > ticks + 2 {
            (since, ticks) = (Instant::now(), now);
        }
        since.elapsed() >= WATCHED
    });
    // It still wakes up.
    stage.until(&stage.accept("sandbox", &[], CARD), "READ");
}
