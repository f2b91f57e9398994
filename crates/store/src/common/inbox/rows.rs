//! The rows of delivered messages and of their files.

use recado_domain::channel::ChannelKey;
use recado_domain::clock::{Millis, random};
use recado_domain::event::ChatKind;
use recado_domain::ids::{ContactId, ConversationId, MediaId, MessageId};
use recado_domain::incoming::{
    Body, Direction, Incoming, IncomingPage, IncomingQuery, Media, MediaState, NewMedia, RAW_LIMIT, Reaction,
    SEALED_LIMIT,
};
use recado_domain::message::Seq;

use super::{book, json, one_more, optional_id, to_json};
use crate::clock::SystemEntropy;
use crate::sqlkit::both::{Executor, List, Read, Row, Unreadable, values};

/// The columns of a delivered message `m`, with those of its conversation and of its file. The contact is that of `k`, because a
/// message keeps the id of a contact that was deleted. A message that is to be marked as read is read already.
pub(super) const INCOMING: &str =
    "SELECT m.seq, m.id, m.channel_key, c.id AS channel_id, m.conversation_id, k.id AS contact_id, m.direction, m.network_id,
            v.chat_kind, v.address, v.chat_name, v.contact_id AS peer_id, k.account AS author_account, m.body, m.reactions, m.edited_at, m.revoked_at,
            m.sent_at, m.received_at,
            coalesce(m.read_at, (SELECT r.read_at FROM unfinished_reads r WHERE r.conversation_id = m.conversation_id
                                   AND m.seq <= r.until_seq AND m.direction = 'INBOUND')) AS read_at,
            m.updated_at, f.id AS media_id, f.message_id, f.channel_key AS media_channel,
            f.state, f.about, f.sealed, f.read_at AS media_read_at
     FROM incoming m JOIN channels c ON c.key = m.channel_key JOIN conversations v ON v.id = m.conversation_id
     LEFT JOIN incoming_media f ON f.id = m.media_id LEFT JOIN contacts k ON k.id = m.contact_id";

pub(super) fn incoming(row: &Row<'_>) -> Read<Incoming> {
    let reactions: Option<String> = row.get("reactions")?;
    let reactions: Vec<Reaction> = match reactions {
        Some(text) => serde_json::from_str(&text).map_err(|_| Unreadable::Unknown("reactions"))?,
        None => Vec::new(),
    };
    // The contact may have got its number after the message arrived.
    let account: Option<String> = row.get("author_account")?;
    let mut body: Body = json(row, "body")?;
    body.sender.phone = body.sender.phone.or(account);
    Ok(Incoming {
        seq: row.get("seq")?,
        id: MessageId::from_bytes(row.bytes("id")?),
        channel: row.get("channel_key")?,
        channel_id: row.get("channel_id")?,
        conversation: ConversationId::from_bytes(row.bytes("conversation_id")?),
        contact: optional_id(row, "contact_id")?.map(ContactId::from_bytes),
        direction: row.named("direction", Direction::from_name)?,
        network_id: row.get("network_id")?,
        chat: row.named("chat_kind", ChatKind::from_name)?,
        address: row.get("address")?,
        chat_name: row.get("chat_name")?,
        body,
        reactions,
        edited_at: row.get("edited_at")?,
        revoked_at: row.get("revoked_at")?,
        sent_at: row.get("sent_at")?,
        received_at: row.get("received_at")?,
        read_at: row.get("read_at")?,
        updated_at: row.get("updated_at")?,
        media: file(row)?,
    })
}

pub(super) fn file(row: &Row<'_>) -> Read<Option<Media>> {
    let Some(id) = optional_id(row, "media_id")? else { return Ok(None) };
    let about: NewMedia = json(row, "about")?;
    Ok(Some(Media {
        id: MediaId::from_bytes(id),
        message: MessageId::from_bytes(row.bytes("message_id")?),
        channel: row.get("media_channel")?,
        state: row.named("state", MediaState::from_name)?,
        about: NewMedia { sealed: row.get("sealed")?, ..about },
        read_at: row.get("media_read_at")?,
    }))
}

/// A message, and the contact of its chat.
pub(super) struct Found {
    pub message: Incoming,
    /// The other person of a direct chat.
    pub peer: Option<ContactId>,
}

/// The most messages that are read for one network id.
const OF_ONE_ID: i64 = 16;

