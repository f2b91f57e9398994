//! SQLite files: how one is opened, written and read.

pub mod readers;
pub mod tail;
pub mod writer;

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{M, MigrationDefinitionError, Migrations};

/// How long a connection waits for another one's lock.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// A log that is reset is cut to this size, in bytes.
const LOG_SIZE_LIMIT: i64 = 64 << 20;

/// Creates the file before SQLite does, readable by its owner only, because it contains personal data. SQLite gives the files beside
/// it the same mode.
fn make_private(path: &Path) -> rusqlite::Result<()> {
    match File::options().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
        }
        _ => Ok(()),
    }
}

/// Opens a database for writing. `synchronous` is `full` if an answer promises that the data is on disk.
pub fn connect(path: &Path, synchronous: &str) -> rusqlite::Result<Connection> {
    make_private(path)?;
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // More than the statements of all operations, so that none displaces those that accept messages.
    connection.set_prepared_statement_cache_capacity(256);
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Overwrites deleted and replaced content with zeros: a person's number must not outlast the person's rows. Costs some 3% of the
    // time that the rows of a message need, and 10% of a purge.
    connection.pragma_update(None, "secure_delete", true)?;
    connection.pragma_update(None, "journal_size_limit", LOG_SIZE_LIMIT)?;
    Ok(connection)
}

/// Migrates the tables.
pub fn migrate(connection: &mut Connection, migrations: &'static [M<'static>]) -> rusqlite::Result<()> {
    Migrations::from_slice(migrations).to_latest(connection).map_err(|error| match error {
        // Its text would be the whole SQL of the migration.
        rusqlite_migration::Error::RusqliteError { err: rusqlite::Error::SqlInputError { error, msg, .. }, .. } => {
            let text = format!("a migration failed, so nothing was changed; is this file a store of Recado? {msg}");
            rusqlite::Error::SqliteFailure(error, Some(text))
        }
        rusqlite_migration::Error::RusqliteError { err, .. } => err,
        rusqlite_migration::Error::MigrationDefinition(MigrationDefinitionError::DatabaseTooFarAhead) => {
            let found = "a newer version of Recado has worked on this store: start that one, there is no way back";
            rusqlite::Error::ToSqlConversionFailure(found.into())
        }
        other => rusqlite::Error::ToSqlConversionFailure(Box::new(other)),
    })
}

/// Opens a file for reading, even if another process writes it. The log of a crashed process stays as it is, although the last
/// connection that closes a file usually checkpoints it.
pub fn open_read_only(path: &Path) -> rusqlite::Result<Connection> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let keep_log = Path::new(&log).metadata().is_ok_and(|log| log.len() > 0);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    // Without a log the default is right: it removes the empty log that opening the file creates.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep_log)?;
    Ok(connection)
}
