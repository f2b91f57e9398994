//! A night in a short time: a steady load, and everything that happens to an installation. Nothing is lost, doubled or out
//! of order, and memory and files stay as they are.
//!
//! `RECADO_TEST_NIGHT` sets the length (40s); from 20m on old messages are purged meanwhile. One night of each engine prints
//! its table with `--nocapture`.

mod audit;
mod clock;
mod postgres;
mod sqlite;
mod table;
mod tally;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use serde_json::json;

use self::audit::Audit;
use self::table::{Site, Table};
use self::tally::Tally;
use crate::harness::{Ended, Home, Server, recado, wait_for};
use crate::load::{Load, Sender, StopAtEnd, card, channel_id, check, join, open_channel, phone, wait_until_read};
use crate::v1::every_scope;

const CHANNELS: usize = 25;
/// The pause of each caller after a call: together they call about 100 times a second.
const PAUSE: Duration = Duration::from_millis(240);
/// The default length.
const LENGTH: Duration = Duration::from_secs(40);
/// In a longer night, everything happens again in each of these rounds.
const ROUND: Duration = Duration::from_mins(10);
/// How long messages, their events and idempotency keys are kept: longer than callers repeat a call, and less than a round, so
/// that the store reaches its size early.
const KEPT: &str = "5m";

/// The flags of each server.
const FLAGS: [&str; 10] = [
    "--drain",
    "1s",
    "--allow-networks",
    "127.0.0.0/8",
    "--keep-messages",
    KEPT,
    "--keep-events",
    KEPT,
    "--keep-idempotency",
    KEPT,
];

/// The time table.
#[derive(Clone, Copy)]
struct Night {
    begun: Instant,
    length: Duration,
    rounds: u32,
}

impl Night {
    fn begin() -> Self {
        let length = std::env::var("RECADO_TEST_NIGHT").ok();
        let length = length.map_or(LENGTH, |text| humantime::parse_duration(&text).expect("a time such as 60m"));
        let rounds = u32::try_from(length.as_secs() / ROUND.as_secs()).expect("a few").max(1);
        Self { begun: Instant::now(), length, rounds }
    }

    /// Whether the store reaches its final size before the second fifth ends.
    fn is_purged(&self) -> bool {
        self.rounds > 4
    }

    /// Makes the events of every round happen at their parts of it.
    fn happen<E: Copy>(&self, load: &Load, events: &[(f64, E)], mut happen: impl FnMut(E)) {
        let round = self.length / self.rounds;
        for number in 0..self.rounds {
            for (part, event) in events {
                self.sleep_until(load, round * number + round.mul_f64(*part));
                happen(*event);
            }
        }
        self.sleep_until(load, self.length);
    }

    fn sleep_until(&self, load: &Load, time: Duration) {
        while self.begun.elapsed() < time {
            // Joining it reports the reason.
            assert!(!load.stop.load(SeqCst), "a caller or a reader has failed");
            sleep(Duration::from_millis(20));
        }
    }
}

/// The secret keys of a server: a rotation adds the next one.
fn secret_key(number: u8) -> String {
    format!("{:02x}", 16 + number).repeat(32)
}

/// Both keys, as during a rotation to this one.
fn with_older(number: u8) -> String {
    format!("{},{}", secret_key(number), secret_key(number - 1))
}

/// Encrypts the secrets again, beside the running servers. A server with its store in a file has the keys itself.
fn rotate(home: &Home, keys: Option<&str>) {
    let mut command = recado();
    command
        .args(["secrets", "rotate", "--json", "--data-dir", home.dir()])
        .envs(keys.map(|keys| ("RECADO_SECRET_KEY", keys)));
    command.envs(home.database.as_ref().map(|url| ("RECADO_DATABASE_URL", url)));
    let output = command.ended();
    assert!(output.status.success(), "{output:?}");
    let done: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&done["sealedAnew"], &done["failed"]), (&json!(1), &json!([])), "the secret of the webhook: {done}");
}

/// Sets a flag when it is dropped, also if the test fails.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// The webhook: its order, and the number of channels whose events it gets.
#[derive(Clone, Copy)]
struct Hook {
    order: &'static str,
    channels: usize,
}

/// What a night needs besides its servers.
struct Stage {
    night: Night,
    site: Site,
    load: Load,
    tally: Tally,
    audit: Audit,
    hook: Hook,
}

impl Stage {
    fn set(home: &Home, site: Site, hook: Hook) -> Self {
        let load = Load::new(every_scope(home), PAUSE, card);
        Self { night: Night::begin(), site, load, tally: Tally::start(), audit: Audit::new(CHANNELS), hook }
    }

    /// Creates the channels and the webhook.
    fn furnish(&mut self, server: &Server) {
        (0..CHANNELS).for_each(|channel| open_channel(server, &self.load.key, &channel_id(channel)));
        self.tally.hook(server, &self.load.key, self.hook);
        self.night = Night::begin();
    }

    /// A server takes calls from now on.
    fn enter(&self, server: &Server) {
        self.load.enter(server);
        self.site.enter(server);
    }

    /// Stops a server in order.
    fn stop(&self, server: Server) {
        self.load.leave(&server.address);
        server.terminate();
        self.site.leave(&server);
        assert_eq!(server.wait().code(), Some(0));
    }

    /// Runs `events` under load. Returns the callers, and the table of what the servers used.
    fn live_through(&self, events: impl FnOnce()) -> (Vec<Sender<'_>>, Table) {
        let (end, load) = (AtomicBool::new(false), &self.load);
        scope(|scope| {
            let measured = SetAtEnd(&end);
            let measuring = scope.spawn(|| {
                let mut table = Table::new(self.night.length);
                table.fill(&self.site, load, &self.tally, &end);
                table
            });
            let auditing = scope.spawn(|| {
                let _stop = StopAtEnd(load);
                self.audit.follow(load);
            });
            let run = |channel| {
                let _stop = StopAtEnd(load);
                Sender::new(channel, load).run()
            };
            let threads: Vec<_> = (0..CHANNELS).map(|channel| scope.spawn(move || run(channel))).collect();
            let under_load = StopAtEnd(load);
            events();
            drop(under_load);
            let senders: Vec<_> = threads.into_iter().map(join).collect();
            join(auditing);
            drop(measured);
            (senders, join(measuring))
        })
    }

    /// Compares what was accepted with the store, the phone and the webhook.
    fn check(&self, server: &Server, senders: &[Sender<'_>], table: &Table) {
        wait_until_read(server, &self.load.key, senders);
        wait_for("the whole list", || self.audit.read(&self.load));
        self.audit.check(senders);
        let heard = &senders[..self.hook.channels];
        self.tally.wait_until_read(heard);
        self.tally.check(heard, self.hook.order);
        let counted = check(u64::from(self.night.rounds), senders, &phone(server, &self.load.key));
        assert!(counted.repeated > 0, "no fault hit a call");
        table.check_that_it_is_flat(self.night.is_purged());
    }
}
