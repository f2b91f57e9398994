//! Tests of this engine only: counts that are cached beside the file.

mod plans;

use std::sync::mpsc;

use futures_util::future::poll_immediate;
use recado_domain::api_key::Environment;
use recado_domain::channel::{ChannelState, ChannelType, MAX_CHANNEL_EVENTS};
use recado_domain::event::EventQuery;
use recado_domain::ids::InstitutionId;
use recado_domain::message::{MessageQuery, NewMessage};
use recado_domain::party::Party;
use recado_domain::queue::ClaimRequest;
use recado_domain::webhook::{DeliveryClaim, Lane};
use tokio::sync::mpsc::unbounded_channel;

use super::*;
use crate::Queue;
use crate::common::PageScan;
use crate::common::channels::delete;
use crate::conformance::channels::settings_of_a_newer_version_stay;
use crate::conformance::enqueue::{MAKE_OLD, a_card_of_the_versions_before_is_a_contact};
use crate::conformance::inbox_erasure::{ERASED, erase_a_person};
use crate::conformance::inbox_settings::{BAD, a_message_that_cannot_be_changed_keeps_no_other_from_its_turn};
use crate::conformance::message_events::events_are_purged_with_their_messages;
use crate::conformance::outgoing::a_former_address_of_the_versions_before_is_not_used;
use crate::conformance::webhooks::{create_at, event, settings};
use crate::fixtures::{Engine, Ground, NOW, SqliteFile, request, sent};
use crate::shares::{Call, of_call};
use crate::sqlkit::both::{Executor, at_once};

/// A store that the test uses directly as well.
struct Shared(Arc<SqliteStore>);

#[async_trait::async_trait]
impl Engine for Shared {
    async fn open(&self) -> Arc<dyn Store> {
        self.0.clone()
    }
}

#[tokio::test]
async fn a_rolled_back_call_leaves_no_trace_in_the_cache() {
    let file = SqliteFile::new();
    let store = Arc::new(SqliteStore::open(&file.path()).expect("the store opens"));
    let ground = Ground::on(Shared(store.clone())).await;
    let channel = ground.channel("loja").await;
    for _ in 0..3 {
        ground.accept(channel, "551").await;
    }
    let undone = store.write(move |writing| {
        channels::move_to(
            writing,
            channel,
            &crate::fixtures::channel_move(ChannelState::Connected, ChannelState::Paused, NOW),
        )?;
        at_once(delete(writing, channel, recado_domain::channel::Actor::Operator, NOW))?;
        queue::cancel_former(writing, channel, 2, NOW)?;
        assert_eq!(writing.queues[&channel].open, 0);
        Err::<(), _>(rusqlite::Error::QueryReturnedNoRows)
    });
    assert!(matches!(undone.await, Err(StoreError::Refused(_))));
    let claim = ground.claim(request(channel)).await;
    assert_eq!((claim.messages.len(), ground.open(channel).await), (1, 3));
}

/// The writing thread is busy. Few writes of one owner stand in its line, and others are not behind the rest of them.
#[tokio::test]
async fn writes_of_one_owner_do_not_fill_the_line_of_the_writing_thread() {
    let file = SqliteFile::new();
    let store = Arc::new(SqliteStore::open(&file.path()).expect("the store opens"));
    let ground = Ground::on(Shared(store.clone())).await;
    let channel = ground.channel("loja").await;
    let calls = |institution| Call::Changes((InstitutionId::from_bytes([institution; 16]), Environment::Live));
    let (began, mut begins) = unbounded_channel();
    let (go_on, waits) = mpsc::channel::<()>();
    let writing = store.clone();
    let busy = tokio::spawn(async move {
        let write = writing.write(move |_| {
            began.send(()).expect("the test waits");
            let _ = waits.recv();
            Ok(())
        });
        write.await
    });
    begins.recv().await.expect("a write");
    let write = |institution| {
        let store = store.clone();
        tokio::spawn(of_call(calls(institution), async move { store.write(|_| Ok(())).await }))
    };
    let mut writes: Vec<_> = (0..5 * WRITES).map(|_| write(1)).collect();
    // The runtime has one thread, so each task has asked by then.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.writes_waiting(), WRITES);
    writes.push(write(2));
    let mut accept = Box::pin(of_call(calls(1), ground.accept(channel, "551")));
    assert!(poll_immediate(&mut accept).await.is_none(), "it waits for the thread");
    tokio::task::yield_now().await;
    assert_eq!(store.writes_waiting(), WRITES + 2, "neither waits for the owner's share");
    drop(go_on);
    accept.await;
    busy.await.expect("no panic").expect("written");
    for write in writes {
        write.await.expect("no panic").expect("written");
    }
}

