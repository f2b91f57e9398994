//! The database that is filled.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::TryStreamExt;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::cell::{Cell, Hash};
use super::{Cells, TABLES, Table};
use crate::postgres::migrations::{self, IMPORTING};
use crate::sqlkit::postgres::failure::describe;
use crate::sqlkit::postgres::hosts::Hosts;

/// The advisory lock of an import. The number is arbitrary, but no other program may use it.
const LOCK: &str = "SELECT pg_try_advisory_lock(7201746392)";

/// How often and after which wait it is tried again.
const LOCK_TRIES: u32 = 60;
const LOCK_RETRY: Duration = Duration::from_millis(250);

pub struct Target {
    client: Client,
    /// `directory.version`, which every row gets that has a version.
    version: i64,
}

/// The progress of the copy of a table.
pub struct Place {
    table: &'static Table,
    /// The columns that are written, and their types.
    columns: String,
    types: Vec<Type>,
    /// Where the key is among the columns.
    key: Vec<usize>,
    /// The key of the last copied row.
    pub after: Option<Cells>,
    pub rows: u64,
}

impl Target {
    /// Connects, and creates the tables in an empty database.
    pub async fn open(url: &str) -> Result<Self> {
        let (client, connection) = Hosts::parse(url, "")?.connect().await?;
        // It ends with its client.
        tokio::spawn(connection);
        let mut target = Self { client, version: 0 };
        target.lock().await?;
        if !target.is(&format!("SELECT to_regclass('{IMPORTING}') IS NOT NULL")).await? {
            target.must_be_empty().await?;
            // Created before the tables, so an interrupted import recognises the database.
            target
                .run(&format!(
                    "CREATE TABLE {IMPORTING} (name text NOT NULL PRIMARY KEY, after bytea NOT NULL, rows bigint NOT NULL)"
                ))
                .await?;
        }
        migrations::migrate(url).await?;
        target.version = target.one("SELECT version FROM directory").await?.get(0);
        Ok(target)
    }

    /// Waits a while: the database needs time to notice that an earlier run was killed.
    async fn lock(&self) -> Result<()> {
        for _ in 0..LOCK_TRIES {
            if self.is(LOCK).await? {
                return Ok(());
            }
            tokio::time::sleep(LOCK_RETRY).await;
        }
        bail!("another import is filling this database")
    }

    async fn must_be_empty(&self) -> Result<()> {
        let migrated = self.is("SELECT to_regclass('recado_migrations') IS NOT NULL").await?;
        if migrated {
            for table in &TABLES {
                // A table that a later migration creates is empty.
                let there = self.is(&format!("SELECT to_regclass('{}') IS NOT NULL", table.name)).await?;
                let filled = there && self.is(&format!("SELECT EXISTS (SELECT 1 FROM {})", table.name)).await?;
                ensure!(!filled, "the database holds a store already: give it an empty one");
            }
            let nodes = "SELECT EXISTS (SELECT 1 FROM nodes WHERE lease_until > clock_timestamp())";
            ensure!(!self.is(nodes).await?, "a server works on the database: stop it first");
            return Ok(());
        }
        let any = "SELECT EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                                  WHERE n.nspname = current_schema())";
        ensure!(!self.is(any).await?, "the database holds something else already: give it an empty one");
        Ok(())
    }

    /// The database's name.
    pub async fn name(&self) -> Result<String> {
        Ok(self.one("SELECT current_database()::text").await?.get(0))
    }

    async fn one(&self, sql: &str) -> Result<Row> {
        self.client.query_one(sql, &[]).await.map_err(describe)
    }

    async fn is(&self, sql: &str) -> Result<bool> {
        Ok(self.one(sql).await?.get(0))
    }

    async fn run(&self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.map_err(describe)
    }

    /// The progress of the copy of a table.
    pub async fn place(&self, table: &'static Table, columns: &[String]) -> Result<Place> {
        let position = |name: &&str| columns.iter().position(|column| column == name);
        let key = table.key.iter().map(position).collect::<Option<_>>();
        let key = key.with_context(|| format!("a key of {} that is no column", table.name))?;
        let mut columns = columns.to_vec();
        if table.versioned {
            columns.push("version".to_owned());
        }
        let columns = columns.join(", ");
        let types = self.types(table, &columns).await?;
        let sql = format!("SELECT after, rows FROM {IMPORTING} WHERE name = $1");
        let found = self.client.query_opt(&sql, &[&table.name]).await.map_err(describe)?;
        let (mut after, mut rows) = (None, 0);
        if let Some(found) = found {
            after = Some(Cell::read_all(found.get(0)).context("a place that is none")?);
            rows = u64::try_from(found.get::<_, i64>(1))?;
        }
        Ok(Place { table, columns, types, key, after, rows })
    }

