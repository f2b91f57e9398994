//! The tables of a store and of the sandbox network, read from outside with the same queries for both engines.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use tokio::runtime::Handle;
use tokio::task::block_in_place;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls};

/// The location of the tables. They have their PostgreSQL names.
pub enum Tables {
    /// In the files of a data directory.
    Files(PathBuf),
    Postgres(Client),
}

/// A row of a result.
pub struct Row(Vec<Value>);

impl Row {
    pub fn number(&self, column: usize) -> Result<i64> {
        let Value::Integer(number) = &self.0[column] else { anyhow::bail!("no number: {:?}", self.0[column]) };
        Ok(*number)
    }

    pub fn text(&self, column: usize) -> Result<&str> {
        let Value::Text(text) = &self.0[column] else { anyhow::bail!("no text: {:?}", self.0[column]) };
        Ok(text)
    }

    /// A message's id.
    pub fn id(&self, column: usize) -> Result<u128> {
        let Value::Blob(bytes) = &self.0[column] else { anyhow::bail!("no id: {:?}", self.0[column]) };
        Ok(u128::from_be_bytes(bytes.as_slice().try_into()?))
    }
}

impl Tables {
    pub async fn in_postgres(url: &str) -> Result<Self> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        Ok(Self::Postgres(client))
    }

    /// Passes every row of a result to `accept`.
    pub fn each(&self, sql: &str, mut accept: impl FnMut(&Row) -> Result<()>) -> Result<()> {
        match self {
            Self::Files(dir) => {
                let connection = read_only(dir)?;
                let mut statement = connection.prepare(sql)?;
                let columns = statement.column_count();
                let mut rows = statement.query([])?;
                while let Some(row) = rows.next()? {
                    accept(&Row((0..columns).map(|column| row.get(column)).collect::<rusqlite::Result<_>>()?))?;
                }
                Ok(())
            }
            Self::Postgres(client) => wait_for(async {
                // Row by row, because a million messages need not be in memory at once.
                let rows = client.query_raw(sql, std::iter::empty::<i64>()).await?;
                let mut rows = std::pin::pin!(rows);
                while let Some(row) = rows.try_next().await? {
                    accept(&Row((0..row.len()).map(|column| value(&row, column)).collect::<Result<_>>()?))?;
                }
                Ok(())
            }),
        }
    }

    /// Parses the only row of a result.
    pub fn one<T>(&self, sql: &str, read: impl Fn(&Row) -> Result<T>) -> Result<T> {
        let mut found = None;
        self.each(sql, |row| {
            found = Some(read(row)?);
            Ok(())
        })?;
        found.with_context(|| format!("no row: {sql}"))
    }

    pub fn number(&self, sql: &str) -> Result<i64> {
        self.one(sql, |row| row.number(0))
    }

    /// Changes tables without the server. A file must not be in use.
    pub fn change(&self, sql: &str) -> Result<()> {
        match self {
            Self::Files(dir) => Ok(Connection::open(dir.join(STORE))?.execute_batch(sql)?),
            Self::Postgres(client) => wait_for(async { Ok(client.batch_execute(sql).await?) }),
        }
    }

    /// The megabytes of the store on disk; in PostgreSQL with the sandbox network, and without the log.
    pub fn size(&self) -> Result<f64> {
        let bytes = match self {
            Self::Files(dir) => {
                let of = |name| std::fs::metadata(dir.join(name)).map_or(0, |file| file.len());
                i64::try_from(of(STORE) + of("recado.db-wal"))?
            }
            Self::Postgres(_) => self.number("SELECT pg_database_size(current_database())")?,
        };
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        Ok(bytes as f64 / 1e6)
    }
}

pub const STORE: &str = "recado.db";

/// Opens a server's files read-only.
fn read_only(dir: &Path) -> Result<Connection> {
    let connection = Connection::open_with_flags(dir.join(STORE), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let sandbox = dir.join("sandbox.db");
    // Created by the first server.
    if sandbox.exists() {
        connection.execute("ATTACH DATABASE ?1 AS sandbox", [sandbox.to_string_lossy()])?;
        connection.execute_batch(
            "CREATE TEMP VIEW sandbox_phone AS SELECT * FROM sandbox.phone;
             CREATE TEMP VIEW sandbox_arrivals AS SELECT * FROM sandbox.arrivals",
        )?;
    }
    Ok(connection)
}

fn value(row: &tokio_postgres::Row, column: usize) -> Result<Value> {
    let value = match *row.columns()[column].type_() {
        Type::INT8 => row.try_get::<_, Option<i64>>(column)?.map(Value::Integer),
        Type::BOOL => row.try_get::<_, Option<bool>>(column)?.map(|is| Value::Integer(is.into())),
        Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(column)?.map(Value::Blob),
        _ => row.try_get::<_, Option<String>>(column)?.map(Value::Text),
    };
    Ok(value.unwrap_or(Value::Null))
}

/// Blocks until there is an answer: the caller has nothing else to do.
fn wait_for<T>(answer: impl Future<Output = Result<T>>) -> Result<T> {
    block_in_place(|| Handle::current().block_on(answer))
}
