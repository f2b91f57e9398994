//! The dispatcher: one task for each channel that has open messages, and nothing at all for the others.
//!
//! A task is started by [`Dispatcher::wake`] when a message was accepted, a state changed or the process started, and
//! ends when its line is empty. It waits for a notice or a stored time, never by looking around, so an idle server
//! does nothing.

mod channel;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, Entropy};
use crate::directory::Directory;
use crate::provider::Providers;
use crate::store::Store;
use crate::store::rows::{ChannelKey, StoreError};

/// Tasks that may ask the store for something at a time. Ten thousand channels that start together wait for each other,
/// instead of filling the store's queue, in which accepted messages wait as well.
const TURNS: usize = 512;

/// What the tasks of all channels share.
struct Shared {
    store: Arc<dyn Store>,
    providers: Arc<Providers>,
    directory: Arc<Directory>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    lines: Mutex<HashMap<ChannelKey, Task>>,
    /// Whether anything is sent at all: a command that only changes the store sends nothing.
    started: AtomicBool,
    turns: Semaphore,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// How a channel's task hears that there is something new.
#[derive(Default)]
struct Signal {
    notify: Notify,
    /// Set with every notice: a task that is about to end looks here, because a notice may have come in between.
    news: AtomicBool,
}

struct Task {
    signal: Arc<Signal>,
    handle: JoinHandle<()>,
}

/// Sends what is queued.
#[derive(Clone)]
pub struct Dispatcher {
    shared: Arc<Shared>,
}

impl Dispatcher {
    /// A dispatcher that does nothing until it is woken.
    pub fn new(
        store: Arc<dyn Store>,
        providers: Arc<Providers>,
        directory: Arc<Directory>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let (lines, started) = (Mutex::default(), AtomicBool::new(false));
        let (turns, tasks, stop) = (Semaphore::new(TURNS), TaskTracker::new(), CancellationToken::new());
        let shared = Shared { store, providers, directory, clock, entropy, lines, started, turns, tasks, stop };
        Self { shared: Arc::new(shared) }
    }

    /// Takes up what an earlier run left: every channel that has open messages, or may send unknown ones again.
    pub async fn start(&self) -> Result<(), StoreError> {
        self.shared.started.store(true, Ordering::Release);
        self.shared.store.open_channels().await?.into_iter().for_each(|channel| self.wake(channel));
        let channels = self.shared.directory.channels();
        let resend = channels.iter().filter(|entry| entry.settings().resend_after().is_some());
        resend.for_each(|entry| self.wake(entry.via.key));
        Ok(())
    }

    /// Says that a channel may have something to do.
    pub fn wake(&self, channel: ChannelKey) {
        if !self.shared.started.load(Ordering::Acquire) || self.shared.stop.is_cancelled() {
            return;
        }
        let mut lines = self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner);
        // A task that ended without saying so broke off; a new one takes its place.
        let task = lines.entry(channel).and_modify(|task| {
            if task.handle.is_finished() {
                *task = self.shared.clone().task(channel);
            }
        });
        let signal = &task.or_insert_with(|| self.shared.clone().task(channel)).signal;
        signal.news.store(true, Ordering::Release);
        signal.notify.notify_one();
    }

    /// Claims nothing more, and waits until what is in hand was sent and recorded.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Shared {
    fn task(self: Arc<Self>, channel: ChannelKey) -> Task {
        let signal = Arc::new(Signal::default());
        let handle = self.tasks.spawn(channel::run(self.clone(), channel, signal.clone()));
        Task { signal, handle }
    }

    /// Ends a channel's task, unless there was news meanwhile.
    fn retire(&self, channel: ChannelKey, signal: &Signal) -> bool {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock that `wake` takes: news either is seen here or starts a new task.
        let quiet = !signal.news.load(Ordering::Acquire);
        if quiet {
            lines.remove(&channel);
        }
        quiet
    }
}

#[cfg(test)]
mod tests;
