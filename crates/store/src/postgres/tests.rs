//! Tests of this engine only: tables that several nodes share.

mod migrations;
mod plans;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use recado_domain::api_key::Environment;
use recado_domain::channel::{ChannelState, MAX_CHANNEL_EVENTS};
use recado_domain::ids::InstitutionId;
use test_postgres::{Database, number, run};
use tokio_util::sync::CancellationToken;

use super::migrations::FIRST_TABLES;
use super::{PgStore, migrate};
use crate::conformance::channels::settings_of_a_newer_version_stay;
use crate::conformance::enqueue::{MAKE_OLD, a_card_of_the_versions_before_is_a_contact};
use crate::conformance::inbox_erasure::{ERASED, erase_a_person};
use crate::conformance::inbox_settings::{BAD, a_message_that_cannot_be_changed_keeps_no_other_from_its_turn};
use crate::conformance::message_events::events_are_purged_with_their_messages;
use crate::conformance::outgoing::a_former_address_of_the_versions_before_is_not_used;
use crate::fixtures::{Ground, PgDatabase};
use crate::shares::{Call, of_call};
use crate::sqlkit::postgres::hosts::Hosts;

/// The error of opening a store; empty if it opens.
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
async fn rows_of_the_versions_before_kinds_are_contacts() {
    let database = PgDatabase::new();
    let url = database.direct_url().to_owned();
    let ground = Ground::on(database).await;
    a_card_of_the_versions_before_is_a_contact(ground, || run(&url, &format!("{MAKE_OLD} true"))).await;
}

#[tokio::test]
async fn conversations_of_the_versions_before_may_have_a_former_address() {
    let database = PgDatabase::new();
    let url = database.direct_url().to_owned();
    let ground = Ground::on(database).await;
    a_former_address_of_the_versions_before_is_not_used(ground, |sql| run(&url, sql)).await;
}

#[tokio::test]
async fn a_message_that_cannot_be_changed_keeps_the_content_of_no_other() {
    let database = PgDatabase::new();
    let url = database.direct_url().to_owned();
    let ground = Ground::on(database).await;
    let sql = format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''it cannot be changed''; END';
         CREATE TRIGGER bad BEFORE UPDATE ON incoming FOR EACH ROW WHEN (old.network_id = '{BAD}')
         EXECUTE FUNCTION refuse()"
    );
    a_message_that_cannot_be_changed_keeps_no_other_from_its_turn(ground, || run(&url, &sql)).await;
}

#[tokio::test]
async fn a_node_of_this_version_keeps_the_settings_of_a_newer_one() {
    let database = PgDatabase::new();
    let url = database.direct_url().to_owned();
    let ground = Ground::on(database).await;
    settings_of_a_newer_version_stay(ground, |sql| run(&url, sql), |sql| number(&url, sql)).await;
}

#[tokio::test]
async fn a_newer_version_says_from_which_on_its_tables_can_be_used() {
    let database = PgDatabase::new();
    run(database.direct_url(), "INSERT INTO recado_migrations (number, works_from) VALUES (1000, 5)");
    assert_eq!(refusal(database.direct_url()).await, "");
    migrate(database.direct_url()).await.expect("there is nothing to do");
    run(database.direct_url(), "INSERT INTO recado_migrations (number, works_from) VALUES (1001, 1001)");
    assert!(refusal(database.direct_url()).await.contains("newer version"));
}

/// Nodes continue during an upgrade that meets a long query, such as a backup.
#[tokio::test]
async fn an_upgrade_that_waits_for_a_table_delays_no_node() {
    let database = Database::new();
    let url = database.url().to_owned();
    let noted = "CREATE TABLE recado_migrations (
                     number integer NOT NULL PRIMARY KEY, works_from integer NOT NULL,
                     at timestamptz NOT NULL DEFAULT clock_timestamp());
                 INSERT INTO recado_migrations (number, works_from) VALUES (5, 5)";
    run(&url, &format!("{FIRST_TABLES};{noted}"));
    let connect = async || {
        let (client, connection) = Hosts::parse(&url, "").expect("a URL").connect().await.expect("connected");
        tokio::spawn(connection);
        client
    };
    let (long, node) = (connect().await, connect().await);
    long.batch_execute("BEGIN; LOCK TABLE channels IN ACCESS SHARE MODE").await.expect("locked");
    let upgrading = tokio::spawn({
        let url = url.clone();
        async move { migrate(&url).await }
    });
    let waits = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'channels'::regclass";
    let waiting = async {
        while node.query(waits, &[]).await.expect("asked").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("the upgrade waits for the table");
    let asked = node.query("SELECT FROM channels", &[]);
    tokio::time::timeout(Duration::from_secs(20), asked).await.expect("an answer before the end").expect("asked");
    assert!(!upgrading.is_finished());
    long.batch_execute("COMMIT").await.expect("let go");
    upgrading.await.expect("no panic").expect("upgraded");
    assert_eq!(refusal(&url).await, "");
}

