//! The end in two stages: a first signal asks, a second one insists. Other signals end nothing.

use futures_util::future::select_all;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT; and signals that would end the process by default, and are ignored.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    ignored: Vec<(&'static str, Signal)>,
}

impl Signals {
    /// Takes the signals over from their default, which ends the process at once.
    pub fn listen() -> std::io::Result<Self> {
        // A log file that reaches the limit of its size must cost log lines. No line tells of this signal: that line
        // would bring the next one.
        drop(signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
        let ignored = [
            // The habit of reloading, and what turns log files over; a terminal that was closed.
            ("SIGHUP", SignalKind::hangup()),
            ("SIGUSR1", SignalKind::user_defined1()),
            ("SIGUSR2", SignalKind::user_defined2()),
            ("SIGALRM", SignalKind::alarm()),
        ];
        let ignored = ignored.into_iter().map(|(name, kind)| Ok((name, signal(kind)?)));
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            ignored: ignored.collect::<std::io::Result<_>>()?,
        })
    }

    /// Waits for the next one that asks for the end.
    pub async fn next(&mut self) {
        loop {
            let others = self.ignored.iter_mut().map(|(name, signal)| {
                Box::pin(async move {
                    signal.recv().await;
                    *name
                })
            });
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                (name, ..) = select_all(others) => tracing::info!(signal = name, "a signal was ignored"),
            }
        }
    }
}
