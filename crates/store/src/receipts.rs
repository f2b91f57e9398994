//! A network's word on a message becomes the message's state.

use std::sync::Arc;

use recado_domain::clock::Millis;
use recado_domain::queue::Receipt;

use crate::{Queue, StoreError};

/// Receipts that are written together. What others have to write goes in between.
const AT_ONCE: usize = 250;

/// Where networks hand in their receipts.
#[derive(Clone)]
pub struct Receipts {
    queue: Arc<dyn Queue>,
}

impl Receipts {
    /// Receipts of the messages of this queue.
    pub fn new(queue: Arc<dyn Queue>) -> Self {
        Self { queue }
    }

    /// Records receipts; none is dated later than now. They are on disk when this returns `Ok`; only then may the network forget them. Late, repeated
    /// and unknown ones change nothing. A receipt that the store refuses is dropped, with an error in the log: it would be
    /// refused again, and must not hold up the others, nor the session or the callback that told it.
    pub async fn record(&self, receipts: &[Receipt], now: Millis) -> Result<(), StoreError> {
        for some in receipts.chunks(AT_ONCE) {
            let some: Vec<_> =
                some.iter().map(|receipt| Receipt { at: receipt.at.min(now), ..receipt.clone() }).collect();
            match self.queue.apply_receipts(some.clone(), now).await {
                Err(StoreError::Refused(_)) => self.record_each(&some, now).await?,
                recorded => recorded?,
            }
        }
        Ok(())
    }

    /// Records receipts of which the store refuses some.
    async fn record_each(&self, receipts: &[Receipt], now: Millis) -> Result<(), StoreError> {
        for receipt in receipts {
            match self.queue.apply_receipts(vec![receipt.clone()], now).await {
                Err(StoreError::Refused(reason)) => {
                    tracing::error!(
                        channel.key = receipt.channel,
                        reason,
                        "a receipt was dropped: the store refused it"
                    );
                }
                recorded => recorded?,
            }
        }
        Ok(())
    }
}