/// The messages of a channel with this network id, newest first. Different senders can use the same id.
pub(super) async fn found<E: Executor>(db: &E, channel: ChannelKey, network_id: &str) -> Result<Vec<Found>, E::Error> {
    let sql = format!("{INCOMING} WHERE m.channel_key = ?1 AND m.network_id = ?2 ORDER BY m.seq DESC LIMIT ?3");
    let read = |row: &Row<'_>| {
        Ok(Found { message: incoming(row)?, peer: optional_id(row, "peer_id")?.map(ContactId::from_bytes) })
    };
    db.rows(&sql, values![channel, network_id, OF_ONE_ID], read).await
}

pub(crate) async fn of_network<E: Executor>(
    db: &E,
    channel: ChannelKey,
    network_id: &str,
) -> Result<Vec<Incoming>, E::Error> {
    Ok(found(db, channel, network_id).await?.into_iter().map(|found| found.message).collect())
}

pub(crate) async fn message<E: Executor>(
    db: &E,
    channel: ChannelKey,
    id: MessageId,
) -> Result<Option<Incoming>, E::Error> {
    let sql = format!("{INCOMING} WHERE m.id = ?1 AND m.channel_key = ?2");
    db.row(&sql, values![&id.as_bytes()[..], channel], incoming).await
}

pub(crate) async fn raw<E: Executor>(db: &E, channel: ChannelKey, id: MessageId) -> Result<Option<Vec<u8>>, E::Error> {
    let sql = "SELECT raw FROM incoming WHERE id = ?1 AND channel_key = ?2";
    let raw = db.row(sql, values![&id.as_bytes()[..], channel], |row| row.get::<Option<Vec<u8>>>("raw")).await?;
    Ok(raw.flatten())
}

pub(crate) async fn page<E: Executor>(db: &E, query: &IncomingQuery) -> Result<IncomingPage, E::Error> {
    if let Some((owner, address)) = &query.from {
        let author = book::contact_of(db, *owner, (query.channel, address)).await?;
        return author_page(db, query, author).await;
    }
    let sql = format!("{INCOMING} WHERE m.channel_key = ?1 AND m.seq < ?2 ORDER BY m.seq DESC LIMIT ?3");
    let before = query.before.unwrap_or(Seq::MAX);
    let mut messages = db.rows(&sql, values![query.channel, before, one_more(query.limit)], incoming).await?;
    let more = messages.len() > query.limit;
    messages.truncate(query.limit);
    let next = messages.last().map(|message| message.seq).filter(|_| more);
    Ok(IncomingPage { messages, next })
}

/// The most messages of an author that one page reads: they may be on other channels.
const SCANNED: i64 = 1_000;

/// The numbers of an author's messages before a place, and their channels, newest first.
const OF_AUTHOR: &str =
    "SELECT seq, channel_key FROM incoming WHERE contact_id = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3";

/// Selects the numbers of a page.
fn author_sql() -> String {
    format!("SELECT seq FROM ({OF_AUTHOR}) AS of_author WHERE channel_key = ?4 ORDER BY seq DESC LIMIT ?5")
}

/// Selects the number of the last message that was read for a page.
fn author_end_sql() -> String {
    format!("SELECT seq FROM ({OF_AUTHOR}) AS of_author ORDER BY seq DESC LIMIT 1 OFFSET ?3 - 1")
}

#[cfg(test)]
pub(crate) fn author_statements() -> [String; 2] {
    [author_sql(), author_end_sql()]
}

/// The messages of an author. Two statements select them: the planner might join all messages of the channel in one.
async fn author_page<E: Executor>(
    db: &E,
    query: &IncomingQuery,
    author: Option<ContactId>,
) -> Result<IncomingPage, E::Error> {
    let Some(author) = author else { return Ok(IncomingPage { messages: Vec::new(), next: None }) };
    let (author, before) = (&author.as_bytes()[..], query.before.unwrap_or(Seq::MAX));
    let most = one_more(query.limit);
    let seq = |row: &Row<'_>| row.get::<Seq>("seq");
    let asked = values![author, before, SCANNED, query.channel, most];
    let mut seqs = db.rows(&author_sql(), asked, seq).await?;
    let more = seqs.len() > query.limit;
    seqs.truncate(query.limit);
    // If fewer match, the page has everything that was read, and the next one begins where the reading ended.
    let next = if more {
        seqs.last().copied()
    } else {
        db.row(&author_end_sql(), values![author, before, SCANNED], seq).await?
    };
    let sql = format!("{INCOMING} WHERE {} ORDER BY m.seq DESC", E::any("m.seq", 1));
    let messages = db.rows(&sql, values![List(seqs)], incoming).await?;
    Ok(IncomingPage { messages, next })
}

