//! Where a claim begins to read a queue.

use crate::clock::Millis;
use crate::message::Seq;

use super::{ClaimRequest, OpenRow};

/// The messages at the front of a queue that are known to wait. A claim skips them until `until`, or until the limit is
/// changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScanCursor {
    /// Every open message with a lower number waits, because its recipient is new or throttled.
    pub before: Seq,
    /// When a claim reads these messages again.
    pub until: Option<Millis>,
    /// The latest expiry of these messages. With rare exceptions, messages expire in queue order.
    pub latest: Millis,
    /// The limit of new recipients a day that was valid when these messages were read.
    pub per_day: Option<u32>,
}

/// A message can expire earlier than a message before it. Only a full scan finds it, at most this many milliseconds
/// after its expiry.
const STRAYS_EXPIRE_WITHIN: Millis = 60_000;

impl ScanCursor {
    /// The cursor that this claim uses. If `until` has passed, or if the limit was changed, the claim reads the whole
    /// queue.
    #[must_use]
    pub fn at(self, request: &ClaimRequest) -> Self {
        let holds =
            self.until.is_none_or(|until| request.now < until) && self.per_day == request.new_recipients_per_day;
        if holds { self } else { Self { per_day: request.new_recipients_per_day, ..Self::default() } }
    }

    /// Adds a message that waits until this time.
    pub fn pass(&mut self, row: &OpenRow, until: Millis) {
        self.before = row.seq + 1;
        self.again(until);
        if row.expires_at < self.latest {
            self.again(row.expires_at + STRAYS_EXPIRE_WITHIN);
        }
        self.latest = self.latest.max(row.expires_at);
    }

    fn again(&mut self, at: Millis) {
        self.until = Some(self.until.map_or(at, |until| until.min(at)));
    }

    /// Moves the cursor before a new message, if the message has a lower number. This happens only if the last messages
    /// of the queue were deleted and their numbers are used again.
    pub fn make_room_for(&mut self, seq: Seq) {
        self.before = self.before.min(seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::fixtures::{NOW, request, waiting};

    #[test]
    fn the_cursor_holds_until_its_time_or_another_limit() {
        let cursor = ScanCursor { before: 9, until: Some(NOW + 1), latest: 5, per_day: None };
        let limited = ClaimRequest { new_recipients_per_day: Some(3), ..request(NOW) };
        assert_eq!(cursor.at(&request(NOW)), cursor);
        assert_eq!(cursor.at(&request(NOW + 1)), ScanCursor::default());
        assert_eq!(cursor.at(&limited), ScanCursor { per_day: Some(3), ..ScanCursor::default() });
    }

    #[test]
    fn the_queue_is_scanned_again_for_messages_that_expire_out_of_order() {
        let mut cursor = ScanCursor::default();
        cursor.pass(&waiting(5), NOW + 900_000);
        assert_eq!((cursor.before, cursor.until, cursor.latest), (6, Some(NOW + 900_000), NOW + 500));
        cursor.pass(&OpenRow { expires_at: NOW + 10, ..waiting(6) }, NOW + 900_000);
        assert_eq!((cursor.before, cursor.until), (7, Some(NOW + 10 + STRAYS_EXPIRE_WITHIN)));
        cursor.make_room_for(6);
        assert_eq!(cursor.before, 6);
    }
}
