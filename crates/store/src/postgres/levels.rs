//! What the nodes understand that share the store, while they are upgraded one after another.
//!
//! A row that a node of the previous version could not send must not be stored while such a node is there: it would claim the
//! row. As soon as none is there, none can come back, and from then on new rows may be of any kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Result;
use crate::sqlkit::postgres::db::{Db, Done, args, plainly, transaction};
use crate::sqlkit::postgres::pool::Pool;

/// What this version understands. A node of the version before it joins with 0, and understands cards alone.
pub(super) const LEVEL: i32 = 1;
/// The migration since which there are levels.
const MIGRATION: i32 = 15;

/// Whether all nodes understand what this one does. Asked in memory for each message.
#[derive(Clone, Default)]
pub(super) struct Levels(Arc<AtomicBool>);

impl Levels {
    pub fn all_understand_kinds(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Looks whether a node of the previous version is there still. Once there is none, this is never asked again.
    pub async fn look(&self, pool: &Pool) -> Result<()> {
        if self.all_understand_kinds() {
            return Ok(());
        }
        let (is_open, old): (bool, bool) = plainly!(pool, db => look(db))?;
        let ended = if is_open && !old { transaction!(pool, db => end_upgrade(db).await)? } else { !is_open };
        self.0.store(ended, Ordering::Release);
        Ok(())
    }
}

/// Whether nodes of the previous version may join, and whether there are any.
async fn look(db: Db<'_>) -> Done<(bool, bool)> {
    let sql = "SELECT atthasdef, EXISTS (SELECT FROM nodes WHERE level < $1)
               FROM pg_attribute WHERE attrelid = 'nodes'::regclass AND attname = 'level'";
    let row = db.row(sql, args![LEVEL]).await?;
    Ok(row.map_or((true, true), |row| (row.get(0), row.get(1))))
}

/// Lets no node of the previous version join any more; `false` where one has just joined.
async fn end_upgrade(db: Db<'_>) -> Done<bool> {
    // From here on nobody joins until the commit.
    db.run("LOCK TABLE nodes IN SHARE ROW EXCLUSIVE MODE", args![]).await?;
    let (_, old) = look(db).await?;
    if !old {
        // A node of the previous version knows no level. One that stood still until now cannot join again.
        db.run("ALTER TABLE nodes ALTER COLUMN level DROP DEFAULT", args![]).await?;
        // One that is started anew is told why it cannot.
        db.run("UPDATE recado_migrations SET works_from = number WHERE number = $1", args![MIGRATION]).await?;
    }
    Ok(!old)
}
