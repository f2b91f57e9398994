//! The night of a single server with its store in a file.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::SeqCst};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use super::clock::SteppedClock;
use super::table::Site;
use super::{CHANNELS, FLAGS, Hook, SetAtEnd, Stage, rotate, secret_key, with_older};
use crate::disk::{Ballast, SmallDisk};
use crate::harness::{Ended, Home, Server, recado, run, wait_for};
use crate::load::{channel_id, join};

#[derive(Clone, Copy)]
enum Event {
    StallLog,
    ReadLog,
    CloseLog,
    FillDisk,
    /// The clock is wrong by this many steps.
    StepClock(i64),
    RotateKeys,
}

/// What happens in a round, and when.
const ROUND: [(f64, Event); 9] = [
    (0.05, Event::StallLog),
    (0.20, Event::ReadLog),
    (0.25, Event::FillDisk),
    (0.40, Event::StepClock(1)),
    (0.55, Event::StepClock(0)),
    (0.65, Event::CloseLog),
    (0.70, Event::StepClock(-1)),
    (0.80, Event::StepClock(0)),
    (0.85, Event::RotateKeys),
];

/// Reads the log of a server. The file keeps the warnings and errors.
struct LogReader {
    state: Arc<AtomicU8>,
}

const READS: u8 = 0;
const STALLED: u8 = 1;
const CLOSED: u8 = 2;

impl LogReader {
    fn start(log: PipeReader, mut kept: File) -> Self {
        let state = Arc::new(AtomicU8::new(READS));
        let (asked, mut log, mut line) = (state.clone(), BufReader::new(log), Vec::new());
        std::thread::spawn(move || {
            loop {
                match asked.load(SeqCst) {
                    STALLED => sleep(Duration::from_millis(20)),
                    // The end of the thread closes the pipe.
                    CLOSED => return,
                    _ => {
                        line.clear();
                        if log.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
                            return;
                        }
                        let text = String::from_utf8_lossy(&line);
                        if text.contains(" WARN ") || text.contains(" ERROR ") {
                            kept.write_all(&line).expect("the file is on another disk");
                        }
                    }
                }
            }
        });
        Self { state }
    }

    fn set(&self, state: u8) {
        self.state.store(state, SeqCst);
    }
}

/// The server and its surroundings.
struct House<'a> {
    stage: &'a Stage,
    home: &'a Home,
    disk: &'a SmallDisk,
    clock: &'a SteppedClock,
    /// Set while the disk is full.
    full: &'a AtomicBool,
    log: LogReader,
    server: Option<Server>,
    /// The number of the newest secret key.
    key: u8,
}

fn start(home: &Home, clock: &SteppedClock, keys: &str) -> (Server, LogReader) {
    // A line for each request, so that a log that is not read fills soon.
    let mut command = home.command(&[&FLAGS[..], &["--log", "debug"]].concat());
    command.env("RECADO_SECRET_KEY", keys);
    clock.give(&mut command);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let server = Server::start_logging_to(command, home, writer);
    let kept = File::options().append(true).create(true).open(home.dir.with_extension("log"));
    (server, LogReader::start(reader, kept.expect("a log file")))
}

