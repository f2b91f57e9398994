//! Nodes that share the work on webhooks, and the cost of a claim beside long backlogs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all, join3};
use recado_domain::event::{EventQuery, EventSeq};
use recado_domain::webhook::{
    Attempt, ClaimedDelivery, DeliveryClaim, DeliveryResult, Lane, RetryPolicy, WebhookKey, WebhookSettings,
};
use test_postgres::{number, run};
use tokio::time::Instant;

use crate::Store;
use crate::conformance::webhooks::{create_at, event, settings};
use crate::fixtures::{Engine, Ground, MINUTE, NOW, PgDatabase};
use crate::sqlkit::both::Executor;
use crate::sqlkit::postgres::db::Db;
use crate::sqlkit::postgres::hosts::Hosts;

const PATIENCE: Duration = Duration::from_mins(1);

/// Reads events and creates deliveries until there are this many, without a lease, as two nodes do after a failover.
async fn fan_out(store: &dyn Store, database: &PgDatabase, deliveries: i64) -> usize {
    let mut reader = store.event_reader();
    let (mut cursor, mut created, patient_until): (EventSeq, _, _) = (0, 0, Instant::now() + PATIENCE);
    while number(database.url(), "SELECT count(*) FROM deliveries") < deliveries {
        assert!(Instant::now() < patient_until, "{created} deliveries");
        let query = EventQuery { owner: None, channel: None, after: cursor, limit: 7 };
        let page = reader.read(query).await.expect("read").expect("a cursor of this store");
        let done = store.fan_out(cursor, page, NOW).await.expect("stored");
        created += done.deliveries;
        cursor = done.cursor;
    }
    created
}

