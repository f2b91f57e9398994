//! Claims due deliveries.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use recado_domain::clock::Millis;
use recado_domain::event::{EventSeq, scope_of};
use recado_domain::webhook::{
    ClaimedDelivery, DeliveryClaim, DeliveryClaims, DeliveryId, DeliveryRef, DeliveryStatus, IN_FLIGHT, Lane, QueueKey,
    WebhookKey,
};

use super::{many, queues};
use crate::common::events;
use crate::sqlkit::both::{Executor, List, Row, run_each, value, values};

/// The column that says when a lane of a webhook is due.
fn due(lane: Lane) -> &'static str {
    match lane {
        Lane::First => "due_first",
        Lane::Retry => "due_retry",
        Lane::Failing => "due_failing",
    }
}

struct Found {
    event: EventSeq,
    webhook: WebhookKey,
    queue: Option<QueueKey>,
    attempt: u32,
    replay: bool,
    created_at: Millis,
    due_at: Millis,
    /// Whether the lease of the last attempt ended before the attempt.
    is_lost: bool,
}

/// A delivery that loses its lease after this many attempts becomes a dead letter. The retry schedule counts only
/// attempts that end. Without this limit, a delivery that crashes its process on each attempt would be sent for ever.
const ATTEMPTS: u32 = if cfg!(test) { 50 } else { 2_000 };

impl Found {
    fn is_hopeless(&self) -> bool {
        self.is_lost && self.attempt >= ATTEMPTS
    }
}

pub(crate) async fn claim<E: Executor>(
    db: &E,
    claim: &DeliveryClaim,
    except: &[WebhookKey],
) -> Result<DeliveryClaims, E::Error> {
    let DeliveryClaim { lane, limit, now, .. } = *claim;
    let column = due(lane);
    // A webhook that another transaction has locked is left to the next claim.
    let sql = format!(
        "SELECT webhook_key FROM webhook_queues WHERE {column} <= ?1 AND NOT {}
         ORDER BY {column}, webhook_key LIMIT ?2{}",
        E::any("webhook_key", 3),
        E::lock_for("update skip locked")
    );
    let limited = i64::try_from(limit).unwrap_or(i64::MAX);
    let webhooks =
        db.rows(&sql, values![now, limited, List(except.to_vec())], |row| row.get::<WebhookKey>("webhook_key")).await?;
    let mut deliveries = Vec::new();
    if !webhooks.is_empty() {
        let found = find(db, &webhooks, claim).await?;
        let served: BTreeSet<_> = found.iter().map(|found| found.webhook).collect();
        deliveries = lease(db, found, claim).await?;
        queues::refresh(db, &webhooks, now, Some((lane, &served))).await?;
    }
    let sql = format!(
        "SELECT min({column}) AS next_at FROM webhook_queues WHERE {column} IS NOT NULL AND NOT {}",
        E::any("webhook_key", 1)
    );
    let next_at = db.row(&sql, values![List(except.to_vec())], |row| row.get("next_at")).await?.flatten();
    Ok(DeliveryClaims { deliveries, next_at })
}

pub(crate) async fn release<E: Executor>(db: &E, deliveries: &[DeliveryRef], now: Millis) -> Result<(), E::Error> {
    let webhooks: BTreeSet<_> = deliveries.iter().map(|of| of.webhook).collect();
    let webhooks: Vec<_> = webhooks.into_iter().collect();
    queues::lock(db, &webhooks).await?;
    let sql = "UPDATE deliveries
               SET leased = (1 = 0), attempt = attempt - 1, next_attempt_at = ?4,
                   lane = CASE WHEN attempt = 1 THEN 0 ELSE 1 END
               WHERE event_seq = ?1 AND webhook_key = ?2 AND attempt = ?3 AND state = 0 AND leased";
    let attempts: Vec<_> = deliveries.iter().map(|of| (of, i64::from(of.attempt))).collect();
    let rows: Vec<_> = attempts
        .iter()
        .map(|(of, attempt)| [value(&of.event), value(&of.webhook), value(attempt), value(&now)])
        .collect();
    run_each(db, sql, &rows).await?;
    queues::look_again(db, &webhooks).await
}

/// The deliveries to claim: the first one of each webhook, then the second one of each, up to the limit.
async fn find<E: Executor>(db: &E, webhooks: &[WebhookKey], claim: &DeliveryClaim) -> Result<Vec<Found>, E::Error> {
    let states = queues::states(db, webhooks, claim.now).await?;
    let slots = states.iter().map(|waiting| (waiting.webhook, waiting.state.slots(claim.lane, claim.now)));
    let slots: HashMap<_, _> = slots.filter(|(_, slots)| *slots > 0).collect();
    let open: Vec<_> = webhooks.iter().copied().filter(|webhook| slots.contains_key(webhook)).collect();
    let mut found: BTreeMap<WebhookKey, Vec<Found>> = BTreeMap::new();
    for part in parts(claim.lane) {
        for delivery in first_of_each(db, &open, claim.now, *part).await? {
            found.entry(delivery.webhook).or_default().push(delivery);
        }
    }
    let mut in_turn = Vec::new();
    for (webhook, mut of_webhook) in found {
        of_webhook.sort_by_key(|found| (found.due_at, found.event));
        of_webhook.truncate(slots.get(&webhook).copied().unwrap_or(0));
        let place = open.iter().position(|open| *open == webhook);
        in_turn.extend(of_webhook.into_iter().enumerate().map(|(turn, found)| ((turn, place), found)));
    }
    in_turn.sort_by_key(|(turn, _)| *turn);
    Ok(in_turn.into_iter().map(|(_, found)| found).take(claim.limit).collect())
}