#[tokio::test]
async fn a_channel_that_is_made_while_a_reader_comes_records() {
    let database = Arc::new(PgDatabase::new());
    let ground = Ground::on(database.clone()).await;
    let (client, connection) =
        Hosts::parse(database.direct_url(), "").expect("a URL").connect().await.expect("connected");
    tokio::spawn(connection);
    let comes = "BEGIN; SELECT FROM institutions FOR UPDATE;
                 INSERT INTO event_consumers (institution_id, environment) SELECT id, 'live' FROM institutions";
    client.batch_execute(comes).await.expect("begun");
    let (store, new) = (ground.store.clone(), ground.new_channel("loja", ChannelState::Created));
    let creating = tokio::spawn(async move { store.create_channel(new).await });
    let waits = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while client.query(waits, &[]).await.expect("asked").is_empty() {
        assert!(!creating.is_finished(), "it waits for the reader");
        tokio::task::yield_now().await;
    }
    client.batch_execute("COMMIT").await.expect("committed");
    creating.await.expect("no panic").expect("stored").expect("a free id");
    assert_eq!(number(database.direct_url(), "SELECT count(*) FROM channels WHERE records_messages"), 1);
}

#[tokio::test]
async fn events_of_a_deleted_message_are_deleted() {
    let database = PgDatabase::new();
    let url = database.direct_url().to_owned();
    let ground = Ground::on(database).await;
    events_are_purged_with_their_messages(&ground).await;
    let messages = "SELECT count(DISTINCT message_seq) FROM events WHERE message_seq IS NOT NULL";
    assert_eq!(number(&url, messages), 1);
    assert_eq!(number(&url, "SELECT count(*) FROM events WHERE message_seq IS NOT NULL"), 3);
}

#[tokio::test]
async fn the_oldest_of_too_many_channel_events_are_deleted() {
    let database = PgDatabase::new();
    let url = database.direct_url().to_owned();
    let ground = Ground::on(database).await;
    let (channel, other) = (ground.channel("loja").await, ground.channel("outra").await);
    let fill = format!(
        "INSERT INTO events (channel_key, kind, at, data)
         SELECT {channel}, 'channel.paused', n, '{{}}' FROM generate_series(1, {MAX_CHANNEL_EVENTS}) n"
    );
    run(&url, &fill);
    ground.move_channel(channel, ChannelState::Connected, ChannelState::Paused).await;
    let count = |channel: i64| number(&url, &format!("SELECT count(*) FROM events WHERE channel_key = {channel}"));
    assert_eq!((count(channel), count(other)), (MAX_CHANNEL_EVENTS, 1));
    // The event of the creation was deleted, and the oldest of the inserted events.
    assert_eq!(number(&url, &format!("SELECT min(at) FROM events WHERE channel_key = {channel}")), 2);
}

/// Every table, whatever it is called, is searched for every name of an erased person.
#[tokio::test]
async fn nothing_of_an_erased_person_is_in_any_table() {
    let database = Arc::new(PgDatabase::new());
    let ground = Ground::on(database.clone()).await;
    erase_a_person(&ground).await;
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert!(number(database.direct_url(), tables) > 20);
    for text in ERASED {
        // One query for all tables: how many rows of any of them have the text.
        let sql = format!(
            "SELECT coalesce(sum((xpath('/row/n/text()', query_to_xml(format(
                 'SELECT count(*) AS n FROM %I t WHERE t::text LIKE %L', tablename, '%{text}%'), false, true, '')))[1]
                 ::text::bigint), 0)::bigint
             FROM pg_tables WHERE schemaname = 'public'"
        );
        assert_eq!(number(database.direct_url(), &sql), 0, "{text}");
    }
}

/// The reads of one owner hang. Others, and the server, have connections.
#[tokio::test]
async fn slow_reads_of_one_owner_leave_connections_to_others() {
    let database = Arc::new(PgDatabase::new());
    let ground = Ground::on(database.clone()).await;
    let looks = |institution| Call::Looks((institution, Environment::Live), CancellationToken::new());
    let (client, connection) =
        Hosts::parse(database.direct_url(), "").expect("a URL").connect().await.expect("connected");
    tokio::spawn(connection);
    client.batch_execute("BEGIN; LOCK TABLE webhooks").await.expect("locked");
    let slow = (0..30).map(|_| {
        let (store, institution) = (ground.store.clone(), ground.institution);
        let read = async move { store.webhooks((institution, Environment::Live)).await };
        tokio::spawn(of_call(looks(institution), read))
    });
    let slow: Vec<_> = slow.collect();
    let waits = "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
                 WHERE datname = current_database() AND NOT granted";
    while client.query_one(waits, &[]).await.expect("asked").get::<_, i64>(0) == 0 {
        tokio::task::yield_now().await;
    }
    let other = InstitutionId::from_bytes([2; 16]);
    for _ in 0..20 {
        of_call(looks(other), ground.store.api_keys()).await.expect("another owner has connections");
        ground.store.channels().await.expect("the server has connections");
        let waiting = client.query_one(waits, &[]).await.expect("asked").get::<_, i64>(0);
        assert!(waiting <= 2, "{waiting} of 8 connections wait for one owner");
    }
    client.batch_execute("COMMIT").await.expect("committed");
    for read in slow {
        read.await.expect("no panic").expect("read");
    }
}