impl House<'_> {
    fn server(&self) -> &Server {
        self.server.as_ref().expect("running")
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::StallLog => {
                self.log.set(STALLED);
                crate::log::fill(self.server());
                self.stage.site.note("log reader stalls");
            }
            Event::ReadLog => {
                self.log.set(READS);
                wait_for("a report of lost log lines", || self.server().log().contains("log lines lost"));
                self.stage.site.note("log reader goes on");
            }
            Event::CloseLog => {
                self.log.set(CLOSED);
                self.stage.site.note("log reader closed");
            }
            Event::FillDisk => self.fill_disk(),
            Event::StepClock(steps) => self.step_clock(steps),
            Event::RotateKeys => {
                self.key += 1;
                self.restart(&with_older(self.key));
                rotate(self.home, None);
                self.restart(&secret_key(self.key));
                self.stage.site.note("keys rotated, two restarts");
            }
        }
    }

    fn fill_disk(&self) {
        let (load, length) = (&self.stage.load, self.stage.night.length);
        self.full.store(true, SeqCst);
        let (refused, mut ballast) = (load.repeated.load(SeqCst), Ballast::new(&self.disk.dir));
        // After a restart and its purge, the files have room inside, and calls may go on.
        if self.key == 0 {
            wait_for("every caller to be refused", || {
                // Repeatedly, because the server may still free some space.
                ballast.fill();
                load.repeated.load(SeqCst) > refused + CHANNELS
            });
        }
        let until = Instant::now() + (length / 200).clamp(Duration::from_secs(1), Duration::from_secs(15));
        while Instant::now() < until {
            ballast.fill();
            sleep(Duration::from_millis(50));
        }
        self.server().get("/health/live", None).expect(200);
        drop(ballast);
        let (freed, accepted) = (Instant::now(), load.accepted.load(SeqCst));
        wait_for("cards to be accepted again", || load.accepted.load(SeqCst) > accepted + CHANNELS);
        self.full.store(false, SeqCst);
        let (refused, again) = (load.repeated.load(SeqCst) - refused, freed.elapsed());
        self.stage
            .site
            .note(format!("disk full, {refused} calls refused; again in use {again:.1?} after it was freed"));
    }

    fn step_clock(&self, steps: i64) {
        let step = (self.stage.night.length / 20).min(Duration::from_mins(2));
        let seconds = steps * i64::try_from(step.as_secs()).expect("small");
        self.clock.step(seconds);
        self.stage.site.note(format!("clock wrong by {seconds} s"));
    }

    fn restart(&mut self, keys: &str) {
        self.stage.stop(self.server.take().expect("running"));
        let (server, log) = start(self.home, self.clock, keys);
        self.stage.enter(&server);
        (self.server, self.log) = (Some(server), log);
    }
}

/// Makes backups until `done`. Each must contain what was listed before it began. Returns how many were made.
fn back_up(stage: &Stage, home: &Home, full: &AtomicBool, done: &AtomicBool) -> u32 {
    let every = (stage.night.length / 60).clamp(Duration::from_secs(10), Duration::from_mins(1));
    let (place, mut made) = (tempfile::tempdir().expect("a temporary directory"), 0);
    for number in 1.. {
        while stage.night.begun.elapsed() < every * number {
            if done.load(SeqCst) {
                return made;
            }
            sleep(Duration::from_millis(20));
        }
        let (newest, was_full) = (stage.audit.newest(0).expect("a message"), full.load(SeqCst));
        let to = place.path().join(number.to_string());
        let to = to.to_str().expect("UTF-8");
        let output = recado().args(["backup", "--data-dir", home.dir(), "--to", to]).ended();
        if !output.status.success() && (was_full || full.load(SeqCst)) {
            stage.site.note("a backup failed on the full disk");
            continue;
        }
        assert!(output.status.success(), "{output:?}");
        let list = ["messages", "list", "--channel", &channel_id(0), "--limit", "1000", "--json", "--data-dir", to];
        assert!(run(&list).contains(&newest), "{newest} is not in the copy");
        std::fs::remove_dir_all(to).expect("removed");
        made += 1;
    }
    made
}

#[test]
fn a_night_of_a_single_server() {
    let length = super::Night::begin().length;
    let disk = SmallDisk::of(if length > Duration::from_mins(5) { "2g" } else { "512m" });
    let home = Home::init_in(&disk.dir);
    let beside = tempfile::tempdir().expect("a temporary directory");
    let clock = SteppedClock::new(beside.path());
    let files = |ends: [&str; 2]| ends.map(|name| disk.dir.join(name));
    let site = Site::new(&files(["recado.db", "sandbox.db"]), &files(["recado.db-wal", "sandbox.db-wal"]));
    let mut stage = Stage::set(&home, site, Hook { order: "conversation", channels: CHANNELS });
    let (server, log) = start(&home, &clock, &secret_key(0));
    stage.furnish(&server);
    stage.enter(&server);
    let (stage, full) = (&stage, &AtomicBool::new(false));
    let (server, home) = (Some(server), &home);
    let mut house = House { stage, home, disk: &disk, clock: &clock, full, log, server, key: 0 };
    let (senders, table) = stage.live_through(|| {
        let done = AtomicBool::new(false);
        scope(|scope| {
            let backups = scope.spawn(|| back_up(stage, home, full, &done));
            let ends = SetAtEnd(&done);
            stage.night.happen(&stage.load, &ROUND, |event| house.happen(event));
            drop(ends);
            let made = join(backups);
            println!("{made} backups");
            assert!(made > 0, "no backup was made");
        });
    });
    stage.check(house.server(), &senders, &table);
}
