//! What the nodes understand that share the store, while they are upgraded one after another.
//!
//! A row that a node of the previous version could not send must not be stored while such a node is there: it would claim the
//! row. As soon as none is there, none can come back, and from then on new rows may be of any kind.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::Result;
use crate::sqlkit::postgres::db::{Db, Done, args, plainly, transaction};
use crate::sqlkit::postgres::pool::Pool;

/// What this version understands. A node of the version before it joins with 0, and understands cards alone.
pub(super) const LEVEL: i32 = 1;
/// The migration since which there are levels.
const MIGRATION: i32 = 15;

/// How long no node of the previous version must be there before the upgrade ends. After an outage of the database all leases
/// have expired, and the nodes come back one after another.
const GONE_FOR: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_mins(1) };

/// Whether all nodes understand what this one does. Asked in memory for each message.
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

    /// Looks at the start of a process: where no node is there, of whatever version, nothing has to be waited for.
    pub async fn begin(&self, pool: &Pool) {
        self.end_when(pool, |seen| !seen.any).await;
    }

    /// Looks whether nodes of the previous version have been gone for long enough. Once that is so, this is never asked again.
    pub async fn look(&self, pool: &Pool) {
        let is_gone = |seen: &Seen| {
            let mut since = self.0.gone_since.lock().unwrap_or_else(PoisonError::into_inner);
            *since = if seen.old { None } else { since.or_else(|| Some(Instant::now())) };
            since.is_some_and(|since| since.elapsed() >= GONE_FOR)
        };
        self.end_when(pool, is_gone).await;
    }

    /// A failure is no trouble of the caller: the next look tries again.
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
        let seen = plainly!(pool, db => look(db))?;
        if seen.is_open && may_end(&seen) { transaction!(pool, db => end_upgrade(db).await) } else { Ok(!seen.is_open) }
    }
}

/// What the database says of the nodes.
struct Seen {
    /// Whether nodes of the previous version may join.
    is_open: bool,
    /// Whether one of them is there.
    old: bool,
    /// Whether any node is there.
    any: bool,
}

async fn look(db: Db<'_>) -> Done<Seen> {
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

/// Lets no node of the previous version join any more; `false` where one has just joined.
async fn end_upgrade(db: Db<'_>) -> Done<bool> {
    // Who reads the table for long, such as a dump, must not make the nodes wait behind this transaction: it gives up at once.
    db.run("SET LOCAL lock_timeout = '100ms'", args![]).await?;
    // From here on nobody joins until the commit.
    db.run("LOCK TABLE nodes IN ACCESS EXCLUSIVE MODE", args![]).await?;
    let old = look(db).await?.old;
    if !old {
        // A node of the previous version knows no level. One that stood still until now cannot join again.
        db.run("ALTER TABLE nodes ALTER COLUMN level DROP DEFAULT", args![]).await?;
        // One that is started anew is told why it cannot.
        db.run("UPDATE recado_migrations SET works_from = number WHERE number = $1", args![MIGRATION]).await?;
    }
    Ok(!old)
}
