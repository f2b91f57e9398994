//! Fixtures for the tests of the store: an engine in an empty place of its own, and rows to insert.

mod webhooks;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering as Atomic};
use std::time::Duration;

use async_trait::async_trait;
use recado_domain::api_key::Environment;
use recado_domain::channel::{Actor, ChannelKey, ChannelMove, ChannelState, ChannelType, NewChannel};
use recado_domain::clock::Millis;
use recado_domain::event::{Event, EventQuery, Recording};
use recado_domain::ids::{InstitutionId, MessageId};
use recado_domain::institution::Institution;
use recado_domain::message::{
    CardAccount, ContactRendition, Enqueued, Idempotency, Message, MessageQuery, NewMessage, Seq,
};
use recado_domain::phone::DefaultCountry;
use recado_domain::queue::{
    Claim, ClaimRequest, Claimed, MessageRef, Outcomes, Receipt, Settlement, UnheldSending, UnknownOutcomePolicy,
};
use recado_domain::status::MessageStatus;
use tempfile::TempDir;
use test_postgres::{Database, Pooler};

pub use self::webhooks::{new_event, webhook_settings};
use super::Store;
use super::postgres::{self, PgStore};
use super::sqlite::SqliteStore;

/// The time of the tests. Any time works, since each operation gets it.
pub const NOW: Millis = 1_800_000_000_000;
pub const MINUTE: Millis = 60_000;
pub const DAY: Millis = 24 * 60 * MINUTE;

/// A message as a driver gets it: the first attempt of a contact message.
pub fn claimed() -> Claimed {
    Claimed {
        seq: 1,
        id: MessageId::new(1, [7; 10]),
        network_id: "3EB0".to_owned(),
        recipient: "5511999998888".to_owned(),
        payload: r#"{"to":"5511999998888","type":"contact","contact":{"name":"Maria","phone":"5511988887777"}}"#
            .to_owned(),
        kind: "contact".to_owned(),
        rendition: Some(rendition("5511988887777", false)),
        scenario: None,
        attempts: 1,
        failures: 0,
        recipient_holds: 0,
        unanswered: false,
        joined: false,
        queued_at: NOW,
        resent: false,
    }
}

/// The rendition of a contact message.
pub fn rendition(account: &str, known: bool) -> String {
    let account = CardAccount { digits: account.to_owned(), known };
    ContactRendition::of_one("BEGIN:VCARD".to_owned(), account).to_json()
}

/// A move of a channel that the operator makes.
pub fn channel_move(from: ChannelState, to: ChannelState, at: Millis) -> ChannelMove {
    ChannelMove { from, to, reason: None, by: Actor::Operator, at }
}

/// A place for one store, which may be opened, closed and opened again.
#[async_trait]
pub trait Engine: Send + Sync {
    async fn open(&self) -> Arc<dyn Store>;
}

/// A place that the test inspects as well.
#[async_trait]
impl<E: Engine> Engine for Arc<E> {
    async fn open(&self) -> Arc<dyn Store> {
        (**self).open().await
    }
}

/// A file in a directory that is deleted with the test.
pub struct SqliteFile(TempDir);

#[expect(clippy::new_without_default, reason = "each is another place")]
impl SqliteFile {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    pub fn path(&self) -> std::path::PathBuf {
        self.0.path().join("recado.db")
    }
}

#[async_trait]
impl Engine for SqliteFile {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(&self.path()).expect("the store opens"))
    }
}

/// A database that is deleted with the test.
pub struct PgDatabase {
    database: Database,
    /// The pooler between the store and the database.
    pooler: Option<Pooler>,
}

#[expect(clippy::new_without_default, reason = "each is another place")]
impl PgDatabase {
    pub fn new() -> Self {
        let make = async |url: String| postgres::migrate(&url).await.expect("migrated");
        let database = Database::made_by(postgres::MIGRATIONS_TEXT, make);
        let pooler = std::env::var_os("RECADO_TEST_POOLER").map(|_| Pooler::before(database.url()));
        Self { database, pooler }
    }

    /// A database behind a transaction pooler, where each transaction gets any connection.
    pub fn behind_a_pooler() -> Self {
        let Self { database, .. } = Self::new();
        let pooler = Some(Pooler::before(database.url()));
        Self { database, pooler }
    }

    /// Connections to it, without a store.
    pub fn connect(&self) -> Arc<crate::sqlkit::postgres::pool::Database> {
        crate::sqlkit::postgres::pool::Database::new(self.url(), false).expect("a URL")
    }

    /// Without a pooler between.
    pub fn direct_url(&self) -> &str {
        self.database.url()
    }

    pub fn url(&self) -> &str {
        self.pooler.as_ref().map_or(self.database.url(), Pooler::url)
    }
}

