//! The state of each webhook's deliveries: which can be claimed, and when.

use std::collections::{BTreeMap, BTreeSet};

use recado_domain::clock::Millis;
use recado_domain::event::EventSeq;
use recado_domain::webhook::{Due, Lane, QueueKey, QueueState, Streak, WebhookKey};

use super::cursor;
use crate::sqlkit::both::{Executor, List, Read, Row, run_each, value, values};

/// Locks the deliveries of these webhooks until the commit.
pub(super) async fn lock<E: Executor>(db: &E, webhooks: &[WebhookKey]) -> Result<(), E::Error> {
    let sql = format!(
        "SELECT webhook_key FROM webhook_queues WHERE {} ORDER BY webhook_key{}",
        E::any("webhook_key", 1),
        E::lock_for("update")
    );
    db.rows(&sql, values![List(webhooks.to_vec())], |_| Ok(())).await.map(drop)
}

/// What is known of the last attempts of a webhook.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub streak: Streak,
    /// Whether the receiver answered that its address is gone.
    pub gone: bool,
    /// Waiting deliveries of events up to this one are being ended.
    pub end_until: Option<EventSeq>,
}

impl Known {
    /// Whether the webhook is to be disabled.
    pub fn must_end(&self, now: Millis) -> bool {
        self.gone || self.streak.is_over(now)
    }
}

fn known(row: &Row<'_>) -> Read<Known> {
    let (failing_since, last_delivered_at) = (row.get("failing_since")?, row.get("last_delivered_at")?);
    let streak = Streak { failures: row.number("failures")?, failing_since, last_delivered_at };
    Ok(Known { streak, gone: row.get("gone")?, end_until: row.get("end_until")? })
}

/// What is known of the last attempts of each of these webhooks.
pub(super) async fn known_of<E: Executor>(
    db: &E,
    webhooks: &[WebhookKey],
) -> Result<BTreeMap<WebhookKey, Known>, E::Error> {
    let sql = format!(
        "SELECT webhook_key, failures, failing_since, last_delivered_at, gone, end_until FROM webhook_queues WHERE {}",
        E::any("webhook_key", 1)
    );
    let read = |row: &Row<'_>| Ok((row.get("webhook_key")?, known(row)?));
    Ok(db.rows(&sql, values![List(webhooks.to_vec())], read).await?.into_iter().collect())
}

pub(super) async fn streak<E: Executor>(db: &E, webhook: WebhookKey) -> Result<Option<Known>, E::Error> {
    Ok(known_of(db, &[webhook]).await?.remove(&webhook))
}

/// A webhook's state, and when its lanes were due so far.
pub(super) struct Waiting {
    pub webhook: WebhookKey,
    pub state: QueueState,
    due: Due,
}

/// The states of these webhooks, which are locked.
pub(super) async fn states<E: Executor>(
    db: &E,
    webhooks: &[WebhookKey],
    now: Millis,
) -> Result<Vec<Waiting>, E::Error> {
    let sql = format!(include_str!("states.sql"), webhooks = E::any("q.webhook_key", 1));
    let read = |row: &Row<'_>| {
        let known = known(row)?;
        let in_flight: usize = row.number("in_flight")?;
        let firsts: usize = row.number("firsts")?;
        let state = QueueState {
            is_open: row.get::<bool>("active")? && known.end_until.is_none(),
            failures: known.streak.failures,
            has_delivered: known.streak.last_delivered_at.is_some(),
            first_at: row.get("first_at")?,
            retry_at: row.get("retry_at")?,
            firsts,
            retries: in_flight.saturating_sub(firsts),
            lease_ends: row.get("lease_ends")?,
        };
        let due = Due { first: row.get("due_first")?, retry: row.get("due_retry")?, failing: row.get("due_failing")? };
        Ok(Waiting { webhook: row.get("webhook_key")?, state, due })
    };
    db.rows(&sql, values![List(webhooks.to_vec()), now], read).await
}

