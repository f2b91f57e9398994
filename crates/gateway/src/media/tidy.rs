//! Deletes the bytes of files that were not read for some time, and bytes without a row: of erased and purged messages, and
//! of a crash between a file's name and its row.

use std::sync::Arc;
use std::time::Duration;

use recado_domain::clock::millis;
use tokio_util::sync::CancellationToken;

use super::{Fault, MediaFiles};

/// Files that are looked up at once.
const AT_ONCE: usize = 100;

/// The least time between two searches for bytes that are left over. A search looks at every file.
const APART: Duration = Duration::from_mins(1);

/// Deletes what is left over, soon after it is asked for, until the server stops.
pub async fn run(files: Arc<MediaFiles>, stop: CancellationToken) {
    while stop.run_until_cancelled(files.untidy.notified()).await.is_some() {
        if let Err(fault) = files.delete_left_over().await {
            tracing::warn!(?fault, "purge of media failed; the next purge continues");
        }
        stop.run_until_cancelled(tokio::time::sleep(APART)).await;
    }
}

impl MediaFiles {
    /// Has bytes without a row deleted soon.
    pub fn tidy_soon(&self) {
        self.untidy.notify_one();
    }

    /// Deletes the bytes of files that were not read for this time, and bytes that are left over.
    pub async fn purge(&self, keep: Duration) -> Result<(), Fault> {
        let before = self.clock.now() - millis(keep);
        while self.store.release_media(before).await? > 0 {}
        self.delete_left_over().await
    }

    /// Deletes the bytes of every file whose row is not there, or does not say that they are stored.
    pub async fn delete_left_over(&self) -> Result<(), Fault> {
        let _tidying = self.tidying.lock().await;
        for ids in self.directory.ids()?.chunks(AT_ONCE) {
            // No file gets its name meanwhile, so that its row is not read too early.
            let _alone = self.naming.write().await;
            let stored = self.store.stored_media(ids.to_vec()).await?;
            for id in ids.iter().filter(|id| !stored.contains(id)) {
                self.directory.delete(*id)?;
            }
        }
        Ok(())
    }
}
