//! The tasks of one session. The library starts many tasks and ends most of them; here all of them end with the session.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use whatsapp_rust::Runtime;
use whatsapp_rust::async_trait;
use whatsapp_rust::futures::FutureExt;
use whatsapp_rust::wacore::runtime::AbortHandle;

/// A task ends at its next await, which it reaches sooner than this.
const ENDING: Duration = Duration::from_secs(4);

pub struct Tasks {
    running: TaskTracker,
    end: CancellationToken,
    panicked: AtomicBool,
    panic: Notify,
}

impl Tasks {
    pub fn new() -> Self {
        Self {
            running: TaskTracker::new(),
            end: CancellationToken::new(),
            panicked: AtomicBool::new(false),
            panic: Notify::new(),
        }
    }

    /// Runs the task until it is done or the session ends. A panic ends the session and not the process: see
    /// [`panicked`](Self::panicked).
    pub fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        // A running task holds only the counter, and nothing that would keep the session alive.
        let this = Arc::clone(self);
        self.running.spawn(async move {
            let task = AssertUnwindSafe(task).catch_unwind();
            let done = this.end.run_until_cancelled(task).await;
            if matches!(done, Some(Err(_))) {
                this.panicked.store(true, Ordering::Relaxed);
                this.panic.notify_one();
            }
        })
    }

    /// Returns when a task has panicked. The library's state may be inconsistent then, so the session must end.
    pub async fn panicked(&self) {
        while !self.panicked.load(Ordering::Relaxed) {
            self.panic.notified().await;
        }
    }

    /// Ends the tasks when the guard is dropped, for a session that may fail to open.
    pub fn end_when_dropped(&self) -> DropGuard {
        self.end.clone().drop_guard()
    }

    /// Ends every task at its next await.
    pub fn end(&self) {
        self.end.cancel();
        self.running.close();
    }

    /// Returns when no task is running.
    pub async fn ended(&self) {
        if timeout(ENDING, self.running.wait()).await.is_err() {
            tracing::warn!(tasks = self.running.len(), "session tasks still running");
        }
    }
}

/// Starts the library's tasks.
pub struct Spawner(pub Arc<Tasks>);

#[async_trait]
impl Runtime for Spawner {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send + 'static>>) -> AbortHandle {
        let handle = self.0.spawn(task);
        AbortHandle::new(move || handle.abort())
    }

    fn spawn_detached(&self, task: Pin<Box<dyn Future<Output = ()> + Send + 'static>>) {
        self.0.spawn(task);
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(sleep(duration))
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send + 'static>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async {
            // The library notices a panic by the channel on which the work did not answer.
            let _ = tokio::task::spawn_blocking(work).await;
        })
    }

    fn yield_now(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        None
    }
}
