//! The SQLite file, which is only read.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rusqlite::{Connection, params_from_iter};

use super::cell::Cell;
use super::{Cells, TABLES, Table};
use crate::sqlite::SCHEMA_VERSION;
use crate::sqlite::copy::version_and_newest;
use crate::sqlkit::sqlite::open_read_only;

/// Rows of a batch.
const ROWS: usize = 5_000;
/// The approximate size of a batch: sessions of linked phones have large rows.
const BYTES: usize = 8 << 20;

pub struct Source(Connection);

impl Source {
    pub fn open(path: &Path) -> Result<Self> {
        let connection = open_read_only(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (version, _) =
            version_and_newest(&connection).with_context(|| format!("{} is no store", path.display()))?;
        ensure!(version > 0, "{} is no store", path.display());
        if version < SCHEMA_VERSION {
            bail!(
                "{} was made by an older version of Recado: start `recado serve` of this one on it once, and stop it",
                path.display()
            );
        }
        ensure!(version == SCHEMA_VERSION, "a newer version of Recado has worked on {}: use that one", path.display());
        Ok(Self(connection))
    }

    /// How many rows there are in all.
    pub fn rows(&self) -> Result<u64> {
        let mut rows = 0;
        for table in &TABLES {
            let sql = format!("SELECT count(*) FROM {}", table.name);
            let count: i64 = self.0.query_row(&sql, [], |row| row.get(0))?;
            rows += u64::try_from(count)?;
        }
        Ok(rows)
    }

    /// The highest number that an event was given, even if the event is gone.
    pub fn last_event(&self) -> Result<i64> {
        let sql = "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'";
        Ok(self.0.query_row(sql, [], |row| row.get(0))?)
    }

    pub fn columns(&self, table: &Table) -> Result<Vec<String>> {
        let mut statement = self.0.prepare("SELECT name FROM pragma_table_info(?1) ORDER BY cid")?;
        let columns = statement.query_map([table.name], |row| row.get(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
        ensure!(!columns.is_empty(), "the store has no table {}", table.name);
        Ok(columns)
    }

    /// Reads the rows of a table after a key, in key order, until the receiver is closed.
    pub fn read(
        &self,
        table: &Table,
        columns: &[String],
        after: Option<&[Cell]>,
        mut batch: impl FnMut(Vec<Cells>) -> bool,
    ) -> Result<()> {
        let key = table.key.join(", ");
        let behind = after
            .map_or_else(String::new, |after| format!("WHERE ({key}) > ({})", ["?"].repeat(after.len()).join(", ")));
        let sql = format!("SELECT {} FROM {} {behind} ORDER BY {key}", columns.join(", "), table.name);
        let mut statement = self.0.prepare(&sql)?;
        let mut rows = statement.query(params_from_iter(after.unwrap_or_default()))?;
        let (mut read, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let mut cells = Vec::with_capacity(columns.len());
            for (place, column) in columns.iter().enumerate() {
                let cell = Cell::from_sqlite(row.get_ref(place)?);
                cells.push(cell.with_context(|| format!("{column} of {}", table.name))?);
            }
            bytes += cells.iter().map(Cell::size).sum::<usize>();
            read.push(cells);
            if read.len() == ROWS || bytes > BYTES {
                bytes = 0;
                if !batch(std::mem::take(&mut read)) {
                    return Ok(());
                }
            }
        }
        if !read.is_empty() {
            batch(read);
        }
        Ok(())
    }
}
