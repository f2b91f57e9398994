//! Statements that are written once and run on both engines. Values are `?1`, `?2` and so on; columns are read by name.

use std::cell::Cell;
use std::fmt::Debug;

use futures_util::FutureExt;
use futures_util::future::try_join_all;
use rusqlite::Connection;
use rusqlite::types::{FromSql, FromSqlResult, ValueRef};
use serde::Serialize;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSqlOwned, IsNull, Type, accepts, to_sql_checked};

use crate::sqlkit::postgres::db::{Arg, Db, Typed, arg};
use crate::sqlkit::postgres::failure::{Done, Failure};

/// A value of a statement, for both engines.
#[derive(Clone)]
pub struct Value<'a> {
    sqlite: &'a (dyn rusqlite::ToSql + Sync),
    postgres: Arg<'a>,
}

/// A value for both engines.
pub fn value<T: Typed + rusqlite::ToSql>(value: &T) -> Value<'_> {
    Value { sqlite: value, postgres: arg(value) }
}

/// The values of a statement, in the order of `?1`, `?2` and so on.
#[macro_export]
macro_rules! values {
    ($($value:expr),* $(,)?) => { &[$($crate::sqlkit::both::value(&$value)),*] };
}
pub use crate::values;

/// Values for `Executor::any`: JSON for SQLite, an array for PostgreSQL.
#[derive(Debug)]
pub struct List<T>(pub Vec<T>);

impl<T: Serialize> rusqlite::ToSql for List<T> {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        let json = serde_json::to_string(&self.0);
        Ok(json.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?.into())
    }
}

impl<T: tokio_postgres::types::ToSql> tokio_postgres::types::ToSql for List<T> {
    fn to_sql(&self, of: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.0.to_sql(of, out)
    }

    fn accepts(of: &Type) -> bool {
        Vec::<T>::accepts(of)
    }

    to_sql_checked!();
}

impl<T: Debug + Serialize + Sync + tokio_postgres::types::ToSql> Typed for List<T>
where
    Vec<T>: Typed,
{
    const TYPE: Type = Vec::<T>::TYPE;
}

/// Runs statements, and hides the SQL in which the engines differ. On SQLite its futures are ready at once.
pub(crate) trait Executor {
    type Error: From<Unreadable>;
    /// The highest of several values, none of them null.
    const GREATEST: &'static str;
    /// A join that reads its first table first.
    const JOIN_IN_ORDER: &'static str;
    /// A statement that gives the time by the store's own clock as `now`; null where it has none.
    const CLOCK: &'static str;
    /// The first `?3` scheduled messages of each channel of the [`List`] `?1` that are due at `?2`.
    const FIRST_DUE_OF_EACH: &'static str;
    /// The first `?3` deliveries of each webhook of the [`List`] `?1` in the lane `?4` that are due at `?2`.
    const FIRST_DELIVERIES_OF_EACH: &'static str;
    /// The ids of `?1` conversations without a message since `?2`.
    const OLD_CONVERSATIONS: &'static str;
    /// The latest closed conversations of the chats of `?1`, a JSON list as in [`Self::CHATS`].
    const FORMERS: &'static str;
    /// The rows `channel_key` and `chat` of `?1`, a JSON list of such pairs, as a table without a name.
    const CHATS: &'static str;
    /// A statement that lets only one transaction at a time go on with the number `?1`.
    const LOCK_NUMBER: &'static str;
    /// Rows of each table that one call of the purge scans.
    const PURGED_AT_ONCE: i64;

    /// Whether a column has one of the values in the [`List`] of this number.
    fn any(column: &str, number: usize) -> String;
    /// How many texts of a JSON list in this parameter are in the JSON list of a column.
    fn shares(column: &str, list: &str) -> String;
    /// After the name of a table: the index to use, if the engine permits that.
    fn index(name: &str) -> String;
    /// After a query: locks its rows until the commit. SQLite has one writer and needs no locks.
    fn lock_for(what: &str) -> String;

