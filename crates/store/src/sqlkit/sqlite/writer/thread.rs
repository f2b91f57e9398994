//! The thread: it commits batches of calls, and reopens the file after a failure.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::log::{LOG_PAGES, bound_log, empty_log, watch_log};
use super::{Call, Item, Owned, ends_the_batch};
use crate::commits::Follower;
use crate::sqlkit::sqlite::tail::Tail;
use crate::{Health, StoreError};

/// The most calls in one commit.
const BATCH: usize = 512;

/// The pause between two attempts to reopen the file.
const COMEBACK: Duration = Duration::from_millis(500);

pub(super) struct Thread<S> {
    pub(super) path: PathBuf,
    pub(super) waiting: mpsc::Receiver<Item<S>>,
    pub(super) report: watch::Sender<Health>,
    pub(super) follower: Follower,
    pub(super) tail: Option<Tail>,
}

impl<S: Owned> Thread<S> {
    pub(super) fn run(mut self, mut state: S) {
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
            self.follower.reopened();
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
