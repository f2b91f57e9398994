//! The position in the stream at which a reader begins.

use recado_domain::clock::Millis;
use recado_domain::event::{CursorText, EventSeq, EventState};
use recado_domain::time::parse_rfc3339;

use crate::api::error::ApiError;
use crate::gateway::Gateway;

/// Where a reader without a cursor begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    Now,
    Oldest,
    At(Millis),
}

impl From {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "now" => Some(Self::Now),
            "oldest" => Some(Self::Oldest),
            time => parse_rfc3339(time).map(Self::At),
        }
    }
}

/// The cursor after the event with this number.
pub async fn cursor(gateway: &Gateway, state: &EventState, seq: EventSeq) -> Result<String, ApiError> {
    let at = gateway.store.event_time(seq).await?;
    Ok(CursorText::new(&state.identity, seq, at).to_string())
}

/// The error for a cursor after which events may be missing. The error has a cursor to the oldest stored event.
pub async fn expired(gateway: &Gateway, state: &EventState) -> ApiError {
    match cursor(gateway, state, state.deleted_until).await {
        Ok(oldest) => ApiError::CursorExpired(oldest),
        Err(error) => error,
    }
}

/// The number of the event after which a cursor continues. A cursor is refused if an event after it may have been
/// deleted. A cursor of another store is also refused. So is a cursor from the time before a backup was restored,
/// because its number may name another event now.
pub async fn resume(gateway: &Gateway, state: &EventState, cursor: CursorText) -> Result<EventSeq, ApiError> {
    let there = gateway.store.event_time(cursor.seq).await?;
    // The event of a valid cursor may be missing, because the erasure of a person deletes events.
    let is_other = there.is_some_and(|at| at != cursor.at);
    if !cursor.is_of(&state.identity) || cursor.seq < state.deleted_until || is_other {
        return Err(expired(gateway, state).await);
    }
    Ok(cursor.seq)
}

/// The number of the event after which a reader without a cursor begins.
pub async fn begin(gateway: &Gateway, state: &EventState, from: From) -> Result<EventSeq, ApiError> {
    match from {
        From::Now => Ok(gateway.events.settled().await?),
        From::Oldest => Ok(state.deleted_until),
        From::At(time) => {
            let mut search = Search::new(state.deleted_until, gateway.events.settled().await?, time);
            while let Some(middle) = search.middle() {
                search.step(middle, &gateway.store.event_times(middle, WINDOW).await?);
            }
            Ok(search.found(&gateway.store.event_times(search.low, WINDOW).await?))
        }
    }
}

/// Events that each step of a search reads.
const WINDOW: usize = 1_000;

/// Finds the first event of a time or later by binary search. Events are in the order of their times, with two
/// exceptions: receipts that networks report late, and events after the clock was set back. So a step reads as many
/// events as may be late one after another, and moves past these events only if all of them are earlier than the time.
struct Search {
    /// Every event up to this number is earlier than the time.
    low: EventSeq,
    /// The search ends at this number.
    high: EventSeq,
    /// The last settled number. After this number, a transaction may still commit an event before a known event.
    newest: EventSeq,
    time: Millis,
}

impl Search {
    fn new(oldest: EventSeq, newest: EventSeq, time: Millis) -> Self {
        Self { low: oldest, high: newest, newest, time }
    }

    /// The number after which the next step reads.
    fn middle(&self) -> Option<EventSeq> {
        (self.low < self.high).then(|| self.low + (self.high - self.low) / 2)
    }

    /// Narrows the search by the numbers and times of the events after the middle.
    fn step(&mut self, middle: EventSeq, events: &[(EventSeq, Millis)]) {
        let last = self.earlier(events).nth(WINDOW - 1);
        match last {
            Some(last) => self.low = last,
            None => self.high = middle,
        }
    }

    /// The position before the event that was searched for. `events` are the events after `low`.
    fn found(&self, events: &[(EventSeq, Millis)]) -> EventSeq {
        self.earlier(events).last().unwrap_or(self.low)
    }

    /// The numbers of the earlier events at the beginning of the list.
    fn earlier(&self, events: &[(EventSeq, Millis)]) -> impl Iterator<Item = EventSeq> {
        events.iter().take_while(|(seq, at)| *seq <= self.newest && *at < self.time).map(|(seq, _)| *seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: i64 = 20_000;

    /// Event `n` has the number 2n and the time 10n. Late events have the time 0.
    fn at(n: i64, late: &std::ops::Range<i64>) -> Millis {
        if late.contains(&n) { 0 } else { 10 * n }
    }

    fn found(late: &std::ops::Range<i64>, oldest: EventSeq, time: Millis) -> EventSeq {
        let times = |after: EventSeq| {
            let first = after.div_euclid(2) + 1;
            (first..=EVENTS).take(WINDOW).map(|n| (2 * n, at(n, late))).collect::<Vec<_>>()
        };
        let mut search = Search::new(oldest, 2 * EVENTS, time);
        while let Some(middle) = search.middle() {
            search.step(middle, &times(middle));
        }
        search.found(&times(search.low))
    }

    #[test]
    fn a_time_leads_before_its_first_event() {
        for (time, expected) in [(10, 0), (11, 2), (20, 2), (50_000, 9_998), (200_000, 39_998), (200_001, 40_000)] {
            assert_eq!(found(&(0..0), 0, time), expected, "{time}");
        }
        // The search leaves out deleted events.
        assert_eq!(found(&(0..0), 30_000, 50_000), 30_000);
        // No event is left.
        assert_eq!(found(&(0..0), 40_000, 50_000), 40_000);
        // The position does not move past events that are not settled.
        let search = Search::new(4, 8, 1_000);
        assert_eq!(search.found(&[(6, 10), (8, 20), (10, 30)]), 8);
    }

    #[test]
    fn late_events_hide_no_earlier_ones() {
        // A step of the search reads each of these ranges.
        for begin in [10_000, 15_000, 17_500, 19_999] {
            let late = begin - 400..begin + 400;
            for time in [50_000, 10 * begin - 5_000, 10 * begin, 10 * begin + 5_000] {
                let first = (1..=EVENTS).find(|n| at(*n, &late) >= time).unwrap_or(EVENTS + 1);
                assert_eq!(found(&late, 0, time), 2 * (first - 1), "{begin} {time}");
            }
        }
    }
}
