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
//! | `room` | deletes files early when the disk is full |
//!
//! Each node has the files that it fetched in its own data directory. Another node fetches them again.

mod download;
mod downloads;
pub mod eager;
mod files;
mod pace;
mod reader;
mod room;
mod tidy;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use recado_domain::clock::{Clock, Millis, millis};
use recado_domain::event::Owner;
use recado_domain::ids::MediaId;
use recado_domain::incoming::{Media, MediaState};
use recado_providers::Drivers;
use recado_providers::media::MediaError;
pub use recado_providers::media::SIZE_LIMIT;
use recado_store::{Store, StoreError};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};

use crate::directory;
use download::Progress;
pub use downloads::DOWNLOADS;
use downloads::Downloads;
pub use files::DIRECTORY;
use files::Directory;
pub use reader::{Content, Part};

/// How long a caller waits for the first byte.
const FIRST_BYTE: Duration = Duration::from_secs(15);
/// A use of a file is recorded at most this often, and at most this often while files are kept.
const USE_RECORDED: (Millis, Millis) = (60 * 60 * 1_000, 8);
/// Locks under which files get their names. Files share them by their ids.
const NAMING: usize = 64;

/// Why a caller gets no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The file was deleted meanwhile.
    NotFound,
    Gone,
    TooLarge,
    /// Its address is one that this server does not call.
    Refused,
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
            MediaError::Refused => Self::Refused,
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
    /// A use of a file is recorded this often.
    record_every: Millis,
    /// Held while a file gets its name and its row the state, or while it is deleted because its row has another state.
    naming: [Mutex<()>; NAMING],
    /// Held while files are deleted because the disk is full. When there was nothing to delete.
    making_room: Mutex<Option<Instant>>,
}

impl MediaFiles {
    /// The files in a data directory.
    pub fn open(
        data_dir: &Path,
        (store, is_shared): (Arc<dyn Store>, bool),
        keep: Duration,
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
            record_every: USE_RECORDED.0.min(millis(keep) / USE_RECORDED.1),
            naming: std::array::from_fn(|_| Mutex::default()),
            making_room: Mutex::default(),
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
            Some(Ok(())) | None => Content::arriving(&begun, progress, self.directory.clone()).ok_or(Fault::Broken),
        }
    }

    /// Whether the bytes of a file are on this node.
    pub async fn has(&self, id: MediaId) -> Result<bool, Fault> {
        Ok(self.find(id).await?.is_some())
    }

    /// A file on this node, and its size. A disk that does not answer is not waited for.
    async fn find(&self, id: MediaId) -> Result<Option<(File, u64)>, Fault> {
        let found = timeout(FIRST_BYTE, self.directory.run(move |disk| disk.find(id))).await;
        Ok(found.map_err(|_| Fault::Broken)??)
    }

    fn naming_of(&self, id: MediaId) -> &Mutex<()> {
        // The last byte of an id is random.
        &self.naming[usize::from(id.as_bytes()[15]) % NAMING]
    }

    /// The bytes of a file that is stored here.
    async fn stored(&self, media: &Media) -> Result<Option<Content>, Fault> {
        // It can be read to its end, also if it is deleted meanwhile.
        let Some((file, size)) = self.find(media.id).await? else { return Ok(None) };
        let now = self.clock.now();
        if media.read_at.is_none_or(|read_at| now - read_at > self.record_every) {
            // The bytes are here, whether the store answers or not.
            let _ = self.store.media_read(media.id, now).await;
        }
        Ok(Some(Content::stored(file, size, self.directory.clone())))
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
