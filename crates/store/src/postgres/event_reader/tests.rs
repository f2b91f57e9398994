use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use recado_domain::api_key::Environment;
use recado_domain::channel::{ChannelKey, ChannelState, ChannelType};
use recado_domain::event::Event;
use recado_domain::ids::MessageId;
use recado_domain::message::StatusChange;
use recado_domain::queue::{Claimed, MessageRef, Receipt, Settlement};
use recado_domain::status::MessageStatus;

use super::*;
use crate::fixtures::{Ground, NOW, PgDatabase, request, sent};

/// A store, a channel, and its database for transactions of the test's own.
struct Place {
    database: Arc<PgDatabase>,
    ground: Ground,
    channel: ChannelKey,
    reader: Box<dyn EventReader>,
    cursor: EventSeq,
}

impl Place {
    async fn new() -> Self {
        let database = Arc::new(PgDatabase::new());
        let ground = Ground::on(database.clone()).await;
        let channel = ground.channel("loja").await;
        let reader = ground.store.event_reader();
        let mut place = Self { database, ground, channel, reader, cursor: 0 };
        assert_eq!(place.until("channel.created").await, ["channel.created"]);
        place
    }

    async fn connect(&self) -> Client {
        let hosts = Hosts::parse(self.database.direct_url(), "").expect("a URL");
        let (client, connection) = hosts.connect().await.expect("connected");
        tokio::spawn(connection);
        client
    }

    /// A transaction with an id.
    async fn begin(&self) -> Client {
        let client = self.connect().await;
        client.batch_execute("BEGIN").await.expect("begun");
        client.query_one("SELECT pg_current_xact_id()", &[]).await.expect("an id");
        client
    }

    /// Records an event, as the store would.
    async fn record(&self, client: &Client, kind: &str) {
        let sql = "INSERT INTO events (channel_key, kind, at, data) VALUES ($1, $2, 0, '{}')";
        client.execute(sql, &[&self.channel, &kind]).await.expect("recorded");
    }

    /// The kinds of the next pages.
    async fn next(&mut self) -> Vec<String> {
        let mut kinds = Vec::new();
        for _ in 0..4 {
            let query = EventQuery { after: self.cursor, ..self.ground.event_query() };
            let page = self.reader.read(query).await.expect("read").expect("a cursor of this store");
            self.cursor = page.cursor;
            kinds.extend(page.events.into_iter().map(|event| event.kind));
        }
        kinds
    }

