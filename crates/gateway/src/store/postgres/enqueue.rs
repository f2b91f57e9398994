//! Accepting messages: those that come together are stored by one statement.
#![expect(unused, reason = "not there yet")]

use std::sync::Arc;

use super::db::Pool;
use crate::store::Result;
use crate::store::rows::{Enqueued, NewMessage, StoreError};

/// Where messages wait to be stored together.
pub(super) struct Accepting;

impl Accepting {
    pub fn start(pool: Arc<Pool>) -> Self {
        Self
    }

    pub async fn accept(&self, message: NewMessage) -> Result<Enqueued> {
        Err(StoreError::Overloaded)
    }

    /// Stores what waits.
    pub async fn close(&self) {}
}
