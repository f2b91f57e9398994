//! Identities, ratchets and keys of the Signal protocol.

use std::sync::Arc;

use async_trait::async_trait;
use whatsapp_rust::bytes::Bytes;
use whatsapp_rust::wacore::store::error::{Result, StoreError};
use whatsapp_rust::wacore::store::traits::SignalStore;

use super::{Storage, delete, put};
use crate::{Change, Kind};

#[async_trait]
impl SignalStore for Storage {
    async fn put_identity(&self, address: &str, key: [u8; 32]) -> Result<()> {
        self.change(put(Kind::Identity, address, key)).await
    }

    async fn put_identities_batch(&self, identities: &[(Arc<str>, [u8; 32])]) -> Result<()> {
        let puts = identities.iter().map(|(address, key)| put(Kind::Identity, address.as_bytes(), *key));
        self.write(puts.collect()).await.map(drop)
    }

    async fn load_identity(&self, address: &str) -> Result<Option<[u8; 32]>> {
        let stored = self.get(Kind::Identity, address.into()).await?;
        let bad = |_| StoreError::Validation("an identity key is not 32 bytes long".into());
        stored.map(|bytes| bytes.try_into().map_err(bad)).transpose()
    }

    async fn delete_identity(&self, address: &str) -> Result<()> {
        self.change(delete(Kind::Identity, address)).await
    }

    async fn get_session(&self, address: &str) -> Result<Option<Bytes>> {
        Ok(self.get(Kind::Session, address.into()).await?.map(Bytes::from))
    }

    async fn put_session(&self, address: &str, session: &[u8]) -> Result<()> {
        self.change(put(Kind::Session, address, session)).await
    }

    async fn put_sessions_batch(&self, sessions: &[(Arc<str>, Bytes)]) -> Result<()> {
        self.write(puts(Kind::Session, sessions)).await.map(drop)
    }

    async fn delete_session(&self, address: &str) -> Result<()> {
        self.change(delete(Kind::Session, address)).await
    }

    async fn has_signal_state_for_user(&self, user: &str) -> Result<bool> {
        // `5511…@server` is the account's phone, `5511…:12@server` a linked device, and `55112…` another account.
        let is_theirs = |(address, _): &(Vec<u8>, Vec<u8>)| matches!(address.get(user.len()), Some(b'@' | b':'));
        for kind in [Kind::Session, Kind::Identity] {
            if self.list(kind, user.into()).await?.iter().any(is_theirs) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    // Whether a key was uploaded is not stored: the library tracks that by a number in the device's row, and never reads it
    // here.
    async fn store_prekey(&self, id: u32, record: &[u8], _uploaded: bool) -> Result<()> {
        self.change(put(Kind::PreKey, id.to_be_bytes(), record)).await
    }

    async fn store_prekeys_batch(&self, keys: &[(u32, Bytes)], _uploaded: bool) -> Result<()> {
        let puts = keys.iter().map(|(id, record)| put(Kind::PreKey, id.to_be_bytes(), record.as_ref()));
        self.write(puts.collect()).await.map(drop)
    }

    async fn load_prekey(&self, id: u32) -> Result<Option<Bytes>> {
        Ok(self.get(Kind::PreKey, id.to_be_bytes().into()).await?.map(Bytes::from))
    }

    async fn load_prekeys_batch(&self, ids: &[u32]) -> Result<Vec<(u32, Bytes)>> {
        let stored = self.get_all(Kind::PreKey, ids.iter().map(|id| id.to_be_bytes().into()).collect()).await?;
        Ok(ids.iter().zip(stored).filter_map(|(id, record)| Some((*id, record?.into()))).collect())
    }

    async fn mark_prekeys_uploaded(&self, _ids: &[u32]) -> Result<()> {
        Ok(())
    }

    async fn remove_prekey(&self, id: u32) -> Result<()> {
        self.change(delete(Kind::PreKey, id.to_be_bytes())).await
    }

    async fn get_max_prekey_id(&self) -> Result<u32> {
        let stored = self.list(Kind::PreKey, Vec::new()).await?;
        stored.last().map_or(Ok(0), |(key, _)| number(key))
    }

    async fn store_signed_prekey(&self, id: u32, record: &[u8]) -> Result<()> {
        self.change(put(Kind::SignedPreKey, id.to_be_bytes(), record)).await
    }

    async fn load_signed_prekey(&self, id: u32) -> Result<Option<Vec<u8>>> {
        self.get(Kind::SignedPreKey, id.to_be_bytes().into()).await
    }

    async fn load_all_signed_prekeys(&self) -> Result<Vec<(u32, Vec<u8>)>> {
        let stored = self.list(Kind::SignedPreKey, Vec::new()).await?;
        stored.into_iter().map(|(key, record)| Ok((number(&key)?, record))).collect()
    }

    async fn remove_signed_prekey(&self, id: u32) -> Result<()> {
        self.change(delete(Kind::SignedPreKey, id.to_be_bytes())).await
    }

    async fn put_sender_key(&self, address: &str, record: &[u8]) -> Result<()> {
        self.change(put(Kind::SenderKey, address, record)).await
    }

    async fn put_sender_keys_batch(&self, sender_keys: &[(Arc<str>, Bytes)]) -> Result<()> {
        self.write(puts(Kind::SenderKey, sender_keys)).await.map(drop)
    }

    async fn get_sender_key(&self, address: &str) -> Result<Option<Vec<u8>>> {
        self.get(Kind::SenderKey, address.into()).await
    }

    async fn delete_sender_key(&self, address: &str) -> Result<()> {
        self.change(delete(Kind::SenderKey, address)).await
    }
}

fn puts(kind: Kind, rows: &[(Arc<str>, Bytes)]) -> Vec<Change> {
    rows.iter().map(|(address, value)| put(kind, address.as_bytes(), value.as_ref())).collect()
}

fn number(key: &[u8]) -> Result<u32> {
    let bad = |_| StoreError::Validation("the number of a key is not four bytes long".into());
    key.try_into().map(u32::from_be_bytes).map_err(bad)
}
