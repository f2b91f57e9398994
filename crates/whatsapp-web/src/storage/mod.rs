//! The library's storage over [`Rows`], with a file for each of its five traits.
//!
//! Each call of the library that writes is one [`Rows::write`]: it is durable when it returns, and never partly applied.

mod app_sync;
#[cfg(test)]
mod conformance;
mod device;
mod key;
mod protocol;
mod secrets;
mod signal;
mod unreadable;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use recado_domain::channel::DeletedRows;
use tokio::sync::{Mutex, MutexGuard};
use whatsapp_rust::serde::{Serialize, de::DeserializeOwned};
use whatsapp_rust::wacore::store::error::{Result, StoreError};

use crate::{Change, Kind, Rows, RowsError};

pub(crate) use device::is_linked;
pub(crate) use key::of as key_of;

pub struct Storage {
    rows: Arc<dyn Rows>,
    /// Held from the read to the write of a change that depends on stored data.
    write_lock: Mutex<()>,
    /// A received message could not be stored. Nothing is written from then on: a written ratchet would have passed the
    /// message, and nothing could decrypt it when the network delivers it again. The session must be opened again.
    broken: Arc<AtomicBool>,
    /// How many received messages are tried to be stored again. No ratchet may be written before them.
    held_up: AtomicUsize,
}

impl Storage {
    pub fn new(rows: Arc<dyn Rows>) -> Self {
        Self::watched(rows, Arc::default())
    }

    /// The same with a flag that says when the session must be opened again.
    pub fn watched(rows: Arc<dyn Rows>, broken: Arc<AtomicBool>) -> Self {
        Self { rows, write_lock: Mutex::new(()), broken, held_up: AtomicUsize::new(0) }
    }

    async fn lock(&self) -> MutexGuard<'_, ()> {
        self.write_lock.lock().await
    }

    async fn get(&self, kind: Kind, key: Vec<u8>) -> Result<Option<Vec<u8>>> {
        Ok(self.get_all(kind, vec![key]).await?.pop().flatten())
    }

    /// One value for each key, in the order of the keys.
    async fn get_all(&self, kind: Kind, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Vec<u8>>>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.rows.get(kind, keys).await.map_err(store_error)
    }

    async fn list(&self, kind: Kind, prefix: Vec<u8>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.rows.list(kind, prefix).await.map_err(store_error)
    }

    async fn write(&self, changes: Vec<Change>) -> Result<DeletedRows> {
        if changes.is_empty() {
            return Ok(DeletedRows::default());
        }
        if self.broken.load(Ordering::Acquire) || self.held_up.load(Ordering::Acquire) > 0 {
            return Err(store_error(RowsError("a received message could not be stored".to_owned())));
        }
        self.rows.write(changes).await.map_err(store_error)
    }

    async fn change(&self, change: Change) -> Result<()> {
        self.write(vec![change]).await.map(drop)
    }
}

/// A row that never expires.
fn put(kind: Kind, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Change {
    Change::Put { kind, key: key.into(), value: value.into(), stamp: 0 }
}

fn delete(kind: Kind, key: impl Into<Vec<u8>>) -> Change {
    Change::Delete { kind, key: key.into() }
}

fn store_error(error: RowsError) -> StoreError {
    StoreError::Database(Box::new(error))
}

fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| StoreError::Serialization(Box::new(error)))
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::Serialization(Box::new(error)))
}

/// The number of deleted rows of a kind, in the library's type.
fn count(kind: Kind) -> impl Fn(DeletedRows) -> u32 {
    move |deleted| u32::try_from(deleted.of(kind.number())).unwrap_or(u32::MAX)
}
