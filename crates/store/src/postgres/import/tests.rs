use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use recado_domain::api_key::{Environment, Grant, Scopes};
use recado_domain::channel::{ChannelState, ChannelType, Held, Link, SessionChange};
use recado_domain::event::{EventQuery, NewEvent, Owner, Patterns};
use recado_domain::ids::{ApiKeyId, WebhookId};
use recado_domain::incoming::{
    Arrival, Captioned, Content, IncomingQuery, NewIncoming, NewMedia, NewRefused, SenderIds, What,
};
use recado_domain::institution::ApiKey;
use recado_domain::message::{Enqueued, NewMessage};
use recado_domain::pacing::RecipientPacing;
use recado_domain::party::Party;
use recado_domain::queue::{ClaimRequest, MessageRef, PurgeRequest, Receipt, Settlement};
use recado_domain::status::MessageStatus;
use recado_domain::webhook::{
    DeliveryClaim, DeliveryQuery, Lane, NewWebhook, PreviousSecret, WebhookCreated, WebhookSettings, WebhookUpdate,
    WebhookUpdated,
};
use rusqlite::Connection;
use test_postgres::Database;

use super::*;
use crate::Store;
use crate::conformance::inbox::{arrival, both, change_settings, conversations, receive, text};
use crate::fixtures::{DAY, Ground, NOW, SqliteFile, new_event, request, sent};
use crate::person::{Person, PersonPart, PersonQuery, PersonRow};
use crate::postgres::PgStore;

const MARIA: &str = "5511999998888";

/// A store with rows in every table, in every state.
async fn fill(ground: &Ground) {
    let key = ApiKey {
        id: ApiKeyId::new(NOW, [3; 10]),
        institution: ground.institution,
        name: "chave".to_owned(),
        hash: [7; 32],
        prefix: "oapi".to_owned(),
        grant: Grant { environment: Environment::Live, scopes: Scopes::all(), rate_limit: Some(7), expires_at: None },
        parent: Some(ApiKeyId::new(NOW, [4; 10])),
        created_at: NOW,
        last_used_at: None,
        revoked_at: None,
    };
    ground.store.create_api_key(key).await.expect("stored");
    let owner = (ground.institution, Environment::Live);
    assert!(ground.store.set_event_log(owner, Patterns::from_stored("*")).await.expect("stored"));
    // One that is deleted because it is old.
    assert!(ground.store.record_event(NewEvent { at: 1, ..new_event(owner, 1) }).await.expect("stored"));
    let purge = PurgeRequest { now: NOW, finished_before: 0, used_before: 0, events_before: 2, after: 0 };
    ground.store.purge(purge).await.expect("purged");
    for (id, kind) in
        [("linha", ChannelType::Sandbox), ("meta", ChannelType::CloudApi), ("telefone", ChannelType::WhatsAppWeb)]
    {
        fill_channel(ground, id, kind).await;
    }
    fill_webhooks(ground, owner).await;
    fill_inbox(ground).await;
    let deleted = ground.channel("apagado").await;
    ground.accept(deleted, MARIA).await;
    ground.delete_channel(deleted, NOW).await;
    let paused = ground.channel("pausado").await;
    ground.accept(paused, MARIA).await;
    ground.move_channel(paused, ChannelState::Connected, ChannelState::Paused).await;
}

/// A webhook with a delivery in flight.
async fn fill_webhooks(ground: &Ground, owner: Owner) {
    let (store, id) = (&ground.store, WebhookId::new(NOW, [5; 10]));
    let previous_secret = Some(PreviousSecret { sealed: vec![0, 255], until: NOW });
    let events = Patterns::from_stored("contact.created");
    let settings = WebhookSettings { previous_secret, events, ..crate::conformance::webhooks::settings() };
    let new = NewWebhook { id, owner, settings, after: 0, now: NOW };
    let WebhookCreated::Created(webhook) = store.create_webhook(new).await.expect("stored") else {
        panic!("it is the first one");
    };
    let cursor = ground.deliver(new_event(owner, 2), NOW).await;
    let claim = DeliveryClaim { lane: Lane::First, limit: 1, now: NOW, lease_until: NOW + DAY };
    assert_eq!(store.claim_deliveries(claim, Vec::new()).await.expect("stored").deliveries.len(), 1);
    let (revision, after) = (webhook.revision, cursor);
    let settings = WebhookSettings { channels: Some(vec![1, 2]), ..webhook.settings };
    let update = WebhookUpdate { id, owner, settings, revision, after, now: NOW };
    assert!(matches!(store.update_webhook(update).await.expect("stored"), WebhookUpdated::Updated(_)));
}

