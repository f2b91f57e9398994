//! The log of a webhook's deliveries.

use recado_domain::clock::Millis;
use recado_domain::event::{EventId, EventSeq, Owner};
use recado_domain::ids::{InstitutionId, WebhookId};
use recado_domain::message::SCANNED_AT_MOST;
use recado_domain::webhook::{
    Delivery, DeliveryId, DeliveryPage, DeliveryQuery, DeliveryStatus, WebhookBacklog, WebhookKey, read_log,
};

use super::{cursor, key_of};
use crate::sqlkit::both::{Executor, Read, Row, Unreadable, values};

const COLUMNS: &str =
    "event_seq, event, event_at, state, attempt, replay, next_attempt_at, created_at, ended_at, attempts";

fn delivery(row: &Row<'_>, owner: Owner, webhook: WebhookId) -> Read<Delivery> {
    let (event_seq, event_at, created_at) = (row.get("event_seq")?, row.get("event_at")?, row.get("created_at")?);
    let status: i64 = row.get("state")?;
    let status = i16::try_from(status).ok().and_then(DeliveryStatus::from_number);
    let status = status.ok_or(Unreadable::Unknown("status of a delivery"))?;
    let ended_at: Option<Millis> = row.get("ended_at")?;
    let attempts: Option<String> = row.get("attempts")?;
    Ok(Delivery {
        id: DeliveryId::new(webhook, event_seq, created_at),
        webhook,
        event: row.get("event")?,
        event_seq,
        event_id: EventId::new(event_seq, event_at, owner),
        status,
        attempt: row.number("attempt")?,
        replay: row.get("replay")?,
        next_attempt_at: row.get("next_attempt_at")?,
        created_at,
        delivered_at: ended_at.filter(|_| status == DeliveryStatus::Delivered),
        failed_at: ended_at.filter(|_| status == DeliveryStatus::Failed),
        attempts: attempts.map(|log| read_log(&log)).unwrap_or_default(),
    })
}

/// Selects the first `?3` deliveries of a webhook `?1` in an order, from the event `?2` on, that have one of these states.
/// Each state is a part of an index.
pub(super) fn scan<E: Executor>(states: &[DeliveryStatus], columns: &str, behind: &str, order: &str) -> String {
    let index = E::index("deliveries_by_state");
    let of_one = states.iter().map(|status| {
        format!(
            "SELECT * FROM (SELECT {columns} FROM deliveries{index} WHERE webhook_key = ?1 AND state = {}
                            AND event_seq {behind} ?2 ORDER BY event_seq {order} LIMIT ?3) AS one",
            status.number()
        )
    });
    format!("{} ORDER BY event_seq {order} LIMIT ?3", of_one.collect::<Vec<_>>().join(" UNION ALL "))
}

fn states(query: &DeliveryQuery) -> Vec<DeliveryStatus> {
    query.status.map_or_else(|| DeliveryStatus::ALL.to_vec(), |status| vec![status])
}

/// The conditions of a query, with the values `?4` to `?6`.
const MATCHES: &str =
    "(?4 IS NULL OR event = ?4) AND (?5 IS NULL OR created_at >= ?5) AND (?6 IS NULL OR created_at < ?6)";

pub(crate) async fn page<E: Executor>(db: &E, query: &DeliveryQuery) -> Result<Option<DeliveryPage>, E::Error> {
    let Some(key) = key_of(db, query.owner, query.webhook).await? else { return Ok(None) };
    let before = query.before.unwrap_or(EventSeq::MAX);
    let states = states(query);
    let wanted = query.offset.saturating_add(query.limit);
    let rows = most(wanted.saturating_add(1));
    let has_filters = query.event.is_some() || query.from.is_some() || query.to.is_some();
    // Without filters each row that is read belongs to the page.
    let scanned_at_most = if has_filters { SCANNED_AT_MOST } else { rows };
    let sql = format!(
        "SELECT * FROM ({}) AS found WHERE {MATCHES} ORDER BY event_seq DESC LIMIT ?7",
        scan::<E>(&states, COLUMNS, "<", "DESC")
    );
    let (event, from, to) = (query.event.as_deref(), query.from, query.to);
    let asked = values![key, before, scanned_at_most, event, from, to, rows];
    let found = db.rows(&sql, asked, |row| delivery(row, query.owner, query.webhook)).await?;
    let has_more = found.len() > wanted;
    let deliveries: Vec<_> = found.into_iter().skip(query.offset).take(query.limit).collect();
    let next = match deliveries.last() {
        Some(last) if has_more => Some(last.event_seq),
        _ if has_filters => floor(db, key, &states, before)
            .await?
            .filter(|(_, at)| from.is_none_or(|from| *at >= from))
            .map(|(seq, _)| seq),
        _ => None,
    };
    Ok(Some(DeliveryPage { deliveries, next }))
}

