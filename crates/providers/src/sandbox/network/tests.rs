//! The network in both storages, and what nodes that share it may rely on.

use std::sync::{Arc, Mutex};

use recado_domain::channel::ChannelType;
use recado_domain::clock::Clock;
use recado_domain::ids::{InstitutionId, MessageId};
use recado_domain::incoming::{Content, IncomingQuery, SenderIds};
use recado_domain::pacing::Pacing;
use recado_domain::simulation::{Act, Simulated};
use recado_domain::status::MessageStatus;
use recado_store::clock::SystemClock;
use recado_store::fixtures::{Ground, NOW, PgDatabase, SqliteFile, rendition, sent};
use recado_store::sqlkit::postgres::pool::Database;
use test_postgres::{Options, Server};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::sandbox::Sandbox;
use crate::sandbox::network::postgres::Tables;
use crate::sandbox::network::sqlite::File;
use crate::sandbox::network::*;

const DELAY: Millis = 100;

/// A storage for one network.
trait TestStorage {
    fn open(&self) -> Box<dyn Network>;
    /// Changes all rows of the inbox to those of versions without kinds.
    fn make_old(&self);
}

impl TestStorage for SqliteFile {
    fn open(&self) -> Box<dyn Network> {
        Box::new(File::open(&self.path().with_file_name("sandbox.db")))
    }

    fn make_old(&self) {
        let other = rusqlite::Connection::open(self.path().with_file_name("sandbox.db")).expect("it opens");
        let sql = "UPDATE phone SET kind = NULL, rendition = NULL, vcard = 'BEGIN:VCARD old'";
        other.execute(sql, []).expect("changed");
    }
}

impl TestStorage for PgDatabase {
    fn open(&self) -> Box<dyn Network> {
        Box::new(Tables::new(&self.connect()).expect("it opens"))
    }

    fn make_old(&self) {
        let sql = "UPDATE sandbox_phone SET kind = NULL, rendition = NULL, vcard = 'BEGIN:VCARD old'";
        test_postgres::run(self.direct_url(), sql);
    }
}

fn institution(number: u8) -> InstitutionId {
    InstitutionId::new(NOW, [number; 10])
}

