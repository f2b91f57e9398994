//! The dispatcher: one task for each channel that has open messages, and nothing at all for the others.
//!
//! A task is started by [`Dispatcher::wake`] when a message was accepted, a state changed or the process started, and
//! ends when its line is empty. It waits for a notice or a stored time, never by looking around, so an idle server
//! does nothing.

mod back_off;
mod channel;
mod turn;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use recado_domain::channel::{ChannelKey, Epoch};
use recado_domain::clock::{Clock, Entropy};
use recado_providers::Drivers;
use recado_store::commits::{Change, Follow};
use recado_store::lease::{Leases, WakeReason, Waker};
use recado_store::{Health, Queue, StoreError};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::directory::Directory;

/// Tasks that may ask the store for something at a time. Ten thousand channels that start together wait for each other,
/// instead of filling the store's queue, in which accepted messages wait as well.
const TURNS: usize = 512;

/// What the tasks of all channels share.
struct Shared {
    queue: Arc<dyn Queue>,
    /// Whether the store of the queue works.
    health: watch::Receiver<Health>,
    drivers: Arc<Drivers>,
    directory: Arc<Directory>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    lines: Mutex<HashMap<ChannelKey, Task>>,
    /// Whether anything is sent at all: a command that only changes the store sends nothing.
    started: AtomicBool,
    turns: Semaphore,
    /// Which channels are this node's.
    leases: Arc<Leases>,
    tasks: TaskTracker,
    /// Tasks are started by whoever committed, also by threads outside the runtime.
    runtime: Handle,
    stop: CancellationToken,
    /// A message was scheduled.
    scheduled: Notify,
}

/// How a channel's task hears that there is something new.
#[derive(Default)]
struct Signal {
    notify: Notify,
    /// Set with every notice: a task that is about to end looks here, because a notice may have come in between.
    news: AtomicBool,
    /// A message waits that holds all behind it: of what is accepted meanwhile the task need not hear.
    holds_all: AtomicBool,
}

struct Task {
    signal: Arc<Signal>,
    /// Under which it works.
    epoch: Epoch,
    abort: AbortHandle,
    /// Has it claim nothing more.
    stop: CancellationToken,
    /// Set when it is over, however that came.
    ended: CancellationToken,
}

/// Sends what is queued.
#[derive(Clone)]
pub struct Dispatcher {
    shared: Arc<Shared>,
}

impl Dispatcher {
    /// A dispatcher that does nothing until it is woken.
    pub fn new(
        (queue, health): (Arc<dyn Queue>, watch::Receiver<Health>),
        drivers: Arc<Drivers>,
        directory: Arc<Directory>,
        (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>),
        leases: Arc<Leases>,
    ) -> Self {
        let (lines, started) = (Mutex::default(), AtomicBool::new(false));
        let (turns, tasks, stop) = (Semaphore::new(TURNS), TaskTracker::new(), CancellationToken::new());
        let runtime = Handle::current();
        let shared = Shared {
            queue,
            health,
            drivers,
            directory,
            clock,
            entropy,
            lines,
            started,
            turns,
            leases,
            tasks,
            runtime,
            stop,
            scheduled: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Takes up what an earlier run left: every channel that has open messages, or may send unknown ones again. One node
    /// among others takes a channel up when it gets it.
    pub async fn start(&self) -> Result<(), StoreError> {
        self.shared.started.store(true, Ordering::Release);
        if !self.shared.leases.is_standalone() {
            return Ok(());
        }
        self.wake_all().await
    }

    /// Wakes every channel that has open messages, or may send unknown ones again.
    pub async fn wake_all(&self) -> Result<(), StoreError> {
        self.shared.queue.open_channels().await?.into_iter().for_each(|channel| self.wake(channel));
        let channels = self.shared.directory.channels();
        let resend = channels.iter().filter(|entry| entry.settings().resend_after().is_some());
        resend.for_each(|entry| self.wake(entry.via.key));
        self.shared.scheduled.notify_one();
        Ok(())
    }

    /// Says that a channel may have something to do, here or at the node that holds it.
    pub fn wake(&self, channel: ChannelKey) {
        self.tell(channel, WakeReason::Changed);
    }

    /// Until a message was scheduled.
    pub async fn scheduled(&self) {
        self.shared.scheduled.notified().await;
    }

    /// The same, with the reason.
    pub fn tell(&self, channel: ChannelKey, news: WakeReason) {
        let mut lines = self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner);
        // Under this lock: whoever gives the channel back ends the task that he then finds.
        let Some(epoch) = self.shared.leases.epoch(channel) else {
            return self.shared.leases.notify_owner(channel, news);
        };
        if !self.shared.started.load(Ordering::Acquire) || self.shared.stop.is_cancelled() {
            return;
        }
        // A task that ended without saying so broke off, and one of another epoch can do nothing more; a new one takes its
        // place.
        let task = lines.entry(channel).and_modify(|task| {
            if task.abort.is_finished() || task.epoch != epoch {
                task.abort.abort();
                *task = self.shared.clone().task(channel, epoch);
            }
        });
        let signal = &task.or_insert_with(|| self.shared.clone().task(channel, epoch)).signal;
        if news == WakeReason::Accepted && signal.holds_all.load(Ordering::Acquire) {
            return;
        }
        signal.news.store(true, Ordering::Release);
        signal.notify.notify_one();
    }

    /// The same where no task works on the channel; one that does knows when to look.
    pub fn wake_if_idle(&self, channel: ChannelKey) {
        if !self.works_on(channel) {
            self.wake(channel);
        }
    }

    /// Whether a task works on the channel.
    pub fn works_on(&self, channel: ChannelKey) -> bool {
        let lines = self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let epoch = self.shared.leases.epoch(channel);
        lines.get(&channel).is_some_and(|task| !task.abort.is_finished() && Some(task.epoch) == epoch)
    }

    /// Whether a channel that this process sends for has no task. Its open messages then wait for nothing.
    pub fn lacks_task(&self, channel: ChannelKey) -> bool {
        let entry = self.shared.directory.channel(channel);
        self.shared.started.load(Ordering::Acquire)
            && self.shared.leases.epoch(channel).is_some()
            && entry.is_some_and(|entry| self.shared.drivers.of(entry.kind).is_some())
            && !self.works_on(channel)
    }

    /// Claims nothing more of a channel that is no longer held, and waits until what is in hand was sent and recorded.
    pub async fn let_go(&self, channel: ChannelKey) {
        // It stays among the tasks until it has ended: should the channel be lost meanwhile, it is broken off.
        let ended = {
            let lines = self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.get(&channel).map(|task| {
                task.stop.cancel();
                task.ended.clone()
            })
        };
        if let Some(ended) = ended {
            ended.cancelled().await;
        }
    }

    /// Breaks off what is done for channels that were lost: it is another node's now.
    pub fn drop_all(&self, channels: &[ChannelKey]) {
        let mut lines = self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner);
        for task in channels.iter().filter_map(|channel| lines.remove(channel)) {
            task.abort.abort();
        }
    }

