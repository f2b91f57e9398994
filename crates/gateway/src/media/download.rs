//! One download: its bytes are written to a file, and every reader follows the file. The last byte is held back until the
//! content is verified, so that no client takes wrong bytes for a whole file.

use std::fmt::Write;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use recado_domain::event::Owner;
use recado_domain::ids::MediaId;
use recado_domain::incoming::{Media, MediaState};
use recado_providers::media::{self, MediaError};
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::downloads::Download;
use super::files::Part;
use super::pace::{self, Paced};
use super::{Fault, MediaFiles, SIZE_LIMIT};

/// How long a network may take to begin. A phone that uploads a file again takes 30 seconds.
const BEGIN: Duration = Duration::from_secs(90);
/// After how many bytes the room on the disk is checked again.
const CHECKED: u64 = 4 << 20;

/// How far a download is.
#[derive(Clone, Default)]
pub struct Progress {
    pub file: Option<Arc<File>>,
    /// How many bytes may be read.
    pub readable: u64,
    /// How many bytes there are in all, if that is known.
    pub size: Option<u64>,
    pub end: Option<Result<(), Fault>>,
}

impl Progress {
    /// Whether there is something to read, or nothing comes any more.
    pub fn has_begun(&self) -> bool {
        self.readable > 0 || self.has_ended()
    }

    /// Whether nothing comes any more.
    pub fn has_ended(&self) -> bool {
        self.end.is_some()
    }
}

/// Downloads a file, and reports the progress.
pub async fn run(files: Arc<MediaFiles>, owner: Owner, media: Media, download: Arc<Download>) {
    let entry = files.downloads.entry(media.id, download.clone());
    let end = files.download(owner, &media, &download).await;
    // A reader that comes now finds the row as this download left it.
    drop(entry);
    download.progress.send_modify(|progress| progress.end = Some(end));
}

impl MediaFiles {
    async fn download(&self, owner: Owner, media: &Media, to: &Arc<Download>) -> Result<(), Fault> {
        let slot = self.downloads.slot(media, owner.1, to).await;
        let _slot = slot.ok_or(Fault::Unavailable)?;
        // Another download may have ended since the caller read the row.
        let media = self.store.media(owner, media.id).await?.ok_or(Fault::NotFound)?;
        match media.state {
            MediaState::Gone => return Err(Fault::Gone),
            MediaState::Stored => {
                if let Some(file) = self.directory.find(media.id)? {
                    let size = file.metadata()?.len();
                    to.progress.send_modify(|progress| {
                        (progress.file, progress.readable) = (Some(Arc::new(file)), size);
                        progress.size = Some(size);
                    });
                    return Ok(());
                }
            }
            MediaState::Remote => {}
        }
        match self.fetch(&media, to).await {
            Err(Fault::Gone) => {
                // Another node may have the bytes still.
                if !(self.is_shared && media.state == MediaState::Stored) {
                    self.store.media_gone(media.id, media.state).await?;
                }
                Err(Fault::Gone)
            }
            end => end,
        }
    }

    async fn fetch(&self, media: &Media, to: &Download) -> Result<(), Fault> {
        let entry = self.channels.channel(media.channel).ok_or(Fault::NotFound)?;
        let driver = self.drivers.of(entry.kind).ok_or(Fault::NotConnected)?;
        let begun = timeout(BEGIN, driver.fetch_media(&entry.via, media)).await;
        let begun = begun.unwrap_or(Err(MediaError::Unavailable("timeout")));
        let from = begun.inspect_err(|error| {
            tracing::warn!(media.id = %media.id, channel.id = %entry.via.id, %error, "media not fetched");
        })?;
        let (size, expected) = (from.size, from.sha256.clone());
        let (part, written, digest) = self.write(media.id, from, to).await?;
        let sha256 = hex(&digest);
        if size.is_some_and(|size| size != written) || expected.is_some_and(|expected| expected != sha256) {
            tracing::warn!(media.id = %media.id, channel.id = %entry.via.id, "media does not have the announced hash or size");
            self.downloads.refuse(media.id);
            return Err(Fault::Unavailable);
        }
        self.keep(media.id, part, (written, sha256)).await?;
        to.progress.send_modify(|progress| (progress.readable, progress.size) = (written, Some(written)));
        Ok(())
    }

    /// Writes all bytes of a download into a new file.
    async fn write(
        &self,
        id: MediaId,
        from: media::Download,
        to: &Download,
    ) -> Result<(Arc<Part>, u64, [u8; 32]), Fault> {
        let size = from.size;
        if size.is_some_and(|size| size > to.most()) {
            return Err(too_large(to.most()));
        }
        let part = Arc::new(self.directory.begin(id, size.unwrap_or(CHECKED))?);
        to.progress.send_modify(|progress| (progress.file, progress.size) = (Some(part.file.clone()), size));
        let (mut written, mut checked, mut hasher) = (0_u64, 0, Sha256::new());
        let mut from = Paced::new(from.bytes, pace::LEAST);
        while let Some(bytes) = from.next().await {
            let bytes: Bytes = bytes.inspect_err(|error| {
                tracing::warn!(media.id = %id, %error, "media download interrupted");
            })?;
            if bytes.is_empty() {
                continue;
            }
            written += bytes.len() as u64;
            if written > to.most() {
                return Err(too_large(to.most()));
            }
            if written - checked > CHECKED {
                self.directory.need_room(size.map_or(CHECKED, |size| size.saturating_sub(written)))?;
                checked = written;
            }
            hasher.update(&bytes);
            let part = part.clone();
            spawn_blocking(move || part.write(&bytes)).await.map_err(|_| Fault::Broken)??;
            to.progress.send_modify(|progress| progress.readable = written - 1);
        }
        Ok((part, written, hasher.finalize().into()))
    }

    /// Gives a complete file its name, and its row the state.
    async fn keep(&self, id: MediaId, part: Arc<Part>, (size, sha256): (u64, String)) -> Result<(), Fault> {
        let _naming = self.naming.read().await;
        let part = Arc::into_inner(part).ok_or(Fault::Broken)?;
        spawn_blocking(move || part.keep()).await.map_err(|_| Fault::Broken)??;
        match self.store.media_stored(id, size, sha256, self.clock.now()).await {
            Ok(true) => Ok(()),
            stored => {
                self.directory.delete(id)?;
                Err(stored.map_or_else(Fault::from, |_| Fault::NotFound))
            }
        }
    }
}

/// A caller who follows a download with a lower limit can begin another one.
fn too_large(most: u64) -> Fault {
    if most < SIZE_LIMIT { Fault::Unavailable } else { Fault::TooLarge }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
