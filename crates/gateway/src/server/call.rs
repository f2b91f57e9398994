//! A call, which survives its connection.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// Runs in the task of its connection. If the connection ends first, the work continues in its own task, so that everything that
/// must follow a commit is done.
pub struct Call<T: Send + 'static> {
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    /// Tracks the work, wherever it runs.
    tracker: TaskTracker,
}

impl<T: Send + 'static> Call<T> {
    pub fn new(work: impl Future<Output = T> + Send + 'static, tracker: TaskTracker) -> Self {
        Self { work: Some(Box::pin(work)), tracker }
    }
}

impl<T: Send + 'static> Future for Call<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Work that has panicked or ended is not polled again.
        let Some(mut work) = self.work.take() else { return Poll::Pending };
        let polled = work.as_mut().poll(cx);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Call<T> {
    fn drop(&mut self) {
        // Without a runtime the process is ending, and continues from the store at its next start.
        if let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) {
            self.tracker.spawn_on(work, &runtime);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn work_continues_after_its_connection_ends_and_is_awaited() {
        let (tracker, go, done) = (TaskTracker::new(), Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let (may_go, counted) = (go.clone(), done.clone());
        let work = async move {
            drop(may_go.acquire().await);
            counted.fetch_add(1, Ordering::SeqCst);
        };
        let connection = tokio::spawn(Call::new(work, tracker.clone()));
        tokio::task::yield_now().await;
        connection.abort();
        assert!(connection.await.expect_err("it was ended").is_cancelled());
        assert_eq!((done.load(Ordering::SeqCst), tracker.len()), (0, 1), "the work continues in its own task");
        tracker.close();
        go.add_permits(1);
        tokio::time::timeout(Duration::from_mins(1), tracker.wait()).await.expect("the work to end");
        assert_eq!(done.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn work_that_panics_is_not_polled_again() {
        let tracker = TaskTracker::new();
        let connection = tokio::spawn(Call::<()>::new(async { panic!("on purpose") }, tracker.clone()));
        assert!(connection.await.expect_err("a panic").is_panic());
        assert!(tracker.is_empty());
    }
}