#[tokio::test]
async fn rows_of_the_versions_before_kinds_are_contacts() {
    let file = SqliteFile::new();
    let path = file.path();
    let ground = Ground::on(file).await;
    let make_old = || {
        let other = Connection::open(&path).expect("the file opens");
        other.execute(&format!("{MAKE_OLD} 1"), []).expect("changed");
    };
    a_card_of_the_versions_before_is_a_contact(ground, make_old).await;
}

#[tokio::test]
async fn conversations_of_the_versions_before_may_have_a_former_address() {
    let file = SqliteFile::new();
    let path = file.path();
    let ground = Ground::on(file).await;
    let make_old = |sql: &str| {
        let other = Connection::open(&path).expect("the file opens");
        other.execute(sql, []).expect("changed");
    };
    a_former_address_of_the_versions_before_is_not_used(ground, make_old).await;
}

#[tokio::test]
async fn a_message_that_cannot_be_changed_keeps_the_content_of_no_other() {
    let file = SqliteFile::new();
    let path = file.path();
    let ground = Ground::on(file).await;
    let break_it = || {
        let sql = format!(
            "CREATE TRIGGER bad BEFORE UPDATE ON incoming WHEN old.network_id = '{BAD}'
             BEGIN SELECT RAISE(ABORT, 'it cannot be changed'); END"
        );
        Connection::open(&path).expect("the file opens").execute_batch(&sql).expect("changed");
    };
    a_message_that_cannot_be_changed_keeps_no_other_from_its_turn(ground, break_it).await;
}

#[tokio::test]
async fn this_version_keeps_the_settings_of_a_newer_one() {
    let file = SqliteFile::new();
    let path = file.path();
    let ground = Ground::on(file).await;
    let other = || Connection::open(&path).expect("the file opens");
    let change = |sql: &str| _ = other().execute(sql, []).expect("changed");
    let count = |sql: &str| other().query_row(sql, [], |row| row.get(0)).expect("read");
    settings_of_a_newer_version_stay(ground, change, count).await;
}

/// The counts are read from the file when it is opened, and updated by each call: both must agree.
#[tokio::test]
async fn the_cache_agrees_with_the_file() {
    let file = SqliteFile::new();
    let store = Arc::new(SqliteStore::open(&file.path()).expect("the store opens"));
    let ground = Ground::on(Shared(store.clone())).await;
    let (channel, neighbour) = (ground.channel("loja").await, ground.channel("outra").await);
    let linked = ground.channel_in("nova", ChannelState::Created).await;
    let link = recado_domain::channel::Link { channel: linked, details: "{}".to_owned(), sealed: vec![1] };
    assert!(
        ground
            .store
            .link_channel(link, ChannelState::Created, recado_domain::channel::Actor::Operator, NOW)
            .await
            .expect("stored")
    );
    for _ in 0..3 {
        ground.accept(channel, "551").await;
        ground.accept(neighbour, "551").await;
    }
    let claimed = ground.claim_one(channel).await;
    ground.settle(channel, claimed.seq, recado_domain::queue::Settlement::HoldChannel { until: NOW + 5 }).await;
    ground.move_channel(channel, ChannelState::Connected, ChannelState::Paused).await;
    ground.delete_channel(neighbour, NOW).await;
    let differs = store.write(|writing| {
        let fresh = channels::queues(&writing.connection)?;
        Ok(format!("{:?}", sorted(&fresh)) != format!("{:?}", sorted(&writing.queues)))
    });
    assert!(!differs.await.expect("read"));
}

#[tokio::test]
async fn events_of_a_deleted_message_are_deleted() {
    let file = SqliteFile::new();
    let path = file.path();
    let ground = Ground::on(file).await;
    events_are_purged_with_their_messages(&ground).await;
    let connection = Connection::open(path).expect("it opens");
    let left = "SELECT count(*), count(DISTINCT message_seq) FROM events WHERE message_seq IS NOT NULL";
    let left = connection.query_row(left, [], |row| Ok((row.get(0)?, row.get(1)?)));
    assert_eq!(left, Ok((3, 1)));
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_left_alone() {
    let file = SqliteFile::new();
    drop(SqliteStore::open(&file.path()).expect("the store opens"));
    let connection = Connection::open(file.path()).expect("it opens");
    connection.pragma_update(None, "user_version", 99).expect("written");
    let error = SqliteStore::open(&file.path()).err().expect("refused").to_string();
    assert!(error.contains("a newer version of Recado"), "{error}");
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).expect("read");
    assert_eq!(version, 99);
}

