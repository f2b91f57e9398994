//! Creates deliveries for the events after the cursor.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use recado_domain::clock::Millis;
use recado_domain::event::{Event, EventPage, EventSeq, Filter, Owner};
use recado_domain::webhook::{FanOut, Queue, QueueKey, Webhook, WebhookKey};

use super::{WEBHOOK, cursor, queues, webhook};
use crate::sqlkit::both::{Executor, List, Row, run_each, value, values};

/// A step ends when it has this many deliveries, because other writers wait for the step on SQLite.
const DELIVERIES: usize = 500;

const ANY_ACTIVE: &str = "EXISTS (SELECT 1 FROM webhooks WHERE active AND NOT deleted)";

/// Prepares the fan-out for a webhook that becomes active. If no other webhook is active, the fan-out begins after this
/// event.
pub(super) async fn begin<E: Executor>(db: &E, after: EventSeq) -> Result<(), E::Error> {
    db.run("INSERT INTO fan_out (n, seq) VALUES (1, 0) ON CONFLICT (n) DO NOTHING", values![]).await?;
    lock_cursor(db).await?;
    db.run(&format!("UPDATE fan_out SET seq = ?1 WHERE seq < ?1 AND NOT {ANY_ACTIVE}"), values![after]).await.map(drop)
}

async fn lock_cursor<E: Executor>(db: &E) -> Result<(), E::Error> {
    let sql = format!("SELECT n FROM fan_out{}", E::lock_for("update"));
    db.row(&sql, values![], |_| Ok(())).await.map(drop)
}

/// The cursor, if this node has the lease or gets it.
pub(crate) async fn lead<E: Executor>(
    db: &E,
    node: [u8; 16],
    now: Millis,
    until: Millis,
) -> Result<Option<EventSeq>, E::Error> {
    // A lease that is valid for long enough is not written again.
    let enough = now + (until - now) / 2;
    let sql = format!("SELECT seq FROM fan_out WHERE leader = ?1 AND lease_until >= ?2 AND {ANY_ACTIVE}");
    let read = |row: &Row<'_>| row.get::<EventSeq>("seq");
    if let Some(seq) = db.row(&sql, values![&node[..], enough], read).await? {
        return Ok(Some(seq));
    }
    // No node asks for a much longer lease. A lease that ends later comes from another store or from a wrong clock, so
    // this node may replace it.
    let too_late = until + (until - now);
    let sql = format!(
        "UPDATE fan_out SET leader = ?1, lease_until = ?3
         WHERE (leader IS NULL OR leader = ?1 OR lease_until <= ?2 OR lease_until > ?4) AND {ANY_ACTIVE} RETURNING seq"
    );
    db.row(&sql, values![&node[..], now, until, too_late], read).await
}

/// Gives up the lease of a node that stops, so that another node need not wait for its end.
pub(crate) async fn leave<E: Executor>(db: &E, node: [u8; 16]) -> Result<(), E::Error> {
    let sql = "UPDATE fan_out SET leader = NULL, lease_until = NULL WHERE leader = ?1";
    db.run(sql, values![&node[..]]).await.map(drop)
}

/// The cursor, if a webhook waits for the events after it.
pub(in crate::common) async fn awaited<E: Executor>(db: &E) -> Result<Option<EventSeq>, E::Error> {
    let sql = format!("SELECT seq FROM fan_out WHERE {ANY_ACTIVE}");
    db.row(&sql, values![], |row| row.get("seq")).await
}

/// A webhook that may receive events of this step.
struct Receiver {
    webhook: Webhook,
    filter: Filter,
    /// The webhook receives the events after this one.
    after: EventSeq,
}

impl Receiver {
    fn accepts(&self, event: &Event) -> bool {
        event.seq > self.after && self.filter.accepts(event)
    }
}

struct New<'a> {
    event: &'a Event,
    webhook: WebhookKey,
    queues: Queue,
    queue: Option<QueueKey>,
    head: bool,
}

