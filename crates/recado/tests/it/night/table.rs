//! The table of a night: what was accepted, and what the servers used.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::tally::Tally;
use crate::harness::Server;
use crate::load::Load;
use crate::restart::Silence;

/// The rows of a table.
const ROWS: u32 = 40;
/// How often it is checked whether cards are accepted.
const LOOK: Duration = Duration::from_millis(10);
/// Looks between two measurements of memory and files.
const MEASURE: u32 = 50;
const MIB: u64 = 1 << 20;
/// The most bytes that stay of a message after the purge: its row on the sandbox's phone and its deliveries in the log of the
/// webhook, which both are kept for days.
const KEPT_OF_A_MESSAGE: u64 = 1_280;

/// The running servers, and where their files are.
pub struct Site {
    /// Their process ids.
    running: RwLock<Vec<u32>>,
    store: Vec<PathBuf>,
    wal: Vec<PathBuf>,
    notes: Mutex<Vec<String>>,
}

/// What the servers used: memory in bytes, the files of the store, those of its write-ahead log, open files.
#[derive(Default, Clone, Copy)]
struct Used {
    memory: u64,
    store: u64,
    wal: u64,
    files: u64,
}

/// A row: the largest values since the previous one.
struct Row {
    at: Duration,
    accepted: u64,
    used: Used,
}

impl Site {
    /// The store and its write-ahead log; directories count with all that is in them.
    pub fn new(store: &[PathBuf], wal: &[PathBuf]) -> Self {
        let (running, notes) = Default::default();
        Self { running, store: store.to_vec(), wal: wal.to_vec(), notes }
    }

    /// A server is among the measured ones from now on.
    pub fn enter(&self, server: &Server) {
        self.running.write().expect("not poisoned").push(server.pid());
    }

    pub fn leave(&self, server: &Server) {
        self.running.write().expect("not poisoned").retain(|pid| *pid != server.pid());
    }

    fn notes(&self) -> MutexGuard<'_, Vec<String>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something to show in the next row.
    pub fn note(&self, what: impl Into<String>) {
        self.notes().push(what.into());
    }

    fn used(&self) -> Used {
        let running = self.running.read().expect("not poisoned");
        let sum = |paths: &[PathBuf]| paths.iter().map(|path| size(path)).sum();
        Used {
            memory: running.iter().map(|pid| resident(*pid)).sum(),
            store: sum(&self.store),
            wal: sum(&self.wal),
            files: running.iter().map(|pid| open_files(*pid)).sum(),
        }
    }
}

impl Used {
    fn largest(self, other: Self) -> Self {
        Self {
            memory: self.memory.max(other.memory),
            store: self.store.max(other.store),
            wal: self.wal.max(other.wal),
            files: self.files.max(other.files),
        }
    }
}

/// The bytes of a file, or of all files in a directory. Files may vanish meanwhile.
fn size(path: &Path) -> u64 {
    let Ok(data) = path.symlink_metadata() else { return 0 };
    if !data.is_dir() {
        return data.len();
    }
    let entries = path.read_dir().into_iter().flatten().flatten();
    entries.map(|entry| size(&entry.path())).sum()
}

/// The resident memory of a process; 0 if it has ended.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kilobytes.map_or(0, |kilobytes| kilobytes << 10)
}

fn open_files(pid: u32) -> u64 {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    files.count() as u64
}

/// A table that is printed row by row.
pub struct Table {
    length: Duration,
    rows: Vec<Row>,
}

impl Table {
    pub fn new(length: Duration) -> Self {
        Self { length, rows: Vec::new() }
    }

    /// Measures until `end`.
    pub fn fill(&mut self, site: &Site, load: &Load, tally: &Tally, end: &AtomicBool) {
        println!(
            "| Seconds | Accepted | Calls repeated | Longest silence, s | Reported | Memory, MiB | Store, MiB | WAL, MiB | Open files | |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|");
        let (begun, mut looks) = (Instant::now(), 0_u32);
        let (mut used, mut row) = (Used::default(), 1);
        let mut silence = Silence::begin();
        while !end.load(SeqCst) {
            sleep(LOOK);
            silence.look(load);
            looks += 1;
            if looks.is_multiple_of(MEASURE) {
                used = used.largest(site.used());
            }
            if begun.elapsed() >= self.length / ROWS * row {
                used = used.largest(site.used());
                let accepted = load.accepted.load(SeqCst);
                let (repeated, sent) = (load.repeated.load(SeqCst), tally.counts().0);
                println!(
                    "| {:.0} | {accepted} | {repeated} | {:.2} | {sent} | {:.1} | {:.1} | {:.1} | {} | {} |",
                    begun.elapsed().as_secs_f64(),
                    silence.take().as_secs_f64(),
                    mib(used.memory),
                    mib(used.store),
                    mib(used.wal),
                    used.files,
                    site.notes().drain(..).collect::<Vec<_>>().join("; "),
                );
                self.rows.push(Row { at: begun.elapsed(), accepted: accepted as u64, used });
                (used, row) = (Used::default(), row + 1);
            }
        }
    }

    /// The largest values in one fifth of the night, counted from 1, and the messages that were accepted until its end.
    fn fifth(&self, number: u32) -> (Used, u64) {
        let fifth = self.length / 5;
        let within = |row: &&Row| row.at > fifth * (number - 1) && row.at <= fifth * number + self.length / ROWS / 2;
        let rows = || self.rows.iter().filter(within);
        let used = rows().map(|row| row.used).fold(Used::default(), Used::largest);
        (used, rows().map(|row| row.accepted).max().unwrap_or(0))
    }

    /// Compares the second fifth with the last one. The store may grow by what is kept of each message. It is compared only if it
    /// `is_purged`: otherwise the messages themselves are in it.
    pub fn check_that_it_is_flat(&self, is_purged: bool) {
        let ((second, before), (last, accepted)) = (self.fifth(2), self.fifth(5));
        let kept = (accepted - before) * KEPT_OF_A_MESSAGE;
        for (what, second, last, slack, compared) in [
            ("memory", second.memory, last.memory, 48 * MIB, true),
            ("store", second.store, last.store, 48 * MIB + kept, is_purged),
            ("write-ahead log", second.wal, last.wal, 128 * MIB, true),
            ("open files", second.files, last.files, 40, true),
        ] {
            println!("{what}: {second} at most in the second fifth, {last} in the last");
            assert!(second > 0 && last > 0, "{what} was not measured");
            assert!(!compared || last <= second + second / 4 + slack, "{what} grew from {second} to {last}");
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "it is printed with one digit")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}
