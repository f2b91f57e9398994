//! Events: reading them, recording those with complete data, and deleting them.

use std::collections::HashMap;

use recado_domain::api_key::Environment;
use recado_domain::channel::{ChannelEvent, ChannelEventPage, ChannelEventQuery, ChannelKey, ChannelType, StoredEvent};
use recado_domain::clock::Millis;
use recado_domain::event::{
    ChatKind, DATA_LIMIT, Event, EventChannel, EventMessage, EventPage, EventQuery, EventSeq, EventState, EventSubject,
    NewEvent, OwnedRange, Owner, Patterns, Recording,
};
use recado_domain::ids::{InstitutionId, MessageId};
use recado_domain::message::{SCANNED_AT_MOST, Seq};

use super::age::Dated;
use super::purge::Deleted;
use super::{Transaction, webhooks};
use crate::sqlkit::both::{Executor, List, Read, Row, Unreadable, value, values};

/// How much longer events are kept that webhooks wait for: 14 days.
const AWAITED: Millis = 14 * 24 * 60 * 60 * 1_000;

/// An event, with its channel and what is known of its outbound message.
const EVENT: &str = include_str!("events/event.sql");

fn event(row: &Row<'_>) -> Read<Event> {
    let institution = InstitutionId::from_bytes(row.bytes("institution_id")?);
    let owner = (institution, row.named("environment", Environment::from_name)?);
    let message = message(row)?;
    let stored: Option<String> = row.get("chat_kind")?;
    // The event of a message that a call sent has the kind of its recipient.
    let of_recipient = || message.as_ref().map(|message| ChatKind::of_address(&message.recipient));
    let chat = stored.as_deref().and_then(ChatKind::from_name).or_else(of_recipient).unwrap_or_default();
    Ok(Event {
        seq: row.get("seq")?,
        owner,
        channel: channel(row)?,
        message,
        kind: row.get("kind")?,
        at: row.get("at")?,
        data: row.get("data")?,
        complete: row.get("complete")?,
        subject: subject(row, "subject")?,
        conversation: subject(row, "conversation_id")?,
        chat,
        node: row.get("node")?,
    })
}

fn channel(row: &Row<'_>) -> Read<Option<EventChannel>> {
    let (key, id): (Option<ChannelKey>, Option<String>) = (row.get("channel_key")?, row.get("channel_id")?);
    let kind: Option<String> = row.get("channel_type")?;
    let kind = kind.as_deref().and_then(ChannelType::from_name);
    Ok(key.zip(id).map(|(key, id)| EventChannel { key, id, kind }))
}

fn message(row: &Row<'_>) -> Read<Option<EventMessage>> {
    let Some(id) = subject(row, "message_id")? else { return Ok(None) };
    Ok(Some(EventMessage {
        id: MessageId::from_bytes(id),
        network_id: row.get("network_id")?,
        reference: row.get("reference")?,
        kind: row.get("message_kind")?,
        recipient: row.get("recipient")?,
        account: row.get("account")?,
        error: row.get("error_message")?,
    }))
}

/// An id that may be missing.
fn subject(row: &Row<'_>, column: &'static str) -> Read<Option<[u8; 16]>> {
    let bytes: Option<Vec<u8>> = row.get(column)?;
    bytes.map(|bytes| bytes.try_into().map_err(|_| Unreadable::Unknown(column))).transpose()
}

/// The next events after a cursor, up to the number `until`. No transaction can still commit an event up to `until`.
pub(crate) async fn page<E: Executor>(db: &E, query: &EventQuery, until: EventSeq) -> Result<EventPage, E::Error> {
    let Some(near) = end(db, query.after, until, NEAR).await? else { return Ok(query.page(Vec::new(), None)) };
    let mut events = between(db, query, query.after, near, query.rows()).await?;
    let left = query.rows() - i64::try_from(events.len()).unwrap_or(i64::MAX);
    if left <= 0 || until <= query.after.saturating_add(NEAR) {
        return Ok(query.page(events, Some(near)));
    }
    let Some(end) = end(db, near, until, SCANNED_AT_MOST).await? else { return Ok(query.page(events, Some(near))) };
    events.extend(between(db, query, near, end, left).await?);
    Ok(query.page(events, Some(end)))
}

/// How many numbers are read first. PostgreSQL joins and sorts the whole range before it applies the limit. So the page
/// of an owner with many events is read from a short range, and only an owner with few events needs a long range.
const NEAR: i64 = 1_000;