/// The parts of the index that a lane reads: 0 has the first attempts, 1 has the later attempts.
fn parts(lane: Lane) -> &'static [i64] {
    match lane {
        Lane::First => &[0],
        Lane::Retry => &[1],
        Lane::Failing => &[0, 1],
    }
}

async fn first_of_each<E: Executor>(
    db: &E,
    webhooks: &[WebhookKey],
    now: Millis,
    part: i64,
) -> Result<Vec<Found>, E::Error> {
    let read = |row: &Row<'_>| {
        Ok(Found {
            event: row.get("event_seq")?,
            webhook: row.get("webhook_key")?,
            queue: row.get("queue")?,
            attempt: row.number("attempt")?,
            replay: row.get("replay")?,
            created_at: row.get("created_at")?,
            due_at: row.get("next_attempt_at")?,
            is_lost: row.get("leased")?,
        })
    };
    let most = i64::try_from(IN_FLIGHT).unwrap_or(i64::MAX);
    db.rows(E::FIRST_DELIVERIES_OF_EACH, values![List(webhooks.to_vec()), now, most, part], read).await
}

/// Leases deliveries, and reads their events. Deliveries that can no longer be sent become dead letters.
async fn lease<E: Executor>(
    db: &E,
    found: Vec<Found>,
    claim: &DeliveryClaim,
) -> Result<Vec<ClaimedDelivery>, E::Error> {
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let mut of_events = events::many(db, found.iter().map(|found| found.event).collect()).await?;
    let keys: BTreeSet<_> = found.iter().map(|found| found.webhook).collect();
    let webhooks = many(db, keys.into_iter().collect()).await?;
    let webhooks: HashMap<_, _> = webhooks.into_iter().map(|webhook| (webhook.key, Arc::new(webhook))).collect();
    // The scopes may have changed since the delivery was created, and the URL with them.
    let is_permitted = |found: &Found| {
        let both = of_events.get(&found.event).zip(webhooks.get(&found.webhook));
        // If this version does not know the event, the node that created the delivery has already checked the scope.
        both.is_some_and(|(event, webhook)| {
            scope_of(&event.kind).is_none_or(|scope| webhook.settings.scopes.allows(scope))
        })
    };
    let may_go = |found: &Found| is_permitted(found) && !found.is_hopeless();
    let (found, gone): (Vec<_>, Vec<_>) = found.into_iter().partition(may_go);
    end_gone(db, &gone, claim.now).await?;
    let sql = "UPDATE deliveries SET attempt = attempt + 1, leased = (1 = 1), lane = 1, next_attempt_at = ?3
               WHERE event_seq = ?1 AND webhook_key = ?2";
    let rows: Vec<_> =
        found.iter().map(|found| [value(&found.event), value(&found.webhook), value(&claim.lease_until)]).collect();
    run_each(db, sql, &rows).await?;
    let mut uses: HashMap<EventSeq, usize> = HashMap::new();
    found.iter().for_each(|found| *uses.entry(found.event).or_default() += 1);
    let claimed = found.into_iter().filter_map(|found| {
        let webhook = webhooks.get(&found.webhook)?.clone();
        let left = uses.get_mut(&found.event)?;
        *left -= 1;
        // An event may be large, so it is copied only where several webhooks receive it.
        let event = if *left == 0 { of_events.remove(&found.event)? } else { of_events.get(&found.event)?.clone() };
        Some(ClaimedDelivery {
            of: DeliveryRef { webhook: found.webhook, event: found.event, attempt: found.attempt + 1 },
            id: DeliveryId::new(webhook.id, found.event, found.created_at),
            webhook,
            event,
            replay: found.replay,
        })
    });
    Ok(claimed.collect())
}

/// Makes dead letters of deliveries whose event was deleted, whose event the webhook may not receive, or that lost
/// their lease too often.
async fn end_gone<E: Executor>(db: &E, gone: &[Found], now: Millis) -> Result<(), E::Error> {
    let sql =
        "UPDATE deliveries SET state = ?3, head = (1 = 0), leased = (1 = 0), next_attempt_at = NULL, ended_at = ?4
               WHERE event_seq = ?1 AND webhook_key = ?2";
    let failed = i64::from(DeliveryStatus::Failed.number());
    let rows: Vec<_> =
        gone.iter().map(|found| [value(&found.event), value(&found.webhook), value(&failed), value(&now)]).collect();
    run_each(db, sql, &rows).await?;
    queues::advance(db, gone.iter().map(|found| (found.webhook, found.queue))).await
}
