//! The row of a channel is the lock of its queue. A transaction that changes which message is next locks the row first.

use std::collections::HashMap;

use recado_domain::channel::{ChannelKey, ChannelState, ChannelType, Epoch, Held, Ordering};
use recado_domain::clock::Millis;
use recado_domain::queue::{ChannelQueue, ClaimRequest, ScanCursor};
use recado_domain::status::MessageStatus;
use tokio_postgres::Row;

use crate::sqlkit::postgres::db::{Db, Done, Failure, args, column, not_understood};

/// A channel whose row this transaction has locked. Until the end of the transaction no other one claims, settles or
/// cancels.
pub(super) struct Locked {
    pub key: ChannelKey,
    pub queue: ChannelQueue,
    epoch: Epoch,
    /// Whether a change of the row is not written yet.
    unsaved: bool,
}

/// Channels whose rows are locked.
pub(super) struct Queues(HashMap<ChannelKey, ChannelQueue>);

impl Queues {
    pub fn of<'a>(locked: impl IntoIterator<Item = &'a Locked>) -> Self {
        Self(locked.into_iter().map(|locked| (locked.key, locked.queue)).collect())
    }

    /// Which messages may be sent in parallel.
    pub fn ordering(&self, channel: ChannelKey) -> Ordering {
        self.0.get(&channel).map_or(Ordering::Channel, |queue| queue.ordering)
    }

    /// Whether the events of the channel's messages are recorded.
    pub fn records(&self, channel: ChannelKey) -> bool {
        self.0.get(&channel).is_some_and(|queue| queue.records_messages)
    }
}

/// Locks a channel; `None` if it does not exist.
pub(super) async fn lock(db: Db<'_>, key: ChannelKey) -> Done<Option<Locked>> {
    Ok(lock_all(db, &[key]).await?.remove(&key))
}

/// Locks these channels. Waits for the locks of other transactions.
pub(super) async fn lock_all(db: Db<'_>, keys: &[ChannelKey]) -> Done<HashMap<ChannelKey, Locked>> {
    lock_rows(db, keys, ("", "")).await?.iter().map(|row| locked(row).map(|locked| (locked.key, locked))).collect()
}

/// The same, without channels of a newer version that this version does not understand.
pub(super) async fn lock_known(db: Db<'_>, keys: &[ChannelKey]) -> Done<HashMap<ChannelKey, Locked>> {
    known(&lock_rows(db, keys, ("", "")).await?)
}

/// Locks those of these channels that this version understands and no other transaction has locked. In the rest of the
/// transaction each prepared statement has one plan for all values: for a batch, planning would take longer than running.
pub(super) async fn lock_free(db: Db<'_>, keys: &[ChannelKey]) -> Done<HashMap<ChannelKey, Locked>> {
    let plans = "set_config('plan_cache_mode', 'force_generic_plan', true),";
    known(&lock_rows(db, keys, (plans, "SKIP LOCKED")).await?)
}

