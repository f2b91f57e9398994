//! Runs statements, on a connection or in a transaction.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::StatementCache;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, Statement};

use crate::commits::Reached;
pub use crate::sqlkit::postgres::failure::{Done, Failure, not_understood};

/// The longest time of a transaction, and the longest wait for a connection.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Options of every connection. `lock_timeout`: a long lock affects only its waiters.
/// `idle_in_transaction_session_timeout`: a frozen node keeps no lock for long. `statement_timeout`: ends statements
/// that no caller waits for.
///
/// Recado never cancels a statement that waits for a standby, because PostgreSQL would report its commit as done. The
/// server's own limit ends a statement before the commit.
pub const OPTIONS: &str = "-c lock_timeout=2s -c idle_in_transaction_session_timeout=3s -c statement_timeout=5s
     -c plan_cache_mode=force_custom_plan";
/// The same for one transaction, behind a transaction pooler.
pub const LIMITS: &str = "SET LOCAL lock_timeout = '2s'; SET LOCAL idle_in_transaction_session_timeout = '3s';
     SET LOCAL statement_timeout = '5s'";
/// The most attempts of a transaction that loses against others.
const TRIES: usize = 4;

/// A value for a statement, with its type.
pub type Arg<'a> = (&'a (dyn ToSql + Sync), Type);

/// A type that can be a value of a statement.
pub trait Typed: ToSql + Sync {
    /// The type in the database.
    const TYPE: Type;
}

macro_rules! typed {
    ($($rust:ty => $one:ident, $many:ident;)+) => {
        $(
            impl Typed for $rust { const TYPE: Type = Type::$one; }
            impl Typed for Option<$rust> { const TYPE: Type = Type::$one; }
            impl Typed for Vec<$rust> { const TYPE: Type = Type::$many; }
            impl Typed for &[$rust] { const TYPE: Type = Type::$many; }
            impl Typed for Vec<Option<$rust>> { const TYPE: Type = Type::$many; }
        )+
    };
}

typed! {
    bool => BOOL, BOOL_ARRAY;
    i16 => INT2, INT2_ARRAY;
    i32 => INT4, INT4_ARRAY;
    i64 => INT8, INT8_ARRAY;
    f64 => FLOAT8, FLOAT8_ARRAY;
    String => TEXT, TEXT_ARRAY;
    &str => TEXT, TEXT_ARRAY;
    Vec<u8> => BYTEA, BYTEA_ARRAY;
    &[u8] => BYTEA, BYTEA_ARRAY;
}

/// A value with its type.
pub fn arg<T: Typed>(value: &T) -> Arg<'_> {
    (value, T::TYPE)
}

/// The values of a statement, in the order of `$1`, `$2` and so on.
#[macro_export]
macro_rules! args {
    ($($value:expr),* $(,)?) => { &[$($crate::sqlkit::postgres::db::arg(&$value)),*] };
}
pub use crate::args;

/// One column of a statement's rows: an array for `unnest`.
pub fn column<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// A connection, in a transaction or not.
#[derive(Clone, Copy)]
pub struct Db<'a> {
    pub client: &'a Client,
    /// Its prepared statements; `None` behind a transaction pooler.
    pub prepared: Option<&'a StatementCache>,
    /// Where the statuses that messages reach, and the states that channels reach, are collected; `None` where none change.
    pub reached: Option<&'a AllReached>,
}

/// What a transaction moved, to report after its commit.
#[derive(Default)]
pub struct AllReached(Mutex<Vec<Reached>>);

impl AllReached {
    pub fn extend(&self, reached: impl Iterator<Item = Reached>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(reached);
    }

    pub fn into_inner(self) -> Vec<Reached> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Db<'_> {
    /// All rows.
    pub async fn rows(self, sql: &str, args: &[Arg<'_>]) -> Done<Vec<Row>> {
        match self.prepare(sql, args).await? {
            Some(statement) => Ok(self.client.query(&statement, &values(args)).await?),
            None => Ok(self.client.query_typed(sql, args).await?),
        }
    }

    /// The one row, if there is one.
    pub async fn row(self, sql: &str, args: &[Arg<'_>]) -> Done<Option<Row>> {
        match self.prepare(sql, args).await? {
            Some(statement) => Ok(self.client.query_opt(&statement, &values(args)).await?),
            None => Ok(self.client.query_typed_opt(sql, args).await?),
        }
    }

    /// How many rows were changed.
    pub async fn run(self, sql: &str, args: &[Arg<'_>]) -> Done<u64> {
        match self.prepare(sql, args).await? {
            Some(statement) => Ok(self.client.execute(&statement, &values(args)).await?),
            None => Ok(self.client.execute_typed(sql, args).await?),
        }
    }

    async fn prepare(self, sql: &str, args: &[Arg<'_>]) -> Done<Option<Statement>> {
        let Some(prepared) = self.prepared else { return Ok(None) };
        let types: Vec<_> = args.iter().map(|(_, its)| its.clone()).collect();
        Ok(Some(prepared.prepare_typed(self.client, sql, &types).await?))
    }
}

fn values<'a>(args: &[Arg<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    args.iter().map(|(value, _)| *value).collect()
}

/// Runs work on a connection, once, with a timeout.
pub async fn limited<T>(work: impl Future<Output = Done<T>>) -> std::result::Result<T, Option<Failure>> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done.map_err(Some),
        Err(_) => Err(None),
    }
}

/// Runs `work`, an expression that uses the connection `$db`, in one transaction.
#[macro_export]
macro_rules! with_transaction {
    ($pool:expr, $db:ident => $work:expr) => {{
        let mut tries = $crate::sqlkit::postgres::db::tries();
        loop {
            let mut client = $pool.get().await?;
            let prepared = $pool.prepared(&client);
            let reached = $crate::sqlkit::postgres::db::AllReached::default();
            let done = $crate::sqlkit::postgres::db::limited(async {
                let transaction = client.transaction().await?;
                let done = {
                    let $db = $crate::sqlkit::postgres::db::Db {
                        client: transaction.client(),
                        prepared: prepared.as_deref(),
                        reached: Some(&reached),
                    };
                    // A connection without a pooler has them as its options. Sent together with the first statement.
                    let limits = async {
                        if prepared.is_some() {
                            return Ok(());
                        }
                        transaction.batch_execute($crate::sqlkit::postgres::db::LIMITS).await
                    };
                    let (limits, done) = tokio::join!(limits, async { $work });
                    limits?;
                    done?
                };
                transaction.commit().await?;
                Ok(done)
            })
            .await;
            if let Some(result) = $pool.end(client, done, reached, &mut tries) {
                break result;
            }
        }
    }};
}
pub use crate::with_transaction;

/// Runs `work` on a connection without a transaction: for one statement, or for several independent ones.
#[macro_export]
macro_rules! with_connection {
    ($pool:expr, $db:ident => $work:expr) => {{
        let mut tries = $crate::sqlkit::postgres::db::tries();
        loop {
            let client = $pool.get().await?;
            let prepared = $pool.prepared(&client);
            let reached = $crate::sqlkit::postgres::db::AllReached::default();
            let done = {
                let $db = $crate::sqlkit::postgres::db::Db {
                    client: &client,
                    prepared: prepared.as_deref(),
                    reached: Some(&reached),
                };
                $crate::sqlkit::postgres::db::limited($work).await
            };
            if let Some(result) = $pool.end(client, done, reached, &mut tries) {
                break result;
            }
        }
    }};
}
pub use crate::with_connection;

/// The further attempts of a transaction.
pub fn tries() -> impl Iterator<Item = usize> {
    1..TRIES
}
