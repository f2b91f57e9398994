//! Runs the library's work with a time limit.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

/// Why the work has no result.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    #[error("no answer in {} seconds", .0.as_secs())]
    InTime(Duration),
    #[error("the library panicked")]
    Panic,
}

/// Runs the work in its own task, so that a panic does not spread. The task is aborted at the time limit, and when the
/// caller is dropped.
pub async fn within<T: Send + 'static>(
    limit: Duration,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, NoAnswer> {
    let mut task = JoinSet::new();
    task.spawn(work);
    match timeout(limit, task.join_next()).await {
        Err(_) => {
            // The task has ended when this returns, so the work has no later effect.
            task.shutdown().await;
            Err(NoAnswer::InTime(limit))
        }
        Ok(Some(Ok(answer))) => Ok(answer),
        Ok(_) => Err(NoAnswer::Panic),
    }
}