pub(crate) async fn step<E: Executor>(
    db: &E,
    after: EventSeq,
    page: &EventPage,
    now: Millis,
) -> Result<FanOut, E::Error> {
    lock_cursor(db).await?;
    let before = cursor(db).await?;
    if before != after {
        return Ok(FanOut { cursor: before, deliveries: 0, is_ours: false });
    }
    let receivers = receivers(db, &page.events).await?;
    let mut new = Vec::new();
    let mut end = page.cursor;
    for event in &page.events {
        let of_owner = receivers.get(&event.owner).map(Vec::as_slice).unwrap_or_default();
        let queues = Queue::of(event);
        let accepting = of_owner.iter().filter(|receiver| receiver.accepts(event));
        new.extend(accepting.map(|of| New { event, webhook: of.webhook.key, queues, queue: None, head: true }));
        if new.len() >= DELIVERIES {
            end = event.seq;
            break;
        }
    }
    put_in_queues(db, &mut new, receivers.values().flatten()).await?;
    insert(db, &new, now).await?;
    db.run("UPDATE fan_out SET seq = ?1", values![end]).await?;
    let webhooks: BTreeSet<_> = new.iter().map(|new| new.webhook).collect();
    queues::refresh(db, &webhooks.into_iter().collect::<Vec<_>>(), now, None).await?;
    Ok(FanOut { cursor: end, deliveries: new.len(), is_ours: true })
}

/// The active webhooks of the owners of these events. Their queues are locked.
async fn receivers<E: Executor>(db: &E, events: &[Event]) -> Result<HashMap<Owner, Vec<Receiver>>, E::Error> {
    let owners: BTreeMap<_, _> =
        events.iter().map(|event| ((event.owner.0, event.owner.1.name()), event.owner)).collect();
    let mut keys = Vec::new();
    for owner in owners.values() {
        let sql = "SELECT key FROM webhooks WHERE institution_id = ?1 AND environment = ?2 AND active AND NOT deleted";
        let (institution, environment) = (&owner.0.as_bytes()[..], owner.1.name());
        let key = |row: &Row<'_>| row.get::<WebhookKey>("key");
        keys.extend(db.rows(sql, values![institution, environment], key).await?);
    }
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    queues::lock(db, &keys).await?;
    // The webhooks are read again under the locks, because one may have been disabled in the meantime.
    let sql = format!("{WEBHOOK} AND w.active AND {} ORDER BY w.key", E::any("w.key", 1));
    let read = |row: &Row<'_>| {
        let webhook = webhook(row)?;
        Ok(Receiver { filter: webhook.filter(), after: row.get("after_seq")?, webhook })
    };
    let mut receivers: HashMap<_, Vec<_>> = HashMap::new();
    for receiver in db.rows(&sql, values![List(keys)], read).await? {
        receivers.entry(receiver.webhook.owner).or_default().push(receiver);
    }
    Ok(receivers)
}

/// Finds the queue of each delivery, and whether another delivery waits in that queue.
async fn put_in_queues<E: Executor>(
    db: &E,
    new: &mut [New<'_>],
    receivers: impl Iterator<Item = &Receiver>,
) -> Result<(), E::Error> {
    let mut keys: HashMap<WebhookKey, BTreeSet<QueueKey>> = HashMap::new();
    for delivery in new.iter() {
        keys.entry(delivery.webhook).or_default().extend(delivery.queues.keys());
    }
    let (mut waiting, mut orders) = (HashMap::new(), HashMap::new());
    for Receiver { webhook, .. } in receivers {
        if let Some(keys) = keys.get(&webhook.key) {
            waiting.insert(webhook.key, queues::waiting(db, webhook.key, keys).await?);
            orders.insert(webhook.key, webhook.settings.order);
        }
    }
    for delivery in new {
        let waiting = waiting.entry(delivery.webhook).or_default();
        let order = orders.get(&delivery.webhook).copied().unwrap_or_default();
        delivery.queue = delivery.queues.choose(order, |key| waiting.contains(&key));
        // A delivery that joins an empty queue is the first of the queue. The next delivery of the queue waits for it.
        delivery.head = delivery.queue.is_none_or(|queue| waiting.insert(queue));
    }
    Ok(())
}

async fn insert<E: Executor>(db: &E, new: &[New<'_>], now: Millis) -> Result<(), E::Error> {
    let sql = "INSERT INTO deliveries (event_seq, webhook_key, event, event_at, queue, state, head, lane, leased,
                                       next_attempt_at, attempt, failures, replay, created_at)
               VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, 0, 1 = 0, ?7, 0, 0, 1 = 0, ?7)
               -- A delivery that already exists must not stop the fan-out of all webhooks.
               ON CONFLICT (event_seq, webhook_key) DO NOTHING";
    let rows: Vec<_> = new
        .iter()
        .map(|New { event, webhook, queue, head, .. }| {
            [
                value(&event.seq),
                value(webhook),
                value(&event.kind),
                value(&event.at),
                value(queue),
                value(head),
                value(&now),
            ]
        })
        .collect();
    run_each(db, sql, &rows).await
}