/// Pages need neither a sort nor a scan of all channels.
#[tokio::test]
async fn a_page_is_read_in_the_order_of_its_indexes() {
    let file = SqliteFile::new();
    let store = Arc::new(SqliteStore::open(&file.path()).expect("the store opens"));
    for (recipient, index) in [(None, "messages_past"), (Some("551".to_owned()), "messages_past_by_recipient")] {
        let query = MessageQuery { recipient, ..MessageQuery::of(1, 20) };
        let sql = format!("explain query plan {}", Connection::page_sql(&query));
        let plan = store.readers.read(move |connection| {
            let mut statement = connection.prepare(&sql)?;
            let bound = (1..=statement.parameter_count()).map(|_| 1_i64);
            let steps = statement.query_map(rusqlite::params_from_iter(bound), |row| row.get::<_, String>(3))?;
            steps.collect::<rusqlite::Result<Vec<_>>>()
        });
        let plan = plan.await.expect("a plan").join("; ");
        assert!(plan.contains("MERGE (UNION ALL)") && !plan.contains("TEMP B-TREE"), "{plan}");
        assert!(plan.contains("USING INDEX messages_open (channel_key=? AND rowid"), "{plan}");
        assert!(plan.contains(&format!("USING INDEX {index} (channel_key=?")), "{plan}");
    }
}

/// The rows that the next claim reads.
async fn rows_of_next_claim(store: &SqliteStore, claim: ClaimRequest) -> usize {
    let scanned = store.write(move |writing| {
        let queue = writing.queues[&claim.channel].queue;
        Ok(new_chats::plan(writing, queue, &claim)?.0.scanned)
    });
    scanned.await.expect("read")
}

#[tokio::test]
async fn messages_before_the_cursor_are_not_scanned_by_each_claim() {
    let mut looked_at = Vec::new();
    for waiting in [20, 20_000] {
        let file = SqliteFile::new();
        let store = Arc::new(SqliteStore::open(&file.path()).expect("the store opens"));
        let ground = Ground::on(Shared(store.clone())).await;
        let channel = ground.channel_of(ChannelType::WhatsAppWeb, "loja").await;
        ground.store.restrict_channel(channel, NOW + 1_000_000, String::new(), NOW).await.expect("stored");
        ground.store.note_chat(channel, Party::of_number("77")).await.expect("stored");
        let accepts = (0..waiting).map(|n| {
            let message =
                NewMessage { expires_at: NOW + 100_000 + n, ..ground.new_message(channel, &format!("55{n}")) };
            store.enqueue(message)
        });
        for accept in accepts {
            accept.await.expect("stored");
        }
        while ground.claim(request(channel)).await.next_at == Some(NOW) {}
        let mut rows = Vec::new();
        // To a known recipient, with other events between two messages.
        for n in 0..10 {
            ground.accept(channel, "77").await;
            rows.push(rows_of_next_claim(&store, request(channel)).await);
            let claimed = ground.claim_one(channel).await;
            ground.settle(channel, claimed.seq, sent()).await;
            ground.accept(channel, &format!("56{n}")).await;
            // The messages expire one after another.
            let later = ClaimRequest { now: NOW + 100_000 + n, ..request(channel) };
            rows.push(rows_of_next_claim(&store, later.clone()).await);
            assert_eq!(ground.claim(later).await.messages, []);
        }
        looked_at.push(rows);
    }
    println!("rows looked at: {:?}", looked_at[0]);
    assert_eq!(looked_at[1], looked_at[0], "a thousand times as many wait");
    assert!(looked_at[0].iter().all(|rows| *rows <= 5), "{:?}", looked_at[0]);
}

fn sorted(queues: &HashMap<ChannelKey, CachedChannel>) -> Vec<(ChannelKey, CachedChannel)> {
    let mut sorted: Vec<_> = queues.iter().map(|(key, known)| (*key, *known)).collect();
    sorted.sort_unstable_by_key(|(key, _)| *key);
    sorted
}

#[tokio::test]
async fn the_oldest_of_too_many_channel_events_are_deleted() {
    let file = SqliteFile::new();
    let ground = Ground::on(Shared(Arc::new(SqliteStore::open(&file.path()).expect("the store opens")))).await;
    let (channel, other) = (ground.channel("loja").await, ground.channel("outra").await);
    let connection = rusqlite::Connection::open(file.path()).expect("a file");
    let rows = format!(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {MAX_CHANNEL_EVENTS})
         INSERT INTO events (channel_key, kind, at, data) SELECT {channel}, 'channel.paused', n, '{{}}' FROM n"
    );
    connection.execute_batch(&rows).expect("filled");
    ground.move_channel(channel, ChannelState::Connected, ChannelState::Paused).await;
    let count = |channel: i64| -> i64 {
        let sql = format!("SELECT count(*) FROM events WHERE channel_key = {channel}");
        connection.query_row(&sql, [], |row| row.get(0)).expect("counted")
    };
    assert_eq!((count(channel), count(other)), (MAX_CHANNEL_EVENTS, 1));
    let oldest = format!("SELECT min(at) FROM events WHERE channel_key = {channel}");
    // The event of the creation was deleted, and the oldest of the inserted events.
    assert_eq!(connection.query_row(&oldest, [], |row| row.get::<_, i64>(0)), Ok(2));
}

