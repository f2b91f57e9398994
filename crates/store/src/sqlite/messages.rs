//! Reading messages.

use async_trait::async_trait;
use recado_domain::channel::ChannelKey;
use recado_domain::ids::MessageId;
use recado_domain::message::{CardAccount, Message, MessageQuery, Page, SCANNED_AT_MOST, Seq};
use recado_domain::status::MessageStatus;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SqliteStore;
use super::queue::status;
use crate::sql::{OPEN, PAST, reached_column};
use crate::{Messages, Result};

#[async_trait]
impl Messages for SqliteStore {
    async fn message(&self, channel: ChannelKey, id: MessageId) -> Result<Option<Message>> {
        self.readers.read(move |connection| one(connection, channel, id)).await
    }

    async fn messages(&self, query: MessageQuery) -> Result<Option<Page>> {
        self.readers.read(move |connection| page(connection, &query)).await
    }
}

pub(super) fn columns() -> String {
    let reached = MessageStatus::ALL.map(reached_column).join(", ");
    format!(
        "seq, id, channel_key, network_id, status, recipient, account, payload, card, card_account, card_account_known,
         attempts, error_code, error_message, expires_at, remote_id, {reached}"
    )
}

pub(super) fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    let mut reached = [None; MessageStatus::ALL.len()];
    for (number, at) in reached.iter_mut().enumerate() {
        *at = row.get(16 + number)?;
    }
    let code: Option<String> = row.get(12)?;
    Ok(Message {
        seq: row.get(0)?,
        id: MessageId::from_bytes(row.get(1)?),
        channel: row.get(2)?,
        network_id: row.get(3)?,
        status: status(row.get(4)?)?,
        recipient: row.get(5)?,
        account: row.get(6)?,
        payload: row.get(7)?,
        card: row.get(8)?,
        card_account: CardAccount { digits: row.get(9)?, known: row.get(10)? },
        attempts: row.get(11)?,
        error: code.zip(row.get(13)?),
        expires_at: row.get(14)?,
        remote_id: row.get(15)?,
        reached,
    })
}

pub(super) fn one(connection: &Connection, channel: ChannelKey, id: MessageId) -> rusqlite::Result<Option<Message>> {
    let sql = format!("select {} from messages where id = ?1 and channel_key = ?2", columns());
    connection.prepare_cached(&sql)?.query_row(params![id.as_bytes(), channel], message).optional()
}

/// The account of the last message to a recipient that has one. Of many without, as when all have failed, only some are
/// looked at.
pub(super) fn account(
    connection: &Connection,
    channel: ChannelKey,
    recipient: &str,
) -> rusqlite::Result<Option<String>> {
    let sql = format!(
        "select account from (select account, seq from messages indexed by messages_past_by_recipient
                              where channel_key = ?1 and recipient = ?2 and {PAST} order by seq desc limit 20)
         where account is not null order by seq desc limit 1"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_row(params![channel, recipient], |row| row.get(0)).optional()
}

/// A channel's messages lie in two indexes: the waiting ones in one, all others in the other.
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
        format!("select {columns} from messages indexed by {index} where channel_key = ?1 and {condition} and seq < ?2")
    }
}

/// The row below which a page does not look, counted in the index that each part walks: the higher one of the two.
fn floor(connection: &Connection, query: &MessageQuery, before: Seq) -> rusqlite::Result<Option<(Seq, [u8; 16])>> {
    let of = |part: Part| {
        let recipient = match part {
            // Its index has no recipients, so every row counts. (Always true; a value that is given has to be named.)
            Part::Open => "?4 is ?4",
            Part::Past => recipient(query),
        };
        let sql = format!("{} and {recipient} order by seq desc limit 1 offset ?3", part.select("seq, id", query));
        connection
            .prepare_cached(&sql)?
            .query_row(params![query.channel, before, SCANNED_AT_MOST, query.recipient], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()
    };
    Ok(of(Part::Open)?.max(of(Part::Past)?))
}

/// Each part comes in the order of the list, so the two are merged and not sorted.
pub(super) fn page_sql(query: &MessageQuery) -> String {
    let part = |part: Part| {
        let (select, recipient) = (part.select(&columns(), query), recipient(query));
        format!("{select} and seq >= ?3 and {recipient} and (?5 is null or status = ?5)")
    };
    format!("{} union all {} order by seq desc limit ?6", part(Part::Open), part(Part::Past))
}

fn recipient(query: &MessageQuery) -> &'static str {
    if query.recipient.is_some() { "recipient = ?4" } else { "?4 is null" }
}

pub(super) fn page(connection: &Connection, query: &MessageQuery) -> rusqlite::Result<Option<Page>> {
    let before = match query.before {
        None => Seq::MAX,
        Some(id) => {
            let found = connection
                .prepare_cached("select seq from messages where id = ?1 and channel_key = ?2")?
                .query_row(params![id.as_bytes(), query.channel], |row| row.get(0))
                .optional()?;
            match found {
                Some(seq) => seq,
                None => return Ok(None),
            }
        }
    };
    let floor = floor(connection, query, before)?;
    let lowest = floor.map_or(0, |(seq, _)| seq);
    let limit = query.rows();
    let status = query.status.map(MessageStatus::number);
    let messages: Vec<Message> = connection
        .prepare_cached(&page_sql(query))?
        .query_map(params![query.channel, before, lowest, query.recipient, status, limit], message)?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Some(query.page(messages, floor.map(|(_, id)| MessageId::from_bytes(id)))))
}