    /// All rows, each read by `read`.
    async fn rows<T>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        read: impl Fn(&Row<'_>) -> Read<T>,
    ) -> Result<Vec<T>, Self::Error>;

    /// All rows, by a plan that is made for this call. PostgreSQL keeps the plan of a statement that it repeats: one that was
    /// made while a table was new reads all of it until the first statistics exist.
    async fn rows_planned_anew<T>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        read: impl Fn(&Row<'_>) -> Read<T>,
    ) -> Result<Vec<T>, Self::Error> {
        self.rows(sql, values, read).await
    }

    /// The one row, if there is one.
    async fn row<T>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        read: impl Fn(&Row<'_>) -> Read<T>,
    ) -> Result<Option<T>, Self::Error>;

    /// How many rows were changed.
    async fn run(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, Self::Error>;
}

impl Executor for Connection {
    type Error = rusqlite::Error;
    const GREATEST: &'static str = "max";
    const JOIN_IN_ORDER: &'static str = "CROSS JOIN";
    const CLOCK: &'static str = "SELECT NULL AS now";
    const FIRST_DUE_OF_EACH: &'static str = include_str!("sqlite/first_due_of_each.sql");
    const FIRST_DELIVERIES_OF_EACH: &'static str = include_str!("sqlite/first_deliveries_of_each.sql");
    const OLD_CONVERSATIONS: &'static str = include_str!("sqlite/old_conversations.sql");
    const FORMERS: &'static str = include_str!("sqlite/formers.sql");
    const CHATS: &'static str = "(SELECT value ->> 0 AS channel_key, value ->> 1 AS chat FROM json_each(?1))";
    const LOCK_NUMBER: &'static str = "SELECT ?1 AS locked";
    const PURGED_AT_ONCE: i64 = 500;

    fn any(column: &str, number: usize) -> String {
        format!("{column} IN (SELECT value FROM json_each(?{number}))")
    }

    fn shares(column: &str, list: &str) -> String {
        format!(
            "(SELECT count(DISTINCT a.value) FROM json_each({column}) a JOIN json_each({list}) b ON a.value = b.value)"
        )
    }

    fn index(name: &str) -> String {
        format!(" INDEXED BY {name}")
    }

    fn lock_for(_: &str) -> String {
        String::new()
    }

    async fn rows<T>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        read: impl Fn(&Row<'_>) -> Read<T>,
    ) -> rusqlite::Result<Vec<T>> {
        let mut statement = self.prepare_cached(sql)?;
        let mut rows = statement.query(rusqlite::params_from_iter(values.iter().map(|value| value.sqlite)))?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(read(&Row::new(Of::Sqlite(row)))?);
        }
        Ok(all)
    }

    async fn row<T>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        read: impl Fn(&Row<'_>) -> Read<T>,
    ) -> rusqlite::Result<Option<T>> {
        let mut statement = self.prepare_cached(sql)?;
        let mut rows = statement.query(rusqlite::params_from_iter(values.iter().map(|value| value.sqlite)))?;
        Ok(rows.next()?.map(|row| read(&Row::new(Of::Sqlite(row)))).transpose()?)
    }

    async fn run(&self, sql: &str, values: &[Value<'_>]) -> rusqlite::Result<u64> {
        let changed =
            self.prepare_cached(sql)?.execute(rusqlite::params_from_iter(values.iter().map(|value| value.sqlite)))?;
        Ok(changed as u64)
    }
}

impl Executor for Db<'_> {
    type Error = Failure;
    const GREATEST: &'static str = "greatest";
    const JOIN_IN_ORDER: &'static str = "JOIN";
    const CLOCK: &'static str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now";
    const FIRST_DUE_OF_EACH: &'static str = include_str!("postgres/first_due_of_each.sql");
    const FIRST_DELIVERIES_OF_EACH: &'static str = include_str!("postgres/first_deliveries_of_each.sql");
    const OLD_CONVERSATIONS: &'static str = include_str!("postgres/old_conversations.sql");
    const FORMERS: &'static str = include_str!("postgres/formers.sql");
    const CHATS: &'static str =
        "(SELECT (value ->> 0)::bigint AS channel_key, value ->> 1 AS chat FROM json_array_elements(?1::json))";
    const LOCK_NUMBER: &'static str = "SELECT 1 AS locked FROM pg_advisory_xact_lock(?1)";
    const PURGED_AT_ONCE: i64 = 2_000;

