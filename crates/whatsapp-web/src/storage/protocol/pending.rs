//! Messages received and not yet acknowledged to the network.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::sleep;
use whatsapp_rust::wacore::store::error::{Result, StoreError};
use whatsapp_rust::wacore::store::traits::{PendingInboundKey, PendingInboundRow};
use whatsapp_rust::wacore::time::now_secs;

use crate::storage::{Storage, count, delete, key, store_error};
use crate::{Change, Kind};

/// How often storing a received message is tried again, and the first wait, which doubles: six seconds in all.
const TRIES: u32 = 6;
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// How long it is known that a message is stored. Acknowledgements that were lost are asked for at the next login.
const COMMITTED_KEPT: i64 = 24 * 60 * 60;
/// How long the repetition of an unknown message is refused: longer than the library holds messages in memory.
const REFUSED_FOR: i64 = 60;

pub fn key_of(chat: &str, sender: &str, id: &str) -> Vec<u8> {
    key::of(&[chat.as_bytes(), sender.as_bytes(), id.as_bytes()])
}

pub async fn put_all(storage: &Storage, rows: &[PendingInboundRow<'_>]) -> Result<()> {
    let stamp = now_secs();
    let put = |row: &PendingInboundRow<'_>| Change::Put {
        kind: Kind::PendingInbound,
        key: key_of(row.chat, row.sender, row.id),
        value: row.message.to_vec(),
        stamp,
    };
    let changes: Vec<_> = rows.iter().map(put).collect();
    if storage.write(changes.clone()).await.is_ok() {
        return Ok(());
    }
    storage.held_up.fetch_add(1, Ordering::AcqRel);
    let stored = try_again(storage, changes).await;
    if stored.is_err() {
        storage.broken.store(true, Ordering::Release);
    }
    storage.held_up.fetch_sub(1, Ordering::AcqRel);
    stored
}

/// Stores received messages while nothing else is written.
async fn try_again(storage: &Storage, changes: Vec<Change>) -> Result<()> {
    let mut wait = FIRST_WAIT;
    for _ in 1..TRIES {
        sleep(wait).await;
        if !storage.broken.load(Ordering::Acquire) && storage.rows.write(changes.clone()).await.is_ok() {
            return Ok(());
        }
        wait *= 2;
    }
    sleep(wait).await;
    storage.rows.write(changes).await.map(drop).map_err(store_error)
}

/// The message, if it waits for the gateway; `None` if the gateway has stored it, so that a repetition is acknowledged.
///
/// The library asks when the network repeats a message that it has decrypted. While the network delivers what waited for the
/// session, the library decrypts messages a moment before it stores them as pending. A repetition in that moment must not be
/// acknowledged, because a crash would lose the message. So a repetition of a message of which nothing is known is refused,
/// and comes again at the next login. If still nothing is known of it then, the gateway stored it long ago.
pub async fn get(storage: &Storage, key: Vec<u8>) -> Result<Option<Vec<u8>>> {
    if let Some(pending) = storage.get(Kind::PendingInbound, key.clone()).await? {
        return Ok(Some(pending));
    }
    // The rows of others outlast the message, so they must not name people.
    let key = compute_hash(&key);
    let keys = || vec![key.clone()];
    if storage.get_all(Kind::Committed, keys()).await?.pop().flatten().is_some() {
        return Ok(None);
    }
    let now = now_secs();
    let refused = storage.get_all(Kind::Refused, keys()).await?.pop().flatten();
    let refused_at = refused.and_then(|at| at.try_into().ok()).map(i64::from_be_bytes);
    if refused_at.is_some_and(|at| now - at >= REFUSED_FOR || now < at) {
        return Ok(None);
    }
    if refused_at.is_none() {
        let (kind, value) = (Kind::Refused, now.to_be_bytes().to_vec());
        storage.change(Change::Put { kind, key, value, stamp: now }).await?;
    }
    Err(StoreError::Validation("nothing is known of a repeated message".into()))
}

fn compute_hash(key: &[u8]) -> Vec<u8> {
    Sha256::digest(key).to_vec()
}

/// The gateway has stored these messages.
pub async fn delete_all(storage: &Storage, keys: &[PendingInboundKey<'_>]) -> Result<()> {
    let stamp = now_secs();
    let committed = keys.iter().flat_map(|key| {
        let key = key_of(key.chat, key.sender, key.id);
        let committed = Change::Put { kind: Kind::Committed, key: compute_hash(&key), value: Vec::new(), stamp };
        [delete(Kind::PendingInbound, key), committed]
    });
    storage.write(committed.collect()).await.map(drop)
}

/// Deletes messages that were received before this time, and what is known of others for long.
pub async fn delete_before(storage: &Storage, cutoff: i64) -> Result<u32> {
    let stamp = (now_secs() - COMMITTED_KEPT).max(cutoff);
    let kinds = [(Kind::PendingInbound, cutoff), (Kind::Committed, stamp), (Kind::Refused, cutoff)];
    let changes = kinds.map(|(kind, stamp)| Change::DeleteBefore { kind, stamp });
    storage.write(changes.into()).await.map(count(Kind::PendingInbound))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use whatsapp_rust::wacore::store::traits::ProtocolStore;

    use super::*;
    use crate::Rows;
    use crate::memory_rows::MemoryRows;

    #[tokio::test]
    async fn the_repetition_of_an_unknown_message_is_refused_for_a_while() {
        let rows = Arc::new(MemoryRows::default());
        let storage = Storage::new(rows.clone());
        let repetition = async || storage.get_pending_inbound("chat", "sender", "id").await;
        assert!(repetition().await.is_err(), "it may be in the library's memory alone");
        assert!(repetition().await.is_err());
        let long_ago = (now_secs() - REFUSED_FOR).to_be_bytes().to_vec();
        let key = compute_hash(&key_of("chat", "sender", "id"));
        rows.write(vec![Change::Put { kind: Kind::Refused, key, value: long_ago, stamp: 1 }]).await.expect("written");
        assert_eq!(repetition().await.expect("known now"), None);
    }

    #[tokio::test]
    async fn the_repetition_of_a_stored_message_is_acknowledged_also_after_a_restart() {
        let rows = Arc::new(MemoryRows::default());
        let storage = Storage::new(rows.clone());
        storage.store_pending_inbound("chat", "sender", "id", b"body").await.expect("stored");
        let pending = storage.get_pending_inbound("chat", "sender", "id").await.expect("read");
        assert_eq!(pending.as_deref(), Some(&b"body"[..]), "the gateway has not stored it");
        storage.delete_pending_inbound("chat", "sender", "id").await.expect("stored");
        let storage = Storage::new(rows);
        assert_eq!(storage.get_pending_inbound("chat", "sender", "id").await.expect("known"), None);
        assert!(storage.get_pending_inbound("chat", "sender", "other").await.is_err());
    }
}
