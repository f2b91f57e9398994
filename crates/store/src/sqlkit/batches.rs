//! Runs calls in batches: the calls that arrive during a batch form the next one.

use std::future::Future;
use std::mem::take;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::{Result, StoreError};

/// Bounds of batches.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The most calls in one batch.
    pub most: usize,
    /// Batches that are done side by side.
    pub side_by_side: usize,
    /// The most calls that wait for a batch; further callers wait until there is room.
    pub waiting: usize,
}

/// A piece of work, and who waits for its answer.
pub struct Waiting<T, A> {
    /// The input of the call.
    pub work: T,
    /// Receives the answer. The caller may have stopped waiting.
    pub answer: oneshot::Sender<A>,
}

/// Where work waits to be done together.
pub struct Batches<T, A> {
    queue: mpsc::Sender<Waiting<T, A>>,
}

impl<T: Send + 'static, A: Send + 'static> Batches<T, A> {
    /// Does work with this function, until the batches are dropped. The function answers each piece.
    pub fn start<F, D>(bounds: Bounds, run: F) -> Self
    where
        F: Fn(Vec<Waiting<T, A>>) -> D + Send + Sync + 'static,
        D: Future<Output = ()> + Send + 'static,
    {
        let (queue, waiting) = mpsc::channel(bounds.waiting);
        tokio::spawn(collect(bounds, waiting, run));
        Self { queue }
    }

    /// Has work done; an error where its batch ended without an answer.
    pub async fn ask(&self, work: T) -> Result<A> {
        let ended = || StoreError::Unavailable("the batch ended without an answer".to_owned());
        let (answer, answered) = oneshot::channel();
        self.queue.send(Waiting { work, answer }).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())
    }
}

async fn collect<T, A, F, D>(bounds: Bounds, mut waiting: mpsc::Receiver<Waiting<T, A>>, run: F)
where
    F: Fn(Vec<Waiting<T, A>>) -> D,
    D: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(bounds.side_by_side));
    let mut next = Vec::new();
    // The semaphore is never closed.
    while let Ok(permit) = room.clone().acquire_owned().await {
        if waiting.recv_many(&mut next, bounds.most).await == 0 {
            return;
        }
        // Calls that one event causes, such as the end of a batch, arrive within one round of the runtime.
        tokio::task::yield_now().await;
        while next.len() < bounds.most
            && let Ok(one) = waiting.try_recv()
        {
            next.push(one);
        }
        // The caller of this one has stopped waiting.
        next.retain(|one| !one.answer.is_closed());
        let batch = run(take(&mut next));
        // A separate task: the next batch runs even if this one panics.
        tokio::spawn(async move {
            let _permit = permit;
            batch.await;
        });
    }
}
