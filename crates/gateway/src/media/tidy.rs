//! Deletes the bytes of files that were not read for some time, of erased messages, and bytes without a row: of purged
//! messages, and of a crash between a file's name and its row.

use std::collections::HashSet;
use std::time::Duration;

use recado_domain::clock::millis;
use recado_domain::ids::MediaId;

use super::{Fault, MediaFiles};

/// Files that are looked up at once.
pub const AT_ONCE: usize = 100;

impl MediaFiles {
    /// Deletes the bytes of files that were not read for this time, and bytes that are left over.
    pub async fn purge(&self, keep: Duration) -> Result<(), Fault> {
        let before = self.clock.now() - millis(keep);
        while self.store.release_media(before).await? > 0 {}
        self.delete_left_over().await
    }

    /// Deletes the bytes of files whose rows were deleted, also of those that are being downloaded.
    pub async fn delete(&self, ids: Vec<MediaId>) -> Result<(), Fault> {
        for id in &ids {
            self.downloads.stop(*id);
        }
        Ok(self.directory.run(move |disk| ids.iter().try_for_each(|id| disk.delete(*id))).await?)
    }

    /// Deletes the bytes of every file whose row is not there, or does not say that they are stored.
    async fn delete_left_over(&self) -> Result<(), Fault> {
        for files in self.directory.run(|disk| disk.files()).await?.chunks(AT_ONCE) {
            let ids: Vec<_> = files.iter().map(|(id, _)| *id).collect();
            let stored = self.store.stored_files(ids.clone()).await?;
            let stored: HashSet<_> = stored.into_iter().map(|file| file.id).collect();
            for id in ids.into_iter().filter(|id| !stored.contains(id)) {
                self.delete_if_left_over(id).await?;
            }
        }
        Ok(())
    }

    /// Deletes the bytes of a file, unless its row says that they are stored.
    pub(super) async fn delete_if_left_over(&self, id: MediaId) -> Result<(), Fault> {
        // The file does not get its name meanwhile, so its row is not read too early.
        let _naming = self.naming_of(id).lock().await;
        if self.store.stored_files(vec![id]).await?.is_empty() {
            self.directory.run(move |disk| disk.delete(id)).await?;
        }
        Ok(())
    }
}
