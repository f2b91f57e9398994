//! Ends and deletes deliveries in small batches, so that no other work waits long.

use std::collections::BTreeSet;

use recado_domain::clock::Millis;
use recado_domain::event::EventSeq;
use recado_domain::webhook::{DELIVERY_RETENTION, DeliveryStatus, QueueKey, WebhookKey};

use super::queues;
use crate::common::age::Dated;
use crate::common::purge::ALL;
use crate::sqlkit::both::{Executor, List, Row, Value, values};

/// Most deliveries of a batch.
const BATCH: i64 = 500;

/// Does one part in each call. So the transaction is short, and it locks the queue of one webhook, or all queues at
/// once.
pub(crate) async fn tidy<E: Executor>(db: &E, now: Millis) -> Result<bool, E::Error> {
    Ok(forget_secrets(db, now).await?
        || end_of_disabled(db, now).await?
        || delete_of_deleted(db).await?
        || delete_old(db, now).await?)
}

/// Deletes replaced secrets that sign no requests any more. Returns whether there were some.
async fn forget_secrets<E: Executor>(db: &E, now: Millis) -> Result<bool, E::Error> {
    let sql = "UPDATE webhooks SET previous_secret = NULL, previous_until = NULL, revision = revision + 1
               WHERE previous_until <= ?1";
    Ok(db.run(sql, values![now]).await? > 0)
}

/// Ends waiting deliveries of a webhook that was disabled. Returns whether there may be more.
async fn end_of_disabled<E: Executor>(db: &E, now: Millis) -> Result<bool, E::Error> {
    // Deliveries in flight are left out, because their results still count.
    let waiting = "d.webhook_key = q.webhook_key AND d.state = 0 AND d.event_seq <= q.end_until";
    let sql = format!(
        "SELECT q.webhook_key, q.end_until FROM webhook_queues q WHERE q.end_until IS NOT NULL AND
             (EXISTS (SELECT 1 FROM deliveries d WHERE {waiting} AND NOT (d.leased AND d.next_attempt_at > ?1))
              OR NOT EXISTS (SELECT 1 FROM deliveries d WHERE {waiting}))
         ORDER BY q.webhook_key LIMIT 1"
    );
    let read = |row: &Row<'_>| Ok((row.get::<WebhookKey>("webhook_key")?, row.get::<EventSeq>("end_until")?));
    let Some((webhook, until)) = db.row(&sql, values![now], read).await? else { return Ok(false) };
    queues::lock(db, &[webhook]).await?;
    let sql = "SELECT event_seq, queue FROM deliveries
               WHERE webhook_key = ?1 AND state = 0 AND event_seq <= ?2 AND NOT (leased AND next_attempt_at > ?3)
               ORDER BY event_seq LIMIT ?4";
    let read = |row: &Row<'_>| Ok((row.get::<EventSeq>("event_seq")?, row.get::<Option<QueueKey>>("queue")?));
    let ended = db.rows(sql, values![webhook, until, now, BATCH], read).await?;
    let sql = format!(
        "UPDATE deliveries SET state = {}, head = (1 = 0), leased = (1 = 0), next_attempt_at = NULL, ended_at = ?3
         WHERE webhook_key = ?2 AND {}",
        DeliveryStatus::Failed.number(),
        E::any("event_seq", 1)
    );
    let events = List(ended.iter().map(|(event, _)| *event).collect::<Vec<_>>());
    db.run(&sql, values![events, webhook, now]).await?;
    queues::advance(db, ended.iter().map(|(_, queue)| (webhook, *queue))).await?;
    queues::end_ended(db, webhook).await?;
    queues::refresh(db, &[webhook], now, None).await?;
    Ok(true)
}

