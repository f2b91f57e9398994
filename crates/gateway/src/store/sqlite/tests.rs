//! What only this engine has: counts kept beside the file.

use recado_domain::channel::ChannelState;

use super::*;
use crate::store::fixtures::{Engine, Ground, NOW, SqliteFile, request};

/// A store that is held by the test as well.
struct Shared(Arc<SqliteStore>);

impl Engine for Shared {
    fn open(&self) -> Arc<dyn Store> {
        self.0.clone()
    }
}

#[tokio::test]
async fn an_undone_call_leaves_no_trace_in_what_is_kept_beside_the_file() {
    let file = SqliteFile::new();
    let store = Arc::new(SqliteStore::open(&file.path()).expect("the store opens"));
    let ground = Ground::on(Shared(store.clone())).await;
    let channel = ground.channel("loja").await;
    for _ in 0..3 {
        ground.accept(channel, "551").await;
    }
    let undone = store.write(move |writing| {
        queue::cancel_queued(writing, channel, 2, NOW)?;
        channels::move_to(writing, channel, (ChannelState::Connected, ChannelState::Paused), None, NOW)?;
        assert_eq!(writing.lines[&channel].open, 1);
        Err::<(), _>(rusqlite::Error::QueryReturnedNoRows)
    });
    assert!(matches!(undone.await, Err(StoreError::Refused(_))));
    let claim = ground.claim(request(channel)).await;
    assert_eq!((claim.messages.len(), claim.open), (1, 3));
}

/// The lines are counted anew from the file when it is opened, and changed by each call in between: both must agree.
#[tokio::test]
async fn what_is_kept_beside_the_file_is_what_the_file_says() {
    let file = SqliteFile::new();
    let store = Arc::new(SqliteStore::open(&file.path()).expect("the store opens"));
    let ground = Ground::on(Shared(store.clone())).await;
    let (channel, neighbour) = (ground.channel("loja").await, ground.channel("outra").await);
    let linked = ground.channel_in("nova", ChannelState::Created).await;
    let link = crate::store::rows::Link { channel: linked, details: "{}".to_owned(), sealed: vec![1] };
    assert!(ground.store.link_channel(link, ChannelState::Created, NOW).await.expect("stored"));
    for _ in 0..3 {
        ground.accept(channel, "551").await;
        ground.accept(neighbour, "551").await;
    }
    let claimed = ground.claim_one(channel).await;
    ground.settle(channel, claimed.seq, crate::store::rows::Settlement::HoldChannel { until: NOW + 5 }).await;
    ground.move_channel(channel, ChannelState::Connected, ChannelState::Paused).await;
    ground.store.delete_channel(neighbour, NOW).await.expect("stored");
    let differs = store.write(|writing| {
        let fresh = channels::lines(&writing.connection)?;
        Ok(format!("{:?}", sorted(&fresh)) != format!("{:?}", sorted(&writing.lines)))
    });
    assert!(!differs.await.expect("read"));
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

/// Neither by sorting a history nor by walking all channels.
#[tokio::test]
async fn a_page_is_read_in_the_order_of_its_indexes() {
    let file = SqliteFile::new();
    let store = Arc::new(SqliteStore::open(&file.path()).expect("the store opens"));
    for (recipient, index) in [(None, "messages_past"), (Some("551".to_owned()), "messages_past_by_recipient")] {
        let query = MessageQuery { channel: 1, status: None, recipient, before: None, limit: 20 };
        let sql = format!("explain query plan {}", messages::page_sql(&query));
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

fn sorted(lines: &HashMap<ChannelKey, Line>) -> Vec<(ChannelKey, Line)> {
    let mut sorted: Vec<_> = lines.iter().map(|(key, line)| (*key, *line)).collect();
    sorted.sort_unstable_by_key(|(key, _)| *key);
    sorted
}
