//! Read-only connections, beside the writing one.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::{Semaphore, watch};

use crate::shares::Shares;
use crate::sqlkit::sqlite::open_read_only;
use crate::{Health, StoreError};

/// Readers at a time; the next one waits.
const READERS: usize = 4;
/// How many of them calls may use, and how many the calls of one owner. One is always left to the server itself: to the
/// event stream, webhooks, joins and the starts of channels.
const FOR_CALLS: (usize, usize) = (READERS - 1, 2);
/// The most waiting reads, without those of calls that wait for the share of their owner. A read counts until it ends,
/// even if its caller has disconnected.
const WAITING: usize = 1_000;

/// A small pool of read-only connections. An idle connection has no open transaction.
pub struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
    /// What calls may read.
    shares: Shares,
    /// Limits the reads that wait or run.
    places: Semaphore,
    health: watch::Receiver<Health>,
}

impl Readers {
    pub fn new(path: PathBuf, health: watch::Receiver<Health>) -> Arc<Self> {
        Arc::new(Self {
            path,
            idle: Mutex::default(),
            turns: Arc::new(Semaphore::new(READERS)),
            shares: Shares::new(FOR_CALLS.0, FOR_CALLS.1),
            places: Semaphore::new(READERS + WAITING),
            health,
        })
    }