/// At most `limit` events with numbers after `after`, up to `end`.
async fn between<E: Executor>(
    db: &E,
    query: &EventQuery,
    after: EventSeq,
    end: EventSeq,
    limit: i64,
) -> Result<Vec<Event>, E::Error> {
    let (institution, environment) = match query.owner {
        Some((institution, environment)) => (Some(institution.as_bytes().to_vec()), Some(environment.name())),
        None => (None, None),
    };
    let sql = format!("{EVENT}{}", include_str!("events/page.sql"));
    let asked = values![after, end, institution, environment, query.channel, limit];
    db.rows(&sql, asked, event).await
}

/// The last event of a range of this many numbers. A cursor is always the number of a committed event, because
/// PostgreSQL can give other numbers again after a crash.
async fn end<E: Executor>(
    db: &E,
    after: EventSeq,
    until: EventSeq,
    numbers: i64,
) -> Result<Option<EventSeq>, E::Error> {
    let bound = until.min(after.saturating_add(numbers));
    for (sql, bound) in [
        ("SELECT max(seq) AS seq FROM events WHERE seq > ?1 AND seq <= ?2", bound),
        // Events of the range were deleted, and the next event is after the range.
        ("SELECT min(seq) AS seq FROM events WHERE seq > ?1 AND seq <= ?2", until),
    ] {
        let end = db.row(sql, values![after, bound], |row| row.get::<Option<EventSeq>>("seq")).await?.flatten();
        if end.is_some() {
            return Ok(end);
        }
    }
    Ok(None)
}

/// The owners of the events with these numbers. No transaction can still commit an event up to `until`.
pub(crate) async fn owners<E: Executor>(db: &E, after: EventSeq, until: EventSeq) -> Result<Vec<OwnedRange>, E::Error> {
    let sql = "SELECT coalesce(c.institution_id, e.institution_id) AS institution_id,
                      coalesce(c.environment, e.environment) AS environment, min(e.seq) AS first, max(e.seq) AS last
               FROM events e LEFT JOIN channels c ON c.key = e.channel_key
               WHERE e.seq > ?1 AND e.seq <= ?2 GROUP BY 1, 2";
    let range = |row: &Row<'_>| {
        let institution = InstitutionId::from_bytes(row.bytes("institution_id")?);
        let owner = (institution, row.named("environment", Environment::from_name)?);
        Ok(OwnedRange { owner, first: row.get("first")?, last: row.get("last")? })
    };
    db.rows(sql, values![after, until], range).await
}

/// One event of this owner.
pub(crate) async fn one<E: Executor>(db: &E, owner: Owner, seq: EventSeq) -> Result<Option<Event>, E::Error> {
    let sql = format!("{EVENT}WHERE e.seq = ?1 AND (e.message_seq IS NULL OR m.seq IS NOT NULL)");
    Ok(db.row(&sql, values![seq], event).await?.filter(|event| event.owner == owner))
}

/// The events with these numbers that are kept.
pub(super) async fn many<E: Executor>(db: &E, seqs: Vec<EventSeq>) -> Result<HashMap<EventSeq, Event>, E::Error> {
    let sql = format!("{EVENT}WHERE {} AND (e.message_seq IS NULL OR m.seq IS NOT NULL)", E::any("e.seq", 1));
    let events = db.rows(&sql, values![List(seqs)], event).await?;
    Ok(events.into_iter().map(|event| (event.seq, event)).collect())
}

/// When the event with this number happened; `None` where there is none.
pub(crate) async fn time<E: Executor>(db: &E, seq: EventSeq) -> Result<Option<Millis>, E::Error> {
    db.row("SELECT at FROM events WHERE seq = ?1", values![seq], |row| row.get("at")).await
}

/// Numbers and times of the next events.
pub(crate) async fn times<E: Executor>(
    db: &E,
    after: EventSeq,
    limit: usize,
) -> Result<Vec<(EventSeq, Millis)>, E::Error> {
    let sql = "SELECT seq, at FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    db.rows(sql, values![after, limit], |row| Ok((row.get("seq")?, row.get("at")?))).await
}

pub(crate) async fn state<E: Executor>(db: &E) -> Result<EventState, E::Error> {
    let sql = "SELECT identity, coalesce((SELECT deleted_until FROM event_state), 0) AS deleted_until
               FROM event_identity LIMIT 1";
    let state =
        |row: &Row<'_>| Ok(EventState { identity: row.bytes("identity")?, deleted_until: row.get("deleted_until")? });
    Ok(db.row(sql, values![], state).await?.ok_or(Unreadable::Unknown("store without an identity"))?)
}

