//! The length of the write-ahead log.

use std::cell::Cell;
use std::time::Duration;

use rusqlite::Connection;

use crate::StoreError;
use crate::sqlkit::sqlite::BUSY_TIMEOUT;

/// Pages of 4 KiB in the log before it is written into the database.
pub(super) const CHECKPOINT_AT: i32 = 2_000;

/// Pages in the log before the writer waits for readers to let it start over: the bound of the log's size.
pub(super) const RESTART_AT: i32 = 32_000;

/// How long the writer then waits for readers. Usual readers end within it. A copy of the whole file (`recado backup`) does not: the
/// log grows meanwhile, and the writer tries again when the log has grown by a quarter of its bound.
const RESTART_WAIT: Duration = Duration::from_millis(250);

thread_local! {
    /// Pages in the log after the last commit of this thread, as SQLite reported to the hook.
    pub(super) static LOG_PAGES: Cell<i32> = const { Cell::new(0) };
    /// Pages in the log at which the next restart is tried; more than [`RESTART_AT`] after readers prevented one.
    pub(super) static RESTART_NEXT: Cell<i32> = const { Cell::new(RESTART_AT) };
}

/// Makes SQLite report the log's length after each commit, instead of running automatic checkpoints.
pub(super) fn watch_log(connection: &Connection) {
    LOG_PAGES.set(0);
    RESTART_NEXT.set(RESTART_AT);
    connection.wal_hook(Some(|_, pages| {
        LOG_PAGES.set(pages);
        Ok(())
    }));
}

/// Keeps the log short. Run after the answers, so that no caller waits for it. A failure costs only space: the log
/// still holds everything, and the next round tries again.
pub(super) fn bound_log(connection: &Connection) {
    let pages = LOG_PAGES.get();
    if pages < CHECKPOINT_AT {
        return;
    }
    if pages < RESTART_AT {
        // The log has restarted: the blocking reader has ended.
        RESTART_NEXT.set(RESTART_AT);
    }
    let checkpoint = |sql| connection.query_row(sql, [], |row| row.get::<_, bool>(0));
    let done = if pages < RESTART_NEXT.get() {
        checkpoint("PRAGMA wal_checkpoint(passive)").map(drop)
    } else {
        restart_log(connection, pages, checkpoint)
    };
    match done {
        Ok(()) => LOG_PAGES.set(0),
        Err(error) => tracing::warn!(%error, "WAL checkpoint failed"),
    }
}

pub(super) fn empty_log(connection: &Connection) -> Result<bool, StoreError> {
    let empty = || -> rusqlite::Result<bool> {
        connection.busy_timeout(RESTART_WAIT)?;
        let busy: rusqlite::Result<bool> =
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
        connection.busy_timeout(BUSY_TIMEOUT)?;
        LOG_PAGES.set(0);
        Ok(!busy?)
    };
    empty().map_err(|error| StoreError::Unavailable(error.to_string()))
}

fn restart_log(
    connection: &Connection,
    pages: i32,
    checkpoint: impl Fn(&'static str) -> rusqlite::Result<bool>,
) -> rusqlite::Result<()> {
    connection.busy_timeout(RESTART_WAIT)?;
    let busy = checkpoint("PRAGMA wal_checkpoint(restart)");
    connection.busy_timeout(BUSY_TIMEOUT)?;
    RESTART_NEXT.set(if busy? { pages.saturating_add(RESTART_AT / 4) } else { RESTART_AT });
    Ok(())
}
