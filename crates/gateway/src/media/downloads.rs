//! The downloads of this node: at most one for a file, and a limited number of a channel, of an institution, of test channels, and of
//! all. So a channel whose network hangs, an institution with several of them, and a caller with a test key do not stop the downloads
//! of the others.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use recado_domain::api_key::Environment;
use recado_domain::channel::ChannelKey;
use recado_domain::event::Owner;
use recado_domain::ids::MediaId;
use recado_domain::incoming::Media;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Fault;
use super::download::Progress;

/// Downloads at a time.
pub struct AtATime {
    pub channel: usize,
    pub institution: usize,
    /// Of the test channels of an institution.
    pub institution_test: usize,
    pub all: usize,
    /// Of all test channels.
    pub all_test: usize,
}

/// Several institutions have to be sick before all slots are taken.
pub const DOWNLOADS: AtATime = AtATime { channel: 8, institution: 24, institution_test: 8, all: 64, all_test: 16 };
/// Downloads that wait or run: of one channel, and of all channels of an environment.
const WAITING: (usize, usize) = (64, 16_384);
/// How long a file is not fetched again after wrong bytes came for it. Each try may take 100 MiB.
const REFUSED: Duration = Duration::from_mins(1);
/// Most files that are remembered as refused.
const REFUSED_AT_ONCE: usize = 1_024;

/// One download, as its readers and those who end it see it.
pub struct Download {
    pub progress: watch::Sender<Progress>,
    /// Most bytes that one of its readers accepts.
    most: AtomicU64,
    /// Cancelled when the file is deleted.
    pub stop: CancellationToken,
}

impl Download {
    /// Most bytes of the file.
    pub fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

/// The downloads that wait or run.
pub struct Downloads {
    listed: Mutex<HashMap<MediaId, Listed>>,
    all: Semaphore,
    of_test: Semaphore,
    of_channels: Slots<ChannelKey>,
    of_owners: Slots<Owner>,
    /// Files for which wrong bytes came, and until when they are not fetched again.
    refused: Mutex<HashMap<MediaId, Instant>>,
}

struct Listed {
    channel: ChannelKey,
    environment: Environment,
    download: Arc<Download>,
}

/// Semaphores of those that have downloads.
struct Slots<K>(Mutex<HashMap<K, Arc<Semaphore>>>);

impl<K: Eq + Hash> Slots<K> {
    /// The semaphore of one, which has this many permits.
    fn of(&self, key: K, permits: usize) -> Arc<Semaphore> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Remove those without a download, so that the map stays small.
        slots.retain(|_, slots| Arc::strong_count(slots) > 1);
        slots.entry(key).or_insert_with(|| Arc::new(Semaphore::new(permits))).clone()
    }
}

/// The right to run a download.
pub struct Slot<'a> {
    _own: [OwnedSemaphorePermit; 2],
    _others: [Option<SemaphorePermit<'a>>; 2],
}

/// A download in the list. Dropping it lets another download of the file begin.
pub struct Entry<'a> {
    downloads: &'a Downloads,
    id: MediaId,
    download: Arc<Download>,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let mut listed = self.downloads.listed();
        // Without readers it may have left the list, and another one may have begun.
        if listed.get(&self.id).is_some_and(|other| Arc::ptr_eq(&other.download, &self.download)) {
            listed.remove(&self.id);
        }
    }
}

impl Default for Downloads {
    fn default() -> Self {
        Self {
            listed: Mutex::default(),
            all: Semaphore::new(DOWNLOADS.all),
            of_test: Semaphore::new(DOWNLOADS.all_test),
            of_channels: Slots(Mutex::default()),
            of_owners: Slots(Mutex::default()),
            refused: Mutex::default(),
        }
    }
}

impl Downloads {
    /// The progress of the download of a file, for a reader that accepts this many bytes. If none is in the list, also a
    /// new one, which the caller runs.
    pub fn join(
        &self,
        media: &Media,
        environment: Environment,
        most: u64,
    ) -> Result<(watch::Receiver<Progress>, Option<Arc<Download>>), Fault> {
        let mut listed = self.listed();
        if let Some(Listed { download, .. }) = listed.get(&media.id) {
            download.most.fetch_max(most, Ordering::Relaxed);
            return Ok((download.progress.subscribe(), None));
        }
        let of_channel = listed.values().filter(|other| other.channel == media.channel).count();
        let of_environment = listed.values().filter(|other| other.environment == environment).count();
        if of_channel >= WAITING.0 || of_environment >= WAITING.1 || self.is_refused(media.id) {
            return Err(Fault::Unavailable);
        }
        let (progress, reader) = watch::channel(Progress::default());
        let download = Arc::new(Download { progress, most: most.into(), stop: CancellationToken::new() });
        listed.insert(media.id, Listed { channel: media.channel, environment, download: download.clone() });
        Ok((reader, Some(download)))
    }

    /// Keeps a new download in the list until the entry is dropped.
    pub fn entry(&self, id: MediaId, download: Arc<Download>) -> Entry<'_> {
        Entry { downloads: self, id, download }
    }

    /// Waits for the right to run a download. `None` if all its readers have left, or if its file was deleted.
    pub async fn slot(&self, media: &Media, owner: Owner, download: &Arc<Download>) -> Option<Slot<'_>> {
        tokio::select! {
            biased;
            () = self.left_alone(media.id, download) => None,
            () = download.stop.cancelled() => None,
            slot = self.acquire(media.channel, owner) => slot,
        }
    }

    /// Ends the download of a file that was deleted.
    pub fn stop(&self, id: MediaId) {
        if let Some(Listed { download, .. }) = self.listed().get(&id) {
            download.stop.cancel();
        }
    }

    /// Does not fetch this file again for some time.
    pub fn refuse(&self, id: MediaId) {
        let (now, mut refused) = (Instant::now(), self.refused());
        refused.retain(|_, until| now < *until);
        if refused.len() < REFUSED_AT_ONCE {
            refused.insert(id, now + REFUSED);
        }
    }

    fn is_refused(&self, id: MediaId) -> bool {
        self.refused().get(&id).is_some_and(|until| Instant::now() < *until)
    }

    /// The slots of the channel and of the institution come first, so that downloads that wait for these hold no slot of the others.
    async fn acquire(&self, channel: ChannelKey, owner: Owner) -> Option<Slot<'_>> {
        let of_channel = self.of_channels.of(channel, DOWNLOADS.channel).acquire_owned().await.ok()?;
        let of_owner = match owner.1 {
            Environment::Test => DOWNLOADS.institution_test,
            Environment::Live => DOWNLOADS.institution,
        };
        let of_owner = self.of_owners.of(owner, of_owner).acquire_owned().await.ok()?;
        let of_test = match owner.1 {
            Environment::Test => Some(self.of_test.acquire().await.ok()?),
            Environment::Live => None,
        };
        Some(Slot { _own: [of_channel, of_owner], _others: [of_test, self.all.acquire().await.ok()] })
    }

    /// Waits until a download has no reader, and takes it off the list then.
    async fn left_alone(&self, id: MediaId, download: &Arc<Download>) {
        loop {
            download.progress.closed().await;
            let mut listed = self.listed();
            // Readers are added under the same lock.
            if download.progress.receiver_count() == 0 {
                listed.remove(&id);
                return;
            }
        }
    }

    fn listed(&self) -> MutexGuard<'_, HashMap<MediaId, Listed>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self) -> MutexGuard<'_, HashMap<MediaId, Instant>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