/// The event log of an institution; `None` if no call has set one or opened the stream.
pub(crate) async fn log<E: Executor>(db: &E, owner: Owner) -> Result<Option<Patterns>, E::Error> {
    let sql = "SELECT patterns FROM event_logs WHERE institution_id = ?1 AND environment = ?2";
    let (institution, environment) = (&owner.0.as_bytes()[..], owner.1.name());
    let log = |row: &Row<'_>| Ok(Patterns::from_stored(&row.get::<String>("patterns")?));
    db.row(sql, values![institution, environment], log).await
}

/// The event log of an institution. If none is set, stores `begun`. The lock of the owner orders this with other calls
/// that set the event log.
pub(crate) async fn begin_log<T: Transaction>(
    tx: &mut T,
    owner: Owner,
    begun: &Patterns,
) -> Result<Patterns, T::Error> {
    if tx.lock_owner(owner).await? {
        if let Some(log) = log(tx.db(), owner).await? {
            return Ok(log);
        }
        write_log(tx, owner, begun).await?;
    }
    Ok(begun.clone())
}

/// Sets the event log, and begins or ends the recording of events.
pub(crate) async fn set_log<T: Transaction>(tx: &mut T, owner: Owner, log: &Patterns) -> Result<bool, T::Error> {
    let found = tx.lock_owner(owner).await?;
    if found {
        write_log(tx, owner, log).await?;
    }
    Ok(found)
}

/// Writes the event log. The caller has locked the owner.
async fn write_log<T: Transaction>(tx: &mut T, owner: Owner, log: &Patterns) -> Result<(), T::Error> {
    let sql = "INSERT INTO event_logs (institution_id, environment, patterns) VALUES (?1, ?2, ?3)
               ON CONFLICT (institution_id, environment) DO UPDATE SET patterns = excluded.patterns";
    let (institution, environment, patterns) = (&owner.0.as_bytes()[..], owner.1.name(), log.stored());
    tx.db().run(sql, values![institution, environment, patterns]).await?;
    update_recording(tx, owner).await
}

/// Sets what is recorded; `false` when there is no such institution.
pub(crate) async fn set_recording<T: Transaction>(
    tx: &mut T,
    owner: Owner,
    recording: Recording,
) -> Result<bool, T::Error> {
    let found = tx.lock_owner(owner).await?;
    if found {
        tx.record_messages(owner, recording).await?;
    }
    Ok(found)
}

/// Sets which events are recorded from now on, by the event log and the webhooks of the owner. The caller has locked
/// the owner.
pub(crate) async fn update_recording<T: Transaction>(tx: &mut T, owner: Owner) -> Result<(), T::Error> {
    let mut readers = webhooks::patterns(tx.db(), owner).await?;
    readers.extend(log(tx.db(), owner).await?);
    tx.record_messages(owner, Recording::of(&readers)).await
}

/// Records an event with complete data, in the transaction of the change that it reports. `false`: the owner has no
/// reader of events, so nothing was recorded.
pub(crate) async fn record<E: Executor>(db: &E, new: &NewEvent) -> Result<bool, E::Error> {
    if new.data.len() > DATA_LIMIT {
        return Err(Unreadable::Unknown("event that is longer than the limit").into());
    }
    let (institution, environment) = (&new.owner.0.as_bytes()[..], new.owner.1.name());
    let conversation = new.conversation.map(|id| id.to_vec());
    let (name, chat, subject, data) = (new.name, new.chat.name(), &new.subject[..], new.data.as_str());
    let recorded = values![institution, environment, new.channel, name, new.at, data, subject, conversation, chat];
    Ok(db.run(include_str!("events/record.sql"), recorded).await? == 1)
}

/// Deletes the events about these subjects, with their deliveries; how many events there were.
pub(crate) async fn forget_subjects<E: Executor>(db: &E, subjects: &[EventSubject]) -> Result<u64, E::Error> {
    let mut forgotten = 0;
    for subject in subjects {
        webhooks::tidy::forget(db, "subject = ?1", value(&&subject[..])).await?;
        forgotten += db.run("DELETE FROM events WHERE subject = ?1", values![&subject[..]]).await?;
    }
    Ok(forgotten)
}

/// Deletes these events; how many there were.
pub(super) async fn forget_numbers<E: Executor>(db: &E, numbers: Vec<EventSeq>) -> Result<u64, E::Error> {
    if numbers.is_empty() {
        return Ok(0);
    }
    let numbers = List(numbers);
    webhooks::tidy::forget(db, &E::any("seq", 1), value(&numbers)).await?;
    db.run(&format!("DELETE FROM events WHERE {}", E::any("seq", 1)), values![numbers]).await
}

