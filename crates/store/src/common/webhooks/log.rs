//! The log of a webhook's deliveries.

use recado_domain::clock::Millis;
use recado_domain::event::{EventId, EventSeq, Owner};
use recado_domain::ids::WebhookId;
use recado_domain::message::SCANNED_AT_MOST;
use recado_domain::webhook::{Delivery, DeliveryId, DeliveryPage, DeliveryQuery, DeliveryStatus, WebhookKey, read_log};

use super::key_of;
use crate::sqlkit::both::{Executor, Read, Row, Unreadable, values};

/// The columns of a delivery.
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

/// The states that a query asks for.
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
    // How far back this page may look, and whether all that follows is too old.
    let floor = floor(db, key, &states, before).await?;
    let Some((floor, floor_at, is_full)) = floor else {
        return Ok(Some(DeliveryPage { deliveries: Vec::new(), next: None }));
    };
    let rows = most(query.offset.saturating_add(query.limit).saturating_add(1));
    let scanned = scan::<E>(&states, COLUMNS, "<", "DESC");
    let sql = format!(
        "SELECT * FROM ({scanned}) AS found WHERE event_seq >= ?7 AND {MATCHES} ORDER BY event_seq DESC LIMIT ?8"
    );
    let (event, from, to) = (query.event.as_deref(), query.from, query.to);
    let asked = values![key, before, SCANNED_AT_MOST, event, from, to, floor, rows];
    let found = db.rows(&sql, asked, |row| delivery(row, query.owner, query.webhook)).await?;
    let has_more = found.len() > query.offset.saturating_add(query.limit);
    let deliveries: Vec<_> = found.into_iter().skip(query.offset).take(query.limit).collect();
    let is_too_old = query.from.is_some_and(|from| floor_at < from);
    let next = match deliveries.last() {
        Some(last) if has_more => Some(last.event_seq),
        _ if is_full && !is_too_old => Some(floor),
        _ => None,
    };
    Ok(Some(DeliveryPage { deliveries, next }))
}

fn most(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// The last delivery that a page scans, when it was created, and whether more may follow.
async fn floor<E: Executor>(
    db: &E,
    key: WebhookKey,
    states: &[DeliveryStatus],
    before: EventSeq,
) -> Result<Option<(EventSeq, Millis, bool)>, E::Error> {
    let scanned = scan::<E>(states, "event_seq, created_at", "<", "DESC");
    let sql = format!(
        "SELECT event_seq, created_at, (SELECT count(*) FROM ({scanned}) AS counted) AS scanned
         FROM ({scanned}) AS found ORDER BY event_seq LIMIT 1"
    );
    let read = |row: &Row<'_>| {
        Ok((row.get("event_seq")?, row.get("created_at")?, row.get::<i64>("scanned")? >= SCANNED_AT_MOST))
    };
    db.row(&sql, values![key, before, SCANNED_AT_MOST], read).await
}

/// How many deliveries match, counted up to a limit.
pub(crate) async fn count<E: Executor>(db: &E, query: &DeliveryQuery, limit: usize) -> Result<usize, E::Error> {
    let Some(key) = key_of(db, query.owner, query.webhook).await? else { return Ok(0) };
    let matches: Vec<_> = states(query)
        .iter()
        .map(|status| {
            format!(
                "SELECT 1 FROM deliveries{} WHERE webhook_key = ?1 AND state = {} AND event_seq <= ?2 AND {MATCHES}",
                E::index("deliveries_by_state"),
                status.number()
            )
        })
        .collect();
    let sql = format!(
        "SELECT count(*) AS matching FROM (SELECT * FROM ({}) AS m LIMIT ?3) AS n",
        matches.join(" UNION ALL ")
    );
    let (event, from, to, limit) = (query.event.as_deref(), query.from, query.to, most(limit));
    let asked = values![key, EventSeq::MAX, limit, event, from, to];
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