/// Messages that a network delivered: in either direction, changed, with a file, and from people without a number.
async fn fill_inbox(ground: &Ground) {
    let channel = ground.channel("recebe").await;
    change_settings(ground, channel, serde_json::json!({"keepText": false})).await;
    let media = NewMedia { mime_type: "image/png".to_owned(), sealed: Some(vec![0, 255]), ..NewMedia::default() };
    let image = Content::Image(Captioned { caption: Some("Ação 🙂".to_owned()), ..Captioned::default() });
    let file = NewIncoming { media: Some(media), raw: Some(vec![1, 0]), ..NewIncoming::new(image, "Ação 🙂") };
    let poll = Content::Poll {
        question: "Vem?".to_owned(),
        options: vec!["Sim".to_owned()],
        max_selections: None,
        results: Vec::new(),
    };
    let target = |id: &str| id.parse().expect("an id");
    let all = vec![
        text("A1", both(), "Olá"),
        arrival("A2", both(), What::Message(Box::new(file))),
        text("B1", SenderIds::of_lid("77"), "sair"),
        Arrival { from_me: true, ..text("E1", both(), "Oi") },
        arrival("P1", both(), What::Message(Box::new(NewIncoming::new(poll, "Vem?")))),
        arrival("V1", both(), What::PollVote { target: target("P1"), options: vec!["Sim".to_owned()] }),
        arrival("R1", both(), What::Reaction { target: target("A1"), emoji: Some("👍".to_owned()) }),
        arrival("X1", both(), What::Edit { target: target("nunca"), content: "x".to_owned() }),
    ];
    assert_eq!(receive(ground, channel, all).await.len(), 8);
    let owner = (ground.institution, Environment::Live);
    let refused = NewRefused { id: vec![0, 255], names: vec![MARIA.to_owned()], sealed: vec![1, 0] };
    assert!(ground.store.keep_refused(channel, vec![refused], NOW).await.expect("stored"));
    let read = conversations(ground).await.pop().expect("one");
    ground.store.read_conversation(owner, read.id, NOW).await.expect("stored").expect("it is there");
}

async fn fill_channel(ground: &Ground, id: &str, kind: ChannelType) {
    let store = &ground.store;
    let channel = ground.channel_of(kind, id).await;
    store.update_channel(channel, "Ação 🙂".to_owned(), kind.default_settings()).await.expect("stored");
    let link = Link { channel, details: "{}".to_owned(), sealed: vec![0, 255, 1] };
    assert!(
        store
            .link_channel(link, ChannelState::Connected, recado_domain::channel::Actor::Operator, NOW)
            .await
            .expect("stored")
    );
    let put = |key: &[u8]| SessionChange::Put { kind: 2, key: key.to_vec(), sealed: vec![0; 3], stamp: 5 };
    store
        .write_session(Held { channel, epoch: 0, session: 0 }, vec![put(&[0xff]), put(b"a"), put(b""), put(b"B")])
        .await
        .expect("stored");
    // In byte order, upper case is before lower case, and accented letters are after both.
    for phone in ["b", "B", "ação", MARIA] {
        store.note_account(channel, phone.to_owned(), Some(Party::of_number(MARIA)), NOW).await.expect("stored");
        store.note_chat(channel, Party::of_number(phone)).await.expect("stored");
    }
    let settlements = [
        Settlement::Sent {
            account: Some(MARIA.to_owned()),
            remote_id: format!("wamid.{id}").parse().ok(),
            rendition: None,
        },
        sent(),
        Settlement::Failed { code: "X".to_owned(), message: "não".to_owned() },
        Settlement::Unknown { resend_at: Some(NOW + 1), hold: None },
        Settlement::RetryUnanswered { run_at: NOW + DAY },
    ];
    let pacing = RecipientPacing { burst: 9, every: Duration::from_secs(6) };
    for (n, settlement) in settlements.into_iter().enumerate() {
        let idempotency = Some(ground.idempotency(&format!("{id} {n}"), 1));
        let message = NewMessage { idempotency, ..ground.new_message(channel, &format!("55{n}")) };
        assert_eq!(ground.enqueue(message).await, Enqueued::Accepted);
        let claim = ground.claim(ClaimRequest { recipient_pacing: Some(pacing), ..request(channel) }).await;
        ground.settle(channel, claim.messages[0].seq, settlement).await;
    }
    let of = MessageRef::RemoteId { remote_id: "wamid.unknown".parse().unwrap(), ours: None };
    let error = Some(("131026".to_owned(), "x".to_owned()));
    let status = MessageStatus::Failed;
    ground
        .apply(Receipt { channel, of, status, at: NOW, from: None, account: None, error, pauses: None, pricing: None })
        .await;
    ground.accept(channel, MARIA).await;
    ground.accept(channel, MARIA).await;
    // The last numbers are those of scheduled messages.
    ground.enqueue_id(NewMessage { send_at: Some(NOW + DAY), ..ground.new_message(channel, MARIA) }).await;
    store.defer_channel(channel, NOW + 5).await.expect("stored");
}

