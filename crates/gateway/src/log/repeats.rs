//! Limits repeated warnings and errors. The first line of a kind is written at once, the next ones at growing intervals with the
//! number of hidden lines: a failure that lasts for a day must not fill a disk. If no further line comes, the first hidden one is
//! written later, with the number of the others.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::{self, Debug};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The first interval between two lines of a kind. Each interval is twice as long as the one before.
pub const FIRST_INTERVAL: Duration = Duration::from_secs(1);
/// The longest interval.
pub const LONGEST_INTERVAL: Duration = Duration::from_mins(10);
/// A kind that was quiet for this time starts again with the first interval.
pub const QUIET: Duration = Duration::from_mins(1);
/// The pause between two searches for quiet kinds.
const SEARCH: Duration = Duration::from_secs(1);
/// The most kinds of one message; further kinds count as one.
pub const KINDS: usize = 1_000;

/// The field with the text of a failure: `port 4711` and `port 4712` in it are the same failure.
const FAILURE: &str = "error";

/// Formats events by `form`, and hides repeated ones.
pub struct Repeats<F> {
    form: F,
    /// `None`: every line is written.
    lines: Option<Arc<Lines>>,
}

/// The lines of one log that repeat.
pub struct Lines {
    table: Mutex<Table>,
    /// The text before and after the number of repeats, at the end of a line.
    around: (&'static str, &'static str),
    /// Called when a line waits for [`Self::late`].
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Lines {
    pub fn new(around: (&'static str, &'static str), wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self { table: Mutex::default(), around, wake: Box::new(wake) }
    }

    /// The first hidden lines of quiet kinds; at the end of the process, of all kinds. Also whether others are left.
    pub fn late(&self, now: Instant, end: bool) -> (Vec<Vec<u8>>, bool) {
        let mut table = self.table();
        let lines = table.late(now, end).into_iter().map(|(line, more)| self.counted(line, more).into_bytes());
        let lines = lines.collect();
        (lines, table.hidden > 0)
    }

    /// The line with the number of hidden lines.
    fn counted(&self, line: String, repeated: u64) -> String {
        if repeated == 0 {
            return line;
        }
        let (before, behind) = self.around;
        let line = line.trim_end().strip_suffix(behind).unwrap_or(&line);
        format!("{line}{before}{repeated}{behind}\n")
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Repeats<F> {
    pub fn new(form: F, lines: Option<Arc<Lines>>) -> Self {
        Self { form, lines }
    }
}

impl<S, N, F> FormatEvent<S, N> for Repeats<F>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> fmt::Result {
        let Some(lines) = self.lines.as_ref().filter(|_| *event.metadata().level() <= tracing::Level::WARN) else {
            return self.form.format_event(ctx, writer, event);
        };
        let (callsite, kind) = (event.metadata().callsite(), kind(event));
        let seen = lines.table().observe(callsite.clone(), kind, Instant::now());
        // The writer gets an empty line for a hidden one.
        if matches!(seen, Seen::Hidden) {
            return Ok(());
        }
        let mut line = String::new();
        self.form.format_event(ctx, Writer::new(&mut line), event)?;
        match seen {
            Seen::Written(repeated) => writer.write_str(&lines.counted(line, repeated)),
            Seen::FirstHidden | Seen::Hidden => {
                lines.table().keep(&callsite, kind, line);
                (lines.wake)();
                Ok(())
            }
        }
    }
}

/// An event's kind: its fields, without the numbers in the text of a failure.
fn kind(event: &tracing::Event<'_>) -> u64 {
    struct Fields(DefaultHasher);

    impl tracing::field::Visit for Fields {
        fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn Debug) {
            let mut text = format!("{value:?}");
            if field.name() == FAILURE {
                text.retain(|sign| !sign.is_ascii_digit());
            }
            (field.name(), text).hash(&mut self.0);
        }
    }

    let mut fields = Fields(DefaultHasher::new());
    event.record(&mut fields);
    fields.0.finish()
}

/// The kinds and when they were written. Bounded by the number of messages in the code, times [`KINDS`].
#[derive(Default)]
struct Table {
    kinds: HashMap<tracing::callsite::Identifier, HashMap<u64, Kind>>,
    /// Kinds with hidden lines.
    hidden: usize,
    /// The last search for quiet kinds.
    searched: Option<Instant>,
}

/// The decision about a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// The line is written, with the number of lines that were hidden since the last one.
    Written(u64),
    /// The line is hidden and kept, as no other may follow.
    FirstHidden,
    Hidden,
}

