//! Warnings and errors that repeat. The first line of a kind is written at once, the next ones at growing intervals
//! with the number of those in between: a failure that lasts for a day must not fill a disk.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::{self, Debug};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The first interval between two lines of a kind; each one is twice as long as the one before.
pub const FIRST_INTERVAL: Duration = Duration::from_secs(1);
/// The longest interval.
pub const LONGEST_INTERVAL: Duration = Duration::from_mins(10);
/// A kind that was quiet for so long begins anew.
pub const QUIET: Duration = Duration::from_mins(1);
/// Kinds of one message that are told apart; further ones count as one kind.
pub const KINDS: usize = 1_000;

/// Fields with the words of a system: `port 4711` and `port 4712` in them are the same trouble.
const WORDS: [&str; 4] = ["error", "reason", "text", "why"];

/// Formats events by `form`, without those that repeat too often.
pub struct Repeats<F> {
    form: F,
    /// `None`: every line is written.
    table: Option<Mutex<Table>>,
    /// What stands before the number of repeats, and behind it, at the end of a line.
    around: (&'static str, &'static str),
}

impl<F> Repeats<F> {
    pub fn new(form: F, limit: bool, around: (&'static str, &'static str)) -> Self {
        Self { form, table: limit.then(Mutex::default), around }
    }
}

impl<F> Repeats<F> {
    /// Whether a line is to be written: `None` where it is not, else how many were hidden since the last one.
    fn look(&self, event: &tracing::Event<'_>) -> Option<u64> {
        let Some(table) = self.table.as_ref().filter(|_| *event.metadata().level() <= tracing::Level::WARN) else {
            return Some(0);
        };
        let kind = kind(event);
        let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
        table.look(event.metadata().callsite(), kind, Instant::now())
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
        // A line that is not to be written is an empty one to the writer.
        let Some(repeated) = self.look(event) else { return Ok(()) };
        if repeated == 0 {
            return self.form.format_event(ctx, writer, event);
        }
        let mut line = String::new();
        self.form.format_event(ctx, Writer::new(&mut line), event)?;
        let (before, behind) = self.around;
        let line = line.trim_end().strip_suffix(behind).unwrap_or(&line);
        writeln!(writer, "{line}{before}{repeated}{behind}")
    }
}

/// A message's kind: its fields, but for numbers in the words of a system.
fn kind(event: &tracing::Event<'_>) -> u64 {
    struct Fields(DefaultHasher);

    impl tracing::field::Visit for Fields {
        fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn Debug) {
            let mut text = format!("{value:?}");
            if WORDS.contains(&field.name()) {
                text.retain(|sign| !sign.is_ascii_digit());
            }
            (field.name(), text).hash(&mut self.0);
        }
    }

    let mut fields = Fields(DefaultHasher::new());
    event.record(&mut fields);
    fields.0.finish()
}

/// What was written when. Its size is bounded: by the messages in the code, times [`KINDS`].
#[derive(Default)]
pub struct Table(HashMap<tracing::callsite::Identifier, HashMap<u64, Kind>>);

/// A kind of line that was written.
struct Kind {
    seen: Instant,
    /// From then on the next line is written.
    next: Instant,
    interval: Duration,
    /// Lines that were not written since the last one that was.
    hidden: u64,
}

impl Table {
    /// Whether a line is to be written: `None` where it is not, else how many were hidden since the last one.
    fn look(&mut self, callsite: tracing::callsite::Identifier, kind: u64, now: Instant) -> Option<u64> {
        let kinds = self.0.entry(callsite).or_default();
        if kinds.len() >= KINDS && !kinds.contains_key(&kind) {
            kinds.retain(|_, kind| now.duration_since(kind.seen) < kind.interval.max(QUIET));
        }
        let kind = if kinds.len() >= KINDS && !kinds.contains_key(&kind) { u64::MAX } else { kind };
        match kinds.entry(kind) {
            Entry::Vacant(place) => {
                place.insert(Kind { seen: now, next: now + FIRST_INTERVAL, interval: FIRST_INTERVAL, hidden: 0 });
                Some(0)
            }
            Entry::Occupied(place) => place.into_mut().look(now),
        }
    }
}

impl Kind {
    fn look(&mut self, now: Instant) -> Option<u64> {
        let quiet = now.duration_since(std::mem::replace(&mut self.seen, now)) >= QUIET;
        if now < self.next && !quiet {
            self.hidden += 1;
            return None;
        }
        self.interval = if quiet { FIRST_INTERVAL } else { (self.interval * 2).min(LONGEST_INTERVAL) };
        self.next = now + self.interval;
        Some(std::mem::take(&mut self.hidden))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds of a list at which a line is written, with what it says of repeats.
    fn written(table: &mut Table, kind: u64, seconds: impl IntoIterator<Item = f64>) -> Vec<(f64, u64)> {
        let begin = Instant::now();
        let at = |second| begin + Duration::from_secs_f64(second);
        seconds.into_iter().filter_map(|second| Some((second, table.look(callsite(), kind, at(second))?))).collect()
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
    fn what_repeats_is_written_at_growing_intervals_with_its_count() {
        let twice_a_second = (0..=2 * 3_600).map(|half| f64::from(half) / 2.0);
        let lines = written(&mut Table::default(), 1, twice_a_second);
        assert_eq!(lines[..4], [(0.0, 0), (1.0, 1), (3.0, 3), (7.0, 7)]);
        assert_eq!(lines.len(), 15, "{lines:?}");
        let told: u64 = lines.iter().map(|(_, repeated)| repeated + 1).sum();
        assert!(told >= 2 * 3_600 - 1_200, "{lines:?}");
    }

    #[test]
    fn after_quiet_a_kind_begins_anew() {
        let lines = written(&mut Table::default(), 1, [0.0, 0.1, 0.2, 61.0, 61.1, 62.0]);
        assert_eq!(lines, [(0.0, 0), (61.0, 2), (62.0, 1)]);
    }

    #[test]
    fn kinds_are_told_apart_up_to_a_limit() {
        let mut table = Table::default();
        let now = Instant::now();
        let first = (0..KINDS as u64).filter(|kind| table.look(callsite(), *kind, now).is_some()).count();
        assert_eq!(first, KINDS);
        let beyond = (0..5_000).filter(|kind| table.look(callsite(), 10_000 + kind, now).is_some()).count();
        assert_eq!((beyond, table.0[&callsite()].len()), (1, KINDS + 1));
        // Quiet ones make room.
        assert_eq!(table.look(callsite(), 99_999, now + QUIET), Some(0));
        assert_eq!(table.0[&callsite()].len(), 1);
    }
}
