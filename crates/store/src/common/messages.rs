//! Reading messages.

use recado_domain::channel::ChannelKey;
use recado_domain::ids::{ConversationId, MessageId};
use recado_domain::message::{
    Backlog, CardAccount, Enqueued, Idempotency, Message, MessageQuery, Page, Place, Pricing, Seq, is_scheduled,
};
use recado_domain::phone::forms;
use recado_domain::queue::Receipt;
use recado_domain::status::MessageStatus;

use super::{PageScan, cards};
use crate::sql::{OPEN, reached_column};
use crate::sqlkit::both::{Executor, Read, Row, Unreadable, values};

/// The columns of a message.
pub(crate) fn columns() -> String {
    let reached = MessageStatus::ALL.map(reached_column).join(", ");
    format!(
        "seq, id, channel_key, network_id, status, recipient, account, kind, payload, rendition, reference, send_at, card,
         card_account, card_account_known, attempts, error_code, error_message, expires_at, remote_id, conversation_id, {reached}"
    )
}

pub(crate) fn message(row: &Row<'_>) -> Read<Message> {
    let (kind, rendition) = cards::read(row.get("kind")?, row.get("rendition")?, || {
        let account = CardAccount { digits: row.get("card_account")?, known: row.get("card_account_known")? };
        Ok((row.get("card")?, account))
    })?;
    let mut message = Message {
        seq: row.get("seq")?,
        id: MessageId::from_bytes(row.bytes("id")?),
        channel: row.get("channel_key")?,
        network_id: row.get("network_id")?,
        status: status(row)?,
        recipient: row.get("recipient")?,
        account: row.get("account")?,
        kind,
        payload: row.get("payload")?,
        rendition,
        reference: row.get("reference")?,
        send_at: row.get("send_at")?,
        attempts: row.number("attempts")?,
        error: row.get::<Option<String>>("error_code")?.zip(row.get("error_message")?),
        expires_at: row.get("expires_at")?,
        remote_id: row.get("remote_id")?,
        conversation: conversation(row)?,
        reached: [None; MessageStatus::ALL.len()],
    };
    for (status, at) in MessageStatus::ALL.into_iter().zip(&mut message.reached) {
        *at = row.get(reached_column(status))?;
    }
    Ok(message)
}

/// The conversation of a message.
fn conversation(row: &Row<'_>) -> Read<Option<ConversationId>> {
    let id: Option<Vec<u8>> = row.get("conversation_id")?;
    let id = id.map(|id| id.try_into().map_err(|_| Unreadable::Unknown("conversation id"))).transpose()?;
    Ok(id.map(ConversationId::from_bytes))
}

/// The price in a receipt, as the store keeps it.
pub(crate) fn pricing_json(receipt: &Receipt) -> Option<String> {
    receipt.pricing.as_ref().and_then(|pricing| serde_json::to_string(pricing).ok())
}

/// The price in a stored receipt; none in a form that this version does not know.
pub(crate) fn pricing_of(stored: Option<String>) -> Option<Pricing> {
    stored.and_then(|stored| serde_json::from_str(&stored).ok())
}

/// The state of a message.
pub(crate) fn status(row: &Row<'_>) -> Read<MessageStatus> {
    MessageStatus::from_number(row.number("status")?).ok_or(Unreadable::Unknown("message status"))
}

pub(crate) async fn one<E: Executor>(db: &E, channel: ChannelKey, id: MessageId) -> Result<Option<Message>, E::Error> {
    let sql = format!("SELECT {} FROM messages WHERE id = ?1 AND channel_key = ?2", columns());
    db.row(&sql, values![&id.as_bytes()[..], channel], message).await
}

/// The newest messages of a chat among which a network id is looked up.
const NEWEST_OF_CHAT: usize = 200;

/// The message of a chat that has this network id: ours, or the network's own. No index knows the ids of all messages, so only
/// the newest messages of the chat are read. A wrong id costs no more than that.
pub(crate) async fn of_network<E: PageScan>(
    db: &E,
    channel: ChannelKey,
    recipient: &str,
    network_id: &str,
) -> Result<Option<Message>, E::Error> {
    let is_named =
        |message: &Message| message.network_id == network_id || message.remote_id.as_deref() == Some(network_id);
    for recipient in forms(recipient) {
        let query = MessageQuery { recipient: Some(recipient), ..MessageQuery::of(channel, NEWEST_OF_CHAT) };
        let newest = page(db, &query).await?.into_iter().flat_map(|page| page.messages);
        if let Some(message) = newest.into_iter().find(is_named) {
            return Ok(Some(message));
        }
    }
    Ok(None)
}