    fn any(column: &str, number: usize) -> String {
        format!("{column} = ANY (?{number})")
    }

    fn shares(column: &str, list: &str) -> String {
        format!(
            "(SELECT count(DISTINCT a) FROM json_array_elements_text({column}::json) a
              JOIN json_array_elements_text({list}::json) b ON a = b)"
        )
    }

    fn index(_: &str) -> String {
        String::new()
    }

    fn lock_for(what: &str) -> String {
        format!(" FOR {what}")
    }

    async fn rows<T>(&self, sql: &str, values: &[Value<'_>], read: impl Fn(&Row<'_>) -> Read<T>) -> Done<Vec<T>> {
        let rows = Db::rows(*self, &numbered(sql), &args(values)).await?;
        rows.iter().map(|row| Ok(read(&Row::new(Of::Postgres(row)))?)).collect()
    }

    async fn rows_planned_anew<T>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        read: impl Fn(&Row<'_>) -> Read<T>,
    ) -> Done<Vec<T>> {
        Executor::rows(&Db { prepared: None, ..*self }, sql, values, read).await
    }

    async fn row<T>(&self, sql: &str, values: &[Value<'_>], read: impl Fn(&Row<'_>) -> Read<T>) -> Done<Option<T>> {
        let row = Db::row(*self, &numbered(sql), &args(values)).await?;
        Ok(row.map(|row| read(&Row::new(Of::Postgres(&row)))).transpose()?)
    }

    async fn run(&self, sql: &str, values: &[Value<'_>]) -> Done<u64> {
        Db::run(*self, &numbered(sql), &args(values)).await
    }
}

/// A statement with PostgreSQL's parameters. Statements contain no text literals with `?`.
fn numbered(sql: &str) -> String {
    sql.replace('?', "$")
}

fn args<'a>(values: &[Value<'a>]) -> Vec<Arg<'a>> {
    values.iter().map(|value| value.postgres.clone()).collect()
}

/// The result of work on SQLite.
pub(crate) fn at_once<T>(work: impl Future<Output = T>) -> T {
    work.now_or_never().expect("SQLite never waits")
}

/// A type that a column can be read as, on both engines.
pub trait Column: FromSql + FromSqlOwned {}
impl<T: FromSql + FromSqlOwned> Column for T {}

/// A row of either engine.
pub struct Row<'a> {
    of: Of<'a>,
    /// The column after the last one that was read. Rows are usually read in the order of their columns.
    next: Cell<usize>,
}

enum Of<'a> {
    Sqlite(&'a rusqlite::Row<'a>),
    Postgres(&'a tokio_postgres::Row),
}

/// Why a row could not be read.
#[derive(Debug)]
pub enum Unreadable {
    Sqlite(rusqlite::Error),
    Postgres(tokio_postgres::Error),
    /// This version does not know the value of this column.
    Unknown(&'static str),
}

/// The result of reading a row.
pub type Read<T> = Result<T, Unreadable>;

impl<'a> Row<'a> {
    fn new(of: Of<'a>) -> Self {
        Self { of, next: Cell::new(0) }
    }

    /// The value of a column.
    pub fn get<T: Column>(&self, column: &str) -> Read<T> {
        let place = self.place(column);
        match self.of {
            Of::Sqlite(row) => row.get(place).map_err(Unreadable::Sqlite),
            Of::Postgres(row) => row.try_get(place).map_err(Unreadable::Postgres),
        }
    }

    /// A number that the store keeps in a wider type.
    pub fn number<T: TryFrom<i64>>(&self, column: &'static str) -> Read<T> {
        T::try_from(self.get::<Integer>(column)?.0).map_err(|_| Unreadable::Unknown(column))
    }

