//! Reads the bytes of a file, also while they arrive.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use axum::body::Body;
use futures_util::stream;
use hyper::body::Bytes;
use tokio::sync::watch;

use super::download::Progress;
use super::files::{Directory, Disk};

/// Most bytes that are read at once.
const CHUNK: u64 = 64 << 10;

/// The bytes of a file.
pub struct Content {
    file: Arc<File>,
    /// How many bytes there are, if that is known.
    pub size: Option<u64>,
    /// How far they have arrived; `None` if the file is complete.
    progress: Option<watch::Receiver<Progress>>,
    directory: Directory,
}

/// A part of a complete file, from the first byte to before the end.
pub type Part = Range<u64>;

impl Content {
    /// A complete file.
    pub(super) fn stored(file: File, size: u64, directory: Directory) -> Self {
        Self { size: Some(size), file: Arc::new(file), progress: None, directory }
    }

    /// A file that arrives, or has just arrived.
    pub(super) fn arriving(
        begun: &Progress,
        progress: watch::Receiver<Progress>,
        directory: Directory,
    ) -> Option<Self> {
        let progress = begun.end.is_none().then_some(progress);
        Some(Self { file: begun.file.clone()?, size: begun.size, progress, directory })
    }

    /// Whether the file is complete, so that parts of it can be read.
    pub fn is_complete(&self) -> bool {
        self.progress.is_none()
    }

    /// The bytes, or a part of a complete file. An error ends the connection, so that the client does not take what it has for
    /// the whole.
    pub fn into_body(self, part: Option<Part>) -> Body {
        let Range { start, end } = part.unwrap_or(0..u64::MAX);
        let end = if self.is_complete() { self.size.map_or(end, |size| size.min(end)) } else { end };
        let reading =
            Reading { file: self.file, place: start, end, progress: self.progress, directory: self.directory };
        Body::from_stream(stream::try_unfold(reading, |mut reading| async move {
            Ok::<_, io::Error>(reading.next().await?.map(|bytes| (bytes, reading)))
        }))
    }
}

struct Reading {
    file: Arc<File>,
    place: u64,
    end: u64,
    progress: Option<watch::Receiver<Progress>>,
    directory: Directory,
}

impl Reading {
    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let readable = self.readable().await?;
        let length = readable.min(self.end).saturating_sub(self.place).min(CHUNK);
        if length == 0 {
            return Ok(None);
        }
        let (file, place) = (self.file.clone(), self.place);
        let read = move |_: &Arc<Disk>| {
            let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
            file.read_exact_at(&mut bytes, place).map(|()| bytes)
        };
        let bytes = self.directory.run(read).await?;
        self.place += length;
        Ok(Some(bytes.into()))
    }

    /// How many bytes may be read: waits for more than were read already, or for the end.
    async fn readable(&mut self) -> io::Result<u64> {
        let Some(progress) = &mut self.progress else { return Ok(self.end) };
        let place = self.place;
        let more = progress.wait_for(|progress| progress.readable > place || progress.end.is_some()).await;
        let more = more.map_err(|_| io::Error::other("the download has broken off"))?;
        match more.end {
            Some(Err(fault)) => Err(io::Error::other(format!("the download failed: {fault:?}"))),
            Some(Ok(())) | None => Ok(more.readable),
        }
    }
}
