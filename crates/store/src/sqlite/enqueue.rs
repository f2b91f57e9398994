//! Accepting a message. The idempotency key, the position in the queue and the first state are one transaction.

use recado_domain::ids::MessageId;
use recado_domain::message::{Enqueued, Idempotency, MessageEvent, NewMessage, Seq, StatusChange};
use recado_domain::queue::admit;
use recado_domain::status::MessageStatus;
use rusqlite::{OptionalExtension, params};

use super::{CachedChannel, Writing, events, recipients};
use crate::commits::Change;

pub(super) fn enqueue(writing: &mut Writing, message: &NewMessage) -> rusqlite::Result<Enqueued> {
    let known = writing.queues.get(&message.channel).copied();
    let earlier = message.idempotency.as_ref().map(|key| earlier_use(writing, key)).transpose()?.flatten();
    let backlog = (known.map_or(0, |known| known.open), message.backlog_cap);
    let head = match admit(known.as_ref().map(|known| &known.queue), earlier, backlog) {
        Ok(queue) => recipients::is_head(&writing.connection, queue.ordering, message.channel, &message.recipient)?,
        Err(answer) => {
            if matches!(answer, Enqueued::Replayed(_)) {
                // If it was unknown whether the first call was committed, its message was stored without a notification.
                writing.notify(Change::Accepted(message.channel));
                if message.send_at.is_some() {
                    writing.notify(Change::Scheduled);
                }
            }
            return Ok(answer);
        }
    };
    let head = head.filter(|_| message.send_at.is_none());
    let seq = insert(writing, message, head)?;
    if let Some(key) = &message.idempotency {
        note_use(writing, key, message)?;
    }
    if known.is_some_and(|known| known.queue.records_queued) {
        let (channel, at, what) = (message.channel, message.accepted_at, StatusChange::ACCEPTED);
        events::record_message(&writing.connection, &MessageEvent { channel, message: seq, at, what })?;
    }
    if let Some(CachedChannel { queue, open }) = writing.queues.get_mut(&message.channel) {
        *open += 1;
        if message.send_at.is_none() {
            queue.cursor.make_room_for(seq);
        }
    }
    writing.notify(if message.send_at.is_some() { Change::Scheduled } else { Change::Accepted(message.channel) });
    Ok(Enqueued::Accepted)
}

fn earlier_use(writing: &Writing, key: &Idempotency) -> rusqlite::Result<Option<Enqueued>> {
    let mut statement = writing.connection.prepare_cached(
        "SELECT fingerprint, message_id FROM idempotency_keys
         WHERE institution_id = ?1 AND environment = ?2 AND route = ?3 AND key = ?4 AND created_at >= ?5",
    )?;
    let found = statement
        .query_row(
            params![key.institution.as_bytes(), key.environment.name(), key.route, key.key, key.forget_before],
            |row| Ok((row.get::<_, [u8; 32]>(0)?, MessageId::from_bytes(row.get(1)?))),
        )
        .optional()?;
    Ok(found.map(
        |(fingerprint, id)| {
            if key.is_of(&fingerprint) { Enqueued::Replayed(id) } else { Enqueued::KeyReused }
        },
    ))
}

fn note_use(writing: &Writing, key: &Idempotency, message: &NewMessage) -> rusqlite::Result<()> {
    let mut statement = writing.connection.prepare_cached(
        // Replaces an expired key that is not purged yet.
        "INSERT OR REPLACE INTO idempotency_keys
             (institution_id, environment, route, key, fingerprint, message_id, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    statement.execute(params![
        key.institution.as_bytes(),
        key.environment.name(),
        key.route,
        key.key,
        key.fingerprint,
        message.id.as_bytes(),
        message.accepted_at,
    ])?;
    Ok(())
}

fn insert(writing: &mut Writing, message: &NewMessage, head: Option<bool>) -> rusqlite::Result<Seq> {
    let number = writing.last_seq + 1;
    let seq = if message.send_at.is_some() { -number } else { number };
    let mut statement = writing.connection.prepare_cached(
        // The columns of cards belong to versions before kinds.
        "INSERT INTO messages (id, channel_key, status, network_id, recipient, kind, payload, rendition, reference,
                               scenario, expires_at, queued_at, head, seq, send_at, card, card_account,
                               card_account_known)
         VALUES (?1, ?2, ?14, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?15, '', '', 0)",
    )?;
    statement.execute(params![
        message.id.as_bytes(),
        message.channel,
        message.network_id,
        message.recipient,
        message.kind,
        message.payload,
        message.rendition,
        message.reference,
        message.scenario,
        message.expires_at,
        message.accepted_at,
        head,
        seq,
        MessageStatus::Queued.number(),
        message.send_at,
    ])?;
    drop(statement);
    if let Some(due_at) = message.send_at {
        let sql = "INSERT INTO schedule (seq, due_at, channel_key) VALUES (?1, ?2, ?3)";
        writing.connection.prepare_cached(sql)?.execute(params![seq, due_at, message.channel])?;
    }
    writing.last_seq = number;
    Ok(seq)
}
