//! `recado backup`, and the restore.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use serde_json::Value;

use super::{assert_fails, mode, run_in};
use crate::harness::{Home, recado, wait_for};
use crate::v1::{CARD, Stage, card, text};

/// The copy is made under load. It contains everything that was accepted before it began, and its server can continue from
/// it.
#[test]
fn a_backup_of_a_busy_server_is_a_store() {
    let stage = Stage::set();
    let held = stage.accept("sandbox", &[], CARD);
    stage.until(&held, "READ");
    stage.open("held", &["connect", "pause"]);
    let waiting = stage.accept("held", &[], &card("5511999997777", "Waits"));
    let (stop, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let place = tempfile::tempdir().expect("a temporary directory");
    let to = place.path().join("copies/1");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    stage.accept("sandbox", &[], CARD);
                    sent.fetch_add(1, SeqCst);
                }
            });
        }
        wait_for("load", || sent.load(SeqCst) > 50);
        let before = sent.load(SeqCst);
        let printed = stage.home.cli(&["backup", "--to", to.to_str().expect("UTF-8")]);
        assert!(printed["recado.db"].as_u64() > Some(0) && printed["sandbox.db"].as_u64() > Some(0), "{printed}");
        let copy = Home {
            temporary: None,
            dir: to.clone(),
            institution: String::new(),
            test_key: stage.key.clone(),
            live_key: String::new(),
            sandbox_channel: String::new(),
            database: None,
            held: Vec::new(),
        };
        let names = copy.cli(&["messages", "list", "--channel", "sandbox", "--limit", "1000000"]);
        assert!(names.as_array().expect("a list").len() > before, "an accepted message is not in the copy");
        stop.store(true, SeqCst);
    });
    let mut names: Vec<_> =
        std::fs::read_dir(&to).expect("a directory").map(|entry| entry.expect("an entry")).collect();
    names.retain(|entry| entry.file_name() != "recado.lock");
    assert_eq!(mode(&to), 0o700);
    assert!(names.iter().all(|entry| mode(&entry.path()) == 0o600), "{names:?}");

    // The restore: the two files alone in a directory.
    drop(stage.server);
    let new = place.path().join("restored");
    std::fs::create_dir(&new).expect("a directory");
    for name in ["recado.db", "sandbox.db"] {
        std::fs::copy(to.join(name), new.join(name)).expect("a copy");
    }
    let home = Home { temporary: None, dir: new, ..stage.home };
    let server = home.serve();
    let get = |path: &str| -> Value { server.get(path, Some(&stage.key)).expect(200).json()["data"].take() };
    assert_eq!(get(&held)["status"], "READ");
    assert_eq!(get(&waiting)["status"], "QUEUED");
    server.call("POST", "/v1/channels/held/resume", Some(&stage.key), &[], None).expect(200);
    wait_for("what waited in the copy", || get(&waiting)["status"] == "READ");
    let shown = get("/v1/sandbox/messages?to=5511999997777");
    assert_eq!((shown.as_array().map(Vec::len), text(&shown[0]["contact"], "name")), (Some(1), "Waits"));
}

#[test]
fn a_backup_overwrites_nothing_and_leaves_no_half() {
    let home = Home::init();
    let place = tempfile::tempdir().expect("a temporary directory");
    let to = place.path().join("copy");
    let back_up = |to: &str| run_in(home.dir(), &["backup", "--to", to]);
    let dir = to.to_str().expect("UTF-8");
    assert_eq!(back_up(dir).status.code(), Some(0));
    let before = std::fs::read(to.join("recado.db")).expect("a copy");
    assert_fails(&back_up(dir), 1, &["is there already"]);
    assert_fails(&back_up(home.dir()), 1, &["in the data directory"]);
    assert_eq!(std::fs::read(to.join("recado.db")).expect("a copy"), before);
    // Files that would be read as part of the copy, and a link that leads the copy elsewhere.
    for (name, text) in
        [("recado.db-wal", "old"), ("sandbox.db-shm", "old"), ("recado.db", "link"), ("sandbox.db", "link")]
    {
        let stale = tempfile::tempdir().expect("a temporary directory");
        let (path, elsewhere) = (stale.path().join(name), stale.path().join("elsewhere"));
        match text {
            "link" => std::os::unix::fs::symlink(&elsewhere, &path).expect("a link"),
            _ => std::fs::write(&path, text).expect("a file"),
        }
        assert_fails(&back_up(stale.path().to_str().expect("UTF-8")), 1, &[name, "is there already"]);
        assert_eq!((stale.path().read_dir().expect("a directory").count(), elsewhere.exists()), (1, false), "{name}");
    }
    let nowhere = place.path().join("nowhere");
    assert_fails(&run_in(nowhere.to_str().expect("UTF-8"), &["backup", "--to", dir]), 1, &["no store"]);
    // No space for the copy: a limit on the size of files plays a full disk.
    let small = place.path().join("small");
    let script = format!(
        "ulimit -f 64; trap '' XFSZ; exec {} backup --data-dir {} --to {}",
        env!("CARGO_BIN_EXE_recado"),
        home.dir(),
        small.display()
    );
    let output = Command::new("bash").args(["-c", &script]).output().expect("bash runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot copy"), "{output:?}");
    assert!(!small.exists(), "half a copy");
    // A damaged store is not copied.
    let mut bytes = std::fs::read(home.dir.join("recado.db")).expect("a store");
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0x55);
    std::fs::write(home.dir.join("recado.db"), bytes).expect("a store");
    let output = back_up(small.to_str().expect("UTF-8"));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!small.exists(), "a damaged copy");
}

