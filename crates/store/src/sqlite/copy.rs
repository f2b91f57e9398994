//! Copies a database file while other processes write it, and checks its health.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use recado_domain::channel::{Link, SessionKey, SessionRow};
use recado_domain::ids::WebhookId;
use recado_domain::incoming::{RefusedArrival, RefusedKey, SealedIncoming};
use recado_domain::message::Seq;
use recado_domain::webhook::SealedWebhook;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use crate::common::links::all;
use crate::sqlkit::both::at_once;
use crate::sqlkit::sqlite::open_read_only;

/// Pages between two checks whether to stop: 8 MiB.
const STEP: i32 = 2_048;

/// Why a copy failed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    #[error(transparent)]
    File(#[from] io::Error),
    #[error("the copy is damaged: {0}")]
    Damaged(String),
    /// The caller stopped the copy.
    #[error("stopped")]
    Stopped,
}

/// Copies the file as it is at one moment, checks the copy, and syncs it. `target` must not exist.
///
/// The pages are read in one transaction: a copy in several transactions would start again at each write of another
/// process, and never end under load. No writer waits for that transaction, but the log grows while it runs.
pub fn copy(source: &Path, target: &Path, stop: impl Fn() -> bool) -> Result<(), CopyError> {
    let source = open_read_only(source)?;
    source.execute_batch("BEGIN")?;
    // The transaction begins with its first read.
    let _: i64 = source.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    // Never writes through an existing file or a dangling link.
    File::options().write(true).create_new(true).mode(0o600).open(target)?;
    let mut copied = Connection::open(target)?;
    {
        let backup = Backup::new(&source, &mut copied)?;
        loop {
            if stop() {
                return Err(CopyError::Stopped);
            }
            match backup.step(STEP)? {
                StepResult::Done => break,
                StepResult::More => {}
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
    drop(source);
    finish(copied, target)
}

/// Makes one file of a copy, without a log beside it, checks it, and syncs it. The server sets its own mode when it opens it.
fn finish(copied: Connection, target: &Path) -> Result<(), CopyError> {
    copied.pragma_update(None, "journal_mode", "delete")?;
    let found = check(&copied, "integrity_check")?;
    copied.close().map_err(|(_, error)| error)?;
    if found != "ok" {
        return Err(CopyError::Damaged(found));
    }
    Ok(File::open(target)?.sync_all()?)
}

/// The same for a file that no process can write, because its disk is read-only: SQLite cannot join its log there.
pub fn copy_still(source: &Path, target: &Path, stop: impl Fn() -> bool) -> Result<(), CopyError> {
    copy_bytes(source, target, stop)?;
    finish(Connection::open(target)?, target)
}

/// Copies the bytes of such a file and of its log. `target` must not exist.
pub fn copy_bytes(source: &Path, target: &Path, stop: impl Fn() -> bool) -> Result<(), CopyError> {
    for suffix in ["", "-wal"] {
        let [from, to] = [source, target].map(|path| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        });
        let mut from = match File::open(from) {
            Err(error) if !suffix.is_empty() && error.kind() == io::ErrorKind::NotFound => continue,
            from => from?,
        };
        let mut to = File::options().write(true).create_new(true).mode(0o600).open(to)?;
        let mut part = vec![0; 1 << 20];
        loop {
            if stop() {
                return Err(CopyError::Stopped);
            }
            let read = from.read(&mut part)?;
            if read == 0 {
                break;
            }
            to.write_all(&part[..read])?;
        }
    }
    Ok(())
}

/// Rewrites the file without its unused parts: a page that was split may still contain bytes of deleted rows. No other
/// process may have the file open. The rewrite needs the size of the file as free space.
pub fn compact(path: &Path) -> rusqlite::Result<()> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.execute_batch("VACUUM")?;
    // Closing the last connection merges and deletes the log.
    connection.close().map_err(|(_, error)| error)
}

/// Whether the file has no tables, such as a file of 0 bytes. An unreadable file is not empty: opening it shows why.
pub fn is_empty(path: &Path) -> bool {
    let tables =
        |connection: Connection| connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0));
    open_read_only(path).and_then(tables).is_ok_and(|tables: i64| tables == 0)
}

/// How many institutions the store has.
pub fn institutions(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT count(*) FROM institutions", [], |row| row.get(0))
}

/// The result of SQLite's own check: `ok`, or the error.
pub fn check(connection: &Connection, how: &str) -> rusqlite::Result<String> {
    connection.query_row(&format!("PRAGMA {how}(1)"), [], |row| row.get(0))
}

/// The version of the tables in a store, and the time of its newest message.
pub fn version_and_newest(connection: &Connection) -> rusqlite::Result<(usize, Option<i64>)> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    // `seq` ascends with time.
    let newest = "SELECT (SELECT queued_at FROM messages ORDER BY seq DESC LIMIT 1)";
    Ok((usize::try_from(version).unwrap_or(usize::MAX), connection.query_row(newest, [], |row| row.get(0))?))
}

/// The links in a store; none where its tables are older than links are.
pub fn links(connection: &Connection) -> rusqlite::Result<Vec<Link>> {
    if connection.table_exists(None, "links")? { at_once(all(connection)) } else { Ok(Vec::new()) }
}

/// A page of the rows of all sessions after this one; empty if the tables are older than sessions.
pub fn session_rows(
    connection: &Connection,
    after: Option<&SessionKey>,
    limit: usize,
) -> rusqlite::Result<Vec<SessionRow>> {
    let there = connection.table_exists(None, "session_rows")?;
    if there { super::sessions::page(connection, after, limit) } else { Ok(Vec::new()) }
}

/// A page of what drivers sealed of received messages; empty where the tables are older than these.
pub fn sealed_incoming(connection: &Connection, after: Seq, limit: usize) -> rusqlite::Result<Vec<SealedIncoming>> {
    let there = connection.table_exists(None, "incoming")?;
    if there { at_once(crate::common::inbox::sealed::page(connection, after, limit)) } else { Ok(Vec::new()) }
}

/// A page of the arrivals that the store refused, after this one; empty where the tables are older than these.
pub fn sealed_refused(
    connection: &Connection,
    after: Option<&RefusedKey>,
    limit: usize,
) -> rusqlite::Result<Vec<RefusedArrival>> {
    let there = connection.table_exists(None, "refused_arrivals")?;
    if there { at_once(crate::common::inbox::refused::page(connection, after, limit)) } else { Ok(Vec::new()) }
}

/// The sealed parts of all webhooks; none where the tables are older than webhooks.
pub fn sealed_webhooks(connection: &Connection) -> rusqlite::Result<Vec<SealedWebhook>> {
    if !connection.table_exists(None, "webhooks")? {
        return Ok(Vec::new());
    }
    let mut select =
        connection.prepare("SELECT key, id, secret, previous_secret, headers FROM webhooks WHERE NOT deleted")?;
    let webhooks = select.query_map([], |row| {
        Ok(SealedWebhook {
            key: row.get(0)?,
            id: WebhookId::from_bytes(row.get(1)?),
            secret: row.get(2)?,
            previous_secret: row.get(3)?,
            headers: row.get(4)?,
        })
    })?;
    webhooks.collect()
}
