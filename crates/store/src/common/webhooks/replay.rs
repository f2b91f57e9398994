//! Sends deliveries again.

use std::collections::BTreeSet;

use recado_domain::clock::Millis;
use recado_domain::event::{EventSeq, Owner};
use recado_domain::ids::WebhookId;
use recado_domain::webhook::{
    DeliveryId, DeliveryStatus, QueueKey, Replay, ReplayBatch, ReplayQuery, ReplayStatus, WebhookKey, replay_queue,
};

use super::{key_of, log, queues};
use crate::sqlkit::both::{Executor, Read, Row, run_each, value, values};

/// Most deliveries of a batch.
const BATCH: usize = 500;

/// A delivery that may be sent again.
struct Found {
    event: EventSeq,
    name: String,
    status: i64,
    is_first: bool,
    leased_until: Option<Millis>,
    queue: Option<QueueKey>,
    created_at: Millis,
    /// Whether its event is kept.
    has_event: bool,
}

const COLUMNS: &str = "event_seq, event, state, head, leased, next_attempt_at, queue, created_at";
/// An event of a message counts as deleted when its message is deleted.
const HAS_EVENT: &str = "EXISTS (SELECT 1 FROM events e WHERE e.seq = event_seq AND
     (e.message_seq IS NULL OR EXISTS (SELECT 1 FROM messages m WHERE m.seq = e.message_seq))) AS has_event";

fn found(row: &Row<'_>) -> Read<Found> {
    let leased: bool = row.get("leased")?;
    Ok(Found {
        event: row.get("event_seq")?,
        name: row.get("event")?,
        status: row.get("state")?,
        is_first: row.get("head")?,
        leased_until: row.get::<Option<Millis>>("next_attempt_at")?.filter(|_| leased),
        queue: row.get("queue")?,
        created_at: row.get("created_at")?,
        has_event: row.get("has_event")?,
    })
}

/// Locks the deliveries of a webhook. Returns whether the webhook accepts deliveries.
async fn lock<E: Executor>(db: &E, key: WebhookKey) -> Result<bool, E::Error> {
    queues::lock(db, &[key]).await?;
    let sql = "SELECT (w.active AND NOT w.deleted AND q.end_until IS NULL) AS is_open
               FROM webhooks w JOIN webhook_queues q ON q.webhook_key = w.key WHERE w.key = ?1";
    Ok(db.row(sql, values![key], |row| row.get("is_open")).await?.unwrap_or(false))
}

pub(crate) async fn one<E: Executor>(
    db: &E,
    (owner, webhook): (Owner, WebhookId),
    id: DeliveryId,
    now: Millis,
) -> Result<Replay, E::Error> {
    let Some(key) = key_of(db, owner, webhook).await? else { return Ok(Replay::NotFound) };
    let is_open = lock(db, key).await?;
    let sql = format!("SELECT {COLUMNS}, {HAS_EVENT} FROM deliveries WHERE event_seq = ?1 AND webhook_key = ?2");
    let found = db.row(&sql, values![id.event_seq(), key], found).await?;
    let Some(found) = found.filter(|found| DeliveryId::new(webhook, found.event, found.created_at) == id) else {
        return Ok(Replay::NotFound);
    };
    if !found.has_event {
        return Ok(Replay::EventGone);
    }
    if !is_open {
        return Ok(Replay::Inactive);
    }
    if found.status != i64::from(DeliveryStatus::Pending.number()) {
        again(db, key, &[found], now).await?;
    } else if found.is_first && found.leased_until.is_none_or(|until| until <= now) {
        // The delivery waits for a retry, so it becomes due now. A delivery that waits in its queue is sent after the
        // earlier ones anyway, and a delivery in flight is being sent.
        let sql = "UPDATE deliveries SET replay = (1 = 1), failures = 0, lane = 1, next_attempt_at = ?3
                   WHERE event_seq = ?1 AND webhook_key = ?2";
        db.run(sql, values![found.event, key, now]).await?;
    }
    queues::refresh(db, &[key], now, None).await?;
    Ok(Replay::Scheduled)
}

pub(crate) async fn batch<E: Executor>(db: &E, query: &ReplayQuery) -> Result<ReplayBatch, E::Error> {
    let Some(key) = key_of(db, query.owner, query.webhook).await? else { return Ok(ReplayBatch::NotFound) };
    if !lock(db, key).await? {
        return Ok(ReplayBatch::Inactive);
    }
    let states: &[_] = match query.status {
        ReplayStatus::Failed => &[DeliveryStatus::Failed],
        ReplayStatus::All => &[DeliveryStatus::Delivered, DeliveryStatus::Failed],
    };
    let limit = query.limit.clamp(1, BATCH);
    let sql = format!(
        "SELECT {COLUMNS}, {HAS_EVENT} FROM ({}) AS scanned ORDER BY event_seq",
        log::scan::<E>(states, COLUMNS, ">", "ASC")
    );
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let after = match query.from {
        Some(from) if query.after == 0 => log::first_at(db, from).await?,
        _ => query.after,
    };
    let scanned = db.rows(&sql, values![key, after, most], found).await?;
    let is_full = scanned.len() == limit;
    let last = scanned.last().map(|last| (last.event, last.created_at));
    let wanted = scanned.into_iter().filter(|found| {
        found.event <= query.until
            && found.has_event
            && query.from.is_none_or(|from| found.created_at >= from)
            && query.to.is_none_or(|to| found.created_at < to)
            && query.events.as_ref().is_none_or(|events| events.matches(&found.name))
    });
    let wanted: Vec<_> = wanted.collect();
    again(db, key, &wanted, query.now).await?;
    queues::refresh(db, &[key], query.now, None).await?;
    let next = last.filter(|(event, at)| is_full && *event < query.until && query.to.is_none_or(|to| *at < to));
    Ok(ReplayBatch::Scheduled { count: wanted.len(), next: next.map(|(event, _)| event) })
}

/// Begins a new round of attempts of deliveries that have ended.
async fn again<E: Executor>(db: &E, key: WebhookKey, found: &[Found], now: Millis) -> Result<(), E::Error> {
    let queue_of = |found: &Found| replay_queue(found.queue);
    let mut waiting = queues::waiting(db, key, &found.iter().filter_map(queue_of).collect::<BTreeSet<_>>()).await?;
    let rows: Vec<_> = found
        .iter()
        .map(|found| {
            let queue = queue_of(found);
            (found.event, queue, queue.is_none_or(|queue| waiting.insert(queue)))
        })
        .collect();
    let sql = "UPDATE deliveries
               SET state = 0, replay = (1 = 1), failures = 0, lane = 1, leased = (1 = 0), queue = ?3, head = ?4,
                   next_attempt_at = ?5, ended_at = NULL
               WHERE event_seq = ?1 AND webhook_key = ?2";
    let rows: Vec<_> = rows
        .iter()
        .map(|(event, queue, head)| [value(event), value(&key), value(queue), value(head), value(&now)])
        .collect();
    run_each(db, sql, &rows).await
}
