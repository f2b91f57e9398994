//! The files of received messages, with a real store and a network whose answers the test controls.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt};
use hyper::body::Bytes;
use recado_domain::api_key::Environment;
use recado_domain::channel::{ChannelKey, ChannelRef, ChannelSettings, ChannelState, ChannelType, NewChannel};
use recado_domain::conversation::ReadSignal;
use recado_domain::ids::{InstitutionId, MessageId};
use recado_domain::incoming::{Arrival, Arrivals, Captioned, Content as Said, NewIncoming, NewMedia, SenderIds, What};
use recado_domain::institution::Institution;
use recado_domain::pacing::Pacing;
use recado_domain::phone::{DefaultCountry, PhoneNumber};
use recado_domain::queue::{Claimed, UnknownOutcomePolicy};
use recado_providers::media::Download;
use recado_providers::sandbox::Sandbox;
use recado_providers::{ChannelDriver, ReadOutcome, SendOutcome};
use recado_store::clock::SystemClock;
use recado_store::fixtures::{Ground, NOW, SqliteFile};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;

/// A network whose files are named by what happens with them: `hangs`, `slow` after the first bytes, or how many bytes they
/// have.
#[derive(Default)]
struct Network {
    /// How often a file of each channel was asked for.
    asked: Mutex<HashMap<ChannelKey, usize>>,
}

#[async_trait]
impl ChannelDriver for Network {
    fn unanswered(&self, _: &ChannelSettings) -> UnknownOutcomePolicy {
        UnknownOutcomePolicy::Resend
    }

    async fn known_account(&self, _: &ChannelRef, _: &PhoneNumber) -> Option<String> {
        None
    }

    async fn send(&self, _: &ChannelRef, _: &Claimed) -> SendOutcome {
        unreachable!("nothing is sent")
    }

    async fn mark_read(&self, _: &ChannelRef, _: &ReadSignal) -> ReadOutcome {
        unreachable!("nothing is read")
    }

    async fn fetch_media(&self, via: &ChannelRef, media: &Media) -> Result<Download, MediaError> {
        *self.asked.lock().expect("no panic").entry(via.key).or_default() += 1;
        let name = media.about.remote_id.as_deref().expect("a name");
        if name == "slow" {
            let first = stream::iter([Ok(Bytes::from_static(b"first"))]);
            return Ok(Download { size: None, sha256: None, bytes: first.chain(stream::pending()).boxed() });
        }
        let Ok(size) = name.parse::<usize>() else { std::future::pending().await };
        let bytes = stream::iter([Ok(Bytes::from(vec![b'x'; size]))]).boxed();
        Ok(Download { size: Some(size as u64), sha256: media.about.sha256.clone(), bytes })
    }
}

const WEEK: Duration = Duration::from_hours(7 * 24);

struct Stage {
    ground: Ground,
    network: Arc<Network>,
    channels: Arc<directory::Directory>,
    files: Arc<MediaFiles>,
    home: TempDir,
}

impl Stage {
    async fn new() -> Self {
        Self::with(Directory::open).await
    }

    async fn with(open: impl FnOnce(&Path) -> std::io::Result<Directory>) -> Self {
        let ground = Ground::on(SqliteFile::new()).await;
        let (home, network) = (tempfile::tempdir().expect("a directory"), Arc::new(Network::default()));
        let clock = Arc::new(SystemClock);
        let path = home.path().join("sandbox.db");
        let sandbox = Sandbox::open(&path, Pacing::default(), clock.clone(), ground.store.clone());
        let drivers = Arc::new(Drivers::new(Arc::new(sandbox)).with(ChannelType::CloudApi, network.clone()));
        let channels = Arc::<directory::Directory>::default();
        let files =
            MediaFiles::open(home.path(), (ground.store.clone(), false), WEEK, drivers, channels.clone(), clock);
        let directory = open(home.path()).expect("a directory");
        let files = Arc::new(MediaFiles { directory, ..files.expect("a directory") });
        Self { ground, network, channels, files, home }
    }

    async fn channel(&self, id: &str, environment: Environment) -> ChannelKey {
        self.channel_of(self.ground.institution, id, environment).await
    }

