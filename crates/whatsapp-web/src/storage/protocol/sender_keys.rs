//! The devices that have the key of a group.

use whatsapp_rust::wacore::store::error::Result;

use super::pair;
use crate::storage::{Storage, delete, key, put};
use crate::{Change, Kind};

pub async fn of_group(storage: &Storage, group: &str) -> Result<Vec<(String, bool)>> {
    let stored = storage.list(Kind::SenderKeyDevice, key::prefix(group.as_bytes())).await?;
    Ok(stored.iter().filter_map(|(key, value)| Some((key::second(key)?.to_owned(), *value == [1]))).collect())
}

pub async fn set(storage: &Storage, group: &str, entries: &[(&str, bool)]) -> Result<()> {
    let puts =
        entries.iter().map(|(device, has_key)| put(Kind::SenderKeyDevice, pair(group, device), [u8::from(*has_key)]));
    storage.write(puts.collect()).await.map(drop)
}

pub async fn clear(storage: &Storage, prefix: Vec<u8>) -> Result<()> {
    storage.change(Change::DeletePrefix { kind: Kind::SenderKeyDevice, prefix }).await
}

/// Forgets the devices in every group.
pub async fn forget_devices(storage: &Storage, devices: &[&str]) -> Result<()> {
    let _guard = storage.lock().await;
    let stored = storage.list(Kind::SenderKeyDevice, Vec::new()).await?;
    let theirs = stored.into_iter().filter(|(key, _)| key::second(key).is_some_and(|device| devices.contains(&device)));
    storage.write(theirs.map(|(key, _)| delete(Kind::SenderKeyDevice, key)).collect()).await.map(drop)
}