/// A copy that fills the disk would stop the server. The sandbox file has a hole of 8 TiB.
#[test]
fn a_backup_that_has_no_room_is_not_begun() {
    let home = Home::init();
    let place = tempfile::tempdir().expect("a temporary directory");
    let to = place.path().join("copy");
    let sandbox = std::fs::File::create(home.dir.join("sandbox.db")).expect("a file");
    sandbox.set_len(8 << 40).expect("a file with a hole");
    let output = run_in(home.dir(), &["backup", "--to", to.to_str().expect("UTF-8")]);
    assert_fails(&output, 1, &["no room in", "MiB are needed"]);
    assert!(!to.exists(), "something is left");
}

/// A power cut after the command's success loses neither the files nor their new directories.
#[test]
fn a_backup_is_on_the_disk_with_all_its_names() {
    let home = Home::init();
    let place = tempfile::tempdir().expect("a temporary directory");
    let (to, trace) = (place.path().join("made/too"), place.path().join("trace"));
    let status = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=fsync", "-o"])
        .arg(&trace)
        .arg(env!("CARGO_BIN_EXE_recado"))
        .args(["backup", "--data-dir", home.dir(), "--to"])
        .arg(&to)
        .stdout(Stdio::null())
        .status()
        .expect("strace is installed");
    assert!(status.success());
    let trace = std::fs::read_to_string(&trace).expect("strace wrote its file");
    for dir in [&*to, &place.path().join("made"), place.path()] {
        assert!(trace.contains(&format!("<{}>) ", dir.display())), "{} is not synced: {trace}", dir.display());
    }
}

/// A command that reads the store of a crashed server, to copy or to check it, does not change it.
#[test]
fn reading_a_store_changes_nothing() {
    let stage = Stage::set();
    stage.until(&stage.accept("sandbox", &[], CARD), "READ");
    stage.server.kill();
    let read = |name: &str| std::fs::read(stage.home.dir.join(name)).expect("a file");
    let files = || ["recado.db", "recado.db-wal", "sandbox.db", "sandbox.db-wal"].map(read);
    let before = files();
    assert!(!before[1].is_empty(), "the crash left a log");
    let place = tempfile::tempdir().expect("a temporary directory");
    assert!(run_in(stage.home.dir(), &["doctor", "--listen", "127.0.0.1:0"]).status.success());
    assert!(before == files(), "doctor has changed it");
    let to = place.path().join("copy");
    assert!(run_in(stage.home.dir(), &["backup", "--to", to.to_str().expect("UTF-8")]).status.success());
    assert!(before == files(), "backup has changed it");
    // Nor does it leave a file in a store that was closed.
    let home = Home::init();
    let names = || home.dir.read_dir().expect("a directory").map(|entry| entry.expect("an entry").file_name());
    let before: BTreeSet<_> = names().collect();
    assert!(run_in(home.dir(), &["doctor", "--listen", "127.0.0.1:0"]).status.success());
    assert_eq!(names().collect::<BTreeSet<_>>(), before);
}

/// Ctrl-C leaves no file behind.
#[test]
fn an_interrupted_backup_leaves_nothing() {
    let home = Home::init();
    // The store has 200 MB, so that the copy takes a while.
    let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute('create table ballast (b blob)')\n\
                  c.execute('with recursive k(n) as (select 1 union all select n+1 from k where n<200) insert into ballast select randomblob(1000000) from k')\nc.commit()";
    let store = home.dir.join("recado.db");
    assert!(Command::new("python3").args(["-c", script]).arg(&store).status().expect("python runs").success());
    let to = home.dir.with_extension("copy");
    let mut command = recado();
    command.args(["backup", "--data-dir", home.dir(), "--to"]).arg(&to).stdout(Stdio::null()).process_group(0);
    let child = command.spawn().expect("the binary starts");
    wait_for("the copy to grow", || {
        to.join("recado.db.unfinished/recado.db").metadata().is_ok_and(|file| file.len() > 0)
    });
    std::thread::sleep(Duration::from_millis(20));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs").success());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(!to.exists(), "something is left");
}