/// A message to be stored.
pub(super) struct NewRow<'a> {
    pub id: MessageId,
    pub channel: ChannelKey,
    pub conversation: ConversationId,
    pub contact: Option<ContactId>,
    pub direction: Direction,
    pub network_id: &'a str,
    pub body: &'a Body,
    pub media: Option<&'a NewMedia>,
    pub raw: Option<&'a [u8]>,
    pub sent_at: Millis,
    pub now: Millis,
}

pub(super) async fn insert<E: Executor>(db: &E, new: &NewRow<'_>) -> Result<(), E::Error> {
    let media = match new.media {
        Some(media) => Some(insert_media(db, new, media).await?),
        None => None,
    };
    let sql = "INSERT INTO incoming (id, channel_key, conversation_id, contact_id, direction, network_id, body, media_id, raw,
                   sent_at, received_at, updated_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11)";
    db.run(
        sql,
        values![
            &new.id.as_bytes()[..],
            new.channel,
            &new.conversation.as_bytes()[..],
            new.contact.map(|id| id.as_bytes().to_vec()),
            new.direction.name(),
            new.network_id,
            to_json(new.body),
            media.map(|id| id.as_bytes().to_vec()),
            new.raw.filter(|raw| raw.len() <= SEALED_LIMIT).map(<[u8]>::to_vec),
            new.sent_at,
            new.now,
        ],
    )
    .await
    .map(drop)
}

async fn insert_media<E: Executor>(db: &E, new: &NewRow<'_>, media: &NewMedia) -> Result<MediaId, E::Error> {
    let id = MediaId::new(new.now, random(&SystemEntropy));
    let sql = "INSERT INTO incoming_media (id, message_id, channel_key, state, about, sealed)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let (id_bytes, message) = (&id.as_bytes()[..], &new.id.as_bytes()[..]);
    let (state, about) = (MediaState::Remote.name(), to_json(media));
    let sealed = media.sealed.as_ref().filter(|sealed| sealed.len() <= RAW_LIMIT).cloned();
    db.run(sql, values![id_bytes, message, new.channel, state, about, sealed]).await?;
    Ok(id)
}

/// Stores the body of a message that could not be read at its first delivery.
pub(super) async fn recover<E: Executor>(db: &E, new: &NewRow<'_>) -> Result<(), E::Error> {
    let media = match new.media {
        Some(media) => Some(insert_media(db, new, media).await?),
        None => None,
    };
    let sql = "UPDATE incoming SET body = ?2, media_id = ?3, raw = ?4, updated_at = ?5 WHERE id = ?1";
    db.run(
        sql,
        values![
            &new.id.as_bytes()[..],
            to_json(new.body),
            media.map(|id| id.as_bytes().to_vec()),
            new.raw.filter(|raw| raw.len() <= SEALED_LIMIT).map(<[u8]>::to_vec),
            new.now,
        ],
    )
    .await
    .map(drop)
}

/// Writes the columns that a change of a message can change. With `forget` it deletes its file and the network's bytes.
pub(super) async fn save<E: Executor>(db: &E, message: &Incoming, forget: bool) -> Result<(), E::Error> {
    let reactions = (!message.reactions.is_empty()).then(|| to_json(&message.reactions));
    let sql =
        "UPDATE incoming SET body = ?2, reactions = ?3, edited_at = ?4, revoked_at = ?5, updated_at = ?6 WHERE id = ?1";
    let id = &message.id.as_bytes()[..];
    let (edited, revoked, updated) = (message.edited_at, message.revoked_at, message.updated_at);
    db.run(sql, values![id, to_json(&message.body), reactions, edited, revoked, updated]).await?;
    if forget {
        db.run("UPDATE incoming SET raw = NULL, media_id = NULL WHERE id = ?1", values![id]).await?;
        db.run("DELETE FROM incoming_media WHERE message_id = ?1", values![id]).await?;
    }
    Ok(())
}