    async fn channel_of(&self, institution: InstitutionId, id: &str, environment: Environment) -> ChannelKey {
        let new = self.ground.new_channel(id, ChannelState::Connected);
        let new = NewChannel { institution, environment, kind: ChannelType::CloudApi, ..new };
        let made = self.ground.store.create_channel(new).await.expect("stored").expect("a free id");
        self.channels.add_channel(&made);
        made.key
    }

    /// Another institution.
    async fn institution(&self) -> InstitutionId {
        let id = InstitutionId::new(NOW, self.ground.unique());
        let (name, default_country) = ("Outra".to_owned(), DefaultCountry::Server);
        let row = Institution { id, name, default_country, created_at: NOW };
        self.ground.store.create_institution(row).await.expect("stored");
        id
    }

    fn owner(&self, environment: Environment) -> Owner {
        (self.ground.institution, environment)
    }

    /// Receives a message with a file of the network.
    async fn receive(&self, channel: ChannelKey, file: &str, sha256: Option<&str>) -> (MessageId, Media) {
        let media = NewMedia {
            mime_type: "image/jpeg".to_owned(),
            remote_id: Some(file.to_owned()),
            sha256: sha256.map(str::to_owned),
            ..NewMedia::default()
        };
        let new = NewIncoming { media: Some(media), ..NewIncoming::new(Said::Image(Captioned::default()), "") };
        let id = u64::from_be_bytes(self.ground.unique()[..8].try_into().expect("8 bytes"));
        let arrival = Arrival {
            network_id: format!("A{id}").parse().expect("a network id"),
            group: None,
            person: SenderIds::of_phone("5511977776666"),
            from_me: false,
            sent_at: NOW,
            what: What::Message(Box::new(new)),
        };
        let arrivals = Arrivals { channel, number: None, business: None, windowed: false, arrivals: vec![arrival] };
        let received = self.ground.store.receive(arrivals, NOW).await.expect("stored");
        let message = received[0].message.expect("a message");
        let stored = self.ground.store.incoming(channel, message).await.expect("read").expect("there");
        (message, stored.media.expect("a file"))
    }

    /// Begins the downloads of so many files whose network does not answer.
    async fn hang(&self, (channel, environment): (ChannelKey, Environment), count: usize) -> Vec<Reader> {
        let mut readers = Vec::new();
        for _ in 0..count {
            let (_, media) = self.receive(channel, "hangs", None).await;
            let institution = self.channels.channel(channel).expect("a channel").via.institution;
            readers.push(self.files.follow((institution, environment), &media, SIZE_LIMIT).expect("it waits"));
        }
        readers
    }

    /// The end of the download of a file.
    async fn fetch(&self, environment: Environment, media: &Media) -> Result<(), Fault> {
        let mut reader = self.files.follow(self.owner(environment), media, SIZE_LIMIT)?;
        let end = within_timeout(reader.wait_for(Progress::has_ended)).await.expect("no panic").end;
        end.expect("an end")
    }

    async fn state(&self, environment: Environment, media: &Media) -> MediaState {
        self.ground.store.media(self.owner(environment), media.id).await.expect("read").expect("there").state
    }

    fn path(&self, media: &Media) -> PathBuf {
        self.home.path().join(DIRECTORY).join(media.id.to_string())
    }

    fn asked(&self, channel: ChannelKey) -> usize {
        self.network.asked.lock().expect("no panic").get(&channel).copied().unwrap_or_default()
    }

    fn asked_of(&self, channels: &[ChannelKey]) -> usize {
        channels.iter().map(|channel| self.asked(*channel)).sum()
    }