    /// Runs `work` on a connection, on a blocking thread. Refused while the writer is down: what would be read may not be on disk.
    pub async fn read<T, F>(self: &Arc<Self>, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let share = self.shares.acquire().await?;
        let Ok(_place) = self.places.try_acquire() else { return Err(StoreError::Overloaded) };
        let turn =
            self.turns.clone().acquire_owned().await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        if let Health::Down(reason) = &*self.health.borrow() {
            return Err(StoreError::Unavailable(reason.clone()));
        }
        let readers = self.clone();
        let reading = move || {
            // Until the work ends: it continues even if the caller has disconnected.
            let _held = (share, turn);
            readers.read_now(work)
        };
        match tokio::task::spawn_blocking(reading).await {
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
        open_read_only(&self.path)
    }

    /// Closes idle connections.
    pub fn close(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use futures_util::future::poll_immediate;
    use recado_domain::api_key::Environment;
    use recado_domain::ids::InstitutionId;
    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
    use tokio::task::JoinHandle;
    use tokio::time::timeout;
    use tokio_util::sync::CancellationToken;

    use crate::fixtures::{Engine, SqliteFile};
    use crate::shares::{Call, LOOKING, of_call};
    use crate::sqlkit::sqlite::readers::*;

    fn looks(institution: u8) -> Call {
        let owner = (InstitutionId::from_bytes([institution; 16]), Environment::Live);
        Call::Looks(owner, CancellationToken::new())
    }

    #[tokio::test]
    async fn only_so_many_reads_wait() {
        let file = SqliteFile::new();
        let store = file.open().await;
        let readers = Readers::new(file.path(), store.health());
        let held = readers.turns.acquire_many(READERS.try_into().expect("few")).await.expect("free");
        let waiting: Vec<_> = (0..READERS + WAITING)
            .map(|_| {
                let readers = readers.clone();
                tokio::spawn(async move { readers.read(|_| Ok(())).await })
            })
            .collect();
        while readers.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let one_more = tokio::time::timeout(Duration::from_secs(20), readers.read(|_| Ok(()))).await;
        assert!(matches!(one_more, Ok(Err(StoreError::Overloaded))), "{one_more:?}");
        drop(held);
        for read in waiting {
            read.await.expect("no panic").expect("read");
        }
        readers.read(|_| Ok(())).await.expect("there is room again");
    }

    /// Reads of disconnected callers continue, and count.
    #[tokio::test]
    async fn cancelled_reads_count_until_they_end() {
        let file = SqliteFile::new();
        let store = file.open().await;
        let readers = Readers::new(file.path(), store.health());
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (began, mut begins) = tokio::sync::mpsc::unbounded_channel();
        let (go_on, waits) = mpsc::channel::<()>();
        let waits = Arc::new(Mutex::new(waits));
        let asks = || {
            let (readers, running, most) = (readers.clone(), running.clone(), most.clone());
            let (began, waits) = (began.clone(), waits.clone());
            tokio::spawn(async move {
                let read = readers.read(move |_| {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    began.send(()).expect("the test waits");
                    // The read ends when the test ends it.
                    let _ = waits.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok(())
                });
                read.await
            })
        };
        let calls: Vec<_> = (0..READERS).map(|_| asks()).collect();
        for _ in 0..READERS {
            begins.recv().await.expect("a read");
        }
        for call in &calls {
            call.abort();
        }
        for call in calls {
            assert!(call.await.expect_err("broken off").is_cancelled());
        }
        let later: Vec<_> = (0..3 * READERS).map(|_| asks()).collect();
        // The runtime has one thread, so each task has asked for a connection by then, and could have begun.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        drop(go_on);
        for call in later {
            call.await.expect("not broken off").expect("read");
        }
        assert_eq!(most.load(Ordering::SeqCst), READERS);
        assert!(readers.idle.lock().unwrap_or_else(PoisonError::into_inner).len() <= READERS);
    }

    /// Makes reads that hang until the test lets them go on.
    struct Slow {
        readers: Arc<Readers>,
        began: UnboundedSender<()>,
        waits: Arc<Mutex<mpsc::Receiver<()>>>,
    }

    impl Slow {
        fn read(&self, call: Call) -> JoinHandle<Result<(), StoreError>> {
            let (readers, began, waits) = (self.readers.clone(), self.began.clone(), self.waits.clone());
            let read = async move {
                let read = readers.read(move |_| {
                    began.send(()).expect("the test waits");
                    let _ = waits.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    Ok(())
                });
                read.await
            };
            tokio::spawn(of_call(call, read))
        }
    }

    /// Slow reads; a receiver of their begins; they go on when the sender is dropped.
    fn slow_reads(readers: &Arc<Readers>) -> (Slow, UnboundedReceiver<()>, mpsc::Sender<()>) {
        let (began, begins) = unbounded_channel();
        let (go_on, waits) = mpsc::channel();
        (Slow { readers: readers.clone(), began, waits: Arc::new(Mutex::new(waits)) }, begins, go_on)
    }

    /// As many reads of one owner hang as may run, and as many wait as may wait. Others, and the server, read on.
    #[tokio::test]
    async fn slow_reads_of_one_owner_delay_no_other_owner_and_not_the_server() {
        let file = SqliteFile::new();
        let store = file.open().await;
        let readers = Readers::new(file.path(), store.health());
        let (slow, mut begins, go_on) = slow_reads(&readers);
        let reads: Vec<_> = (0..LOOKING).map(|_| slow.read(looks(1))).collect();
        for _ in 0..FOR_CALLS.1 {
            begins.recv().await.expect("a read");
        }
        let others = async {
            // Until all of them have asked.
            let one_more = || Box::pin(of_call(looks(1), readers.read(|_| Ok(()))));
            while !matches!(poll_immediate(one_more()).await, Some(Err(StoreError::Overloaded))) {
                tokio::task::yield_now().await;
            }
            for _ in 0..10 {
                of_call(looks(2), readers.read(|_| Ok(()))).await.expect("another owner reads");
                readers.read(|_| Ok(())).await.expect("the server reads");
            }
        };
        timeout(Duration::from_secs(20), others).await.expect("nobody waits for the owner");
        assert!(begins.try_recv().is_err(), "the owner reads no more than its share");
        drop(go_on);
        for read in reads {
            read.await.expect("no panic").expect("read");
        }
    }

    /// Reads of calls hang on every reader that calls may use. The last reader is the server's.
    #[tokio::test]
    async fn calls_of_many_owners_leave_a_reader_to_the_server() {
        let file = SqliteFile::new();
        let store = file.open().await;
        let readers = Readers::new(file.path(), store.health());
        let (slow, mut begins, go_on) = slow_reads(&readers);
        let reads: Vec<_> = (0..20).map(|owner| slow.read(looks(owner))).collect();
        for _ in 0..FOR_CALLS.0 {
            begins.recv().await.expect("a read");
        }
        let server = timeout(Duration::from_secs(20), readers.read(|_| Ok(()))).await;
        server.expect("the server has a reader").expect("read");
        drop(go_on);
        for read in reads {
            read.await.expect("no panic").expect("read");
        }
    }
}
