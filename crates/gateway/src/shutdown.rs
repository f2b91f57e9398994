//! The end in two stages: a first signal asks, a second one insists. Other signals do not end the server.

use std::future::pending;

use futures_util::future::select_all;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT; and signals that would end the process by default, and are ignored by the server.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    ignored: Vec<(&'static str, Signal)>,
}

impl Signals {
    /// Takes SIGTERM and SIGINT over from their default, which ends the process at once. A terminal that is closed still
    /// ends a command: nobody would see it go on.
    pub fn listen() -> std::io::Result<Self> {
        // A log file that reaches the limit of its size must cost log lines. No line tells of this signal: that line
        // would bring the next one.
        drop(signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            ignored: Vec::new(),
        })
    }

    /// As [`Self::listen`], and ignores what must not end a server.
    pub fn listen_as_server() -> std::io::Result<Self> {
        let ignored = [
            // The habit of reloading, and what turns log files over; a terminal that was closed.
            ("SIGHUP", SignalKind::hangup()),
            ("SIGUSR1", SignalKind::user_defined1()),
            ("SIGUSR2", SignalKind::user_defined2()),
            ("SIGALRM", SignalKind::alarm()),
        ];
        let ignored = ignored.into_iter().map(|(name, kind)| Ok((name, signal(kind)?)));
        Ok(Self { ignored: ignored.collect::<std::io::Result<_>>()?, ..Self::listen()? })
    }

    /// Waits for the next one that asks for the end.
    pub async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                name = next_of(&mut self.ignored) => tracing::info!(signal = name, "signal ignored"),
            }
        }
    }
}

/// Waits for the next of these, and gives its name.
async fn next_of(signals: &mut [(&'static str, Signal)]) -> &'static str {
    if signals.is_empty() {
        return pending().await;
    }
    let signals = signals.iter_mut().map(|(name, signal)| {
        Box::pin(async move {
            signal.recv().await;
            *name
        })
    });
    select_all(signals).await.0
}
