//! Rows in a SQLite file: what the gateway gives the driver, without the seal.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use recado_whatsapp_web::{Change, Kind, Rows, RowsError};
use rusqlite::{Connection, OptionalExtension, params};

pub struct SqliteRows(Mutex<Connection>);

impl SqliteRows {
    /// What was written is on the disk when the write returns.
    pub fn at(path: &Path) -> Self {
        let connection = Connection::open(path).expect("the file opens");
        connection.execute_batch("pragma journal_mode = wal; pragma synchronous = full").expect("the file takes a log");
        let schema = "create table if not exists rows (kind integer, key blob, value blob, stamp integer,
                          primary key (kind, key)) strict, without rowid";
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
            connection.prepare_cached("select value from rows where kind = ? and key = ?").map_err(failed)?;
        let row = |key| select.query_row(params![kind.number(), key], |row| row.get(0)).optional().map_err(failed);
        keys.into_iter().map(row).collect()
    }

    async fn list(&self, kind: Kind, prefix: Vec<u8>) -> Result<Vec<(Vec<u8>, Vec<u8>)>, RowsError> {
        let connection = self.lock();
        let mut select = connection
            .prepare_cached(
                "select key, value from rows where kind = ?1 and substr(key, 1, length(?2)) = ?2 order by key",
            )
            .map_err(failed)?;
        let rows = select.query_map(params![kind.number(), prefix], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.map_err(failed)?.map(|row| row.map_err(failed)).collect()
    }

    async fn write(&self, changes: Vec<Change>) -> Result<u64, RowsError> {
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(failed)?;
        let mut deleted = 0;
        for change in changes {
            deleted += apply(&transaction, change).map_err(failed)?;
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
            connection.execute("delete from rows where kind = ? and key = ?", params![kind.number(), key])?
        }
        Change::DeletePrefix { kind, prefix } => connection.execute(
            "delete from rows where kind = ?1 and substr(key, 1, length(?2)) = ?2",
            params![kind.number(), prefix],
        )?,
        Change::DeleteBefore { kind, stamp } => connection
            .execute("delete from rows where kind = ? and stamp > 0 and stamp < ?", params![kind.number(), stamp])?,
    };
    Ok(deleted as u64)
}

#[expect(clippy::needless_pass_by_value, reason = "it stands where an error is mapped")]
fn failed(error: rusqlite::Error) -> RowsError {
    RowsError(error.to_string())
}