/// How SQLite executes a statement, by steps.
fn plan(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a statement");
    let values = vec![1; statement.parameter_count()];
    let rows = statement.query_map(rusqlite::params_from_iter(values), |row| row.get(3)).expect("planned");
    rows.collect::<rusqlite::Result<_>>().expect("planned")
}

#[tokio::test]
async fn a_claim_of_deliveries_reads_only_what_is_due() {
    let file = SqliteFile::new();
    file.open().await.close().await;
    let connection = Connection::open(file.path()).expect("a file");
    let states = include_str!("../common/webhooks/states.sql").replace("{webhooks}", "q.webhook_key = ?1");
    let statements = [<Connection as Executor>::FIRST_DELIVERIES_OF_EACH.to_owned(), states];
    for sql in statements {
        let plan = plan(&connection, &sql);
        let deliveries: Vec<_> =
            plan.iter().filter(|step| step.contains("SEARCH d") || step.contains("SCAN d")).collect();
        assert!(deliveries.len() > 1, "{plan:?}");
        let by_index = |step: &&String| {
            step.contains("deliveries_due") || step.contains("deliveries_leased") || step.contains("PRIMARY KEY")
        };
        assert!(deliveries.iter().all(by_index), "{plan:?}");
        assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{plan:?}");
    }
}

#[tokio::test]
async fn deliveries_of_a_process_that_is_gone_are_sent_again_at_once() {
    let mut ground = Ground::on(SqliteFile::new()).await;
    let webhook = create_at(&ground, settings(), 0).await;
    assert!(ground.store.record_event(event(&ground, "message.sent", 1, None)).await.expect("stored"));
    let query = EventQuery { owner: None, ..ground.event_query() };
    let page = ground.store.event_reader().read(query).await.expect("read").expect("a cursor of this store");
    assert_eq!(ground.store.fan_out(0, page, NOW).await.expect("stored").deliveries, 1);
    let claim = |lane| DeliveryClaim { lane, limit: 9, now: NOW, lease_until: NOW + 45_000 };
    assert_eq!(
        ground.store.claim_deliveries(claim(Lane::First), Vec::new()).await.expect("stored").deliveries.len(),
        1
    );
    ground.reopen().await;
    let again = ground.store.claim_deliveries(claim(Lane::Retry), Vec::new()).await.expect("stored").deliveries;
    assert_eq!(again.iter().map(|one| (one.of.webhook, one.of.attempt)).collect::<Vec<_>>(), [(webhook.key, 2)]);
}

/// Every table, whatever it is called, is searched for every name of an erased person.
#[tokio::test]
async fn nothing_of_an_erased_person_is_in_any_table() {
    let file = Arc::new(SqliteFile::new());
    let ground = Ground::on(file.clone()).await;
    erase_a_person(&ground).await;
    ground.store.close().await;
    let connection = Connection::open(file.path()).expect("a file");
    let names = |sql: &str| -> Vec<String> {
        let mut statement = connection.prepare(sql).expect("a statement");
        let rows = statement.query_map([], |row| row.get(0)).expect("rows");
        rows.collect::<rusqlite::Result<_>>().expect("names")
    };
    let tables = names("SELECT name FROM sqlite_schema WHERE type = 'table'");
    assert!(tables.len() > 20, "{tables:?}");
    for table in tables {
        for column in names(&format!("SELECT name FROM pragma_table_info('{table}')")) {
            for text in ERASED {
                let sql = format!("SELECT count(*) FROM {table} WHERE CAST({column} AS TEXT) LIKE '%{text}%'");
                let found: i64 = connection.query_row(&sql, [], |row| row.get(0)).expect("a count");
                assert_eq!(found, 0, "{text} in {table}.{column}");
            }
        }
    }
}

#[tokio::test]
async fn a_sent_message_is_found_by_the_id_of_its_network_without_reading_others() {
    let file = SqliteFile::new();
    file.open().await.close().await;
    let connection = Connection::open(file.path()).expect("a file");
    let plan = plan(&connection, &crate::common::inbox::by_remote_id());
    assert!(plan.len() == 1 && plan[0].contains("messages_by_remote_id"), "{plan:?}");
}