fn most(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// The last delivery that a page with filters scans, and when it was created. `None`: the page scans to the end of the
/// log.
async fn floor<E: Executor>(
    db: &E,
    key: WebhookKey,
    states: &[DeliveryStatus],
    before: EventSeq,
) -> Result<Option<(EventSeq, Millis)>, E::Error> {
    let sql = format!("{} OFFSET ?3 - 1", scan::<E>(states, "event_seq, created_at", "<", "DESC"));
    let read = |row: &Row<'_>| Ok((row.get("event_seq")?, row.get("created_at")?));
    db.row(&sql, values![key, before, SCANNED_AT_MOST], read).await
}

/// The event after which the deliveries of this time begin. A binary search finds the event, because deliveries are
/// created in the order of their events.
pub(super) async fn first_at<E: Executor>(db: &E, time: Millis) -> Result<EventSeq, E::Error> {
    // The clock may have been set back a little.
    let time = time - CLOCK_ERROR;
    let (mut low, mut high) = (0, cursor(db).await?);
    let sql = "SELECT event_seq, created_at FROM deliveries WHERE event_seq > ?1 ORDER BY event_seq LIMIT 1";
    let read = |row: &Row<'_>| Ok((row.get::<EventSeq>("event_seq")?, row.get::<Millis>("created_at")?));
    while low < high {
        let middle = low + (high - low) / 2;
        match db.row(sql, values![middle], read).await? {
            Some((seq, at)) if at < time && seq <= high => low = seq,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// How far the clock may have been set back between two deliveries.
const CLOCK_ERROR: Millis = 60_000;

/// How many of the newest deliveries are counted.
const COUNTED: i64 = 100_000;

/// How many deliveries match, counted up to a limit, and among the newest ones.
pub(crate) async fn count<E: Executor>(db: &E, query: &DeliveryQuery, limit: usize) -> Result<usize, E::Error> {
    let Some(key) = key_of(db, query.owner, query.webhook).await? else { return Ok(0) };
    let newest = scan::<E>(&states(query), "event_seq, event, created_at", "<", "DESC");
    let sql =
        format!("SELECT count(*) AS matching FROM (SELECT 1 FROM ({newest}) AS newest WHERE {MATCHES} LIMIT ?7) AS n");
    let (event, from, to, limit) = (query.event.as_deref(), query.from, query.to, most(limit));
    let asked = values![key, EventSeq::MAX, COUNTED, event, from, to, limit];
    Ok(db.row(&sql, asked, |row| row.number("matching")).await?.unwrap_or(0))
}

pub(crate) async fn one<E: Executor>(
    db: &E,
    owner: Owner,
    webhook: WebhookId,
    id: DeliveryId,
) -> Result<Option<Delivery>, E::Error> {
    let Some(key) = key_of(db, owner, webhook).await? else { return Ok(None) };
    let sql = format!("SELECT {COLUMNS} FROM deliveries WHERE event_seq = ?1 AND webhook_key = ?2");
    let found = db.row(&sql, values![id.event_seq(), key], |row| delivery(row, owner, webhook)).await?;
    Ok(found.filter(|delivery| delivery.id == id))
}

/// The deliveries of each webhook that wait or are in flight.
pub(crate) async fn backlogs<E: Executor>(db: &E) -> Result<Vec<WebhookBacklog>, E::Error> {
    // Webhook by webhook: the index of the states begins with the webhook, and most deliveries do not wait.
    let sql = "SELECT w.id, w.institution_id, NOT w.active AND w.disabled_at IS NOT NULL AS disabled,
                      (SELECT count(*) FROM deliveries o WHERE o.webhook_key = w.key AND o.state = 0) AS waiting,
                      (SELECT o.created_at FROM deliveries o WHERE o.webhook_key = w.key AND o.state = 0
                       ORDER BY o.event_seq LIMIT 1) AS oldest
               FROM webhooks w WHERE NOT w.deleted ORDER BY w.key";
    let read = |row: &Row<'_>| {
        let (id, institution) = (row.bytes("id")?, row.bytes("institution_id")?);
        Ok(WebhookBacklog {
            institution: InstitutionId::from_bytes(institution),
            id: WebhookId::from_bytes(id),
            disabled: row.get("disabled")?,
            waiting: row.number("waiting")?,
            oldest: row.get("oldest")?,
        })
    };
    db.rows(sql, values![], read).await
}
