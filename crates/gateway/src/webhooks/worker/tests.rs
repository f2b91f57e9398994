//! The worker alone, with a real store.

use std::io;
use std::net::IpAddr;

use async_trait::async_trait;
use axum::http::HeaderMap;
use recado_domain::api_key::Environment;
use recado_domain::event::{NewEvent, Owner};
use recado_domain::ids::WebhookId;
use recado_domain::webhook::{Attempt, NewWebhook, WebhookCreated, WebhookSettings};
use recado_providers::outbound::address::Allowed;
use recado_providers::outbound::client::{Client, Failure, Resolve};
use recado_providers::outbound::url::TargetUrl;
use recado_store::clock::{SystemClock, SystemEntropy};
use recado_store::fixtures::{Ground, NOW, PgDatabase, SqliteFile, new_event, webhook_settings};
use recado_store::sealed::{KeyRing, Place};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::*;
use crate::events::Events;

const PATIENCE: Duration = Duration::from_secs(10);

fn keys(digit: &str) -> KeyRing {
    KeyRing::parse(&digit.repeat(64)).expect("a key")
}

fn now() -> Millis {
    recado_domain::clock::Clock::now(&SystemClock)
}

/// A worker that may send to this machine, and what stops it.
fn worker(ground: &Ground, keys: KeyRing) -> (Worker, CancellationToken) {
    let stop = CancellationToken::new();
    (Worker::new(Arc::new(webhooks(ground, keys)), false, stop.clone()), stop)
}

fn webhooks(ground: &Ground, keys: KeyRing) -> Webhooks {
    let parts = (ground.store.clone(), Arc::new(Events::new(ground.store.clone())));
    let to = (Allowed::new(vec!["127.0.0.0/8".parse().expect("a network")], Vec::new()), "");
    Webhooks::new(parts, Arc::new(keys), (Arc::new(SystemClock), Arc::new(SystemEntropy)), to)
}

/// A store with a webhook to this address, its secret sealed with these keys, and one delivery that is due.
async fn with_delivery(url: &str, keys: &KeyRing) -> Ground {
    with_delivery_on(Ground::on(SqliteFile::new()).await, url, keys).await
}

/// The same in this store.
async fn with_delivery_on(ground: Ground, url: &str, keys: &KeyRing) -> Ground {
    let (owner, id): (Owner, _) = ((ground.institution, Environment::Live), WebhookId::new(NOW, [7; 10]));
    let secret = keys.seal(Place::WebhookSecret(id), b"um-segredo-bem-longo", &SystemEntropy).expect("a key");
    let settings = WebhookSettings { url: url.to_owned(), secret, ..webhook_settings() };
    let new = NewWebhook { id, owner, settings, after: 0, now: now() };
    assert!(matches!(ground.store.create_webhook(new).await.expect("stored"), WebhookCreated::Created(_)));
    ground.deliver(NewEvent { at: now(), ..new_event(owner, 2) }, now()).await;
    ground
}

/// The attempts that another node could make at this time.
async fn claimed(ground: &Ground, now: Millis) -> Vec<u32> {
    let mut attempts = Vec::new();
    for lane in Lane::ALL {
        let claim = DeliveryClaim { lane, limit: 9, now, lease_until: now + 1_000 };
        let claims = ground.store.claim_deliveries(claim, Vec::new()).await.expect("stored");
        attempts.extend(claims.deliveries.iter().map(|delivery| delivery.of.attempt));
    }
    attempts
}

#[tokio::test]
async fn a_stop_after_the_step_of_an_idle_worker_ends_it() {
    let ground = Ground::on(SqliteFile::new()).await;
    let (mut worker, stop) = worker(&ground, KeyRing::default());
    worker.settle_and_claim().await.expect("the store works");
    stop.cancel();
    timeout(PATIENCE, worker.wait()).await.expect("it does not wait for nothing");
}

#[tokio::test]
async fn what_this_node_cannot_sign_is_left_to_other_nodes() {
    let ground = with_delivery("https://loja.exemplo.com/eventos", &keys("8")).await;
    let (mut worker, _stop) = worker(&ground, keys("7"));
    worker.settle_and_claim().await.expect("the store works");
    assert!(worker.sends.is_empty());
    assert_eq!(claimed(&ground, now()).await, [1], "at once, and as the first attempt");
}

