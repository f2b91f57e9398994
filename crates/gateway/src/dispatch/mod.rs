//! The dispatcher: one task for each channel that has open messages, and none for the others.
//!
//! [`Dispatcher::notify`] starts a task when a message was accepted, a state changed or the process started. The task ends
//! when the queue is empty. Until then it sleeps until a notification, or until the time that its last claim returned. It
//! reads nothing at fixed intervals, so an idle server does nothing.

mod backoff;
mod channel;
mod expired;
mod joins;
mod measure;
mod slots;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use recado_domain::channel::{ChannelKey, Epoch};
use recado_domain::clock::{Clock, Entropy};
use recado_providers::Drivers;
use recado_store::commits::{Change, Follow, Reached};
use recado_store::lease::{Leases, WakeReason, Waker};
use recado_store::{Health, Queue, StoreError};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::directory::Directory;

use expired::Expired;
use joins::Joins;

/// The most tasks that may use the store at once. Ten thousand channels that start together wait for each other, and do not
/// fill the store's queue, in which accepted messages wait as well.
const MAX_CONCURRENT_CLAIMS: usize = 512;

/// The state that the tasks of all channels share.
struct Shared {
    queue: Arc<dyn Queue>,
    /// Adds messages to their conversations while they are sent.
    joins: Arc<Joins>,
    /// Whether the store of the queue works.
    health: watch::Receiver<Health>,
    drivers: Arc<Drivers>,
    directory: Arc<Directory>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    channel_tasks: Mutex<HashMap<ChannelKey, Task>>,
    /// Whether the dispatcher sends. A command that only changes the store sends nothing.
    started: AtomicBool,
    claim_permits: Semaphore,
    /// The channels that this node owns.
    leases: Arc<Leases>,
    tasks: TaskTracker,
    /// The writing thread, which is outside of the runtime, starts tasks by this handle.
    runtime: Handle,
    stop: CancellationToken,
    /// Notified when a message was scheduled.
    scheduled: Notify,
    /// Notified when messages were marked as read.
    read: Notify,
    /// Expired messages that are not logged yet.
    expired: Expired,
}

/// The wake-up of a channel's task.
#[derive(Default)]
struct Signal {
    notify: Notify,
    /// Set with every notification. A task that is about to end checks this flag, because a notification may have come in
    /// between.
    pending: AtomicBool,
    /// Set while a waiting message blocks all messages behind it. Messages accepted meanwhile need not wake the task.
    holds_all: AtomicBool,
}

struct Task {
    signal: Arc<Signal>,
    /// The epoch under which the task works.
    epoch: Epoch,
    abort: AbortHandle,
    /// Cancelled when the task must claim nothing more.
    stop: CancellationToken,
    /// Cancelled when the task has ended for any reason.
    ended: CancellationToken,
}

