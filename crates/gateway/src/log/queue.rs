//! The queue of log lines. Logging puts a line into a bounded queue and does not wait; one thread writes to standard error.
//! While standard error is blocked, lines are lost and counted, and a later line reports the number.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::metrics::METRICS;

/// Bytes that wait for a slow reader: some thousand lines.
const ROOM: usize = 512 << 10;
/// The pause before the next attempt if standard error is full, or fails.
const RETRY: Duration = Duration::from_millis(20);
/// The pause between two attempts to report lost or hidden lines, while nothing else is logged.
const REPORT_RETRY: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    /// Sum of the lengths of `lines`.
    bytes: usize,
    /// Lines that were lost since the last report.
    lost: u64,
    /// The process ends: queued lines are written, and later ones are not.
    ends: bool,
    /// The log thread has ended.
    ended: bool,
}

/// What the log thread does next.
struct Next {
    /// `None`: only lost lines are to be reported.
    line: Option<Vec<u8>>,
    lost: u64,
    /// Whether this is the last line.
    last: bool,
}

impl Queue {
    /// Queues one whole line. If the queue is full, the line is lost: logging never waits.
    pub fn push(&self, line: &[u8]) {
        let mut state = self.state();
        if state.bytes + line.len() > ROOM {
            state.lost += 1;
            METRICS.log_lines_lost.inc();
        } else {
            state.bytes += line.len();
            state.lines.push_back(line.to_vec());
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until everything is written, or until `until`.
    pub fn end(&self, until: Instant) {
        let mut state = self.state();
        state.ends = true;
        self.changed.notify_all();
        while !state.ended {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Writes lines until the process ends. `lost_report` makes the line about lost lines; `late` gives hidden lines that are
    /// due, at the end all of them, and whether others are left.
    pub fn write(&self, lost_report: &dyn Fn(u64) -> Vec<u8>, late: &dyn Fn(bool) -> (Vec<Vec<u8>>, bool)) {
        // A line was written in part: the next one must begin on a new line.
        let mut torn = false;
        let mut next_report = Instant::now();
        let mut held = false;
        loop {
            let Next { line, lost, last } = self.next(held);
            // At an interval: a slow reader would otherwise read nothing but these reports.
            if lost > 0 && (last || Instant::now() >= next_report) {
                next_report = Instant::now() + REPORT_RETRY;
                if write_line(&lost_report(lost), &mut torn).is_ok() {
                    self.state().lost -= lost;
                }
            }
            let (late, others) = late(last);
            held = others;
            for line in line.into_iter().chain(late) {
                if write_line(&line, &mut torn).is_err() {
                    self.state().lost += 1;
                    METRICS.log_lines_lost.inc();
                }
            }
            if last {
                break;
            }
        }
        self.state().ended = true;
        self.changed.notify_all();
    }

    /// Waits for the next thing to do. The wait is short while lines are hidden.
    fn next(&self, held: bool) -> Next {
        let mut state = self.state();
        let mut waited = false;
        while state.lines.is_empty() && !state.ends && !(waited && (held || state.lost > 0)) {
            // While nothing is lost or hidden, nothing wakes an idle server.
            if state.lost == 0 && !held {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else {
                let (next, timeout) =
                    self.changed.wait_timeout(state, REPORT_RETRY).unwrap_or_else(PoisonError::into_inner);
                (state, waited) = (next, timeout.timed_out());
            }
        }
        let line = state.lines.pop_front();
        state.bytes -= line.as_ref().map_or(0, Vec::len);
        Next { line, lost: state.lost, last: state.ends && state.lines.is_empty() }
    }

    /// A panic under the lock cannot leave the state half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes one line to standard error, without the lock of `std::io::stderr`: a blocked reader would block
/// every user of that lock.
fn write_line(line: &[u8], torn: &mut bool) -> Result<(), Errno> {
    if *torn {
        write_all(b"\n", torn)?;
    }
    write_all(line, torn)
}

fn write_all(mut rest: &[u8], torn: &mut bool) -> Result<(), Errno> {
    while !rest.is_empty() {
        match rustix::io::write(io::stderr().as_fd(), rest) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                rest = &rest[written..];
                *torn = !rest.is_empty();
            }
            Err(Errno::INTR) => {}
            // Another process has made the pipe non-blocking.
            Err(Errno::AGAIN) => std::thread::sleep(RETRY),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The formatter writes a whole line in one call.
impl io::Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
