//! Deletes what arrived on the simulated network long ago.

use recado_domain::clock::Millis;
use rusqlite::{Connection, params};

use super::CLEAR_AT_ONCE;
use crate::sandbox::network::{DELIVERED, READ_ACCEPTED};

/// The end of a part of the inbox in the order of `n`, and the oldest time in it. This order is nearly that of time, so no
/// index of times is needed.
const PART: &str = "SELECT max(n), min(received_at) FROM (
     SELECT n, received_at FROM (SELECT n, received_at FROM phone WHERE n > ?1 ORDER BY n LIMIT ?2)
     UNION ALL SELECT n, received_at FROM (SELECT n, received_at FROM incoming WHERE n > ?1 ORDER BY n LIMIT ?2)
     ORDER BY n LIMIT ?2)";
/// The messages of a part that are old, and have no receipt left to send.
const SHOWN: &str = "FROM phone WHERE n > ?1 AND n <= ?2 AND received_at < ?3 AND receipts >= ?4";
/// The acts of a part that are old, and that the gateway has.
const INCOMING: &str = "FROM incoming WHERE n > ?1 AND n <= ?2 AND received_at < ?3 AND state = ?4";

pub(super) fn purge(connection: &Connection, after: i64, before: Millis) -> rusqlite::Result<(u64, Option<i64>)> {
    let part = params![after, CLEAR_AT_ONCE];
    let (end, oldest): (Option<i64>, Option<Millis>) =
        connection.prepare_cached(PART)?.query_row(part, |row| Ok((row.get(0)?, row.get(1)?)))?;
    let Some(end) = end.filter(|_| oldest.is_some_and(|oldest| oldest < before)) else { return Ok((0, None)) };
    let shown = params![after, end, before, READ_ACCEPTED];
    let arrivals = format!("DELETE FROM arrivals WHERE network_id IN (SELECT network_id {SHOWN})");
    connection.prepare_cached(&arrivals)?.execute(shown)?;
    let rows = connection.prepare_cached(&format!("DELETE {SHOWN}"))?.execute(shown)?;
    let incoming = params![after, end, before, DELIVERED];
    let acts = connection.prepare_cached(&format!("DELETE {INCOMING}"))?.execute(incoming)?;
    Ok(((rows + acts) as u64, Some(end)))
}