/// The first arrival of a message, for which receipts are sent.
fn arrival(owner: u8, number: u8) -> Arrival {
    let id = MessageId::new(NOW, [number; 10]);
    let message = Claimed {
        seq: 1,
        id,
        network_id: format!("3EB0{number}"),
        recipient: format!("5511{}", number % 2),
        payload: format!(r#"{{"name":"{number}"}}"#),
        kind: "contact".to_owned(),
        rendition: Some(rendition("55", true)),
        scenario: None,
        attempts: 1,
        failures: 0,
        recipient_holds: 0,
        resent: false,
        unanswered: false,
        joined: false,
        queued_at: NOW,
    };
    let via = ChannelRef { key: i64::from(owner), institution: institution(owner), id: "loja".parse().expect("an id") };
    Arrival { via, message, at: NOW, receipts: true }
}

fn query(owner: u8) -> PhoneQuery {
    PhoneQuery { institution: institution(owner), direction: None, recipient: None, before: None, limit: 10 }
}

/// The network ids in an inbox, newest first, with the number of arrivals.
async fn shown(network: &dyn Network, query: PhoneQuery) -> Vec<(String, u32)> {
    let shown = network.shown(query).await.expect("read").expect("no such message");
    shown.into_iter().map(|shown| (shown.network_id, shown.arrivals)).collect()
}

/// Records receipts, or loses the answer.
#[derive(Default)]
struct Kept {
    receipts: Mutex<Vec<Receipt>>,
    answer_is_lost: bool,
    /// It answers when this is notified.
    answers: Option<Arc<Notify>>,
}

#[async_trait]
impl ReceiptSink for Kept {
    async fn accept(&self, receipts: Vec<Receipt>) -> Result<(), StoreError> {
        self.receipts.lock().expect("not poisoned").extend(receipts);
        if let Some(answers) = &self.answers {
            answers.notified().await;
        }
        if self.answer_is_lost { Err(StoreError::Overloaded) } else { Ok(()) }
    }
}

impl Kept {
    fn receipts(&self) -> Vec<(String, MessageStatus)> {
        let id = |of: &MessageRef| if let MessageRef::NetworkId(id) = of { id.to_string() } else { String::new() };
        self.receipts.lock().expect("not poisoned").iter().map(|receipt| (id(&receipt.of), receipt.status)).collect()
    }
}

/// The receipts that are sent at this time.
async fn passed_on(network: &dyn Network, at: Millis) -> (Vec<(String, MessageStatus)>, Passed) {
    let to = Kept::default();
    let passed = network.pass_on(at, DELAY, &to).await.expect("passed on");
    (to.receipts(), passed)
}

async fn a_card_is_shown_once(network: Box<dyn Network>) {
    for number in [1, 2, 1, 3, 1] {
        network.arrive(arrival(1, number)).await.expect("accepted");
    }
    network.arrive(arrival(2, 9)).await.expect("accepted");
    let all = [("3EB03".to_owned(), 1), ("3EB02".to_owned(), 1), ("3EB01".to_owned(), 3)];
    assert_eq!(shown(&*network, query(1)).await, all, "newest first, by the first arrival");
    assert_eq!(shown(&*network, PhoneQuery { limit: 2, ..query(1) }).await, all[..2]);
    assert_eq!(shown(&*network, PhoneQuery { before: "3EB03".parse().ok(), ..query(1) }).await, all[1..]);
    assert_eq!(shown(&*network, PhoneQuery { recipient: Some("55110".to_owned()), ..query(1) }).await, all[1..2]);
    let foreign = PhoneQuery { before: "3EB09".parse().ok(), ..query(1) };
    assert!(network.shown(foreign).await.expect("read").is_none());

    let first = network.shown(query(2)).await.expect("read").expect("a page").remove(0);
    let message = arrival(2, 9).message;
    assert_eq!((first.id, first.channel_id), (format!("msg_sandbox_{}", message.id), "loja".to_owned()));
    assert_eq!((first.recipient, first.payload), (message.recipient, message.payload));
    assert_eq!((first.kind, first.rendition), (message.kind, message.rendition));
    assert_eq!(first.received_at, NOW);
}

async fn old_rows_are_contacts(storage: impl TestStorage) {
    let network = storage.open();
    network.arrive(arrival(1, 1)).await.expect("accepted");
    storage.make_old();
    let shown = network.shown(query(1)).await.expect("read").expect("a page").remove(0);
    let rendition = shown.rendition.as_deref().and_then(ContactRendition::from_json).expect("a rendition");
    assert_eq!((shown.kind.as_str(), rendition.text().as_str()), ("contact", "BEGIN:VCARD old"));
}

#[tokio::test]
async fn rows_of_the_versions_before_kinds_in_a_file_are_contacts() {
    old_rows_are_contacts(SqliteFile::new()).await;
}

#[tokio::test]
async fn rows_of_the_versions_before_kinds_in_a_database_are_contacts() {
    old_rows_are_contacts(PgDatabase::new()).await;
}

async fn receipts_are_sent_until_they_are_accepted(network: Box<dyn Network>) {
    let at = async |delays| passed_on(&*network, NOW + delays * DELAY).await;
    network.arrive(Arrival { receipts: false, ..arrival(1, 2) }).await.expect("accepted");
    assert_eq!(at(9).await, (vec![], Passed::None));
    network.arrive(arrival(1, 1)).await.expect("accepted");
    // A frozen node sends an earlier attempt again, and the network loses its answer.
    network.arrive(Arrival { receipts: false, ..arrival(1, 1) }).await.expect("accepted");

    let word = |status| ("3EB01".to_owned(), status);
    assert_eq!(at(0).await, (vec![], Passed::NotYet));
    let unanswered = Kept { answer_is_lost: true, ..Kept::default() };
    network.pass_on(NOW + DELAY, DELAY, &unanswered).await.expect_err("not accepted");
    assert_eq!(unanswered.receipts(), [word(MessageStatus::Delivered)]);
    assert_eq!(unanswered.receipts.lock().expect("not poisoned")[0].at, NOW + DELAY);
    let both = [MessageStatus::Delivered, MessageStatus::Read].map(word).to_vec();
    // A node skips them for 5 seconds.
    assert_eq!(at(60).await, (both, Passed::Some), "once more, and both are due by then");
    assert_eq!(at(60).await, (vec![], Passed::None));

    network.arrive(arrival(1, 1)).await.expect("accepted");
    assert_eq!(at(1).await, (vec![word(MessageStatus::Delivered)], Passed::Some), "sent again with the message");
    assert_eq!(at(1).await, (vec![], Passed::NotYet));
    assert_eq!(at(2).await, (vec![word(MessageStatus::Read)], Passed::Some));
    assert_eq!(at(9).await, (vec![], Passed::None));
}

async fn a_phone_is_emptied_for_itself(network: Box<dyn Network>) {
    for (owner, number) in [(1, 1), (1, 2), (2, 3), (1, 1)] {
        network.arrive(arrival(owner, number)).await.expect("accepted");
    }
    clear(&*network, 1).await;
    assert_eq!(shown(&*network, query(1)).await, []);
    assert_eq!(shown(&*network, query(2)).await, [("3EB03".to_owned(), 1)]);
    network.arrive(arrival(1, 1)).await.expect("accepted");
    assert_eq!(shown(&*network, query(1)).await, [("3EB01".to_owned(), 1)], "its former arrivals are forgotten");
    assert_eq!(network.last(institution(3)).await.expect("read"), None, "nothing to clear");
}

/// Empties an institution's inbox. Returns the number of parts.
async fn clear(network: &dyn Network, owner: u8) -> usize {
    let last = network.last(institution(owner)).await.expect("read").expect("something");
    let mut parts = 0;
    while network.clear(institution(owner), last).await.expect("cleared") {
        parts += 1;
    }
    parts
}

async fn a_purge_leaves_what_is_young_or_has_something_to_send(network: Box<dyn Network>) {
    let quiet = |owner, number| Arrival { receipts: false, ..arrival(owner, number) };
    for old in [quiet(1, 1), quiet(2, 2), arrival(1, 3), quiet(1, 1)] {
        network.arrive(old).await.expect("accepted");
    }
    let done = network.keep(act(1, 4)).await.expect("kept");
    network.delivered(done, 2).await.expect("delivered");
    network.keep(act(1, 5)).await.expect("kept");
    network.arrive(Arrival { at: NOW + 1, ..quiet(1, 6) }).await.expect("accepted");
    let purge = async |after, before| network.purge(after, before).await.expect("purged");
    assert_eq!(purge(0, NOW).await, (0, None), "nothing is that old");
    let (rows, next) = purge(0, NOW + 1).await;
    assert_eq!(rows, 3, "a message of each institution, and the act that the gateway has");
    assert_eq!(purge(next.expect("a part"), NOW + 1).await, (0, None));
    let of = |id: &str, times| (id.to_owned(), times);
    assert_eq!(shown(&*network, query(1)).await, [of("3EB06", 1), of("IN5", 0), of("3EB03", 1)]);
    assert_eq!(shown(&*network, query(2)).await, []);
    // It goes when its receipts were accepted.
    assert_eq!(passed_on(&*network, NOW + 9 * DELAY).await.0.len(), 2);
    assert_eq!(purge(0, NOW + 1).await.0, 1);
    assert_eq!(shown(&*network, query(1)).await, [of("3EB06", 1), of("IN5", 0)]);
    network.arrive(quiet(1, 1)).await.expect("accepted");
    assert_eq!(shown(&*network, query(1)).await[0], of("3EB01", 1), "its former arrivals are forgotten");
}

/// Other operations wait for each part.
#[tokio::test]
async fn a_full_phone_is_purged_a_part_at_a_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let network = File::open(&dir.path().join("sandbox.db"));
    let numbered = |number| {
        let mut arrival = Arrival { receipts: false, ..arrival(1, 1) };
        arrival.message.network_id = format!("3EB1{number}");
        network.arrive(arrival)
    };
    futures_util::future::join_all((0..1_200).map(numbered)).await;
    let (mut parts, mut after) = (Vec::new(), 0);
    while let (rows, Some(next)) = network.purge(after, NOW + 1).await.expect("purged") {
        parts.push(rows);
        after = next;
    }
    assert_eq!(parts, [500, 500, 200]);
}

