//! The progress: a bar on a terminal, a line at an interval in a log, nothing for a program.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{note, tame};

/// The interval of progress lines in a log.
const PAUSE: Duration = Duration::from_secs(5);

/// The outcomes of the lines so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Count {
    pub lines: usize,
    pub accepted: usize,
    /// Sent by an earlier run.
    pub already: usize,
    pub refused: usize,
}

impl Count {
    pub fn done(&self) -> usize {
        self.accepted + self.already + self.refused
    }
}

pub struct Progress {
    started: Instant,
    /// The lines that were done when this run began.
    before: usize,
    way: Way,
}

enum Way {
    Silent,
    Lines { last: Instant },
    Bar(ProgressBar),
}

impl Progress {
    pub fn new(count: Count, silent: bool) -> Self {
        let started = Instant::now();
        let way = match (silent, std::io::stderr().is_terminal()) {
            (true, _) => Way::Silent,
            (false, false) => Way::Lines { last: started },
            (false, true) => Way::Bar(bar(count)),
        };
        Self { started, before: count.already, way }
    }

    /// Shows the count, and the reason of the current wait.
    pub fn show(&mut self, count: Count, waits_for: Option<&str>) {
        let (rate, left) = self.pace(count);
        let outcomes = format!("{} accepted, {} refused", count.accepted + count.already, count.refused);
        let wait = waits_for.map(|what| format!("  waits: {}", tame(what))).unwrap_or_default();
        match &mut self.way {
            Way::Silent => {}
            Way::Lines { last } if last.elapsed() < PAUSE => {}
            Way::Lines { last } => {
                *last = Instant::now();
                note(&format!("{} of {} lines, {rate}/s, {left}; {outcomes}{wait}", count.done(), count.lines));
            }
            Way::Bar(bar) => {
                bar.set_position(count.done() as u64);
                bar.set_message(format!("{rate}/s  {left}  {outcomes}{wait}"));
            }
        }
    }

    /// Prints a text beside the bar.
    pub fn print(&self, text: &str) {
        match &self.way {
            Way::Silent => {}
            Way::Lines { .. } => note(text),
            Way::Bar(bar) => bar.println(text),
        }
    }

    /// Leaves the last state on the terminal.
    pub fn end(&self) {
        if let Way::Bar(bar) = &self.way {
            bar.abandon();
        }
    }

    /// Lines a second, and the remaining time at that rate.
    fn pace(&self, count: Count) -> (String, String) {
        let (seconds, done) = (self.started.elapsed().as_secs_f64(), count.done() - self.before);
        #[expect(clippy::cast_precision_loss, reason = "a rate for the eye")]
        let rate = if done == 0 { 0.0 } else { done as f64 / seconds.max(0.001) };
        #[expect(clippy::cast_precision_loss, reason = "a rate for the eye")]
        let left = (count.lines - count.done()) as f64 / rate;
        let left = Duration::try_from_secs_f64(left.ceil()).map(humantime::format_duration);
        let left = left.map_or_else(|_| "?".to_owned(), |left| left.to_string());
        (format!("{rate:.0}"), format!("{left} left"))
    }
}

fn bar(count: Count) -> ProgressBar {
    let bar = ProgressBar::new(count.lines as u64).with_position(count.already as u64);
    let style = ProgressStyle::with_template("{percent:>3}% [{bar:30}] {pos}/{len}  {wide_msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