/// All data that the ports of a store return.
async fn shown(store: &dyn Store) -> Vec<String> {
    let channels = store.channels().await.expect("read");
    let mut shown = vec![
        format!("{:?}", store.institutions().await.expect("read")),
        format!("{:?}", store.api_keys().await.expect("read")),
        format!("{channels:?}"),
    ];
    for link in store.links().await.expect("read") {
        shown.push(format!("{link:?} {:?}", link.sealed));
    }
    for row in store.session_rows(None, 1_000).await.expect("read") {
        shown.push(format!("{row:?} {:?}", row.sealed));
    }
    let owner = (store.institutions().await.expect("read")[0].id, Environment::Live);
    for webhook in store.webhooks(owner).await.expect("read") {
        let query = DeliveryQuery {
            owner,
            webhook: webhook.id,
            status: None,
            event: None,
            from: None,
            to: None,
            before: None,
            offset: 0,
            limit: 10,
        };
        let log = store.deliveries(query).await.expect("read").expect("a webhook");
        assert_eq!(log.deliveries.len(), 1);
        shown.push(format!("{webhook:?} {:?}", log.deliveries));
    }
    for channel in &channels {
        let query = IncomingQuery { channel: channel.key, before: None, from: None, limit: 100 };
        shown.push(format!("{:?}", store.incoming_page(query).await.expect("read")));
    }
    let person = Person::new((0..5).map(|n| format!("55{n}")).chain([MARIA.to_owned()]).collect(), None);
    for part in [PersonPart::Messages, PersonPart::Keys, PersonPart::Contacts] {
        let page = store.person(PersonQuery { person: person.clone(), part, after: 0 }).await.expect("read");
        assert!(!page.rows.is_empty(), "{part:?}");
        let mut rows: Vec<_> = page.rows.iter().map(PersonRow::text).collect();
        rows.sort();
        shown.extend(rows);
    }
    shown
}

/// A filled and closed store, an empty database, and the data of the store.
async fn stage() -> (PathBuf, Ground, Database, Vec<String>) {
    let file = SqliteFile::new();
    let path = file.path();
    let ground = Ground::on(file).await;
    fill(&ground).await;
    let shown = shown(&*ground.store).await;
    ground.store.close().await;
    let unfinished = "INSERT INTO unfinished_reads VALUES (x'00', 1, 2);
                      INSERT INTO unfinished_moves VALUES (x'00', x'01', 'CONTACT', x'02', 'live', 3)";
    Connection::open(&path).expect("a file").execute_batch(unfinished).expect("written");
    (path, ground, Database::new(), shown)
}

