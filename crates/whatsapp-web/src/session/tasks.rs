//! The tasks of one session. The library starts many and ends most of them; here they all end with the session.

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

/// A task ends at its next await; none takes this long to reach it.
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

    /// Runs until it is done or the session ends. A panic is the session's end and not the process's: see
    /// [`panicked`](Self::panicked).
    pub fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        // The tasks are counted where they run, and hold nothing that would keep the session alive.
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

    /// Comes back when a task has panicked. What the library holds may be half changed then: the session must go.
    pub async fn panicked(&self) {
        while !self.panicked.load(Ordering::Relaxed) {
            self.panic.notified().await;
        }
    }

    /// Ends them when dropped: for what may not come about.
    pub fn end_when_dropped(&self) -> DropGuard {
        self.end.clone().drop_guard()
    }

    /// Every task ends at its next await.
    pub fn end(&self) {
        self.end.cancel();
        self.running.close();
    }

    /// Comes back when none runs any more.
    pub async fn ended(&self) {
        if timeout(ENDING, self.running.wait()).await.is_err() {
            tracing::warn!(tasks = self.running.len(), "session tasks still running");
        }
    }
}

/// How the library starts its tasks.
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
            // A panic of the work is told to the library by the channel that the work did not answer on.
            let _ = tokio::task::spawn_blocking(work).await;
        })
    }

    fn yield_now(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        None
    }
}
