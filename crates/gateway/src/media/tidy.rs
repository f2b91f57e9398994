//! Deletes the bytes of files that were not read for some time, and bytes without a row: of erased and purged messages, and
//! of a crash between a file's name and its row.

use std::time::Duration;

use recado_domain::clock::millis;

use super::{Fault, MediaFiles};

/// Files that are looked up at once.
const AT_ONCE: usize = 100;

impl MediaFiles {
    /// Deletes the bytes of files that were not read for this time, and bytes that are left over.
    pub async fn purge(&self, keep: Duration) -> Result<(), Fault> {
        let before = self.clock.now() - millis(keep);
        while self.store.release_media(before).await? > 0 {}
        self.delete_left_over().await
    }

    /// Deletes the bytes of every file whose row is not there, or does not say that they are stored.
    pub async fn delete_left_over(&self) -> Result<(), Fault> {
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
