//! Migrations of large tables, beside nodes that work.

use std::future::pending;
use std::time::Duration;

use test_postgres::{Database, number};
use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::refusal;
use crate::postgres::migrations::{SCHEMA_VERSION, migrate, migrate_to, upgrade};
use crate::sqlkit::postgres::hosts::Hosts;

/// The last migration before those that build indexes of `messages`.
const BEFORE: i32 = 24;
const LONG: Duration = Duration::from_secs(30);

async fn connect(url: &str) -> Client {
    let (client, connection) = Hosts::parse(url, "").expect("a URL").connect().await.expect("connected");
    tokio::spawn(connection);
    client
}

/// The process of the server that builds an index and waits for a transaction.
async fn building(client: &Client) -> i32 {
    let sql = "SELECT pid FROM pg_stat_activity
               WHERE datname = current_database() AND query LIKE 'CREATE INDEX CONCURRENTLY%messages_by_account%'
                 AND wait_event_type = 'Lock'";
    let waiting = async {
        loop {
            if let Some(row) = client.query_opt(sql, &[]).await.expect("asked") {
                return row.get(0);
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, waiting).await.expect("the index waits for a transaction")
}

#[tokio::test]
async fn a_migration_that_is_killed_halfway_continues_at_the_next_start() {
    let database = Database::new();
    let url = database.url().to_owned();
    migrate_to(&url, BEFORE).await.expect("migrated");
    let (writer, node) = (connect(&url).await, connect(&url).await);
    // A transaction that has written to the table.
    writer.batch_execute("BEGIN; UPDATE messages SET attempts = 0").await.expect("begun");
    let upgrading = tokio::spawn({
        let url = url.clone();
        async move { upgrade(&url, pending()).await }
    });
    let process = building(&node).await;
    // The nodes work on meanwhile.
    let changes =
        "SET lock_timeout = '5s'; UPDATE messages SET attempts = 0; INSERT INTO poll_votes VALUES (1, '', '', '', 0)";
    node.batch_execute(changes).await.expect("written while the index is built");
    assert!(!upgrading.is_finished());
    node.query("SELECT pg_terminate_backend($1)", &[&process]).await.expect("killed");
    upgrading.await.expect("no panic").expect_err("the connection was lost");
    let unfinished = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
    let newest = "SELECT max(number)::bigint FROM recado_migrations";
    assert_eq!((number(&url, unfinished), number(&url, newest)), (1, BEFORE.into()));
    assert!(refusal(&url).await.contains("older"));
    writer.batch_execute("COMMIT").await.expect("committed");
    assert!(upgrade(&url, pending()).await.expect("upgraded"));
    assert_eq!((number(&url, unfinished), number(&url, newest)), (0, SCHEMA_VERSION.into()));
    let built = "SELECT count(*) FROM pg_index WHERE indexrelid = 'messages_by_account'::regclass";
    assert_eq!((number(&url, built), refusal(&url).await), (1, String::new()));
}

/// Otherwise the server would go on building, and the next start would wait for the lock.
#[tokio::test]
async fn a_migration_that_is_stopped_leaves_no_statement_and_continues_at_the_next_start() {
    let database = Database::new();
    let url = database.url().to_owned();
    migrate_to(&url, BEFORE).await.expect("migrated");
    let (writer, node) = (connect(&url).await, connect(&url).await);
    writer.batch_execute("BEGIN; UPDATE messages SET attempts = 0").await.expect("begun");
    let stop = CancellationToken::new();
    let upgrading = tokio::spawn({
        let (url, stop) = (url.clone(), stop.clone());
        async move { upgrade(&url, stop.cancelled_owned()).await }
    });
    let process = building(&node).await;
    stop.cancel();
    assert!(!timeout(LONG, upgrading).await.expect("in time").expect("no panic").expect("no failure"));
    let left = "SELECT FROM pg_stat_activity WHERE pid = $1 AND state = 'active'";
    assert!(node.query_opt(left, &[&process]).await.expect("asked").is_none(), "the statement was cancelled");
    writer.batch_execute("COMMIT").await.expect("committed");
    assert!(timeout(LONG, upgrade(&url, pending())).await.expect("in time").expect("upgraded"));
    let unfinished = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
    assert_eq!((number(&url, unfinished), refusal(&url).await), (0, String::new()));
}

/// A node that waits for another one's migration must not be a transaction for which an index waits.
#[tokio::test]
async fn a_node_that_waits_for_the_migration_of_another_delays_no_index() {
    let database = Database::new();
    let url = database.url().to_owned();
    migrate_to(&url, BEFORE).await.expect("migrated");
    let (writer, node) = (connect(&url).await, connect(&url).await);
    writer.batch_execute("BEGIN; UPDATE messages SET attempts = 0").await.expect("begun");
    let begin = || {
        let url = url.clone();
        tokio::spawn(async move { migrate(&url).await })
    };
    let first = begin();
    building(&node).await;
    let second = begin();
    let asked = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND query LIKE 'SELECT pg_try_advisory_lock%'";
    let waiting = async {
        while node.query_one(asked, &[]).await.expect("asked").get::<_, i64>(0) == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, waiting).await.expect("the second node asks for the lock");
    writer.batch_execute("COMMIT").await.expect("committed");
    for one in [first, second] {
        timeout(LONG, one).await.expect("in time").expect("no panic").expect("migrated");
    }
    assert_eq!(refusal(&url).await, "");
}

/// Another program may hold the table that knows which migrations have run.
#[tokio::test]
async fn a_locked_table_of_migrations_is_waited_for() {
    let database = Database::new();
    let url = database.url().to_owned();
    migrate_to(&url, BEFORE).await.expect("migrated");
    let (holder, node) = (connect(&url).await, connect(&url).await);
    holder.batch_execute("BEGIN; LOCK TABLE recado_migrations").await.expect("locked");
    let upgrading = tokio::spawn({
        let url = url.clone();
        async move { migrate(&url).await }
    });
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'SELECT max(number)%'";
    // A try waits for a second, and ends.
    for expected in [1, 0] {
        let seen = async {
            while node.query_one(waiting, &[]).await.expect("asked").get::<_, i64>(0) != expected {
                tokio::task::yield_now().await;
            }
        };
        timeout(LONG, seen).await.expect("a try");
    }
    holder.batch_execute("COMMIT").await.expect("released");
    timeout(LONG, upgrading).await.expect("in time").expect("no panic").expect("migrated");
}
