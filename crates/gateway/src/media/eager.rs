//! Fetches files as soon as their messages are stored, for channels with the setting `inboundMedia` `eager`. It works after the
//! commit, so it delays neither the message nor its event. What it does not fetch, because of a crash or because too many files
//! come at once, is fetched when a caller wants it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use recado_domain::channel::ChannelKey;
use recado_domain::event::Owner;
use recado_domain::ids::MessageId;
use recado_domain::incoming::MediaState;
use recado_store::commits::{Change, Follow, Reached};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::MediaFiles;
use super::download::Progress;
use crate::directory::Directory;

/// Most bytes of a file that is fetched before a caller wants it.
const EAGER_LIMIT: u64 = 16 << 20;
/// Messages that wait for the task that fetches their files.
const QUEUED: usize = 4_096;
/// Messages whose files wait to be fetched: of one channel, and of all.
const WAITING: (usize, usize) = (1_024, 16_384);
/// Such downloads at a time: of one channel, of one institution in an environment, and of all. They leave slots for those that
/// callers wait for. A channel whose network hangs leaves slots for the other channels, and an institution for the others.
const AT_ONCE: (usize, usize, usize) = (4, 12, 32);

/// A message with a file, which was stored.
type Arrived = (ChannelKey, MessageId);

/// Passes the changes of commits on: messages with files to the task that fetches them, all others to the next follower.
pub struct Follower<F> {
    next: F,
    channels: Arc<Directory>,
    arrived: mpsc::Sender<Arrived>,
}

/// The messages whose files are to be fetched.
pub type Queue = mpsc::Receiver<Arrived>;

impl<F: Follow> Follower<F> {
    /// A follower before another one, and the messages that it finds.
    pub fn new(next: F, channels: Arc<Directory>) -> (Self, Queue) {
        let (arrived, queue) = mpsc::channel(QUEUED);
        (Self { next, channels, arrived }, queue)
    }

    fn offer(&self, channel: ChannelKey, messages: Vec<MessageId>) {
        let is_eager = self.channels.channel(channel).is_some_and(|entry| entry.settings().fetches_media());
        for message in messages.into_iter().filter(|_| is_eager) {
            if self.arrived.try_send((channel, message)).is_err() {
                tracing::debug!(message.id = %message, "media not fetched at once; too many wait");
            }
        }
    }
}

impl<F: Follow> Follow for Follower<F> {
    fn committed(&self, changes: Vec<Change>) {
        let mut others = Vec::with_capacity(changes.len());
        for change in changes {
            match change {
                Change::Files(channel, messages) => self.offer(channel, messages),
                other => others.push(other),
            }
        }
        if !others.is_empty() {
            self.next.committed(others);
        }
    }

    fn reached(&self, reached: Vec<Reached>) {
        self.next.reached(reached);
    }

    fn measured(&self, time: Duration, calls: usize) {
        self.next.measured(time, calls);
    }

    fn reopened(&self) {
        self.next.reopened();
    }
}

/// The places and the permits of one channel, or of all.
struct Turns {
    places: Arc<Semaphore>,
    permits: Arc<Semaphore>,
}

impl Turns {
    fn new(places: usize, permits: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), permits: Arc::new(Semaphore::new(permits)) }
    }

    /// A place to wait, if one is free, and what gives a permit later.
    fn place(&self) -> Option<(OwnedSemaphorePermit, Arc<Semaphore>)> {
        Some((self.places.clone().try_acquire_owned().ok()?, self.permits.clone()))
    }
}

/// Fetches the files of these messages until the server stops.
pub async fn run(files: Arc<MediaFiles>, mut queue: Queue, stop: CancellationToken) {
    let all = Turns::new(WAITING.1, AT_ONCE.2);
    let mut owners: HashMap<Owner, Arc<Semaphore>> = HashMap::new();
    let mut channels: HashMap<ChannelKey, Turns> = HashMap::new();
    while let Some(Some((channel, message))) = stop.run_until_cancelled(queue.recv()).await {
        // Remove those of channels without a message that waits, so that the map stays small.
        channels.retain(|_, turns| Arc::strong_count(&turns.places) > 1);
        let turns = channels.entry(channel).or_insert_with(|| Turns::new(WAITING.0, AT_ONCE.0));
        let Some((of_channel, of_all)) = turns.place().zip(all.place()) else {
            tracing::debug!(message.id = %message, "media not fetched at once; too many wait");
            continue;
        };
        let Some(entry) = files.channels.channel(channel) else { continue };
        owners.retain(|_, permits| Arc::strong_count(permits) > 1);
        let owner = owners.entry((entry.via.institution, entry.environment));
        let of_owner = owner.or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE.1))).clone();
        let (files, stop) = (files.clone(), stop.clone());
        tokio::spawn(async move {
            let ((_place, permits), (_place_of_all, permits_of_all)) = (of_channel, of_all);
            let fetch = async {
                // The permit of all comes last, so that a message that waits for the others does not hold it.
                let _of_channel = permits.acquire().await;
                let _of_owner = of_owner.acquire().await;
                let _of_all = permits_of_all.acquire().await;
                files.fetch_early(channel, message).await;
            };
            stop.run_until_cancelled(fetch).await;
        });
    }
}

impl MediaFiles {
    async fn fetch_early(self: Arc<Self>, channel: ChannelKey, message: MessageId) {
        let Some(entry) = self.channels.channel(channel) else { return };
        let found = match self.store.incoming(channel, message).await {
            Ok(found) => found,
            Err(error) => return tracing::debug!(message.id = %message, %error, "media not fetched at once"),
        };
        let Some(media) = found.and_then(|message| message.media) else { return };
        if media.state != MediaState::Remote || media.about.size.is_some_and(|size| size > EAGER_LIMIT) {
            return;
        }
        let owner = (entry.via.institution, entry.environment);
        if let Ok(mut progress) = self.follow(owner, &media, EAGER_LIMIT) {
            // A download that has panicked has no end.
            let _ = progress.wait_for(Progress::has_ended).await;
        }
    }
}
