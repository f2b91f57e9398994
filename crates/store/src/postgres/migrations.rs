//! Creates and migrates the tables.

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::{Instant, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient};

use crate::sqlkit::postgres::failure::describe;
use crate::sqlkit::postgres::hosts::Hosts;
use crate::sqlkit::postgres::pool::Pool;

/// A migration, and the first version that can work on its result.
struct Migration {
    number: i32,
    sql: &'static str,
    /// The version of the tables that a build must know at least. As long as that is lower than the number, nodes of the
    /// version before go on working while others are upgraded.
    works_from: i32,
    runs: Runs,
}

/// How a migration runs.
enum Runs {
    InOneTransaction,
    /// For indexes of large tables: PostgreSQL builds them without locks for writers (`CONCURRENTLY`), but only outside of a
    /// transaction.
    Statements,
}

impl Migration {
    const fn new(number: i32, sql: &'static str) -> Self {
        Self { number, sql, works_from: 5, runs: Runs::InOneTransaction }
    }

    /// Nodes write to its tables while it runs.
    const fn of_indexes(number: i32, sql: &'static str) -> Self {
        Self { number, sql, works_from: 5, runs: Runs::Statements }
    }
}

const MIGRATIONS: &[Migration] = &[
    Migration::new(5, include_str!("../../../../migrations/postgres/0005_first.sql")),
    Migration::new(6, include_str!("../../../../migrations/postgres/0006_lives.sql")),
    Migration::new(7, include_str!("../../../../migrations/postgres/0007_parents.sql")),
    Migration::new(8, include_str!("../../../../migrations/postgres/0008_default_country.sql")),
    Migration::new(9, include_str!("../../../../migrations/postgres/0009_logins.sql")),
    Migration::new(10, include_str!("../../../../migrations/postgres/0010_people.sql")),
    Migration::new(11, include_str!("../../../../migrations/postgres/0011_sessions.sql")),
    Migration::new(12, include_str!("../../../../migrations/postgres/0012_events.sql")),
    Migration::new(13, include_str!("../../../../migrations/postgres/0013_hidden_ids.sql")),
    Migration::new(14, include_str!("../../../../migrations/postgres/0014_message_events.sql")),
    Migration::new(15, include_str!("../../../../migrations/postgres/0015_kinds.sql")),
    Migration::new(16, include_str!("../../../../migrations/postgres/0016_schedule.sql")),
    Migration::new(17, include_str!("../../../../migrations/postgres/0017_fair_schedule.sql")),
    Migration::new(18, include_str!("../../../../migrations/postgres/0018_event_stream.sql")),
    Migration::new(19, include_str!("../../../../migrations/postgres/0019_webhooks.sql")),
    Migration::new(20, include_str!("../../../../migrations/postgres/0020_inbox.sql")),
    Migration::new(21, include_str!("../../../../migrations/postgres/0021_sandbox_incoming.sql")),
    Migration::new(22, include_str!("../../../../migrations/postgres/0022_read_signals.sql")),
    Migration::new(23, include_str!("../../../../migrations/postgres/0023_outgoing.sql")),
    Migration::of_indexes(24, include_str!("../../../../migrations/postgres/0024_latest_of_chat.sql")),
    Migration::of_indexes(25, include_str!("../../../../migrations/postgres/0025_people.sql")),
    Migration::new(26, include_str!("../../../../migrations/postgres/0026_contents.sql")),
    Migration::of_indexes(27, include_str!("../../../../migrations/postgres/0027_contents_of_channel.sql")),
    Migration::of_indexes(28, include_str!("../../../../migrations/postgres/0028_fewer_indexes.sql")),
    Migration::new(29, include_str!("../../../../migrations/postgres/0029_refused_arrivals.sql")),
    Migration::new(30, include_str!("../../../../migrations/postgres/0030_unfinished.sql")),
];

/// Identifies these tables on the server of the tests.
#[cfg(feature = "fixtures")]
pub(crate) const MIGRATIONS_TEXT: &str = MIGRATIONS[MIGRATIONS.len() - 1].sql;

