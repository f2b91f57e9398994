//! Reading messages.

use recado_domain::ids::MessageId;
use recado_domain::message::{MessageQuery, SCANNED_AT_MOST, Seq};

use crate::common::Walk;
use crate::common::messages::columns;
use crate::sql::{FILTERS, LOWEST, OPEN, PAST};
use crate::sqlkit::both::{Executor, values};
use crate::sqlkit::postgres::db::{Db, Done};

/// A channel's messages lie in two indexes: the waiting ones in one, all others in the other.
#[derive(Clone, Copy)]
enum Part {
    Open,
    Past,
}

/// The messages of a part from a number on and before `?2`, latest first.
///
/// Written so that no other index can give this order. Of a channel that equals `?1` the planner would know that its
/// messages have the order of their `seq`, and might walk through those of all channels by the primary key.
fn walk(part: Part, query: &MessageQuery, columns: &str, from: &str, filter: &str) -> String {
    let (index, place) = match part {
        Part::Past if query.recipient.is_some() => ("channel_key, recipient, seq", "?1, ?4"),
        Part::Open | Part::Past => ("channel_key, seq", "?1"),
    };
    let status = match part {
        Part::Open => OPEN,
        Part::Past => PAST,
    };
    let order = index.replace(',', " desc,");
    format!(
        "select {columns} from messages
         where ({index}) >= ({place}, {from}) and ({index}) < ({place}, ?2) and {status} and {filter}
         order by {order} desc"
    )
}

impl Walk for Db<'_> {
    fn latest_of_recipient() -> String {
        // In the order of its index, as for a page.
        format!(
            "messages
             where (channel_key, recipient, seq) >= (?1, ?2, 0) and (channel_key, recipient, seq) < (?1, ?2, {})
               and {PAST}
             order by channel_key desc, recipient desc, seq desc limit 20",
            Seq::MAX
        )
    }

    fn page_sql(query: &MessageQuery) -> String {
        let recipient = if query.recipient.is_some() { "recipient = ?4" } else { "?4 is null" };
        let filter = format!("{recipient} and {FILTERS}");
        let of = |part| walk(part, query, &columns(), "?3", &filter);
        format!("({} limit ?6) union all ({} limit ?6) order by seq desc limit ?6", of(Part::Open), of(Part::Past))
    }

    async fn floor(&self, query: &MessageQuery, before: Seq) -> Done<Option<(Seq, MessageId)>> {
        if !query.has_filter() {
            // Every row is one of the page's.
            return Ok(None);
        }
        // (Always true; a value that is given has to be named.)
        let of = |part| walk(part, query, "seq", LOWEST, "?4 is not distinct from ?4");
        // Found in the indexes alone; only the one row is read.
        let sql = format!(
            "select seq, id from messages
             where seq = (select max(seq) from (({} limit 1 offset ?3) union all ({} limit 1 offset ?3)) as floors)",
            of(Part::Open),
            of(Part::Past)
        );
        let asked = values![query.channel, before, SCANNED_AT_MOST, query.recipient];
        let floor =
            Executor::row(self, &sql, asked, |row| Ok((row.get("seq")?, MessageId::from_bytes(row.bytes("id")?))));
        floor.await
    }
}