fn known(rows: &[Row]) -> Done<HashMap<ChannelKey, Locked>> {
    let mut known = HashMap::new();
    for row in rows {
        match locked(row) {
            Ok(locked) => drop(known.insert(locked.key, locked)),
            Err(Failure::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(known)
}

/// Locks channels, and makes the rest of the transaction read by indexes only. Each statement has an index that returns
/// its few rows in their order. The planner uses counts that are some minutes old; if a backlog has grown since, it
/// would read and sort the backlog for each claim. JIT compilation is off, because it takes 20 to 60 ms for statements
/// of less than one.
async fn lock_rows(db: Db<'_>, keys: &[ChannelKey], (plans, others): (&str, &str)) -> Done<Vec<Row>> {
    let sql = format!(include_str!("lock/channels.sql"), plans = plans, others = others);
    db.rows(&sql, args![keys]).await
}

fn locked(row: &Row) -> Done<Locked> {
    let kind = ChannelType::from_name(row.get(1)).ok_or_else(|| not_understood("channel type"))?;
    let state = ChannelState::from_name(row.get(2)).ok_or_else(|| not_understood("channel state"))?;
    let per_day = row.get::<_, Option<i64>>(10).map(u32::try_from).transpose();
    let cursor = ScanCursor {
        before: row.get(7),
        until: row.get(8),
        latest: row.get(9),
        per_day: per_day.map_err(|_| not_understood("limit of new recipients"))?,
    };
    let queue = ChannelQueue {
        was_connected: row.get(3),
        deleted: row.get(4),
        next_send_at: row.get(5),
        restricted_until: row.get(6),
        cancel_before: row.get(12),
        connections: row.get(13),
        session: row.get(14),
        records_messages: row.get(15),
        cursor,
        ..ChannelQueue::of(kind, state)
    };
    Ok(Locked { key: row.get(0), queue, epoch: row.get(11), unsaved: false })
}

impl Locked {
    /// This channel and no other.
    pub fn alone(&self) -> Queues {
        Queues::of([self])
    }

    /// Refuses a node whose lease of the channel has ended.
    pub fn fence(&self, epoch: Epoch) -> Done<()> {
        if self.epoch == epoch { Ok(()) } else { Err(Failure::Fenced) }
    }

    /// The same; whether the channel has this session.
    pub fn has(&self, held: Held) -> Done<bool> {
        self.fence(held.epoch)?;
        Ok(self.queue.session == held.session)
    }

    /// Reads the row again, after it was changed elsewhere in this transaction.
    pub async fn read_again(&mut self, db: Db<'_>) -> Done<()> {
        save(db, [&mut *self]).await?;
        if let Some(fresh) = lock(db, self.key).await? {
            *self = fresh;
        }
        Ok(())
    }

    /// Where the next scan begins. To be [saved](save).
    pub fn place(&mut self, cursor: ScanCursor) {
        self.unsaved |= cursor != self.queue.cursor;
        self.queue.cursor = cursor;
    }

    /// Sends nothing before this time. A later time that is already set stays. To be [saved](save).
    pub fn defer(&mut self, until: Millis) {
        self.unsaved |= until > self.queue.next_send_at;
        self.queue.next_send_at = self.queue.next_send_at.max(until);
    }

    /// Applies the send interval after a claim that returned messages. To be [saved](save).
    pub fn apply_send_interval(&mut self, request: &ClaimRequest, claims: bool) {
        if claims && request.send_interval > 0 {
            self.defer(request.now + request.send_interval);
        }
    }

    /// Resets the scan cursor: a recipient may have become known, so messages that the cursor had skipped can be sent
    /// again.
    pub async fn reset_cursor(&mut self, db: Db<'_>) -> Done<()> {
        self.place(ScanCursor::default());
        save(db, [self]).await
    }
}

/// Writes the changed columns of these channels' rows.
pub(super) async fn save(db: Db<'_>, locked: impl IntoIterator<Item = &mut Locked>) -> Done<()> {
    let unsaved: Vec<_> = locked.into_iter().filter(|locked| locked.unsaved).collect();
    if unsaved.is_empty() {
        return Ok(());
    }
    let cursor = |locked: &&mut Locked| locked.queue.cursor;
    let sql = "UPDATE channels c
               SET next_send_at = s.next_send_at, front_before = s.before, front_until = s.until,
                   front_latest = s.latest, front_per_day = s.per_day
               FROM unnest($1, $2, $3, $4, $5, $6) AS s(key, next_send_at, before, until, latest, per_day)
               WHERE c.key = s.key";
    db.run(
        sql,
        args![
            column(&unsaved, |locked| locked.key),
            column(&unsaved, |locked| locked.queue.next_send_at),
            column(&unsaved, |locked| cursor(locked).before),
            column(&unsaved, |locked| cursor(locked).until),
            column(&unsaved, |locked| cursor(locked).latest),
            column(&unsaved, |locked| cursor(locked).per_day.map(i64::from)),
        ],
    )
    .await?;
    unsaved.into_iter().for_each(|locked| locked.unsaved = false);
    Ok(())
}

/// A status as the database has it.
pub(super) fn status(number: i16) -> Done<MessageStatus> {
    let status = u8::try_from(number).ok().and_then(MessageStatus::from_number);
    status.ok_or_else(|| not_understood("message status"))
}

/// The number of a status in the database.
pub(super) fn number(status: MessageStatus) -> i16 {
    i16::from(status.number())
}