    async fn types(&self, table: &Table, columns: &str) -> Result<Vec<Type>> {
        let statement = self.client.prepare(&format!("SELECT {columns} FROM {}", table.name)).await;
        let statement = statement.map_err(describe).with_context(|| format!("table {}", table.name))?;
        Ok(statement.columns().iter().map(|column| column.type_().clone()).collect())
    }

    /// Writes a batch, and how far that is, or nothing.
    pub async fn insert(&mut self, place: &mut Place, batch: &[Cells]) -> Result<()> {
        let Some(last) = batch.last() else { return Ok(()) };
        let table = place.table;
        let transaction = self.client.transaction().await.map_err(describe)?;
        // A crash of the database can only lose whole batches together with their progress. The last commit waits for
        // all of them.
        transaction.batch_execute("SET LOCAL synchronous_commit = off").await.map_err(describe)?;
        let sql = format!("COPY {} ({}) FROM STDIN (FORMAT binary)", table.name, place.columns);
        let sink = transaction.copy_in(&sql).await.map_err(describe)?;
        let mut writer = pin!(BinaryCopyInWriter::new(sink, &place.types));
        let version = Cell::Number(self.version);
        for row in batch {
            let cells = row.iter().chain(table.versioned.then_some(&version)).map(|cell| cell as &(dyn ToSql + Sync));
            let cells: Vec<_> = cells.collect();
            writer
                .as_mut()
                .write(&cells)
                .await
                .map_err(describe)
                .with_context(|| format!("a row of {}", table.name))?;
        }
        writer.finish().await.map_err(describe).with_context(|| format!("rows of {}", table.name))?;
        place.rows += batch.len() as u64;
        let after: Vec<Cell> = place.key.iter().map(|column| last[*column].clone()).collect();
        let note = format!(
            "INSERT INTO {IMPORTING} (name, after, rows) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE SET after = excluded.after, rows = excluded.rows"
        );
        let values: [&(dyn ToSql + Sync); 3] = [&table.name, &Cell::write_all(&after), &i64::try_from(place.rows)?];
        transaction.execute(&note, &values).await.map_err(describe)?;
        transaction.commit().await.map_err(describe)
    }

    /// A hash of a table in the order in which SQLite reads it.
    pub async fn hash(&self, table: &'static Table, columns: &[String]) -> Result<(u64, [u8; 32])> {
        let columns = columns.join(", ");
        let types = self.types(table, &table.key.join(", ")).await?;
        let order = table.key.iter().zip(types).map(|(column, kind)| match kind {
            // By its bytes, and not by a language.
            Type::TEXT => format!("{column} collate \"C\""),
            _ => (*column).to_owned(),
        });
        let order = order.collect::<Vec<_>>().join(", ");
        let sql = format!("SELECT {columns} FROM {} ORDER BY {order}", table.name);
        let none: [&(dyn ToSql + Sync); 0] = [];
        let rows = self.client.query_raw(&sql, none).await.map_err(describe)?;
        let (mut rows, mut hash) = (pin!(rows), Hash::default());
        while let Some(row) = rows.try_next().await.map_err(describe)? {
            let cells = (0..row.len()).map(|column| Cell::from_postgres(&row, column)).collect::<Result<Cells>>()?;
            hash.add(&cells);
        }
        Ok(hash.end())
    }

    /// Sets the sequences past the highest numbers, and lets nodes join. `last_event` is the highest number of an
    /// event.
    pub async fn finish(&mut self, last_event: i64) -> Result<()> {
        let transaction = self.client.transaction().await.map_err(describe)?;
        // A scheduled message has its number with a minus.
        for table in &TABLES {
            let Some(column) = table.numbered else { continue };
            let sql = format!(
                "SELECT setval(pg_get_serial_sequence('{0}', '{column}'), greatest(max(abs({column})), 1), max({column}) IS NOT NULL)
                 FROM {0}",
                table.name
            );
            transaction.batch_execute(&sql).await.map_err(describe)?;
        }
        // Also past messages that a deletion cancelled and that were purged since: a new message must not count as one
        // of them.
        let behind = "SELECT setval('messages_seq_seq', cancelled)
                      FROM (SELECT max(cancel_before) AS cancelled FROM channels) c, messages_seq_seq
                      WHERE cancelled >= last_value";
        transaction.batch_execute(behind).await.map_err(describe)?;
        // Readers of events continue after the last number that was given, even if its event is gone.
        let behind =
            format!("SELECT setval('event_numbers', {last_event}) FROM event_numbers WHERE {last_event} >= last_value");
        transaction.batch_execute(&behind).await.map_err(describe)?;
        transaction.batch_execute(&format!("DROP TABLE {IMPORTING}")).await.map_err(describe)?;
        transaction.commit().await.map_err(describe)?;
        // The planner has no statistics yet.
        for table in &TABLES {
            self.run(&format!("ANALYZE {}", table.name)).await?;
        }
        Ok(())
    }
}