/// A kind of line that was written.
struct Kind {
    seen: Instant,
    /// From this time on the next line is written.
    next: Instant,
    interval: Duration,
    /// Lines that were hidden since the last written one.
    hidden: u64,
    /// The first hidden line.
    first: Option<String>,
}

impl Table {
    fn observe(&mut self, callsite: tracing::callsite::Identifier, kind: u64, now: Instant) -> Seen {
        let kinds = self.kinds.entry(callsite).or_default();
        if kinds.len() >= KINDS && !kinds.contains_key(&kind) {
            // Hidden lines are reported before their kind is forgotten.
            kinds.retain(|_, kind| kind.hidden > 0 || now.duration_since(kind.seen) < kind.interval.max(QUIET));
        }
        let kind = if kinds.len() >= KINDS && !kinds.contains_key(&kind) { u64::MAX } else { kind };
        let seen = match kinds.entry(kind) {
            Entry::Vacant(place) => {
                let (next, interval) = (now + FIRST_INTERVAL, FIRST_INTERVAL);
                place.insert(Kind { seen: now, next, interval, hidden: 0, first: None });
                Seen::Written(0)
            }
            Entry::Occupied(place) => place.into_mut().observe(now),
        };
        match seen {
            Seen::FirstHidden => self.hidden += 1,
            Seen::Written(1..) => self.hidden -= 1,
            Seen::Written(0) | Seen::Hidden => {}
        }
        seen
    }

    /// Keeps the first hidden line of a kind.
    fn keep(&mut self, callsite: &tracing::callsite::Identifier, kind: u64, line: String) {
        let kinds = self.kinds.get_mut(callsite);
        let kind = kinds
            .and_then(|kinds| if kinds.contains_key(&kind) { kinds.get_mut(&kind) } else { kinds.get_mut(&u64::MAX) });
        if let Some(kind) = kind.filter(|kind| kind.hidden > 0) {
            kind.first.get_or_insert(line);
        }
    }

    /// Takes the hidden lines of kinds that are quiet, or of all, each with the number of further ones.
    fn late(&mut self, now: Instant, all: bool) -> Vec<(String, u64)> {
        let searched = self.searched.is_some_and(|then| now.saturating_duration_since(then) < SEARCH);
        if self.hidden == 0 || (searched && !all) {
            return Vec::new();
        }
        self.searched = Some(now);
        let kinds = self.kinds.values_mut().flat_map(HashMap::values_mut);
        let quiet = kinds.filter(|kind| all || now.saturating_duration_since(kind.seen) >= QUIET);
        let late: Vec<_> = quiet.filter_map(Kind::take).collect();
        self.hidden -= late.len();
        late
    }
}

impl Kind {
    /// Takes the first hidden line, with the number of those that followed.
    fn take(&mut self) -> Option<(String, u64)> {
        let line = self.first.take()?;
        Some((line, std::mem::take(&mut self.hidden).saturating_sub(1)))
    }