/// Other operations wait for each part.
#[tokio::test]
async fn a_full_phone_is_emptied_a_part_at_a_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let network = File::open(&dir.path().join("sandbox.db"));
    let numbered = |number| {
        let mut arrival = arrival(1, 1);
        arrival.message.network_id = format!("3EB1{number}");
        network.arrive(arrival)
    };
    futures_util::future::join_all((0..1_200).map(numbered)).await;
    network.arrive(arrival(2, 2)).await.expect("accepted");
    assert_eq!(clear(&network, 1).await, 3);
    assert_eq!(shown(&network, query(1)).await, []);
    assert_eq!(shown(&network, query(2)).await.len(), 1);
}

async fn a_person_is_shown_and_erased(network: Box<dyn Network>) {
    // Even numbers are for one person, odd ones for another.
    for (owner, number) in [(1, 2), (2, 4), (1, 5), (1, 2)] {
        network.arrive(arrival(owner, number)).await.expect("accepted");
    }
    let person = |institution| Person::new(vec!["55110".to_owned(), "55119".to_owned()], institution);
    let of = async |person: Person| {
        let page = network.person(person.clone(), 0).await.expect("read");
        let last = network.person(person, page.next.expect("a range")).await.expect("read");
        assert!(last.next.is_none() && last.shown.is_empty());
        page.shown.into_iter().map(|(owner, shown)| (owner, shown.network_id, shown.arrivals)).collect::<Vec<_>>()
    };
    let (first, second) = ((institution(1), "3EB02".to_owned(), 2), (institution(2), "3EB04".to_owned(), 1));
    assert_eq!(of(person(None)).await, [first.clone(), second.clone()]);
    assert_eq!(of(person(Some(institution(2)))).await, [second]);
    let (erased, _) = network.erase(person(Some(institution(2))), 0).await.expect("erased");
    assert_eq!((erased, of(person(None)).await), (1, vec![first]));
    let (erased, next) = network.erase(person(None), 0).await.expect("erased");
    assert_eq!((erased, network.erase(person(None), next.expect("a range")).await.expect("erased")), (1, (0, None)));
    assert_eq!(shown(&*network, query(1)).await, [("3EB05".to_owned(), 1)]);
    network.arrive(arrival(1, 2)).await.expect("accepted");
    assert_eq!(shown(&*network, query(1)).await[0], ("3EB02".to_owned(), 1), "its former arrivals are forgotten");
}

