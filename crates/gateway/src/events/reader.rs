//! The reader of the store's events, which all parts of this process share.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use recado_domain::event::{EventPage, EventQuery, EventSeq, OwnedRange};
use recado_store::{EventReader, Result, StoreError};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long [`SharedReader::newest`] waits for running transactions, and how often it checks them.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_millis(5));

/// On PostgreSQL a reader has its own connection, so all callers share one reader.
#[derive(Clone)]
pub struct SharedReader(Arc<Mutex<Box<dyn EventReader>>>);

impl SharedReader {
    pub fn new(reader: Box<dyn EventReader>) -> Self {
        Self(Arc::new(Mutex::new(reader)))
    }

    pub async fn read(&self, query: EventQuery) -> Result<Option<EventPage>> {
        self.ask(move |reader| reader.read(query)).await
    }

    pub async fn settled(&self) -> Result<EventSeq> {
        self.ask(|reader| reader.settled()).await
    }

    pub async fn owners(&self, after: EventSeq, until: EventSeq) -> Result<Vec<OwnedRange>> {
        self.ask(move |reader| reader.owners(after, until)).await
    }

    /// The number up to which events can be read. The number includes every event that is committed at the time of the
    /// call, so the call waits for transactions that may still commit an earlier event. The call fails if such a
    /// transaction runs for long.
    pub async fn newest(&self) -> Result<EventSeq> {
        let until = Instant::now() + PATIENCE.0;
        let last = self.ask(|reader| reader.last()).await?;
        loop {
            let settled = self.settled().await?;
            if settled >= last {
                return Ok(settled);
            }
            if Instant::now() >= until {
                return Err(StoreError::Unavailable("a transaction delays the event stream".to_owned()));
            }
            tokio::time::sleep(PATIENCE.1).await;
        }
    }

    /// Asks the reader. The work continues if the caller is dropped. Otherwise a client that disconnects would cancel
    /// the query, and the reader would lose its connection and its knowledge of running transactions.
    async fn ask<T: Send + 'static>(
        &self,
        work: impl for<'a> FnOnce(&'a mut dyn EventReader) -> BoxFuture<'a, Result<T>> + Send + 'static,
    ) -> Result<T> {
        let mut reader = self.0.clone().lock_owned().await;
        let done = tokio::spawn(async move { work(&mut **reader).await }).await;
        done.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

    use async_trait::async_trait;
    use tokio::sync::Semaphore;

    use super::*;

    #[derive(Default)]
    struct State {
        settled: AtomicI64,
        last: i64,
        reads: AtomicUsize,
    }

    struct TestReader {
        state: Arc<State>,
        may_read: Arc<Semaphore>,
    }

    #[async_trait]
    impl EventReader for TestReader {
        async fn read(&mut self, _: EventQuery) -> Result<Option<EventPage>> {
            drop(self.may_read.acquire().await);
            self.state.reads.fetch_add(1, Ordering::SeqCst);
            Ok(None)
        }

        async fn settled(&mut self) -> Result<EventSeq> {
            Ok(self.state.settled.load(Ordering::SeqCst))
        }

        async fn last(&mut self) -> Result<EventSeq> {
            Ok(self.state.last)
        }

        async fn owners(&mut self, _: EventSeq, _: EventSeq) -> Result<Vec<OwnedRange>> {
            Ok(Vec::new())
        }
    }

    fn shared(state: &Arc<State>) -> (SharedReader, Arc<Semaphore>) {
        let may_read = Arc::new(Semaphore::new(0));
        (SharedReader::new(Box::new(TestReader { state: state.clone(), may_read: may_read.clone() })), may_read)
    }

    #[tokio::test]
    async fn the_newest_number_is_waited_for() {
        let state = Arc::new(State { last: 5, ..State::default() });
        let (reader, _) = shared(&state);
        let newest = tokio::spawn(async move { reader.newest().await });
        for settled in [0, 3, 5] {
            tokio::time::sleep(PATIENCE.1 * 4).await;
            assert!(!newest.is_finished(), "before {settled}");
            state.settled.store(settled, Ordering::SeqCst);
        }
        assert_eq!(newest.await.expect("no panic").expect("a number"), 5);
    }

    #[tokio::test]
    async fn a_question_is_answered_although_nobody_waits() {
        let state = Arc::<State>::default();
        let (reader, may_read) = shared(&state);
        let query = EventQuery { owner: None, channel: None, after: 0, limit: 1 };
        let asked = tokio::time::timeout(Duration::from_millis(50), reader.read(query)).await;
        assert!(asked.is_err() && state.reads.load(Ordering::SeqCst) == 0);
        may_read.add_permits(1);
        // The reader handles this call after the first call.
        assert_eq!(reader.settled().await.expect("a number"), 0);
        assert_eq!(state.reads.load(Ordering::SeqCst), 1);
    }
}
