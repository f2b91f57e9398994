//! The shutdown in two stages: the first signal starts a drain, and the second one ends it. Other signals do not stop the
//! server.

use std::future::pending;

use futures_util::future::select_all;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT, and the signals that the server ignores although they would end the process by default.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    ignored: Vec<(&'static str, Signal)>,
}

impl Signals {
    /// Handles SIGTERM and SIGINT, whose default ends the process at once. Closing the terminal still ends a command,
    /// because its output would go nowhere.
    pub fn listen() -> std::io::Result<Self> {
        // A log file that reaches its size limit must cost only log lines. This signal is not logged: the log line would
        // cause the next one.
        drop(signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            ignored: Vec::new(),
        })
    }

    /// As [`Self::listen`], and ignores the signals that must not end a server.
    pub fn listen_as_server() -> std::io::Result<Self> {
        let ignored = [
            // Signals for reloading and for log rotation, and of a closed terminal.
            ("SIGHUP", SignalKind::hangup()),
            ("SIGUSR1", SignalKind::user_defined1()),
            ("SIGUSR2", SignalKind::user_defined2()),
            ("SIGALRM", SignalKind::alarm()),
        ];
        let ignored = ignored.into_iter().map(|(name, kind)| Ok((name, signal(kind)?)));
        Ok(Self { ignored: ignored.collect::<std::io::Result<_>>()?, ..Self::listen()? })
    }

    /// Waits for the next signal that requests a stop.
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

/// Waits for the next of these signals, and returns its name.
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
