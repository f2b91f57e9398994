//! On both engines, with a store that refuses messages for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use recado_domain::clock::Millis;
use recado_domain::incoming::{
    Content, Incoming, IncomingQuery, NewIncoming, NewMedia, Received, RefusedKey, SenderIds,
};
use recado_store::Refusals;
use recado_store::clock::{SystemClock, SystemEntropy};
use recado_store::fixtures::{Ground, PgDatabase, SqliteFile};

use super::*;

const MINUTE: Millis = 60_000;
const DAY: Millis = 24 * 60 * MINUTE;

struct Stage {
    ground: Ground,
    channel: ChannelKey,
    secrets: KeyRing,
    /// Makes the store refuse messages with a network id that begins with `bad`, and the whole form of those that begin with
    /// `half`; or take them.
    refuses: Box<dyn Fn(bool) + Send + Sync>,
}

struct Inbox<'a>(&'a Stage);

#[async_trait]
impl Receives for Inbox<'_> {
    async fn receive(&self, arrivals: Arrivals) -> Result<(), StoreError> {
        self.0.ground.store.receive(arrivals, SystemClock.now()).await.map(drop)
    }
}

impl Stage {
    async fn on_sqlite() -> Self {
        let file = SqliteFile::new();
        let path = file.path();
        let ground = Ground::on(file).await;
        let refuses = move |refuses: bool| {
            let sql = if refuses {
                "CREATE TRIGGER refuse BEFORE INSERT ON incoming
                 WHEN new.network_id LIKE 'bad%'
                      OR (new.network_id LIKE 'half%' AND new.body NOT LIKE '%UNDECRYPTABLE%')
                 BEGIN SELECT raise(ABORT, 'a bug'); END;
                 CREATE TRIGGER refuse_change BEFORE UPDATE OF body ON incoming
                 WHEN new.network_id LIKE 'half%' AND new.body NOT LIKE '%UNDECRYPTABLE%'
                 BEGIN SELECT raise(ABORT, 'a bug'); END"
            } else {
                "DROP TRIGGER refuse; DROP TRIGGER refuse_change"
            };
            rusqlite::Connection::open(&path).expect("a file").execute_batch(sql).expect("changed");
        };
        Self::new(ground, Box::new(refuses)).await
    }

    async fn on_postgres() -> Self {
        let database = PgDatabase::new();
        let url = database.direct_url().to_owned();
        let ground = Ground::on(database).await;
        let refuses = move |refuses: bool| {
            let sql = if refuses {
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                     $$ BEGIN RAISE EXCEPTION 'a bug'; END $$;
                 CREATE TRIGGER refuse BEFORE INSERT ON incoming FOR EACH ROW
                     WHEN (new.network_id LIKE 'bad%'
                           OR (new.network_id LIKE 'half%' AND new.body NOT LIKE '%UNDECRYPTABLE%'))
                     EXECUTE FUNCTION refuse();
                 CREATE TRIGGER refuse_change BEFORE UPDATE OF body ON incoming FOR EACH ROW
                     WHEN (new.network_id LIKE 'half%' AND new.body NOT LIKE '%UNDECRYPTABLE%')
                     EXECUTE FUNCTION refuse()"
            } else {
                "DROP TRIGGER refuse ON incoming; DROP TRIGGER refuse_change ON incoming; DROP FUNCTION refuse"
            };
            test_postgres::run(&url, sql);
        };
        Self::new(ground, Box::new(refuses)).await
    }

    async fn new(ground: Ground, refuses: Box<dyn Fn(bool) + Send + Sync>) -> Self {
        let channel = ground.channel("vendas").await;
        let secrets = KeyRing::parse(&"7".repeat(64)).expect("a key");
        Self { ground, channel, secrets, refuses }
    }

    async fn receive(&self, ids: &[&str], seals: bool) -> Result<(), NotKept> {
        let arrivals = ids.iter().map(|id| message(id)).collect();
        let part = Arrivals { channel: self.channel, number: None, business: None, windowed: false, arrivals };
        let keeper = Keeper {
            store: &*self.ground.store,
            secrets: &self.secrets,
            clock: &SystemClock,
            entropy: &SystemEntropy,
            seals,
        };
        receive(&Inbox(self), keeper, part).await
    }

    async fn retry(&self, after: Millis) {
        let now = SystemClock.now() + after;
        retry_due(&*self.ground.store, &self.secrets, &SystemEntropy, now).await.expect("the store works");
    }