/// Sends queued messages.
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
        let (channel_tasks, started) = (Mutex::default(), AtomicBool::new(false));
        let (claim_permits, tasks, stop) =
            (Semaphore::new(MAX_CONCURRENT_CLAIMS), TaskTracker::new(), CancellationToken::new());
        let runtime = Handle::current();
        let shared = Shared {
            joins: Arc::new(Joins::new(queue.clone(), clock.clone(), directory.clone())),
            queue,
            health,
            drivers,
            directory,
            clock,
            entropy,
            channel_tasks,
            started,
            claim_permits,
            leases,
            tasks,
            runtime,
            stop,
            scheduled: Notify::new(),
            read: Notify::new(),
            expired: Expired::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Wakes the channels that an earlier run left with open messages, or with unknown ones that may be sent again. A node
    /// in a cluster instead wakes a channel when it acquires the channel.
    pub async fn start(&self) -> Result<(), StoreError> {
        self.shared.started.store(true, Ordering::Release);
        if !self.shared.leases.is_standalone() {
            return Ok(());
        }
        self.wake_all().await
    }

    /// Wakes every channel that has open messages, or unknown ones that may be sent again.
    pub async fn wake_all(&self) -> Result<(), StoreError> {
        self.shared.queue.open_channels().await?.into_iter().for_each(|channel| self.wake(channel));
        let channels = self.shared.directory.channels();
        let resend = channels.iter().filter(|entry| entry.settings().resend_after().is_some());
        resend.for_each(|entry| self.wake(entry.via.key));
        self.shared.scheduled.notify_one();
        Ok(())
    }

    /// Wakes the task of a channel that may have work, on this node or on the owner.
    pub fn wake(&self, channel: ChannelKey) {
        self.notify(channel, WakeReason::Changed);
    }

    /// Waits until a message was scheduled.
    pub async fn scheduled(&self) {
        self.shared.scheduled.notified().await;
    }

    /// Waits until messages were marked as read.
    pub async fn messages_read(&self) {
        self.shared.read.notified().await;
    }

    /// Logs that messages expired, until the server stops.
    pub async fn log_expired(&self, stop: &CancellationToken) {
        self.shared.expired.log(stop).await;
    }

    /// The channels that this process owns.
    pub fn owned(&self) -> Vec<ChannelKey> {
        self.shared.leases.held()
    }

    /// As [`Self::wake`], with the reason.
    pub fn notify(&self, channel: ChannelKey, reason: WakeReason) {
        let mut channel_tasks = self.shared.channel_tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // Check the lease under this lock: releasing a channel also acquires the lock, and stops the task that it finds.
        let Some(epoch) = self.shared.leases.epoch(channel) else {
            return self.shared.leases.notify_owner(channel, reason);
        };
        if !self.shared.started.load(Ordering::Acquire) || self.shared.stop.is_cancelled() {
            return;
        }
        // A task that ended without removing itself was aborted, and a task of another epoch can do nothing more. A new task
        // replaces it.
        let task = channel_tasks.entry(channel).and_modify(|task| {
            if task.abort.is_finished() || task.epoch != epoch {
                task.abort.abort();
                *task = self.shared.clone().task(channel, epoch);
            }
        });
        let signal = &task.or_insert_with(|| self.shared.clone().task(channel, epoch)).signal;
        if reason == WakeReason::Accepted && signal.holds_all.load(Ordering::Acquire) {
            return;
        }
        signal.pending.store(true, Ordering::Release);
        signal.notify.notify_one();
    }

    /// Wakes the channel unless it has a task. A task plans its next poll itself.
    pub fn wake_if_idle(&self, channel: ChannelKey) {
        if !self.works_on(channel) {
            self.wake(channel);
        }
    }

    /// Whether the channel has a task.
    pub fn works_on(&self, channel: ChannelKey) -> bool {
        let channel_tasks = self.shared.channel_tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let epoch = self.shared.leases.epoch(channel);
        channel_tasks.get(&channel).is_some_and(|task| !task.abort.is_finished() && Some(task.epoch) == epoch)
    }

    /// Whether a channel of this process has no task. Its open messages would then wait for ever.
    pub fn lacks_task(&self, channel: ChannelKey) -> bool {
        let entry = self.shared.directory.channel(channel);
        self.shared.started.load(Ordering::Acquire)
            && self.shared.leases.epoch(channel).is_some()
            && entry.is_some_and(|entry| self.shared.drivers.of(entry.kind).is_some())
            && !self.works_on(channel)
    }

    /// Stops claims for a channel that is being released, and waits until its messages in flight are sent and recorded.
    pub async fn drain_channel(&self, channel: ChannelKey) {
        // The task stays in the map until it has ended, so that it can be aborted if the channel is lost meanwhile.
        let ended = {
            let channel_tasks = self.shared.channel_tasks.lock().unwrap_or_else(PoisonError::into_inner);
            channel_tasks.get(&channel).map(|task| {
                task.stop.cancel();
                task.ended.clone()
            })
        };
        if let Some(ended) = ended {
            ended.cancelled().await;
        }
    }

    /// Aborts the tasks of channels that this node lost.
    pub fn drop_all(&self, channels: &[ChannelKey]) {
        let mut channel_tasks = self.shared.channel_tasks.lock().unwrap_or_else(PoisonError::into_inner);
        for task in channels.iter().filter_map(|channel| channel_tasks.remove(channel)) {
            task.abort.abort();
        }
    }

    /// Stops claims, and waits until the messages in flight are sent and recorded.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

/// The directory applies a change before a task is woken, so the task works with what was committed.
impl Follow for Dispatcher {
    fn measured(&self, time: Duration, calls: usize) {
        measure::committed(time, calls);
    }

    fn reopened(&self) {
        measure::reopened();
    }

    fn reached(&self, reached: Vec<Reached>) {
        let expired = measure::reached(&reached, &self.shared.directory, self.shared.clock.now());
        if expired > 0 {
            self.shared.expired.add(expired);
        }
    }

    fn committed(&self, changes: Vec<Change>) {
        let directory = &self.shared.directory;
        for change in changes {
            match change {
                Change::Accepted(channel) => self.notify(channel, WakeReason::Accepted),
                // The media worker follows this change.
                Change::Files(..) => {}
                Change::Scheduled => self.shared.scheduled.notify_one(),
                Change::Read => self.shared.read.notify_one(),
                Change::Work(channel) => self.notify(channel, WakeReason::Changed),
                Change::DefaultCountry(institution, country) => directory.set_default_country(institution, country),
                Change::Key(key) => directory.update_key(*key),
                Change::Revoked(id) => directory.revoke(id),
                Change::Channel(channel) => {
                    directory.add_channel(&channel);
                    self.notify(channel.key, WakeReason::Changed);
                }
            }
        }
    }
}

impl Waker for Dispatcher {
    fn wake(&self, channel: ChannelKey) {
        self.notify(channel, WakeReason::Changed);
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

    /// Removes a task that has ended, unless another one has replaced it.
    fn remove(&self, channel: ChannelKey, signal: &Arc<Signal>) {
        let mut channel_tasks = self.channel_tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if channel_tasks.get(&channel).is_some_and(|task| Arc::ptr_eq(&task.signal, signal)) {
            channel_tasks.remove(&channel);
        }
    }

    /// Removes the task of a channel, unless it was notified meanwhile.
    fn end_if_idle(&self, channel: ChannelKey, signal: &Arc<Signal>) -> bool {
        let mut channel_tasks = self.channel_tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock that `wake` acquires: a notification is either seen here or starts a new task.
        let quiet = !signal.pending.load(Ordering::Acquire);
        // Another task may have replaced an aborted one.
        if quiet && channel_tasks.get(&channel).is_some_and(|task| Arc::ptr_eq(&task.signal, signal)) {
            channel_tasks.remove(&channel);
        }
        quiet
    }
}

#[cfg(test)]
mod tests;
