//! Deletes old rows in small batches, so that no other work waits long.

use recado_domain::clock::Millis;
use recado_domain::event::EventSeq;
use recado_domain::message::Seq;
use recado_domain::queue::{PurgeRequest, Purged};

use super::age::Dated;
use super::{events, inbox};
use crate::sql::PAST;
use crate::sqlkit::both::{Executor, Row, values};

/// What statements deleted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Deleted {
    pub rows: u64,
    /// One of them deleted as many rows as it may, so there may be more.
    pub full: bool,
}

impl Deleted {
    /// What one statement deleted.
    pub fn of<E: Executor>(rows: u64) -> Self {
        Self { rows, full: rows == E::PURGED_AT_ONCE.unsigned_abs() }
    }

    /// After old ones of these first rows of a table were deleted: whether there may be old rows behind them.
    pub fn may_leave_more<E: Executor>(head: &[(i64, Millis)]) -> bool {
        i64::try_from(head.len()).is_ok_and(|rows| rows >= E::PURGED_AT_ONCE)
    }

    pub fn add(&mut self, more: Self) {
        self.rows += more.rows;
        self.full |= more.full;
    }
}

/// A condition that every row meets.
pub(super) const ALL: &str = "1 = 1";

/// Deletes the old ones of a table's first rows.
pub(super) async fn delete_old<E: Executor>(
    db: &E,
    rows: &Dated<'_>,
    (before, now): (Millis, Millis),
) -> Result<Deleted, E::Error> {
    let head = rows.head(db, E::PURGED_AT_ONCE).await?;
    let Some(last) = rows.last_old(db, &head, (before, now)).await? else { return Ok(Deleted::default()) };
    let Dated { table, number, time, which } = rows;
    let sql = format!("DELETE FROM {table} WHERE {number} <= ?1 AND {which} AND ({time} < ?2 OR {time} > ?3)");
    let rows = db.run(&sql, values![last, before, now]).await?;
    Ok(Deleted { rows, full: Deleted::may_leave_more::<E>(&head) })
}

/// Each statement has its own commit on PostgreSQL, so no row is locked for longer than a statement takes.
pub(crate) async fn purge<E: Executor>(db: &E, request: &PurgeRequest) -> Result<Purged, E::Error> {
    let (last, messages) = purge_messages(db, request).await?;
    let accounts = format!(
        "DELETE FROM accounts WHERE (channel_key, phone) IN
             (SELECT channel_key, phone FROM accounts{} WHERE checked_at < ?2 ORDER BY checked_at LIMIT ?1)
             AND checked_at < ?2",
        E::index("accounts_by_age")
    );
    // Each with the time before which a row is old.
    let old = [
        (
            "DELETE FROM recipient_pace WHERE (channel_key, recipient) IN
                 (SELECT channel_key, recipient FROM recipient_pace WHERE used_until < ?2 LIMIT ?1)
                 -- The pace may have been used since the subquery read it.
                 AND used_until < ?2",
            request.now,
        ),
        (&*accounts, request.accounts_before()),
        (events::DELETE_OLD_OF_CHANNELS, request.channel_events_before()),
    ];
    let mut deleted = events::delete_old(db, request.events_before, request.now).await?;
    deleted.add(inbox::clear::purge(db, (request.finished_before, request.now)).await?);
    let keys = Dated { table: "idempotency_keys", number: "n", time: "created_at", which: ALL };
    let receipts = Dated { table: "early_receipts", number: "n", time: "received_at", which: ALL };
    for (rows, before) in [(keys, request.used_before), (receipts, request.unmatched_receipts_before())] {
        deleted.add(delete_old(db, &rows, (before, request.now)).await?);
    }
    for (sql, before) in old {
        deleted.add(Deleted::of::<E>(db.run(sql, values![E::PURGED_AT_ONCE, before]).await?));
    }
    Ok(Purged { rows: messages + deleted.rows, next: request.next(last, deleted.full) })
}

/// The last message that was scanned, and when it was queued.
type Scanned = Option<(Seq, Millis)>;

/// Deletes old messages of the next batch. Returns where it ended, and the number of deleted messages.
async fn purge_messages<E: Executor>(db: &E, request: &PurgeRequest) -> Result<(Scanned, u64), E::Error> {
    let sql = "SELECT seq, queued_at
               FROM (SELECT seq, queued_at FROM messages WHERE seq > ?1 ORDER BY seq LIMIT ?2) AS next
               ORDER BY seq DESC LIMIT 1";
    let read = |row: &Row<'_>| Ok((row.get("seq")?, row.get("queued_at")?));
    let last = db.row(sql, values![request.after, E::PURGED_AT_ONCE], read).await?;
    let Some((seq, _)) = last else { return Ok((None, 0)) };
    let finished = format!(include_str!("purge/finished.sql"), PAST = PAST, greatest = E::GREATEST);
    let sql = format!(
        "SELECT max(events.seq) AS last
         FROM (SELECT seq AS gone FROM messages WHERE {finished}) AS finished JOIN events ON message_seq = gone"
    );
    let event = db
        .row(&sql, values![request.after, seq, request.finished_before, request.now], |row| {
            row.get::<Option<EventSeq>>("last")
        })
        .await?;
    // First: without its message, an event is not read any more.
    if let Some(event) = event.flatten() {
        events::note_deleted(db, event).await?;
    }
    let sql = format!("DELETE FROM messages WHERE {finished}");
    let deleted = db.run(&sql, values![request.after, seq, request.finished_before, request.now]).await?;
    if deleted > 0 {
        // After the deletion, because a receipt may have moved a message just before it.
        events::forget_gone(db, (request.after, seq)).await?;
    }
    Ok((last, deleted))
}
