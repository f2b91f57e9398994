//! Receipts of all callers are applied in batches, whatever their channels.

use recado_domain::clock::Millis;
use recado_domain::queue::Receipt;

use super::receipts::{apply_locked, apply_plain};
use crate::sqlkit::batches::{Batches, Bounds, Waiting};
use crate::sqlkit::postgres::db::{with_connection, with_transaction};
use crate::sqlkit::postgres::pool::Pool;
use crate::{Result, StoreError};

/// A batch has at most 32 calls, with some hundred receipts each.
const BOUNDS: Bounds = Bounds { most: 32, side_by_side: 2, waiting: 1_024 };

/// The receipts of one call.
struct ReceiptBatch {
    receipts: Vec<Receipt>,
    now: Millis,
}

/// Where receipts wait to be applied together.
pub(super) struct Receiving(Batches<ReceiptBatch, Result<()>>);

impl Receiving {
    pub fn start(pool: Pool) -> Self {
        Self(Batches::start(BOUNDS, move |batch| run(pool.clone(), batch)))
    }

    pub async fn apply(&self, receipts: Vec<Receipt>, now: Millis) -> Result<()> {
        self.0.ask(ReceiptBatch { receipts, now }).await?
    }
}

/// Applies a batch, and answers.
async fn run(pool: Pool, batch: Vec<Waiting<ReceiptBatch, Result<()>>>) {
    let all: Vec<&Receipt> = batch.iter().flat_map(|one| &one.work.receipts).collect();
    match plain(&pool, &all).await {
        Ok(left) => {
            let mut left = left.into_iter();
            for one in batch {
                let left = left.by_ref().take(one.work.receipts.len()).collect();
                tokio::spawn(locked(pool.clone(), one, left));
            }
        }
        // One call is refused, and the others must not fail with it.
        Err(StoreError::Refused(_)) if batch.len() > 1 => {
            for one in batch {
                let all: Vec<&Receipt> = one.work.receipts.iter().collect();
                match plain(&pool, &all).await {
                    Ok(left) => drop(tokio::spawn(locked(pool.clone(), one, left))),
                    Err(error) => drop(one.answer.send(Err(error))),
                }
            }
        }
        Err(error) => batch.into_iter().for_each(|one| drop(one.answer.send(Err(error.clone())))),
    }
}

/// Applies the receipts that need no lock. Returns which receipts are left.
async fn plain(pool: &Pool, receipts: &[&Receipt]) -> Result<Vec<bool>> {
    with_connection!(pool, db => apply_plain(db, receipts))
}

/// Applies the remaining receipts of a call under the locks of their channels. Only this call waits for the locks.
async fn locked(pool: Pool, one: Waiting<ReceiptBatch, Result<()>>, left: Vec<bool>) {
    let Waiting { work: ReceiptBatch { receipts, now }, answer } = one;
    let left: Vec<_> = receipts.into_iter().zip(left).filter_map(|(receipt, left)| left.then_some(receipt)).collect();
    let done = if left.is_empty() {
        Ok(())
    } else {
        async { with_transaction!(pool, db => apply_locked(db, &left, now).await) }.await
    };
    // The caller may have stopped waiting.
    let _ = answer.send(done);
}
