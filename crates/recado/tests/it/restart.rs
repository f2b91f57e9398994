//! A single server is restarted under load: callers that repeat a call for a few seconds lose nothing.
//!
//! `RECADO_TEST_RESTARTS` sets the number of restarts (3), `RECADO_TEST_DRAIN` the drain (1s).

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use crate::harness::Home;
use crate::load::{
    Load, Sender, StopAtEnd, card, channel_id, check, check_that_messages_can_be_read, join, open_channel, phone,
    setting, wait_until_read,
};

const CHANNELS: usize = 20;
/// The pause of each caller after a call: together they call almost 200 times a second.
const PAUSE: Duration = Duration::from_millis(95);
const RESTARTS: u64 = 3;
const DRAIN: &str = "1s";
/// Between a server that is ready again and its next restart.
const UP: Duration = Duration::from_secs(2);
/// The longest time without an accepted call, on a machine that builds meanwhile. It is under a second on an idle one.
const LONGEST: Duration = Duration::from_secs(15);

/// The longest time without an accepted card.
pub struct Silence {
    accepted: usize,
    since: Instant,
    longest: Duration,
}

impl Silence {
    pub fn begin() -> Self {
        Self { accepted: 0, since: Instant::now(), longest: Duration::ZERO }
    }

    /// Looks whether cards were accepted. It must be called often.
    pub fn look(&mut self, load: &Load) {
        let accepted = load.accepted.load(SeqCst);
        if accepted > self.accepted {
            (self.accepted, self.since) = (accepted, Instant::now());
        }
        self.longest = self.longest.max(self.since.elapsed());
    }

    /// Takes the longest silence so far.
    pub fn take(&mut self) -> Duration {
        std::mem::take(&mut self.longest)
    }
}

/// Runs `restart` and returns the longest silence until some cards were accepted after it.
fn silence_of<T>(load: &Load, restart: impl FnOnce() -> T) -> (T, Duration) {
    let ended = AtomicBool::new(false);
    scope(|scope| {
        let measuring = scope.spawn(|| {
            let mut silence = Silence::begin();
            while !ended.load(SeqCst) {
                silence.look(load);
                sleep(Duration::from_millis(2));
            }
            silence.take()
        });
        let done = restart();
        sleep(UP);
        ended.store(true, SeqCst);
        (done, join(measuring))
    })
}

#[test]
fn a_single_server_that_is_restarted_is_back_soon_and_loses_nothing() {
    let restarts = setting("RECADO_TEST_RESTARTS").unwrap_or(RESTARTS);
    let drain = std::env::var("RECADO_TEST_DRAIN").unwrap_or_else(|_| DRAIN.to_owned());
    let flags = ["--drain", &drain];
    let home = Home::init();
    let load = Load::new(home.unlimited_key(), PAUSE, card);
    let mut server = home.serve_with(&flags);
    (0..CHANNELS).for_each(|channel| open_channel(&server, &load.key, &channel_id(channel)));
    load.enter(&server);
    let (begun, mut silences) = (Instant::now(), Vec::new());
    let (server, senders) = scope(|scope| {
        let run = |channel| Sender::new(channel, &load).run();
        let threads: Vec<_> = (0..CHANNELS).map(|channel| scope.spawn(move || run(channel))).collect();
        let under_load = StopAtEnd(&load);
        sleep(UP);
        for _ in 0..restarts {
            let (next, silence) = silence_of(&load, || {
                let address = server.address.clone();
                server.terminate();
                assert_eq!(server.wait().code(), Some(0));
                // The callers know this address, and go on calling it.
                home.serve_at(&address, &flags)
            });
            silences.push(silence);
            server = next;
        }
        drop(under_load);
        (server, threads.into_iter().map(join).collect::<Vec<_>>())
    });
    let rate = load.accepted.load(SeqCst) as u128 * 1_000 / begun.elapsed().as_millis();
    println!("{restarts} restarts at {rate} calls a second, seconds without an accepted call: {silences:.2?}");
    wait_until_read(&server, &load.key, &senders);
    let counted = check(restarts, &senders, &phone(&server, &load.key));
    check_that_messages_can_be_read(&server, &load.key, &senders);
    assert!(counted.repeated > 0, "no restart hit a call");
    assert_eq!(counted.resent, 0, "an orderly stop finishes what is in flight");
    assert!(silences.iter().all(|silence| *silence < LONGEST), "{silences:?}");
}