/// The result of an earlier call with this idempotency key.
pub(crate) async fn earlier_use<E: Executor>(db: &E, key: &Idempotency) -> Result<Option<Enqueued>, E::Error> {
    let sql = "SELECT fingerprint, message_id FROM idempotency_keys
               WHERE institution_id = ?1 AND environment = ?2 AND route = ?3 AND key = ?4 AND created_at >= ?5";
    let (institution, environment) = (&key.institution.as_bytes()[..], key.environment.name());
    db.row(sql, values![institution, environment, key.route, key.key, key.forget_before], |row| {
        let id = MessageId::from_bytes(row.bytes("message_id")?);
        let same = key.is_of(&row.bytes::<32>("fingerprint")?);
        Ok(if same { Enqueued::Replayed(id) } else { Enqueued::KeyReused })
    })
    .await
}

async fn seq_of<E: Executor>(db: &E, channel: ChannelKey, id: MessageId) -> Result<Option<Seq>, E::Error> {
    let sql = "SELECT seq FROM messages WHERE id = ?1 AND channel_key = ?2";
    db.row(sql, values![&id.as_bytes()[..], channel], |row| row.get("seq")).await
}

/// The place in the scheduled part of a list behind a message that has left this part. Its former number is not stored, so
/// the place is before the first message that was accepted in the same millisecond or later, by the time in its id. Messages
/// of the same millisecond may be listed twice, so that none is left out.
async fn before_later<E: Executor>(db: &E, channel: ChannelKey, id: MessageId) -> Result<Seq, E::Error> {
    let sql = "SELECT max(s.seq) AS seq FROM schedule s JOIN messages m ON m.seq = s.seq
               WHERE s.channel_key = ?1 AND m.id >= ?2";
    let mut millisecond = *id.as_bytes();
    millisecond[6..].fill(0);
    let later = db.row(sql, values![channel, &millisecond[..]], |row| row.get::<Option<Seq>>("seq")).await?.flatten();
    Ok(later.map_or(Seq::MIN, |seq| seq + 1))
}

pub(crate) async fn page<E: PageScan>(db: &E, query: &MessageQuery) -> Result<Option<Page>, E::Error> {
    let before = match query.before {
        None => Some(Seq::MAX),
        Some(Place::Message(id)) => seq_of(db, query.channel, id).await?,
        Some(Place::Scheduled(id)) => match seq_of(db, query.channel, id).await? {
            Some(seq) if !is_scheduled(seq) => Some(before_later(db, query.channel, id).await?),
            seq => seq,
        },
    };
    let Some(before) = before else { return Ok(None) };
    // Scheduled messages have negative numbers.
    let before = if query.scheduled { before.min(0) } else { before };
    let floor = db.floor(query, before).await?;
    let lowest = floor.map_or(Seq::MIN, |(seq, _)| seq);
    let status = query.status.map(|status| i16::from(status.number()));
    let limit = query.rows();
    let asked = values![query.channel, before, lowest, query.recipient, status, limit, query.kind, query.reference];
    let messages = db.rows(&E::page_sql(query), asked, message).await?;
    Ok(Some(query.page(messages, floor.map(|(seq, id)| Place::of(seq, id)))))
}

pub(crate) async fn backlogs<E: Executor>(db: &E) -> Result<Vec<Backlog>, E::Error> {
    let sql = format!(
        "SELECT open.channel_key AS channel_key, open.waiting AS waiting, m.{oldest} AS oldest
         FROM (SELECT channel_key, count(*) AS waiting, min(seq) AS seq FROM messages WHERE {OPEN} AND seq > 0
               GROUP BY channel_key) AS open
         JOIN messages m ON m.seq = open.seq",
        oldest = reached_column(MessageStatus::Queued),
    );
    db.rows(&sql, values![], backlog).await
}

fn backlog(row: &Row<'_>) -> Read<Backlog> {
    Ok(Backlog { channel: row.get("channel_key")?, waiting: row.number("waiting")?, oldest: row.get("oldest")? })
}
