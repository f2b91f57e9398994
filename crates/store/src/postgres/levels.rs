//! The levels of the nodes during a rolling upgrade.
//!
//! A row that a node of the previous version cannot send must not be stored while such a node is running: the node
//! would claim the row. Once no such node is running, none can join again, and new rows may have any kind.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::Result;
use crate::sqlkit::postgres::db::{Db, Done, args, with_connection, with_transaction};
use crate::sqlkit::postgres::pool::Pool;

/// The level of this version. A node of the previous version joins with level 0, and understands only contacts.
pub(super) const LEVEL: i32 = 1;
/// The migration that introduced levels.
const MIGRATION: i32 = 15;

/// How long no node of the previous version must have run before the upgrade ends. After an outage of the database all
/// leases have expired, and the nodes return one after another.
const GONE_FOR: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_mins(1) };

/// Whether all nodes have the level of this node. Read from memory for each message.
#[derive(Clone, Default)]
pub(super) struct Levels(Arc<State>);

#[derive(Default)]
struct State {
    ended: AtomicBool,
    /// Since when this node has seen none of the previous version.
    gone_since: Mutex<Option<Instant>>,
}

impl Levels {
    pub fn all_understand_kinds(&self) -> bool {
        self.0.ended.load(Ordering::Acquire)
    }

    /// Ends the upgrade at the start of a process if no node of any version is running.
    pub async fn begin(&self, pool: &Pool) {
        self.end_when(pool, |seen| !seen.any).await;
    }

    /// Ends the upgrade if nodes of the previous version have been gone for long enough. After that the database is not
    /// asked again.
    pub async fn refresh(&self, pool: &Pool) {
        let is_gone = |seen: &Seen| {
            let mut since = self.0.gone_since.lock().unwrap_or_else(PoisonError::into_inner);
            *since = if seen.old { None } else { since.or_else(|| Some(Instant::now())) };
            since.is_some_and(|since| since.elapsed() >= GONE_FOR)
        };
        self.end_when(pool, is_gone).await;
    }

    /// A failure does not concern the caller: the next refresh tries again.
    async fn end_when(&self, pool: &Pool, may_end: impl FnOnce(&Seen) -> bool) {
        if self.all_understand_kinds() {
            return;
        }
        match self.ended(pool, may_end).await {
            Ok(ended) => self.0.ended.store(ended, Ordering::Release),
            Err(error) => tracing::debug!(%error, "node levels not read; the next look tries again"),
        }
    }

    async fn ended(&self, pool: &Pool, may_end: impl FnOnce(&Seen) -> bool) -> Result<bool> {
        let seen = with_connection!(pool, db => read(db))?;
        if seen.is_open && may_end(&seen) {
            with_transaction!(pool, db => end_upgrade(db).await)
        } else {
            Ok(!seen.is_open)
        }
    }
}

/// What the database knows about the nodes.
struct Seen {
    /// Whether nodes of the previous version may join.
    is_open: bool,
    /// Whether a node of the previous version is running.
    old: bool,
    /// Whether any node is running.
    any: bool,
}

async fn read(db: Db<'_>) -> Done<Seen> {
    let sql = "SELECT atthasdef AS is_open, EXISTS (SELECT FROM nodes WHERE level < $1) AS old,
                      EXISTS (SELECT FROM nodes) AS any
               FROM pg_attribute WHERE attrelid = 'nodes'::regclass AND attname = 'level'";
    let row = db.row(sql, args![LEVEL]).await?;
    Ok(row.map_or(Seen { is_open: true, old: true, any: true }, |row| Seen {
        is_open: row.get("is_open"),
        old: row.get("old"),
        any: row.get("any"),
    }))
}

/// Keeps nodes of the previous version from joining; `false` if one has just joined.
async fn end_upgrade(db: Db<'_>) -> Done<bool> {
    // A long reader, such as a dump, must not make the nodes wait behind this transaction, so the lock attempt ends at
    // once.
    db.run("SET LOCAL lock_timeout = '100ms'", args![]).await?;
    // No node joins from here until the commit.
    db.run("LOCK TABLE nodes IN ACCESS EXCLUSIVE MODE", args![]).await?;
    let old = read(db).await?.old;
    if !old {
        // A node of the previous version inserts no level. If it was suspended until now, it cannot join again.
        db.run("ALTER TABLE nodes ALTER COLUMN level DROP DEFAULT", args![]).await?;
        // A node of the previous version that is started now reports why it cannot run.
        db.run("UPDATE recado_migrations SET works_from = number WHERE number = $1", args![MIGRATION]).await?;
    }
    Ok(!old)
}