#[tokio::test]
async fn a_store_is_the_same_in_the_database() {
    let (file, mut ground, database, before) = stage().await;
    // An event that was read once and is gone since.
    let connection = Connection::open(&file).expect("a file");
    let gone = "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events) RETURNING seq";
    let read_to: i64 = connection.query_row(gone, [], |row| row.get(0)).expect("an event");
    let mut last = Progress::default();
    let counts = import(&file, database.url(), |progress| last = progress, |_| Ok(())).await.expect("imported");
    assert!(counts.iter().all(|(_, rows)| *rows > 0), "a table without a row shows nothing: {counts:?}");
    let rows: u64 = counts.iter().map(|(_, rows)| rows).sum();
    assert_eq!(last, Progress { rows, copied: rows, compared: rows });
    ground.store = std::sync::Arc::new(PgStore::open(database.url(), database.url(), 2).await.expect("a store"));
    assert_eq!(shown(&*ground.store).await, before);

    // The database continues where the file ended: with its keys, its queue, and higher numbers.
    let channels = ground.store.channels().await.expect("read");
    let channel = channels.iter().find(|channel| channel.id.as_str() == "linha").expect("a channel").key;
    let highest = ground.all(channel).await.iter().map(|message| message.seq).max();
    let again =
        NewMessage { idempotency: Some(ground.idempotency("linha 0", 1)), ..ground.new_message(channel, "550") };
    assert!(matches!(ground.enqueue(again).await, Enqueued::Replayed(_)));
    let id = ground.accept(channel, MARIA).await;
    assert!(Some(ground.message(channel, id).await.seq) > highest);
    let made = ground.channel("novo").await;
    assert!(channels.iter().all(|channel| channel.key < made));
    let query = EventQuery { after: read_to, ..ground.event_query() };
    let next = ground.events(query).await;
    assert_eq!(next.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), ["message.queued", "channel.created"]);
    let meta = channels.iter().find(|channel| channel.id.as_str() == "meta").expect("a channel").key;
    let claim = ground.claim(ClaimRequest { now: NOW + 10, limit: 10, ..request(meta) }).await;
    assert_eq!(claim.messages.len(), 1, "the seats are kept: {claim:?}");

    let error = import(&file, database.url(), |_| {}, |_| Ok(())).await.expect_err("a database that is in use");
    assert!(error.to_string().contains("holds a store already"), "{error:#}");
}

#[tokio::test]
async fn a_changed_row_is_found() {
    let (file, _ground, database, _) = stage().await;
    import(&file, database.url(), |_| {}, |_| Ok(())).await.expect("imported");
    let source = Source::open(&file).expect("a store");
    // As if it had not ended yet.
    test_postgres::run(database.url(), "CREATE TABLE recado_import (name text PRIMARY KEY, after bytea, rows bigint)");
    let mut target = Target::open(database.url()).await.expect("a target");
    let changes = [
        ("institutions", "UPDATE institutions SET name = name || ' '"),
        ("api_keys", "UPDATE api_keys SET rate_limit = NULL"),
        ("event_consumers", "UPDATE event_consumers SET environment = 'test'"),
        ("event_logs", "UPDATE event_logs SET patterns = ''"),
        ("event_state", "UPDATE event_state SET deleted_until = deleted_until + 1"),
        ("channels", "UPDATE channels SET restricted_until = 0 WHERE id = 'meta'"),
        ("links", "UPDATE links SET sealed = '\\x00' WHERE channel_key = 2"),
        ("session_rows", "UPDATE session_rows SET key = '\\x62' WHERE key = '\\x61' AND channel_key = 1"),
        ("messages", "UPDATE messages SET unanswered = NOT unanswered WHERE seq = 3"),
        ("schedule", "UPDATE schedule SET due_at = due_at + 1"),
        ("idempotency_keys", "DELETE FROM idempotency_keys WHERE n = 2"),
        ("recipient_pace", "UPDATE recipient_pace SET used_until = used_until + 1"),
        ("early_receipts", "UPDATE early_receipts SET error_code = error_message, error_message = error_code"),
        ("accounts", "UPDATE accounts SET account = NULL WHERE phone = 'b'"),
        ("chats", "UPDATE chats SET account = 'c' WHERE account = 'b'"),
        ("contacts", "UPDATE contacts SET is_named = NOT is_named"),
        ("identities", "UPDATE identities SET value = value || '1'"),
        ("contact_grams", "UPDATE contact_grams SET gram = gram || '1'"),
        ("conversations", "UPDATE conversations SET unread = unread + 1"),
        ("read_signals", "UPDATE read_signals SET attempts = attempts + 1"),
        ("unfinished_reads", "UPDATE unfinished_reads SET until_seq = until_seq + 1"),
        ("unfinished_moves", "UPDATE unfinished_moves SET sent_seq = sent_seq + 1"),
        ("incoming", "UPDATE incoming SET raw = '\\x00'"),
        ("incoming_media", "UPDATE incoming_media SET sealed = NULL"),
        ("incoming_changes", "UPDATE incoming_changes SET held = ''"),
        ("content_to_delete", "UPDATE content_to_delete SET next_at = next_at + 1"),
        ("refused_arrivals", "UPDATE refused_arrivals SET tries = tries + 1"),
        ("poll_votes", "UPDATE poll_votes SET at = at + 1"),
        ("events", "UPDATE events SET at = at + 1 WHERE seq = 2"),
        ("webhooks", "UPDATE webhooks SET previous_until = 0"),
        ("webhook_queues", "UPDATE webhook_queues SET due_retry = 0"),
        ("fan_out", "UPDATE fan_out SET leader = NULL"),
        ("deliveries", "UPDATE deliveries SET attempt = 0"),
    ];
    assert_eq!(changes.len(), TABLES.len());
    for (table, change) in changes {
        let spec = TABLES.iter().find(|one| one.name == table).expect("a table");
        compare(&file, &source, &mut target, spec, |_| {}).await.expect("the same");
        test_postgres::run(database.url(), change);
        let error = compare(&file, &source, &mut target, spec, |_| {}).await.expect_err(table);
        assert!(error.to_string().starts_with(table), "{error:#}");
    }
}

