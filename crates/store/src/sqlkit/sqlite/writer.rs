//! One thread writes a SQLite file, in group commits.
//!
//! A commit costs a sync of the disk, whatever its size. So the thread runs all waiting calls (at most `BATCH`) in one transaction,
//! commits, and then answers them: an answer means that the data is on disk. If a call fails, which is rare, the transaction is rolled
//! back and run again with a savepoint for each call, so that only the failing call is undone.
//!
//! After a failed commit the content of the disk is unknown (the kernel does not repeat a failed sync). The thread then refuses all
//! calls, reopens the file, and checkpoints and syncs the whole log, so that everything that is read afterwards is on disk. Then it
//! serves again.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot, watch};

use crate::commits::{Change, Follower, Reached};
use crate::sqlkit::sqlite::BUSY_TIMEOUT;
use crate::sqlkit::sqlite::tail::Tail;
use crate::{Health, StoreError};

/// The most calls in one commit.
const BATCH: usize = 512;
/// The most waiting calls; more are refused, so that memory stays bounded on a slow disk.
pub const WAITING: usize = 8192;
/// Pages of 4 KiB in the log before it is written into the database.
const CHECKPOINT_AT: i32 = 2_000;
/// Pages in the log before the writer waits for readers to let it start over: the bound of the log's size.
const RESTART_AT: i32 = 32_000;
/// How long the writer then waits for readers. Usual readers end within it. A copy of the whole file (`recado backup`) does not: the
/// log grows meanwhile, and the writer tries again when the log has grown by a quarter of its bound.
const RESTART_WAIT: Duration = Duration::from_millis(250);
/// The pause between two attempts to reopen the file.
const COMEBACK: Duration = Duration::from_millis(500);

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
    /// The statuses that messages reached since the last call, for followers.
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

    /// Waits until the thread has taken an empty call, behind all calls that wait now. Unlike [`Self::run`] it waits for room
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

thread_local! {
    /// Pages in the log after the last commit of this thread, as SQLite reported to the hook.
    static LOG_PAGES: Cell<i32> = const { Cell::new(0) };
    /// Pages in the log at which the next restart is tried; more than [`RESTART_AT`] after readers prevented one.
    static RESTART_NEXT: Cell<i32> = const { Cell::new(RESTART_AT) };
}

struct Thread<S> {
    path: PathBuf,
    waiting: mpsc::Receiver<Item<S>>,
    report: watch::Sender<Health>,
    follower: Follower,
    tail: Option<Tail>,
}

impl<S: Owned> Thread<S> {
    fn run(mut self, mut state: S) {
        loop {
            watch_log(state.connection());
            match self.serve(&mut state) {
                Ok(closing) => {
                    self.clear_tail();
                    drop(state);
                    // The caller may have disconnected.
                    let _ = closing.map(|done| done.send(()));
                    return;
                }
                Err(reason) => {
                    tracing::error!(file = %self.path.display(), error = reason, "store failed; reopening");
                    self.report.send_replace(Health::Down(reason));
                    self.clear_tail();
                    drop(state);
                }
            }
            match self.come_back() {
                Some(opened) => state = opened,
                None => return,
            }
            tracing::info!(file = %self.path.display(), "store reopened");
            self.report.send_replace(Health::Up);
        }
    }

    /// To be called before the log may be removed.
    fn clear_tail(&mut self) {
        self.tail.iter_mut().for_each(Tail::clear);
    }

    fn empty_log(&mut self, state: &S) -> Result<bool, StoreError> {
        self.clear_tail();
        empty_log(state.connection())
    }

    /// Serves until the store is closed, or until it fails.
    fn serve(&mut self, state: &mut S) -> Result<Option<oneshot::Sender<()>>, String> {
        let mut batch: Vec<Box<dyn Call<S>>> = Vec::new();
        loop {
            let (mut closing, mut emptying) = (None, None);
            match self.waiting.blocking_recv() {
                Some(Item::Call(call)) => batch.push(call),
                Some(Item::EmptyLog(answer)) => {
                    let _ = answer.send(self.empty_log(state));
                    continue;
                }
                Some(Item::Close(done)) => return Ok(Some(done)),
                None => return Ok(None),
            }
            while batch.len() < BATCH {
                match self.waiting.try_recv() {
                    Ok(Item::Call(call)) => batch.push(call),
                    Ok(Item::EmptyLog(answer)) => {
                        emptying = Some(answer);
                        break;
                    }
                    Ok(Item::Close(done)) => {
                        closing = Some(done);
                        break;
                    }
                    Err(_) => break,
                }
            }
            let began = Instant::now();
            let committed = commit(state, &mut batch);
            self.follower.measured(began.elapsed(), batch.len());
            let outcome = committed.clone().map_err(StoreError::Unavailable);
            if let Err(reason) = &committed {
                // Before the answers: a caller that repeats at once must not see a healthy store.
                self.report.send_replace(Health::Down(reason.clone()));
            }
            if committed.is_ok() {
                self.tail.iter_mut().for_each(|tail| tail.note(LOG_PAGES.get()));
                // Even if no caller waits.
                self.follower.reached(state.drain_reached());
                self.follower.notify(state.drain_changes());
            }
            batch.drain(..).for_each(|call| call.answer(outcome.clone()));
            committed?;
            bound_log(state.connection());
            if let Some(answer) = emptying {
                let _ = answer.send(self.empty_log(state));
            }
            if closing.is_some() {
                return Ok(closing);
            }
        }
    }

