//! A channel's row is the lock of its queue: whoever changes which of its messages is next has it first.

use std::collections::HashMap;

use recado_domain::channel::{ChannelKey, ChannelState, ChannelType, Epoch, Held};
use recado_domain::clock::Millis;
use recado_domain::queue::{ChannelQueue, ScanCursor};
use recado_domain::status::MessageStatus;
use tokio_postgres::Row;

use crate::sqlkit::postgres::db::{Db, Done, Failure, args, not_understood};

/// A channel whose row this transaction holds: until its end nobody else claims, settles or calls back.
pub(super) struct Locked {
    pub key: ChannelKey,
    pub queue: ChannelQueue,
    epoch: Epoch,
}

/// Locks a channel; `None` where there is none.
pub(super) async fn lock(db: Db<'_>, key: ChannelKey) -> Done<Option<Locked>> {
    Ok(lock_all(db, &[key]).await?.remove(&key))
}

/// Locks these channels, and has the rest of the transaction read by indexes alone: each of its statements has one that
/// gives it the few rows which it wants, in their order. The planner goes by counts of some minutes ago, and where a
/// backlog has grown since, it would read and sort all of it for each claim.
pub(super) async fn lock_all(db: Db<'_>, keys: &[ChannelKey]) -> Done<HashMap<ChannelKey, Locked>> {
    let sql = "select key, type, state, connected_at is not null, deleted_at is not null, next_send_at,
                      restricted_until, front_before, front_until, front_latest, front_per_day, lease_epoch,
                      cancel_before, connections, session, records_messages,
                      -- For this transaction only.
                      set_config('enable_bitmapscan', 'off', true), set_config('enable_seqscan', 'off', true)
               from channels where key = any($1)
               -- By one order, so that two who lock several never wait for each other.
               order by key
               -- Rows that refer to it may come meanwhile.
               for no key update";
    let rows = db.rows(sql, args![keys]).await?;
    rows.iter().map(|row| locked(row).map(|locked| (locked.key, locked))).collect()
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
    Ok(Locked { key: row.get(0), queue, epoch: row.get(11) })
}

impl Locked {
    /// Refuses a node whose time with this channel has passed.
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
        if let Some(fresh) = lock(db, self.key).await? {
            *self = fresh;
        }
        Ok(())
    }

    /// Writes what a claim or an outcome changes of the row: where the next scan begins, and before which time nothing is
    /// sent. A later time that was set before stands.
    pub async fn keep(&mut self, db: Db<'_>, cursor: ScanCursor, rest_until: Option<Millis>) -> Done<()> {
        let next_send_at = self.queue.next_send_at.max(rest_until.unwrap_or(0));
        if cursor == self.queue.cursor && next_send_at == self.queue.next_send_at {
            return Ok(());
        }
        let sql = "update channels
                   set next_send_at = $2, front_before = $3, front_until = $4, front_latest = $5, front_per_day = $6
                   where key = $1";
        let ScanCursor { before, until, latest, per_day } = cursor;
        db.run(sql, args![self.key, next_send_at, before, until, latest, per_day.map(i64::from)]).await?;
        (self.queue.cursor, self.queue.next_send_at) = (cursor, next_send_at);
        Ok(())
    }

    /// Sends nothing before this time.
    pub async fn hold(&mut self, db: Db<'_>, until: Millis) -> Done<()> {
        self.keep(db, self.queue.cursor, Some(until)).await
    }

    /// Somebody may be known who was not: messages for them take their places in the line again.
    pub async fn look_again(&mut self, db: Db<'_>) -> Done<()> {
        self.keep(db, ScanCursor::default(), None).await
    }
}

/// A status as the database has it.
pub(super) fn status(number: i16) -> Done<MessageStatus> {
    let status = u8::try_from(number).ok().and_then(MessageStatus::from_number);
    status.ok_or_else(|| not_understood("message status"))
}

/// A status as the database is given it.
pub(super) fn number(status: MessageStatus) -> i16 {
    i16::from(status.number())
}
