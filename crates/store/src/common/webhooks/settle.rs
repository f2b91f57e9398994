//! Stores how attempts ended.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use recado_domain::clock::Millis;
use recado_domain::event::EventSeq;
use recado_domain::webhook::{
    AttemptLog, DeliveryRef, DeliveryResult, DeliveryStatus, QueueKey, RetryPolicy, Verdict, WebhookKey, logged,
    read_log,
};

use super::{queues, retry};
use crate::sqlkit::both::{Executor, List, Row, run_each, value, values};

/// A delivery in flight.
struct InFlight {
    failures: u32,
    replay: bool,
    queue: Option<QueueKey>,
    log: Vec<AttemptLog>,
    policy: Option<RetryPolicy>,
    /// Whether its webhook is disabled or deleted, so that no retry follows.
    ends: bool,
}

/// What an attempt changes in its delivery.
struct Outcome {
    event: EventSeq,
    webhook: WebhookKey,
    queue: Option<QueueKey>,
    status: i64,
    next_attempt_at: Option<Millis>,
    ended_at: Option<Millis>,
    failures: i64,
    log: String,
}

pub(crate) async fn settle<E: Executor>(
    db: &E,
    results: &[DeliveryResult],
    now: Millis,
) -> Result<Vec<WebhookKey>, E::Error> {
    let webhooks: BTreeSet<_> = results.iter().map(|result| result.of.webhook).collect();
    let webhooks: Vec<_> = webhooks.into_iter().collect();
    queues::lock(db, &webhooks).await?;
    let mut known = queues::known_of(db, &webhooks).await?;
    let mut in_flight = in_flight(db, results).await?;
    let mut outcomes = Vec::new();
    for DeliveryResult { of, ended } in results {
        // Fencing: if the lease was lost, another attempt is in flight, or none. Then this result changes nothing.
        let (Some(delivery), Some(known)) = (in_flight.remove(of), known.get_mut(&of.webhook)) else { continue };
        known.streak.add(ended, now);
        known.gone |= ended.is_gone();
        let ends = delivery.ends || known.end_until.is_some_and(|until| of.event <= until);
        let verdict = ended.verdict(delivery.failures, delivery.policy, ends);
        let log = logged(delivery.log, of.attempt, ended, delivery.replay);
        let failures = i64::from(delivery.failures) + i64::from(!ended.is_success());
        let (status, next_attempt_at) = match verdict {
            Verdict::Delivered => (DeliveryStatus::Delivered, None),
            Verdict::Retry(delay) => (DeliveryStatus::Pending, Some(now + delay)),
            Verdict::Failed => (DeliveryStatus::Failed, None),
        };
        outcomes.push(Outcome {
            event: of.event,
            webhook: of.webhook,
            queue: delivery.queue,
            status: i64::from(status.number()),
            next_attempt_at,
            ended_at: next_attempt_at.is_none().then_some(now),
            failures,
            log: serde_json::to_string(&log).unwrap_or_default(),
        });
    }
    write(db, &outcomes).await?;
    let settled: BTreeSet<_> = outcomes.iter().map(|outcome| outcome.webhook).collect();
    known.retain(|webhook, _| settled.contains(webhook));
    write_known(db, &known).await?;
    for (webhook, _) in known.iter().filter(|(_, known)| known.end_until.is_some()) {
        queues::end_ended(db, *webhook).await?;
    }
    queues::refresh(db, &webhooks, now, None).await?;
    Ok(known.into_iter().filter(|(_, known)| known.must_end(now)).map(|(webhook, _)| webhook).collect())
}

/// The deliveries of these attempts that are in flight.
async fn in_flight<E: Executor>(
    db: &E,
    results: &[DeliveryResult],
) -> Result<HashMap<DeliveryRef, InFlight>, E::Error> {
    let of = |part: fn(&DeliveryRef) -> i64| List(results.iter().map(|result| part(&result.of)).collect::<Vec<_>>());
    let sql = format!(
        "SELECT d.event_seq, d.webhook_key, d.attempt, d.failures, d.replay, d.queue, d.attempts,
                w.max_retries, w.retry_delay, (w.active AND NOT w.deleted) AS active
         FROM deliveries d JOIN webhooks w ON w.key = d.webhook_key
         WHERE {} AND {} AND d.state = 0 AND d.leased",
        E::any("d.event_seq", 1),
        E::any("d.webhook_key", 2)
    );
    let read = |row: &Row<'_>| {
        let of = DeliveryRef {
            event: row.get("event_seq")?,
            webhook: row.get("webhook_key")?,
            attempt: row.number("attempt")?,
        };
        let log: Option<String> = row.get("attempts")?;
        let delivery = InFlight {
            failures: row.number("failures")?,
            replay: row.get("replay")?,
            queue: row.get("queue")?,
            log: log.map(|log| read_log(&log)).unwrap_or_default(),
            policy: retry(row)?,
            ends: !row.get::<bool>("active")?,
        };
        Ok((of, delivery))
    };
    let found = db.rows(&sql, values![of(|of| of.event), of(|of| of.webhook)], read).await?;
    Ok(found.into_iter().collect())
}

async fn write<E: Executor>(db: &E, outcomes: &[Outcome]) -> Result<(), E::Error> {
    let sql = "UPDATE deliveries
               SET state = ?3, next_attempt_at = ?4, ended_at = ?5, failures = ?6, attempts = ?7, leased = (1 = 0),
                   head = (?3 = 0)
               WHERE event_seq = ?1 AND webhook_key = ?2";
    let rows: Vec<_> = outcomes
        .iter()
        .map(|of| {
            [
                value(&of.event),
                value(&of.webhook),
                value(&of.status),
                value(&of.next_attempt_at),
                value(&of.ended_at),
                value(&of.failures),
                value(&of.log),
            ]
        })
        .collect();
    run_each(db, sql, &rows).await?;
    let ended = outcomes.iter().filter(|outcome| outcome.ended_at.is_some());
    queues::advance(db, ended.map(|outcome| (outcome.webhook, outcome.queue))).await
}

async fn write_known<E: Executor>(db: &E, known: &BTreeMap<WebhookKey, queues::Known>) -> Result<(), E::Error> {
    let sql = "UPDATE webhook_queues SET failures = ?2, failing_since = ?3, last_delivered_at = ?4, gone = ?5
               WHERE webhook_key = ?1";
    let rows: Vec<_> =
        known.iter().map(|(webhook, known)| (webhook, i64::from(known.streak.failures), known)).collect();
    let rows: Vec<_> = rows
        .iter()
        .map(|(webhook, failures, known)| {
            let streak = &known.streak;
            [
                value(*webhook),
                value(failures),
                value(&streak.failing_since),
                value(&streak.last_delivered_at),
                value(&known.gone),
            ]
        })
        .collect();
    run_each(db, sql, &rows).await
}
