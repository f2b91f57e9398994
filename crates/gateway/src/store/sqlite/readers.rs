//! Connections that only read, beside the one that writes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::{Semaphore, watch};

use super::copy::look_at;
use crate::store::rows::{Health, StoreError};

/// Readers at a time; the next one waits.
const READERS: usize = 4;

/// A small pool of reading connections. One that lies idle holds nothing open in the file.
pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    turns: Semaphore,
    health: watch::Receiver<Health>,
}

impl Readers {
    pub(crate) fn new(path: PathBuf, health: watch::Receiver<Health>) -> Arc<Self> {
        Arc::new(Self { path, idle: Mutex::default(), turns: Semaphore::new(READERS), health })
    }

    /// Runs `work` on a connection, on a thread that may block. Refused while the writer is down: what is read then may
    /// not be on disk.
    pub(crate) async fn read<T, F>(self: &Arc<Self>, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let _turn = self.turns.acquire().await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        if let Health::Down(reason) = &*self.health.borrow() {
            return Err(StoreError::Unavailable(reason.clone()));
        }
        let readers = self.clone();
        match tokio::task::spawn_blocking(move || readers.read_now(work)).await {
            Ok(result) => result.map_err(|error| StoreError::Unavailable(error.to_string())),
            Err(error) => Err(StoreError::Unavailable(error.to_string())),
        }
    }

    fn read_now<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.open()?,
        };
        let result = work(&connection)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(result)
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        look_at(&self.path)
    }

    /// Closes the connections that nobody uses.
    pub(crate) fn close(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
