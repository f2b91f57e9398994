use std::cell::Cell;

use rusqlite::Connection;

use crate::sqlkit::sqlite::connect;
use crate::sqlkit::sqlite::tail::*;

thread_local! {
    static PAGES: Cell<i32> = const { Cell::new(0) };
}

/// A database with a record, whose process can crash: its files are copied elsewhere as they are.
struct Case {
    place: tempfile::TempDir,
    connection: Connection,
    tail: Tail,
}

impl Case {
    fn new() -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("a.db");
        let connection = connect(&path, "full").expect("it opens");
        connection.execute_batch("PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (b BLOB)").expect("a table");
        connection.wal_hook(Some(|_, pages| {
            PAGES.set(pages);
            Ok(())
        }));
        Self { place, connection, tail: Tail::of(&path) }
    }

    fn commit(&mut self) {
        self.connection.execute("INSERT INTO t VALUES (randomblob(20000))", []).expect("stored");
        self.tail.note(PAGES.get());
    }

    /// Commits without a note.
    fn change(&self) {
        self.connection.execute("UPDATE t SET b = randomblob(20000)", []).expect("stored");
    }

    /// The files after a crash, changed by `spoil`, which gets the path of the log.
    fn after_crash(&self, spoil: impl FnOnce(&Path)) -> Result<(), LogLost> {
        let copy = tempfile::tempdir().expect("a directory");
        for name in ["a.db", "a.db-wal", "a.db.tail"] {
            let _ = std::fs::copy(self.place.path().join(name), copy.path().join(name));
        }
        spoil(&copy.path().join("a.db-wal"));
        check(&copy.path().join("a.db"))
    }

    fn checkpoint(&self, how: &str) {
        self.connection.query_row(&format!("PRAGMA wal_checkpoint({how})"), [], |_| Ok(())).expect("done");
    }
}

fn cut(log: &Path, bytes: u64) {
    let file = OpenOptions::new().write(true).open(log).expect("a log");
    let length = file.metadata().expect("metadata").len();
    file.set_len(length - bytes).expect("cut");
}

#[test]
fn a_crash_loses_nothing_and_is_no_loss() {
    let mut case = Case::new();
    assert_eq!(case.after_crash(|_| {}), Ok(()), "nothing was noted");
    for _ in 0..5 {
        case.commit();
        assert_eq!(case.after_crash(|_| {}), Ok(()));
    }
    // A commit that was not noted yet, and one that was not finished.
    case.connection.execute("INSERT INTO t VALUES (randomblob(20000))", []).expect("stored");
    assert_eq!(case.after_crash(|_| {}), Ok(()));
    assert_eq!(case.after_crash(|log| cut(log, 5)), Ok(()), "only what was noted must be there");
}

#[test]
fn a_log_that_begins_anew_is_no_loss() {
    let mut case = Case::new();
    case.commit();
    case.checkpoint("RESTART");
    assert_eq!(case.after_crash(|_| {}), Ok(()));
    // Not noted: the record still names the former log.
    for _ in 0..3 {
        // The page of the record changes, too.
        case.change();
        assert_eq!(case.after_crash(|_| {}), Ok(()));
        case.checkpoint("RESTART");
    }
    case.commit();
    case.tail.clear();
    for _ in 0..2 {
        case.checkpoint("TRUNCATE");
        assert_eq!(case.after_crash(|_| {}), Ok(()));
        case.change();
    }
    case.checkpoint("TRUNCATE");
    assert_eq!(case.after_crash(|_| {}), Ok(()));
    case.commit();
    case.tail.clear();
    let Case { place, connection, .. } = case;
    connection.close().map_err(|(_, error)| error).expect("closed");
    assert!(!place.path().join("a.db-wal").exists());
    assert_eq!(check(&place.path().join("a.db")), Ok(()));
}

#[test]
fn a_lost_log_is_noticed() {
    let mut case = Case::new();
    for _ in 0..5 {
        case.commit();
    }
    let pages = u32::try_from(PAGES.get()).expect("some");
    let lost = |found: Result<(), LogLost>| {
        let lost = found.expect_err("a loss");
        assert_eq!(lost.expected, pages);
        lost.found
    };
    assert_eq!(lost(case.after_crash(|log| std::fs::remove_file(log).expect("it is there"))), 0);
    assert_eq!(lost(case.after_crash(|log| std::fs::write(log, "").expect("a file"))), 0);
    assert_eq!(lost(case.after_crash(|log| cut(log, 1))), pages - 1);
    assert_eq!(lost(case.after_crash(|log| cut(log, 3 * (4096 + 24)))), pages - 3);
    // A changed byte ends the log there.
    let spoilt = lost(case.after_crash(|log| {
        let mut bytes = std::fs::read(log).expect("a log");
        bytes[HEADER + 2 * (4096 + 24) + 100] ^= 1;
        std::fs::write(log, bytes).expect("a log");
    }));
    assert_eq!(spoilt, 2);
    // The log of another database, and one that SQLite has begun since because there was none.
    let mut other = Case::new();
    other.commit();
    let theirs = other.place.path().join("a.db-wal");
    let replaced = case.after_crash(|log| {
        std::fs::copy(theirs, log).expect("a copy");
    });
    assert_eq!(lost(replaced), 0);
    let text = case.after_crash(|log| std::fs::remove_file(log).expect("it is there")).expect_err("a loss").to_string();
    assert!(text.contains("a.db-wal is missing") && text.contains("a.db.tail"), "{text}");
}

#[test]
fn a_record_that_cannot_be_read_says_nothing() {
    let mut case = Case::new();
    case.commit();
    let record = case.place.path().join("a.db.tail");
    let whole = std::fs::read(&record).expect("a record");
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&record, bytes).expect("a record");
        assert_eq!(case.after_crash(|log| std::fs::remove_file(log).expect("it is there")), Ok(()), "byte {at}");
    }
    std::fs::write(&record, &whole[..10]).expect("a record");
    assert_eq!(case.after_crash(|log| std::fs::remove_file(log).expect("it is there")), Ok(()));
}

/// `sqlite3` merges the log of a crashed process when it closes the file.
#[test]
fn a_log_that_another_program_merged_is_no_loss() {
    let mut case = Case::new();
    for _ in 0..5 {
        case.commit();
    }
    let merged = case.after_crash(|log| {
        let file = log.with_file_name("a.db");
        let connection = Connection::open(&file).expect("it opens");
        let rows: i64 = connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("read");
        assert_eq!(rows, 5);
        connection.close().map_err(|(_, error)| error).expect("closed");
        assert!(!log.exists(), "not merged");
    });
    assert_eq!(merged, Ok(()));
}
