//! A value that is equal in both engines, and a hash of many values.

use std::error::Error;

use anyhow::{Context, Result, bail};
use rusqlite::types::{ToSqlOutput, ValueRef};
use sha2::{Digest, Sha256};
use tokio_postgres::Row;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

/// A value. Truth is 0 or 1, as SQLite has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    Null,
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Cell {
    pub fn from_sqlite(value: ValueRef<'_>) -> Result<Self> {
        Ok(match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Number(number),
            ValueRef::Text(text) => Self::Text(std::str::from_utf8(text).context("a text that is none")?.to_owned()),
            ValueRef::Blob(bytes) => Self::Bytes(bytes.to_owned()),
            ValueRef::Real(_) => bail!("a number that no table has"),
        })
    }

    pub fn from_postgres(row: &Row, column: usize) -> Result<Self> {
        let number = match *row.columns()[column].type_() {
            Type::BOOL => row.try_get::<_, Option<bool>>(column)?.map(i64::from),
            Type::INT2 => row.try_get::<_, Option<i16>>(column)?.map(i64::from),
            Type::INT4 => row.try_get::<_, Option<i32>>(column)?.map(i64::from),
            Type::INT8 => row.try_get(column)?,
            Type::TEXT => return Ok(row.try_get::<_, Option<String>>(column)?.map_or(Self::Null, Self::Text)),
            Type::BYTEA => return Ok(row.try_get::<_, Option<Vec<u8>>>(column)?.map_or(Self::Null, Self::Bytes)),
            _ => bail!("a type that no table has"),
        };
        Ok(number.map_or(Self::Null, Self::Number))
    }

    /// As bytes of which no others begin alike: the kind, the length, the value.
    fn write(&self, out: &mut Vec<u8>) {
        let (kind, bytes): (u8, &[u8]) = match self {
            Self::Null => (0, &[]),
            Self::Number(number) => (1, &number.to_be_bytes()),
            Self::Text(text) => (2, text.as_bytes()),
            Self::Bytes(bytes) => (3, bytes),
        };
        out.push(kind);
        out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        out.extend_from_slice(bytes);
    }

    /// Its bytes, more or less.
    pub fn size(&self) -> usize {
        match self {
            Self::Null | Self::Number(_) => 8,
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// Reads consecutive cells.
    pub fn read_all(mut bytes: &[u8]) -> Option<Vec<Self>> {
        let mut cells = Vec::new();
        while let Some((kind, rest)) = bytes.split_first() {
            let (length, rest) = rest.split_first_chunk()?;
            let (value, rest) = rest.split_at_checked(usize::try_from(u64::from_be_bytes(*length)).ok()?)?;
            cells.push(match kind {
                0 => Self::Null,
                1 => Self::Number(i64::from_be_bytes(value.try_into().ok()?)),
                2 => Self::Text(String::from_utf8(value.to_owned()).ok()?),
                3 => Self::Bytes(value.to_owned()),
                _ => return None,
            });
            bytes = rest;
        }
        Some(cells)
    }

    /// Writes consecutive cells.
    pub fn write_all(cells: &[Self]) -> Vec<u8> {
        let mut bytes = Vec::new();
        cells.iter().for_each(|cell| cell.write(&mut bytes));
        bytes
    }
}

impl rusqlite::ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Number(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl ToSql for Cell {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match (self, kind) {
            (Self::Null, _) => Ok(IsNull::Yes),
            (Self::Number(number @ (0 | 1)), &Type::BOOL) => (*number == 1).to_sql(kind, out),
            (Self::Number(number), &Type::INT2) => i16::try_from(*number)?.to_sql(kind, out),
            (Self::Number(number), &Type::INT4) => i32::try_from(*number)?.to_sql(kind, out),
            (Self::Number(number), &Type::INT8) => number.to_sql(kind, out),
            (Self::Text(text), &Type::TEXT) => text.to_sql(kind, out),
            (Self::Bytes(bytes), &Type::BYTEA) => bytes.to_sql(kind, out),
            _ => Err(format!("a value that does not fit a column of type {kind}").into()),
        }
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::BOOL | Type::INT2 | Type::INT4 | Type::INT8 | Type::TEXT | Type::BYTEA)
    }

    to_sql_checked!();
}

/// A hash of rows that depends only on their number and contents.
#[derive(Default)]
pub struct Hash {
    rows: u64,
    sha256: Sha256,
    row: Vec<u8>,
}

impl Hash {
    pub fn add(&mut self, row: &[Cell]) {
        self.row.clear();
        row.iter().for_each(|cell| cell.write(&mut self.row));
        self.sha256.update(&self.row);
        self.rows += 1;
    }

    pub fn end(self) -> (u64, [u8; 32]) {
        (self.rows, self.sha256.finalize().into())
    }
}