    /// Claims nothing more, and waits until what is in hand was sent and recorded.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

/// The directory takes a change over before a task is woken: the task works by what was committed.
impl Follow for Dispatcher {
    fn committed(&self, changes: Vec<Change>) {
        let directory = &self.shared.directory;
        for change in changes {
            match change {
                Change::Accepted(channel) => self.tell(channel, WakeReason::Accepted),
                Change::Scheduled => self.shared.scheduled.notify_one(),
                Change::Work(channel) => self.tell(channel, WakeReason::Changed),
                Change::DefaultCountry(institution, country) => directory.set_default_country(institution, country),
                Change::Key(key) => directory.take_key(*key),
                Change::Revoked(id) => directory.revoke(id),
                Change::Channel(channel) => {
                    directory.add_channel(&channel);
                    self.tell(channel.key, WakeReason::Changed);
                }
            }
        }
    }
}

impl Waker for Dispatcher {
    fn wake(&self, channel: ChannelKey) {
        self.tell(channel, WakeReason::Changed);
    }
}

impl Shared {
    fn task(self: Arc<Self>, channel: ChannelKey, epoch: Epoch) -> Task {
        let (signal, stop) = (Arc::new(Signal::default()), self.stop.child_token());
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        let run = channel::run(self.clone(), (channel, epoch), signal.clone(), stop.clone());
        let (shared, own) = (self.clone(), signal.clone());
        let run = async move {
            let _end = end;
            run.await;
            shared.remove(channel, &own);
        };
        Task { signal, epoch, abort: self.tasks.spawn_on(run, &self.runtime).abort_handle(), stop, ended }
    }

    /// Takes a task out that is over, unless another has its place.
    fn remove(&self, channel: ChannelKey, signal: &Arc<Signal>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.get(&channel).is_some_and(|task| Arc::ptr_eq(&task.signal, signal)) {
            lines.remove(&channel);
        }
    }

    /// Ends a channel's task, unless there was news meanwhile.
    fn retire(&self, channel: ChannelKey, signal: &Arc<Signal>) -> bool {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock that `wake` takes: news either is seen here or starts a new task.
        let quiet = !signal.news.load(Ordering::Acquire);
        // One that was broken off has given its place up, perhaps to another.
        if quiet && lines.get(&channel).is_some_and(|task| Arc::ptr_eq(&task.signal, signal)) {
            lines.remove(&channel);
        }
        quiet
    }
}

#[cfg(test)]
mod tests;
