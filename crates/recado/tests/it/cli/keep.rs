//! `recado backup --keep` and `--verify`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use super::{assert_fails, mode, run_in};
use crate::harness::{Ended, Home, recado};

/// A directory of backups.
struct Series(tempfile::TempDir);

impl Series {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn dir(&self) -> &str {
        self.0.path().to_str().expect("UTF-8")
    }

    /// Makes a backup with `--keep`.
    fn add(&self, home: &Home, keep: u32) -> Value {
        home.cli(&["backup", "--to", self.dir(), "--keep", &keep.to_string()])
    }

    /// The same, as if it had been made at this time. Returns its directory.
    fn add_of(&self, home: &Home, time: &str) -> PathBuf {
        let made = self.add(home, 99);
        let path = self.0.path().join(time);
        fs::rename(made["to"].as_str().expect("a path"), &path).expect("a new name");
        path
    }

    fn names(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.0.path()).expect("a directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        names.filter(|name| !name.starts_with('.')).collect()
    }
}

fn verify(dir: &Path) -> Output {
    recado().args(["backup", "--json", "--verify"]).arg(dir).ended()
}

#[test]
fn the_newest_backups_of_a_store_are_kept_and_nothing_else_is_removed() {
    let (series, home, other) = (Series::new(), Home::init(), Home::init());
    let own = ["2020-01-01T00-00-00Z", "2020-01-02T00-00-00Z", "2020-01-03T00-00-00Z"];
    for time in own {
        series.add_of(&home, time);
    }
    // Things that look like old backups.
    series.add_of(&other, "2019-01-01T00-00-00Z");
    let used = series.add_of(&home, "2019-01-02T00-00-00Z");
    fs::write(used.join("notes.txt"), "mine").expect("a file");
    let elsewhere = tempfile::tempdir().expect("a directory");
    fs::write(elsewhere.path().join("recado.db"), "mine").expect("a file");
    symlink(elsewhere.path(), series.0.path().join("2019-01-03T00-00-00Z")).expect("a link");
    fs::write(series.0.path().join("2019-01-04T00-00-00Z"), "mine").expect("a file");
    let monday = series.0.path().join("monday");
    home.cli(&["backup", "--to", monday.to_str().expect("UTF-8")]);
    let before = series.names();

    let printed = series.add(&home, 2);
    let new = PathBuf::from(printed["to"].as_str().expect("a path"));
    let new_name = new.file_name().expect("a name").to_string_lossy().into_owned();
    let removed: BTreeSet<_> = ["2020-01-01T00-00-00Z", "2020-01-02T00-00-00Z"].map(str::to_owned).into();
    let expected: BTreeSet<_> = before.difference(&removed).cloned().chain([new_name]).collect();
    assert_eq!(series.names(), expected);
    assert_eq!(printed["removed"].as_array().map(Vec::len), Some(2), "{printed}");
    assert!(elsewhere.path().join("recado.db").exists() && used.join("recado.db").exists());
    assert_eq!((mode(&new), mode(&new.join("backup.json"))), (0o700, 0o600));
    assert!(verify(&new).status.success());
}

/// A new backup that could not be made costs no old one.
#[test]
fn a_failed_backup_removes_no_older_one() {
    let (series, home) = (Series::new(), Home::init());
    series.add_of(&home, "2020-01-01T00-00-00Z");
    series.add_of(&home, "2020-01-02T00-00-00Z");
    let before = series.names();
    let mut bytes = fs::read(home.dir.join("recado.db")).expect("a store");
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0x55);
    fs::write(home.dir.join("recado.db"), bytes).expect("a store");
    let output = run_in(home.dir(), &["backup", "--to", series.dir(), "--keep", "1"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(series.names(), before);
}

#[test]
fn what_a_killed_backup_left_is_removed_by_the_next() {
    let (series, home) = (Series::new(), Home::init());
    let left = series.0.path().join("2020-01-01T00-00-00Z");
    fs::create_dir_all(left.join("recado.db.unfinished")).expect("a directory");
    fs::write(left.join("recado.db.unfinished/recado.db"), "half").expect("a file");
    // While another backup to the directory runs, nothing is known to be left.
    let lock = fs::File::create(series.0.path().join(".recado-backup.lock")).expect("a file");
    lock.lock().expect("the lock is free");
    assert_fails(
        &run_in(home.dir(), &["backup", "--to", series.dir(), "--keep", "3"]),
        1,
        &["another backup to", "runs"],
    );
    assert!(left.exists());
    drop(lock);
    let made = series.add(&home, 3);
    assert!(!left.exists(), "{made}");
    assert_eq!(series.names().len(), 1);
    // Killed after its last file had got its name: the backup is complete.
    let complete = series.add_of(&home, "2020-01-02T00-00-00Z");
    let rest = complete.join("recado.db.unfinished");
    fs::create_dir(&rest).expect("a directory");
    assert!(verify(&complete).status.success());
    series.add(&home, 9);
    assert!(complete.exists() && !rest.exists());
}

/// Then the names do not say which backups are old.
#[test]
fn a_clock_that_was_set_back_removes_nothing() {
    let (series, home) = (Series::new(), Home::init());
    for time in ["2020-01-01T00-00-00Z", "2199-01-01T00-00-00Z"] {
        series.add_of(&home, time);
    }
    assert_eq!(series.add(&home, 1)["removed"].as_array().map(Vec::len), Some(0));
    assert_eq!(series.names().len(), 3);
}

/// What must be said, and what is done to a backup.
type Break<'a> = (&'a str, &'a dyn Fn(&Path));

#[test]
fn a_backup_is_verified() {
    let (series, home) = (Series::new(), Home::init());
    let server = home.serve();
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    let backup = || series.add_of(&home, "2020-01-01T00-00-00Z");
    let first = backup();
    let output = verify(&first);
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(printed["contents"]["institutions"], 1, "{printed}");
    assert_eq!(printed["contents"]["apiKeys"], 2, "{printed}");
    assert!(printed["files"]["sandbox.db"].as_u64() > Some(0) && printed["madeAt"].is_string(), "{printed}");
    let elsewhere = Series::new();
    let other = Home::init();
    let of_other = elsewhere.add_of(&other, "2020-01-01T00-00-00Z");

    let breaks: [Break<'_>; 6] = [
        ("is not the file that the backup made", &|dir| {
            let mut bytes = fs::read(dir.join("recado.db")).expect("a file");
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            fs::write(dir.join("recado.db"), bytes).expect("a file");
        }),
        ("is not the file that the backup made", &|dir| {
            fs::copy(of_other.join("recado.db"), dir.join("recado.db")).expect("a copy");
        }),
        ("cannot read", &|dir| fs::remove_file(dir.join("sandbox.db")).expect("it is there")),
        ("has no backup.json", &|dir| fs::remove_file(dir.join("backup.json")).expect("it is there")),
        ("is damaged", &|dir| fs::write(dir.join("backup.json"), "{").expect("a file")),
        ("does not belong to this backup", &|dir| fs::write(dir.join("recado.db-wal"), "old").expect("a file")),
    ];
    for (words, spoil) in breaks {
        spoil(&first);
        assert_fails(&verify(&first), 1, &[words]);
        fs::remove_dir_all(&first).expect("it is there");
        assert!(verify(&backup()).status.success());
    }
}