/// Claims and settles until this many are delivered. The first attempt of every third event fails.
async fn deliver(
    store: &dyn Store,
    seen: &std::sync::Mutex<Vec<ClaimedDelivery>>,
    (database, deliveries): (&PgDatabase, i64),
) {
    let patient_until = Instant::now() + PATIENCE;
    while number(database.url(), "SELECT count(*) FROM deliveries WHERE state = 1") < deliveries {
        assert!(Instant::now() < patient_until, "a delivery waits for ever");
        for lane in Lane::ALL {
            let claim = DeliveryClaim { lane, limit: 5, now: NOW + MINUTE, lease_until: NOW + 2 * MINUTE };
            let claimed = store.claim_deliveries(claim, Vec::new()).await.expect("stored").deliveries;
            let results = claimed.iter().map(|one| {
                let error = (one.of.event % 3 == 0 && one.of.attempt == 1)
                    .then_some(recado_domain::webhook::DeliveryError::ConnectFailed);
                let (status_code, response_time) = (None, 1);
                let ended = Attempt { at: NOW, status_code, response_time, error, retry_after: None, random: 0 };
                DeliveryResult { of: one.of, ended }
            });
            let results: Vec<_> = results.collect();
            seen.lock().expect("not poisoned").extend(claimed);
            store.record_attempts(results, NOW).await.expect("stored");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_create_and_claim_each_delivery_once() {
    let database = Arc::new(PgDatabase::new());
    let ground = Ground::on(database.clone()).await;
    let other = database.open().await;
    let retry = Some(RetryPolicy { max_retries: 5, delay: 5_000 });
    for _ in 0..4 {
        create_at(&ground, WebhookSettings { retry, ..settings() }, 0).await;
    }
    let writers = (0..10).map(|subject| {
        let (ground, other) = (&ground, &other);
        async move {
            for n in 0..12 {
                let store = if n % 2 == 0 { &ground.store } else { other };
                assert!(store.record_event(event(ground, "message.sent", subject, None)).await.expect("stored"));
            }
        }
    });
    let expected = 4 * 10 * 12;
    let nodes = join(fan_out(&*ground.store, &database, expected), fan_out(&*other, &database, expected));
    let seen = std::sync::Mutex::new(Vec::new());
    let of = (&*database, expected);
    let deliveries = join(deliver(&*ground.store, &seen, of), deliver(&*other, &seen, of));
    // All at once: events, deliveries, claims and settlements.
    let (_, (here, there), _) = join3(join_all(writers), nodes, deliveries).await;
    assert_eq!(i64::try_from(here + there), Ok(expected));
    assert_eq!(number(database.url(), "SELECT count(*) FROM deliveries"), expected);
    let seen = seen.into_inner().expect("not poisoned");
    let mut attempts: HashMap<_, Vec<u32>> = HashMap::new();
    let mut orders: BTreeMap<(WebhookKey, _), Vec<EventSeq>> = BTreeMap::new();
    for one in &seen {
        attempts.entry((one.of.webhook, one.of.event)).or_default().push(one.of.attempt);
        orders.entry((one.of.webhook, one.event.subject)).or_default().push(one.of.event);
    }
    for ((webhook, event), attempts) in attempts {
        let expected: &[_] = if event % 3 == 0 { &[1, 2] } else { &[1] };
        assert_eq!(attempts, expected, "{webhook}, {event}");
    }
    assert!(orders.values().all(|events| events.is_sorted()), "in order per message: {orders:?}");
}

/// The plan of the statement that finds what is due.
async fn plan(database: &PgDatabase, webhooks: &str) -> String {
    let (client, connection) =
        Hosts::parse(database.direct_url(), "").expect("a URL").connect().await.expect("connected");
    tokio::spawn(connection);
    let sql = <Db<'_> as Executor>::FIRST_DELIVERIES_OF_EACH
        .replace("?1", webhooks)
        .replace("?2", &NOW.to_string())
        .replace("?3", "8")
        .replace("?4", "0");
    let rows = client.query(&format!("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {sql}"), &[]).await.expect("planned");
    rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_long_backlog_costs_a_claim_nothing() {
    let database = Arc::new(PgDatabase::new());
    let ground = Ground::on(database.clone()).await;
    let dead = create_at(&ground, settings(), 0).await;
    let healthy = create_at(&ground, settings(), 0).await;
    // A dead webhook with a long backlog.
    let backlog = format!(
        "INSERT INTO deliveries (event_seq, webhook_key, event, event_at, queue, state, head, lane, leased,
                                 next_attempt_at, attempt, failures, replay, created_at)
         SELECT n, {}, 'message.sent', 0, n / 3, 0, n % 3 = 0, 0, false, {NOW} - 300000 + n, 0, 0, false, 0
         FROM generate_series(1, 200000) AS n",
        dead.key
    );
    run(database.url(), &backlog);
    let webhooks = format!("ARRAY[{}, {}]::bigint[]", dead.key, healthy.key);
    for analyzed in [false, true] {
        let plan = plan(&database, &webhooks).await;
        assert!(plan.contains("using deliveries_due"), "{analyzed}: {plan}");
        assert!(!plan.contains("Seq Scan on deliveries") && !plan.contains("Sort"), "{analyzed}: {plan}");
        let hits =
            plan.split("shared hit=").nth(1).and_then(|rest| rest.split(|sign: char| !sign.is_ascii_digit()).next());
        let hits: u32 = hits.and_then(|hits| hits.parse().ok()).expect("buffers");
        assert!(hits < 100, "{analyzed}: {plan}");
        run(database.url(), "ANALYZE deliveries");
    }
    // Whole claims, with all their statements.
    assert!(ground.store.record_event(event(&ground, "message.sent", 1, None)).await.expect("stored"));
    let due = format!("UPDATE webhook_queues SET due_first = {NOW} - 5");
    run(database.url(), &due);
    let claim = DeliveryClaim { lane: Lane::First, limit: 10, now: NOW, lease_until: NOW + MINUTE };
    let began = Instant::now();
    ground.store.claim_deliveries(claim, Vec::new()).await.expect("stored");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}
