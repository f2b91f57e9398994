//! Work of the library that must end in time, whatever it does.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    #[error("no answer in {} seconds", .0.as_secs())]
    InTime(Duration),
    #[error("the library panicked")]
    Panic,
}

/// Runs the work in a task of its own, so that a panic stays there; the task has ended when the time is over, and ends
/// when the caller goes away.
pub async fn within<T: Send + 'static>(
    limit: Duration,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, NoAnswer> {
    let mut task = JoinSet::new();
    task.spawn(work);
    match timeout(limit, task.join_next()).await {
        Err(_) => {
            // It has ended when this returns: what it has not done by now, it does not do.
            task.shutdown().await;
            Err(NoAnswer::InTime(limit))
        }
        Ok(Some(Ok(answer))) => Ok(answer),
        Ok(_) => Err(NoAnswer::Panic),
    }
}