#[tokio::test]
async fn a_stop_waits_for_a_request_in_flight_and_stores_its_outcome() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/eventos", listener.local_addr().expect("an address"));
    let ground = with_delivery(&url, &keys("7")).await;
    let (worker, stop) = worker(&ground, keys("7"));
    let running = tokio::spawn(worker.run());
    let (mut receiver, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("a request");
    let mut begin = [0; 64];
    assert!(timeout(PATIENCE, receiver.read(&mut begin)).await.expect("in time").expect("read") > 0);
    stop.cancel();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!running.is_finished(), "the receiver has not answered");
    receiver.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.expect("written");
    timeout(PATIENCE, running).await.expect("in time").expect("no panic");
    // Long after the lease of the attempt.
    assert_eq!(claimed(&ground, now() + 60 * 60 * 1_000).await, [0; 0], "it was delivered");
}

#[tokio::test]
async fn an_outcome_that_the_store_refuses_takes_no_other_with_it() {
    let database = Arc::new(PgDatabase::new());
    let ground = Ground::on(database.clone()).await;
    let ground = with_delivery_on(ground, "https://loja.exemplo.com/eventos", &keys("7")).await;
    let owner: Owner = (ground.institution, Environment::Live);
    ground.deliver(NewEvent { at: now(), ..new_event(owner, 3) }, now()).await;
    let claim = DeliveryClaim { lane: Lane::First, limit: 9, now: now(), lease_until: now() + 60_000 };
    let claimed = ground.store.claim_deliveries(claim, Vec::new()).await.expect("stored").deliveries;
    assert_eq!(claimed.len(), 2);
    let refused = claimed[0].of.event;
    test_postgres::run(database.url(), &format!("UPDATE deliveries SET failures = -1 WHERE event_seq = {refused}"));
    let (mut worker, _stop) = worker(&ground, keys("7"));
    let (at, status_code) = (now(), Some(200));
    let ended = Attempt { at, status_code, response_time: 1, error: None, retry_after: None, random: 0 };
    worker.ended = claimed.iter().map(|delivery| DeliveryResult { of: delivery.of, ended }).collect();
    worker.settle().await.expect("the store works");
    assert!(worker.ended.is_empty());
    let delivered = "SELECT count(*) FROM deliveries WHERE ended_at IS NOT NULL";
    assert_eq!(test_postgres::number(database.url(), delivered), 1);
}

/// Every name leads to this machine, once it may be answered.
struct Names(Semaphore);

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        drop(self.0.acquire().await);
        Ok(vec![IpAddr::from([127, 0, 0, 1])])
    }
}

#[tokio::test]
async fn a_delivery_that_finds_no_lookup_is_sent_later_as_the_same_attempt() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let ground = with_delivery(&format!("http://loja.exemplo.com:{port}/eventos"), &keys("7")).await;
    let names = Arc::new(Names(Semaphore::new(0)));
    let mut webhooks = webhooks(&ground, keys("7"));
    let reach = Allowed::new(vec!["127.0.0.0/8".parse().expect("a network")], Vec::new());
    webhooks.client = Client::new(reach).resolving_by(names.clone(), Duration::from_millis(200));
    let (webhooks, stop) = (Arc::new(webhooks), CancellationToken::new());
    let mut worker = Worker::new(webhooks.clone(), false, stop.clone());
    // Names that are not answered take the share of the institution.
    let mut hanging = JoinSet::new();
    for n in 0..64 {
        let (webhooks, of) = (webhooks.clone(), ground.institution);
        hanging.spawn(async move {
            let url = TargetUrl::parse(&format!("http://n{n}.exemplo.com:8080/")).expect("a URL");
            webhooks.client.post(&url, Some(of), HeaderMap::new(), Bytes::new()).await
        });
    }
    // Those beyond the share have given up, so it is used up.
    let busy = timeout(PATIENCE, hanging.join_next()).await.expect("in time").expect("a call").expect("no panic");
    assert_eq!(busy, Err(Failure::Busy));
    worker.settle_and_claim().await.expect("the store works");
    assert_eq!(worker.sends.len(), 1);
    timeout(PATIENCE, worker.wait()).await.expect("it gives up");
    assert_eq!((worker.unsent.len(), worker.ended.len()), (1, 0), "it has not failed");
    let running = tokio::spawn(worker.run());
    names.0.close();
    let (mut receiver, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("a request");
    let mut head = vec![0; 4_096];
    let read = timeout(PATIENCE, receiver.read(&mut head)).await.expect("in time").expect("read");
    let head = String::from_utf8_lossy(&head[..read]).to_lowercase();
    assert!(head.starts_with("post /eventos ") && !head.contains("webhook-attempt"), "{head}");
    receiver.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.expect("written");
    stop.cancel();
    timeout(PATIENCE, running).await.expect("in time").expect("no panic");
    assert_eq!(claimed(&ground, now() + 60 * 60 * 1_000).await, [0; 0], "it was delivered");
}
