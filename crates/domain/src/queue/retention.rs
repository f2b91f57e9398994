//! Which old rows are deleted.

use std::time::Duration;

use crate::clock::{Millis, millis};
use crate::message::Seq;

/// Which old rows go.
#[derive(Debug, Clone, Copy)]
pub struct PurgeRequest {
    /// The time of the purge.
    pub now: Millis,
    /// Messages that reached their last state before this time.
    pub finished_before: Millis,
    /// Idempotency keys used before this time.
    pub used_before: Millis,
    /// Only messages behind this one; 0 at first.
    pub after: Seq,
}

/// How long a receipt waits for the answer that tells whose it is. An answer takes seconds; one that comes later than
/// this was another program's.
const KEEP_EARLY_RECEIPTS: Duration = Duration::from_hours(1);
/// How long what the network said of a number is kept.
const KEEP_ACCOUNTS: Duration = Duration::from_hours(30 * 24);

/// How long what happened to channels is kept.
const KEEP_CHANNEL_EVENTS: Duration = Duration::from_hours(365 * 24);
/// How long what happened to messages is kept, if the messages are: an event goes with its message.
const KEEP_MESSAGE_EVENTS: Duration = Duration::from_hours(14 * 24);

impl PurgeRequest {
    /// Events of channels before this time are deleted.
    pub fn channel_events_before(&self) -> Millis {
        self.now - millis(KEEP_CHANNEL_EVENTS)
    }

    /// Events of messages before this time are deleted.
    pub fn message_events_before(&self) -> Millis {
        self.now - millis(KEEP_MESSAGE_EVENTS)
    }

    /// Receipts that came before this time are nobody's.
    pub fn early_receipts_before(&self) -> Millis {
        self.now - millis(KEEP_EARLY_RECEIPTS)
    }

    /// What the network said of numbers before this time is deleted.
    pub fn accounts_before(&self) -> Millis {
        self.now - millis(KEEP_ACCOUNTS)
    }

    /// Behind which message the next batch begins; `None` when there is no more. `last`: the last message that was looked
    /// at, and when it was accepted. `full`: of another table, as many rows were deleted as one batch may.
    pub fn next(&self, last: Option<(Seq, Millis)>, full: bool) -> Option<Seq> {
        match last {
            // Behind the first message that was accepted too late, none was finished early enough.
            Some((last, queued_at)) if queued_at < self.finished_before => Some(last),
            _ if full => Some(self.after),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Millis = 3_600_000;

    #[test]
    fn a_purge_goes_on_until_the_messages_are_young_and_no_table_was_full() {
        let now = 1_000 * HOUR;
        let request = PurgeRequest { now, finished_before: 50, used_before: 0, after: 3 };
        let table = [
            // The last message, whether a table was full: where the next batch begins.
            (Some((9, 49)), false, Some(9)),
            (Some((9, 49)), true, Some(9)),
            (Some((9, 50)), true, Some(3)),
            (Some((9, 50)), false, None),
            (None, true, Some(3)),
            (None, false, None),
        ];
        for (last, full, next) in table {
            assert_eq!(request.next(last, full), next, "{last:?}, {full}");
        }
        assert_eq!((request.early_receipts_before(), request.accounts_before()), (999 * HOUR, 280 * HOUR));
    }
}
