//! Sent messages, for a recipient that could not read one and requests it again.

use whatsapp_rust::wacore::store::error::Result;
use whatsapp_rust::wacore::time::now_secs;

use crate::storage::{Storage, count, delete};
use crate::{Change, Kind};

pub async fn put(storage: &Storage, key: Vec<u8>, payload: &[u8]) -> Result<()> {
    let _guard = storage.lock().await;
    // The library's own clock, because its sweep compares with it.
    let stamp = now_secs();
    storage.change(Change::Put { kind: Kind::SentMessage, key, value: payload.to_vec(), stamp }).await
}

/// Removes and returns the message: of two retries that request it, one finds it.
pub async fn take(storage: &Storage, key: Vec<u8>) -> Result<Option<Vec<u8>>> {
    let _guard = storage.lock().await;
    let stored = storage.get(Kind::SentMessage, key.clone()).await?;
    if stored.is_some() {
        storage.change(delete(Kind::SentMessage, key)).await?;
    }
    Ok(stored)
}

pub async fn delete_before(storage: &Storage, kind: Kind, stamp: i64) -> Result<u32> {
    storage.write(vec![Change::DeleteBefore { kind, stamp }]).await.map(count(kind))
}
