//! Rows in memory that count their writes. The tests of the storage and of the session share them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use recado_domain::channel::DeletedRows;
use recado_whatsapp_web::{Change, Kind, Rows, RowsError};

#[derive(Default)]
pub struct MemoryRows(Mutex<State>);

#[derive(Default)]
struct State {
    rows: BTreeMap<(Kind, Vec<u8>), (Vec<u8>, i64)>,
    writes: usize,
    is_full: bool,
}

impl MemoryRows {
    pub fn writes(&self) -> usize {
        self.with(|state| state.writes)
    }

    /// Refuses everything that is to be written, as a full disk does.
    #[expect(clippy::allow_attributes, reason = "some users of this file call it")]
    #[allow(dead_code, reason = "not every user of this file has a full disk")]
    pub fn refuse(&self, is_full: bool) {
        self.with(|state| state.is_full = is_full);
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Rows for MemoryRows {
    async fn get(&self, kind: Kind, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Vec<u8>>>, RowsError> {
        let value = |state: &State, key| state.rows.get(&(kind, key)).map(|(value, _)| value.clone());
        Ok(self.with(|state| keys.into_iter().map(|key| value(state, key)).collect()))
    }

    async fn list(&self, kind: Kind, prefix: Vec<u8>) -> Result<Vec<(Vec<u8>, Vec<u8>)>, RowsError> {
        Ok(self.with(|state| {
            let of_kind = state.rows.iter().filter(|((row, key), _)| *row == kind && key.starts_with(&prefix));
            of_kind.map(|((_, key), (value, _))| (key.clone(), value.clone())).collect()
        }))
    }

    async fn write(&self, changes: Vec<Change>) -> Result<DeletedRows, RowsError> {
        self.with(|state| {
            if state.is_full {
                return Err(RowsError("the disk is full".to_owned()));
            }
            state.writes += 1;
            let mut deleted = DeletedRows::default();
            for change in changes {
                deleted.add(change.kind().number(), state.apply(change) as u64);
            }
            Ok(deleted)
        })
    }
}

impl State {
    fn apply(&mut self, change: Change) -> usize {
        let before = self.rows.len();
        match change {
            Change::Put { kind, key, value, stamp } => {
                self.rows.insert((kind, key), (value, stamp));
                return 0;
            }
            Change::Delete { kind, key } => {
                self.rows.remove(&(kind, key));
            }
            Change::DeletePrefix { kind, prefix } => {
                self.rows.retain(|(row, key), _| *row != kind || !key.starts_with(&prefix));
            }
            Change::DeleteBefore { kind, stamp } => {
                self.rows.retain(|(row, _), (_, old)| *row != kind || *old <= 0 || *old >= stamp);
            }
        }
        before - self.rows.len()
    }
}
