//! One thread writes a SQLite file, in group commits.
//!
//! A commit costs a sync of the disk, whatever its size. So the thread runs all waiting calls (at most `BATCH`) in one transaction,
//! commits, and then answers them: an answer means that the data is on disk. If a call fails, which is rare, the transaction is rolled
//! back and run again with a savepoint for each call, so that only the failing call is undone.
//!
//! After a failed commit the content of the disk is unknown (the kernel does not repeat a failed sync). The thread then refuses all
//! calls, reopens the file, and checkpoints and syncs the whole log, so that everything that is read afterwards is on disk. Then it
//! serves again.

mod log;
mod thread;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode};
use thread::Thread;
use tokio::sync::{mpsc, oneshot, watch};

use crate::commits::{Change, Follower, Reached};
use crate::sqlkit::sqlite::tail::Tail;
use crate::{Health, StoreError};

/// The most waiting calls; more are refused, so that memory stays bounded on a slow disk.
pub const WAITING: usize = 8192;

/// The state of the writing thread: the connection, and data that is derived from the file.
pub trait Owned: Sized + Send + 'static {
    /// Whether a lost log of this file is noticed; see [`Tail`]. Only for files whose commits are synced.
    const NOTICES_LOST_LOG: bool = false;
    /// Opens the file, makes or migrates its tables, and reads what is derived from it.
    fn open(path: &Path) -> rusqlite::Result<Self>;
    fn connection(&self) -> &Connection;
    /// A call begins that may be rolled back alone.
    fn call_begins(&mut self) {}
    /// A call's writes were rolled back: resets what is derived from the file.
    fn rolled_back(&mut self) -> rusqlite::Result<()> {
        Ok(())
    }
    /// The changes that were committed since the last call, for followers.
    fn drain_changes(&mut self) -> Vec<Change> {
        Vec::new()
    }
    /// The statuses that messages reached, and the states that channels reached, since the last call, for followers.
    fn drain_reached(&mut self) -> Vec<Reached> {
        Vec::new()
    }
}

trait Call<S>: Send {
    /// Does the work. After an error it is unknown which of its writes were made.
    fn run(&mut self, state: &mut S) -> rusqlite::Result<()>;
    /// Does the work inside a savepoint; an error is kept for the caller unless it ends the whole batch.
    fn run_apart(&mut self, state: &mut S) -> rusqlite::Result<()>;
    /// Answers the caller.
    fn answer(self: Box<Self>, batch: Result<(), StoreError>);
}

struct Asked<F, T> {
    work: F,
    result: Option<Result<T, StoreError>>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<S: Owned, T: Send, F: FnMut(&mut S) -> rusqlite::Result<T> + Send> Call<S> for Asked<F, T> {
    fn run(&mut self, state: &mut S) -> rusqlite::Result<()> {
        self.result = Some(Ok((self.work)(state)?));
        Ok(())
    }

    fn run_apart(&mut self, state: &mut S) -> rusqlite::Result<()> {
        state.connection().prepare_cached("SAVEPOINT one_call")?.execute([])?;
        state.call_begins();
        self.result = Some(match (self.work)(state) {
            Ok(value) => Ok(value),
            Err(error) if ends_the_batch(&error, state.connection()) => return Err(error),
            Err(error) => {
                state.connection().prepare_cached("ROLLBACK TO one_call")?.execute([])?;
                state.rolled_back()?;
                Err(StoreError::Refused(error.to_string()))
            }
        });
        state.connection().prepare_cached("RELEASE one_call")?.execute([])?;
        Ok(())
    }

    fn answer(self: Box<Self>, batch: Result<(), StoreError>) {
        let result = match (batch, self.result) {
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(StoreError::Unavailable("the call was not run".to_owned())),
            (Err(error), _) => Err(error),
        };
        // The caller may have disconnected.
        let _ = self.answer.send(result);
    }
}

enum Item<S> {
    Call(Box<dyn Call<S>>),
    EmptyLog(oneshot::Sender<Result<bool, StoreError>>),
    Close(oneshot::Sender<()>),
}

/// The way to the writing thread.
pub struct Writer<S> {
    queue: mpsc::Sender<Item<S>>,
    health: watch::Receiver<Health>,
    follower: Follower,
}

impl<S: Owned> Writer<S> {
    /// Opens the file and starts its thread.
    pub fn start(path: PathBuf) -> rusqlite::Result<Self> {
        let state = S::open(&path)?;
        let (queue, waiting) = mpsc::channel(WAITING);
        let (report, health) = watch::channel(Health::Up);
        let follower = Follower::default();
        let tail = S::NOTICES_LOST_LOG.then(|| Tail::of(&path));
        let thread = Thread { path, waiting, report, follower: follower.clone(), tail };
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || thread.run(state))
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        Ok(Self { queue, health, follower })
    }

    /// The follower of commits.
    pub fn follower(&self) -> &Follower {
        &self.follower
    }

    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// How many calls wait for the thread.
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Runs `work` in a transaction; the answer comes after the commit.
    pub async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut S) -> rusqlite::Result<T> + Send + 'static,
    {
        if let Health::Down(reason) = &*self.health.borrow() {
            return Err(StoreError::Unavailable(reason.clone()));
        }
        let (answer, answered) = oneshot::channel();
        let call = Box::new(Asked { work, result: None, answer });
        self.queue.try_send(Item::Call(call)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => closed(),
        })?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Waits until the thread has run an empty call, behind all calls that wait now. Unlike [`Self::run`] it waits for room
    /// in a full queue, and it also passes a thread that refuses calls.
    pub async fn reach(&self) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        let work = |_: &mut S| -> rusqlite::Result<()> { Ok(()) };
        let call: Box<dyn Call<S>> = Box::new(Asked { work, result: None, answer });
        self.queue.send(Item::Call(call)).await.map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Checkpoints and truncates the log; `false` if a reader prevents that.
    pub async fn empty_log(&self) -> Result<bool, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.queue.send(Item::EmptyLog(answer)).await.map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Writes all waiting calls, and closes the file.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.queue.send(Item::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".to_owned())
}

/// Whether the error concerns the file and not one call: nothing can be written until the file is reopened.
fn ends_the_batch(error: &rusqlite::Error, connection: &Connection) -> bool {
    // SQLite rolls the transaction back by itself on some of these.
    connection.is_autocommit()
        || matches!(
            error.sqlite_error_code(),
            Some(
                ErrorCode::SystemIoFailure
                    | ErrorCode::DiskFull
                    | ErrorCode::DatabaseCorrupt
                    | ErrorCode::NotADatabase
                    | ErrorCode::CannotOpen
                    | ErrorCode::OutOfMemory
                    | ErrorCode::ReadOnly
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::FileLockingProtocolFailed
            )
        )
}

#[cfg(test)]
mod tests;