#[async_trait]
impl Engine for PgDatabase {
    async fn open(&self) -> Arc<dyn Store> {
        // Fewer connections than concurrent tasks in some tests.
        Arc::new(PgStore::open(self.url(), self.direct_url(), 8).await.expect("the store opens"))
    }
}

/// An open store with one institution in it.
pub struct Ground {
    engine: Box<dyn Engine>,
    pub store: Arc<dyn Store>,
    pub institution: InstitutionId,
    made: AtomicU64,
}

impl Ground {
    pub async fn on(engine: impl Engine + 'static) -> Self {
        let store = engine.open().await;
        let institution = InstitutionId::new(NOW, [0; 10]);
        let row = Institution {
            id: institution,
            name: "Padaria".to_owned(),
            default_country: DefaultCountry::Server,
            created_at: NOW,
        };
        store.create_institution(row).await.expect("an institution");
        Self { engine: Box::new(engine), store, institution, made: AtomicU64::new(1) }
    }

    /// Simulates the end of the process and the start of the next one.
    pub async fn reopen(&mut self) {
        self.store.close().await;
        self.store = self.engine.open().await;
    }

    /// Bytes that differ in each call.
    pub fn unique(&self) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&self.made.fetch_add(1, Atomic::Relaxed).to_be_bytes());
        bytes
    }

    pub fn new_channel(&self, id: &str, state: ChannelState) -> NewChannel {
        NewChannel {
            institution: self.institution,
            environment: Environment::Live,
            id: id.parse().expect("a channel id"),
            name: format!("Canal {id}"),
            kind: ChannelType::Sandbox,
            settings: None,
            state,
            by: Actor::Operator,
            now: NOW,
        }
    }

    /// A new channel in this state.
    pub async fn channel_in(&self, id: &str, state: ChannelState) -> ChannelKey {
        self.store.create_channel(self.new_channel(id, state)).await.expect("stored").expect("a free id").key
    }

    /// A new connected channel.
    pub async fn channel(&self, id: &str) -> ChannelKey {
        self.channel_in(id, ChannelState::Connected).await
    }

    /// A new connected channel of this type.
    pub async fn channel_of(&self, kind: ChannelType, id: &str) -> ChannelKey {
        let new = NewChannel { kind, ..self.new_channel(id, ChannelState::Connected) };
        self.store.create_channel(new).await.expect("stored").expect("a free id").key
    }

    /// Begins or ends the recording of events of this environment's messages.
    pub async fn record_messages(&self, environment: Environment, on: bool) {
        let owner = (self.institution, environment);
        let recording = if on { Recording::All } else { Recording::Off };
        assert!(self.store.record_messages(owner, recording).await.expect("stored"), "there is the institution");
    }

    /// The question for all events of the institution's channels of real networks.
    pub fn event_query(&self) -> EventQuery {
        EventQuery { owner: Some((self.institution, Environment::Live)), channel: None, after: 0, limit: 100 }
    }

    /// All answers to a question for events that were recorded before this.
    pub async fn events(&self, query: EventQuery) -> Vec<Event> {
        let marker = self.made.fetch_add(1, Atomic::Relaxed);
        let marker = self.channel_in(&format!("marco-{marker}"), ChannelState::Created).await;
        let mut reader = self.store.event_reader();
        let mut read = async |query| reader.read(query).await.expect("read").expect("a cursor of this store");
        let mut until = EventQuery { channel: Some(marker), ..self.event_query() };
        // Other transactions on the database delay events while they run.
        let end = loop {
            let page = read(until).await;
            if let Some(event) = page.events.first() {
                break event.seq;
            }
            until.after = page.cursor;
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        let (mut query, mut events) = (query, Vec::new());
        while query.after < end {
            let page = read(query).await;
            assert!(page.cursor > query.after, "the marker is behind it");
            query.after = page.cursor;
            events.extend(page.events.into_iter().filter(|event| event.seq < end));
        }
        events
    }

    /// A new channel with a queue for each recipient.
    pub async fn channel_by_recipient(&self, id: &str) -> ChannelKey {
        self.channel_of(ChannelType::CloudApi, id).await
    }

    pub async fn move_channel(&self, key: ChannelKey, from: ChannelState, to: ChannelState) {
        assert!(self.try_move(key, from, to, None, NOW).await, "{from:?} -> {to:?}");
    }

    /// Moves a channel if it is in the expected state; whether it was.
    pub async fn try_move(
        &self,
        key: ChannelKey,
        from: ChannelState,
        to: ChannelState,
        reason: Option<String>,
        at: Millis,
    ) -> bool {
        let to = ChannelMove { reason, ..channel_move(from, to, at) };
        self.store.move_channel(key, to).await.expect("answered")
    }

    pub async fn delete_channel(&self, key: ChannelKey, at: Millis) {
        self.store.delete_channel(key, Actor::Operator, at).await.expect("stored");
    }

    pub fn new_message(&self, channel: ChannelKey, recipient: &str) -> NewMessage {
        let unique = self.unique();
        let id = MessageId::new(NOW, unique);
        NewMessage {
            id,
            channel,
            network_id: format!("3EB0{id}"),
            recipient: recipient.to_owned(),
            payload: "{}".to_owned(),
            kind: "contact",
            rendition: Some(rendition(recipient, true)),
            reference: None,
            send_at: None,
            scenario: None,
            accepted_at: NOW,
            expires_at: NOW + DAY,
            backlog_cap: 100_000,
            idempotency: None,
        }
    }

    /// A use of an idempotency key, which remembers uses of the last day.
    pub fn idempotency(&self, key: &str, content: u8) -> Idempotency {
        Idempotency {
            institution: self.institution,
            environment: Environment::Live,
            route: "contact",
            key: key.to_owned(),
            fingerprint: [content; 32],
            earlier_fingerprint: [content.wrapping_add(128); 32],
            forget_before: NOW - DAY,
        }
    }

    pub async fn enqueue(&self, message: NewMessage) -> Enqueued {
        self.store.enqueue(message).await.expect("the store works")
    }

    /// Has the store accept a message.
    pub async fn accept(&self, channel: ChannelKey, recipient: &str) -> MessageId {
        let message = self.new_message(channel, recipient);
        let id = message.id;
        assert_eq!(self.enqueue(message).await, Enqueued::Accepted);
        id
    }

    /// The same for a message that is accepted. Returns its id.
    pub async fn enqueue_id(&self, message: NewMessage) -> MessageId {
        let id = message.id;
        assert_eq!(self.enqueue(message).await, Enqueued::Accepted);
        id
    }

    pub async fn claim(&self, request: ClaimRequest) -> Claim {
        self.store.claim(request).await.expect("the store works")
    }

    /// Claims the one message that can be claimed.
    pub async fn claim_one(&self, channel: ChannelKey) -> Claimed {
        let mut claim = self.claim(request(channel)).await;
        assert_eq!(claim.messages.len(), 1, "{claim:?}");
        claim.messages.remove(0)
    }

    pub async fn settle(&self, channel: ChannelKey, seq: Seq, settlement: Settlement) {
        self.settle_at(channel, vec![(seq, settlement)], NOW).await;
    }

    pub async fn settle_at(&self, channel: ChannelKey, settled: Vec<(Seq, Settlement)>, now: Millis) {
        let outcomes = Outcomes { channel, epoch: 0, settled, next_send_at: None, now };
        self.store.settle(outcomes).await.expect("the store works");
    }

    pub async fn receipt(&self, channel: ChannelKey, network_id: &str, status: MessageStatus) {
        let of = MessageRef::NetworkId(network_id.parse().unwrap());
        self.apply(Receipt {
            channel,
            of,
            status,
            at: NOW,
            from: None,
            account: None,
            error: None,
            pauses: None,
            pricing: None,
        })
        .await;
    }

    pub async fn apply(&self, receipt: Receipt) {
        self.store.apply_receipts(vec![receipt], NOW).await.expect("the store works");
    }

    pub async fn message(&self, channel: ChannelKey, id: MessageId) -> Message {
        self.store.message(channel, id).await.expect("the store works").expect("a message that was accepted")
    }

    pub async fn status(&self, channel: ChannelKey, id: MessageId) -> MessageStatus {
        self.message(channel, id).await.status
    }

    /// How many open messages a channel has.
    pub async fn open(&self, channel: ChannelKey) -> usize {
        self.all(channel).await.iter().filter(|message| message.status.is_open()).count()
    }

    /// All of a channel's messages, oldest first.
    pub async fn all(&self, channel: ChannelKey) -> Vec<Message> {
        let query = MessageQuery::of(channel, 10_000);
        let page = self.store.messages(query).await.expect("the store works").expect("no cursor was given");
        assert_eq!(page.next, None, "one page has them all");
        page.messages.into_iter().rev().collect()
    }
}

/// Lost answers stay `UNKNOWN`.
pub const LEAVE: UnknownOutcomePolicy = UnknownOutcomePolicy::MarkUnknown(None);

/// A claim of one message by a process that has none in flight.
pub fn request(channel: ChannelKey) -> ClaimRequest {
    ClaimRequest {
        channel,
        epoch: 0,
        limit: 1,
        held: Vec::new(),
        orphans: UnheldSending::LeaseLive,
        unanswered: UnknownOutcomePolicy::Resend,
        now: NOW,
        claimed_until: NOW + MINUTE,
        send_interval: 0,
        recipient_pacing: None,
        new_recipients_per_day: None,
    }
}

/// A plain acknowledgement of the network.
pub fn sent() -> Settlement {
    Settlement::Sent { account: None, remote_id: None, rendition: None }
}

/// The ids of claimed messages, in the order of the claim.
pub fn ids(claim: &Claim) -> Vec<MessageId> {
    claim.messages.iter().map(|message| message.id).collect()
}
