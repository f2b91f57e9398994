//! A session's rows in the store, each encrypted and bound to its row.
//!
//! The library stores about twenty kinds of keyed bytes through the driver's `Storage`, which maps them to `get`, `list` and
//! `write`. Each value is bound to its channel, session, kind and key. A write returns after the sync. The rows are deleted
//! when the network ends the session, and when the channel is deleted.

use std::sync::Arc;

use async_trait::async_trait;
use recado_domain::channel::{DeletedRows, SessionChange, SessionNumber, SessionOf};
use recado_store::sealed::Place;
use recado_store::{Sessions, StoreError};
use recado_whatsapp_web::{Change, Kind, Rows, RowsError};
use secrecy::ExposeSecret;

use crate::whatsapp_web::connection::Connection;

/// The rows of one of a channel's sessions.
pub struct SessionRows {
    pub connection: Arc<Connection>,
    pub stored: Arc<dyn Sessions>,
    pub session: SessionNumber,
}

impl SessionRows {
    fn of(&self) -> SessionOf {
        (self.connection.via.key, self.session)
    }

    fn place<'a>(&self, kind: Kind, key: &'a [u8]) -> Place<'a> {
        Place::Session { channel: self.connection.via.key, session: self.session, kind: kind.number(), key }
    }

    fn open(&self, kind: Kind, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, RowsError> {
        let opened = self.connection.shared.secrets.open(self.place(kind, key), sealed).map_err(refusal)?;
        // The library keeps what it reads as long as it likes, so that memory is not zeroed.
        Ok(opened.expose_secret().to_vec())
    }

    fn change(&self, change: Change) -> Result<SessionChange, RowsError> {
        Ok(match change {
            Change::Put { kind, key, value, stamp } => {
                let sealed = self.connection.shared.secrets.seal(
                    self.place(kind, &key),
                    &value,
                    &*self.connection.shared.entropy,
                );
                SessionChange::Put { kind: kind.number(), key, sealed: sealed.map_err(refusal)?, stamp }
            }
            Change::Delete { kind, key } => SessionChange::Delete { kind: kind.number(), key },
            Change::DeletePrefix { kind, prefix } => SessionChange::DeletePrefix { kind: kind.number(), prefix },
            Change::DeleteBefore { kind, stamp } => SessionChange::DeleteBefore { kind: kind.number(), stamp },
        })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that `map_err` needs")]
fn refusal(error: impl ToString) -> RowsError {
    RowsError(error.to_string())
}

#[async_trait]
impl Rows for SessionRows {
    async fn get(&self, kind: Kind, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Vec<u8>>>, RowsError> {
        let sealed = self.stored.session_values(self.of(), kind.number(), keys.clone()).await;
        let values = keys.iter().zip(sealed.map_err(refusal)?);
        values.map(|(key, value)| value.map(|sealed| self.open(kind, key, &sealed)).transpose()).collect()
    }

    async fn list(&self, kind: Kind, prefix: Vec<u8>) -> Result<Vec<(Vec<u8>, Vec<u8>)>, RowsError> {
        let sealed = self.stored.session_list(self.of(), kind.number(), prefix).await.map_err(refusal)?;
        let rows = sealed.into_iter();
        rows.map(|(key, sealed)| self.open(kind, &key, &sealed).map(|value| (key, value))).collect()
    }

    async fn write(&self, changes: Vec<Change>) -> Result<DeletedRows, RowsError> {
        let sealed = changes.into_iter().map(|change| self.change(change)).collect::<Result<_, _>>()?;
        // Two writers of one session would corrupt it.
        let held = self.connection.held(self.session).ok_or(StoreError::Fenced).map_err(refusal)?;
        self.stored.write_session(held, sealed).await.map_err(refusal)
    }
}
