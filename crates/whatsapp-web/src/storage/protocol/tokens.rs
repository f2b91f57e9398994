//! Tokens by which an account shows that it trusts us. A row has two halves with different writers: the token that we
//! received, and the time when we last sent ours. A writer must keep the other half.

use whatsapp_rust::wacore::store::error::{Result, StoreError};
use whatsapp_rust::wacore::store::traits::TcTokenEntry;

use crate::Kind;
use crate::storage::{self, Storage, delete, from_json, to_json};

pub async fn get(storage: &Storage, account: &str) -> Result<Option<TcTokenEntry>> {
    storage.get(Kind::TrustToken, account.into()).await?.map(|bytes| from_json(&bytes)).transpose()
}

/// The caller holds the lock.
pub async fn put(storage: &Storage, account: &str, entry: &TcTokenEntry) -> Result<()> {
    storage.change(storage::put(Kind::TrustToken, account, to_json(entry)?)).await
}

pub async fn accounts(storage: &Storage) -> Result<Vec<String>> {
    let text = |(account, _)| String::from_utf8(account).map_err(|error| StoreError::Serialization(Box::new(error)));
    storage.list(Kind::TrustToken, Vec::new()).await?.into_iter().map(text).collect()
}

/// Deletes the rows of which both halves are old or missing.
pub async fn delete_expired(storage: &Storage, token_cutoff: i64, sender_cutoff: i64) -> Result<u32> {
    let _guard = storage.lock().await;
    let mut changes = Vec::new();
    for (account, bytes) in storage.list(Kind::TrustToken, Vec::new()).await? {
        let entry: TcTokenEntry = from_json(&bytes)?;
        let token_lives = !entry.token.is_empty() && entry.token_timestamp >= token_cutoff;
        let sender_lives = entry.sender_timestamp.is_some_and(|given| given >= sender_cutoff);
        if !token_lives && !sender_lives {
            changes.push(delete(Kind::TrustToken, account));
        }
    }
    storage.write(changes).await.map(storage::count(Kind::TrustToken))
}

/// Records when we sent our token. The time never moves back.
pub async fn touch_sender(storage: &Storage, account: &str, given: i64) -> Result<()> {
    let _guard = storage.lock().await;
    let mut entry = get(storage, account).await?.unwrap_or(TcTokenEntry {
        token: Vec::new(),
        token_timestamp: given,
        sender_timestamp: None,
    });
    entry.sender_timestamp = Some(entry.sender_timestamp.map_or(given, |old| old.max(given)));
    put(storage, account, &entry).await
}

/// Stores the token unless a newer one is stored.
pub async fn receive(storage: &Storage, account: &str, token: &[u8], received: i64) -> Result<()> {
    let _guard = storage.lock().await;
    let old = get(storage, account).await?;
    if old.as_ref().is_some_and(|old| !old.token.is_empty() && received < old.token_timestamp) {
        return Ok(());
    }
    let sender_timestamp = old.and_then(|old| old.sender_timestamp);
    let entry = TcTokenEntry { token: token.to_vec(), token_timestamp: received, sender_timestamp };
    put(storage, account, &entry).await
}
