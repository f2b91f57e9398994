//! A write-ahead log that was lost after a crash.

use std::fs;

use super::{assert_fails, run_in};
use crate::harness::Home;
use crate::v1::{CARD, Stage};

#[test]
fn a_lost_log_is_not_taken_for_a_clean_shutdown() {
    let stage = Stage::set();
    for _ in 0..20 {
        stage.until(&stage.accept("sandbox", &[], CARD), "READ");
    }
    let accepted = stage.accept("sandbox", &[], CARD);
    stage.server.kill();
    let (home, key) = (stage.home, stage.key);
    let log = home.dir.join("recado.db-wal");
    let whole = fs::read(&log).expect("a log");
    let to = home.dir.with_extension("copy");
    let refused = |words: &str| {
        let words = ["recado.db-wal", words, "recado.db.tail"];
        for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["channels", "list"]] {
            assert_fails(&run_in(home.dir(), command), 1, &words);
        }
        assert_fails(&run_in(home.dir(), &["backup", "--to", to.to_str().expect("UTF-8")]), 1, &words);
        let doctor = run_in(home.dir(), &["doctor", "--listen", "127.0.0.1:0"]);
        assert_eq!(doctor.status.code(), Some(1), "{doctor:?}");
        let printed = String::from_utf8_lossy(&doctor.stdout);
        assert!(printed.contains(words[1]), "{printed}");
    };
    fs::remove_file(&log).expect("a log");
    refused("0 of them");
    fs::write(&log, &whole[..whole.len() / 2]).expect("a log");
    refused("is missing or cut off");
    assert!(!to.exists(), "a copy without what was lost");
    // Put back, nothing is missing.
    fs::write(&log, &whole).expect("a log");
    let server = home.serve();
    server.get(&accepted, Some(&key)).expect(200);
    let path = crate::v1::contact_path("sandbox");
    server.call("POST", &path, Some(&key), &[crate::v1::JSON], Some(CARD.as_bytes())).expect(202);
    server.kill();
    // The operator can decide to go on without it.
    fs::remove_file(&log).expect("a log");
    refused("0 of them");
    fs::remove_file(home.dir.join("recado.db.tail")).expect("a record");
    drop(home.serve());
}

/// A store that was closed has no log.
#[test]
fn a_closed_store_misses_nothing() {
    let home = Home::init();
    let key = home.unlimited_key();
    for _ in 0..3 {
        let server = home.serve();
        let path = crate::v1::contact_path("sandbox");
        server.call("POST", &path, Some(&key), &[crate::v1::JSON], Some(CARD.as_bytes())).expect(202);
        server.terminate();
        assert_eq!(server.wait().code(), Some(0));
        assert!(!home.dir.join("recado.db-wal").exists());
    }
}