/// Writes when these webhooks are due. `served` is the lane of a claim, with the webhooks whose deliveries it takes.
pub(super) async fn refresh<E: Executor>(
    db: &E,
    webhooks: &[WebhookKey],
    now: Millis,
    served: Option<(Lane, &BTreeSet<WebhookKey>)>,
) -> Result<(), E::Error> {
    let changed = states(db, webhooks, now).await?.into_iter().filter_map(|waiting| {
        let served = served.filter(|(_, served)| served.contains(&waiting.webhook)).map(|(lane, _)| lane);
        let due = waiting.state.due(now, waiting.due, served);
        (due != waiting.due).then_some((waiting.webhook, due))
    });
    let changed: Vec<_> = changed.collect();
    let sql = "UPDATE webhook_queues SET due_first = ?2, due_retry = ?3, due_failing = ?4 WHERE webhook_key = ?1";
    let rows: Vec<_> = changed
        .iter()
        .map(|(webhook, due)| [value(webhook), value(&due.first), value(&due.retry), value(&due.failing)])
        .collect();
    run_each(db, sql, &rows).await
}

/// Makes the lanes of these webhooks due at once, so that the next claims find out when they are really due.
pub(super) async fn look_again<E: Executor>(db: &E, webhooks: &[WebhookKey]) -> Result<(), E::Error> {
    let sql = format!(
        "UPDATE webhook_queues SET due_first = 0, due_retry = 0, due_failing = 0 WHERE {}",
        E::any("webhook_key", 1)
    );
    db.run(&sql, values![List(webhooks.to_vec())]).await.map(drop)
}

/// Stops all claims of a webhook.
pub(super) async fn close<E: Executor>(db: &E, webhook: WebhookKey) -> Result<(), E::Error> {
    let sql = "UPDATE webhook_queues SET due_first = NULL, due_retry = NULL, due_failing = NULL, end_until = NULL
               WHERE webhook_key = ?1";
    db.run(sql, values![webhook]).await.map(drop)
}

/// Marks the waiting deliveries of a webhook as ending. No delivery of the webhook is claimed until all of them have
/// ended.
pub(super) async fn end_waiting<E: Executor>(db: &E, webhook: WebhookKey) -> Result<(), E::Error> {
    let until = cursor(db).await?;
    let sql = "UPDATE webhook_queues SET end_until = ?2 WHERE webhook_key = ?1
               AND EXISTS (SELECT 1 FROM deliveries d WHERE d.webhook_key = ?1 AND d.state = 0)";
    db.run(sql, values![webhook, until]).await.map(drop)
}

/// Opens a webhook for claims again if all deliveries that were marked as ending have ended.
pub(super) async fn end_ended<E: Executor>(db: &E, webhook: WebhookKey) -> Result<(), E::Error> {
    let sql = "UPDATE webhook_queues SET end_until = NULL
               WHERE webhook_key = ?1 AND end_until IS NOT NULL AND NOT EXISTS
                   (SELECT 1 FROM deliveries d WHERE d.webhook_key = ?1 AND d.state = 0 AND d.event_seq <= end_until)";
    db.run(sql, values![webhook]).await.map(drop)
}

/// Which of these queues of a webhook have a delivery that waits or is in flight.
pub(super) async fn waiting<E: Executor>(
    db: &E,
    webhook: WebhookKey,
    queues: &BTreeSet<QueueKey>,
) -> Result<BTreeSet<QueueKey>, E::Error> {
    if queues.is_empty() {
        return Ok(BTreeSet::new());
    }
    let sql = format!(
        "SELECT DISTINCT queue FROM deliveries{} WHERE webhook_key = ?2 AND {} AND state = 0",
        E::index("deliveries_waiting"),
        E::any("queue", 1)
    );
    let queues = List(queues.iter().copied().collect::<Vec<_>>());
    Ok(db.rows(&sql, values![queues, webhook], |row| row.get("queue")).await?.into_iter().collect())
}

/// Lets the first delivery of each of these queues be claimed, because the previous delivery of the queue has ended.
pub(super) async fn advance<E: Executor>(
    db: &E,
    ended: impl IntoIterator<Item = (WebhookKey, Option<QueueKey>)>,
) -> Result<(), E::Error> {
    let queues: BTreeSet<_> = ended.into_iter().filter_map(|(webhook, queue)| Some((webhook, queue?))).collect();
    let queues: Vec<_> = queues.into_iter().collect();
    let rows: Vec<_> = queues.iter().map(|(webhook, queue)| [value(webhook), value(queue)]).collect();
    let sql = format!(
        "UPDATE deliveries SET head = (1 = 1) WHERE webhook_key = ?1 AND NOT head AND event_seq =
             (SELECT min(event_seq) FROM deliveries{} WHERE webhook_key = ?1 AND queue = ?2 AND state = 0)",
        E::index("deliveries_waiting")
    );
    run_each(db, &sql, &rows).await
}
