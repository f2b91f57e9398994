//! Deletes what arrived on the simulated network long ago.

use recado_domain::clock::Millis;
use recado_store::sqlkit::postgres::db::{Db, Done, args};

use super::CLEAR_AT_ONCE;
use crate::sandbox::network::{DELIVERED, READ_ACCEPTED};

/// The end of a part of the inbox in the order of `n`, and the oldest time in it. This order is nearly that of time, so no
/// index of times is needed.
const PART: &str = "SELECT max(n), min(received_at) FROM (
     (SELECT n, received_at FROM sandbox_phone WHERE n > $1 ORDER BY n LIMIT $2)
     UNION ALL (SELECT n, received_at FROM sandbox_incoming WHERE n > $1 ORDER BY n LIMIT $2)
     ORDER BY n LIMIT $2) AS part";

pub(super) async fn purge(db: Db<'_>, after: i64, before: Millis) -> Done<(u64, Option<i64>)> {
    let part = db.row(PART, args![after, CLEAR_AT_ONCE]).await?;
    let part = part.map(|row| (row.get::<_, Option<i64>>(0), row.get::<_, Option<Millis>>(1)));
    let Some((Some(end), Some(oldest))) = part else { return Ok((0, None)) };
    if oldest >= before {
        return Ok((0, None));
    }
    let finished = (i16::from(READ_ACCEPTED), i16::from(DELIVERED));
    let purged = db.row(include_str!("purge.sql"), args![after, end, before, finished.0, finished.1]).await?;
    let rows = purged.map_or(0, |row| row.get::<_, i64>(0));
    Ok((u64::try_from(rows).unwrap_or(0), Some(end)))
}
