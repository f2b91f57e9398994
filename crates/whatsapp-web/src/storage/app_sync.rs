//! The account's own settings, which the phone shares with its linked devices.

use std::collections::HashMap;

use async_trait::async_trait;
use whatsapp_rust::wacore::appstate::hash::HashState;
use whatsapp_rust::wacore::appstate::processor::AppStateMutationMAC;
use whatsapp_rust::wacore::store::error::Result;
use whatsapp_rust::wacore::store::traits::{AppStateSyncKey, AppSyncStore};

use super::{Storage, delete, from_json, key, put, to_json};
use crate::{Change, Kind};

#[async_trait]
impl AppSyncStore for Storage {
    async fn get_sync_key(&self, key_id: &[u8]) -> Result<Option<AppStateSyncKey>> {
        self.get(Kind::SyncKey, key_id.into()).await?.map(|bytes| from_json(&bytes)).transpose()
    }

    async fn set_sync_key(&self, key_id: &[u8], key: AppStateSyncKey) -> Result<()> {
        let puts = vec![put(Kind::SyncKey, key_id, to_json(&key)?), put(Kind::LatestSyncKey, [], key_id)];
        self.write(puts).await.map(drop)
    }

    async fn get_version(&self, name: &str) -> Result<HashState> {
        let stored = self.get(Kind::SyncVersion, name.into()).await?;
        stored.map_or_else(|| Ok(HashState::default()), |bytes| from_json(&bytes))
    }

    async fn set_version(&self, name: &str, state: HashState) -> Result<()> {
        self.change(put(Kind::SyncVersion, name, to_json(&state)?)).await
    }

    async fn put_mutation_macs(&self, name: &str, _version: u64, mutations: &[AppStateMutationMAC]) -> Result<()> {
        let put_mac =
            |mac: &AppStateMutationMAC| put(Kind::SyncMac, mac_key(name, &mac.index_mac), mac.value_mac.as_slice());
        self.write(mutations.iter().map(put_mac).collect()).await.map(drop)
    }

    async fn get_mutation_mac(&self, name: &str, index_mac: &[u8]) -> Result<Option<Vec<u8>>> {
        self.get(Kind::SyncMac, mac_key(name, index_mac)).await
    }

    async fn get_mutation_macs(&self, name: &str, index_macs: &[[u8; 32]]) -> Result<HashMap<[u8; 32], Vec<u8>>> {
        let keys = index_macs.iter().map(|index_mac| mac_key(name, index_mac)).collect();
        let stored = self.get_all(Kind::SyncMac, keys).await?;
        Ok(index_macs.iter().zip(stored).filter_map(|(index_mac, mac)| Some((*index_mac, mac?))).collect())
    }

    async fn delete_mutation_macs(&self, name: &str, index_macs: &[Vec<u8>]) -> Result<()> {
        let deletes = index_macs.iter().map(|index_mac| delete(Kind::SyncMac, mac_key(name, index_mac)));
        self.write(deletes.collect()).await.map(drop)
    }

    async fn clear_mutation_macs(&self, name: &str) -> Result<()> {
        self.change(Change::DeletePrefix { kind: Kind::SyncMac, prefix: key::prefix(name.as_bytes()) }).await
    }

    async fn get_latest_sync_key_id(&self) -> Result<Option<Vec<u8>>> {
        self.get(Kind::LatestSyncKey, Vec::new()).await
    }
}

fn mac_key(name: &str, index_mac: &[u8]) -> Vec<u8> {
    key::of(&[name.as_bytes(), index_mac])
}