    /// Tries until the file works again; `None` when the store is closed meanwhile.
    fn come_back(&mut self) -> Option<S> {
        loop {
            let reason = match catch_unwind(|| reopen::<S>(&self.path)) {
                Ok(Ok(state)) => return Some(state),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "a panic while opening".to_owned(),
            };
            self.report.send_replace(Health::Down(reason.clone()));
            std::thread::sleep(COMEBACK);
            loop {
                match self.waiting.try_recv() {
                    Ok(Item::Call(call)) => call.answer(Err(StoreError::Unavailable(reason.clone()))),
                    Ok(Item::EmptyLog(answer)) => drop(answer.send(Err(StoreError::Unavailable(reason.clone())))),
                    Ok(Item::Close(done)) => {
                        let _ = done.send(());
                        return None;
                    }
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => return None,
                }
            }
        }
    }
}

/// Opens a file after a failure. Parts of the log may not be on disk although they were synced, so the whole log is checkpointed and
/// synced, and a test write must succeed.
fn reopen<S: Owned>(path: &Path) -> rusqlite::Result<S> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy != 0 {
        return Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(5), Some("readers are busy".to_owned())));
    }
    drop(connection);
    let state = S::open(path)?;
    state.connection().execute("CREATE TABLE IF NOT EXISTS probe (n integer NOT NULL) STRICT", [])?;
    state.connection().execute("INSERT OR REPLACE INTO probe (rowid, n) VALUES (1, 1)", [])?;
    Ok(state)
}

/// Runs the batch in one transaction. An error concerns the file: no call of the batch succeeded.
fn commit<S: Owned>(state: &mut S, batch: &mut [Box<dyn Call<S>>]) -> Result<(), String> {
    let run = || -> rusqlite::Result<()> {
        state.connection().prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        match batch.iter_mut().try_for_each(|call| call.run(state)) {
            Ok(()) => {}
            Err(error) if ends_the_batch(&error, state.connection()) => return Err(error),
            Err(_) => {
                state.connection().prepare_cached("ROLLBACK")?.execute([])?;
                state.rolled_back()?;
                state.connection().prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
                batch.iter_mut().try_for_each(|call| call.run_apart(state))?;
            }
        }
        state.connection().prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("a panic in a store operation".to_owned()),
    }
}

/// Makes SQLite report the log's length after each commit, instead of running automatic checkpoints.
fn watch_log(connection: &Connection) {
    LOG_PAGES.set(0);
    RESTART_NEXT.set(RESTART_AT);
    connection.wal_hook(Some(|_, pages| {
        LOG_PAGES.set(pages);
        Ok(())
    }));
}

/// Keeps the log short. Run after the answers, so that no caller waits for it. A failure costs only space: the log
/// still holds everything, and the next round tries again.
fn bound_log(connection: &Connection) {
    let pages = LOG_PAGES.get();
    if pages < CHECKPOINT_AT {
        return;
    }
    if pages < RESTART_AT {
        // The log has restarted: the blocking reader has ended.
        RESTART_NEXT.set(RESTART_AT);
    }
    let checkpoint = |sql| connection.query_row(sql, [], |row| row.get::<_, bool>(0));
    let done = if pages < RESTART_NEXT.get() {
        checkpoint("PRAGMA wal_checkpoint(passive)").map(drop)
    } else {
        restart_log(connection, pages, checkpoint)
    };
    match done {
        Ok(()) => LOG_PAGES.set(0),
        Err(error) => tracing::warn!(%error, "WAL checkpoint failed"),
    }
}

fn empty_log(connection: &Connection) -> Result<bool, StoreError> {
    let empty = || -> rusqlite::Result<bool> {
        connection.busy_timeout(RESTART_WAIT)?;
        let busy: rusqlite::Result<bool> =
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
        connection.busy_timeout(BUSY_TIMEOUT)?;
        LOG_PAGES.set(0);
        Ok(!busy?)
    };
    empty().map_err(|error| StoreError::Unavailable(error.to_string()))
}

fn restart_log(
    connection: &Connection,
    pages: i32,
    checkpoint: impl Fn(&'static str) -> rusqlite::Result<bool>,
) -> rusqlite::Result<()> {
    connection.busy_timeout(RESTART_WAIT)?;
    let busy = checkpoint("PRAGMA wal_checkpoint(restart)");
    connection.busy_timeout(BUSY_TIMEOUT)?;
    RESTART_NEXT.set(if busy? { pages.saturating_add(RESTART_AT / 4) } else { RESTART_AT });
    Ok(())
}

#[cfg(test)]
mod tests;
