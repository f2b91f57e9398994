//! Ends and deletes deliveries in small batches, so that no other work waits long.

use std::collections::BTreeSet;

use recado_domain::clock::Millis;
use recado_domain::event::EventSeq;
use recado_domain::webhook::{DELIVERY_RETENTION, DeliveryStatus, QueueKey, WEBHOOKS, WebhookKey};

use super::queues;
use crate::sqlkit::both::{Executor, List, Read, Row, Value, run_each, value, values};

/// Most deliveries of a batch.
const BATCH: i64 = 500;

pub(crate) async fn tidy<E: Executor>(db: &E, now: Millis) -> Result<bool, E::Error> {
    Ok(end_of_disabled(db, now).await? || delete_of_deleted(db).await? || delete_old(db, now).await?)
}

/// Ends waiting deliveries of a webhook that was disabled; whether there may be more.
async fn end_of_disabled<E: Executor>(db: &E, now: Millis) -> Result<bool, E::Error> {
    let sql =
        "SELECT webhook_key, end_until FROM webhook_queues WHERE end_until IS NOT NULL ORDER BY webhook_key LIMIT ?1";
    let most = i64::try_from(WEBHOOKS).unwrap_or(i64::MAX);
    let read = |row: &Row<'_>| Ok((row.get::<WebhookKey>("webhook_key")?, row.get::<EventSeq>("end_until")?));
    for (webhook, until) in db.rows(sql, values![most], read).await? {
        queues::lock(db, &[webhook]).await?;
        // The results of those in flight still count.
        let sql = "SELECT event_seq, webhook_key, queue FROM deliveries
                   WHERE webhook_key = ?1 AND state = 0 AND event_seq <= ?2 AND NOT (leased AND next_attempt_at > ?3)
                   ORDER BY event_seq LIMIT ?4";
        let ended = db.rows(sql, values![webhook, until, now, BATCH], found).await?;
        let sql = format!(
            "UPDATE deliveries SET state = {}, head = (1 = 0), leased = (1 = 0), next_attempt_at = NULL, ended_at = ?3
             WHERE webhook_key = ?2 AND {}",
            DeliveryStatus::Failed.number(),
            E::any("event_seq", 1)
        );
        let events = List(ended.iter().map(|found| found.event).collect::<Vec<_>>());
        db.run(&sql, values![events, webhook, now]).await?;
        queues::advance(db, ended.iter().map(|found| (found.webhook, found.queue))).await?;
        if i64::try_from(ended.len()) == Ok(BATCH) {
            return Ok(true);
        }
        let sql = "UPDATE webhook_queues SET end_until = NULL WHERE webhook_key = ?1 AND NOT EXISTS
                       (SELECT 1 FROM deliveries d WHERE d.webhook_key = ?1 AND d.state = 0 AND d.event_seq <= ?2)";
        db.run(sql, values![webhook, until]).await?;
        queues::refresh(db, &[webhook], now, None).await?;
    }
    Ok(false)
}

/// Deletes deliveries of a webhook that was deleted, and the webhook after the last one; whether there may be more.
async fn delete_of_deleted<E: Executor>(db: &E) -> Result<bool, E::Error> {
    let sql = "SELECT key FROM webhooks WHERE deleted ORDER BY key LIMIT 1";
    let Some(webhook) = db.row(sql, values![], |row| row.get::<WebhookKey>("key")).await? else { return Ok(false) };
    // A fan-out that has begun before the deletion ends first.
    queues::lock(db, &[webhook]).await?;
    let sql = "DELETE FROM deliveries WHERE webhook_key = ?1 AND event_seq IN
                   (SELECT event_seq FROM deliveries WHERE webhook_key = ?1 ORDER BY state, event_seq LIMIT ?2)";
    if db.run(sql, values![webhook, BATCH]).await? == 0 {
        db.run("DELETE FROM webhook_queues WHERE webhook_key = ?1", values![webhook]).await?;
        db.run("DELETE FROM webhooks WHERE key = ?1", values![webhook]).await?;
    }
    Ok(true)
}

/// Deletes the oldest deliveries, as far as they are old enough; whether there may be more.
async fn delete_old<E: Executor>(db: &E, now: Millis) -> Result<bool, E::Error> {
    let before = now - DELIVERY_RETENTION;
    let sql = "SELECT event_seq, webhook_key, queue, created_at FROM deliveries ORDER BY event_seq LIMIT ?1";
    let read = |row: &Row<'_>| Ok((found(row)?, row.get::<Millis>("created_at")?));
    let oldest = db.rows(sql, values![BATCH], read).await?;
    let old: Vec<_> = oldest.into_iter().take_while(|(_, at)| *at < before).map(|(found, _)| found).collect();
    delete(db, &old).await?;
    Ok(i64::try_from(old.len()) == Ok(BATCH))
}

/// A delivery to end or delete.
struct Found {
    event: EventSeq,
    webhook: WebhookKey,
    queue: Option<QueueKey>,
}

fn found(row: &Row<'_>) -> Read<Found> {
    Ok(Found { event: row.get("event_seq")?, webhook: row.get("webhook_key")?, queue: row.get("queue")? })
}

/// Deletes deliveries, and lets those that waited for them be claimed.
async fn delete<E: Executor>(db: &E, found: &[Found]) -> Result<(), E::Error> {
    if found.is_empty() {
        return Ok(());
    }
    let webhooks: BTreeSet<_> = found.iter().map(|found| found.webhook).collect();
    let webhooks: Vec<_> = webhooks.into_iter().collect();
    queues::lock(db, &webhooks).await?;
    let sql = "DELETE FROM deliveries WHERE event_seq = ?1 AND webhook_key = ?2";
    let rows: Vec<_> = found.iter().map(|found| [value(&found.event), value(&found.webhook)]).collect();
    run_each(db, sql, &rows).await?;
    queues::advance(db, found.iter().map(|found| (found.webhook, found.queue))).await?;
    queues::look_again(db, &webhooks).await
}

/// Deletes the deliveries of events, which a condition selects by the value `?1`. Call it before the events are deleted.
pub(crate) async fn forget<E: Executor>(db: &E, events: &str, of: Value<'_>) -> Result<u64, E::Error> {
    let sql = format!(
        "SELECT event_seq, webhook_key, queue FROM deliveries WHERE event_seq IN (SELECT seq FROM events WHERE {events})"
    );
    let gone = db.rows(&sql, &[of], found).await?;
    delete(db, &gone).await?;
    Ok(gone.len() as u64)
}

/// Ends all leases of a process that is gone, on a store that one process owns.
pub(crate) async fn release_all<E: Executor>(db: &E) -> Result<(), E::Error> {
    let sql = "UPDATE webhook_queues SET due_first = 0, due_retry = 0, due_failing = 0
               WHERE webhook_key IN (SELECT webhook_key FROM deliveries WHERE leased)";
    db.run(sql, values![]).await?;
    db.run("UPDATE deliveries SET next_attempt_at = created_at, leased = (1 = 0) WHERE leased", values![])
        .await
        .map(drop)
}
