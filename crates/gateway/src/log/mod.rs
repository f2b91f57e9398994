//! The log of `recado serve`: lines on standard error. Logging never waits, never fails and never ends the process,
//! whatever is behind standard error.

mod queue;
mod repeats;

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::{MakeWriter, format};

use crate::config::{LogConfig, LogFormat};
use queue::Queue;
use repeats::{Lines, Repeats};

/// How long the end of the process waits for a reader of the log.
const LAST_LINES: Duration = Duration::from_millis(500);

/// The log of this process. What is still queued is written when it is dropped.
pub struct Log(Arc<Queue>);

impl Log {
    /// Starts the log and the reports of panics of the process.
    pub fn start(config: &LogConfig) -> Self {
        let queue = Arc::new(Queue::default());
        // The log thread's own line does not pass through the queue, and is not checked for repeats.
        let report = Arc::new(Kept::default());
        let reporter = subscriber(config, report.clone(), None);
        let lost_report = move |lost: u64| {
            tracing::dispatcher::with_default(&reporter, || tracing::error!(lines = lost, "log lines lost"));
            report.take()
        };
        let around = match config.log_format {
            LogFormat::Text => (" repeated=", ""),
            LogFormat::Json => (",\"repeated\":", "}"),
        };
        let woken = queue.clone();
        // An empty line prints nothing, and wakes the log thread.
        let repeated = Arc::new(Lines::new(around, move || woken.push(b"")));
        let (written, hidden) = (queue.clone(), repeated.clone());
        let late = move |end: bool| hidden.late(Instant::now(), end);
        // Without its thread, the queue fills and its lines are counted as lost: the server still works.
        drop(std::thread::Builder::new().name("log".into()).spawn(move || written.write(&lost_report, &late)));
        // An error means that a log was started before: only tests do that.
        drop(tracing::dispatcher::set_global_default(subscriber(config, queue.clone(), Some(repeated))));
        log_panics();
        Self(queue)
    }

    /// Writes a line without level and format, for the reason of a failed start.
    pub fn write_plain(&self, text: &str) {
        self.0.push(format!("{text}\n").as_bytes());
    }
}

/// Also while a panic unwinds.
impl Drop for Log {
    /// Waits until every line is written, but not for a blocked reader.
    fn drop(&mut self) {
        self.0.end(Instant::now() + LAST_LINES);
    }
}

/// Keeps a line until it is read.
#[derive(Default)]
struct Kept(Mutex<Vec<u8>>);

impl Kept {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for &Kept {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What turns events into lines.
fn subscriber<W>(config: &LogConfig, writer: W, repeated: Option<Arc<Lines>>) -> tracing::Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // An internal error of the library would be printed by a macro that panics.
    let lines = tracing_subscriber::fmt().log_internal_errors(false).with_max_level(config.log).with_writer(writer);
    match config.log_format {
        LogFormat::Text => {
            let ansi = std::io::stderr().is_terminal();
            let form = format().with_ansi(ansi);
            tracing::Dispatch::new(lines.with_ansi(ansi).event_format(Repeats::new(form, repeated)).finish())
        }
        LogFormat::Json => {
            tracing::Dispatch::new(lines.json().map_event_format(|json| Repeats::new(json, repeated)).finish())
        }
    }
}

/// Logs only the place of a panic: the text may be personal.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, thread = std::thread::current().name(), "thread panicked");
    }));
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn run(child: &str) -> io::Result<std::process::Output> {
        Command::new(std::env::current_exe()?).args(["--exact", child, "--ignored", "--nocapture"]).output()
    }

    /// The log thread of an idle server sleeps for good.
    #[test]
    fn a_hidden_line_wakes_the_log_thread() {
        let (wake, woken) = std::sync::mpsc::channel();
        let lines = Arc::new(Lines::new((" repeated=", ""), move || wake.send(()).expect("a receiver")));
        let config = LogConfig { log: tracing::level_filters::LevelFilter::INFO, log_format: LogFormat::Text };
        let written = Arc::new(Kept::default());
        tracing::dispatcher::with_default(&subscriber(&config, written.clone(), Some(lines.clone())), || {
            (0..500).for_each(|_| tracing::error!(lines = 1, "log lines lost"));
        });
        assert!(woken.try_iter().count() > 0);
        let (late, others) = lines.late(Instant::now() + repeats::QUIET, false);
        let line = String::from_utf8(late.concat()).expect("text");
        assert!(line.contains("log lines lost lines=1 repeated=") && line.ends_with('\n') && !others, "{line}");
        assert!(String::from_utf8(written.take()).expect("text").lines().count() < 10);
    }

    #[test]
    fn a_burst_before_the_end_is_counted() -> anyhow::Result<()> {
        let output = String::from_utf8(run("log::tests::child_with_a_burst")?.stderr)?;
        let lines: Vec<serde_json::Value> = output
            .lines()
            .filter(|line| line.contains("log lines lost"))
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        let repeated: u64 = lines.iter().filter_map(|line| line["repeated"].as_u64()).sum();
        assert_eq!(lines.len() as u64 + repeated, 500, "{output}");
        assert!(lines.len() < 10, "{output}");
        Ok(())
    }

    #[test]
    #[ignore = "a part of the test above, run by it in a process of its own"]
    fn child_with_a_burst() {
        let config = LogConfig { log: tracing::level_filters::LevelFilter::INFO, log_format: LogFormat::Json };
        let log = Log::start(&config);
        (0..500).for_each(|_| tracing::error!(lines = 1, "log lines lost"));
        drop(log);
    }

    #[test]
    fn the_text_of_a_panic_is_not_logged() -> anyhow::Result<()> {
        // The hook is the process's: in this one it would be every test's.
        let child = run("log::tests::child")?;
        let output = String::from_utf8([child.stdout, child.stderr].concat())?;
        assert!(!child.status.success(), "{output}");
        assert!(output.contains(&format!("\"place\":\"{}:", file!())), "{output}");
        assert!(!output.contains("5531999990001"), "{output}");
        Ok(())
    }

    #[test]
    #[ignore = "a part of the test above, run by it in a process of its own"]
    fn child() {
        let config = LogConfig { log: tracing::level_filters::LevelFilter::INFO, log_format: LogFormat::Json };
        let log = Log::start(&config);
        let panicked = std::thread::spawn(|| panic!("no number: 5531999990001")).join();
        drop(log);
        assert!(panicked.is_ok());
    }
}