    fn observe(&mut self, now: Instant) -> Seen {
        let quiet = now.duration_since(std::mem::replace(&mut self.seen, now)) >= QUIET;
        if now < self.next && !quiet {
            self.hidden += 1;
            return if self.hidden == 1 { Seen::FirstHidden } else { Seen::Hidden };
        }
        self.interval = if quiet { FIRST_INTERVAL } else { (self.interval * 2).min(LONGEST_INTERVAL) };
        self.next = now + self.interval;
        self.first = None;
        Seen::Written(std::mem::take(&mut self.hidden))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds of a list at which a line is written, with what it says of repeats.
    fn written(table: &mut Table, kind: u64, seconds: impl IntoIterator<Item = f64>) -> Vec<(f64, u64)> {
        let begin = Instant::now();
        let at = |second| begin + Duration::from_secs_f64(second);
        let observe = |second| match table.observe(callsite(), kind, at(second)) {
            Seen::Written(repeated) => Some((second, repeated)),
            _ => None,
        };
        seconds.into_iter().filter_map(observe).collect()
    }

    fn callsite() -> tracing::callsite::Identifier {
        static CALLSITE: tracing::callsite::DefaultCallsite = tracing::callsite::DefaultCallsite::new(&METADATA);
        static METADATA: tracing::Metadata<'static> = tracing::Metadata::new(
            "test",
            "test",
            tracing::Level::WARN,
            None,
            None,
            None,
            tracing::field::FieldSet::new(&[], tracing::callsite::Identifier(&CALLSITE)),
            tracing::metadata::Kind::EVENT,
        );
        tracing::callsite::Identifier(&CALLSITE)
    }

    #[test]
    fn repeated_lines_are_written_at_growing_intervals_with_their_count() {
        let twice_a_second = (0..=2 * 3_600).map(|half| f64::from(half) / 2.0);
        let lines = written(&mut Table::default(), 1, twice_a_second);
        assert_eq!(lines[..4], [(0.0, 0), (1.0, 1), (3.0, 3), (7.0, 7)]);
        assert_eq!(lines.len(), 15, "{lines:?}");
        let reported: u64 = lines.iter().map(|(_, repeated)| repeated + 1).sum();
        assert!(reported >= 2 * 3_600 - 1_200, "{lines:?}");
    }

    #[test]
    fn a_quiet_kind_starts_again_with_the_first_interval() {
        let lines = written(&mut Table::default(), 1, [0.0, 0.1, 0.2, 61.0, 61.1, 62.0]);
        assert_eq!(lines, [(0.0, 0), (61.0, 2), (62.0, 1)]);
    }

    #[test]
    fn kinds_of_lines_are_distinguished_up_to_a_limit() {
        let mut table = Table::default();
        let now = Instant::now();
        let first = (0..KINDS as u64).filter(|kind| table.observe(callsite(), *kind, now) == Seen::Written(0)).count();
        assert_eq!(first, KINDS);
        let beyond =
            (0..5_000).filter(|kind| table.observe(callsite(), 10_000 + kind, now) == Seen::Written(0)).count();
        assert_eq!((beyond, table.kinds[&callsite()].len()), (1, KINDS + 1));
        // Quiet kinds are forgotten when their hidden lines were reported.
        table.keep(&callsite(), 10_001, "x".to_owned());
        assert_eq!(table.late(now + QUIET, false), [("x".to_owned(), 4_998)]);
        assert_eq!(table.observe(callsite(), 99_999, now + QUIET), Seen::Written(0));
        assert_eq!(table.kinds[&callsite()].len(), 1);
    }

    #[test]
    fn the_count_of_a_burst_is_logged_when_it_is_over() {
        let (mut table, now) = (Table::default(), Instant::now());
        for kind in [1, 2] {
            assert_eq!(table.observe(callsite(), kind, now), Seen::Written(0));
        }
        assert_eq!(table.observe(callsite(), 1, now), Seen::FirstHidden);
        table.keep(&callsite(), 1, "a line".to_owned());
        assert!((0..498).all(|_| table.observe(callsite(), 1, now) == Seen::Hidden));
        assert_eq!(table.late(now + QUIET / 2, false), []);
        assert_eq!(table.late(now + QUIET, false), [("a line".to_owned(), 498)]);
        assert_eq!((table.late(now + QUIET * 2, false), table.hidden), (vec![], 0));
        assert_eq!(table.observe(callsite(), 1, now + QUIET * 2), Seen::Written(0));
    }
}