#[tokio::test]
async fn an_import_resumes_where_it_stopped() {
    let (file, _ground, database, _) = stage().await;
    for table in ["channels", "messages", "chats"] {
        // Interrupted after this many tables: the future is dropped.
        let before = TABLES.iter().take_while(|one| one.name != table).count();
        let seen = std::cell::Cell::new(0);
        let mut running = std::pin::pin!(import(&file, database.url(), |_| seen.set(seen.get() + 1), |_| Ok(())));
        std::future::poll_fn(|context| match running.as_mut().poll(context) {
            std::task::Poll::Ready(done) => panic!("it ended: {done:?}"),
            std::task::Poll::Pending if seen.get() > before => std::task::Poll::Ready(()),
            std::task::Poll::Pending => std::task::Poll::Pending,
        })
        .await;
    }
    let error = PgStore::open(database.url(), database.url(), 1).await.err().map(|error| error.to_string());
    assert!(error.is_some_and(|error| error.contains("migrate-store")), "a node works on half a store");
    import(&file, database.url(), |_| {}, |_| Ok(())).await.expect("imported");
    PgStore::open(database.url(), database.url(), 1).await.expect("a store");
}

#[tokio::test]
async fn an_unsuitable_database_is_refused() {
    let (file, _ground, _, _) = stage().await;
    let database = Database::new();
    test_postgres::run(database.url(), "CREATE TABLE cards (id bigint)");
    let error = import(&file, database.url(), |_| {}, |_| Ok(())).await.expect_err("another program's database");
    assert!(error.to_string().contains("something else"), "{error:#}");
    assert_eq!(test_postgres::number(database.url(), "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), 1);
    let connection = Connection::open(&file).expect("a file");
    for (version, word) in [(SCHEMA - 1, "older"), (SCHEMA + 1, "newer"), (0, "no store")] {
        connection.pragma_update(None, "user_version", i64::try_from(version).expect("small")).expect("written");
        let error = import(&file, database.url(), |_| {}, |_| Ok(())).await.expect_err("another version");
        assert!(error.to_string().contains(word), "{error:#}");
    }
}

const SCHEMA: usize = crate::sqlite::SCHEMA_VERSION;

/// The list has the tables of the file except the empty ones, and each table is after those that it refers to.
#[tokio::test]
async fn no_table_is_forgotten() {
    let (file, _ground, ..) = stage().await;
    let connection = Connection::open(&file).expect("a file");
    let names = |sql: &str| -> Vec<String> {
        let mut statement = connection.prepare(sql).expect("a statement");
        let rows = statement.query_map([], |row| row.get(0)).expect("rows");
        rows.collect::<Result<_, _>>().expect("names")
    };
    let there: BTreeSet<_> = names("SELECT name FROM sqlite_schema WHERE type = 'table'").into_iter().collect();
    // SQLite's own table of the highest numbers has nothing that the rows do not have. Each store has its own identity.
    let others = ["probe", "sqlite_sequence", "event_identity"].map(str::to_owned);
    let listed: BTreeSet<_> = TABLES.iter().map(|table| table.name.to_owned()).chain(others).collect();
    assert_eq!(there, listed);
    for (place, table) in TABLES.iter().enumerate() {
        for of in names(&format!("SELECT \"table\" FROM pragma_foreign_key_list('{}')", table.name)) {
            assert!(TABLES[..place].iter().any(|earlier| earlier.name == of), "{} before {of}", table.name);
        }
        let key = names(&format!("SELECT name FROM pragma_table_info('{}') WHERE pk > 0 ORDER BY pk", table.name));
        assert_eq!(key, table.key, "{}", table.name);
    }
}