    /// Bytes of known length: an id, a hash.
    pub fn bytes<const N: usize>(&self, column: &'static str) -> Read<[u8; N]> {
        let place = self.place(column);
        match self.of {
            Of::Sqlite(row) => row.get(place).map_err(Unreadable::Sqlite),
            Of::Postgres(row) => {
                let bytes: &[u8] = row.try_get(place).map_err(Unreadable::Postgres)?;
                bytes.try_into().map_err(|_| Unreadable::Unknown(column))
            }
        }
    }

    /// The value of a name.
    pub fn named<T>(&self, column: &'static str, from_name: impl Fn(&str) -> Option<T>) -> Read<T> {
        from_name(&self.get::<String>(column)?).ok_or(Unreadable::Unknown(column))
    }

    /// The index of a column; the number of columns if there is none of this name.
    fn place(&self, column: &str) -> usize {
        let count = self.count();
        let next = self.next.get().min(count);
        let place = (next..count).chain(0..next).find(|place| self.name(*place) == column).unwrap_or(count);
        self.next.set(place + 1);
        place
    }

    fn count(&self) -> usize {
        match self.of {
            Of::Sqlite(row) => row.as_ref().column_count(),
            Of::Postgres(row) => row.len(),
        }
    }

    fn name(&self, place: usize) -> &str {
        match self.of {
            Of::Sqlite(row) => row.as_ref().column_name(place).unwrap_or_default(),
            Of::Postgres(row) => row.columns()[place].name(),
        }
    }
}

/// A number of any width.
struct Integer(i64);

impl FromSql for Integer {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        i64::column_result(value).map(Self)
    }
}

impl<'a> tokio_postgres::types::FromSql<'a> for Integer {
    fn from_sql(of: &Type, bytes: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        match *of {
            Type::INT2 => i16::from_sql(of, bytes).map(i64::from),
            Type::INT4 => i32::from_sql(of, bytes).map(i64::from),
            _ => i64::from_sql(of, bytes),
        }
        .map(Self)
    }

    accepts!(INT2, INT4, INT8);
}

impl From<Unreadable> for rusqlite::Error {
    fn from(why: Unreadable) -> Self {
        match why {
            Unreadable::Sqlite(error) => error,
            Unreadable::Postgres(error) => Self::ToSqlConversionFailure(Box::new(error)),
            Unreadable::Unknown(what) => {
                Self::ToSqlConversionFailure(format!("the store holds a {what} that this version does not know").into())
            }
        }
    }
}

impl From<Unreadable> for Failure {
    fn from(why: Unreadable) -> Self {
        match why {
            Unreadable::Sqlite(_) => Self::Refused("a row of another engine"),
            Unreadable::Postgres(error) => Self::Postgres(error),
            Unreadable::Unknown(what) => Self::Refused(what),
        }
    }
}

/// Does work whose failure leaves the transaction usable: what the work wrote before its failure is undone. The inner result
/// is that of the work. The outer one fails if the transaction has ended.
pub(crate) async fn separately<E: Executor, T>(
    db: &E,
    work: impl Future<Output = Result<T, E::Error>>,
) -> Result<Result<T, E::Error>, E::Error> {
    db.run("SAVEPOINT separate", &[]).await?;
    let done = work.await;
    if done.is_err() {
        db.run("ROLLBACK TO SAVEPOINT separate", &[]).await?;
    }
    db.run("RELEASE SAVEPOINT separate", &[]).await?;
    Ok(done)
}

/// How many statements are sent together.
const TOGETHER: usize = 25;

/// Runs a statement for each of these rows of values, in their order. On PostgreSQL several are sent together, without waiting
/// for the answers.
pub(crate) async fn run_each<E: Executor, const N: usize>(
    db: &E,
    sql: &str,
    rows: &[[Value<'_>; N]],
) -> Result<(), E::Error> {
    // The first one prepares the statement.
    let Some((first, others)) = rows.split_first() else { return Ok(()) };
    db.run(sql, first).await?;
    for some in others.chunks(TOGETHER) {
        try_join_all(some.iter().map(|row| db.run(sql, row))).await?;
    }
    Ok(())
}