/// Deletes deliveries of a webhook that was deleted, and the webhook after its last delivery. Returns whether there may
/// be more.
async fn delete_of_deleted<E: Executor>(db: &E) -> Result<bool, E::Error> {
    let sql = "SELECT key FROM webhooks WHERE deleted ORDER BY key LIMIT 1";
    let Some(webhook) = db.row(sql, values![], |row| row.get::<WebhookKey>("key")).await? else { return Ok(false) };
    // The lock waits for a fan-out that began before the deletion.
    queues::lock(db, &[webhook]).await?;
    let sql = "DELETE FROM deliveries WHERE webhook_key = ?1 AND event_seq IN
                   (SELECT event_seq FROM deliveries WHERE webhook_key = ?1 ORDER BY state, event_seq LIMIT ?2)";
    if db.run(sql, values![webhook, BATCH]).await? == 0 {
        db.run("DELETE FROM webhook_queues WHERE webhook_key = ?1", values![webhook]).await?;
        db.run("DELETE FROM webhooks WHERE key = ?1", values![webhook]).await?;
    }
    Ok(true)
}

/// Deletes the oldest deliveries, as far as they are old enough. Returns whether there may be more.
async fn delete_old<E: Executor>(db: &E, now: Millis) -> Result<bool, E::Error> {
    let before = now - DELIVERY_RETENTION;
    let deliveries = Dated { table: "deliveries", number: "event_seq", time: "created_at", which: ALL };
    let oldest = deliveries.head(db, BATCH).await?;
    let Some(last) = deliveries.last_old(db, &oldest, (before, now)).await? else { return Ok(false) };
    delete(db, "event_seq <= ?1 AND (created_at < ?2 OR created_at > ?3)", values![last, before, now]).await?;
    Ok(i64::try_from(oldest.len()) == Ok(BATCH))
}

/// Deletes the deliveries that a condition selects, and lets those that waited for them be claimed.
async fn delete<E: Executor>(db: &E, of: &str, values: &[Value<'_>]) -> Result<(), E::Error> {
    let sql = format!("SELECT DISTINCT webhook_key FROM deliveries WHERE {of} ORDER BY webhook_key");
    let webhooks = db.rows(&sql, values, |row| row.get::<WebhookKey>("webhook_key")).await?;
    if webhooks.is_empty() {
        return Ok(());
    }
    queues::lock(db, &webhooks).await?;
    let sql = format!("DELETE FROM deliveries WHERE {of} RETURNING webhook_key, queue, (state = 0) AS waited");
    let read = |row: &Row<'_>| {
        let of = (row.get::<WebhookKey>("webhook_key")?, row.get::<Option<QueueKey>>("queue")?);
        Ok(row.get::<bool>("waited")?.then_some(of))
    };
    let waited: Vec<_> = db.rows(&sql, values, read).await?.into_iter().flatten().collect();
    // A fan-out may have created some of the deleted deliveries after the first query.
    let webhooks: BTreeSet<_> = webhooks.into_iter().chain(waited.iter().map(|(webhook, _)| *webhook)).collect();
    let webhooks: Vec<_> = webhooks.into_iter().collect();
    queues::lock(db, &webhooks).await?;
    queues::advance(db, waited).await?;
    queues::look_again(db, &webhooks).await
}

/// Deletes the deliveries of events, which a condition selects by the value `?1`. Call it before the events are deleted.
pub(crate) async fn forget<E: Executor>(db: &E, events: &str, of: Value<'_>) -> Result<(), E::Error> {
    delete(db, &format!("event_seq IN (SELECT seq FROM events WHERE {events})"), &[of]).await
}

/// Ends all leases of the previous process, on a store that one process owns.
pub(crate) async fn release_all<E: Executor>(db: &E) -> Result<(), E::Error> {
    let sql = "UPDATE webhook_queues SET due_first = 0, due_retry = 0, due_failing = 0
               WHERE webhook_key IN (SELECT webhook_key FROM deliveries WHERE leased)";
    db.run(sql, values![]).await?;
    db.run("UPDATE deliveries SET next_attempt_at = created_at, leased = (1 = 0) WHERE leased", values![])
        .await
        .map(drop)
}
