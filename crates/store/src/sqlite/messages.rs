//! Reading messages.

use recado_domain::ids::MessageId;
use recado_domain::message::{MessageQuery, SCANNED_AT_MOST, Seq};
use rusqlite::Connection;

use crate::common::PageScan;
use crate::common::messages::columns;
use crate::sql::{FILTERS, OPEN, PAST};
use crate::sqlkit::both::{Executor, values};

/// A channel's messages are in two indexes: queued ones in one, all others in the second.
#[derive(Clone, Copy)]
enum Part {
    Open,
    Past,
}

impl Part {
    /// The messages of this part before a place in the list.
    fn select(self, columns: &str, query: &MessageQuery) -> String {
        let (index, condition) = match self {
            Self::Open => ("messages_open", OPEN),
            Self::Past if query.recipient.is_some() => ("messages_past_by_recipient", PAST),
            Self::Past => ("messages_past", PAST),
        };
        format!("SELECT {columns} FROM messages INDEXED BY {index} WHERE channel_key = ?1 AND {condition} AND seq < ?2")
    }
}

impl PageScan for Connection {
    fn latest_of_recipient() -> String {
        format!(
            "messages INDEXED BY messages_past_by_recipient
             WHERE channel_key = ?1 AND recipient = ?2 AND {PAST} ORDER BY seq DESC LIMIT 20"
        )
    }

    /// Each part has the order of the list, so the two are merged without a sort.
    fn page_sql(query: &MessageQuery) -> String {
        let part = |part: Part| {
            let (select, recipient) = (part.select(&columns(), query), recipient(query));
            format!("{select} AND seq >= ?3 AND {recipient} AND {FILTERS}")
        };
        format!("{} UNION ALL {} ORDER BY seq DESC LIMIT ?6", part(Part::Open), part(Part::Past))
    }

    async fn floor(&self, query: &MessageQuery, before: Seq) -> rusqlite::Result<Option<(Seq, MessageId)>> {
        let mut floor = None;
        for part in [Part::Open, Part::Past] {
            let recipient = match part {
                // Its index has no recipients, so every row counts. (Always true; a value that is given has to be named.)
                Part::Open => "?4 IS ?4",
                Part::Past => recipient(query),
            };
            let sql = format!("{} AND {recipient} ORDER BY seq DESC LIMIT 1 OFFSET ?3", part.select("seq, id", query));
            let asked = values![query.channel, before, SCANNED_AT_MOST, query.recipient];
            let found = self.row(&sql, asked, |row| Ok((row.get("seq")?, MessageId::from_bytes(row.bytes("id")?))));
            floor = floor.max(found.await?);
        }
        Ok(floor)
    }
}

fn recipient(query: &MessageQuery) -> &'static str {
    if query.recipient.is_some() { "recipient = ?4" } else { "?4 IS NULL" }
}
