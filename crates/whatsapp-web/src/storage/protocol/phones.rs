//! The mapping of hidden ids (LIDs) to phone numbers.

use std::collections::HashMap;

use whatsapp_rust::wacore::store::error::{Result, StoreError};
use whatsapp_rust::wacore::store::traits::{LidPnMappingEntry, ProtocolStore};

use crate::Kind;
use crate::storage::{Storage, delete, from_json, put, to_json};

pub async fn of_phone(storage: &Storage, phone: &str) -> Result<Option<LidPnMappingEntry>> {
    let Some(lid) = storage.get(Kind::PhoneMapping, phone.into()).await? else { return Ok(None) };
    let lid = String::from_utf8(lid).map_err(|error| StoreError::Serialization(Box::new(error)))?;
    storage.get_lid_mapping(&lid).await
}

/// If an id has moved to another number, the old number keeps no id.
pub async fn put_all(storage: &Storage, entries: &[LidPnMappingEntry]) -> Result<()> {
    let _guard = storage.lock().await;
    let lids = entries.iter().map(|entry| entry.lid.as_str().into()).collect();
    let mut phones: HashMap<&str, String> = HashMap::new();
    for (entry, stored) in entries.iter().zip(storage.get_all(Kind::LidMapping, lids).await?) {
        if let Some(bytes) = stored {
            phones.insert(&entry.lid, from_json::<LidPnMappingEntry>(&bytes)?.phone_number);
        }
    }
    let mut changes = Vec::new();
    for entry in entries {
        let old = phones.insert(&entry.lid, entry.phone_number.clone());
        if let Some(old) = old.filter(|old| *old != entry.phone_number) {
            changes.push(delete(Kind::PhoneMapping, old));
        }
        changes.push(put(Kind::PhoneMapping, entry.phone_number.as_str(), entry.lid.as_str()));
        changes.push(put(Kind::LidMapping, entry.lid.as_str(), to_json(entry)?));
    }
    storage.write(changes).await.map(drop)
}