    /// The kinds up to the event of this kind. Other tests work in the same server, and their transactions delay the
    /// reader too.
    async fn until(&mut self, kind: &str) -> Vec<String> {
        let mut kinds = Vec::new();
        let patient_until = tokio::time::Instant::now() + Duration::from_mins(1);
        while !kinds.iter().any(|seen| seen == kind) {
            assert!(tokio::time::Instant::now() < patient_until, "{kind} never comes: {kinds:?}");
            kinds.extend(self.next().await);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        kinds
    }
}

const NONE: [&str; 0] = [];

#[tokio::test]
async fn a_number_that_is_committed_late_is_not_passed() {
    let mut place = Place::new().await;
    let late = place.begin().await;
    place.record(&late, "late").await;
    place.ground.move_channel(place.channel, ChannelState::Connected, ChannelState::Paused).await;
    assert_eq!(place.next().await, NONE);
    late.batch_execute("COMMIT").await.expect("committed");
    assert_eq!(place.until("channel.paused").await, ["late", "channel.paused"]);
}

#[tokio::test]
async fn a_number_that_is_never_committed_delays_no_reader() {
    let mut place = Place::new().await;
    let late = place.begin().await;
    place.record(&late, "late").await;
    place.ground.move_channel(place.channel, ChannelState::Connected, ChannelState::Paused).await;
    assert_eq!(place.next().await, NONE);
    late.batch_execute("ROLLBACK").await.expect("undone");
    assert_eq!(place.until("channel.paused").await, ["channel.paused"]);
    // After a crash the server can give an uncommitted number again, so no reader may have passed it.
    let (last, cursor) = (place.begin().await, place.cursor);
    place.record(&last, "last").await;
    last.batch_execute("ROLLBACK").await.expect("undone");
    assert_eq!((place.next().await, place.cursor), (Vec::new(), cursor));
}

/// A snapshot does not contain transactions that began after the last one that has ended.
#[tokio::test]
async fn the_newest_transaction_is_waited_for() {
    let mut place = Place::new().await;
    let first = place.begin().await;
    let newest = place.begin().await;
    place.record(&newest, "newest").await;
    place.record(&first, "first").await;
    first.batch_execute("COMMIT").await.expect("committed");
    assert_eq!(place.next().await, NONE);
    newest.batch_execute("COMMIT").await.expect("committed");
    assert_eq!(place.until("first").await, ["newest", "first"]);
}

#[tokio::test]
async fn a_long_transaction_delays_no_event_after_its_end() {
    let mut place = Place::new().await;
    let late = place.begin().await;
    place.record(&late, "late").await;
    assert_eq!(place.next().await, NONE);
    // The transaction begins after the pending range, and runs on.
    let long = place.begin().await;
    late.batch_execute("COMMIT").await.expect("committed");
    assert_eq!(place.until("late").await, ["late"]);
    place.ground.move_channel(place.channel, ChannelState::Connected, ChannelState::Paused).await;
    assert_eq!(place.next().await, NONE);
    long.batch_execute("COMMIT").await.expect("committed");
    assert_eq!(place.until("channel.paused").await, ["channel.paused"]);
}

/// The first statement does not matter. The event is refused after it has got a number, and before anything else
/// gives the transaction an id.
#[tokio::test]
async fn a_transaction_has_its_id_before_its_first_event_number() {
    let place = Place::new().await;
    let client = place.connect().await;
    client.batch_execute("BEGIN; SAVEPOINT before").await.expect("begun");
    let refused =
        client.execute("INSERT INTO events (channel_key, kind, at, data) VALUES (1, NULL, 0, '{}')", &[]).await;
    refused.expect_err("an event has a kind");
    client.batch_execute("ROLLBACK TO SAVEPOINT before").await.expect("back");
    let has_one = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL";
    assert!(client.query_one(has_one, &[]).await.expect("asked").get::<_, bool>(0));
}

#[tokio::test]
async fn a_reader_whose_connection_ends_goes_on_with_another() {
    let mut place = Place::new().await;
    let client = place.connect().await;
    place.ground.move_channel(place.channel, ChannelState::Connected, ChannelState::Paused).await;
    let end = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
               WHERE datname = current_database() AND query LIKE '%events%' AND pid <> pg_backend_pid()";
    assert!(client.query_one(end, &[]).await.expect("ended").get::<_, i64>(0) > 0);
    let query = EventQuery { after: place.cursor, ..place.ground.event_query() };
    // The end may be seen before the question, or by it.
    drop(place.reader.read(query).await);
    assert_eq!(place.until("channel.paused").await, ["channel.paused"]);
}

#[tokio::test]
async fn a_dropped_call_loses_nothing() {
    let mut place = Place::new().await;
    place.ground.move_channel(place.channel, ChannelState::Connected, ChannelState::Paused).await;
    for polls in 0..6 {
        let query = EventQuery { after: place.cursor, ..place.ground.event_query() };
        let mut read = place.reader.read(query);
        for _ in 0..polls {
            let polled = tokio::time::timeout(Duration::from_millis(1), &mut read).await;
            if polled.is_ok() {
                break;
            }
        }
    }
    assert_eq!(place.until("channel.paused").await, ["channel.paused"]);
}

/// The gateway waits for the settled number where it needs the newest events.
#[tokio::test]
async fn a_transaction_keeps_the_settled_number_behind_the_last_one() {
    let mut place = Place::new().await;
    let late = place.begin().await;
    place.record(&late, "late").await;
    let mut fresh = place.ground.store.event_reader();
    for reader in [&mut place.reader, &mut fresh] {
        let (last, settled) = (reader.last().await.expect("read"), reader.settled().await.expect("read"));
        assert!(settled < last, "{settled} {last}");
    }
    late.batch_execute("COMMIT").await.expect("committed");
    let patient_until = tokio::time::Instant::now() + Duration::from_mins(1);
    while fresh.settled().await.expect("read") < fresh.last().await.expect("read") {
        assert!(tokio::time::Instant::now() < patient_until);
    }
}

#[tokio::test]
async fn a_gap_of_any_length_delays_no_reader() {
    let mut place = Place::new().await;
    let far = format!("SELECT setval('event_numbers', {})", 50 * recado_domain::message::SCANNED_AT_MOST);
    place.connect().await.batch_execute(&far).await.expect("set");
    place.ground.move_channel(place.channel, ChannelState::Connected, ChannelState::Paused).await;
    assert_eq!(place.until("channel.paused").await, ["channel.paused"]);
}

/// Messages of each writer.
const MESSAGES: usize = 8;
/// Writers of messages.
const WRITERS: usize = 38;
/// Writers that commit late. Each has a connection.
const LATE_WRITERS: u64 = 12;

/// A random number below `most`, the same in each run.
fn below(state: &mut u64, most: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % most
}

/// Accepts, sends and delivers messages on one of the channels.
async fn works(ground: &Ground, channel: ChannelKey, mut state: u64) {
    for _ in 0..MESSAGES {
        ground.accept(channel, &format!("55{}", below(&mut state, 5))).await;
        for message in ground.claim(request(channel)).await.messages {
            settles(ground, channel, &message, &mut state).await;
        }
    }
}

async fn settles(ground: &Ground, channel: ChannelKey, message: &Claimed, state: &mut u64) {
    let settlement = match below(state, 6) {
        0 => Settlement::Retry { run_at: NOW },
        1 => Settlement::Unknown { resend_at: None, hold: None },
        _ => sent(),
    };
    ground.settle(channel, message.seq, settlement).await;
    let receipt = |status| {
        let of = MessageRef::NetworkId(message.network_id.parse().expect("an id"));
        Receipt { channel, of, status, at: NOW, from: None, account: None, error: None, pauses: None, pricing: None }
    };
    let receipts = [MessageStatus::Delivered, MessageStatus::Read].map(receipt);
    ground.store.apply_receipts(receipts.to_vec(), NOW).await.expect("stored");
}

/// Takes event numbers, waits, and commits or rolls back.
async fn dawdles(place: &Place, mut state: u64) {
    let client = place.connect().await;
    for n in 0..MESSAGES {
        client.batch_execute("BEGIN").await.expect("begun");
        for _ in 0..=below(&mut state, 2) {
            place.record(&client, "late").await;
            tokio::time::sleep(Duration::from_millis(below(&mut state, 12))).await;
        }
        client.batch_execute(if n % 4 == 0 { "ROLLBACK" } else { "COMMIT" }).await.expect("ended");
    }
}

#[tokio::test]
async fn fifty_writers_and_a_reader_that_comes_and_goes() {
    let place = Place::new().await;
    let ground = &place.ground;
    ground.record_messages(Environment::Live, true).await;
    let mut channels = vec![place.channel];
    for n in 0..3 {
        channels.push(ground.channel_of(ChannelType::CloudApi, &format!("meta-{n}")).await);
    }
    let writers = (0..WRITERS).map(|n| works(ground, channels[n % channels.len()], n as u64));
    let dawdlers = (0..LATE_WRITERS).map(|n| dawdles(&place, 100 + n));
    let writing = async {
        tokio::join!(join_all(writers), join_all(dawdlers));
        // The last event of all.
        ground.channel("fim").await
    };
    let reading = async {
        let (mut events, mut state) = (Vec::<Event>::new(), 7);
        let mut reader = ground.store.event_reader();
        let is_last = |event: &Event| {
            let behind = event.channel.as_ref().is_some_and(|of| of.key > channels[3]);
            event.kind == "channel.created" && event.seq > 4 && behind
        };
        while !events.last().is_some_and(is_last) {
            let after = events.last().map_or(0, |event| event.seq);
            let limit = 1 + usize::try_from(below(&mut state, 40)).expect("small");
            let page = reader.read(EventQuery { after, limit, ..ground.event_query() }).await.expect("read");
            events.extend(page.expect("a cursor of this store").events);
            match below(&mut state, 8) {
                0 => reader = ground.store.event_reader(),
                1..4 => tokio::time::sleep(Duration::from_millis(below(&mut state, 6))).await,
                _ => {}
            }
        }
        events
    };
    let (_, events) = tokio::join!(writing, reading);
    let client = place.connect().await;
    let rows = client.query("SELECT seq FROM events ORDER BY seq", &[]).await.expect("read");
    let stored: Vec<EventSeq> = rows.iter().map(|row| row.get(0)).collect();
    let seen: Vec<_> = events.iter().map(|event| event.seq).collect();
    assert_eq!(seen, stored, "each once, in their order");
    let mut last: HashMap<MessageId, MessageStatus> = HashMap::new();
    for event in events {
        let Some(id) = event.message.map(|message| message.id) else { continue };
        let what = StatusChange::from_json(&event.data).expect("a change of a state");
        assert_eq!(last.insert(id, what.to), what.from, "message {id}");
    }
    assert_eq!(last.len(), WRITERS * MESSAGES, "every message has events");
}