    /// Notes as many tries as a day has.
    async fn try_for_a_day(&self) {
        let kept = self.ground.store.sealed_refused(None, 1).await.expect("read").remove(0);
        for _ in 0..144 {
            self.ground.store.defer_refused(kept.key.clone(), SystemClock.now()).await.expect("stored");
        }
    }

    async fn stored(&self) -> Vec<Incoming> {
        let query = IncomingQuery { channel: self.channel, before: None, from: None, limit: 100 };
        self.ground.store.incoming_page(query).await.expect("read").messages
    }

    async fn ids(&self) -> Vec<String> {
        self.stored().await.into_iter().rev().map(|message| message.network_id).collect()
    }

    async fn kept(&self) -> usize {
        self.ground.store.sealed_refused(None, 100).await.expect("read").len()
    }
}

fn message(id: &str) -> Arrival {
    let media = NewMedia { sealed: Some(b"key".to_vec()), ..NewMedia::default() };
    let new =
        NewIncoming { raw: Some(b"raw".to_vec()), media: Some(media), ..NewIncoming::new(Content::text(), "segredo") };
    Arrival {
        network_id: id.parse().expect("an id"),
        group: None,
        person: SenderIds::of_phone("5511977776666"),
        from_me: false,
        sent_at: 1_000,
        what: What::Message(Box::new(new)),
    }
}

async fn is_kept_until_the_store_takes_it(stage: Stage) {
    (stage.refuses)(true);
    stage.receive(&["a", "bad1", "b"], true).await.expect("stored or kept");
    stage.receive(&["bad1"], true).await.expect("the network repeats it");
    assert_eq!((stage.ids().await, stage.kept().await), (vec!["a".to_owned(), "b".to_owned()], 1));
    let kept = stage.ground.store.sealed_refused(None, 1).await.expect("read").remove(0);
    for bytes in [&kept.sealed, &kept.key.id] {
        let text = String::from_utf8_lossy(bytes);
        assert!(!text.contains("segredo") && !text.contains("5511977776666"), "in clear");
    }
    stage.retry(15 * MINUTE).await;
    assert_eq!((stage.ids().await.len(), stage.kept().await), (2, 1), "refused again");
    (stage.refuses)(false);
    stage.retry(15 * MINUTE).await;
    assert_eq!(stage.ids().await.len(), 2, "not before its time");
    stage.retry(30 * MINUTE).await;
    assert_eq!((stage.ids().await, stage.kept().await), (vec!["a".to_owned(), "b".to_owned(), "bad1".to_owned()], 0));
    let stored = stage.stored().await.remove(0);
    assert_eq!((&*stored.body.text, stored.body.content.name()), ("segredo", "text"), "nothing is lost of it");
    let raw = stage.ground.store.incoming_raw(stage.channel, stored.id).await.expect("read").expect("kept");
    let place = Place::Received { channel: stage.channel, network_id: "bad1", part: ReceivedPart::Message };
    assert_eq!(stage.secrets.open(place, &raw).expect("sealed").expose_secret(), b"raw");
    let file = stored.media.and_then(|media| media.about.sealed).expect("kept");
    let place = Place::Received { channel: stage.channel, network_id: "bad1", part: ReceivedPart::File };
    assert_eq!(stage.secrets.open(place, &file).expect("sealed").expose_secret(), b"key");
}

async fn shows_its_text_until_the_store_takes_it_whole(stage: Stage) {
    (stage.refuses)(true);
    stage.receive(&["half1"], true).await.expect("kept");
    let shown = stage.stored().await.remove(0);
    assert_eq!((&*shown.body.text, shown.body.content.name(), stage.kept().await), ("segredo", "unsupported", 1));
    stage.retry(15 * MINUTE).await;
    assert_eq!((stage.ids().await.len(), stage.kept().await), (1, 1), "refused again");
    (stage.refuses)(false);
    stage.retry(30 * MINUTE).await;
    let whole = stage.stored().await.remove(0);
    assert_eq!((whole.id, whole.body.content.name(), stage.kept().await), (shown.id, "text", 0));
}