macro_rules! on_both {
    ($($test:ident),+) => { on_both!(@ sqlite: SqliteFile, $($test),+); on_both!(@ postgres: PgDatabase, $($test),+); };
    (@ $engine:ident: $storage:ident, $($test:ident),+) => {
        mod $engine {
            $(
                #[tokio::test]
                async fn $test() {
                    let storage = super::$storage::new();
                    super::$test(super::TestStorage::open(&storage)).await;
                }
            )+
        }
    };
}

on_both! {
    a_card_is_shown_once, receipts_are_sent_until_they_are_accepted, a_phone_is_emptied_for_itself,
    a_person_is_shown_and_erased, a_purge_leaves_what_is_young_or_has_something_to_send, the_inbox_shows_both_directions_in_one_order
}

#[tokio::test]
async fn nodes_have_one_phone_and_share_its_receipts() {
    let storage = PgDatabase::new();
    let (one, other) = (storage.open(), storage.open());
    for number in 0..100 {
        one.arrive(arrival(1, number)).await.expect("accepted");
    }
    other.arrive(arrival(1, 0)).await.expect("accepted");
    let first = shown(&*one, PhoneQuery { before: "3EB01".parse().ok(), ..query(1) }).await;
    assert_eq!(first, [("3EB00".to_owned(), 2)], "the other node's re-send was recognised");

    let answers = Arc::new(Notify::new());
    let (first, at) = (Kept { answers: Some(answers.clone()), ..Kept::default() }, NOW + DELAY);
    let passing = one.pass_on(at, DELAY, &first);
    let meanwhile = async {
        while first.receipts().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let meanwhile = passed_on(&*other, at).await;
        answers.notify_one();
        meanwhile
    };
    let (passed, meanwhile) = tokio::join!(passing, meanwhile);
    assert_eq!((passed.expect("passed on"), first.receipts().len()), (Passed::Some, 100));
    assert_eq!(meanwhile, (vec![], Passed::NotYet), "what one node passes on is not passed on by the other");
    assert_eq!(passed_on(&*other, at).await, (vec![], Passed::NotYet));
}

