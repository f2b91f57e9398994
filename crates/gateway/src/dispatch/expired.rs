//! Logs that messages expired: many may expire at once, after a long pause or with a wrong clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How long expired messages are counted together.
const GATHER: Duration = Duration::from_secs(1);
/// The shortest time between two lines.
const PAUSE: Duration = Duration::from_mins(1);

/// Expired messages that are not logged yet.
#[derive(Default)]
pub struct Expired {
    count: AtomicU64,
    some: Notify,
}

impl Expired {
    pub fn add(&self, count: u64) {
        self.count.fetch_add(count, Ordering::Relaxed);
        self.some.notify_one();
    }

    /// Logs them until the server stops.
    pub async fn log(&self, stop: &CancellationToken) {
        let work = async {
            loop {
                self.some.notified().await;
                tokio::time::sleep(GATHER).await;
                self.write();
                tokio::time::sleep(PAUSE).await;
            }
        };
        stop.run_until_cancelled(work).await;
        self.write();
    }

    fn write(&self) {
        let messages = self.count.swap(0, Ordering::Relaxed);
        if messages > 0 {
            tracing::warn!(messages, "messages expired: not sent before the end of their time to live");
        }
    }
}
