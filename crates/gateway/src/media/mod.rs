//! The bytes of received files: fetched from the network when a caller wants them, stored, and deleted when no caller has
//! read them for some time.
//!
//! | File | |
//! |---|---|
//! | `files` | the directory of the bytes |
//! | `downloads` | which downloads wait and run |
//! | `download` | one download, which all its readers follow |
//! | `pace` | how slow a download may be |
//! | `eager` | fetches files before a caller wants them |
//! | `reader` | reads the bytes, also while they arrive |
//! | `tidy` | deletes what is not needed any more |
//!
//! Each node has the files that it fetched in its own data directory. Another node fetches them again.

mod download;
mod downloads;
pub mod eager;
mod files;
mod pace;
mod reader;
pub mod tidy;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use recado_domain::clock::{Clock, Millis};
use recado_domain::event::Owner;
use recado_domain::ids::MediaId;
use recado_domain::incoming::{Media, MediaState};
use recado_providers::Drivers;
use recado_providers::media::MediaError;
pub use recado_providers::media::SIZE_LIMIT;
use recado_store::{Store, StoreError};
use tokio::sync::{Notify, RwLock, watch};
use tokio::time::timeout;

use crate::directory;
use download::Progress;
pub use downloads::DOWNLOADS;
use downloads::Downloads;
pub use files::DIRECTORY;
use files::Directory;
pub use reader::{Content, Part};

/// How long a caller waits for the first byte.
const FIRST_BYTE: Duration = Duration::from_secs(15);
/// A use of a file is recorded at most this often.
const USE_RECORDED: Millis = 60 * 60 * 1_000;

/// Why a caller gets no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The file was deleted meanwhile.
    NotFound,
    Gone,
    TooLarge,
    NotConnected,
    /// The network does not deliver it now.
    Unavailable,
    /// The disk has no room.
    Full,
    /// The store or the disk does not work.
    Broken,
}

impl From<MediaError> for Fault {
    fn from(error: MediaError) -> Self {
        match error {
            MediaError::Gone => Self::Gone,
            MediaError::TooLarge => Self::TooLarge,
            MediaError::NotConnected => Self::NotConnected,
            MediaError::Unavailable(_) => Self::Unavailable,
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "media not read or recorded");
        Self::Broken
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        tracing::warn!(%error, "media file not read or written");
        if matches!(error.kind(), StorageFull | QuotaExceeded) { Self::Full } else { Self::Broken }
    }
}

/// The files of received messages on this node.
pub struct MediaFiles {
    store: Arc<dyn Store>,
    drivers: Arc<Drivers>,
    channels: Arc<directory::Directory>,
    clock: Arc<dyn Clock>,
    directory: Directory,
    /// Whether other nodes may have files that this one does not have.
    is_shared: bool,
    downloads: Downloads,
    /// Held shared while a file gets its name and its row the state, and alone while left-over files are deleted.
    naming: RwLock<()>,
    /// Notified when there may be bytes without a row.
    untidy: Notify,
    /// Held while left-over files are searched, which is done once at a time.
    tidying: tokio::sync::Mutex<()>,
}

impl MediaFiles {
    /// The files in a data directory.
    pub fn open(
        data_dir: &Path,
        (store, is_shared): (Arc<dyn Store>, bool),
        drivers: Arc<Drivers>,
        channels: Arc<directory::Directory>,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            store,
            drivers,
            channels,
            clock,
            directory: Directory::open(data_dir)?,
            is_shared,
            downloads: Downloads::default(),
            naming: RwLock::default(),
            untidy: Notify::new(),
            tidying: tokio::sync::Mutex::default(),
        })
    }

    /// The bytes of a file, from the disk or from the network. They may still be arriving.
    pub async fn content(self: &Arc<Self>, owner: Owner, media: &Media) -> Result<Content, Fault> {
        match media.state {
            MediaState::Gone => return Err(Fault::Gone),
            MediaState::Stored => {
                if let Some(content) = self.stored(media).await? {
                    return Ok(content);
                }
            }
            MediaState::Remote => {}
        }
        let mut progress = self.follow(owner, media, SIZE_LIMIT)?;
        // A download that has panicked has no progress any more.
        let begun = timeout(FIRST_BYTE, progress.wait_for(Progress::has_begun)).await;
        let begun = begun.map_err(|_| Fault::Unavailable)?.map_err(|_| Fault::Broken)?.clone();
        match begun.end {
            Some(Err(fault)) => Err(fault),
            Some(Ok(())) | None => Content::arriving(&begun, progress).ok_or(Fault::Broken),
        }
    }

    /// Whether the bytes of a file are on this node.
    pub fn has(&self, id: MediaId) -> Result<bool, Fault> {
        Ok(self.directory.find(id)?.is_some())
    }

    /// The bytes of a file that is stored here.
    async fn stored(&self, media: &Media) -> Result<Option<Content>, Fault> {
        // The file is not deleted before its use is recorded.
        let _naming = self.naming.read().await;
        let Some(file) = self.directory.find(media.id)? else { return Ok(None) };
        let now = self.clock.now();
        if media.read_at.is_none_or(|read_at| now - read_at > USE_RECORDED) {
            // The bytes are here, whether the store answers or not.
            let _ = self.store.media_read(media.id, now).await;
        }
        Ok(Some(Content::stored(file)?))
    }

    /// The progress of the download of a file, for a reader who accepts this many bytes. If it does not run yet, it begins.
    fn follow(self: &Arc<Self>, owner: Owner, media: &Media, most: u64) -> Result<watch::Receiver<Progress>, Fault> {
        let (reader, new) = self.downloads.join(media, owner.1, most)?;
        if let Some(download) = new {
            // The download does not end with its caller.
            tokio::spawn(download::run(self.clone(), owner, media.clone(), download));
        }
        Ok(reader)
    }
}

#[cfg(test)]
mod tests;