    /// Waits until so many files of these channels were asked for.
    async fn until_all_asked(&self, channels: &[ChannelKey], count: usize) {
        within_timeout(async {
            while self.asked_of(channels) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Waits until so many files of a channel were asked for.
    async fn until_asked(&self, channel: ChannelKey, count: usize) {
        within_timeout(async {
            while self.asked(channel) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

type Reader = watch::Receiver<Progress>;

async fn within_timeout<T>(something: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), something).await.expect("it comes in time")
}

use Environment::{Live, Test};

#[tokio::test]
async fn a_channel_whose_network_hangs_does_not_stop_the_early_files_of_others() {
    let stage = Stage::new().await;
    let (hanging, good) = (stage.channel("a", Live).await, stage.channel("b", Live).await);
    let (queue, arrived) = mpsc::channel(1_000);
    for _ in 0..100 {
        queue.try_send((hanging, stage.receive(hanging, "hangs", None).await.0)).expect("room");
    }
    let (message, media) = stage.receive(good, "10", None).await;
    queue.try_send((good, message)).expect("room");
    let stop = CancellationToken::new();
    let running = tokio::spawn(eager::run(stage.files.clone(), arrived, stop.clone()));
    within_timeout(async {
        while stage.state(Live, &media).await != MediaState::Stored {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    stage.until_asked(hanging, 4).await;
    // A caller gets a slot of the channel, too.
    let (_, wanted) = stage.receive(hanging, "10", None).await;
    assert_eq!(stage.fetch(Live, &wanted).await, Ok(()));
    assert_eq!(stage.asked(hanging), 5);
    stop.cancel();
    within_timeout(running).await.expect("no panic");
}

#[tokio::test]
async fn a_download_that_waits_ends_with_its_last_reader() {
    let stage = Stage::new().await;
    let channel = stage.channel("a", Live).await;
    let running = stage.hang((channel, Live), 8).await;
    stage.until_asked(channel, 8).await;
    let waiting = stage.hang((channel, Live), 56).await;
    let (_, one_more) = stage.receive(channel, "10", None).await;
    let follow = || stage.files.follow(stage.owner(Live), &one_more, SIZE_LIMIT);
    assert_eq!(follow().err(), Some(Fault::Unavailable), "64 wait or run");
    drop(waiting);
    within_timeout(async {
        while follow().is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(stage.asked(channel), 8);
    // Those that run go on without a reader, so their slots are not free.
    drop(running);
    let reader = follow().expect("it waits");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((stage.asked(channel), reader.borrow().has_ended()), (8, false));
}

#[tokio::test]
async fn test_channels_leave_slots_for_live_ones() {
    let stage = Stage::new().await;
    let mut readers = Vec::new();
    let mut tests = Vec::new();
    for n in 0..9 {
        let institution = if n % 3 == 0 { stage.ground.institution } else { stage.institution().await };
        let channel = stage.channel_of(institution, &format!("t{n}"), Test).await;
        readers.extend(stage.hang((channel, Test), 9).await);
        tests.push(channel);
    }
    stage.until_all_asked(&tests, 16).await;
    let live = stage.channel("live", Live).await;
    let (_, media) = stage.receive(live, "10", None).await;
    assert_eq!(stage.fetch(Live, &media).await, Ok(()));
    assert_eq!(tests.iter().map(|channel| stage.asked(*channel)).sum::<usize>(), 16);
}

#[tokio::test]
async fn an_institution_whose_channels_hang_leaves_slots_for_others() {
    let stage = Stage::new().await;
    let (sick, healthy) = (stage.institution().await, stage.institution().await);
    let (mut readers, mut hanging) = (Vec::new(), Vec::new());
    for n in 0..9 {
        let channel = stage.channel_of(sick, &format!("a{n}"), Live).await;
        readers.extend(stage.hang((channel, Live), 9).await);
        hanging.push(channel);
    }
    stage.until_all_asked(&hanging, 24).await;
    let mut tests = Vec::new();
    for n in 0..3 {
        let channel = stage.channel_of(sick, &format!("t{n}"), Test).await;
        readers.extend(stage.hang((channel, Test), 9).await);
        tests.push(channel);
    }
    stage.until_all_asked(&tests, 8).await;
    for (n, environment) in [Live, Test].into_iter().enumerate() {
        let channel = stage.channel_of(healthy, &format!("b{n}"), environment).await;
        let (_, media) = stage.receive(channel, "10", None).await;
        let mut reader = stage.files.follow((healthy, environment), &media, SIZE_LIMIT).expect("it begins");
        within_timeout(reader.wait_for(Progress::has_ended)).await.expect("no panic");
        assert_eq!(stage.asked(channel), 1);
    }
    assert_eq!((stage.asked_of(&hanging), stage.asked_of(&tests)), (24, 8));
}

#[tokio::test]
async fn an_institution_whose_channels_hang_does_not_stop_the_early_files_of_others() {
    let stage = Stage::new().await;
    let sick = stage.institution().await;
    let (queue, arrived) = mpsc::channel(1_000);
    let mut hanging = Vec::new();
    for n in 0..9 {
        let channel = stage.channel_of(sick, &format!("a{n}"), Live).await;
        for _ in 0..5 {
            queue.try_send((channel, stage.receive(channel, "hangs", None).await.0)).expect("room");
        }
        hanging.push(channel);
    }
    let good = stage.channel("b", Live).await;
    let (message, media) = stage.receive(good, "10", None).await;
    queue.try_send((good, message)).expect("room");
    let stop = CancellationToken::new();
    let running = tokio::spawn(eager::run(stage.files.clone(), arrived, stop.clone()));
    within_timeout(async {
        while stage.state(Live, &media).await != MediaState::Stored {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    stage.until_all_asked(&hanging, 12).await;
    stop.cancel();
    within_timeout(running).await.expect("no panic");
}

#[tokio::test]
async fn wrong_bytes_are_not_fetched_by_each_call() {
    let stage = Stage::new().await;
    let channel = stage.channel("a", Live).await;
    let (_, media) = stage.receive(channel, "10", Some(&"ab".repeat(32))).await;
    for _ in 0..3 {
        assert_eq!(stage.fetch(Live, &media).await, Err(Fault::Unavailable));
        assert_eq!((stage.asked(channel), stage.state(Live, &media).await), (1, MediaState::Remote));
    }
}

#[tokio::test]
async fn a_reader_who_accepts_more_raises_the_limit_of_a_download() {
    let stage = Stage::new().await;
    let channel = stage.channel("a", Live).await;
    let (_, media) = stage.receive(channel, "1000", None).await;
    let mut small = stage.files.follow(stage.owner(Live), &media, 10).expect("it begins");
    let _large = stage.files.follow(stage.owner(Live), &media, SIZE_LIMIT).expect("the same download");
    let end = within_timeout(small.wait_for(Progress::has_ended)).await.expect("no panic").end.expect("an end");
    assert_eq!(end, Ok(()));
}

/// A disk that does not answer, such as one of a network, delays only those who want its files.
#[tokio::test]
async fn a_disk_that_does_not_answer_does_not_block_the_runtime() {
    let stage = Stage::new().await;
    let channel = stage.channel("a", Live).await;
    let (_, media) = stage.receive(channel, "10", None).await;
    assert_eq!(stage.fetch(Live, &media).await, Ok(()));
    let path = stage.path(&media);
    std::fs::remove_file(&path).expect("removed");
    // Opening a pipe waits until there is a writer.
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
    assert!(made.success());
    let writer = std::thread::spawn({
        let path = path.clone();
        // Ends the wait of the thread, also of a runtime that is blocked.
        move || {
            std::thread::sleep(Duration::from_secs(2));
            std::fs::OpenOptions::new().write(true).open(path).expect("a reader")
        }
    });
    let began = Instant::now();
    assert!(timeout(Duration::from_millis(100), stage.files.has(media.id)).await.is_err(), "it waits");
    assert!(began.elapsed() < Duration::from_secs(1), "the runtime was blocked for {:?}", began.elapsed());
    writer.join().expect("no panic");
}

#[tokio::test]
async fn a_full_disk_loses_the_oldest_files_of_the_tenant_with_the_most() {
    use MediaState::{Remote, Stored};
    let free = Arc::new(AtomicU64::new(u64::MAX / 4));
    let measured = free.clone();
    let stage = Stage::with(|home| {
        let files = home.join(DIRECTORY);
        Directory::measured(
            home,
            Box::new(move |_| {
                // What was free at first, and what deleted files have freed.
                let stored = std::fs::read_dir(&files).map_or(0, |entries| {
                    entries
                        .map(|entry| entry.and_then(|entry| entry.metadata()).map_or(0, |file| file.len()))
                        .sum::<u64>()
                });
                Ok((measured.load(Ordering::Relaxed).saturating_sub(stored), 0))
            }),
        )
    })
    .await;
    let (live, test) = (stage.channel("live", Live).await, stage.channel("test", Test).await);
    let mut files = Vec::new();
    for (channel, environment, size) in
        [(live, Live, "1000"), (test, Test, "3000"), (test, Test, "3001"), (test, Test, "3002")]
    {
        let (_, media) = stage.receive(channel, size, None).await;
        assert_eq!(stage.fetch(environment, &media).await, Ok(()));
        // The order of their last use must be certain.
        let read_at = NOW + i64::try_from(files.len()).expect("few");
        assert!(stage.ground.store.media_read(media.id, read_at).await.expect("noted"));
        files.push((environment, media));
    }
    // There is room for what a file reserves while it is written, but for 500 bytes.
    free.store(1_000 + 3_000 + 3_001 + 3_002 + (4 << 20) - 500, Ordering::Relaxed);
    let (_, new) = stage.receive(live, "10", None).await;
    assert_eq!(stage.fetch(Live, &new).await, Ok(()));
    let mut states = Vec::new();
    for (environment, media) in &files {
        states.push(stage.state(*environment, media).await);
        assert_eq!(states.last() == Some(&Stored), stage.path(media).exists());
    }
    assert_eq!(states, [Stored, Remote, Stored, Stored]);
    // Full of other files: to delete the stored ones makes no room, and that is not searched for by each call.
    free.store(0, Ordering::Relaxed);
    let (_, late) = stage.receive(live, "10", None).await;
    for _ in 0..2 {
        assert_eq!(stage.fetch(Live, &late).await, Err(Fault::Full));
    }
    assert_eq!(stage.state(Live, &files[0].1).await, Stored);
}

#[tokio::test]
async fn a_deleted_file_goes_at_once_and_its_download_ends() {
    let stage = Stage::new().await;
    let channel = stage.channel("a", Live).await;
    let (_, stored) = stage.receive(channel, "10", None).await;
    let (_, other) = stage.receive(channel, "10", None).await;
    for media in [&stored, &other] {
        assert_eq!(stage.fetch(Live, media).await, Ok(()));
    }
    let (_, slow) = stage.receive(channel, "slow", None).await;
    let mut reader = stage.files.follow(stage.owner(Live), &slow, SIZE_LIMIT).expect("it begins");
    within_timeout(reader.wait_for(|progress| progress.readable > 0)).await.expect("no panic");
    assert_eq!(std::fs::read_dir(stage.home.path().join(DIRECTORY)).expect("a directory").count(), 3);
    stage.files.delete(vec![stored.id, slow.id]).await.expect("deleted");
    let end = within_timeout(reader.wait_for(Progress::has_ended)).await.expect("no panic").end;
    assert_eq!(end, Some(Err(Fault::NotFound)));
    let left = std::fs::read_dir(stage.home.path().join(DIRECTORY)).expect("a directory");
    let left: Vec<_> = left.map(|entry| entry.expect("an entry").path()).collect();
    assert_eq!(left, [stage.path(&other)]);
}

#[tokio::test]
async fn only_bytes_without_a_row_are_left_over() {
    let stage = Stage::new().await;
    let channel = stage.channel("a", Live).await;
    let (_, stored) = stage.receive(channel, "10", None).await;
    assert_eq!(stage.fetch(Live, &stored).await, Ok(()));
    let (_, remote) = stage.receive(channel, "10", None).await;
    let strange = Media { id: MediaId::new(1, [9; 10]), ..remote.clone() };
    for media in [&remote, &strange] {
        std::fs::write(stage.path(media), "x").expect("written");
    }
    stage.files.purge(WEEK).await.expect("purged");
    assert_eq!([&stored, &remote, &strange].map(|media| stage.path(media).exists()), [true, false, false]);
}
