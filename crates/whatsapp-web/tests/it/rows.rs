//! Rows in a SQLite file: what the gateway gives the driver, without the encryption.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use recado_whatsapp_web::{Change, Kind, Rows, RowsError};
use rusqlite::{Connection, OptionalExtension, params};

pub struct SqliteRows(Mutex<Connection>);

impl SqliteRows {
    /// A write is on the disk when it returns.
    pub fn at(path: &Path) -> Self {
        let connection = Connection::open(path).expect("the file opens");
        connection.execute_batch("PRAGMA journal_mode = wal; PRAGMA synchronous = full").expect("the file takes a log");
        let schema = "CREATE TABLE IF NOT EXISTS rows (kind integer, key blob, value blob, stamp integer,
                          PRIMARY KEY (kind, key)) STRICT, WITHOUT ROWID";
        connection.execute_batch(schema).expect("the table is made");
        Self(Mutex::new(connection))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Rows for SqliteRows {
    async fn get(&self, kind: Kind, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Vec<u8>>>, RowsError> {
        let connection = self.lock();
        let mut select =
            connection.prepare_cached("SELECT value FROM rows WHERE kind = ? AND key = ?").map_err(failed)?;
        let row = |key| select.query_row(params![kind.number(), key], |row| row.get(0)).optional().map_err(failed);
        keys.into_iter().map(row).collect()
    }

    async fn list(&self, kind: Kind, prefix: Vec<u8>) -> Result<Vec<(Vec<u8>, Vec<u8>)>, RowsError> {
        let connection = self.lock();
        let mut select = connection
            .prepare_cached(
                "SELECT key, value FROM rows WHERE kind = ?1 AND substr(key, 1, length(?2)) = ?2 ORDER BY key",
            )
            .map_err(failed)?;
        let rows = select.query_map(params![kind.number(), prefix], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.map_err(failed)?.map(|row| row.map_err(failed)).collect()
    }

    async fn write(&self, changes: Vec<Change>) -> Result<recado_domain::channel::DeletedRows, RowsError> {
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(failed)?;
        let mut deleted = recado_domain::channel::DeletedRows::default();
        for change in changes {
            deleted.add(change.kind().number(), apply(&transaction, change).map_err(failed)?);
        }
        transaction.commit().map_err(failed)?;
        Ok(deleted)
    }
}

fn apply(connection: &Connection, change: Change) -> rusqlite::Result<u64> {
    let deleted = match change {
        Change::Put { kind, key, value, stamp } => {
            let put = "insert or replace into rows (kind, key, value, stamp) values (?, ?, ?, ?)";
            connection.prepare_cached(put)?.execute(params![kind.number(), key, value, stamp])?;
            0
        }
        Change::Delete { kind, key } => {
            connection.execute("DELETE FROM rows WHERE kind = ? AND key = ?", params![kind.number(), key])?
        }
        Change::DeletePrefix { kind, prefix } => connection.execute(
            "DELETE FROM rows WHERE kind = ?1 AND substr(key, 1, length(?2)) = ?2",
            params![kind.number(), prefix],
        )?,
        Change::DeleteBefore { kind, stamp } => connection
            .execute("DELETE FROM rows WHERE kind = ? AND stamp > 0 AND stamp < ?", params![kind.number(), stamp])?,
    };
    Ok(deleted as u64)
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that `map_err` needs")]
fn failed(error: rusqlite::Error) -> RowsError {
    RowsError(error.to_string())
}