#[tokio::test]
async fn a_node_sends_the_receipts_that_another_left() {
    let ground = Ground::on(SqliteFile::new()).await;
    let channel = ground.channel_of(ChannelType::Sandbox, "sandbox").await;
    let id = ground.accept(channel, "551").await;
    let claimed = ground.claim_one(channel).await;
    ground.settle(channel, claimed.seq, sent()).await;

    let storage = PgDatabase::new();
    let (pacing, clock) = (Pacing::default(), Arc::new(SystemClock));
    let node = Sandbox::on_postgres(&storage.connect(), pacing, clock, ground.store.clone()).expect("it opens");
    let stop = CancellationToken::new();
    let passing = node.send_receipts(ground.store.clone(), stop.clone());
    let check = async {
        // The message arrived by another node, which then crashed.
        let via = ChannelRef { key: channel, ..arrival(1, 1).via };
        let message = Claimed { network_id: claimed.network_id.clone(), ..arrival(1, 1).message };
        let at = SystemClock.now();
        storage.open().arrive(Arrival { via, message, at, receipts: true }).await.expect("accepted");
        while ground.status(channel, id).await != MessageStatus::Read {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stop.cancel();
    };
    tokio::join!(passing, check);
}

/// The process that kept an act ended before the gateway had it.
async fn the_rest_is_delivered(storage: &impl TestStorage, ground: &Ground, sandbox: Sandbox) {
    let channel = ground.channel_of(ChannelType::Sandbox, "sandbox").await;
    let said = Simulated {
        network_id: "IN1".to_owned(),
        group: None,
        person: SenderIds::of_phone("5511977776666"),
        sent_at: NOW,
        target: None,
        act: Act::Say { content: Content::text(), text: "Oi".to_owned(), media: None, choice: None, echo: false },
    };
    let payload = serde_json::to_string(&said).expect("JSON");
    let via = ChannelRef { key: channel, ..act(1, 1).via };
    storage.open().keep(KeptAct { via, payload, at: SystemClock.now() - 1, ..act(1, 1) }).await.expect("kept");
    let stop = CancellationToken::new();
    let check = async {
        let stored = async || {
            let query = IncomingQuery { channel, before: None, from: None, limit: 9 };
            ground.store.incoming_page(query).await.expect("read").messages
        };
        while stored().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stop.cancel();
        stored().await
    };
    let delivered = tokio::time::timeout(Duration::from_secs(10), async {
        tokio::join!(sandbox.deliver_rest(&*ground.store, stop.clone()), check).1
    });
    let delivered = delivered.await.expect("in time");
    assert_eq!(delivered.iter().map(|message| &*message.network_id).collect::<Vec<_>>(), ["IN1"]);
}

#[tokio::test]
async fn the_rest_is_delivered_after_a_restart() {
    let (storage, ground) = (SqliteFile::new(), Ground::on(SqliteFile::new()).await);
    let path = storage.path().with_file_name("sandbox.db");
    let sandbox = Sandbox::open(&path, Pacing::default(), Arc::new(SystemClock), ground.store.clone());
    the_rest_is_delivered(&storage, &ground, sandbox).await;
}

#[tokio::test]
async fn the_rest_of_another_node_is_delivered() {
    let (storage, ground) = (PgDatabase::new(), Ground::on(PgDatabase::new()).await);
    let (pacing, clock) = (Pacing::default(), Arc::new(SystemClock));
    let sandbox = Sandbox::on_postgres(&storage.connect(), pacing, clock, ground.store.clone()).expect("it opens");
    the_rest_is_delivered(&storage, &ground, sandbox).await;
}

#[tokio::test]
async fn an_act_that_cannot_be_delivered_delays_none_of_another_channel() {
    let (storage, database) = (PgDatabase::new(), PgDatabase::new());
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                      $$ BEGIN RAISE EXCEPTION 'too slow' USING ERRCODE = 'query_canceled'; END $$;
                  CREATE TRIGGER refuse BEFORE INSERT ON incoming FOR EACH ROW
                      WHEN (new.network_id = 'IN1') EXECUTE FUNCTION refuse()";
    test_postgres::run(database.direct_url(), refuse);
    let ground = Ground::on(database).await;
    let (pacing, clock) = (Pacing::default(), Arc::new(SystemClock));
    let sandbox = Sandbox::on_postgres(&storage.connect(), pacing, clock, ground.store.clone()).expect("it opens");
    let (slow, other) = (ground.channel("lento").await, ground.channel("outro").await);
    for (number, channel) in [(1, slow), (2, slow), (3, other)] {
        let said = Simulated {
            network_id: format!("IN{number}"),
            group: None,
            person: SenderIds::of_phone("5511977776666"),
            sent_at: NOW,
            target: None,
            act: Act::Say { content: Content::text(), text: "Oi".to_owned(), media: None, choice: None, echo: false },
        };
        let payload = serde_json::to_string(&said).expect("JSON");
        let via = ChannelRef { key: channel, ..act(1, number).via };
        let kept = KeptAct { via, payload, at: SystemClock.now() - 1, ..act(1, number) };
        storage.open().keep(kept).await.expect("kept");
    }
    let stored = async |channel| {
        let query = IncomingQuery { channel, before: None, from: None, limit: 9 };
        ground.store.incoming_page(query).await.expect("read").messages.len()
    };
    let stop = CancellationToken::new();
    let check = async {
        while stored(other).await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stop.cancel();
    };
    let delivered = tokio::time::timeout(Duration::from_secs(10), async {
        tokio::join!(sandbox.deliver_rest(&*ground.store, stop.clone()), check)
    });
    delivered.await.expect("in time");
    assert_eq!(stored(slow).await, 0, "the second one waits for the first one");
}

/// What a person did.
fn act(owner: u8, number: u8) -> KeptAct {
    KeptAct {
        n: 0,
        via: arrival(owner, number).via,
        network_id: format!("IN{number}"),
        id: format!("msg_sandbox_{number}"),
        person: format!("5511{}", number % 2),
        kind: "text".to_owned(),
        payload: "{}".to_owned(),
        repeat: 2,
        at: NOW,
        is_held: false,
    }
}

async fn open_acts(network: &dyn Network, channel: Option<i64>) -> Vec<String> {
    let acts = network.undelivered(channel, NOW).await.expect("read");
    acts.into_iter().map(|kept| kept.network_id).collect()
}

async fn acts_are_kept_until_the_gateway_has_them(storage: &impl TestStorage) {
    let network = storage.open();
    let mut numbers = Vec::new();
    for (number, held) in [(1, false), (2, true), (3, false)] {
        numbers.push(network.keep(KeptAct { is_held: held, ..act(1, number) }).await.expect("kept"));
    }
    network.keep(KeptAct { at: NOW + 1, ..act(2, 4) }).await.expect("kept");
    assert!(network.keep(act(1, 1)).await.is_err(), "an id is there once");
    // After a crash everything is there, but what is held waits.
    drop(network);
    let network = storage.open();
    assert_eq!(open_acts(&*network, None).await, ["IN1", "IN3"], "the other one was done later");
    assert_eq!(open_acts(&*network, Some(2)).await, [""; 0]);
    let kept = network.undelivered(Some(1), NOW).await.expect("read").remove(0);
    assert_eq!((kept.n, kept.via.id.as_str(), kept.repeat, &*kept.payload), (numbers[0], "loja", 2, "{}"));
    network.delivered(numbers[0], 2).await.expect("delivered");
    assert_eq!(open_acts(&*network, None).await, ["IN3"]);
    network.release(1).await.expect("released");
    assert_eq!(open_acts(&*network, None).await, ["IN2", "IN3"]);
    assert!(!network.is_windowed(1).await.expect("read"));
    for windowed in [true, true, false] {
        network.set_windowed(1, windowed).await.expect("set");
        let read = (network.is_windowed(1).await.expect("read"), network.is_windowed(2).await.expect("read"));
        assert_eq!(read, (windowed, false));
    }
}

async fn the_inbox_shows_both_directions_in_one_order(network: Box<dyn Network>) {
    network.arrive(arrival(1, 1)).await.expect("arrived");
    network.keep(act(1, 2)).await.expect("kept");
    network.arrive(arrival(1, 3)).await.expect("arrived");
    let fourth = network.keep(act(1, 4)).await.expect("kept");
    network.delivered(fourth, 3).await.expect("delivered");
    network.keep(act(2, 5)).await.expect("kept");
    let of = |ids: &[(&str, u32)]| ids.iter().map(|(id, count)| ((*id).to_owned(), *count)).collect::<Vec<_>>();
    let all = of(&[("IN4", 3), ("3EB03", 1), ("IN2", 0), ("3EB01", 1)]);
    assert_eq!(shown(&*network, query(1)).await, all, "an act arrived as often as it was delivered, not as asked");
    for (direction, expected) in
        [(Direction::Inbound, of(&[("IN4", 3), ("IN2", 0)])), (Direction::Outbound, of(&[("3EB03", 1), ("3EB01", 1)]))]
    {
        assert_eq!(shown(&*network, PhoneQuery { direction: Some(direction), ..query(1) }).await, expected);
    }
    for (at, page) in all.windows(2).enumerate() {
        let before = (at > 0).then(|| all[at - 1].0.parse().expect("an id"));
        assert_eq!(shown(&*network, PhoneQuery { before, limit: 2, ..query(1) }).await, page);
    }
    let to = PhoneQuery { recipient: Some("55110".to_owned()), ..query(1) };
    assert_eq!(shown(&*network, to).await, [], "people write to the channel");
    // What a person did is a part of their data.
    let person = |institution| Person::new(vec!["55110".to_owned()], institution);
    let page = network.person(person(None), 0).await.expect("read");
    let found = |(_, shown): &(_, Shown)| (shown.network_id.clone(), shown.direction, shown.arrivals);
    let found: Vec<_> = page.shown.iter().map(found).collect();
    assert_eq!(found, [("IN2", 0_u32), ("IN4", 3)].map(|(id, times)| (id.to_owned(), Direction::Inbound, times)));
    assert_eq!(network.erase(person(Some(institution(1))), 0).await.expect("erased").0, 2);
    assert_eq!(shown(&*network, query(1)).await, of(&[("3EB03", 1), ("3EB01", 1)]));
    network.keep(act(1, 6)).await.expect("kept");
    let last = network.last(institution(1)).await.expect("read").expect("one");
    while network.clear(institution(1), last).await.expect("cleared") {}
    assert_eq!(shown(&*network, query(1)).await, []);
    assert_eq!(shown(&*network, query(2)).await, of(&[("IN5", 0)]), "of another institution");
}

#[tokio::test]
async fn acts_are_kept_in_a_file() {
    acts_are_kept_until_the_gateway_has_them(&SqliteFile::new()).await;
}

#[tokio::test]
async fn acts_are_kept_in_a_database() {
    acts_are_kept_until_the_gateway_has_them(&PgDatabase::new()).await;
}

#[tokio::test]
async fn a_killed_database_keeps_what_was_accepted() {
    // Without a commit that waits for it, the log is written seconds later.
    let settings = vec!["wal_writer_delay = 10s".to_owned()];
    let mut server = Server::start(&Options { settings, ..Options::durable() });
    test_postgres::run(&server.url("postgres"), "create database recado");
    let url = server.url("recado");
    recado_store::postgres::migrate(&url).await.expect("migrated");
    let network = Tables::new(&Database::new(&url, false).expect("a URL")).expect("it opens");
    network.keep(act(1, 2)).await.expect("kept");
    network.arrive(arrival(1, 1)).await.expect("accepted");
    server.kill();
    server.restart();
    let network = Tables::new(&Database::new(&url, false).expect("a URL")).expect("it opens");
    let of = |id: &str, times| (id.to_owned(), times);
    assert_eq!(shown(&network, query(1)).await, [of("3EB01", 1), of("IN2", 0)]);
    let receipts = passed_on(&network, NOW + DELAY).await.0;
    assert_eq!(receipts, [("3EB01".to_owned(), MessageStatus::Delivered)], "a message does not stay SENT");
}
