//! Creates and migrates the tables.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

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
}

const MIGRATIONS: &[Migration] = &[
    Migration { number: 5, sql: include_str!("../../../../migrations/postgres/0005_first.sql"), works_from: 5 },
    Migration { number: 6, sql: include_str!("../../../../migrations/postgres/0006_lives.sql"), works_from: 5 },
    Migration { number: 7, sql: include_str!("../../../../migrations/postgres/0007_parents.sql"), works_from: 5 },
    Migration {
        number: 8,
        sql: include_str!("../../../../migrations/postgres/0008_default_country.sql"),
        works_from: 5,
    },
    Migration { number: 9, sql: include_str!("../../../../migrations/postgres/0009_logins.sql"), works_from: 5 },
    Migration { number: 10, sql: include_str!("../../../../migrations/postgres/0010_people.sql"), works_from: 5 },
    Migration { number: 11, sql: include_str!("../../../../migrations/postgres/0011_sessions.sql"), works_from: 5 },
    Migration { number: 12, sql: include_str!("../../../../migrations/postgres/0012_events.sql"), works_from: 5 },
    Migration { number: 13, sql: include_str!("../../../../migrations/postgres/0013_hidden_ids.sql"), works_from: 5 },
    Migration {
        number: 14,
        sql: include_str!("../../../../migrations/postgres/0014_message_events.sql"),
        works_from: 5,
    },
    Migration { number: 15, sql: include_str!("../../../../migrations/postgres/0015_kinds.sql"), works_from: 5 },
    Migration { number: 16, sql: include_str!("../../../../migrations/postgres/0016_schedule.sql"), works_from: 5 },
    Migration {
        number: 17,
        sql: include_str!("../../../../migrations/postgres/0017_fair_schedule.sql"),
        works_from: 5,
    },
    Migration { number: 18, sql: include_str!("../../../../migrations/postgres/0018_event_stream.sql"), works_from: 5 },
    Migration { number: 19, sql: include_str!("../../../../migrations/postgres/0019_webhooks.sql"), works_from: 5 },
    Migration { number: 20, sql: include_str!("../../../../migrations/postgres/0020_inbox.sql"), works_from: 5 },
    Migration {
        number: 21,
        sql: include_str!("../../../../migrations/postgres/0021_sandbox_incoming.sql"),
        works_from: 5,
    },
    Migration { number: 22, sql: include_str!("../../../../migrations/postgres/0022_read_signals.sql"), works_from: 5 },
    Migration { number: 23, sql: include_str!("../../../../migrations/postgres/0023_outgoing.sql"), works_from: 5 },
    Migration {
        number: 24,
        sql: include_str!("../../../../migrations/postgres/0024_latest_of_chat.sql"),
        works_from: 5,
    },
    Migration { number: 25, sql: include_str!("../../../../migrations/postgres/0025_people.sql"), works_from: 5 },
    Migration { number: 26, sql: include_str!("../../../../migrations/postgres/0026_contents.sql"), works_from: 5 },
    Migration {
        number: 27,
        sql: include_str!("../../../../migrations/postgres/0027_contents_of_channel.sql"),
        works_from: 5,
    },
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

/// The advisory lock for migrations: one node at a time migrates. The number is arbitrary, but no other program may use
/// it.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7201746391)";

/// Whether there are tables.
const THERE: &str = "SELECT to_regclass('recado_migrations') IS NOT NULL";
const NO_TABLES: &str = "there are no tables in the database: make them with `recado init --database-url …`";

/// Creates or migrates the tables in one transaction. Needs a direct connection, without a pooler.
pub async fn migrate(url: &str) -> anyhow::Result<()> {
    connect_and_run(url, true).await
}

/// Migrates existing tables, and fails if there are none: only `recado init` creates them, so a mistyped database name
/// is not served as an empty store.
pub async fn upgrade(url: &str) -> anyhow::Result<()> {
    connect_and_run(url, false).await
}

async fn connect_and_run(url: &str, may_make: bool) -> anyhow::Result<()> {
    let (mut client, connection) = Hosts::parse(url, "")?.connect().await?;
    let connection = tokio::spawn(connection);
    let mut done = run(&mut client, may_make).await;
    for _ in 0..TRIES {
        match &done {
            Err(error) if error.is::<Held>() => {
                tracing::warn!(%error, "migration blocked; retrying");
                tokio::time::sleep(PAUSE).await;
                done = run(&mut client, may_make).await;
            }
            _ => break,
        }
    }
    drop(client);
    // It ends with its client.
    drop(connection.await);
    done
}

/// The longest wait for a table. Other statements on the table wait behind it.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '1s'";
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

async fn run(client: &mut Client, may_make: bool) -> anyhow::Result<()> {
    let transaction = client.transaction().await.map_err(describe)?;
    transaction.batch_execute(LOCK).await.map_err(describe)?;
    transaction.batch_execute(LOCK_TIMEOUT).await.map_err(describe)?;
    if !may_make && !transaction.query_one(THERE, &[]).await.map_err(describe)?.get::<_, bool>(0) {
        bail!(NO_TABLES);
    }
    let table = "CREATE TABLE IF NOT EXISTS recado_migrations (
                     number integer NOT NULL PRIMARY KEY, works_from integer NOT NULL,
                     at timestamptz NOT NULL DEFAULT clock_timestamp())";
    transaction.batch_execute(table).await.map_err(describe)?;
    let newest: Option<i32> =
        transaction.query_one("SELECT max(number) FROM recado_migrations", &[]).await.map_err(describe)?.get(0);
    for migration in MIGRATIONS.iter().filter(|migration| newest.is_none_or(|newest| migration.number > newest)) {
        let number = migration.number;
        transaction
            .batch_execute(migration.sql)
            .await
            .map_err(describe_lock_failure)
            .with_context(|| format!("migration {number}"))?;
        let note = "INSERT INTO recado_migrations (number, works_from) VALUES ($1, $2)";
        transaction.execute(note, &[&number, &migration.works_from]).await.map_err(describe)?;
    }
    transaction.commit().await.map_err(describe)
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
