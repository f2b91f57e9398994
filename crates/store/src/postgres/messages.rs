//! Reading messages.

use async_trait::async_trait;
use recado_domain::channel::ChannelKey;
use recado_domain::ids::MessageId;
use recado_domain::message::{CardAccount, Message, MessageQuery, Page, SCANNED_AT_MOST, Seq};
use recado_domain::status::MessageStatus;
use tokio_postgres::Row;

use super::PgStore;
use super::lock::{number, status};
use super::tenants::bytes;
use crate::sql::{OPEN, PAST, reached_column};
use crate::sqlkit::postgres::db::{Db, Done, args, not_understood, plainly};
use crate::{Messages, Result};

#[async_trait]
impl Messages for PgStore {
    async fn message(&self, channel: ChannelKey, id: MessageId) -> Result<Option<Message>> {
        plainly!(self.pool, db => one(db, channel, id))
    }

    async fn messages(&self, query: MessageQuery) -> Result<Option<Page>> {
        plainly!(self.pool, db => page(db, &query))
    }
}

pub(super) fn columns() -> String {
    let reached = MessageStatus::ALL.map(reached_column).join(", ");
    format!(
        "seq, id, channel_key, network_id, status, recipient, account, payload, card, card_account, card_account_known,
         attempts, error_code, error_message, expires_at, remote_id, {reached}"
    )
}

pub(super) fn message(row: &Row) -> Done<Message> {
    let mut reached = [None; MessageStatus::ALL.len()];
    for (number, at) in reached.iter_mut().enumerate() {
        *at = row.get(16 + number);
    }
    let code: Option<String> = row.get(12);
    Ok(Message {
        seq: row.get(0),
        id: MessageId::from_bytes(bytes(row, 1)?),
        channel: row.get(2),
        network_id: row.get(3),
        status: status(row.get(4))?,
        recipient: row.get(5),
        account: row.get(6),
        payload: row.get(7),
        card: row.get(8),
        card_account: CardAccount { digits: row.get(9), known: row.get(10) },
        attempts: u32::try_from(row.get::<_, i32>(11)).map_err(|_| not_understood("number of attempts"))?,
        error: code.zip(row.get(13)),
        expires_at: row.get(14),
        remote_id: row.get(15),
        reached,
    })
}

pub(super) async fn one(db: Db<'_>, channel: ChannelKey, id: MessageId) -> Done<Option<Message>> {
    let sql = format!("select {} from messages where id = $1 and channel_key = $2", columns());
    db.row(&sql, args![&id.as_bytes()[..], channel]).await?.as_ref().map(message).transpose()
}

/// The account of the last message to a recipient that has one. Of many without, as when all have failed, only some are
/// looked at.
pub(super) async fn account(db: Db<'_>, channel: ChannelKey, recipient: &str) -> Done<Option<String>> {
    // In the order of its index, as for a page.
    let sql = format!(
        "select account from (select account, seq from messages
                              where (channel_key, recipient, seq) >= ($1, $2, 0)
                                and (channel_key, recipient, seq) < ($1, $2, $3) and {PAST}
                              order by channel_key desc, recipient desc, seq desc limit 20) as latest
         where account is not null order by seq desc limit 1"
    );
    Ok(db.row(&sql, args![channel, recipient, Seq::MAX]).await?.map(|row| row.get(0)))
}

/// A channel's messages lie in two indexes: the waiting ones in one, all others in the other.
#[derive(Clone, Copy)]
enum Part {
    Open,
    Past,
}

/// The messages of a part from `$3` on and before `$2`, latest first.
///
/// Written so that no other index can give this order. Of a channel that equals `$1` the planner would know that its
/// messages have the order of their `seq`, and might walk through those of all channels by the primary key.
fn walk(part: Part, query: &MessageQuery, columns: &str, from: &str, filter: &str) -> String {
    let (index, place) = match part {
        Part::Past if query.recipient.is_some() => ("channel_key, recipient, seq", "$1, $4"),
        Part::Open | Part::Past => ("channel_key, seq", "$1"),
    };
    let status = match part {
        Part::Open => OPEN,
        Part::Past => PAST,
    };
    let order = index.replace(',', " desc,");
    format!(
        "select {columns} from messages
         where ({index}) >= ({place}, {from}) and ({index}) < ({place}, $2) and {status} and {filter}
         order by {order} desc"
    )
}

/// The row below which a page does not look, counted in the index that each part walks: the higher one of the two.
async fn floor(db: Db<'_>, query: &MessageQuery, before: Seq) -> Done<Option<(Seq, MessageId)>> {
    if query.status.is_none() && query.recipient.is_none() {
        // Every row is one of the page's.
        return Ok(None);
    }
    // (Always true; a value that is given has to be named.)
    let of = |part| walk(part, query, "seq", "0", "$4 is not distinct from $4");
    // Found in the indexes alone; only the one row is read.
    let sql = format!(
        "select seq, id from messages
         where seq = (select max(seq) from (({} limit 1 offset $3) union all ({} limit 1 offset $3)) as floors)",
        of(Part::Open),
        of(Part::Past)
    );
    let row = db.row(&sql, args![query.channel, before, SCANNED_AT_MOST, query.recipient]).await?;
    row.map(|row| Ok((row.get(0), MessageId::from_bytes(bytes(&row, 1)?)))).transpose()
}

fn page_sql(query: &MessageQuery) -> String {
    let recipient = if query.recipient.is_some() { "recipient = $4" } else { "$4 is null" };
    let filter = format!("{recipient} and ($5 is null or status = $5)");
    let of = |part| walk(part, query, &columns(), "$3", &filter);
    format!("({} limit $6) union all ({} limit $6) order by seq desc limit $6", of(Part::Open), of(Part::Past))
}

pub(super) async fn page(db: Db<'_>, query: &MessageQuery) -> Done<Option<Page>> {
    let before = match query.before {
        None => Seq::MAX,
        Some(id) => {
            let sql = "select seq from messages where id = $1 and channel_key = $2";
            let Some(row) = db.row(sql, args![&id.as_bytes()[..], query.channel]).await? else { return Ok(None) };
            row.get(0)
        }
    };
    let floor = floor(db, query, before).await?;
    let lowest = floor.map_or(0, |(seq, _)| seq);
    let limit = query.rows();
    let status = query.status.map(number);
    let rows = db.rows(&page_sql(query), args![query.channel, before, lowest, query.recipient, status, limit]).await?;
    let messages: Vec<Message> = rows.iter().map(message).collect::<Done<_>>()?;
    Ok(Some(query.page(messages, floor.map(|(_, id)| id))))
}
