//! Read signals: written with the mark of the messages, and deleted when the network has accepted them.

use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::conversation::{MARKED_AT_ONCE, READ_KEPT, ReadClaim, ReadClaims, ReadMark, ReadSignal};
use recado_domain::event::ChatKind;
use recado_domain::ids::ConversationId;
use recado_domain::incoming::Incoming;
use recado_domain::message::Seq;

use super::rows::{INCOMING, incoming};
use super::targets::chat_person;
use crate::sqlkit::both::{Executor, List, Row, values};

/// Records that these messages of a conversation were read; the newest is first. A signal that waits covers them, too.
pub(super) async fn note<E: Executor>(
    db: &E,
    (conversation, channel): (ConversationId, ChannelKey),
    read: &[Incoming],
    now: Millis,
) -> Result<(), E::Error> {
    let (Some(newest), Some(oldest)) = (read.first(), read.last()) else { return Ok(()) };
    let sql = "INSERT INTO read_signals (conversation_id, channel_key, after_seq, until_seq, attempts, next_at)
               VALUES (?1, ?2, ?3, ?4, 0, ?5)
               ON CONFLICT (conversation_id) DO UPDATE SET until_seq = excluded.until_seq";
    db.run(sql, values![&conversation.as_bytes()[..], channel, oldest.seq - 1, newest.seq, now]).await.map(drop)
}

/// How the network knows a message that was read.
pub(super) fn mark(message: &Incoming) -> ReadMark {
    let sender = &message.body.sender;
    let author = if sender.is_nobody() { chat_person(message).address() } else { sender.address() };
    ReadMark { id: message.id, network_id: message.network_id.clone(), author }
}

struct Due {
    conversation: ConversationId,
    channel: ChannelKey,
    after: Seq,
    until: Seq,
    attempts: u32,
}

fn due(row: &Row<'_>) -> crate::sqlkit::both::Read<Due> {
    Ok(Due {
        conversation: ConversationId::from_bytes(row.bytes("conversation_id")?),
        channel: row.get("channel_key")?,
        after: row.get("after_seq")?,
        until: row.get("until_seq")?,
        attempts: row.number("attempts")?,
    })
}

/// The condition for signals `s` that the claim may take. `?1`: the owned channels, `?2`: the busy ones.
fn may_take<E: Executor>(claim: &ReadClaim) -> String {
    let owned = if claim.owned.is_some() { E::any("s.channel_key", 1) } else { "?1 IS NOT NULL".to_owned() };
    format!("{owned} AND NOT {}", E::any("s.channel_key", 2))
}

/// Takes due signals, at most one of each channel, and counts the attempt.
pub(crate) async fn claim<E: Executor>(db: &E, claim: &ReadClaim) -> Result<ReadClaims, E::Error> {
    // Those of channels that no process owns any more, or whose attempts were lost again and again.
    db.run("DELETE FROM read_signals WHERE next_at < ?1", values![claim.now - READ_KEPT]).await?;
    let (owned, busy) = (List(claim.owned.clone().unwrap_or_default()), List(claim.busy.clone()));
    let may_take = may_take::<E>(claim);
    let sql = format!(
        "SELECT s.conversation_id, s.channel_key, s.after_seq, s.until_seq, s.attempts FROM read_signals s
         WHERE s.next_at <= ?3 AND {may_take}
           AND NOT EXISTS (SELECT 1 FROM read_signals o WHERE o.channel_key = s.channel_key
                             AND (o.next_at, o.conversation_id) < (s.next_at, s.conversation_id))
         ORDER BY s.next_at LIMIT ?4{}",
        E::lock_for("update of s skip locked")
    );
    let limit = i64::try_from(claim.limit).unwrap_or(i64::MAX);
    let found = db.rows(&sql, values![owned, busy, claim.now, limit], due).await?;
    let mut signals = Vec::with_capacity(found.len());
    for due in found {
        let id = &due.conversation.as_bytes()[..];
        match load(db, &due).await? {
            Some(signal) => {
                let sql = "UPDATE read_signals SET attempts = attempts + 1, next_at = ?2 WHERE conversation_id = ?1";
                db.run(sql, values![id, claim.lost_at]).await?;
                signals.push(signal);
            }
            // The messages or the conversation were erased.
            None => drop(db.run("DELETE FROM read_signals WHERE conversation_id = ?1", values![id]).await?),
        }
    }
    let busy = List(claim.busy.iter().copied().chain(signals.iter().map(|signal| signal.channel)).collect::<Vec<_>>());
    let sql = format!("SELECT min(s.next_at) AS next_at FROM read_signals s WHERE {may_take}");
    let next_at = db.row(&sql, values![owned, busy], |row| row.get("next_at")).await?.flatten();
    Ok(ReadClaims { signals, next_at })
}

async fn load<E: Executor>(db: &E, due: &Due) -> Result<Option<ReadSignal>, E::Error> {
    let id = &due.conversation.as_bytes()[..];
    let sql = "SELECT chat_kind, address FROM conversations WHERE id = ?1";
    let read = |row: &Row<'_>| Ok((row.named("chat_kind", ChatKind::from_name)?, row.get("address")?));
    let Some((chat, address)) = db.row(sql, values![id], read).await? else { return Ok(None) };
    let sql = format!(
        "{INCOMING} WHERE m.conversation_id = ?1 AND m.seq > ?2 AND m.seq <= ?3 AND m.direction = 'INBOUND'
         ORDER BY m.seq DESC LIMIT ?4"
    );
    let most = i64::try_from(MARKED_AT_ONCE).unwrap_or(i64::MAX);
    let messages = db.rows(&sql, values![id, due.after, due.until, most], incoming).await?;
    let messages: Vec<_> = messages.iter().map(mark).collect();
    let (conversation, channel, until, attempts) = (due.conversation, due.channel, due.until, due.attempts + 1);
    let signal = ReadSignal { conversation, channel, chat, address, messages, until, attempts };
    Ok(Some(signal).filter(|signal| !signal.messages.is_empty()))
}

/// Ends an attempt. `retry_at`: when the next one is due; otherwise the signal is done. What was read meanwhile is due now.
pub(crate) async fn end<E: Executor>(
    db: &E,
    signal: &ReadSignal,
    retry_at: Option<Millis>,
    now: Millis,
) -> Result<(), E::Error> {
    let id = &signal.conversation.as_bytes()[..];
    if let Some(at) = retry_at {
        let sql = "UPDATE read_signals SET next_at = ?2 WHERE conversation_id = ?1 AND attempts = ?3";
        return db.run(sql, values![id, at, i64::from(signal.attempts)]).await.map(drop);
    }
    let sql = "DELETE FROM read_signals WHERE conversation_id = ?1 AND until_seq <= ?2";
    db.run(sql, values![id, signal.until]).await?;
    let sql = "UPDATE read_signals SET after_seq = ?2, attempts = 0, next_at = ?3 WHERE conversation_id = ?1";
    db.run(sql, values![id, signal.until, now]).await.map(drop)
}
