//! Which old rows are deleted.

use std::time::Duration;

use crate::clock::{Millis, millis};
use crate::message::Seq;

/// The rows that a purge deletes.
#[derive(Debug, Clone, Copy)]
pub struct PurgeRequest {
    /// The time of the purge.
    pub now: Millis,
    /// Messages that reached their final state before this time.
    pub finished_before: Millis,
    /// Idempotency keys used before this time.
    pub used_before: Millis,
    /// Events before this time are deleted, except those of channels. An event of a message is deleted with its message.
    pub events_before: Millis,
    /// Only messages after this one; 0 at first.
    pub after: Seq,
}

/// What a batch of a purge did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purged {
    /// The deleted rows. Rows that are deleted with another one, such as the events of a message, are not counted.
    pub rows: u64,
    /// The message after which the next batch begins; `None` if no old data is left.
    pub next: Option<Seq>,
}

/// How long a receipt waits for the answer that names its message. An answer takes seconds; a receipt without a match after
/// this time is another program's.
const UNMATCHED_RECEIPT_RETENTION: Duration = Duration::from_hours(1);
/// How long the accounts of numbers are kept.
const ACCOUNT_RETENTION: Duration = Duration::from_hours(30 * 24);

/// How long the events of channels are kept.
const CHANNEL_EVENT_RETENTION: Duration = Duration::from_hours(365 * 24);

impl PurgeRequest {
    /// Events of channels before this time are deleted.
    pub fn channel_events_before(&self) -> Millis {
        self.now - millis(CHANNEL_EVENT_RETENTION)
    }

    /// Unmatched receipts before this time are deleted.
    pub fn unmatched_receipts_before(&self) -> Millis {
        self.now - millis(UNMATCHED_RECEIPT_RETENTION)
    }

    /// Accounts that were checked before this time are deleted.
    pub fn accounts_before(&self) -> Millis {
        self.now - millis(ACCOUNT_RETENTION)
    }

    /// The message after which the next batch begins; `None` if there is none. `last` is the last message that was read, and
    /// when it was accepted. `full` means that as many rows of another table were deleted as a batch may delete.
    pub fn next(&self, last: Option<(Seq, Millis)>, full: bool) -> Option<Seq> {
        match last {
            // No message behind the first one that was accepted too late can have finished early enough.
            // One from the future, after a time in which the clock was ahead, says nothing about those behind it.
            Some((last, queued_at)) if queued_at < self.finished_before || queued_at > self.now => Some(last),
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
        let request = PurgeRequest { now, finished_before: 50, used_before: 0, events_before: 0, after: 3 };
        let table = [
            // The last message, whether a table was full: where the next batch begins.
            (Some((9, 49)), false, Some(9)),
            (Some((9, 49)), true, Some(9)),
            (Some((9, now)), false, None),
            (Some((9, now + 1)), false, Some(9)),
            (Some((9, 50)), true, Some(3)),
            (Some((9, 50)), false, None),
            (None, true, Some(3)),
            (None, false, None),
        ];
        for (last, full, next) in table {
            assert_eq!(request.next(last, full), next, "{last:?}, {full}");
        }
        assert_eq!((request.unmatched_receipts_before(), request.accounts_before()), (999 * HOUR, 280 * HOUR));
    }
}
