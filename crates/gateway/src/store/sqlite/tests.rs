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
    ground.channel_in("nova", ChannelState::Created).await;
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

fn sorted(lines: &HashMap<ChannelKey, Line>) -> Vec<(ChannelKey, Line)> {
    let mut sorted: Vec<_> = lines.iter().map(|(key, line)| (*key, *line)).collect();
    sorted.sort_unstable_by_key(|(key, _)| *key);
    sorted
}
