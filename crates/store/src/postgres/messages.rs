//! Reading messages.

use recado_domain::ids::MessageId;
use recado_domain::message::{MessageQuery, SCANNED_AT_MOST, Seq};

use crate::common::PageScan;
use crate::common::messages::columns;
use crate::sql::{FILTERS, LOWEST, OPEN, PAST};
use crate::sqlkit::both::{Executor, values};
use crate::sqlkit::postgres::db::{Db, Done};

/// A channel's messages are in two indexes: queued ones in one, all others in the second.
#[derive(Clone, Copy)]
enum Part {
    Open,
    Past,
}

/// The messages of a part from a number on and before `?2`, latest first.
///
/// The condition leaves only one index for this order. With `channel_key = ?1` the planner would know that the messages
/// have the order of `seq`, and might scan the messages of all channels by the primary key.
fn scan(part: Part, query: &MessageQuery, columns: &str, from: &str, filter: &str) -> String {
    let (index, place) = match part {
        Part::Past if query.recipient.is_some() => ("channel_key, recipient, seq", "?1, ?4"),
        Part::Open | Part::Past => ("channel_key, seq", "?1"),
    };
    let status = match part {
        Part::Open => OPEN,
        Part::Past => PAST,
    };
    let order = index.replace(',', " DESC,");
    format!(
        "SELECT {columns} FROM messages
         WHERE ({index}) >= ({place}, {from}) AND ({index}) < ({place}, ?2) AND {status} AND {filter}
         ORDER BY {order} DESC"
    )
}

impl PageScan for Db<'_> {
    fn latest_of_recipient() -> String {
        // In the order of its index, as for a page.
        format!(
            "messages
             WHERE (channel_key, recipient, seq) >= (?1, ?2, 0) AND (channel_key, recipient, seq) < (?1, ?2, {})
               AND {PAST}
             ORDER BY channel_key DESC, recipient DESC, seq DESC LIMIT 20",
            Seq::MAX
        )
    }

    fn page_sql(query: &MessageQuery) -> String {
        let recipient = if query.recipient.is_some() { "recipient = ?4" } else { "?4 IS NULL" };
        let filter = format!("{recipient} and {FILTERS}");
        let of = |part| scan(part, query, &columns(), "?3", &filter);
        format!("({} LIMIT ?6) UNION ALL ({} LIMIT ?6) ORDER BY seq DESC LIMIT ?6", of(Part::Open), of(Part::Past))
    }

    async fn floor(&self, query: &MessageQuery, before: Seq) -> Done<Option<(Seq, MessageId)>> {
        if !query.has_filter() {
            // Without a filter every row belongs to the page.
            return Ok(None);
        }
        // (Always true; a value that is given has to be named.)
        let of = |part| scan(part, query, "seq", LOWEST, "?4 IS NOT DISTINCT FROM ?4");
        // The scan reads only the indexes, and then one row.
        let sql = format!(
            "SELECT seq, id FROM messages
             WHERE seq = (SELECT max(seq) FROM (({} LIMIT 1 OFFSET ?3) UNION ALL ({} LIMIT 1 OFFSET ?3)) AS floors)",
            of(Part::Open),
            of(Part::Past)
        );
        let asked = values![query.channel, before, SCANNED_AT_MOST, query.recipient];
        let floor =
            Executor::row(self, &sql, asked, |row| Ok((row.get("seq")?, MessageId::from_bytes(row.bytes("id")?))));
        floor.await
    }
}