/// The tables that the first migration creates.
#[cfg(test)]
pub(super) const FIRST_TABLES: &str = MIGRATIONS[0].sql;

/// The version of the tables of this build.
pub const SCHEMA_VERSION: i32 = MIGRATIONS[MIGRATIONS.len() - 1].number;

/// The table that exists during an import, with its progress.
pub(super) const IMPORTING: &str = "recado_import";

/// The advisory lock under which versions before this one migrate, in one transaction. The numbers are arbitrary, but no other
/// program may use them.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7201746391)";
/// The advisory lock of the connection that migrates: one node at a time. A node that waited in a statement would hold a
/// snapshot, which `CREATE INDEX CONCURRENTLY` of the other node waits for. So nodes ask again and again.
const TRY: &str = "SELECT pg_try_advisory_lock(7201746394)";
/// The wait between two questions.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// A wait that is so long is logged. Nodes that start together wait for each other for a moment.
const LONG_WAIT: Duration = Duration::from_secs(1);
/// How long the end of a statement and of its connection may take after a stop was requested.
const CANCEL: Duration = Duration::from_secs(2);

/// Whether there are tables.
const THERE: &str = "SELECT to_regclass('recado_migrations') IS NOT NULL";
const NO_TABLES: &str = "there are no tables in the database: make them with `recado init --database-url …`";

/// Creates or migrates the tables. Needs a direct connection, without a pooler. Each migration commits by itself: what is done
/// stays done if a later one fails, or if the process ends.
pub async fn migrate(url: &str) -> anyhow::Result<()> {
    connect_and_run(url, true, MIGRATIONS, pending()).await.map(drop)
}

/// Migrates existing tables, and fails if there are none: only `recado init` creates them, so a mistyped database name
/// is not served as an empty store. `false`: `stop` was ready first. The next call continues then.
pub async fn upgrade(url: &str, stop: impl Future<Output = ()>) -> anyhow::Result<bool> {
    connect_and_run(url, false, MIGRATIONS, stop).await
}

/// Creates the tables as they were after this migration.
#[cfg(test)]
pub(super) async fn migrate_to(url: &str, number: i32) -> anyhow::Result<()> {
    let count = MIGRATIONS.iter().filter(|migration| migration.number <= number).count();
    connect_and_run(url, true, &MIGRATIONS[..count], pending()).await.map(drop)
}

async fn connect_and_run(
    url: &str,
    may_make: bool,
    migrations: &[Migration],
    stop: impl Future<Output = ()>,
) -> anyhow::Result<bool> {
    let hosts = Hosts::parse(url, "")?;
    let mut stop = pin!(stop);
    let (mut client, connection) = tokio::select! {
        connected = hosts.connect() => connected?,
        () = &mut stop => return Ok(false),
    };
    let connection = tokio::spawn(connection);
    let done = tokio::select! {
        done = with_retries(&mut client, may_make, migrations) => Some(done),
        () = &mut stop => None,
    };
    // The end of the connection, which ends with its client, releases the lock.
    if let Some(done) = done {
        drop(client);
        drop(connection.await);
        return done.map(|()| true);
    }
    // The server would go on with a statement whose client has gone, such as one that builds an index.
    drop(timeout(CANCEL, client.cancel_token().cancel_query(hosts.tls.clone())).await);
    drop(client);
    drop(timeout(CANCEL, connection).await);
    Ok(false)
}

/// The longest wait for a table. Other statements on the table wait behind it.
const LOCK_TIMEOUT: &str = "SET lock_timeout = '1s'";
/// An index that is built beside the work of the nodes waits for transactions that began before it, and no other statement waits
/// behind it. It may take as long as it needs.
const NO_TIMEOUT: &str = "SET lock_timeout = 0";
/// The limits that the database or its role may have.
const NO_LIMITS: &str = "SET statement_timeout = 0";
/// The wait between two tries, in which the nodes work on.
const PAUSE: Duration = Duration::from_secs(2);
const TRIES: usize = 60;

/// Another transaction has locked a table, or waits for this one in turn.
#[derive(Debug, thiserror::Error)]
#[error("a long query or a backup holds a table; the tables are brought up to date when it has ended")]
struct Held;

