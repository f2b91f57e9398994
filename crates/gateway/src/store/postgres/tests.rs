//! What only this engine has: tables that several nodes share.

use futures_util::future::join_all;
use test_postgres::{Database, run};

use super::{PgStore, migrate};
use crate::store::fixtures::PgDatabase;

/// Why a store does not open; empty when it does.
async fn refusal(url: &str) -> String {
    PgStore::open(url, url, 1).await.err().map_or_else(String::new, |error| error.to_string())
}

#[tokio::test]
async fn nodes_that_start_together_make_the_tables_once() {
    let database = Database::new();
    assert!(refusal(database.url()).await.contains("no tables"));
    for done in join_all([0; 3].map(|_| migrate(database.url()))).await {
        done.expect("one makes them, the others find them");
    }
    assert_eq!(refusal(database.url()).await, "");
}

#[tokio::test]
async fn a_newer_version_says_from_which_on_its_tables_can_be_used() {
    let database = PgDatabase::new();
    run(database.direct_url(), "insert into recado_migrations (number, works_from) values (1000, 5)");
    assert_eq!(refusal(database.direct_url()).await, "");
    migrate(database.direct_url()).await.expect("there is nothing to do");
    run(database.direct_url(), "insert into recado_migrations (number, works_from) values (1001, 1001)");
    assert!(refusal(database.direct_url()).await.contains("newer version"));
}