async fn is_given_up_in_the_end(mut stage: Stage) {
    (stage.refuses)(true);
    stage.receive(&["bad1"], false).await.expect("kept");
    stage.retry(30 * DAY + MINUTE).await;
    assert_eq!(stage.kept().await, 1, "the clock may be ahead");
    stage.try_for_a_day().await;
    stage.retry(29 * DAY).await;
    assert_eq!(stage.kept().await, 1);
    stage.retry(30 * DAY + MINUTE).await;
    assert_eq!((stage.ids().await.len(), stage.kept().await), (0, 0));
    // One that nobody can open is kept a day longer.
    stage.receive(&["bad2"], false).await.expect("kept");
    stage.try_for_a_day().await;
    stage.secrets = KeyRing::parse(&"8".repeat(64)).expect("a key");
    stage.retry(30 * DAY + MINUTE).await;
    assert_eq!(stage.kept().await, 1);
    stage.retry(31 * DAY + MINUTE).await;
    assert_eq!(stage.kept().await, 0);
}

async fn whose_owner_is_busy_keeps_no_other_from_its_turn(stage: Stage) {
    (stage.refuses)(true);
    stage.receive(&["bad1"], false).await.expect("kept");
    let now = SystemClock.now() + 15 * MINUTE;
    let busy = Busy { store: stage.ground.store.clone(), tries: AtomicUsize::new(0) };
    let other = NewRefused { id: vec![0; 32], names: vec![], sealed: vec![1] };
    assert!(stage.ground.store.keep_refused(stage.channel, vec![other], SystemClock.now()).await.expect("stored"));
    let failed = retry_due(&busy, &stage.secrets, &SystemEntropy, now).await;
    assert!(matches!(failed, Err(StoreError::Overloaded)), "it is said");
    assert_eq!(busy.tries.into_inner(), 1);
    assert!(stage.ground.store.due_refused(now, 9).await.expect("read").is_empty(), "all had their turn");
}

/// A store in which nothing that was refused can be stored now.
struct Busy {
    store: Arc<dyn Store>,
    tries: AtomicUsize,
}

#[async_trait]
impl Refusals for Busy {
    async fn keep_refused(
        &self,
        channel: ChannelKey,
        refused: Vec<NewRefused>,
        now: Millis,
    ) -> Result<bool, StoreError> {
        self.store.keep_refused(channel, refused, now).await
    }

    async fn due_refused(&self, now: Millis, limit: usize) -> Result<Vec<RefusedArrival>, StoreError> {
        self.store.due_refused(now, limit).await
    }

    async fn store_refused(&self, _: RefusedKey, _: Arrivals, _: Millis) -> Result<Option<Vec<Received>>, StoreError> {
        self.tries.fetch_add(1, Ordering::Relaxed);
        Err(StoreError::Overloaded)
    }

    async fn defer_refused(&self, key: RefusedKey, now: Millis) -> Result<(), StoreError> {
        self.store.defer_refused(key, now).await
    }

    async fn forget_refused(&self, key: RefusedKey) -> Result<bool, StoreError> {
        self.store.forget_refused(key).await
    }

    async fn sealed_refused(&self, after: Option<RefusedKey>, limit: usize) -> Result<Vec<RefusedArrival>, StoreError> {
        self.store.sealed_refused(after, limit).await
    }

    async fn reseal_refused(&self, old: RefusedArrival, new: Vec<u8>) -> Result<bool, StoreError> {
        self.store.reseal_refused(old, new).await
    }
}

async fn is_no_reason_to_repeat_until_there_are_too_many(stage: Stage) {
    let full = (0..1_000_u32).map(|n| NewRefused { id: n.to_be_bytes().to_vec(), names: vec![], sealed: vec![1] });
    let now = SystemClock.now();
    assert!(stage.ground.store.keep_refused(stage.channel, full.collect(), now).await.expect("stored"));
    (stage.refuses)(true);
    assert!(matches!(stage.receive(&["a", "bad1"], false).await, Err(NotKept::Full)));
    assert_eq!(stage.ids().await, ["a"], "the others are stored");
    // Without the key of the server nothing can be kept.
    let keyless = Stage { secrets: KeyRing::default(), ..stage };
    assert!(matches!(keyless.receive(&["bad1"], false).await, Err(NotKept::Store(StoreError::Unavailable(_)))));
}

macro_rules! on_both_engines {
    ($($test:ident),+) => {
        mod a_refused_message_on_sqlite {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Stage::on_sqlite().await).await;
            })+
        }
        mod a_refused_message_on_postgres {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Stage::on_postgres().await).await;
            })+
        }
    };
}

on_both_engines!(
    is_kept_until_the_store_takes_it,
    shows_its_text_until_the_store_takes_it_whole,
    whose_owner_is_busy_keeps_no_other_from_its_turn,
    is_given_up_in_the_end,
    is_no_reason_to_repeat_until_there_are_too_many
);
