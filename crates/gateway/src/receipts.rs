//! A network's word on a message becomes the message's state.

use std::sync::Arc;

use crate::clock::Millis;
use crate::store::Store;
use crate::store::rows::{Receipt, StoreError};

/// Where networks hand in their receipts.
#[derive(Clone)]
pub struct Receipts {
    store: Arc<dyn Store>,
}

impl Receipts {
    /// Receipts that end in this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Records receipts. They are on disk when this returns `Ok`; only then may the network forget them. Late, repeated
    /// and unknown ones change nothing.
    pub async fn record(&self, receipts: Vec<Receipt>, now: Millis) -> Result<(), StoreError> {
        self.store.apply_receipts(receipts, now).await
    }
}
