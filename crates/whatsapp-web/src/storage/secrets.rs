//! Secrets of messages, with which the library decrypts edits and reactions.

use std::collections::HashMap;

use async_trait::async_trait;
use whatsapp_rust::wacore::store::error::{Result, StoreError};
use whatsapp_rust::wacore::store::traits::{
    MessageSecret, MsgSecretEntry, MsgSecretStore, merge_msg_secret_expiry, merge_msg_secret_message_ts,
};

use super::{Storage, count, key};
use crate::{Change, Kind};

#[async_trait]
impl MsgSecretStore for Storage {
    async fn put_msg_secrets(&self, entries: Vec<MsgSecretEntry>) -> Result<usize> {
        let _guard = self.lock().await;
        let keys: Vec<_> = entries.iter().map(|entry| key_of(&entry.chat, &entry.sender, &entry.msg_id)).collect();
        let stored = self.get_all(Kind::MessageSecret, keys.clone()).await?;
        // The same message may occur twice in one batch: the second entry merges with the first.
        let mut known: HashMap<Vec<u8>, Row> = HashMap::new();
        for (key, bytes) in keys.iter().zip(stored) {
            if let Some(bytes) = bytes {
                known.insert(key.clone(), Row::read(&bytes)?);
            }
        }
        let mut changes = Vec::with_capacity(entries.len());
        for (key, entry) in keys.into_iter().zip(&entries) {
            let row = Row::merged(known.get(&key), entry);
            changes.push(row.put(key.clone()));
            known.insert(key, row);
        }
        self.write(changes).await?;
        Ok(entries.len())
    }

    async fn get_msg_secret(&self, chat: &str, sender: &str, msg_id: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.get_msg_secret_with_ts(chat, sender, msg_id).await?.map(|(secret, _)| secret))
    }

    async fn get_msg_secret_with_ts(&self, chat: &str, sender: &str, msg_id: &str) -> Result<Option<(Vec<u8>, i64)>> {
        let stored = self.get(Kind::MessageSecret, key_of(chat, sender, msg_id)).await?;
        stored.map(|bytes| Row::read(&bytes).map(|row| (row.secret.to_vec(), row.message_ts))).transpose()
    }

    async fn delete_expired_msg_secrets(&self, cutoff_timestamp: i64) -> Result<u32> {
        // The library also deletes the secrets that expire in this second.
        let stamp = cutoff_timestamp.saturating_add(1);
        self.write(vec![Change::DeleteBefore { kind: Kind::MessageSecret, stamp }])
            .await
            .map(count(Kind::MessageSecret))
    }
}

fn key_of(chat: &str, sender: &str, id: &str) -> Vec<u8> {
    key::of(&[chat.as_bytes(), sender.as_bytes(), id.as_bytes()])
}

/// The secret, the time when it expires (0: never), and when the message was sent (0: unknown), each of 8 bytes, big-endian.
#[derive(Clone, Copy)]
struct Row {
    secret: MessageSecret,
    expires_at: i64,
    message_ts: i64,
}

impl Row {
    fn merged(old: Option<&Self>, new: &MsgSecretEntry) -> Self {
        Self {
            secret: new.secret,
            expires_at: old.map_or(new.expires_at, |old| merge_msg_secret_expiry(old.expires_at, new.expires_at)),
            message_ts: old.map_or(new.message_ts, |old| merge_msg_secret_message_ts(old.message_ts, new.message_ts)),
        }
    }

    fn put(&self, key: Vec<u8>) -> Change {
        let value = [&self.secret[..], &self.expires_at.to_be_bytes(), &self.message_ts.to_be_bytes()].concat();
        // Neither a stamp of 0 nor an expiry of 0 ever expires. An expiry before 1970 has passed.
        let stamp = if self.expires_at == 0 { 0 } else { self.expires_at.max(1) };
        Change::Put { kind: Kind::MessageSecret, key, value, stamp }
    }

    fn read(bytes: &[u8]) -> Result<Self> {
        let bad = || StoreError::Validation("the secret of a message is not 48 bytes long".into());
        let (secret, rest) = bytes.split_first_chunk().ok_or_else(bad)?;
        let (expires_at, rest) = rest.split_first_chunk().ok_or_else(bad)?;
        let message_ts = rest.try_into().map_err(|_| bad())?;
        Ok(Self {
            secret: *secret,
            expires_at: i64::from_be_bytes(*expires_at),
            message_ts: i64::from_be_bytes(message_ts),
        })
    }
}
