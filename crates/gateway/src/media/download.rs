//! One download: its bytes are written to a file, and every reader follows the file. The last byte is held back until the
//! content is verified, so that no client takes wrong bytes for a whole file.

use std::fs::File;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use recado_domain::event::Owner;
use recado_domain::hex::hex;
use recado_domain::ids::MediaId;
use recado_domain::incoming::{Media, MediaState};
use recado_providers::media::{self, MediaError};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::downloads::Download;
use super::files::Part;
use super::pace::{self, Paced};
use super::{Fault, MediaFiles, SIZE_LIMIT};

/// How long a network may take to begin. A phone that uploads a file again takes 30 seconds.
const BEGIN: Duration = Duration::from_secs(90);

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
        let slot = self.downloads.slot(media, owner, to).await;
        let _slot = slot.ok_or(Fault::Unavailable)?;
        // Another download may have ended since the caller read the row.
        let media = self.store.media(owner, media.id).await?.ok_or(Fault::NotFound)?;
        match media.state {
            MediaState::Gone => return Err(Fault::Gone),
            MediaState::Stored => {
                if let Some((file, size)) = self.find(media.id).await? {
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
        if size.is_some_and(|size| size > to.most()) {
            return Err(too_large(to.most()));
        }
        // The sender chooses the size that a message announces.
        let announced = size.or(media.about.size).unwrap_or_default().min(to.most());
        let part = Arc::new(self.begin(media.id, announced).await?);
        to.progress.send_modify(|progress| (progress.file, progress.size) = (Some(part.file.clone()), size));
        let (written, sha256) = match self.write((media.id, &part), from, to).await {
            Ok(done) => done,
            Err(fault) => {
                self.discard(part).await;
                return Err(fault);
            }
        };
        if size.is_some_and(|size| size != written) || expected.is_some_and(|expected| expected != sha256) {
            tracing::warn!(media.id = %media.id, channel.id = %entry.via.id, "media does not have the announced hash or size");
            self.downloads.refuse(media.id);
            self.discard(part).await;
            return Err(Fault::Unavailable);
        }
        self.keep(media.id, part, (written, sha256)).await?;
        to.progress.send_modify(|progress| (progress.readable, progress.size) = (written, Some(written)));
        Ok(())
    }

    /// Begins a file of about this size. If the disk is full, files that were not read for long are deleted.
    async fn begin(&self, id: MediaId, size: u64) -> Result<Part, Fault> {
        let begin = || self.directory.run(move |disk| disk.begin(id, size));
        match begin().await {
            Err(error) if error.kind() == ErrorKind::StorageFull && self.make_room(size).await? => Ok(begin().await?),
            other => Ok(other?),
        }
    }

    /// Writes all bytes of a download into a file. Returns how many there were, and their SHA-256.
    async fn write(
        &self,
        (id, part): (MediaId, &Arc<Part>),
        from: media::Download,
        to: &Download,
    ) -> Result<(u64, String), Fault> {
        let (mut written, mut hasher) = (0_u64, Sha256::new());
        let mut from = Paced::new(from.bytes, pace::LEAST);
        loop {
            let next = tokio::select! {
                biased;
                () = to.stop.cancelled() => return Err(Fault::NotFound),
                next = from.next() => next,
            };
            let Some(bytes) = next else { break };
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
            hasher.update(&bytes);
            let part = part.clone();
            self.directory.run(move |_| part.write(&bytes)).await?;
            to.progress.send_modify(|progress| progress.readable = written - 1);
        }
        Ok((written, hex(&hasher.finalize())))
    }

    /// Deletes a file that is not complete.
    async fn discard(&self, part: Arc<Part>) {
        let deleted = self.directory.run(move |_| {
            drop(part);
            Ok(())
        });
        // The next start deletes what could not be deleted.
        let _ = deleted.await;
    }

    /// Gives a complete file its name, and its row the state.
    async fn keep(&self, id: MediaId, part: Arc<Part>, (size, sha256): (u64, String)) -> Result<(), Fault> {
        // A sync of a large file may take long, so it holds no lock.
        let part = self.directory.run(move |_| part.sync().map(|()| part)).await?;
        let part = Arc::into_inner(part).ok_or(Fault::Broken)?;
        let _naming = self.naming_of(id).lock().await;
        self.directory.run(move |_| part.keep()).await?;
        match self.store.media_stored(id, size, sha256, self.clock.now()).await {
            Ok(true) => Ok(()),
            stored => {
                self.directory.run(move |disk| disk.delete(id)).await?;
                Err(stored.map_or_else(Fault::from, |_| Fault::NotFound))
            }
        }
    }
}

/// A caller who follows a download with a lower limit can begin another one.
fn too_large(most: u64) -> Fault {
    if most < SIZE_LIMIT { Fault::Unavailable } else { Fault::TooLarge }
}