/// Stores that events up to this number may be deleted.
pub(super) async fn note_deleted<E: Executor>(db: &E, until: EventSeq) -> Result<(), E::Error> {
    let sql = format!(
        "INSERT INTO event_state (n, deleted_until) VALUES (1, ?1)
         ON CONFLICT (n) DO UPDATE SET deleted_until = {}(event_state.deleted_until, excluded.deleted_until)",
        E::GREATEST
    );
    db.run(&sql, values![until]).await.map(drop)
}

/// Deletes a batch of events from before this time, in the order of the stream. Returns whether there may be more. An
/// event whose time does not fit its place is deleted together with its neighbours: a receipt that a network reported
/// late, or an event that was recorded while the clock was ahead. Otherwise the latter would keep all events after it
/// until its time has come.
pub(crate) async fn delete_old<E: Executor>(db: &E, before: Millis, now: Millis) -> Result<Deleted, E::Error> {
    let of_readers =
        Dated { table: "events", number: "seq", time: "at", which: "(message_seq IS NOT NULL OR complete)" };
    let oldest = of_readers.head(db, E::PURGED_AT_ONCE).await?;
    // After a long stop, the events that webhooks wait for may be old. They stay until the fan-out has read them.
    let awaited = webhooks::fan_out::awaited(db).await?;
    let stays = |(seq, at): &(EventSeq, Millis)| awaited.is_some_and(|cursor| *seq > cursor) && *at >= before - AWAITED;
    let is_young = |(_, at): &(EventSeq, Millis)| (before..=now).contains(at);
    let end = oldest.iter().position(|event| stays(event) || is_young(event)).unwrap_or(oldest.len());
    let last = of_readers.last_old(db, &oldest[..end], (before, now)).await?;
    let Some(last) = last else { return Ok(Deleted::default()) };
    // This comes before the deletion, so that the store refuses older cursors before events are missing.
    note_deleted(db, last).await?;
    let sql = "DELETE FROM events WHERE seq <= ?1 AND (message_seq IS NOT NULL OR complete)";
    let rows = db.run(sql, values![last]).await?;
    let whole = oldest.last().is_some_and(|(seq, _)| *seq == last);
    Ok(Deleted { rows, full: whole && i64::try_from(oldest.len()).unwrap_or(i64::MAX) == E::PURGED_AT_ONCE })
}

/// Deletes the events of these messages.
pub(super) async fn forget<E: Executor>(db: &E, messages: &List<Seq>) -> Result<(), E::Error> {
    let sql = format!("DELETE FROM events WHERE {}", E::any("message_seq", 1));
    db.run(&sql, values![*messages]).await.map(drop)
}

/// The same of the messages in this range that are gone.
pub(super) async fn forget_gone<E: Executor>(db: &E, (after, last): (Seq, Seq)) -> Result<(), E::Error> {
    let gone = "message_seq > ?1 AND message_seq <= ?2
                AND NOT EXISTS (SELECT 1 FROM messages WHERE seq = message_seq)";
    db.run(&format!("DELETE FROM events WHERE {gone}"), values![after, last]).await.map(drop)
}

/// Deletes at most `?1` events of channels from before `?2`.
pub(super) const DELETE_OLD_OF_CHANNELS: &str = "DELETE FROM events WHERE seq IN
         (SELECT seq FROM events WHERE at < ?2 AND message_seq IS NULL AND NOT complete ORDER BY at LIMIT ?1)";

/// A page of the events of a channel, newest first.
pub(crate) async fn of_channel<E: Executor>(db: &E, query: ChannelEventQuery) -> Result<ChannelEventPage, E::Error> {
    let sql = "SELECT seq, at, data, node FROM events
               WHERE channel_key = ?1 AND message_seq IS NULL AND NOT complete AND seq < ?2 ORDER BY seq DESC LIMIT ?3";
    let (before, limit) = (query.before.unwrap_or(i64::MAX), i64::try_from(query.limit + 1).unwrap_or(i64::MAX));
    let events = db.rows(sql, values![query.channel, before, limit], stored).await?;
    Ok(ChannelEventPage::of(events, query.limit))
}

fn stored(row: &Row<'_>) -> Read<StoredEvent> {
    let (seq, at) = (row.get("seq")?, row.get("at")?);
    Ok(StoredEvent { seq, at, data: row.get("data")?, node: row.get("node")? })
}

/// For each channel that is not deleted, the event with which its present state began.
pub(crate) async fn of_states<E: Executor>(db: &E) -> Result<Vec<(ChannelKey, ChannelEvent)>, E::Error> {
    let event = |row: &Row<'_>| Ok((row.get("channel_key")?, stored(row)?));
    let rows = db.rows(include_str!("events/of_states.sql"), values![], event).await?;
    // Events of a newer version are left out.
    Ok(rows.into_iter().filter_map(|(channel, event)| Some((channel, event.read()?))).collect())
}