fn describe_lock_failure(error: tokio_postgres::Error) -> anyhow::Error {
    let held = [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED];
    if error.code().is_some_and(|code| held.contains(code)) { Held.into() } else { describe(error) }
}

/// Waits until no other node migrates.
async fn lock(client: &Client) -> anyhow::Result<()> {
    let (began, mut is_logged) = (Instant::now(), false);
    while !client.query_one(TRY, &[]).await.map_err(describe)?.get::<_, bool>(0) {
        if !is_logged && began.elapsed() >= LONG_WAIT {
            tracing::info!("another node migrates the tables; waiting");
            is_logged = true;
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
    if is_logged {
        tracing::info!(seconds = began.elapsed().as_secs(), "migration of another node ended");
    }
    Ok(())
}

async fn with_retries(client: &mut Client, may_make: bool, migrations: &[Migration]) -> anyhow::Result<()> {
    lock(client).await?;
    client.batch_execute(NO_LIMITS).await.map_err(describe)?;
    let mut tries = TRIES;
    loop {
        match run(client, may_make, migrations).await {
            Err(error) if error.is::<Held>() && tries > 0 => {
                tracing::warn!(%error, "migration blocked; retrying");
                tries -= 1;
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}

async fn run(client: &mut Client, may_make: bool, migrations: &[Migration]) -> anyhow::Result<()> {
    if !may_make && !client.query_one(THERE, &[]).await.map_err(describe)?.get::<_, bool>(0) {
        bail!(NO_TABLES);
    }
    let mut newest = None;
    for migration in migrations {
        // The newest one is read again after each: a node of a version before this one may have migrated meanwhile.
        if newest.is_none_or(|newest| migration.number > newest) {
            newest = match migration.runs {
                Runs::InOneTransaction => in_one_transaction(client, migration).await,
                Runs::Statements => statement_by_statement(client, migration).await,
            }
            .with_context(|| format!("migration {}", migration.number))?;
        }
    }
    Ok(())
}

/// Runs a migration, unless it has run already. Returns the newest one that has run.
async fn in_one_transaction(client: &mut Client, migration: &Migration) -> anyhow::Result<Option<i32>> {
    client.batch_execute(LOCK_TIMEOUT).await.map_err(describe)?;
    let transaction = client.transaction().await.map_err(describe)?;
    transaction.batch_execute(LOCK).await.map_err(describe_lock_failure)?;
    let newest = newest(&transaction).await?;
    if newest.is_none_or(|newest| migration.number > newest) {
        transaction.batch_execute(migration.sql).await.map_err(describe_lock_failure)?;
        note(&transaction, migration).await?;
        transaction.commit().await.map_err(describe)?;
        return Ok(Some(migration.number));
    }
    Ok(newest)
}

/// Runs a migration whose statements commit by themselves, unless it has run already. Returns the newest one that has run. A
/// migration that ended halfway begins again, so each statement does nothing if its change was made.
async fn statement_by_statement(client: &Client, migration: &Migration) -> anyhow::Result<Option<i32>> {
    let newest = newest(client).await?;
    if newest.is_some_and(|newest| migration.number <= newest) {
        return Ok(newest);
    }
    for statement in statements(migration.sql) {
        let is_concurrent = statement.contains(" CONCURRENTLY ");
        let timeout = if is_concurrent { NO_TIMEOUT } else { LOCK_TIMEOUT };
        client.batch_execute(timeout).await.map_err(describe)?;
        if let Some(index) = built(&statement) {
            // It takes long on a large table, and waits for transactions that began before, as that of a backup.
            tracing::info!(migration = migration.number, index, "building an index; the server starts after it");
            drop_unfinished(client, index).await?;
        }
        client.batch_execute(&statement).await.map_err(describe_lock_failure)?;
    }
    note(client, migration).await?;
    Ok(Some(migration.number))
}

/// The statements of a migration, without comments. No statement contains a text with a semicolon.
fn statements(sql: &str) -> Vec<String> {
    let lines: Vec<_> = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    let code = lines.join("\n");
    code.split(';').map(str::trim).filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
}

/// The index that a statement builds beside the work of the nodes.
fn built(statement: &str) -> Option<&str> {
    let (_, named) = statement.split_once("INDEX CONCURRENTLY IF NOT EXISTS ")?;
    named.split_whitespace().next()
}

/// Drops an index whose building ended halfway. PostgreSQL leaves it, maintains it and never reads it.
async fn drop_unfinished(client: &Client, index: &str) -> anyhow::Result<()> {
    let sql = "SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid";
    if client.query_opt(sql, &[&index]).await.map_err(describe)?.is_some() {
        let sql = format!("DROP INDEX CONCURRENTLY IF EXISTS {index}");
        client.batch_execute(&sql).await.map_err(describe_lock_failure)?;
    }
    Ok(())
}

/// The newest migration that has run. Creates the table that knows it.
async fn newest(client: &impl GenericClient) -> anyhow::Result<Option<i32>> {
    let table = "CREATE TABLE IF NOT EXISTS recado_migrations (
                     number integer NOT NULL PRIMARY KEY, works_from integer NOT NULL,
                     at timestamptz NOT NULL DEFAULT clock_timestamp())";
    client.batch_execute(table).await.map_err(describe_lock_failure)?;
    let newest = client.query_one("SELECT max(number) FROM recado_migrations", &[]).await;
    Ok(newest.map_err(describe_lock_failure)?.get(0))
}

async fn note(client: &impl GenericClient, migration: &Migration) -> anyhow::Result<()> {
    let note = "INSERT INTO recado_migrations (number, works_from) VALUES ($1, $2)";
    client.execute(note, &[&migration.number, &migration.works_from]).await.map_err(describe_lock_failure).map(drop)
}

/// Looks whether this build can work on the tables.
pub(super) async fn check(pool: &Pool) -> anyhow::Result<()> {
    let client = pool.get().await?;
    if !client.query_typed_one(THERE, &[]).await.map_err(describe)?.get::<_, bool>(0) {
        bail!(NO_TABLES);
    }
    let filled = format!("SELECT to_regclass('{IMPORTING}') IS NOT NULL");
    if client.query_typed_one(&filled, &[]).await.map_err(describe)?.get::<_, bool>(0) {
        bail!("a store is being copied into this database: let `recado migrate-store` end first");
    }
    let sql = "SELECT max(number), max(works_from) FROM recado_migrations";
    let row = client.query_typed_one(sql, &[]).await.map_err(describe)?;
    let (newest, works_from): (Option<i32>, Option<i32>) = (row.get(0), row.get(1));
    if works_from.is_some_and(|works_from| works_from > SCHEMA_VERSION) {
        bail!("a newer version of Recado has worked on this database: start that one, there is no way back");
    }
    if newest.is_none_or(|newest| newest < SCHEMA_VERSION) {
        bail!("the tables in the database are older than this version of Recado");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_index_of_a_migration_by_statements_can_be_built_again() {
        for migration in MIGRATIONS {
            let by_statements = matches!(migration.runs, Runs::Statements);
            for statement in statements(migration.sql) {
                let is_concurrent = statement.contains("CONCURRENTLY");
                assert!(!is_concurrent || by_statements, "{statement}");
                let repeats = ["IF NOT EXISTS", "IF EXISTS"].iter().any(|how| statement.contains(how));
                assert!(repeats || !by_statements, "{statement}");
                assert_eq!(
                    built(&statement).is_some(),
                    statement.starts_with("CREATE INDEX CONCURRENTLY"),
                    "{statement}"
                );
            }
        }
        assert_eq!(built("CREATE INDEX CONCURRENTLY IF NOT EXISTS a_b\n ON c (d)"), Some("a_b"));
        let sql = "-- One; two.\nDROP INDEX a;\n  -- More.\nCREATE INDEX b\n    ON c (d);\n";
        assert_eq!(statements(sql), ["DROP INDEX a", "CREATE INDEX b\n    ON c (d)"]);
    }
}
