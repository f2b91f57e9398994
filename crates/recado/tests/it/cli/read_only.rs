//! A data directory on a disk that is mounted read-only.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::assert_fails;
use crate::disk::SmallDisk;
use crate::harness::{Ended, Home, recado};
use crate::v1::{CARD, Stage};

#[test]
fn a_store_on_a_read_only_disk_is_read_and_backed_up() {
    let (disk, other) = (SmallDisk::mount(), tempfile::tempdir().expect("a directory"));
    let stage = Stage::of(Home::init_in(&disk.dir), &[]);
    let message = stage.accept("sandbox", &[], CARD);
    stage.until(&message, "READ");
    // With a log that no process has merged.
    stage.server.kill();
    assert!(disk.dir.join("recado.db-wal").metadata().expect("a log").len() > 0);
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&disk.dir).status();
    assert!(remounted.expect("mount runs").success());

    let temporary = other.path().join("tmp");
    std::fs::create_dir(&temporary).expect("a directory");
    let run = |args: &[&str]| -> Output {
        recado().env("TMPDIR", &temporary).args(args).args(["--data-dir", stage.home.dir()]).ended()
    };
    let read = |args: &[&str]| -> Value {
        let output = run(args);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    };
    let messages = read(&["messages", "list", "--channel", "sandbox", "--json"]);
    assert_eq!((messages.as_array().map(Vec::len), &messages[0]["status"]), (Some(1), &Value::from("READ")));
    assert!(read(&["channels", "list", "--json"]).as_array().map(Vec::len) > Some(0));
    let person = read(&["data", "export", "--recipient", "5511999998888"]);
    assert_eq!(person["messages"].as_array().map(Vec::len), Some(1));
    assert_fails(
        &run(&["channels", "pause", "sandbox", "--environment", "test"]),
        1,
        &["read-only disk", "nothing can be changed"],
    );
    assert_eq!(temporary.read_dir().expect("a directory").count(), 0, "a copy is left");

    let doctor = run(&["doctor", "--listen", "127.0.0.1:0"]);
    let printed = String::from_utf8_lossy(&doctor.stdout);
    assert_eq!(doctor.status.code(), Some(1), "{printed}");
    assert_eq!(printed.matches("fail").count(), 1, "each cause once: {printed}");
    assert!(printed.contains("mounted read-only") && !printed.contains("restore"), "{printed}");

    let (backup, restored) = (other.path().join("backup"), other.path().join("restored"));
    let utf8 = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let made = read(&["backup", "--json", "--to", &utf8(&backup)]);
    assert!(made["recado.db"].as_u64() > Some(0) && made["sandbox.db"].as_u64() > Some(0), "{made}");
    // The backup may be on such a disk, too.
    let output = recado().arg("restore").arg(&backup).arg("--data-dir").arg(&restored).ended();
    assert!(output.status.success(), "{output:?}");
    let home = Home { temporary: None, dir: restored, ..stage.home };
    home.serve().get(&message, Some(&stage.key)).expect(200);
}
